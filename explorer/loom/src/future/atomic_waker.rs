//! A place for a waker, as many crates have one.

use std::sync::PoisonError;
use std::task::Waker;

use crate::sync::Mutex;

/// A waker that one task registers, and others wake.
#[derive(Debug)]
pub struct AtomicWaker {
    waker: Mutex<Option<Waker>>,
}

impl AtomicWaker {
    /// No waker so far.
    #[track_caller]
    pub fn new() -> AtomicWaker {
        AtomicWaker { waker: Mutex::new(None) }
    }

    /// Registers a waker in place of the one before. While another thread takes that, the new one
    /// is woken at once.
    #[track_caller]
    pub fn register(&self, waker: Waker) {
        match self.waker.try_lock() {
            Ok(mut slot) => {
                let before = slot.replace(waker);
                drop(slot);
                drop(before);
            }
            Err(_) => {
                waker.wake();
                // The next attempt does not meet the same thread.
                drop(self.waker.lock());
            }
        }
    }

    /// Registers a waker in place of the one before.
    #[track_caller]
    pub fn register_by_ref(&self, waker: &Waker) {
        self.register(waker.clone());
    }

    /// Wakes the task that has registered last, if any has.
    #[track_caller]
    pub fn wake(&self) {
        if let Some(waker) = self.take_waker() {
            waker.wake();
        }
    }

    /// The waker that was registered last, to be woken later.
    #[track_caller]
    pub fn take_waker(&self) -> Option<Waker> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Default for AtomicWaker {
    #[track_caller]
    fn default() -> AtomicWaker {
        AtomicWaker::new()
    }
}
