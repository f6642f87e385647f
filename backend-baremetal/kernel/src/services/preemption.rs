//! Preemption: while a role is played, the timer interrupts its processor again and again after
//! random times, and the handler lets the others run for a while. On a real machine that is a delay
//! in the middle of anything; under an emulator that runs one processor at a time it is what makes
//! their steps interleave at all.

use core::sync::atomic::Ordering;
use weft_scenarios::random::Random;

use crate::machine::{apic, cpu};

/// Binary logarithm of the longest time between two preemptions, in ticks of the timer.
const PREEMPTION_TICK_BITS: u32 = 13;
/// The most pauses of a preemption.
const PREEMPTION_PAUSES: u64 = 4;

/// Preempts the calling processor at random times, until [`be_left_alone`].
pub(crate) fn be_preempted(random: &mut Random) {
    cpu::this().random.store(random.next() | 1, Ordering::Relaxed);
    apic::interrupt_after(1 + random.up_to(PREEMPTION_TICK_BITS) as u32);
}

/// Preempts the calling processor no more.
pub(crate) fn be_left_alone() {
    cpu::this().random.store(0, Ordering::Relaxed);
    apic::interrupt_after(0);
}

/// The timer has interrupted: lets others run, and sets the timer again. Called by the handler.
pub(crate) fn preempted() {
    let own = cpu::this();
    let state = own.random.load(Ordering::Relaxed);
    if state == 0 {
        return;
    }
    cpu::count(&own.preemptions);
    let mut random = Random::new(state);
    for _ in 0..=random.next() % PREEMPTION_PAUSES {
        core::hint::spin_loop();
    }
    let ticks = 1 + random.up_to(PREEMPTION_TICK_BITS);
    own.random.store(random.next() | 1, Ordering::Relaxed);
    apic::interrupt_after(ticks as u32);
}
