//! What a change of a table still owes: translations to flush, frames to retire.
//!
//! Whoever takes something out of a table, or takes a right away, puts it in a gather and pays
//! later, once for all of it: *first* the flush, on every CPU that may hold a translation, *then*
//! the batch goes to its grace period. A translation that outlived the batch's retirement could
//! outlive the frame.
//!
//! One page is flushed by its address. From the second on everything is: what an interrupt of
//! another CPU costs does not depend on how much it flushes.
//!
//! After Linux's `mmu_gather` (`include/asm-generic/tlb.h`), which collects for the same reason.

use crate::address::{CpuSet, Vaddr};
use crate::reclaim::{Batch, Erased, Reclaim};
use crate::sync::{Backend, Event, Flush};

/// Translations to flush, and frames to retire once that is done.
#[derive(Debug)]
pub(crate) struct Gather<B: Backend> {
    owed: Option<Flush>,
    batch: Batch<B>,
}

impl<B: Backend> Gather<B> {
    /// Nothing owed.
    #[inline]
    pub(crate) fn new(backend: &B) -> Self {
        Self { owed: None, batch: Batch::new(backend) }
    }

    /// The translation of the page at `vaddr` is to be flushed.
    #[inline]
    pub(crate) fn owe_page(&mut self, vaddr: Vaddr) {
        let page = Flush::Page(vaddr);
        let fresh = self.owed.is_none_or(|owed| owed == page);
        self.owed = Some(if fresh { page } else { Flush::Everything });
    }

    /// Everything is to be flushed.
    #[inline]
    pub(crate) fn owe_everything(&mut self) {
        self.owed = Some(Flush::Everything);
    }

    /// This reference is to be retired. What was reachable through it is owed already.
    pub(crate) fn push(&mut self, reference: Erased<B>) {
        self.batch.backend().observe(Event::Retired(reference.paddr()));
        self.batch.push(reference);
    }

    /// Flushes what is owed.
    #[inline]
    pub(crate) fn flush(&mut self) {
        if let Some(what) = self.owed.take() {
            // Who may hold a translation is not known here, so nobody is left out.
            self.batch.backend().flush(what, CpuSet::ALL);
        }
    }

    /// Pays everything: flushes, then hands the batch over.
    #[inline(never)]
    pub(crate) fn pay(&mut self) {
        self.flush();
        if !self.batch.is_empty() {
            self.retire();
        }
    }

    fn retire(&mut self) {
        let backend = self.batch.backend().clone();
        let batch = core::mem::replace(&mut self.batch, Batch::new(&backend));
        // SAFETY: both are the batch's, and its own backend is the one it belongs to.
        unsafe { backend.reclaim().retire(&backend, batch) };
    }
}

impl<B: Backend> Drop for Gather<B> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.owed.is_some() || !self.batch.is_empty() {
            self.pay();
        }
    }
}
