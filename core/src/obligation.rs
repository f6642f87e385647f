//! What a change of a table still owes: translations to flush, frames to retire.
//!
//! Every operation that takes something out of a table, or takes a right away, notes it in an
//! *obligation* before it changes the entry. The obligation is paid later, once for all of it:
//!
//! 1. *flush*, on every CPU that may hold a translation;
//! 2. *retire*: hand the frames to their grace period.
//!
//! The order matters. A translation that outlives the retirement could outlive the frame, because
//! no grace period ends it. Dropping an obligation pays it; forgetting one leaks frames, and frees
//! none.
//!
//! *When.* Before the range, or the parent of a node that was taken out, is unlocked: a CPU that
//! locks it next may map something there. For the same reason an operation that puts something
//! where a translation is still owed settles that first.
//!
//! *What.* Pages of one size that lie close together are flushed one by one, up to
//! [`Backend::FLUSH_PAGES_MAX`]; beyond that, everything is. What lies between two pages is then
//! flushed too, which costs less than a list. Nodes that were taken out are noted: they concern
//! CPUs that pages do not.
//!
//! *On which CPUs.* Those that hold translations of the table's [address space](crate::space).
//!
//! After Linux's `mmu_gather` (`include/asm-generic/tlb.h`), which collects for the same reason.

use core::ops::Range;

use crate::address::Vaddr;
use crate::format::Fence;
use crate::reclaim::{Batch, Erased, Paid, Reclaim};
use crate::space::{Flush, Space};
use crate::sync::{Backend, Event};

/// Translations that are owed: of pages of one size, or all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Owed {
    Nothing,
    /// `length` is a power of 2.
    Pages {
        first: Vaddr,
        length: u64,
        count: u64,
    },
    Everything,
}

impl Owed {
    /// The page of `length` bytes at an address.
    #[inline]
    pub(crate) fn page(first: Vaddr, length: u64) -> Self {
        Self::pages(first, length, 1)
    }

    /// So many pages from an address on.
    #[inline]
    pub(crate) fn pages(first: Vaddr, length: u64, count: u64) -> Self {
        Self::Pages { first, length, count }
    }

    /// What has to go of what is cached of these pages, by the fence that the format asks for.
    #[inline]
    pub(crate) fn by(self, fence: Fence) -> Self {
        match fence {
            Fence::Nothing => Self::Nothing,
            Fence::Page => self,
            Fence::Everything => Self::Everything,
        }
    }

    /// Both.
    #[inline]
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nothing, owed) | (owed, Self::Nothing) => owed,
            (
                Self::Pages { first, length, count },
                Self::Pages { first: start, length: same, count: more },
            ) if length == same => {
                // Counted from the lower one, since behind the last address comes 0.
                let low = first.min(start);
                let number =
                    |page: Vaddr| (page.as_u64() - low.as_u64()) >> length.trailing_zeros();
                let end = |page: Vaddr, count: u64| number(page) + count;
                Self::pages(low, length, end(first, count).max(end(start, more)))
            }
            _ => Self::Everything,
        }
    }

    /// As the CPUs are told; `None` for nothing.
    fn flush<B: Backend>(self) -> Option<Flush> {
        match self {
            Self::Nothing => None,
            Self::Pages { first, count: 1, .. } => Some(Flush::Page(first)),
            Self::Pages { first, length, count } if count <= B::FLUSH_PAGES_MAX.into() => {
                Some(Flush::Pages { first, length, count: count as u32 })
            }
            Self::Pages { .. } | Self::Everything => Some(Flush::Everything),
        }
    }
}

/// Translations to flush, and frames to retire once that is done.
#[derive(Debug)]
#[must_use = "dropping it here flushes at once"]
pub(crate) struct Obligation<'g, B: Backend> {
    space: Space<'g, B>,
    /// Translations of what was there.
    owed: Owed,
    /// What caches may hold of entries that were absent.
    absent: Owed,
    /// Whether nodes are among what was there.
    nodes: bool,
    batch: Batch<B>,
}

impl<'g, B: Backend> Obligation<'g, B> {
    /// Nothing owed.
    #[inline]
    pub(crate) fn new(space: Space<'g, B>) -> Self {
        let batch = Batch::new(space.backend());
        Self { space, owed: Owed::Nothing, absent: Owed::Nothing, nodes: false, batch }
    }

    /// These translations are to be flushed.
    #[inline]
    pub(crate) fn owe(&mut self, what: Owed) {
        self.owed = self.owed.and(what);
    }

    /// A node is taken out: this is to be flushed, also by CPUs that only walk ahead.
    #[inline]
    pub(crate) fn owe_node(&mut self, what: Owed) {
        self.nodes = true;
        self.owe(what);
    }

    /// Something was put where nothing was: caches are to forget that nothing was there.
    #[inline]
    pub(crate) fn owe_absent(&mut self, what: Owed) {
        // Without a copy, where the format has nothing flushed.
        if what != Owed::Nothing {
            self.absent = self.absent.and(what);
        }
    }

    /// This reference is to be retired. What was reachable through it is owed already.
    pub(crate) fn push(&mut self, reference: Erased<B>) {
        self.batch.backend().observe(Event::Retired(reference.paddr()));
        self.batch.push(reference);
    }

    /// Flushes what is owed of these addresses: something else is about to be put there.
    #[inline]
    pub(crate) fn settle(&mut self, addresses: &Range<Vaddr>) {
        // Counted from the start, because behind the last address comes 0.
        let start = addresses.start.as_u64();
        let length = addresses.end.as_u64().wrapping_sub(start);
        match self.owed {
            Owed::Nothing => {}
            Owed::Pages { first, length: page, count }
                if first.as_u64().wrapping_sub(start) >= length
                    && start.wrapping_sub(first.as_u64()) >= page * count => {}
            Owed::Pages { .. } | Owed::Everything => self.flush(),
        }
    }

    /// Whether translations are owed.
    #[inline]
    pub(crate) fn has_flush(&self) -> bool {
        self.owed != Owed::Nothing || self.absent != Owed::Nothing
    }

    /// Flushes what is owed.
    #[inline]
    pub(crate) fn flush(&mut self) {
        if let Some(flush) = self.owed.and(self.absent).flush::<B>() {
            self.space.shoot_down(flush, self.nodes);
            self.batch.backend().observe(Event::Flushed(flush));
            // Not before: if the flush panics, it is still owed, and nothing is retired.
            (self.owed, self.absent, self.nodes) = (Owed::Nothing, Owed::Nothing, false);
        }
    }

    /// Pays everything: flushes, then hands the batch over.
    #[inline(never)]
    pub(crate) fn pay(&mut self) {
        self.flush();
        if !self.batch.is_empty() {
            let backend = self.batch.backend().clone();
            let batch = core::mem::replace(&mut self.batch, Batch::new(&backend));
            // SAFETY: what leads to its frames was owed before they were pushed, and the flush
            // above is over.
            let paid = unsafe { Paid::new(batch) };
            // SAFETY: both are the batch's, and its own backend is the one it belongs to.
            unsafe { backend.reclaim().retire(&backend, paid) };
        }
    }
}

impl<B: Backend> Drop for Obligation<'_, B> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.has_flush() || !self.batch.is_empty() {
            self.pay();
        }
    }
}
