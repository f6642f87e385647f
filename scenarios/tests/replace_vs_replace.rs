//! # Replace vs. replace
//! Result: Never. Three CPUs that replace a page and look at it are told what no order explains.
//! CPUs: each has page 0 lead to a frame of its own, and then asks where it leads.
//! Invariant: the history is linearizable: each mapping is given back once, to the CPU that came
//!   next.
//! Guards against: a mapping that two CPUs get back; a replacement that is lost.
//! Sites: LOCK_ACQUIRE, LOCK_RELEASE.
//! Bounds: 3 CPUs, 3 levels, no preemption bound; 342 executions.
//! References: Herlihy and Wing, TOPLAS 1990; CortenMM (SOSP'25), section 4.
use weft_scenarios::prelude::*;

struct Race<B: World> {
    table: Table<B>,
}

impl<B: World> Race<B> {
    fn replace(&self, cpu: &mut Cpu<B>, contents: u8) -> History {
        let new = Mapping::writable(contents);
        self.table.ask(cpu, &[Operation::replace(0, new), Operation::query(0)])
    }
}

impl<B: World> Scenario<B> for Race<B> {
    type Saw = History;
    const CPUS: Cpus<Self, B> = cpus([
        ("first", |race, cpu| race.replace(cpu, 6)),
        ("second", |race, cpu| race.replace(cpu, 7)),
        ("third", |race, cpu| race.replace(cpu, 8)),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("one found its own", "the replacements came first"),
        interesting("two found their own", "a replacement came behind another CPU's question"),
        interesting("all found their own", "each question followed on a replacement"),
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
        let found_own =
            |(saw, own): &(&History, u8)| saw.answer(1).found() == Some(Mapping::writable(*own));
        match saw.iter().zip(6..).filter(found_own).count() {
            1 => "one found its own",
            2 => "two found their own",
            _ => "all found their own",
        }
    }
}

scenario!(Race);
