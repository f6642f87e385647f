//! The production backend's words, with what a kernel that tests itself wants to know and to break.
//!
//! [`WatchedWord`] is the word of a lock; it tells when a CPU waits. It does so by counting, in
//! place: a call, even on the way that only a waiting CPU takes, would make every CPU that locks
//! save registers for it. `qemu-runner/tests/code_generation` reads from the image that none does.
//!
//! [`EntryWord`] is an entry. In a world that is sabotaged so, its updates are a load and a store,
//! with a pause in between for others, the MMU among them, to come in.

use weft_backend_baremetal::word::AtomicWord;
use weft_core::sites::{ENTRY_RETRY, Site};
use weft_core::sync::{LockWord, Word};
use weft_scenarios::sabotage::Sabotage;

use super::sabotage::is_chosen;
use super::situations;

/// How long an update that is torn in two rests in between, in pauses.
const TORN_PAUSES: u32 = 16;

/// An entry.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct EntryWord(AtomicWord);

/// Lets others come in.
fn rest() {
    (0..TORN_PAUSES).for_each(|_| core::hint::spin_loop());
}

impl Word for EntryWord {
    fn new(name: &'static str, value: u64) -> Self {
        Self(Word::new(name, value))
    }

    #[inline]
    fn load(&self, site: &'static Site) -> u64 {
        Word::load(&self.0, site)
    }

    #[inline]
    fn store(&self, value: u64, site: &'static Site) {
        Word::store(&self.0, value, site);
    }

    #[inline]
    fn swap(&self, value: u64, site: &'static Site) -> u64 {
        if !is_chosen(Sabotage::TornUpdates) {
            return Word::swap(&self.0, value, site);
        }
        let found = Word::load(&self.0, &ENTRY_RETRY);
        rest();
        Word::store(&self.0, value, site);
        found
    }

    // Always: with orderings to choose from the function looks long, until it is known which sites
    // the caller names.
    #[inline(always)]
    fn compare_exchange(
        &self,
        current: u64,
        new: u64,
        success: &'static Site,
        failure: &'static Site,
    ) -> Result<u64, u64> {
        if is_chosen(Sabotage::TornUpdates) && Word::load(&self.0, failure) == current {
            rest();
            Word::store(&self.0, new, success);
            return Ok(current);
        }
        Word::compare_exchange(&self.0, current, new, success, failure)
    }

    /// Whole in every world: it counts CPUs and flushes, and changes no entry.
    #[inline]
    fn fetch_add(&self, value: u64, site: &'static Site) -> u64 {
        Word::fetch_add(&self.0, value, site)
    }
}

/// The word of a lock that notes when a CPU waits for it.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct WatchedWord(AtomicWord);

impl LockWord for WatchedWord {
    fn new(name: &'static str, value: u64) -> Self {
        Self(LockWord::new(name, value))
    }

    #[inline]
    fn compare_exchange(
        &self,
        current: u64,
        new: u64,
        success: &'static Site,
        failure: &'static Site,
    ) -> Result<u64, u64> {
        LockWord::compare_exchange(&self.0, current, new, success, failure)
    }

    #[inline]
    fn store(&self, value: u64, site: &'static Site) {
        LockWord::store(&self.0, value, site);
    }

    #[inline]
    fn relax(&self) {
        situations::count_contention();
        LockWord::relax(&self.0);
    }
}
