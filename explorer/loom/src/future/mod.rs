//! Futures, driven by the thread that waits for them.

mod atomic_waker;

pub use self::atomic_waker::AtomicWaker;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use weft_explorer::{Arena, choose};

use crate::sync::Notify;

/// What wakes the thread that drives a future.
#[derive(Debug)]
struct Signal(Notify);

impl Wake for Signal {
    #[track_caller]
    fn wake(self: Arc<Signal>) {
        self.0.notify();
    }

    #[track_caller]
    fn wake_by_ref(self: &Arc<Signal>) {
        self.0.notify();
    }
}

/// Polls a future until it is ready, each time after a wake, and once perhaps without one. A waker
/// that is never dropped is a leak.
#[track_caller]
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let signal = Arc::new(Signal(Notify::new()));
    Arena::owes(Arc::as_ptr(&signal));
    let waker = Waker::from(Arc::clone(&signal));
    let mut context = Context::from_waker(&waker);
    let mut wakes_without_reason = true;
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
        if wakes_without_reason && choose(2) == 1 {
            wakes_without_reason = false;
        } else {
            signal.0.wait();
        }
    }
}
