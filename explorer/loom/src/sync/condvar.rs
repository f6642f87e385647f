//! A condition variable: who waits, in a word, and a token for each thread.

use std::sync::atomic::Ordering;
use std::sync::{LockResult, PoisonError};
use std::time::Duration;

use weft_explorer::{choose, thread_id};

use super::{Mutex, MutexGuard};
use crate::MAX_THREADS;
use crate::word::Word;

/// `std::sync::Condvar`. A notification is for a thread that waits then, any of them; no wait ends
/// without one.
#[derive(Debug)]
pub struct Condvar {
    /// One bit for each thread that waits.
    waiting: Word,
    tokens: [Word; MAX_THREADS],
}

/// `std::sync::WaitTimeoutResult`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WaitTimeoutResult(bool);

impl Condvar {
    /// A condition variable for which no thread waits.
    #[track_caller]
    pub fn new() -> Condvar {
        Condvar { waiting: Word::new(0), tokens: std::array::from_fn(|_| Word::new(0)) }
    }

    /// Unlocks the mutex, waits for a notification, and locks the mutex again.
    ///
    /// # Errors
    /// None.
    #[track_caller]
    pub fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        let thread = thread_id();
        self.waiting.enter("Condvar").fetch_or(1 << thread, Ordering::AcqRel);
        let mutex: &'a Mutex<T> = guard.mutex;
        drop(guard);
        self.tokens[thread].take_token("Condvar");
        mutex.lock()
    }

    /// As [`Condvar::wait`]: it does not time out.
    ///
    /// # Errors
    /// None.
    #[track_caller]
    pub fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        _duration: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        let guard = self.wait(guard).unwrap_or_else(PoisonError::into_inner);
        Ok((guard, WaitTimeoutResult(false)))
    }

    /// Lets one thread go on that waits, any of them.
    #[track_caller]
    pub fn notify_one(&self) {
        let word = self.waiting.enter("Condvar");
        loop {
            // Not a load: a thread that waits already must not be missed.
            let waiting = word.fetch_or(0, Ordering::AcqRel);
            let threads: Vec<usize> =
                (0..MAX_THREADS).filter(|thread| waiting >> thread & 1 != 0).collect();
            let Some(last) = threads.len().checked_sub(1) else { return };
            let chosen = if last > 0 { choose(last as u64 + 1) as usize } else { 0 };
            let others = waiting & !(1 << threads[chosen]);
            let (success, failure) = (Ordering::AcqRel, Ordering::Relaxed);
            if word.compare_exchange(waiting, others, success, failure).is_ok() {
                return self.tokens[threads[chosen]].give_token("Condvar");
            }
        }
    }

    /// Lets all threads go on that wait.
    #[track_caller]
    pub fn notify_all(&self) {
        let waiting = self.waiting.enter("Condvar").swap(0, Ordering::AcqRel);
        for (thread, token) in self.tokens.iter().enumerate() {
            if waiting >> thread & 1 != 0 {
                token.give_token("Condvar");
            }
        }
    }
}

impl Default for Condvar {
    #[track_caller]
    fn default() -> Condvar {
        Condvar::new()
    }
}

impl WaitTimeoutResult {
    /// Whether the wait has ended because time was over.
    pub fn timed_out(&self) -> bool {
        self.0
    }
}
