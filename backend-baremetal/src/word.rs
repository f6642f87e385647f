//! Words and cells: atomics, at their addresses, with the ordering that a site names.
//!
//! These are all that a backend of one's own needs of a processor: nothing here knows a region.
//!
//! [`AtomicWord`] is every shared word: entries, lock words, reference counts. An entry is one in
//! the memory that the MMU reads, so it is exactly 64 bits. It is an [`AtomicU64`] in another
//! guise, made of a reference to one by [`AtomicWord::of`]; [`Words`] are the entries of a node
//! that is a slice of them, and [`fence`] is what a backend's fence is.
//!
//! [`AtomicCell`] is plain data that the core's protocol makes exclusive. A protocol error would
//! make two accesses race, and a race of plain accesses has no meaning at all in the language; so
//! accesses are relaxed atomics of the value's size, which cost the same: one `mov`.
//!
//! Every access takes the ordering of its site. A site is a constant of the core, so its value is
//! seen wherever these functions are inlined, and then the match over orderings goes away.

use core::cell::UnsafeCell;
use core::fmt;
use core::hint;
use core::mem::MaybeUninit;
use core::ptr;
use core::sync::atomic::{self, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use weft_core::sites::{FenceSite, Site};
use weft_core::sync::{CellValue, Count, Entries, LockWord, PlainCell, Word};

/// How often a waiting CPU looks at a lock word before it tries to take the lock all the same: a
/// bound, so that waiting is the core's loop and not ours. The exchange of a failed attempt takes
/// the cache line away from the holder; a look does not.
const LOOKS_MAX: u32 = 64;

/// A shared word of 64 bits.
#[derive(Debug)]
#[repr(transparent)]
pub struct AtomicWord(AtomicU64);

impl AtomicWord {
    /// An atomic, as a word.
    #[inline]
    pub const fn of(atomic: &AtomicU64) -> &Self {
        // SAFETY: a word is an atomic and nothing else, and has its layout.
        unsafe { &*ptr::from_ref(atomic).cast() }
    }

    /// Reads the word of a free frame, under the lock of the free list.
    #[inline]
    pub(crate) fn load_link(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Writes the word of a free frame, under the lock of the free list.
    #[inline]
    pub(crate) fn store_link(&self, next: u64) {
        self.0.store(next, Ordering::Relaxed);
    }

    // Always: with five orderings to choose from the function looks long, until it is known where
    // it is called from.
    #[inline(always)]
    fn exchange(&self, old: u64, new: u64, success: &Site, failure: &Site) -> Result<u64, u64> {
        self.0.compare_exchange(old, new, success.order.atomic(), failure.order.atomic())
    }
}

impl Word for AtomicWord {
    #[inline]
    fn new(_name: &'static str, value: u64) -> Self {
        Self(AtomicU64::new(value))
    }

    #[inline]
    fn load(&self, site: &'static Site) -> u64 {
        self.0.load(site.order.atomic())
    }

    #[inline]
    fn store(&self, value: u64, site: &'static Site) {
        self.0.store(value, site.order.atomic());
    }

    #[inline]
    fn swap(&self, value: u64, site: &'static Site) -> u64 {
        self.0.swap(value, site.order.atomic())
    }

    #[inline]
    fn compare_exchange(
        &self,
        current: u64,
        new: u64,
        success: &'static Site,
        failure: &'static Site,
    ) -> Result<u64, u64> {
        self.exchange(current, new, success, failure)
    }

    #[inline]
    fn fetch_add(&self, value: u64, site: &'static Site) -> u64 {
        self.0.fetch_add(value, site.order.atomic())
    }
}

impl LockWord for AtomicWord {
    #[inline]
    fn new(_name: &'static str, value: u64) -> Self {
        Self(AtomicU64::new(value))
    }

    #[inline]
    fn compare_exchange(
        &self,
        current: u64,
        new: u64,
        success: &'static Site,
        failure: &'static Site,
    ) -> Result<u64, u64> {
        self.exchange(current, new, success, failure)
    }

    #[inline]
    fn store(&self, value: u64, site: &'static Site) {
        self.0.store(value, site.order.atomic());
    }

    #[inline]
    fn relax(&self) {
        for _ in 0..LOOKS_MAX {
            hint::spin_loop();
            // Relaxed: a processor that sees the lock free here still has to take it with the
            // exchange.
            if self.0.load(Ordering::Relaxed) == 0 {
                return;
            }
        }
    }
}

impl Count for AtomicWord {
    #[inline]
    fn new(_name: &'static str, value: u64) -> Self {
        Self(AtomicU64::new(value))
    }

    #[inline]
    fn store(&self, value: u64, site: &'static Site) {
        self.0.store(value, site.order.atomic());
    }

    #[inline]
    fn fetch_add(&self, value: u64, site: &'static Site) -> u64 {
        self.0.fetch_add(value, site.order.atomic())
    }

    #[inline]
    fn fetch_sub(&self, value: u64, site: &'static Site) -> u64 {
        self.0.fetch_sub(value, site.order.atomic())
    }
}

/// The entries of a node that is a slice of atomics.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a>(pub &'a [AtomicU64]);

impl<'a> Entries<'a, AtomicWord> for Words<'a> {
    #[inline]
    fn get(self, index: usize) -> &'a AtomicWord {
        AtomicWord::of(&self.0[index])
    }
}

