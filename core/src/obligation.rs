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
//! *What.* One page is flushed by its address. From the second on everything is: what an interrupt
//! of another CPU costs hardly depends on how much it flushes.
//!
//! After Linux's `mmu_gather` (`include/asm-generic/tlb.h`), which collects for the same reason.

use core::ops::Range;

use crate::address::Vaddr;
use crate::reclaim::{Batch, Erased, Reclaim};
use crate::sync::{Backend, Event, Flush};

/// Translations to flush, and frames to retire once that is done.
#[derive(Debug)]
#[must_use = "dropping it here flushes at once"]
pub(crate) struct Obligation<B: Backend> {
    /// Translations of what was there.
    owed: Option<Flush>,
    /// What caches may hold of entries that were absent, in formats where they do.
    absent: Option<Flush>,
    batch: Batch<B>,
}

/// Both flushes in one.
#[inline]
fn both(one: Option<Flush>, other: Option<Flush>) -> Option<Flush> {
    match (one, other) {
        (Some(one), Some(other)) if one != other => Some(Flush::Everything),
        (one, other) => one.or(other),
    }
}

impl<B: Backend> Obligation<B> {
    /// Nothing owed.
    #[inline]
    pub(crate) fn new(backend: &B) -> Self {
        Self { owed: None, absent: None, batch: Batch::new(backend) }
    }

    /// These translations are to be flushed.
    #[inline]
    pub(crate) fn owe(&mut self, what: Flush) {
        self.owed = both(self.owed, Some(what));
    }

    /// Something was put where nothing was: caches are to forget that nothing was there.
    #[inline]
    pub(crate) fn owe_absent(&mut self, what: Flush) {
        self.absent = both(self.absent, Some(what));
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
        let within = |page: Vaddr| page.as_u64().wrapping_sub(addresses.start.as_u64());
        match self.owed {
            None => {}
            Some(Flush::Page(page)) if within(page) >= within(addresses.end) => {}
            Some(_) => self.flush(),
        }
    }

    /// Whether translations are owed.
    #[inline]
    pub(crate) fn has_flush(&self) -> bool {
        self.owed.is_some() || self.absent.is_some()
    }

    /// Flushes what is owed.
    #[inline]
    pub(crate) fn flush(&mut self) {
        if let Some(what) = both(self.owed, self.absent) {
            self.batch.backend().flush(what);
            // Not before: if the flush panics, it is still owed, and nothing is retired.
            (self.owed, self.absent) = (None, None);
        }
    }

    /// Pays everything: flushes, then hands the batch over.
    #[inline(never)]
    pub(crate) fn pay(&mut self) {
        self.flush();
        if !self.batch.is_empty() {
            let backend = self.batch.backend().clone();
            let batch = core::mem::replace(&mut self.batch, Batch::new(&backend));
            // SAFETY: both are the batch's, and its own backend is the one it belongs to.
            unsafe { backend.reclaim().retire(&backend, batch) };
        }
    }
}

impl<B: Backend> Drop for Obligation<B> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.has_flush() || !self.batch.is_empty() {
            self.pay();
        }
    }
}
