//! # Lock vs. lock, nested
//! Result: Never. Ranges whose covering nodes are one below the other get into each other's way.
//! CPUs: 0 maps page 0; its leaf covers the range. 1 looks at page 0 and unmaps pages 1..3, in a
//!   range that the node above covers. 2 unmaps pages 0..4: the root covers them, and gives the
//!   whole sub-tree of two levels away.
//! Invariant: the history is linearizable, with the count of every unmap; no CPU waits for ever.
//! Guards against: a sub-tree of which only the upper nodes are locked, unlocked or marked.
//! Sites: LOCK_ACQUIRE, LOCK_RELEASE.
//! Bounds: 3 CPUs, 3 levels, no preemption bound; 110 executions.
//! References: CortenMM (SOSP'25), section 4; asterinas 1ed023f41, 992.
//! History:
//! * 30, asterinas #992: a range is unlocked from the top down => mutant unlocked_parents_first
use weft_scenarios::prelude::*;

const LOW: Mapping = Mapping::writable(5);

struct Race<B: World> {
    table: Table<B>,
}

impl<B: World> Scenario<B> for Race<B> {
    type Saw = History;
    const CPUS: Cpus<Self, B> = cpus([
        ("low", |race, cpu| race.table.ask(cpu, &[Operation::map(0, LOW)])),
        ("middle", |race, cpu| {
            let mut history = History::new();
            let operations = [Operation::query(0), Operation::unmap(1..3)];
            race.table.within(cpu, &mut history, 0..3, &operations);
            history
        }),
        ("high", |race, cpu| race.table.ask(cpu, &[Operation::unmap(0..4)])),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("high with everything", "the others' pages went with the sub-tree"),
        interesting("high with two pages", "one of the others came first"),
        interesting("high with one page", "only the low one's page was left"),
        interesting("high with nothing", "the pages were gone, and the low one came later"),
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
        match saw[2].answer(0) {
            Answer::Frames(3) => "high with everything",
            Answer::Frames(2) => "high with two pages",
            Answer::Frames(1) => "high with one page",
            _ => "high with nothing",
        }
    }
}

scenario!(Race);