/// The fence that a site names, if any.
#[inline]
pub fn fence(site: &'static FenceSite) {
    if let Some(ordering) = site.order.atomic() {
        atomic::fence(ordering);
    }
}

/// Plain data of the size of `T`, 1, 2, 4 or 8 bytes, read and written as a relaxed atomic.
///
/// It holds the bits and not a `T`, so that no bit pattern of a foreign [`CellValue`] is invalid.
#[repr(transparent)]
pub struct AtomicCell<T> {
    bits: UnsafeCell<MaybeUninit<T>>,
}

// SAFETY: every access to the bits through a shared reference is atomic.
unsafe impl<T: CellValue> Sync for AtomicCell<T> {}

impl<T: CellValue> fmt::Debug for AtomicCell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

impl<T: CellValue> AtomicCell<T> {
    /// Size and alignment of an integer: what the accesses below rely on.
    const IS_AN_INTEGER: () = assert!(
        matches!(size_of::<T>(), 1 | 2 | 4 | 8) && align_of::<T>() == size_of::<T>(),
        "a cell holds what has the size and the alignment of an integer"
    );

    /// The cell as an atomic integer of its size.
    #[inline]
    fn integer<A>(&self) -> &A {
        const { Self::IS_AN_INTEGER };
        assert!(size_of::<A>() == size_of::<T>(), "a cell is accessed in its own size");
        // SAFETY: (1) `IS_AN_INTEGER` gives the alignment and the line above the size of `A`, an
        // atomic integer; (2) `new` has initialised all of its bytes; (3) no other access through
        // a shared reference exists than through this function, so all of them are atomic.
        unsafe { &*self.bits.get().cast::<A>() }
    }
}

impl<T: CellValue> PlainCell<T> for AtomicCell<T> {
    #[inline]
    fn new(_name: &'static str, value: T) -> Self {
        let cell = Self { bits: UnsafeCell::new(MaybeUninit::zeroed()) };
        cell.set(value);
        cell
    }

    #[inline]
    fn get(&self) -> T {
        let relaxed = Ordering::Relaxed;
        T::from_bits(match size_of::<T>() {
            1 => self.integer::<AtomicU8>().load(relaxed).into(),
            2 => self.integer::<AtomicU16>().load(relaxed).into(),
            4 => self.integer::<AtomicU32>().load(relaxed).into(),
            _ => self.integer::<AtomicU64>().load(relaxed),
        })
    }

    #[inline]
    fn set(&self, value: T) {
        let (bits, relaxed) = (value.to_bits(), Ordering::Relaxed);
        match size_of::<T>() {
            1 => self.integer::<AtomicU8>().store(bits as u8, relaxed),
            2 => self.integer::<AtomicU16>().store(bits as u16, relaxed),
            4 => self.integer::<AtomicU32>().store(bits as u32, relaxed),
            _ => self.integer::<AtomicU64>().store(bits, relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_give_back_what_was_put_in() {
        fn check<T: CellValue + PartialEq>(values: &[T]) {
            let cell = AtomicCell::new("cell", values[0]);
            for &value in values {
                cell.set(value);
                assert_eq!(cell.get(), value);
            }
        }
        check(&[false, true, false]);
        check(&[0, 1, u8::MAX]);
        check(&[0, 0x102, u16::MAX]);
        check(&[0, 0x0102_0304_0506_0708, u64::MAX]);
    }

    #[test]
    fn cells_are_as_large_as_their_values() {
        assert_eq!(size_of::<AtomicCell<bool>>(), 1);
        assert_eq!(size_of::<AtomicCell<u16>>(), 2);
        assert_eq!(size_of::<AtomicCell<u64>>(), 8);
    }

    #[test]
    fn neighbouring_cells_keep_their_values() {
        #[repr(C)]
        struct Pair(AtomicCell<u8>, AtomicCell<u8>);
        let pair = Pair(AtomicCell::new("left", 1), AtomicCell::new("right", 2));
        pair.0.set(u8::MAX);
        assert_eq!(pair.1.get(), 2);
    }

    #[test]
    fn waiting_for_a_lock_that_stays_held_returns() {
        let word = <AtomicWord as LockWord>::new("lock", 1);
        word.relax();
        assert_eq!(word.0.into_inner(), 1);
    }
}
