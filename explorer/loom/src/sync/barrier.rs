//! A barrier: a count of arrivals, and a word that says how many generations have passed.

use std::sync::atomic::Ordering;

use crate::word::Word;

/// `std::sync::Barrier`.
#[derive(Debug)]
pub struct Barrier {
    size: u64,
    arrived: Word,
    passed: Word,
}

/// `std::sync::BarrierWaitResult`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BarrierWaitResult(bool);

impl Barrier {
    /// A barrier that lets so many threads pass together.
    #[track_caller]
    pub fn new(size: usize) -> Barrier {
        Barrier { size: size.max(1) as u64, arrived: Word::new(0), passed: Word::new(0) }
    }

    /// Waits until as many threads have come as pass together. The last one leads.
    #[track_caller]
    pub fn wait(&self) -> BarrierWaitResult {
        let before = self.arrived.enter("Barrier").fetch_add(1, Ordering::AcqRel);
        let generation = before / self.size;
        let leads = before % self.size == self.size - 1;
        let passed = self.passed.enter("Barrier");
        if leads {
            passed.store(generation + 1, Ordering::Release);
        } else {
            passed.await_ne(generation, Ordering::Acquire);
        }
        BarrierWaitResult(leads)
    }
}

impl BarrierWaitResult {
    /// Whether the thread came last.
    pub fn is_leader(&self) -> bool {
        self.0
    }
}
