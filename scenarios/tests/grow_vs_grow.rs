//! # Grow vs. grow
//! Result: Never. Two CPUs that grow the same path lose a node, or a page below it.
//! CPUs: 0 and 1 lock the leaves of neighbouring addresses in an empty table and map a page each.
//! Invariant: the entry is looked at again under the lock; a new child is locked when it appears.
//! Guards against: growing over a node; a child that is locked after it is published.
//! Sites: PUBLISH_NODE, WALK_ENTRY, LOCK_BORN_HELD, LOCK_ACQUIRE, LOCK_RELEASE.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 4 executions, 453 under loom.
//! References: CortenMM (SOSP'25), section 4; linux, "fix PMD/PUD checks in follow_pfnmap_start".
use weft_scenarios::prelude::*;

struct Race<B: World> {
    root: Node<UserTable<B>>,
    pages: [Parcel<Frame<B>>; 2],
}

impl<B: World> Race<B> {
    fn map(&self, cpu: &mut Cpu<B>, index: usize) -> u16 {
        let frame = self.pages[index].take();
        let item = MappedItem::Tracked { frame, property: Property::new(PageFlags::WRITE) };
        let section = cpu.read_side();
        let root = self.root.borrow(&section);
        let leaf = lock_covering(root, B::Geometry::address(&[index]), Level::LEAF);
        let mut leaf = leaf.expect("there are frames enough");
        let before = leaf.children();
        let mut entry = leaf.entry(index).expect("a node has two entries");
        entry.replace(Child::Item(item)).expect("a page fits a leaf");
        before
    }
}

impl<B: World> Scenario<B> for Race<B> {
    /// How many pages the leaf had before.
    type Saw = u16;
    const CPUS: Cpus<Self, B> =
        cpus([("left", |race, cpu| race.map(cpu, 0)), ("right", |race, cpu| race.map(cpu, 1))]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("left first", "the right page joined the left one's leaf"),
        interesting("right first", "the left page joined the right one's leaf"),
        forbidden("two leaves", "a CPU mapped its page into a leaf of its own"),
        forbidden("lost", "a mapped page is not reachable"),
    ];
    const REACHED: &'static [Situation] = &[
        met("a CPU lost the race to grow", |event| matches!(event, Event::GrowthLost)),
        met("a CPU started over", |event| matches!(event, Event::StartedOver)),
    ];
    const TWINS: Twins = twins([
        weakened(&sites::PUBLISH_NODE, "use before allocation: N"),
        weakened(&sites::WALK_ENTRY, "use before allocation: N"),
    ]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        let root = machine.user_root();
        Race { root, pages: [0, 1].map(|contents| Parcel::new(machine.frame(contents))) }
    }

    fn check(&self, cpu: &mut Cpu<B>, saw: &[u16]) -> &'static str {
        let section = cpu.read_side();
        let root = self.root.borrow(&section);
        let is_mapped = |index: usize| {
            matches!(walk_to_leaf(root, B::Geometry::address(&[index])), ChildRef::Item(_))
        };
        match saw {
            _ if !is_mapped(0) || !is_mapped(1) => "lost",
            [0, 1] => "left first",
            [1, 0] => "right first",
            _ => "two leaves",
        }
    }
}

scenario!(Race);
