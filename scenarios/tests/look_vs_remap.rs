//! # Look vs. remap
//! Result: Never. Queries without locks tell what no order of the operations explains.
//! CPUs: 0 asks for page 0 twice, without locks. 1 unmaps pages 0..2, with their leaf, and maps
//!   page 0 again, to another frame, in a new leaf.
//! Invariant: the history is linearizable; what a query finds is there while the section lasts.
//! Guards against: a reader that remembers a node; a leaf or frame freed under a reader.
//! Sites: WALK_ENTRY, PUBLISH_NODE, PUBLISH_ITEM.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 10 executions, 5,465 under loom.
//! References: Herlihy and Wing, TOPLAS 1990; Linux mm/gup.c, gup_fast.
use weft_scenarios::prelude::*;

const OLD: Mapping = Mapping::writable(5);
const NEW: Mapping = Mapping::writable(6);

struct Race<B: World> {
    table: Table<B>,
}

impl<B: World> Scenario<B> for Race<B> {
    type Saw = History;
    const CPUS: Cpus<Self, B> = cpus([
        ("asker", |race, cpu| {
            let mut history = History::new();
            history.record(cpu, Operation::query(0), |cpu| race.table.look(cpu, 0));
            history.record(cpu, Operation::query(0), |cpu| race.table.look(cpu, 0));
            history
        }),
        ("remapper", |race, cpu| {
            race.table.ask(cpu, &[Operation::unmap(0..2), Operation::map(0, NEW)])
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("old, old", "both queries came first"),
        interesting("old, absent", "the page was unmapped in between"),
        interesting("old, new", "the page was replaced in between"),
        interesting("absent, absent", "both queries came between unmap and map"),
        interesting("absent, new", "the page was mapped in between"),
        interesting("new, new", "both queries came behind"),
    ];
    const REACHED: &'static [Situation] = &[];
    const TWINS: Twins = twins([
        weakened(&sites::PUBLISH_NODE, "use before allocation: N"),
        weakened(&sites::PUBLISH_ITEM, "use before allocation: N"),
        weakened(&sites::WALK_ENTRY, "use before allocation: N"),
        freed_at_once("use after free: N"),
    ]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        Race { table: machine.table(&[(0, 5), (2, 2)]) }
    }

    fn check(&self, cpu: &mut Cpu<B>, saw: &[History]) -> &'static str {
        let first = PageMap::EMPTY.with(0, OLD).with(2, Mapping::writable(2));
        assert_linearizable(&first, saw, &self.table.now(cpu, 0..4));
        match [0, 1].map(|number| saw[0].answer(number).found()) {
            [Some(OLD), Some(OLD)] => "old, old",
            [Some(OLD), None] => "old, absent",
            [Some(OLD), _] => "old, new",
            [None, None] => "absent, absent",
            [None, _] => "absent, new",
            _ => "new, new",
        }
    }
}

scenario!(Race);
