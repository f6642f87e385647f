//! How to add a primitive: a counting semaphore and a one-shot event.
//!
//! `cargo run --release -p weft-explorer --example primitive`
//!
//! Nothing needs to be registered with the engine: a primitive is ordinary code over [`Atomic`] and
//! [`Plain`]. Three rules make it one that the engine explores well.
//!
//! 1. *Waiting is said.* Where real code would spin, the loop calls `wait_for_change` directly
//!    after the read that told it to wait; or, if one comparison decides, an await operation
//!    replaces it.
//! 2. *A round of a waiting loop has no effect.* A round that fails may only have read. So take the
//!    resource by one compare-exchange at the end of the round, and not by a decrement that has to
//!    be undone.
//! 3. *Orders are part of it.* Taking is an acquire, giving a release; a test with [`Plain`] data
//!    tells whether they suffice, and a twin with weaker orders tells whether the test can tell.

use std::sync::Arc;
use std::sync::atomic::Ordering::{self, Acquire, Relaxed, Release};

use weft_explorer::{Atomic, FailureKind, Options, Plain, Verdict, explore, spawn};

/// Permits that threads take and give back.
struct Semaphore {
    permits: Atomic,
    give: Ordering,
}

impl Semaphore {
    fn new(permits: u64, give: Ordering) -> Semaphore {
        Semaphore { permits: Atomic::new(permits), give }
    }

    fn take(&self) {
        loop {
            let permits = self.permits.load(Relaxed);
            if permits == 0 {
                // Rule 1: directly after the read that found nothing.
                self.permits.wait_for_change();
                continue;
            }
            // Rule 2: the round takes a permit in one step, or has only read. A failure means that
            // the number has changed meanwhile; the next round reads it anew, so there is no
            // waiting.
            if self.permits.compare_exchange(permits, permits - 1, Acquire, Relaxed).is_ok() {
                return;
            }
        }
    }

    fn give_back(&self) {
        // Rule 3. A read-modify-write continues the release sequence of earlier givers, so a thread
        // that takes a permit knows what all of them did.
        self.permits.fetch_add(1, self.give);
    }
}

/// Happens once; a thread that waits for it sees what came before.
struct Event(Atomic);

impl Event {
    fn signal(&self) {
        self.0.store(1, Release);
    }

    fn wait(&self) {
        self.0.await_eq(1, Acquire);
    }
}

/// Threads that write the same memory, one permit for all of them.
fn exclusive_writers(threads: usize, give: Ordering) {
    let shared = Arc::new((Semaphore::new(1, give), Plain::new(0_u32)));
    let body = |shared: Arc<(Semaphore, Plain<u32>)>| {
        move || {
            shared.0.take();
            shared.1.set(shared.1.get() + 1);
            shared.0.give_back();
        }
    };
    let others: Vec<_> = (1..threads).map(|_| spawn(body(Arc::clone(&shared)))).collect();
    body(Arc::clone(&shared))();
    others.into_iter().for_each(|other| other.join());
    assert_eq!(shared.1.get(), threads as u32, "an increment was lost");
}

/// One thread prepares, two wait for it.
fn preparation() {
    let shared = Arc::new((Event(Atomic::new(0)), Plain::new(0_u32)));
    let waiters = [(); 2].map(|()| {
        let shared = Arc::clone(&shared);
        spawn(move || {
            shared.0.wait();
            assert_eq!(shared.1.get(), 7, "the preparation is visible");
        })
    });
    shared.1.set(7);
    shared.0.signal();
    waiters.into_iter().for_each(|waiter| waiter.join());
}

fn main() {
    let options = Options::default();
    for threads in 2..=4 {
        let report = explore(&options, || exclusive_writers(threads, Release));
        println!("semaphore, {threads} threads: {report}");
        assert_eq!(report.verdict, Verdict::Exhausted);
    }
    let report = explore(&options, preparation);
    println!("event: {report}");
    assert_eq!(report.verdict, Verdict::Exhausted);

    // The twin: giving back without release does not hand the memory over.
    let report = explore(&options, || exclusive_writers(2, Relaxed));
    println!("semaphore without release: {report}");
    let kind = report.failure.map(|failure| failure.kind);
    assert_eq!(kind, Some(FailureKind::DataRace), "the twin is caught");
}
