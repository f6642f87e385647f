//! # Flush vs. flush
//! Result: Never. Two CPUs that ask each other to flush wait for good.
//! CPUs: both run on the space; each unmaps a page of its own and reads it. The pages have leaves
//!   of their own.
//! Invariant: a CPU that waits for an answer answers.
//! Guards against: waiting with interrupts masked.
//! Sites: FLUSH_ORDER, HOLDERS_SEEN.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 12,138 executions, under loom to 3 preemptions.
//! References: linux smp_call_function_many, "Can deadlock when called with interrupts disabled".
//! History:
//! * 25, asterinas #1961: two CPUs wait for each other's answers with interrupts masked =>
//!   masked-shootdown
use weft_scenarios::prelude::*;

struct Race<B: World> {
    table: Space<B>,
}

impl<B: World> Race<B> {
    /// Unmaps page `own`, and reads it.
    fn play(&self, cpu: &mut Cpu<B>, own: u8) -> Option<u64> {
        cpu.activate(&self.table.root).expect("nothing is asked of a root here");
        self.table.ask(cpu, &[Operation::unmap(own)]);
        let after = cpu.backend().user_read(page::<B>(own));
        cpu.deactivate();
        after
    }
}

impl<B: World> Scenario<B> for Race<B> {
    type Saw = Option<u64>;
    const CPUS: Cpus<Self, B> =
        cpus([("first", |race, cpu| race.play(cpu, 0)), ("second", |race, cpu| race.play(cpu, 2))]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("both flushed", "each CPU has answered the other, or had left"),
        forbidden("stale", "a CPU uses a page that it has unmapped itself"),
    ];
    const REACHED: &'static [Situation] = &[];
    const TWINS: Twins = twins([masked_shootdown("deadlock")]);
    const SET_UP_FRAMES: usize = 12;

    fn set_up(machine: &mut Machine<B>) -> Self {
        Race { table: machine.space(&[(0, 5), (1, 7), (2, 6), (3, 8)]) }
    }

    fn check(&self, _cpu: &mut Cpu<B>, saw: &[Self::Saw]) -> &'static str {
        if saw.iter().all(Option::is_none) { "both flushed" } else { "stale" }
    }
}

scenario!(Race);
