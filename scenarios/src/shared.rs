//! What CPUs share besides page tables: the words, notes and locks of a kernel that uses them.
//!
//! Most historical races are in the code that calls: a queue of deferred flushes, a flag that says
//! that a flush is pending, a list of addresses to be given out again. A race that needs such a
//! thing holds one of these, and every checker sees each access.
//!
//! * [`SharedWord`]: an atomic word. The methods say their ordering, where it is not relaxed.
//! * [`KernelLock`]: a lock of the kind that nodes have. One that interrupt handlers take is taken
//!   with interrupts masked everywhere else.
//! * Plain data that a lock or a word protects is a [`PlainCell`](weft_core::sync::PlainCell): two
//!   accesses that nothing orders are a failure in the models.

use core::fmt;

use weft_core::sites::{Evidence, Order, Row, Site};
use weft_core::sync::{RawLock, Word};

use crate::world::World;

/// The site of a race's own accesses: of no row of the core's table, so that no sabotage means it.
const fn own(name: &'static str, order: Order) -> Site {
    let evidence = Evidence::Relaxed;
    let row = Row { name, index: usize::MAX, partners: &[], carries: "a race's own", evidence };
    Site { row, order, place: None }
}

const RELAXED: &Site = &own("relaxed", Order::Relaxed);
const ACQUIRE: &Site = &own("acquire", Order::Acquire);
const RELEASE: &Site = &own("release", Order::Release);
const ACQUIRE_RELEASE: &Site = &own("acquire and release", Order::AcqRel);

/// An atomic word of a kernel's own.
pub struct SharedWord<B: World> {
    word: B::Word,
}

impl<B: World> fmt::Debug for SharedWord<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedWord").finish_non_exhaustive()
    }
}

impl<B: World> SharedWord<B> {
    /// A word that holds `value`; `name` is what reports call it.
    #[track_caller]
    pub fn new(name: &'static str, value: u64) -> Self {
        Self { word: B::Word::new(name, value) }
    }

    /// Loads the word.
    #[track_caller]
    pub fn load(&self) -> u64 {
        self.word.load(RELAXED)
    }

    /// Loads the word: what came before the store that is read has happened.
    #[track_caller]
    pub fn load_acquire(&self) -> u64 {
        self.word.load(ACQUIRE)
    }

    /// Stores `value`.
    #[track_caller]
    pub fn store(&self, value: u64) {
        self.word.store(value, RELAXED);
    }

    /// Stores `value`, after everything that the CPU did before.
    #[track_caller]
    pub fn store_release(&self, value: u64) {
        self.word.store(value, RELEASE);
    }

    /// Stores `value` and returns what was there, ordered with what came before and what follows.
    #[track_caller]
    pub fn swap(&self, value: u64) -> u64 {
        self.word.swap(value, ACQUIRE_RELEASE)
    }

    /// Adds `value` and returns what was there, ordered with what came before and what follows.
    #[track_caller]
    pub fn fetch_add(&self, value: u64) -> u64 {
        self.word.fetch_add(value, ACQUIRE_RELEASE)
    }
}

/// A lock of a kernel's own.
pub struct KernelLock<B: World> {
    lock: B::NodeLock,
}

impl<B: World> fmt::Debug for KernelLock<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KernelLock").finish_non_exhaustive()
    }
}

impl<B: World> KernelLock<B> {
    /// A free lock; `name` is what reports call it.
    #[track_caller]
    pub fn new(name: &'static str) -> Self {
        Self { lock: B::NodeLock::new(name) }
    }

    /// Calls `body` with the lock held.
    #[track_caller]
    pub fn with<R>(&self, body: impl FnOnce() -> R) -> R {
        self.lock.acquire();
        let result = body();
        self.lock.release();
        result
    }
}
