//! # Remap vs. remap
//! Result: Never. Three CPUs that unmap a page and map it again are told what no order explains.
//! CPUs: each unmaps page 0, and then maps it to a frame of its own.
//! Invariant: the history is linearizable: a mapping is taken out by one CPU, and one is put where
//!   none is.
//! Guards against: a page that is put where one is; a page that two CPUs take out.
//! Sites: LOCK_ACQUIRE, LOCK_RELEASE.
//! Bounds: 3 CPUs, 3 levels, no preemption bound; 102 executions.
//! References: Herlihy and Wing, TOPLAS 1990; CortenMM (SOSP'25), section 4.
use weft_scenarios::prelude::*;

struct Race<B: World> {
    table: Table<B>,
}

impl<B: World> Race<B> {
    fn remap(&self, cpu: &mut Cpu<B>, contents: u8) -> History {
        let new = Mapping::writable(contents);
        self.table.ask(cpu, &[Operation::unmap(0), Operation::map(0, new)])
    }
}

impl<B: World> Scenario<B> for Race<B> {
    type Saw = History;
    const CPUS: Cpus<Self, B> = cpus([
        ("first", |race, cpu| race.remap(cpu, 6)),
        ("second", |race, cpu| race.remap(cpu, 7)),
        ("third", |race, cpu| race.remap(cpu, 8)),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("one was mapped", "the unmaps came first, and two of the maps were refused"),
        interesting("two were mapped", "one map was refused"),
        interesting("all were mapped", "each map followed on an unmap"),
    ];
    const REACHED: &'static [Situation] =
        &[met("a CPU found a lock taken", |event| matches!(event, Event::LockContended))];
    const TWINS: Twins = twins([
        weakened(&sites::LOCK_ACQUIRE, "data race on N"),
        weakened(&sites::LOCK_RELEASE, "data race on N"),
    ]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        Race { table: machine.table(&[(0, 5), (1, 1)]) }
    }

    fn check(&self, cpu: &mut Cpu<B>, saw: &[History]) -> &'static str {
        let first = PageMap::EMPTY.with(0, Mapping::writable(5)).with(1, Mapping::writable(1));
        assert_linearizable(&first, saw, &self.table.now(cpu, 0..4));
        match saw.iter().filter(|saw| matches!(saw.answer(1), Answer::Mapped)).count() {
            1 => "one was mapped",
            2 => "two were mapped",
            _ => "all were mapped",
        }
    }
}

scenario!(Race);
