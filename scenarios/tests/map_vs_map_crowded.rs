//! # Map vs. map, crowded
//! Result: Never. Of four CPUs that need the same missing nodes one loses its page, or its answer.
//! CPUs: 0 maps page 1. 1 and 3 map page 0. 2 asks for both pages, in a range of its own. All of
//!   them find no node below the root.
//! Invariant: the history is linearizable: one of the two maps is refused.
//! Guards against: two nodes that are put into one entry; a page in the one that is lost.
//! Sites: LOCK_ACQUIRE, LOCK_RELEASE.
//! Bounds: 4 CPUs, 3 levels; 47 executions with up to 4 deviations, 12,678 in all.
//! References: CortenMM (SOSP'25), section 4; linux __pte_alloc (mm/memory.c).
use weft_scenarios::prelude::*;

struct Race<B: World> {
    table: Table<B>,
}

impl<B: World> Scenario<B> for Race<B> {
    type Saw = History;
    const CPUS: Cpus<Self, B> = cpus([
        ("beside", |race, cpu| race.table.ask(cpu, &[Operation::map(1, Mapping::writable(7))])),
        ("left", |race, cpu| race.table.ask(cpu, &[Operation::map(0, Mapping::writable(5))])),
        ("asker", |race, cpu| {
            let mut history = History::new();
            let operations = [Operation::query(0), Operation::query(1)];
            race.table.within(cpu, &mut history, 0..2, &operations);
            history
        }),
        ("right", |race, cpu| race.table.ask(cpu, &[Operation::map(0, Mapping::writable(6))])),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("found none", "the asker came first"),
        interesting("found one", "the asker came in between"),
        interesting("found both", "the asker came last"),
    ];
    const DEVIATIONS: Option<u32> = Some(4);
    const REACHED: &'static [Situation] =
        &[met("a CPU found a lock taken", |event| matches!(event, Event::LockContended))];
    const TWINS: Twins = twins([
        weakened(&sites::LOCK_ACQUIRE, "data race on N"),
        weakened(&sites::LOCK_RELEASE, "data race on N"),
    ]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        Race { table: machine.table(&[]) }
    }

    fn check(&self, cpu: &mut Cpu<B>, saw: &[History]) -> &'static str {
        assert_linearizable(&PageMap::EMPTY, saw, &self.table.now(cpu, 0..4));
        match [0, 1].iter().filter(|&&number| saw[2].answer(number).found().is_some()).count() {
            0 => "found none",
            1 => "found one",
            _ => "found both",
        }
    }
}

scenario!(Race);
