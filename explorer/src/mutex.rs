//! A blocking mutex whose data travels in the graph.
//!
//! Threads of a program run one after the other, so data in an ordinary Rust mutex would pass from
//! thread to thread in the order of running and not in the order of the execution being explored.
//! Here the data is attached to the store that unlocks, and the thread that locks gets what it
//! read.

use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::engine::perform;
use crate::event::{Kind, Payload, Request, Update};
use crate::handle::Handle;
use crate::inert::skips;

/// A mutex. Locking is an acquire, unlocking a release; each `lock` copies the data.
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
        let first = Arc::new(data);
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
            let update = Update::AwaitExchange { expected: 0, new: 1 };
            let request = Request::new(Kind::Read, location, at);
            let (_, read) = engine.read(Request { order: Ordering::Acquire, update, ..request })?;
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
        let payload = self.data.take().map(|data| Payload::new(Arc::new(data)));
        perform(|engine| {
            let location = self.mutex.handle.enter(engine, self.at)?;
            let request = Request::new(Kind::Write, location, self.at);
            let (order, update) = (Ordering::Release, Update::Store(0));
            engine.write(Request { order, update, ..request }, payload.unwrap_or_default())
        });
    }
}
