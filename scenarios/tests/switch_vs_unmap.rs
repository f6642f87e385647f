//! # Switch vs. unmap
//! Result: Never. A CPU that comes back to a space uses a page that was unmapped meanwhile.
//! CPUs: 0 runs on the space and reads the page, switches to another space and back, announces a
//!   quiescent state and reads the page once more. 1 unmaps the page and announces a quiescent
//!   state.
//! Invariant: a CPU that has switched away is asked for nothing, and keeps what it has cached of
//!   the space under a tag. When it comes back it looks at the generation: either it finds that
//!   there were flushes, or the flush finds it.
//! Guards against: a tag that is kept unchecked; a generation that is noted on the way out, or
//!   before the switch could be interrupted for the last time; one that is raised too late; a
//!   fence that is missing on the way back.
//! Sites: ACTIVATE_ORDER, FLUSH_ORDER, GENERATION_SEEN, GENERATION_RAISED.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 279 executions, under loom to 3 preemptions.
//! References: linux choose_new_asid, switch_mm_irqs_off (arch/x86/mm/tlb.c); linux 10af6235e0d3.
use weft_scenarios::prelude::*;

struct Race<B: World> {
    table: Space<B>,
    other: Space<B>,
}

/// What the user read, before it switched and behind its quiescent state.
type Reads = [Option<u64>; 2];

impl<B: World> Scenario<B> for Race<B> {
    type Saw = Option<Reads>;
    const CPUS: Cpus<Self, B> = cpus([
        ("user", |race, cpu| {
            cpu.activate(&race.table.root).expect("nothing is asked of a root here");
            let before = cpu.backend().user_read(page::<B>(0));
            cpu.activate(&race.other.root).expect("nothing is asked of a root here");
            cpu.activate(&race.table.root).expect("nothing is asked of a root here");
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
    const REACHED: &'static [Situation] = &[
        met("a grace period ended", |event| matches!(event, Event::GracePeriodEnded)),
        met("a tag was kept", |event| matches!(event, Event::Activated { keeps: true, .. })),
    ];
    const TWINS: Twins = twins([
        weakened_fence(&sites::ACTIVATE_ORDER, "use after free"),
        weakened_fence(&sites::FLUSH_ORDER, "use after free"),
        weakened(&sites::GENERATION_SEEN, "use after free"),
        weakened(&sites::GENERATION_RAISED, "use after free"),
        tags_kept("use after free"),
    ]);
    const SET_UP_FRAMES: usize = 12;

    fn set_up(machine: &mut Machine<B>) -> Self {
        Race { table: machine.used_space(&[(0, 5), (1, 6)]), other: machine.space(&[]) }
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
