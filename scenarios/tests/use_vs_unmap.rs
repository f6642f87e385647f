//! # Use vs. unmap
//! Result: Never. A CPU goes on using a page after the table has told it that nothing is mapped.
//! CPUs: 0 runs on the table and reads the page; then it asks, in a range of its own, whether the
//!   page is still mapped, and reads it once more. 1 unmaps the page.
//! Invariant: translations are flushed before the range is unlocked: the CPU that has the range
//!   next finds that no CPU translates through what was there before.
//! Guards against: a flush after the unlock, of some pages or CPUs only, or none.
//! Sites: LOCK_ACQUIRE, LOCK_RELEASE.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 49 executions, under loom to 3 preemptions.
//! References: linux 60bae7370896, 1cf35d47712d; CortenMM (SOSP'25), section 4.
//! History:
//! * 5, linux 60bae7370896: a migrating CPU flushes after it has given the range back =>
//!   late-shootdown
//! * 34, seL4 #107: an unmap invalidates on the CPU that unmaps and on no other one =>
//!   forgotten-holder-0, no-shootdown
use weft_scenarios::prelude::*;

struct Race<B: World> {
    table: Space<B>,
}

/// What the user found.
#[derive(Clone, Copy, Debug)]
struct Saw {
    /// The contents, at first.
    before: Option<u64>,
    /// Whether the table said that the page is mapped.
    is_mapped: bool,
    /// The contents afterwards.
    after: Option<u64>,
}

impl<B: World> Scenario<B> for Race<B> {
    type Saw = Option<Saw>;
    const CPUS: Cpus<Self, B> = cpus([
        ("user", |race, cpu| {
            cpu.activate(&race.table.root).expect("it is a root");
            let before = cpu.backend().user_read(page::<B>(1));
            let answer = race.table.ask(cpu, &[Operation::query(1)]).answer(0);
            let after = cpu.backend().user_read(page::<B>(1));
            cpu.deactivate();
            Some(Saw { before, is_mapped: answer.found().is_some(), after })
        }),
        ("unmapper", |race, cpu| {
            race.table.ask(cpu, &[Operation::unmap(1)]);
            None
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("used throughout", "the unmap came last"),
        interesting("unmapped behind the query", "the second read faulted"),
        interesting("unmapped behind the first read", "the query found nothing"),
        interesting("unmapped first", "the first read faulted"),
        forbidden("stale", "a CPU uses a page that it was told is not mapped"),
        forbidden("corrupt", "a page does not have its contents"),
    ];
    const REACHED: &'static [Situation] = &[];
    const TWINS: Twins = twins([
        weakened(&sites::LOCK_RELEASE, "data race on N"),
        no_shootdown("a CPU uses a page that it was told is not mapped"),
        late_shootdown("a CPU uses a page that it was told is not mapped"),
        forgotten_holder(0, "a CPU uses a page that it was told is not mapped"),
    ]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        Race { table: machine.space(&[(0, 5), (1, 6)]) }
    }

    fn check(&self, _cpu: &mut Cpu<B>, saw: &[Self::Saw]) -> &'static str {
        match saw[0].expect("the user has used the page") {
            Saw { is_mapped: false, after: Some(_), .. } => "stale",
            Saw { before: Some(6), is_mapped: true, after: Some(6) } => "used throughout",
            Saw { before: Some(6), is_mapped: true, after: None } => "unmapped behind the query",
            Saw { before: Some(6), is_mapped: false, .. } => "unmapped behind the first read",
            Saw { before: None, is_mapped: false, after: None } => "unmapped first",
            _ => "corrupt",
        }
    }
}

scenario!(Race);
