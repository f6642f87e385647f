//! # Writer vs. reader
//! Result: Never. A reader that finds the node locks it and misses what the writer did before.
//! CPUs: 0 locks the node and maps a page. 1 locks the node and looks at the count of children.
//! Invariant: what is done under the lock is seen by whoever holds the lock next.
//! Guards against: a lock that is given back without ordering.
//! Sites: LOCK_ACQUIRE, LOCK_RELEASE.
//! Bounds: 2 CPUs, one node, no preemption bound.
//! References: none yet.
use weft_scenarios::prelude::*;

// Say in the header what must never happen, and make the code below try to make it happen.
struct Race<B: World> {
    node: Node<UserTable<B>>,
    page: Parcel<Frame<B>>,
}

impl<B: World> Scenario<B> for Race<B> {
    /// How many children the reader counted.
    type Saw = u16;
    const CPUS: Cpus<Self, B> = cpus([
        ("writer", |race, cpu| {
            let property = Property::new(PageFlags::WRITE);
            let item = MappedItem::Tracked { frame: race.page.take(), property };
            let section = cpu.read_side();
            let mut guard = race.node.borrow(&section).lock();
            let mut entry = guard.entry(0).expect("a node has two entries");
            entry.replace(Child::Item(item)).expect("a page fits a leaf");
            0
        }),
        ("reader", |race, cpu| {
            let section = cpu.read_side();
            race.node.borrow(&section).lock().children()
        }),
    ]);
    // Every outcome that `check` can name. Use `acceptable` for those that need not be seen.
    const OUTCOMES: &'static [Outcome] = &[
        interesting("read, then written", "the reader came first"),
        interesting("written, then read", "the reader saw the page"),
        forbidden("impossible", "a node of one page counts another number of children"),
    ];
    // What must have been met, or nothing was tried.
    const REACHED: &'static [Situation] =
        &[met("a CPU found the lock taken", |event| matches!(event, Event::LockContended))];
    // How the world is broken, and the message that must be the consequence.
    const TWINS: Twins = twins([weakened(&sites::LOCK_RELEASE, "data race on N1.children")]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        Race { node: machine.node(1), page: Parcel::new(machine.frame(0)) }
    }

    fn check(&self, _cpu: &mut Cpu<B>, saw: &[u16]) -> &'static str {
        match saw[1] {
            0 => "read, then written",
            1 => "written, then read",
            _ => "impossible",
        }
    }
}

scenario!(Race);
