//! `std::thread::scope`: threads that borrow from the one that waits for them.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::marker::PhantomData;

use super::spawn::{JoinHandle, Thread, spawn_named};
use crate::unsend::Unsend;
use weft_explorer::thread_id;

/// `std::thread::Scope`.
pub struct Scope<'scope, 'env: 'scope> {
    /// The threads of the scope, each with the one that spawned it.
    open: Unsend<RefCell<Vec<Spawned>>>,
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

// SAFETY: all threads of a program are on one thread of the operating system, and none gives way
// while it has borrowed the list.
unsafe impl Sync for Scope<'_, '_> {}

// SAFETY: the same; what the thread returns may be sent.
unsafe impl<T: Send> Send for ScopedJoinHandle<'_, T> {}

struct Spawned {
    parent: usize,
    thread: usize,
    /// `None` once it was joined.
    handle: Option<JoinHandle<()>>,
}

/// `std::thread::ScopedJoinHandle`.
pub struct ScopedJoinHandle<'scope, T> {
    thread: Thread,
    number: usize,
    result: std::sync::Arc<RefCell<Option<T>>>,
    open: *const RefCell<Vec<Spawned>>,
    scope: PhantomData<&'scope ()>,
}

/// Calls `action`, and waits for the threads that it has spawned in the scope.
#[track_caller]
pub fn scope<'env, F, T>(action: F) -> T
where
    F: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T,
{
    let open = Unsend(RefCell::new(Vec::new()));
    let scope = Scope { open, scope: PhantomData, env: PhantomData };
    let result = action(&scope);
    // In an order that does not depend on how far the threads have come: first those that this one
    // has spawned, each followed by those that it has spawned.
    let mut parents = VecDeque::from([thread_id()]);
    while let Some(parent) = parents.pop_front() {
        while let Some(spawned) = scope.take(parent) {
            parents.push_back(spawned.thread);
            let _ = spawned.handle.map(JoinHandle::join);
        }
    }
    result
}

impl<'scope> Scope<'scope, '_> {
    /// The first thread that `parent` has spawned.
    fn take(&self, parent: usize) -> Option<Spawned> {
        let mut open = self.open.0.borrow_mut();
        let index = open.iter().position(|spawned| spawned.parent == parent)?;
        Some(open.remove(index))
    }

    /// Spawns a thread that may borrow from outside of the scope.
    #[track_caller]
    pub fn spawn<F, T>(&'scope self, body: F) -> ScopedJoinHandle<'scope, T>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        let result = std::sync::Arc::new(RefCell::new(None));
        let slot = Unsend(std::sync::Arc::clone(&result));
        let body: Box<dyn FnOnce() + 'scope> = Box::new(move || {
            let slot = slot.take();
            let value = body();
            *slot.borrow_mut() = Some(value);
        });
        // SAFETY: `scope` returns after it has joined the thread. If it unwinds instead, or never
        // goes on, the thread does not go on either: the execution is over, and its stack is given
        // up with all others.
        let body = unsafe {
            std::mem::transmute::<Box<dyn FnOnce() + 'scope>, Box<dyn FnOnce() + 'static>>(body)
        };
        let handle = spawn_named(body, None);
        let thread = handle.thread().clone();
        let number = handle.number();
        let spawned = Spawned { parent: thread_id(), thread: number, handle: Some(handle) };
        self.open.0.borrow_mut().push(spawned);
        let open = &raw const self.open.0;
        ScopedJoinHandle { thread, number, result, open, scope: PhantomData }
    }
}

impl<T> ScopedJoinHandle<'_, T> {
    /// Waits for the thread to end, and returns its result.
    ///
    /// # Errors
    /// The calling thread unwinds, and the other one has not ended.
    #[track_caller]
    pub fn join(self) -> std::thread::Result<T> {
        // SAFETY: the scope lives as long as `'scope`, and so longer than the handle.
        let open = unsafe { &*self.open };
        let mine = |spawned: &&mut Spawned| spawned.thread == self.number;
        let handle = open.borrow_mut().iter_mut().find(mine).and_then(|own| own.handle.take());
        if let Some(handle) = handle {
            handle.join()?;
        }
        let result = self.result.borrow_mut().take();
        result.ok_or_else(|| -> Box<dyn std::any::Any + Send> {
            Box::new("the execution is over, and the thread has not ended")
        })
    }

    /// The thread.
    pub fn thread(&self) -> &Thread {
        &self.thread
    }
}

impl fmt::Debug for Scope<'_, '_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Scope").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for ScopedJoinHandle<'_, T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut handle = formatter.debug_struct("ScopedJoinHandle");
        handle.field("thread", &self.thread).finish_non_exhaustive()
    }
}
