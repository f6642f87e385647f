//! `std::sync::mpsc`: a queue under a mutex, and a word that says how much is in it.

use std::collections::VecDeque;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc as StdArc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
#[doc(no_inline)]
pub use std::sync::mpsc::{RecvError, RecvTimeoutError, SendError, TryRecvError};
use std::time::Duration;

use super::Mutex;
use crate::word::Word;

/// All senders are gone.
const HUNG_UP: u64 = 1;
/// One message is in the queue.
const MESSAGE: u64 = 2;

struct Channel<T> {
    /// `None` once the receiver is gone.
    queue: Mutex<Option<VecDeque<T>>>,
    /// So many times [`MESSAGE`], and [`HUNG_UP`].
    state: Word,
    senders: Word,
}

/// The sending half of a channel.
pub struct Sender<T> {
    channel: StdArc<Channel<T>>,
}

/// The receiving half of a channel.
pub struct Receiver<T> {
    channel: StdArc<Channel<T>>,
    // As std's, one thread has it.
    not_shared: PhantomData<std::cell::Cell<()>>,
}

/// A channel without a bound.
#[track_caller]
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let channel = StdArc::new(Channel {
        queue: Mutex::new(Some(VecDeque::new())),
        state: Word::new(0),
        senders: Word::new(1),
    });
    let sender = Sender { channel: StdArc::clone(&channel) };
    (sender, Receiver { channel, not_shared: PhantomData })
}

impl<T> Sender<T> {
    /// Puts a message into the channel.
    ///
    /// # Errors
    /// The message, if the receiver is gone.
    #[track_caller]
    pub fn send(&self, message: T) -> Result<(), SendError<T>> {
        let mut queue = self.channel.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(messages) = queue.as_mut() else { return Err(SendError(message)) };
        messages.push_back(message);
        drop(queue);
        self.channel.state.enter("channel").fetch_add(MESSAGE, Ordering::Release);
        Ok(())
    }
}

impl<T> Clone for Sender<T> {
    #[track_caller]
    fn clone(&self) -> Sender<T> {
        self.channel.senders.enter("channel").fetch_add(1, Ordering::Relaxed);
        Sender { channel: StdArc::clone(&self.channel) }
    }
}

impl<T> Drop for Sender<T> {
    #[track_caller]
    fn drop(&mut self) {
        if self.channel.senders.enter("channel").fetch_sub(1, Ordering::AcqRel) == 1 {
            self.channel.state.enter("channel").fetch_or(HUNG_UP, Ordering::Release);
        }
    }
}

impl<T> Receiver<T> {
    /// Waits for a message.
    ///
    /// # Errors
    /// There is none, and all senders are gone.
    #[track_caller]
    pub fn recv(&self) -> Result<T, RecvError> {
        let state = self.channel.state.enter("channel").await_ne(0, Ordering::Acquire);
        if state == HUNG_UP { Err(RecvError) } else { self.take().ok_or(RecvError) }
    }

    /// Takes a message if there is one.
    ///
    /// # Errors
    /// There is none.
    #[track_caller]
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        match self.channel.state.enter("channel").load(Ordering::Acquire) {
            0 => Err(TryRecvError::Empty),
            HUNG_UP => Err(TryRecvError::Disconnected),
            _ => self.take().ok_or(TryRecvError::Disconnected),
        }
    }

    /// As [`Receiver::recv`]: it does not time out.
    ///
    /// # Errors
    /// There is no message, and all senders are gone.
    #[track_caller]
    pub fn recv_timeout(&self, _timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.recv().map_err(|_| RecvTimeoutError::Disconnected)
    }

    /// A message that is known to be there; none while operations are inert.
    #[track_caller]
    fn take(&self) -> Option<T> {
        self.channel.state.enter("channel").fetch_sub(MESSAGE, Ordering::Acquire);
        let mut queue = self.channel.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.as_mut().and_then(VecDeque::pop_front)
    }
}

impl<T> Drop for Receiver<T> {
    #[track_caller]
    fn drop(&mut self) {
        let left = self.channel.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Outside of the lock: a message may have a sender.
        drop(left);
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Receiver").finish_non_exhaustive()
    }
}
