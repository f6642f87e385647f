//! Processors that wait for each other.

use core::sync::atomic::{AtomicUsize, Ordering};

use super::cpu;

/// The body of every loop that waits. A `pause` is dear under an emulator with a thread per
/// processor, and indispensable under one with a single thread: so there is one now and then.
#[derive(Debug)]
pub(crate) struct Wait {
    looks: u64,
}

impl Wait {
    /// Begins to wait.
    pub(crate) fn new() -> Self {
        Self { looks: 0 }
    }

    /// Waits a moment.
    pub(crate) fn relax(&mut self) {
        self.looks += 1;
        if self.looks.is_multiple_of(32) {
            core::hint::spin_loop();
        }
    }
}

/// How long an answer is waited for that is certain to come: so many looks and so many cycles. An
/// emulator that counts instructions passes its cycles slowly, a processor its looks fast.
const LOOKS_MAX: u64 = 50_000_000;
const CYCLES_MAX: u64 = 1_000_000_000;

impl Wait {
    /// Whether an answer to a question that was put at `since`, in cycles, is overdue.
    pub(crate) fn is_overdue(&self, since: u64) -> bool {
        self.looks > LOOKS_MAX && cpu::cycles() - since > CYCLES_MAX
    }
}

/// A place where a number of processors wait for each other, again and again.
#[derive(Debug)]
pub(crate) struct Rendezvous {
    expected: usize,
    arrived: AtomicUsize,
    round: AtomicUsize,
}

impl Rendezvous {
    /// A place for `expected` processors.
    pub(crate) const fn new(expected: usize) -> Self {
        Self { expected, arrived: AtomicUsize::new(0), round: AtomicUsize::new(0) }
    }

    /// Waits until all have come.
    pub(crate) fn wait(&self) {
        let round = self.round.load(Ordering::Acquire);
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == self.expected {
            self.arrived.store(0, Ordering::Relaxed);
            self.round.fetch_add(1, Ordering::Release);
        } else {
            let mut wait = Wait::new();
            while self.round.load(Ordering::Acquire) == round {
                wait.relax();
            }
        }
    }
}
