//! # Activate vs. unmap
//! Result: Never. A CPU that is switching to a space uses a page that was unmapped and freed.
//! CPUs: 0 activates the space, reads the page, announces a quiescent state and reads it again. 1
//!   unmaps the page and announces a quiescent state.
//! Invariant: a flush either finds the CPU among the holders, or the CPU's walks find the change.
//!   So once the frame is freed, no translation of it is left.
//! Guards against: a holder that is noted after the root is loaded; a fence that is missing on
//!   either side; a holder that is overlooked.
//! Sites: ACTIVATE_ORDER, FLUSH_ORDER.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 78 executions, under loom to 3 preemptions.
//! References: linux switch_mm_irqs_off (arch/x86/mm/tlb.c).
//! History:
//! * 1, linux 71b3c126e611, CVE-2016-2069: a space is switched to while it is flushed, and neither
//!   side has its barrier => ACTIVATE_ORDER, FLUSH_ORDER
//! * N1, linux fea4e317f9e7, CVE-2025-37964: a flush leaves a CPU out that notes what it runs on
//!   after it has loaded it => mutant joins_after_the_load
use weft_scenarios::prelude::*;

struct Race<B: World> {
    table: Space<B>,
}

/// What the user read, before and after its quiescent state.
type Reads = [Option<u64>; 2];

impl<B: World> Scenario<B> for Race<B> {
    type Saw = Option<Reads>;
    const CPUS: Cpus<Self, B> = cpus([
        ("user", |race, cpu| {
            cpu.activate(&race.table.root).expect("nothing is asked of a root here");
            let before = cpu.backend().user_read(page::<B>(0));
            cpu.quiescent();
            let after = cpu.backend().user_read(page::<B>(0));
            cpu.deactivate();
            Some([before, after])
        }),
        ("unmapper", |race, cpu| {
            race.table.ask(cpu, &[Operation::unmap(0)]);
            cpu.quiescent();
            None
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("used throughout", "the unmap came last"),
        interesting("unmapped in between", "the second read faulted"),
        interesting("unmapped first", "both reads faulted"),
        forbidden("corrupt", "a page does not have its contents"),
    ];
    const REACHED: &'static [Situation] =
        &[met("a grace period ended", |event| matches!(event, Event::GracePeriodEnded))];
    const TWINS: Twins = twins([
        weakened_fence(&sites::ACTIVATE_ORDER, "use after free"),
        weakened_fence(&sites::FLUSH_ORDER, "use after free"),
        forgotten_holder(0, "use after free"),
        no_shootdown("use after free"),
    ]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        Race { table: machine.used_space(&[(0, 5), (1, 6)]) }
    }

    fn check(&self, _cpu: &mut Cpu<B>, saw: &[Self::Saw]) -> &'static str {
        match saw[0].expect("the user has read the page") {
            [Some(5), Some(5)] => "used throughout",
            [Some(5), None] => "unmapped in between",
            [None, None] => "unmapped first",
            _ => "corrupt",
        }
    }
}

scenario!(Race);
