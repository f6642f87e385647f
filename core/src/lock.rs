//! The node lock that ships: one word, taken by compare-exchange, given back by a store.
//!
//! A failed attempt waits in [`LockWord::relax`], the only part that a backend plays: hardware
//! pauses, a model parks the CPU until the word is written. The exchange and the store are the
//! ones that run in production, so a model that weakens them weakens the real lock.
//!
//! The lock is unfair: a CPU may be overtaken any number of times. Progress of the whole is what
//! the protocol needs, and a kernel that wants more plugs in another [`RawLock`].

use crate::sites::site;
use crate::sync::{LockWord, RawLock};

const FREE: u64 = 0;
const HELD: u64 = 1;

/// A spin lock on a word of the backend.
#[derive(Debug)]
#[repr(transparent)]
pub struct SpinLock<W> {
    word: W,
}

// SAFETY: only an exchange from free to held succeeds, and only a release makes the word free; the
// exchange acquires what the release stored.
unsafe impl<W: LockWord> RawLock for SpinLock<W> {
    fn new(name: &'static str) -> Self {
        Self { word: W::new(name, FREE) }
    }

    #[inline]
    fn acquire(&self) {
        while !self.try_acquire() {
            self.word.relax();
        }
    }

    #[inline]
    fn try_acquire(&self) -> bool {
        self.word.compare_exchange(FREE, HELD, site!(LOCK_ACQUIRE), site!(LOCK_CONTENDED)).is_ok()
    }

    #[inline]
    fn make_held(&self) {
        self.word.store(HELD, site!(LOCK_BORN_HELD));
    }

    #[inline]
    fn make_free(&self) {
        self.word.store(FREE, site!(LOCK_BORN_HELD));
    }

    #[inline]
    fn release(&self) {
        self.word.store(FREE, site!(LOCK_RELEASE));
    }
}
