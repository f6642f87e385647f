//! # Map vs. unmap vs. query
//! Result: Never. Three CPUs are told what no order of their operations explains.
//! CPUs: 0 maps page 1. 1 unmaps pages 0..2, all that the leaf translates. 2 asks, in a range of
//!   its own, for page 0 and page 1.
//! Invariant: the history is linearizable, with the count of the unmap.
//! Guards against: a query in a leaf that was taken out; an unmap that others see half done.
//! Sites: LOCK_ACQUIRE, LOCK_RELEASE.
//! Bounds: 3 CPUs, 3 levels, no preemption bound; 9 executions.
//! References: Herlihy and Wing, TOPLAS 1990; CortenMM (SOSP'25), section 4.
use weft_scenarios::prelude::*;

const OLD: Mapping = Mapping::writable(5);
const NEW: Mapping = Mapping::writable(6);

struct Race<B: World> {
    table: Table<B>,
}

impl<B: World> Scenario<B> for Race<B> {
    type Saw = History;
    const CPUS: Cpus<Self, B> = cpus([
        ("mapper", |race, cpu| race.table.ask(cpu, &[Operation::map(1, NEW)])),
        ("unmapper", |race, cpu| race.table.ask(cpu, &[Operation::unmap(0..2)])),
        ("asker", |race, cpu| {
            let mut history = History::new();
            let operations = [Operation::query(0), Operation::query(1)];
            race.table.within(cpu, &mut history, 0..2, &operations);
            history
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("nothing", "the asker came after the unmap, before the map"),
        interesting("the old page", "the asker came first"),
        interesting("the new page", "the asker came after unmap and map"),
        interesting("both pages", "the asker came after the map, before the unmap"),
    ];
    const REACHED: &'static [Situation] =
        &[met("a CPU locked a stray node", |event| matches!(event, Event::StrayMet(_)))];
    const TWINS: Twins = twins([freed_at_once("use after free: N")]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        Race { table: machine.table(&[(0, 5), (2, 2)]) }
    }

    fn check(&self, cpu: &mut Cpu<B>, saw: &[History]) -> &'static str {
        let first = PageMap::EMPTY.with(0, OLD).with(2, Mapping::writable(2));
        assert_linearizable(&first, saw, &self.table.now(cpu, 0..4));
        match [0, 1].map(|number| saw[2].answer(number).found().is_some()) {
            [false, false] => "nothing",
            [true, false] => "the old page",
            [false, true] => "the new page",
            [true, true] => "both pages",
        }
    }
}

scenario!(Race);
