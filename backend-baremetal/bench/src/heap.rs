//! Counts allocations from the heap, so that "allocates nothing" is a number.
//!
//! Whoever measures installs [`Counting`] as the global allocator. Without it, nothing is counted,
//! and [`is_counting`] says so.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint;
use std::sync::atomic::{AtomicU64, Ordering};

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

/// The system's allocator, counted.
#[derive(Debug)]
pub struct Counting;

// SAFETY: every call is passed on as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: both contracts are the same, word for word.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `alloc` passed on what the system's allocator gave.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// How many allocations there were so far.
pub fn allocations() -> u64 {
    ALLOCATIONS.load(Ordering::Relaxed)
}

/// Whether allocations are counted in this process.
pub fn is_counting() -> bool {
    let before = allocations();
    drop(hint::black_box(Box::new(before)));
    allocations() != before
}
