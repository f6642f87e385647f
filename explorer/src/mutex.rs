//! A blocking mutex whose data travels in the graph.
//!
//! Data in an ordinary Rust mutex would pass from thread to thread in the order of running, and not
//! in the order of the execution being explored. Here the data is attached to the store that
//! unlocks, and the thread that locks gets what it read.

use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::arena::outside;
use crate::engine::perform;
use crate::event::{Kind, Payload, Request, Update};
use crate::handle::Handle;
use crate::inert::skips;
use crate::window::Window;

/// A mutex. Locking is an acquire, unlocking a release, and neither is a fence: under TSO they
/// leave the store buffer as it is. Each `lock` copies the data.
///
/// Copies of the data are dropped when the engine has no more use for them, and their destructors
/// are inert. Inert while the thread unwinds: locking succeeds at once with a copy of the first
/// data, and what is done to that copy has no effect.
#[derive(Debug)]
pub struct Mutex<T> {
    handle: Handle,
    first: Arc<T>,
}

/// Access to the data of a locked mutex; unlocks when it is dropped.
#[derive(Debug)]
pub struct MutexGuard<'mutex, T: Clone + Send + Sync + 'static> {
    mutex: &'mutex Mutex<T>,
    data: Option<T>,
    at: &'static Location<'static>,
}

impl<T: Clone + Send + Sync + 'static> Mutex<T> {
    /// A mutex with its data, unlocked.
    #[track_caller]
    pub fn new(data: T) -> Mutex<T> {
        Mutex::create(None, data, Location::caller())
    }

    /// A mutex that reports call by this name.
    #[track_caller]
    pub fn named(name: &'static str, data: T) -> Mutex<T> {
        Mutex::create(Some(name), data, Location::caller())
    }

    fn create(name: Option<&'static str>, data: T, at: &'static Location<'static>) -> Mutex<T> {
        // It outlives the run, and an arena that ends with it.
        let first = outside(|| Arc::new(data));
        let payload = Payload::new(Arc::clone(&first));
        Mutex { handle: Handle::create(0, payload, name, at), first }
    }

    /// The number of the location, as traces print it; the same in every execution.
    pub fn id(&self) -> u32 {
        self.handle.location
    }

    /// Waits until the mutex is unlocked, and locks it.
    #[track_caller]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        let at = Location::caller();
        if skips(at) {
            return MutexGuard { mutex: self, data: Some(T::clone(&self.first)), at };
        }
        let payload = perform(|engine| {
            let location = self.handle.enter(engine, at)?;
            let request = Request::new(Kind::Read, location, at);
            let (order, update) = (Ordering::Acquire, Update::Lock);
            let (_, read) = engine.read(Request { order, update, ..request }, None)?;
            Ok(engine.search.graph.payload_read(read))
        });
        // Copied outside of the engine: the data's own code may use it.
        let data = payload.get::<T>().expect("the thread that unlocked has left the data").clone();
        MutexGuard { mutex: self, data: Some(data), at }
    }

    /// Calls `action` on the data, with the mutex locked.
    #[track_caller]
    pub fn with<R>(&self, action: impl FnOnce(&mut T) -> R) -> R {
        action(&mut self.lock())
    }

    /// Plays the handler of an interrupt: the mutex is another CPU's, which holds it while its
    /// interrupts are masked, and the data is what the handler changes.
    ///
    /// Waits until the mutex is free, as [`Mutex::lock`] does. The handler is not ordered with what
    /// the calling thread does, but only with what it knew when it sent the interrupt: `sent`, a
    /// window that was opened there. So
    ///
    /// * the next holder learns what `sent` knows, what the last holder knew, and what the handler
    ///   has loaded within its window; not what the calling thread has learnt from other handlers;
    /// * the calling thread learns what the handler knows by its next acquire fence, which stands
    ///   for having waited until the handler was done.
    ///
    /// The handler gets the data, and a window that opens in the handler. It may leave the window
    /// with the data, for the holder, and may load within it, which it does at any time since then.
    /// Whatever else the closure does, the calling thread does.
    ///
    /// Sending releases what was stored before; whether an interrupt controller needs a fence for
    /// that is not modelled. Under TSO and SC the handler's place in the order of all writes is
    /// anywhere between sending and that fence. It does not drain the store buffer of the thread
    /// that it interrupts, except for what that thread stored before it let go of the mutex.
    ///
    /// Handlers of one thread come in the order of the calls, although they know nothing of each
    /// other: a holder cannot see what the holder of a mutex that is interrupted later did *after*
    /// that. Where that matters, let [`crate::choose`] order the calls.
    ///
    /// ```
    /// use std::sync::atomic::{Ordering::SeqCst, Ordering::Release};
    /// use weft_explorer::{Atomic, Mutex, Options, Window, explore, fence};
    ///
    /// explore(&Options::default(), || {
    ///     let (entry, other_cpu) = (Atomic::new(1), Mutex::new(Window::default()));
    ///     entry.store(0, Release);
    ///     fence(SeqCst);
    ///     let sent = Window::open();
    ///     other_cpu.interrupt(&sent, |since, here| *since = *here);
    ///     fence(SeqCst);
    ///     // What the other CPU loads from now on is no older than the store.
    ///     let mut since = *other_cpu.lock();
    ///     assert_eq!(entry.load_within(&mut since, |_| true), 0);
    /// });
    /// ```
    #[track_caller]
    pub fn interrupt<R>(&self, sent: &Window, action: impl FnOnce(&mut T, &mut Window) -> R) -> R {
        let at = Location::caller();
        if skips(at) {
            return action(&mut T::clone(&self.first), &mut Window::default());
        }
        let (payload, mut here) = perform(|engine| {
            let location = self.handle.enter(engine, at)?;
            let update = Update::Interrupt;
            let request = Request { update, ..Request::new(Kind::Read, location, at) };
            let (_, read) = engine.read(request, Some(sent))?;
            Ok((engine.search.graph.payload_read(read), engine.window_of_handler(read)))
        });
        let data = payload.get::<T>().expect("the thread that unlocked has left the data");
        let mut data = data.clone();
        let result = action(&mut data, &mut here);
        perform(|engine| {
            let location = self.handle.enter(engine, at)?;
            let update = Update::Return;
            let request = Request { update, ..Request::new(Kind::Write, location, at) };
            engine.write(request, Payload::new(outside(|| Arc::new(data))), Some(&here))
        });
        result
    }
}

impl<T: Clone + Send + Sync + 'static> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.data.as_ref().expect("the data is there until the guard is dropped")
    }
}

impl<T: Clone + Send + Sync + 'static> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.data.as_mut().expect("the data is there until the guard is dropped")
    }
}

impl<T: Clone + Send + Sync + 'static> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        if skips(self.at) {
            return;
        }
        let data = self.data.take();
        let payload = data.map(|data| Payload::new(outside(|| Arc::new(data))));
        perform(|engine| {
            let location = self.mutex.handle.enter(engine, self.at)?;
            let request = Request::new(Kind::Write, location, self.at);
            let (order, update) = (Ordering::Release, Update::Store(0));
            engine.write(Request { order, update, ..request }, payload.unwrap_or_default(), None)
        });
    }
}
