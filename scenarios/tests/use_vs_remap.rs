//! # Use vs. remap
//! Result: Never. A CPU goes on using a page after the table has shown it another one there.
//! CPUs: 0 runs on the space and reads the page; then it asks what is mapped there, and reads it
//!   once more. 1 unmaps the page and maps another one, in one transaction.
//! Invariant: what was unmapped is flushed before something else is put in its place.
//! Guards against: one flush at the end, when both translations may be in use.
//! Sites: LOCK_ACQUIRE, LOCK_RELEASE.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 206 executions, under loom to 3 preemptions.
//! References: linux ptep_clear_flush in wp_page_copy (mm/memory.c).
//! History:
//! * 26, asterinas #862: a page is exchanged by a copy on write and the old translation stays =>
//!   no-shootdown
//! * N20, kvm CVE-2026-23401: an entry is put over a present one that is not flushed =>
//!   no-shootdown, late-shootdown
use weft_scenarios::prelude::*;

const OLD: Mapping = Mapping::writable(5);
const NEW: Mapping = Mapping::writable(9);

struct Race<B: World> {
    table: Space<B>,
}

/// What the user found.
#[derive(Clone, Copy, Debug)]
struct Saw {
    /// The contents, at first.
    before: Option<u64>,
    /// What the table has there, looked at without locks.
    shown: Option<Mapping>,
    /// The contents afterwards.
    after: Option<u64>,
}

impl<B: World> Scenario<B> for Race<B> {
    type Saw = Option<Saw>;
    const CPUS: Cpus<Self, B> = cpus([
        ("user", |race, cpu| {
            cpu.activate(&race.table.root).expect("nothing is asked of a root here");
            let before = cpu.backend().user_read(page::<B>(0));
            let shown = race.table.look(cpu, 0).found();
            let after = cpu.backend().user_read(page::<B>(0));
            cpu.deactivate();
            Some(Saw { before, shown, after })
        }),
        ("remapper", |race, cpu| {
            let mut history = History::new();
            let both = [Operation::unmap(0), Operation::map(0, NEW)];
            race.table.within(cpu, &mut history, 0..1, &both);
            None
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("old throughout", "the exchange came last"),
        interesting("new at the end", "the exchange came before the last read"),
        interesting("new throughout", "the exchange came first"),
        interesting("gone for a moment", "a read faulted between the two"),
        forbidden("stale", "a CPU uses a page that it was shown is gone"),
        forbidden("corrupt", "a page does not have its contents"),
    ];
    const REACHED: &'static [Situation] = &[];
    const TWINS: Twins = twins([
        no_shootdown("a CPU uses a page that it was shown is gone"),
        late_shootdown("a CPU uses a page that it was shown is gone"),
    ]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        Race { table: machine.space(&[(0, 5), (1, 6)]) }
    }

    fn check(&self, _cpu: &mut Cpu<B>, saw: &[Self::Saw]) -> &'static str {
        let saw = saw[0].expect("the user has read the page");
        match (saw.before, saw.shown, saw.after) {
            (_, Some(NEW), Some(5)) => "stale",
            (Some(5), Some(OLD), Some(5)) => "old throughout",
            (Some(9), Some(NEW), Some(9)) => "new throughout",
            (None, _, _) | (_, None, _) | (_, _, None) => "gone for a moment",
            (Some(5), _, Some(9)) => "new at the end",
            _ => "corrupt",
        }
    }
}

scenario!(Race);
