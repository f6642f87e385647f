//! # Use vs. replace
//! Result: Never. A CPU faults on a page that is being replaced, or goes on using the old one.
//! CPUs: 0 runs on the space and reads the page; then it asks, in a range of its own, what is
//!   mapped there, and reads once more. 1 puts a copy in the place of the page, in one step.
//! Invariant: at every instant one of the two is there; when the replacement is over, it is the new
//!   one on every CPU.
//! Guards against: a hole between the two; a flush of some pages or CPUs only, late, or none.
//! Sites: LOCK_ACQUIRE, LOCK_RELEASE, PUBLISH_ITEM.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 53 executions, under loom to 3 preemptions.
//! References: linux wp_page_copy (mm/memory.c); asterinas issue 862 (no flush after
//! copy-on-write).
use weft_scenarios::prelude::*;

const OLD: Mapping = Mapping::writable(5);
const NEW: Mapping = Mapping::read_only(9);

struct Race<B: World> {
    table: Space<B>,
}

/// What the user found.
#[derive(Clone, Copy, Debug)]
struct Saw {
    /// The contents, at first.
    before: Option<u64>,
    /// What the table has there.
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
            let shown = race.table.ask(cpu, &[Operation::query(0)]).answer(0).found();
            let after = cpu.backend().user_read(page::<B>(0));
            cpu.deactivate();
            Some(Saw { before, shown, after })
        }),
        ("replacer", |race, cpu| {
            let replaced = race.table.ask(cpu, &[Operation::replace(0, NEW)]);
            assert!(replaced.answer(0).found() == Some(OLD), "another page was replaced");
            None
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("old throughout", "the replacement came last"),
        interesting("new at the end", "the replacement came behind the question"),
        interesting("old, then new", "the replacement came before the question"),
        interesting("new throughout", "the replacement came first"),
        forbidden("gone", "a page that is being replaced is not there"),
        forbidden("stale", "a CPU uses a page that it was shown is replaced"),
        forbidden("corrupt", "a page does not have its contents"),
    ];
    const REACHED: &'static [Situation] = &[];
    const TWINS: Twins = twins([
        weakened(&sites::PUBLISH_ITEM, "use before allocation: N"),
        no_shootdown("a CPU uses a page that it was shown is replaced"),
        late_shootdown("a CPU uses a page that it was shown is replaced"),
        forgotten_holder(0, "a CPU uses a page that it was shown is replaced"),
    ]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        Race { table: machine.space(&[(0, 5), (1, 6)]) }
    }

    fn check(&self, _cpu: &mut Cpu<B>, saw: &[Self::Saw]) -> &'static str {
        let saw = saw[0].expect("the user has read the page");
        match (saw.before, saw.shown, saw.after) {
            (None, ..) | (.., None) => "gone",
            (_, Some(NEW), Some(5)) => "stale",
            (Some(5), Some(OLD), Some(5)) => "old throughout",
            (Some(5 | 9), Some(OLD), Some(9)) => "new at the end",
            (Some(5), Some(NEW), Some(9)) => "old, then new",
            (Some(9), Some(NEW), Some(9)) => "new throughout",
            _ => "corrupt",
        }
    }
}

scenario!(Race);
