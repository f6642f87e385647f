//! # Lazy vs. prune
//! Result: Never. Hardware of a lazy CPU walks through a node that was freed.
//! CPUs: 0 runs on the space and reads the page; then it is lazy, announces a quiescent state, and
//!   its hardware translates the page ahead. 1 unmaps the page, and with it the leaf, and
//!   announces a quiescent state.
//! Invariant: a lazy CPU uses no page, but its hardware may walk; so it is asked when nodes go.
//! Guards against: a lazy CPU that is asked for nothing.
//! Sites: HOLDERS_SEEN.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 3,941 executions, under loom to 3 preemptions.
//! References: linux flush_tlb_info.freed_tables, tlb_is_not_lazy (arch/x86/mm/tlb.c).
//! History:
//! * 9, linux a4a118f2eead, CVE-2021-4002: a table is let go of while hardware has the entry above
//!   it cached => no-shootdown
//! * N17, tgoskits #2009, tgoskits #2455: a table is freed after a flush on the CPU that frees it
//!   alone => forgotten-holder-0
//! * N3, xen XSA-480, CVE-2026-23554: the pages of a table are freed at once and the flush waits
//!   for the unlock => mutant freed_before_the_flush
use weft_scenarios::prelude::*;

struct Race<B: World> {
    table: Space<B>,
}

impl<B: World> Scenario<B> for Race<B> {
    type Saw = Option<Option<u64>>;
    const CPUS: Cpus<Self, B> = cpus([
        ("idler", |race, cpu| {
            cpu.activate(&race.table.root).expect("nothing is asked of a root here");
            let read = cpu.backend().user_read(page::<B>(0));
            cpu.lazy();
            cpu.quiescent();
            cpu.backend().prefetch(page::<B>(0));
            cpu.deactivate();
            Some(read)
        }),
        ("pruner", |race, cpu| {
            race.table.ask(cpu, &[Operation::unmap(0)]);
            cpu.quiescent();
            None
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("read before", "the page was still mapped when it was read"),
        interesting("read behind", "the page was unmapped first"),
        forbidden("corrupt", "a page does not have its contents"),
    ];
    const REACHED: &'static [Situation] =
        &[met("a grace period ended", |event| matches!(event, Event::GracePeriodEnded))];
    const TWINS: Twins =
        twins([no_shootdown("use after free"), forgotten_holder(0, "use after free")]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        Race { table: machine.space(&[(0, 5)]) }
    }

    fn check(&self, _cpu: &mut Cpu<B>, saw: &[Self::Saw]) -> &'static str {
        match saw[0].expect("the idler has read the page") {
            Some(5) => "read before",
            None => "read behind",
            Some(_) => "corrupt",
        }
    }
}

scenario!(Race);
