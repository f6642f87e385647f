//! # Walk vs. attach
//! Result: Never. A walker finds a node that was built elsewhere, before it is complete.
//! CPUs: 0 grows a node, builds a leaf with a page in it, and attaches the leaf. 1 walks to the
//!   page without locks, and reads it.
//! Invariant: what is reachable is complete, also a node that was filled before it had a parent.
//! Guards against: attaching with a plain store, or before the node is filled.
//! Sites: PUBLISH_NODE, PUBLISH_ITEM, WALK_ENTRY.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 3 executions, 88 under loom.
//! References: asterinas ostd/src/mm/page_table/node, a child is written exactly once.
use weft_scenarios::prelude::*;

struct Race<B: World> {
    top: Node<UserTable<B>>,
}

impl<B: World> Scenario<B> for Race<B> {
    /// For the walker: how many levels it came down, and what it read.
    type Saw = (u8, Option<u64>);
    const CPUS: Cpus<Self, B> = cpus([
        ("attacher", |race, cpu| {
            let section = cpu.read_side();
            let mut top = race.top.borrow(&section).lock();
            let mut entry = top.entry(0).expect("a node has two entries");
            let mut inner = entry.allocate_if_absent().expect("there are frames enough");
            let leaf = Node::allocate(cpu.backend(), Level::LEAF).expect("there are frames enough");
            let mut filling = leaf.borrow(&section).lock();
            let mut place = filling.entry(0).expect("a node has two entries");
            let item = fresh_item(cpu.backend(), 7, true);
            place.replace(Child::Item(item)).expect("a page fits a leaf");
            drop(filling);
            let mut entry = inner.entry(0).expect("a node has two entries");
            entry.replace(Child::Node(leaf)).expect("a leaf fits a node above the leaves");
            (0, None)
        }),
        ("walker", |race, cpu| {
            let section = cpu.read_side();
            let (mut node, mut depth) = (race.top.borrow(&section), 0);
            loop {
                match node.walk(0) {
                    ChildRef::Node(child) => (node, depth) = (child, depth + 1),
                    ChildRef::Item(page) => {
                        return (depth, Some(cpu.backend().read_contents(page.frame)));
                    }
                    ChildRef::Absent | ChildRef::Shared => return (depth, None),
                }
            }
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("nothing", "the walk came first"),
        interesting("the node", "the walk came between the growth and the attachment"),
        interesting("the page", "the walk came last"),
        forbidden("half", "an attached node is seen half filled"),
    ];
    const REACHED: &'static [Situation] = &[];
    const TWINS: Twins = twins([
        weakened(&sites::PUBLISH_NODE, "use before allocation: N"),
        weakened(&sites::WALK_ENTRY, "use before allocation: N"),
    ]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        Race { top: machine.node(3) }
    }

    fn check(&self, _cpu: &mut Cpu<B>, saw: &[Self::Saw]) -> &'static str {
        match saw[1] {
            (0, None) => "nothing",
            (1, None) => "the node",
            (2, Some(7)) => "the page",
            _ => "half",
        }
    }
}

scenario!(Race);
