//! Processors that wait for each other.

use core::sync::atomic::{AtomicUsize, Ordering};

/// The body of every loop that waits. A `pause` is dear under an emulator with a thread per
/// processor, and indispensable under one with a single thread: so there is one now and then.
#[derive(Debug)]
pub(crate) struct Wait {
    looks: u32,
}

impl Wait {
    /// Begins to wait.
    pub(crate) fn new() -> Self {
        Self { looks: 0 }
    }

    /// Waits a moment.
    pub(crate) fn relax(&mut self) {
        self.looks = self.looks.wrapping_add(1);
        if self.looks.is_multiple_of(32) {
            core::hint::spin_loop();
        }
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
