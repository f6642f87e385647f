//! # Lock vs. lock, crowded
//! Result: Never. Four CPUs whose ranges overlap in pairs are told what no order explains.
//! CPUs: 0 maps page 0. 1 unmaps pages 1..3, which the root covers. 2 maps page 3. 3 unmaps pages
//!   0..4: with their leaves.
//! Invariant: the history is linearizable, with the count of every unmap; no CPU waits for ever.
//! Guards against: locks that are taken in different orders; a sub-tree that is taken out under a
//!   CPU that has a part of it.
//! Sites: LOCK_ACQUIRE, LOCK_RELEASE.
//! Bounds: 4 CPUs, 3 levels, no preemption bound; 4,286 executions.
//! References: CortenMM (SOSP'25), section 4.
use weft_scenarios::prelude::*;

struct Race<B: World> {
    table: Table<B>,
}

impl<B: World> Scenario<B> for Race<B> {
    type Saw = History;
    const CPUS: Cpus<Self, B> = cpus([
        ("left", |race, cpu| race.table.ask(cpu, &[Operation::map(0, Mapping::writable(5))])),
        ("middle", |race, cpu| race.table.ask(cpu, &[Operation::unmap(1..3)])),
        ("right", |race, cpu| race.table.ask(cpu, &[Operation::map(3, Mapping::writable(6))])),
        ("all", |race, cpu| race.table.ask(cpu, &[Operation::unmap(0..4)])),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("nothing", "the middle was gone, and the maps came later"),
        interesting("one page", "one map came first, and the middle was gone"),
        interesting("two pages", "either the middle was left, or both maps came first"),
        interesting("three pages", "the middle was left, and one map came first"),
        interesting("four pages", "both maps came first"),
    ];
    const REACHED: &'static [Situation] = &[
        met("a CPU found a lock taken", |event| matches!(event, Event::LockContended)),
        met("a CPU locked a stray node", |event| matches!(event, Event::StrayMet(_))),
    ];
    const TWINS: Twins = twins([
        weakened(&sites::LOCK_ACQUIRE, "data race on N"),
        weakened(&sites::LOCK_RELEASE, "data race on N"),
    ]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        Race { table: machine.table(&[(1, 1), (2, 2)]) }
    }

    fn check(&self, cpu: &mut Cpu<B>, saw: &[History]) -> &'static str {
        let first = PageMap::EMPTY.with(1, Mapping::writable(1)).with(2, Mapping::writable(2));
        assert_linearizable(&first, saw, &self.table.now(cpu, 0..4));
        match saw[3].answer(0) {
            Answer::Frames(0) => "nothing",
            Answer::Frames(1) => "one page",
            Answer::Frames(2) => "two pages",
            Answer::Frames(3) => "three pages",
            _ => "four pages",
        }
    }
}

scenario!(Race);
