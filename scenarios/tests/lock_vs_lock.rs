//! # Lock vs. lock
//! Result: Never. Two CPUs change one node at the same time, or one misses what the other did.
//! CPUs: 0 and 1 lock one leaf, look at the count of children, and map a page each.
//! Invariant: what is done under the lock is seen by its next holder.
//! Guards against: a lock taken or given back without ordering.
//! Sites: LOCK_ACQUIRE, LOCK_RELEASE.
//! Bounds: 2 CPUs, one node, no preemption bound; 2 executions, 9 under loom.
//! References: Linux Documentation/litmus-tests/locking; asterinas 5834f299b.
use weft_scenarios::prelude::*;

struct Race<B: World> {
    leaf: Node<UserTable<B>>,
    pages: [Parcel<Frame<B>>; 2],
}

impl<B: World> Race<B> {
    fn map(&self, cpu: &mut Cpu<B>, index: usize) -> u16 {
        let item = MappedItem::Tracked {
            frame: self.pages[index].take(),
            property: Property::new(PageFlags::WRITE),
        };
        let section = cpu.read_side();
        let mut guard = self.leaf.borrow(&section).lock();
        let before = guard.children();
        let mut entry = guard.entry(index).expect("a node has two entries");
        entry.replace(Child::Item(item)).expect("a page fits a leaf");
        before
    }
}

impl<B: World> Scenario<B> for Race<B> {
    /// How many children there were.
    type Saw = u16;
    const CPUS: Cpus<Self, B> =
        cpus([("left", |race, cpu| race.map(cpu, 0)), ("right", |race, cpu| race.map(cpu, 1))]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("left first", "the right one saw the left one's page"),
        interesting("right first", "the left one saw the right one's page"),
        forbidden("blind", "a CPU missed what was done under the lock before"),
    ];
    const REACHED: &'static [Situation] =
        &[met("a CPU found the lock taken", |event| matches!(event, Event::LockContended))];
    const TWINS: Twins = twins([
        weakened(&sites::LOCK_ACQUIRE, "data race on N1.children"),
        weakened(&sites::LOCK_RELEASE, "data race on N1.children"),
    ]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        let leaf = machine.node(1);
        Race { leaf, pages: [0, 1].map(|contents| Parcel::new(machine.frame(contents))) }
    }

    fn check(&self, _cpu: &mut Cpu<B>, saw: &[u16]) -> &'static str {
        match saw {
            [0, 1] => "left first",
            [1, 0] => "right first",
            _ => "blind",
        }
    }
}

scenario!(Race);
