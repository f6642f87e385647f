//! # Drop-walk vs. walk
//! Result: Never. A sub-tree is torn down while a CPU holds a counted handle of it.
//! CPUs: 0 takes a handle of an inner node, leaves its section, and reads a page below the node.
//!   1 detaches the node and announces a quiescent state.
//! Invariant: the drop-walk runs after the last reference, on whichever CPU that falls.
//! Guards against: references counted down without ordering; a drop-walk that misses a child.
//! Sites: REFERENCE_DECREMENT, REFERENCE_LAST, DROP_WALK_ENTRY.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 6 executions, 642 under loom.
//! References: Rust's Arc; Boost.Atomic, "reference counting".
use weft_scenarios::prelude::*;

const KEPT: Situation = situation("the reader kept a node that was already detached");

struct Race<B: World> {
    root: Node<UserTable<B>>,
}

impl<B: World> Scenario<B> for Race<B> {
    /// What the reader read below the node.
    type Saw = Option<u64>;
    const CPUS: Cpus<Self, B> = cpus([
        ("reader", |race, cpu| {
            let section = cpu.read_side();
            let root = race.root.borrow(&section);
            let ChildRef::Node(child) = root.walk(0) else { return None };
            let kept = child.to_owned();
            drop(section);
            cpu.quiescent();
            let section = cpu.read_side();
            let node = kept.borrow(&section);
            let root = race.root.borrow(&section);
            if matches!(root.walk(0), ChildRef::Absent) {
                cpu.reached(KEPT);
            }
            let below = walk_to_leaf(node, B::Geometry::address(&[0]));
            let ChildRef::Item(page) = below else { return None };
            Some(cpu.backend().read_contents(page.frame))
        }),
        ("detacher", |race, cpu| {
            let section = cpu.read_side();
            let mut root = race.root.borrow(&section).lock();
            let mut entry = root.entry(0).expect("a node has two entries");
            entry.detach().expect("the entry is managed").retire();
            drop(root);
            drop(section);
            cpu.quiescent();
            None
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("kept", "the reader found the node, and the page below it"),
        interesting("too late", "the node was detached before the reader came"),
        forbidden("lost", "a node lost its page while it was referenced"),
    ];
    const REACHED: &'static [Situation] = &[KEPT];
    const TWINS: Twins = twins([
        weakened(&sites::REFERENCE_DECREMENT, "use after free: N"),
        weakened_fence(&sites::REFERENCE_LAST, "use after free: N"),
    ]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        let root = machine.user_root();
        machine.map(&root, B::Geometry::address(&[0]), 7);
        Race { root }
    }

    fn check(&self, _cpu: &mut Cpu<B>, saw: &[Option<u64>]) -> &'static str {
        match saw[0] {
            Some(7) => "kept",
            None => "too late",
            Some(_) => "lost",
        }
    }
}

scenario!(Race);
