//! # Activate vs. activate
//! Result: Never. A CPU that switches to a space while another one does is left out of a flush.
//! CPUs: 0 and 2 switch to the space, read the page, learn whether it is gone, and read it again.
//!   1 unmaps the page, and says that it is gone.
//! Invariant: a flush either finds a CPU among the holders, or the CPU's walks find the change: a
//!   page that is said to be gone is used by no CPU.
//! Guards against: a holder that is lost when two CPUs note themselves at the same time; a fence
//!   that is missing on either side.
//! Sites: ACTIVATE_ORDER, FLUSH_ORDER.
//! Bounds: 3 CPUs, 3 levels; 1,183 executions with up to 6 deviations, 1,542,124 in all.
//! References: linux switch_mm_irqs_off (arch/x86/mm/tlb.c).
use weft_scenarios::prelude::*;

struct Race<B: World> {
    table: Space<B>,
    is_gone: SharedWord<B>,
}

/// What a user knew of the page, and read there.
#[derive(Clone, Copy, Debug)]
struct Found {
    is_gone: bool,
    contents: Option<u64>,
}

impl<B: World> Race<B> {
    fn read(&self, cpu: &mut Cpu<B>) -> Option<Found> {
        cpu.activate(&self.table.root).expect("nothing is asked of a root here");
        cpu.backend().user_read(page::<B>(0));
        let is_gone = self.is_gone.load_acquire() == 1;
        let contents = cpu.backend().user_read(page::<B>(0));
        cpu.deactivate();
        Some(Found { is_gone, contents })
    }

    fn unmap(&self, cpu: &mut Cpu<B>) -> Option<Found> {
        self.table.ask(cpu, &[Operation::unmap(0)]);
        self.is_gone.store_release(1);
        None
    }
}

impl<B: World> Scenario<B> for Race<B> {
    type Saw = Option<Found>;
    const CPUS: Cpus<Self, B> = cpus([
        ("first user", |race, cpu| race.read(cpu)),
        ("unmapper", |race, cpu| race.unmap(cpu)),
        ("second user", |race, cpu| race.read(cpu)),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("both read", "the users came first"),
        interesting("one read", "the unmap came in between"),
        interesting("none read", "the unmap came first"),
        forbidden("stale", "a CPU uses a page that it was told is gone"),
        forbidden("corrupt", "a page does not have its contents"),
    ];
    const DEVIATIONS: Option<u32> = Some(6);
    const REACHED: &'static [Situation] = &[];
    const TWINS: Twins = twins([
        weakened_fence(&sites::ACTIVATE_ORDER, "a CPU uses a page that it was told is gone"),
        weakened_fence(&sites::FLUSH_ORDER, "a CPU uses a page that it was told is gone"),
        no_shootdown("a CPU uses a page that it was told is gone"),
        forgotten_holder(0, "a CPU uses a page that it was told is gone"),
        forgotten_holder(2, "a CPU uses a page that it was told is gone"),
    ]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        let is_gone = SharedWord::new("the page is gone", 0);
        Race { table: machine.used_space(&[(0, 5), (1, 6)]), is_gone }
    }

    fn check(&self, _cpu: &mut Cpu<B>, saw: &[Self::Saw]) -> &'static str {
        let found = [saw[0], saw[2]].map(|found| found.expect("a user has read the page"));
        if found.iter().any(|found| found.is_gone && found.contents.is_some()) {
            return "stale";
        }
        match found.map(|found| found.contents) {
            [Some(5), Some(5)] => "both read",
            [Some(5), None] | [None, Some(5)] => "one read",
            [None, None] => "none read",
            _ => "corrupt",
        }
    }
}

scenario!(Race);
