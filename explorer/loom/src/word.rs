//! What every object of a program has: a word of the execution, and where it was made.

use std::sync::atomic::Ordering;

use weft_explorer::Atomic;
use weft_explorer::facade::Origin;

/// A word of the engine, in memory of the program: using it checks that the memory was not freed,
/// and that the word was made before.
#[derive(Debug)]
pub(crate) struct Word {
    atomic: Atomic,
    origin: Origin,
}

impl Word {
    #[track_caller]
    pub(crate) fn new(value: u64) -> Word {
        Word { atomic: Atomic::new(value), origin: Origin::here() }
    }

    /// The word, to be used as `what`.
    #[track_caller]
    pub(crate) fn enter(&self, what: &'static str) -> &Atomic {
        self.origin.check(what, self);
        &self.atomic
    }

    /// Takes a token that another thread gives, or waits until it does.
    #[track_caller]
    pub(crate) fn take_token(&self, what: &'static str) {
        self.enter(what).await_cas(1, 0, Ordering::Acquire);
    }

    /// Gives a token, if there is none. All who have given it come before it is taken.
    #[track_caller]
    pub(crate) fn give_token(&self, what: &'static str) {
        self.enter(what).swap(1, Ordering::Release);
    }
}
