//! # Look vs. grow
//! Result: Never. A walker that sees a growth half done sees anything but complete nodes.
//! CPUs: 0 maps page 1 in a range that the root covers, growing the nodes on the way one by one. 1
//!   follows the way down without locks.
//! Invariant: what is reachable is complete, and stays so while more is grown below it.
//! Guards against: a node that is reachable before its entries and its metadata are written.
//! Sites: PUBLISH_NODE, WALK_ENTRY, ENTRY_INIT.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 4 executions, 454 under loom.
//! References: Linux Documentation/RCU/rcu_dereference.rst; asterinas 5834f299b.
use weft_scenarios::prelude::*;

struct Race<B: World> {
    table: Table<B>,
}

/// Where a walk to page 1 ended.
#[derive(Clone, Copy, Debug)]
enum Saw {
    /// At an absent entry of a node of this level.
    Absent(Level),
    /// At a page with these contents.
    Page(u64),
}

impl<B: World> Scenario<B> for Race<B> {
    type Saw = Saw;
    const CPUS: Cpus<Self, B> = cpus([
        ("grower", |race, cpu| {
            let operation = Operation::map(1, Mapping::writable(7));
            race.table.within(cpu, &mut History::new(), 0..4, &[operation]);
            Saw::Page(7)
        }),
        ("walker", |race, cpu| {
            let section = cpu.read_side();
            let mut node = race.table.root.borrow(&section);
            loop {
                match node.walk(B::Geometry::index(page::<B>(1), node.level())) {
                    ChildRef::Node(child) => node = child,
                    ChildRef::Item(item) => {
                        return Saw::Page(cpu.backend().read_contents(item.frame));
                    }
                    _ => return Saw::Absent(node.level()),
                }
            }
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("nothing", "the walk came first"),
        interesting("part of the way", "the walk met an inner node without its child"),
        interesting("an empty leaf", "the walk met the leaf without its page"),
        interesting("the page", "the walk came last"),
        forbidden("corrupt", "a reachable page does not have its contents"),
    ];
    const REACHED: &'static [Situation] = &[];
    const TWINS: Twins = twins([
        weakened(&sites::PUBLISH_NODE, "use before allocation: N"),
        weakened(&sites::WALK_ENTRY, "use before allocation: N"),
    ]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        Race { table: machine.table(&[]) }
    }

    fn check(&self, _cpu: &mut Cpu<B>, saw: &[Saw]) -> &'static str {
        match saw[1] {
            Saw::Absent(level) if level == B::Geometry::ROOT => "nothing",
            Saw::Absent(Level::LEAF) => "an empty leaf",
            Saw::Absent(_) => "part of the way",
            Saw::Page(7) => "the page",
            Saw::Page(_) => "corrupt",
        }
    }
}

scenario!(Race);
