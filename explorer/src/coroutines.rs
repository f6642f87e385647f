//! The threads of a program as coroutines: all on one thread of the operating system, each on a
//! stack of its own.
//!
//! A thread runs until it has to give way ([`suspend`]), and goes on when it is resumed. Stacks are
//! kept for the next run. A thread that is dropped before it has ended is unwound first, with
//! operations inert (see `inert`), so that what it owns is freed; or forgotten, if what it owns is
//! in an arena and ends with it.
//!
//! Three facts carry the `unsafe` code here:
//!
//! * *The body outlives the coroutine.* A coroutine borrows its body for `'program`, and is itself
//!   bounded by that lifetime. It is dropped, and so has ended or unwound, before the borrow ends:
//!   a [`Coroutine`] is never forgotten.
//! * *The yielder is alive.* [`RUNNING`] points to the yielder of the coroutine that runs, and to
//!   nothing while none does: [`Coroutine::resume`] clears it when control comes back, and
//!   [`suspend`] sets it again when the coroutine goes on. The yielder stands at the bottom of the
//!   coroutine's stack, below the frame that calls `suspend`.
//! * *Nothing crosses threads.* A [`Coroutine`] is not `Send`, and what it shares with `suspend` is
//!   thread-local. So code of a program that is suspended always goes on where it was started.

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::ptr::NonNull;

use corosensei::stack::DefaultStack;
use corosensei::{CoroutineResult, Yielder};

use crate::arena;
use crate::engine::Stop;
use crate::panics::{catch, inside};

/// As much as the standard library gives to a thread. The system gives memory page by page.
const STACK_SIZE: usize = 2 << 20;

/// What a suspended thread is told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Signal {
    GoOn,
    /// The run is over: nothing that the thread does has an effect any more.
    Unwind,
}

type Switched = Yielder<Signal, ()>;

thread_local! {
    /// The number of the thread that runs.
    static CURRENT: Cell<usize> = const { Cell::new(0) };
    static RUNNING: Cell<Option<NonNull<Switched>>> = const { Cell::new(None) };
    static STACKS: RefCell<Vec<DefaultStack>> = const { RefCell::new(Vec::new()) };
}

/// The number of the thread that runs, also while it unwinds; 0 outside of a program.
pub(crate) fn current() -> usize {
    CURRENT.get()
}

/// A thread that was started.
pub(crate) struct Coroutine<'program> {
    thread: usize,
    /// `None` only while it is dropped.
    inner: Option<corosensei::Coroutine<Signal, (), Result<(), Stop>, DefaultStack>>,
    body: PhantomData<Box<dyn FnOnce() + 'program>>,
}

impl<'program> Coroutine<'program> {
    /// A thread that begins when it is first resumed.
    pub(crate) fn new(thread: usize, body: impl FnOnce() + 'program) -> Coroutine<'program> {
        let stack = STACKS.with_borrow_mut(Vec::pop).unwrap_or_else(|| {
            DefaultStack::new(STACK_SIZE).unwrap_or_else(|error| {
                panic!(
                    "weft-explorer: there is no memory for the stack of a thread ({error}): \
                     explore with fewer workers"
                )
            })
        });
        let start = |yielder: &Switched, _: Signal| {
            RUNNING.set(Some(NonNull::from(yielder)));
            catch(body)
        };
        // SAFETY: what `body` borrows lives for `'program`, which bounds the coroutine: it has
        // ended or unwound before that is over, because `Drop` is not avoided.
        let inner = unsafe { corosensei::Coroutine::with_stack_unchecked(stack, start) };
        Coroutine { thread, inner: Some(inner), body: PhantomData }
    }

    /// Runs the thread until it gives way or ends; says how it has ended.
    pub(crate) fn resume(&mut self) -> Option<Result<(), Stop>> {
        self.switch(Signal::GoOn)
    }

    fn switch(&mut self, signal: Signal) -> Option<Result<(), Stop>> {
        let inner = self.inner.as_mut()?;
        CURRENT.set(self.thread);
        let result = inside(|| inner.resume(signal));
        RUNNING.set(None);
        CURRENT.set(0);
        match result {
            CoroutineResult::Yield(()) => None,
            CoroutineResult::Return(ended) => Some(ended),
        }
    }
}

impl Drop for Coroutine<'_> {
    fn drop(&mut self) {
        let is_suspended =
            |inner: &corosensei::Coroutine<_, _, _, _>| inner.started() && !inner.done();
        if arena::is_in_force()
            && let Some(inner) = &mut self.inner
        {
            // SAFETY: what the stack owns is in the arena, and ends with it. No code of the program
            // runs any more that could refer to it.
            unsafe { inner.force_reset() };
        }
        // A thread that unwinds finds all operations inert, and so does not give way again.
        while self.inner.as_ref().is_some_and(is_suspended) {
            self.switch(Signal::Unwind);
        }
        let Some(inner) = self.inner.take().filter(corosensei::Coroutine::done) else { return };
        // While the operating system's thread ends, there is nowhere to keep the stack.
        let _ = STACKS.try_with(|stacks| stacks.borrow_mut().push(inner.into_stack()));
    }
}

/// Lets other threads run. Returns when the calling one may go on; unwinds it if the run is over.
pub(crate) fn suspend() {
    let Some(yielder) = RUNNING.get() else { unreachable!("only threads of a program give way") };
    // SAFETY: the coroutine that runs is the caller, whose yielder lives as long as its stack.
    let signal = unsafe { yielder.as_ref() }.suspend(());
    RUNNING.set(Some(yielder));
    if signal == Signal::Unwind {
        std::panic::resume_unwind(Box::new(Stop::Blocked));
    }
}
