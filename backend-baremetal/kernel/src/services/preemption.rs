//! Preemption: while a role is played, the timer interrupts its processor again and again after
//! random times, and the handler lets the others run for a while. On a real machine that is a delay
//! in the middle of anything; under an emulator that runs one processor at a time it is what makes
//! their steps interleave at all.
//!
//! A user's access is one instruction, which the timer rarely hits. So a processor may be preempted
//! just before or behind one as well, whatever the timer says. It is, too, when it has answered a
//! request to flush: otherwise it would go on while the sender still waits, and be through with
//! what the sender's next step races with.

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

/// Before one in so many users' accesses, and behind as many, the processor is preempted.
const ACCESSES_PER_PREEMPTION: u64 = 4;
/// The most pauses of such a preemption: the others can end what they are about.
const ACCESS_PAUSES: u64 = 16;
/// The most pauses behind an answer.
const ANSWER_PAUSES: u64 = 64;

/// Carries a user's access out, and lets others run before and behind, now and then.
pub(crate) fn around<T>(access: impl FnOnce() -> T) -> T {
    let_others_run_in_one_of(ACCESSES_PER_PREEMPTION, ACCESS_PAUSES);
    let result = access();
    let_others_run_in_one_of(ACCESSES_PER_PREEMPTION, ACCESS_PAUSES);
    result
}

/// A request to flush was answered: lets others run, the sender among them. Called by the handler.
pub(crate) fn answered() {
    let_others_run_in_one_of(1, ANSWER_PAUSES);
}

/// Lets others run in one of so many cases, for at most so many pauses, while a role is played.
fn let_others_run_in_one_of(cases: u64, pauses_max: u64) {
    let own = cpu::this();
    let state = own.random.load(Ordering::Relaxed);
    if state == 0 {
        return;
    }
    let mut random = Random::new(state);
    let is_preempted = random.below(cases) == 0;
    own.random.store(random.next() | 1, Ordering::Relaxed);
    if is_preempted {
        let_others_run(&mut random, pauses_max);
    }
}

fn let_others_run(random: &mut Random, pauses_max: u64) {
    for _ in 0..=random.next() % pauses_max {
        core::hint::spin_loop();
    }
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
    let_others_run(&mut random, PREEMPTION_PAUSES);
    let ticks = 1 + random.up_to(PREEMPTION_TICK_BITS);
    own.random.store(random.next() | 1, Ordering::Relaxed);
    apic::interrupt_after(ticks as u32);
}
