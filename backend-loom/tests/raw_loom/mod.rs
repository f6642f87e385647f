//! loom's own words behind the engine trait: what the loom engine would be without companions.
//!
//! It exists to show that the detectors detect: it must lose outcomes that our words keep.

use std::sync::atomic::Ordering;

use loom::sync::atomic::AtomicU64;
use weft_backend_loom::engine::{Access, Engine, EngineWord, Exploration, Program, Search, Traits};
use weft_backend_loom::loom::{Loom, LoomPlain};

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RawLoom;

impl Engine for RawLoom {
    fn traits() -> &'static Traits {
        Loom::traits()
    }

    type Word = RawWord;
    type Plain = LoomPlain;

    fn fence(order: Ordering) {
        Loom::fence(order);
    }

    fn cpu() -> usize {
        Loom::cpu()
    }

    fn explore(search: &Search, program: Program) -> Exploration {
        Loom::explore(search, program)
    }
}

#[derive(Debug)]
pub(crate) struct RawWord(AtomicU64);

impl EngineWord for RawWord {
    fn new(value: u64, _access: Access) -> Self {
        Self(AtomicU64::new(value))
    }

    fn load(&self, order: Ordering) -> u64 {
        self.0.load(order)
    }

    fn store(&self, value: u64, order: Ordering) {
        self.0.store(value, order);
    }

    fn swap(&self, value: u64, order: Ordering) -> u64 {
        self.0.swap(value, order)
    }

    fn compare_exchange(
        &self,
        old: u64,
        new: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        self.0.compare_exchange(old, new, success, failure)
    }

    fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        self.0.fetch_add(value, order)
    }

    fn fetch_sub(&self, value: u64, order: Ordering) -> u64 {
        self.0.fetch_sub(value, order)
    }

    fn fetch_and(&self, value: u64, order: Ordering) -> u64 {
        self.0.fetch_and(value, order)
    }

    fn fetch_or(&self, value: u64, order: Ordering) -> u64 {
        self.0.fetch_or(value, order)
    }

    fn wait_for_change(&self) {
        loom::thread::yield_now();
    }
}
