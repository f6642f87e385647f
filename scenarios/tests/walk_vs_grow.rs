//! # Walk vs. grow
//! Result: Never. A walker that sees a new child sees it incomplete, or a growth half done.
//! CPUs: 0 grows the nodes for an address. 1 walks to the address without locks.
//! Invariant: what is reachable is complete: entries, metadata, lock, and the nodes below.
//! Guards against: publishing a child with a plain store, before it is initialised, or one by one.
//! Sites: PUBLISH_NODE, WALK_ENTRY, ENTRY_INIT.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 2 executions, 16 under loom.
//! References: Linux Documentation/RCU/rcu_dereference.rst; asterinas 5834f299b.
//! History:
//! * 23, asterinas 5834f299b: entries are read and written by plain accesses while a CPU descends
//!   without locks => PUBLISH_NODE, WALK_ENTRY
use weft_scenarios::prelude::*;

const LEAF: Situation = situation("the walker came to the leaf that was grown");

struct Race<B: World> {
    root: Node<UserTable<B>>,
}

impl<B: World> Scenario<B> for Race<B> {
    /// How many levels below the root the walker came.
    type Saw = u8;
    const CPUS: Cpus<Self, B> = cpus([
        ("grower", |race, cpu| {
            let section = cpu.read_side();
            let root = race.root.borrow(&section);
            let leaf = lock_covering(root, B::Geometry::address(&[1]), Level::LEAF);
            drop(leaf.expect("there are frames enough"));
            0
        }),
        ("walker", |race, cpu| {
            let section = cpu.read_side();
            let (mut node, mut depth) = (race.root.borrow(&section), 0);
            while let ChildRef::Node(child) = node.walk(0) {
                node = child;
                depth += 1;
            }
            if node.level() == Level::LEAF {
                cpu.reached(LEAF);
            }
            depth
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("nothing", "the walk came first"),
        interesting("all the way", "the growth came first"),
        forbidden("part of the way", "a growth is seen half done"),
    ];
    const REACHED: &'static [Situation] = &[LEAF];
    const TWINS: Twins = twins([
        weakened(&sites::PUBLISH_NODE, "use before allocation: N"),
        weakened(&sites::WALK_ENTRY, "use before allocation: N"),
    ]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        Race { root: machine.user_root() }
    }

    fn check(&self, _cpu: &mut Cpu<B>, saw: &[u8]) -> &'static str {
        match saw[1] {
            0 => "nothing",
            depth if depth + 1 < B::Geometry::LEVELS => "part of the way",
            _ => "all the way",
        }
    }
}

scenario!(Race);
