//! # Lazy vs. unmap
//! Result: Never. A CPU that was lazy uses a page that was unmapped meanwhile.
//! CPUs: 0 runs on the space and reads the page; twice it is lazy for a while and activates the
//!   space again; it announces a quiescent state and reads the page once more. 1 unmaps the page
//!   and announces a quiescent state.
//! Invariant: a lazy CPU is not asked to flush pages, so it looks at the generation before it uses
//!   one again. Either it finds that there were flushes, or the flush finds it.
//! Guards against: a generation that is noted on the way out; one that is raised too late; a fence
//!   that is missing on the way back.
//! Sites: ACTIVATE_ORDER, FLUSH_ORDER, GENERATION_SEEN, GENERATION_RAISED.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 613 executions, under loom to 3 preemptions.
//! References: linux enter_lazy_tlb, switch_mm_irqs_off (arch/x86/mm/tlb.c); linux 94b1b03b519b.
//! History:
//! * N16, linux INVLPGB series: a flush asks those that it had to ask before the space changed the
//!   way of flushing => mutant holders_read_before_the_raise
//! * N23, openbsd 9f1181d59de3: a CPU is not asked any more while it still uses the old root =>
//!   mistake-uses-while-lazy
use weft_scenarios::prelude::*;

struct Race<B: World> {
    table: Space<B>,
}

/// What the user read, before and after it was lazy.
type Reads = [Option<u64>; 2];

impl<B: World> Scenario<B> for Race<B> {
    type Saw = Option<Reads>;
    const CPUS: Cpus<Self, B> = cpus([
        ("user", |race, cpu| {
            cpu.activate(&race.table.root).expect("nothing is asked of a root here");
            let before = cpu.backend().user_read(page::<B>(0));
            for _ in 0..2 {
                cpu.lazy();
                cpu.activate(&race.table.root).expect("nothing is asked of a root here");
            }
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
        weakened(&sites::GENERATION_SEEN, "use after free"),
        weakened(&sites::GENERATION_RAISED, "use after free"),
    ]);
    const MISTAKES: Mistakes<Self, B> = mistakes([mistake(
        "uses-while-lazy",
        0,
        "uses a page after it has said that it uses none any more",
        |race, cpu| {
            cpu.activate(&race.table.root).expect("nothing is asked of a root here");
            let before = cpu.backend().user_read(page::<B>(0));
            cpu.lazy();
            cpu.quiescent();
            let after = cpu.backend().user_read(page::<B>(0));
            cpu.deactivate();
            Some([before, after])
        },
        "use after free",
    )]);

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
