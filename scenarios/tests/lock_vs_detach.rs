//! # Lock vs. detach
//! Result: Never. A page is mapped into a node that no CPU can reach any more.
//! CPUs: 0 finds the leaf, locks it and maps a page. 1 detaches the sub-tree that the leaf is in.
//! Invariant: a locked node that is not stray is reachable; a stray one is let go.
//! Guards against: no stray check, no stray mark, a mark after the unlock, no second descent.
//! Sites: LOCK_ACQUIRE, LOCK_RELEASE.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 3 executions, 204 under loom.
//! References: CortenMM (SOSP'25), section 4; asterinas 1ed023f41.
//! History:
//! * 22, asterinas 1ed023f41: an inverted test of the level leaves the nodes below a detached one
//!   unmarked and locked => mutant only_the_top_marked_stray
use weft_scenarios::prelude::*;

struct Race<B: World> {
    root: Node<UserTable<B>>,
    page: Parcel<Frame<B>>,
}

impl<B: World> Race<B> {
    fn vaddr() -> Vaddr {
        B::Geometry::address(&[0])
    }
}

impl<B: World> Scenario<B> for Race<B> {
    /// For the detaching CPU: whether the page was in what it detached.
    type Saw = Option<bool>;
    const CPUS: Cpus<Self, B> = cpus([
        ("mapper", |race, cpu| {
            let property = Property::new(PageFlags::WRITE);
            let item = MappedItem::Tracked { frame: race.page.take(), property };
            let section = cpu.read_side();
            let leaf = lock_covering(race.root.borrow(&section), Self::vaddr(), Level::LEAF);
            let mut leaf = leaf.expect("there are frames enough");
            let mut entry = leaf.entry(0).expect("a node has two entries");
            entry.replace(Child::Item(item)).expect("a page fits a leaf");
            None
        }),
        ("detacher", |race, cpu| {
            let section = cpu.read_side();
            let root = race.root.borrow(&section);
            let mut guard = root.lock();
            let mut entry = guard.entry(0).expect("a node has two entries");
            let detached = entry.detach().expect("the entry is managed");
            let ChildRef::Node(node) = detached.child() else { return Some(false) };
            let below = walk_to_leaf(node, Self::vaddr());
            Some(matches!(below, ChildRef::Item(_)))
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("mapped, then detached", "the page went with the sub-tree"),
        interesting("detached, then mapped", "the page is in a new sub-tree"),
        forbidden("lost", "a page was mapped into a stray node"),
        forbidden("both", "a page is in two sub-trees"),
    ];
    const REACHED: &'static [Situation] = &[
        met("the mapper locked a stray node", |event| matches!(event, Event::StrayMet(_))),
        met("the mapper started over", |event| matches!(event, Event::StartedOver)),
    ];
    const TWINS: Twins = twins([
        weakened(&sites::LOCK_ACQUIRE, "data race on N"),
        weakened(&sites::LOCK_RELEASE, "data race on N"),
    ]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        let root = machine.user_root();
        machine.map(&root, B::Geometry::address(&[1]), 1);
        Race { root, page: Parcel::new(machine.frame(0)) }
    }

    fn check(&self, cpu: &mut Cpu<B>, saw: &[Option<bool>]) -> &'static str {
        let section = cpu.read_side();
        let found = walk_to_leaf(self.root.borrow(&section), Self::vaddr());
        let in_table = matches!(found, ChildRef::Item(_));
        match (saw[1], in_table) {
            (Some(true), false) => "mapped, then detached",
            (Some(false), true) => "detached, then mapped",
            (Some(true), true) => "both",
            _ => "lost",
        }
    }
}

scenario!(Race);
