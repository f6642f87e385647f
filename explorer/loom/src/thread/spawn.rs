//! Threads, their names, and how they park.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::sync::Arc as StdArc;

use weft_explorer::thread_id;

use crate::unsend::Unsend;
use crate::word::Word;

/// `std::thread::Thread`.
#[derive(Clone)]
pub struct Thread {
    id: ThreadId,
    shared: StdArc<Shared>,
}

/// What a thread and those that know it share.
struct Shared {
    name: Option<String>,
    token: Word,
}

/// `std::thread::ThreadId`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ThreadId(usize);

weft_explorer::thread_local! {
    static CURRENT: RefCell<Option<Thread>> = RefCell::new(None);
}

impl Shared {
    #[track_caller]
    fn new(name: Option<String>) -> StdArc<Shared> {
        StdArc::new(Shared { name, token: Word::new(0) })
    }
}

impl Thread {
    /// The thread's number.
    pub fn id(&self) -> ThreadId {
        self.id
    }

    /// The thread's name, if it has one.
    pub fn name(&self) -> Option<&str> {
        self.shared.name.as_deref()
    }

    /// Lets the thread's [`park`] return, the one that goes on or the next one.
    #[track_caller]
    pub fn unpark(&self) {
        self.shared.token.give_token("Thread");
    }
}

impl fmt::Debug for Thread {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut thread = formatter.debug_struct("Thread");
        thread.field("id", &self.id).field("name", &self.name()).finish_non_exhaustive()
    }
}

impl fmt::Debug for ThreadId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ThreadId({})", self.0)
    }
}

/// The calling thread.
#[track_caller]
pub fn current() -> Thread {
    let known = CURRENT.try_with(|current| current.borrow().clone()).ok().flatten();
    known.unwrap_or_else(|| begin(Shared::new(None)))
}

/// The calling thread is known from now on.
fn begin(shared: StdArc<Shared>) -> Thread {
    let thread = Thread { id: ThreadId(thread_id()), shared };
    // A thread that ends has no place for it any more, and gets another token each time.
    let _ = CURRENT.try_with(|current| *current.borrow_mut() = Some(thread.clone()));
    thread
}

/// Waits until the thread is unparked. It does not return otherwise.
#[track_caller]
pub fn park() {
    current().shared.token.take_token("Thread");
}

/// `std::thread::JoinHandle`.
pub struct JoinHandle<T> {
    inner: weft_explorer::JoinHandle<Unsend<T>>,
    thread: Thread,
}

impl<T> JoinHandle<T> {
    /// Waits for the thread to end, and returns its result. A thread that panics is a failure of
    /// the model, so there is no other.
    ///
    /// # Errors
    /// The calling thread unwinds, and the other one has not ended.
    #[track_caller]
    pub fn join(self) -> std::thread::Result<T> {
        match self.inner.try_join() {
            Some(result) => Ok(result.0),
            None => Err(Box::new("the execution is over, and the thread has not ended")),
        }
    }

    /// The thread.
    pub fn thread(&self) -> &Thread {
        &self.thread
    }

    pub(super) fn number(&self) -> usize {
        self.inner.thread_id()
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("JoinHandle").field("thread", &self.thread).finish_non_exhaustive()
    }
}

/// Spawns a thread. A program has at most [`MAX_THREADS`](crate::MAX_THREADS), the main thread
/// included. As with loom, what it takes and returns need not be `Send`.
#[track_caller]
pub fn spawn<F, T>(body: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + 'static,
    T: 'static,
{
    spawn_named(body, None)
}

#[track_caller]
pub(super) fn spawn_named<F, T>(body: F, name: Option<String>) -> JoinHandle<T>
where
    F: FnOnce() -> T + 'static,
    T: 'static,
{
    let shared = Shared::new(name);
    let start = Unsend((body, StdArc::clone(&shared)));
    let inner = weft_explorer::spawn(move || {
        let (body, shared) = start.take();
        begin(shared);
        Unsend(body())
    });
    let thread = Thread { id: ThreadId(inner.thread_id()), shared };
    JoinHandle { inner, thread }
}

/// `std::thread::Builder`.
#[derive(Debug, Default)]
pub struct Builder {
    name: Option<String>,
}

impl Builder {
    /// A thread to be, without a name.
    pub fn new() -> Builder {
        Builder::default()
    }

    /// Names the thread.
    pub fn name(mut self, name: String) -> Builder {
        self.name = Some(name);
        self
    }

    /// Nothing: stacks have 2 MiB.
    pub fn stack_size(self, _size: usize) -> Builder {
        self
    }

    /// Spawns the thread.
    ///
    /// # Errors
    /// None.
    #[track_caller]
    pub fn spawn<F, T>(self, body: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        Ok(spawn_named(body, self.name))
    }
}
