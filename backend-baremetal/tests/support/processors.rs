//! Processors of a test: threads, from which frames can be kept.

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use weft_backend_baremetal::backend::Processors;
use weft_backend_baremetal::frame::Region;
use weft_backend_baremetal::hosted::Threads;
use weft_backend_baremetal::word::AtomicWord;
use weft_core::address::{CpuId, Paddr};
use weft_core::format::X86_64;
use weft_core::geometry::Geometry;
use weft_core::grace::Monitor;
use weft_core::sync::{Backend, Hardware, TaggedRoot};

/// No allocation is going to fail.
const NONE: u64 = u64::MAX;

/// An allocation that is to fail.
#[derive(Debug)]
pub(crate) struct Failing {
    /// How many more allocations succeed before one fails, or [`NONE`].
    until_failure: AtomicU64,
}

impl Default for Failing {
    fn default() -> Self {
        Self { until_failure: AtomicU64::new(NONE) }
    }
}

impl Failing {
    /// Makes one allocation fail as if no frame were left: the next one but `allocations`.
    pub(crate) fn after(&self, allocations: u64) {
        self.until_failure.store(allocations, Ordering::Relaxed);
    }

    /// Takes back what [`after`](Self::after) asked for. Returns whether it was still to come, so
    /// that a test notices when there are no more allocations to fail.
    pub(crate) fn cancel(&self) -> bool {
        self.until_failure.swap(NONE, Ordering::Relaxed) != NONE
    }

    /// Counts an allocation towards the one that is to fail. Whether this is it.
    pub(crate) fn is_now(&self) -> bool {
        let count = |left: u64| match left {
            NONE => None,
            0 => Some(NONE),
            _ => Some(left - 1),
        };
        self.until_failure.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count) == Ok(0)
    }
}

/// Threads of a host whose allocations can be made to fail, and are known.
#[derive(Debug, Default)]
pub(crate) struct Tested {
    /// The threads that play processors.
    pub(crate) threads: Threads,
    failing: Failing,
    in_use: Mutex<BTreeSet<Paddr>>,
}

impl Tested {
    /// See [`Failing::after`].
    pub(crate) fn fail_after(&self, allocations: u64) {
        self.failing.after(allocations);
    }

    /// See [`Failing::cancel`].
    pub(crate) fn cancel_failure(&self) -> bool {
        self.failing.cancel()
    }

    /// The frames that are in use.
    pub(crate) fn in_use(&self) -> MutexGuard<'_, BTreeSet<Paddr>> {
        self.in_use.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Threads of a host that say of themselves that they stand on the roots that they load.
/// Their hardware walks tables of one geometry, in the format of x86-64.
#[derive(Debug)]
pub(crate) struct Standing<G> {
    /// The threads that play processors.
    pub(crate) threads: Threads,
    walks: PhantomData<G>,
}

impl<G> Default for Standing<G> {
    fn default() -> Self {
        Self { threads: Threads::default(), walks: PhantomData }
    }
}

// SAFETY: everything is passed on to threads, which keep the promises; (5) to say that they stand
// on roots, although they do not, allows less.
unsafe impl<G: Geometry> Processors for Standing<G> {
    type Reclaim<B: Backend> = Monitor<B>;
    type LockWord = AtomicWord;
    type Word = AtomicWord;

    const HARDWARE: Option<Hardware> = Some(Hardware::of::<X86_64, G>());

    fn entry(word: &AtomicWord) -> &AtomicWord {
        word
    }

    fn cpu(&self) -> CpuId {
        self.threads.cpu()
    }

    unsafe fn load_root(&self, root: Option<TaggedRoot>) {
        // SAFETY: both contracts say the same, word for word.
        unsafe { self.threads.load_root(root) }
    }
}

// SAFETY: everything is passed on to threads, which keep the promises.
unsafe impl Processors for Tested {
    type Reclaim<B: Backend> = Monitor<B>;
    type LockWord = AtomicWord;
    type Word = AtomicWord;

    const HARDWARE: Option<Hardware> = None;

    fn entry(word: &AtomicWord) -> &AtomicWord {
        word
    }

    fn cpu(&self) -> CpuId {
        self.threads.cpu()
    }

    unsafe fn load_root(&self, root: Option<TaggedRoot>) {
        // SAFETY: both contracts say the same, word for word.
        unsafe { self.threads.load_root(root) }
    }

    fn allocate<B: Backend>(&self, region: &Region<B>) -> Option<Paddr> {
        if self.failing.is_now() {
            return None;
        }
        let frame = self.threads.allocate(region)?;
        assert!(self.in_use().insert(frame), "{frame:?} was given out twice");
        Some(frame)
    }

    unsafe fn free<B: Backend>(&self, region: &Region<B>, frame: Paddr) {
        assert!(self.in_use().remove(&frame), "{frame:?} was given back twice");
        // SAFETY: both contracts say the same, word for word.
        unsafe { self.threads.free(region, frame) }
    }
}
