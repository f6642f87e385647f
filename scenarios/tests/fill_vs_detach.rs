//! # Fill vs. detach
//! Result: Never. A page that is put into a leaf by hand is missing in what is detached.
//! CPUs: 0 finds a leaf, locks it, and maps a page in it unless it is stray. 1 detaches the leaf.
//! Invariant: a leaf that is locked and not stray is still reached from its parent.
//! Guards against: marking a node stray without its lock, or with one that orders nothing.
//! Sites: LOCK_ACQUIRE, LOCK_RELEASE, WALK_ENTRY.
//! Bounds: 2 CPUs, 2 levels, no preemption bound; 3 executions, 118 under loom.
//! References: CortenMM (SOSP'25), section 4; asterinas 1ed023f41.
use weft_scenarios::prelude::*;

const STRAY: Situation = situation("the filler locked a leaf that was stray");

struct Race<B: World> {
    parent: Node<UserTable<B>>,
    page: Parcel<Frame<B>>,
}

impl<B: World> Scenario<B> for Race<B> {
    /// Whether the filler has mapped its page; whether it was in what was detached.
    type Saw = bool;
    const CPUS: Cpus<Self, B> = cpus([
        ("filler", |race, cpu| {
            let section = cpu.read_side();
            let ChildRef::Node(leaf) = race.parent.borrow(&section).walk(0) else { return false };
            let mut leaf = leaf.lock();
            if leaf.is_stray() {
                cpu.reached(STRAY);
                return false;
            }
            let property = Property::new(PageFlags::WRITE);
            let item = MappedItem::Tracked { frame: race.page.take(), property };
            let mut entry = leaf.entry(0).expect("a node has two entries");
            entry.replace(Child::Item(item)).expect("a page fits a leaf");
            true
        }),
        ("detacher", |race, cpu| {
            let section = cpu.read_side();
            let mut parent = race.parent.borrow(&section).lock();
            let mut entry = parent.entry(0).expect("a node has two entries");
            let detached = entry.detach().expect("the entry is managed");
            let ChildRef::Node(leaf) = detached.child() else { return false };
            matches!(leaf.walk(0), ChildRef::Item(_))
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("filled, then detached", "the page went with the leaf"),
        interesting("detached", "the filler came too late"),
        forbidden("lost", "a page was mapped into a leaf that was detached before"),
        forbidden("from nowhere", "a leaf was detached with a page that was not mapped"),
    ];
    const REACHED: &'static [Situation] = &[STRAY];
    const TWINS: Twins = twins([
        weakened(&sites::LOCK_ACQUIRE, "data race on N"),
        weakened(&sites::LOCK_RELEASE, "data race on N"),
    ]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        let (parent, leaf) = (machine.node(2), machine.node(1));
        let section = machine.section();
        let mut filling = parent.borrow(&section).lock();
        let mut entry = filling.entry(0).expect("a node has two entries");
        entry.replace(Child::Node(leaf)).expect("a leaf fits a node above the leaves");
        drop(filling);
        drop(section);
        Race { parent, page: Parcel::new(machine.frame(7)) }
    }

    fn check(&self, _cpu: &mut Cpu<B>, saw: &[bool]) -> &'static str {
        match saw {
            [true, true] => "filled, then detached",
            [false, false] => "detached",
            [true, false] => "lost",
            _ => "from nowhere",
        }
    }
}

scenario!(Race);
