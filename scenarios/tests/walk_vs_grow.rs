//! # Walk vs. grow
//! Result: Never. A walker that sees a new child sees it incomplete.
//! CPUs: 0 maps a page, growing the nodes on the way one by one. 1 walks to the leaf without locks.
//! Invariant: what is reachable is complete: entries, metadata, lock.
//! Guards against: publishing a child with a plain store, or before it is initialised.
//! Sites: PUBLISH_NODE, WALK_ENTRY, ENTRY_INIT.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 3 executions, 88 under loom.
//! References: Linux Documentation/RCU/rcu_dereference.rst; asterinas 5834f299b.
use weft_scenarios::prelude::*;

const INNER: Situation = situation("the walker found an inner node without its child");

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
            // A range of the root's: what is missing below is grown node by node.
            let mut cursor = Cursor::lock(root, pages::<B>(0..4)).expect("the root exists");
            cursor.jump(page::<B>(1)).expect("the page is in the range");
            cursor.map(fresh_item(cpu.backend(), 1, true)).expect("nothing is mapped");
            0
        }),
        ("walker", |race, cpu| {
            let section = cpu.read_side();
            let (mut node, mut depth) = (race.root.borrow(&section), 0);
            while let ChildRef::Node(child) = node.walk(0) {
                node = child;
                depth += 1;
            }
            if depth == 1 {
                cpu.reached(INNER);
            }
            depth
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("nothing", "the walk came first"),
        interesting("part of the way", "the walk met the growth half done"),
        interesting("all the way", "the growth came first"),
    ];
    const REACHED: &'static [Situation] = &[INNER];
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
