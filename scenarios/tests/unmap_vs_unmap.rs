//! # Unmap vs. unmap
//! Result: Never. Of two CPUs that flush at the same time one is answered by the other's flush.
//! CPUs: 0 switches to the space, reads page 0, learns which pages are gone, and reads both. 1
//!   unmaps page 0, and says that it is gone. 2 does so with page 1.
//! Invariant: each flush is answered by a holder that has flushed for it: a page that is said to be
//!   gone is used by no CPU.
//! Guards against: an answer that is counted for two requests; a holder that is overlooked because
//!   another CPU is asking it.
//! Sites: FLUSH_ORDER, HOLDERS_SEEN.
//! Bounds: 3 CPUs, 3 levels; 714 executions with up to 6 deviations, 69,668 in all.
//! References: linux smp_call_function_many_cond; linux flush_tlb_func (arch/x86/mm/tlb.c).
use weft_scenarios::prelude::*;

struct Race<B: World> {
    table: Space<B>,
    is_gone: [SharedWord<B>; 2],
}

impl<B: World> Race<B> {
    fn unmap(&self, cpu: &mut Cpu<B>, page: u8) -> [Found; 2] {
        self.table.ask(cpu, &[Operation::unmap(page)]);
        self.is_gone[usize::from(page)].store_release(1);
        [Found::default(); 2]
    }
}

/// What the user knew of a page, and read there.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    is_gone: bool,
    contents: Option<u64>,
}

impl<B: World> Scenario<B> for Race<B> {
    type Saw = [Found; 2];
    const CPUS: Cpus<Self, B> = cpus([
        ("user", |race, cpu| {
            cpu.activate(&race.table.root).expect("nothing is asked of a root here");
            cpu.backend().user_read(page::<B>(0));
            let is_gone = [0, 1].map(|number| race.is_gone[number].load_acquire() == 1);
            let contents = [0, 1].map(|number| cpu.backend().user_read(page::<B>(number)));
            cpu.deactivate();
            [0, 1].map(|number| Found { is_gone: is_gone[number], contents: contents[number] })
        }),
        ("first unmapper", |race, cpu| race.unmap(cpu, 0)),
        ("second unmapper", |race, cpu| race.unmap(cpu, 1)),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("both read", "the user came first"),
        interesting("one read", "one page was unmapped before"),
        interesting("none read", "both pages were unmapped before"),
        forbidden("stale", "a CPU uses a page that it was told is gone"),
        forbidden("corrupt", "a page does not have its contents"),
    ];
    const DEVIATIONS: Option<u32> = Some(6);
    const REACHED: &'static [Situation] = &[];
    const TWINS: Twins = twins([
        no_shootdown("a CPU uses a page that it was told is gone"),
        forgotten_holder(0, "a CPU uses a page that it was told is gone"),
    ]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        let is_gone = ["page 0 is gone", "page 1 is gone"].map(|name| SharedWord::new(name, 0));
        Race { table: machine.used_space(&[(0, 5), (1, 6)]), is_gone }
    }

    fn check(&self, _cpu: &mut Cpu<B>, saw: &[Self::Saw]) -> &'static str {
        if saw[0].iter().any(|found| found.is_gone && found.contents.is_some()) {
            return "stale";
        }
        match saw[0].map(|found| found.contents) {
            [Some(5), Some(6)] => "both read",
            [Some(5), None] | [None, Some(6)] => "one read",
            [None, None] => "none read",
            _ => "corrupt",
        }
    }
}

scenario!(Race);
