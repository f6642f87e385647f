//! # Take vs. unmap
//! Result: Never. A CPU takes another page than the one that it has found under the lock.
//! CPUs: 0 looks up what is mapped at an address, and unmaps it. 1 unmaps the page.
//! Invariant: what a transaction does to a range is done to what it has found there, at once: an
//!   entry that was read before the lock was taken is read again under it.
//! Guards against: a look before the lock, whose answer is used under it.
//! Sites: LOCK_ACQUIRE, LOCK_RELEASE, WALK_ENTRY.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 2 executions, 9 under loom.
//! References: linux follow_pfnmap_start (mm/memory.c), "recheck pmd under lock".
//! History:
//! * 15, linux follow_pfnmap_start: an entry is read before the lock is taken and used under it
//!   => mistake-looks-first
use weft_scenarios::prelude::*;

struct Race<B: World> {
    table: Table<B>,
}

impl<B: World> Scenario<B> for Race<B> {
    type Saw = History;
    const CPUS: Cpus<Self, B> = cpus([
        ("taker", |race, cpu| {
            let mut history = History::new();
            let both = [Operation::query(0), Operation::unmap(0)];
            race.table.within(cpu, &mut history, 0..1, &both);
            history
        }),
        ("unmapper", |race, cpu| race.table.ask(cpu, &[Operation::unmap(0)])),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("taken", "the taker came first"),
        interesting("gone", "the unmapper came first"),
    ];
    const REACHED: &'static [Situation] = &[];
    const TWINS: Twins = twins([
        weakened(&sites::LOCK_ACQUIRE, "data race on N"),
        weakened(&sites::LOCK_RELEASE, "data race on N"),
    ]);
    const MISTAKES: Mistakes<Self, B> = mistakes([mistake(
        "looks-first",
        0,
        "uses under the lock what it has found before",
        |race, cpu| {
            let begin = cpu.mark();
            let found = race.table.look(cpu, 0);
            let taken = race.table.ask(cpu, &[Operation::unmap(0)]).answer(0);
            let mut history = History::new();
            let both = [(Operation::query(0), found), (Operation::unmap(0), taken)];
            history.step(begin, cpu.mark(), &both);
            history
        },
        "history is not linearizable",
    )]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        Race { table: machine.table(&[(0, 5), (1, 6)]) }
    }

    fn check(&self, cpu: &mut Cpu<B>, saw: &[History]) -> &'static str {
        let first = PageMap::default().with(0, Mapping::writable(5)).with(1, Mapping::writable(6));
        assert_linearizable(&first, saw, &self.table.now(cpu, 0..2));
        match saw[0].answer(0).found() {
            Some(_) => "taken",
            None => "gone",
        }
    }
}

scenario!(Race);
