//! # Walk vs. split
//! Result: Never. A page that stays mapped looks absent, or half split, to a walker.
//! CPUs: 0 splits a huge page. 1 walks to an address in it.
//! Invariant: the node of parts is complete before it takes the huge page's place.
//! Guards against: clearing the entry before the split; publishing parts that are not filled in.
//! Sites: PUBLISH_NODE, WALK_ENTRY, ENTRY_INIT.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 2 executions, 16 under loom.
//! References: Linux mm/huge_memory.c, __split_huge_pmd_locked.
use weft_scenarios::prelude::*;

const PARTS: Situation = situation("the walker found a part of the split page");

/// Where the huge page is: memory without an owner, aligned to what it covers.
const FRAME: Paddr = Paddr::new(1 << 30);

struct Race<B: World> {
    root: Node<UserTable<B>>,
}

impl<B: World> Scenario<B> for Race<B> {
    /// The level of the page that the walker found, and whether it led to the right frame.
    type Saw = Option<(u8, bool)>;
    const CPUS: Cpus<Self, B> = cpus([
        ("splitter", |race, cpu| {
            let section = cpu.read_side();
            let root = race.root.borrow(&section);
            let node = lock_covering(root, B::Geometry::address(&[1]), Level::new(2));
            let mut node = node.expect("the path exists");
            drop(node.entry(0).expect("a node has two entries").split().expect("it is huge"));
            None
        }),
        ("walker", |race, cpu| {
            let section = cpu.read_side();
            let root = race.root.borrow(&section);
            let ChildRef::Item(page) = walk_to_leaf(root, B::Geometry::address(&[1])) else {
                return None;
            };
            let (level, mut frame) = (page.level.as_u8(), FRAME);
            if page.level == Level::LEAF {
                cpu.reached(PARTS);
                frame = frame.plus(B::Geometry::entry_span(Level::LEAF));
            }
            Some((level, page.frame == frame))
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("huge", "the walk came first"),
        interesting("split", "the walk met the second part"),
        forbidden("absent", "a page that stays mapped looked absent"),
        forbidden("elsewhere", "a part of a split page leads to another frame"),
    ];
    const REACHED: &'static [Situation] = &[PARTS];
    const TWINS: Twins = twins([
        weakened(&sites::PUBLISH_NODE, "use before allocation: N"),
        weakened(&sites::WALK_ENTRY, "use before allocation: N"),
    ]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        let root = machine.user_root();
        let section = machine.section();
        let huge = machine.untracked(FRAME, 2, Property::new(PageFlags::WRITE));
        let node = lock_covering(root.borrow(&section), B::Geometry::address(&[1]), Level::new(2));
        let mut node = node.expect("the set-up has frames enough");
        let mut entry = node.entry(0).expect("a node has two entries");
        entry.replace(Child::Item(huge)).expect("a huge page fits");
        drop(node);
        drop(section);
        Race { root }
    }

    fn check(&self, _cpu: &mut Cpu<B>, saw: &[Option<(u8, bool)>]) -> &'static str {
        match saw[1] {
            None => "absent",
            Some((_, false)) => "elsewhere",
            Some((1, true)) => "split",
            Some((_, true)) => "huge",
        }
    }
}

scenario!(Race);
