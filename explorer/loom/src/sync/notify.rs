//! loom's `Notify`: a token that one thread waits for.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::word::Word;

/// A notification that one thread at a time waits for. No wait ends without one.
#[derive(Debug)]
pub struct Notify {
    token: Word,
    waiting: AtomicBool,
}

impl Notify {
    /// No notification so far.
    #[track_caller]
    pub fn new() -> Notify {
        Notify { token: Word::new(0), waiting: AtomicBool::new(false) }
    }

    /// Lets a wait end, the one that goes on or the next one.
    #[track_caller]
    pub fn notify(&self) {
        self.token.give_token("Notify");
    }

    /// Waits for a notification.
    ///
    /// # Panics
    /// If another thread waits.
    #[track_caller]
    pub fn wait(&self) {
        let before = self.waiting.swap(true, Ordering::Relaxed);
        assert!(!before, "only a single thread may wait on `Notify`");
        self.token.take_token("Notify");
        self.waiting.store(false, Ordering::Relaxed);
    }
}

impl Default for Notify {
    #[track_caller]
    fn default() -> Notify {
        Notify::new()
    }
}
