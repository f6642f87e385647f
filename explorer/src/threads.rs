//! Threads, choices, and places in the happens-before order.

use std::fmt;
use std::panic::Location;
use std::sync::{Arc, Mutex, PoisonError};

use crate::coroutines::{current, suspend};
use crate::engine::{Body, Engine, Stop, perform, with};
use crate::event::{EventId, Kind, NO_LOCATION, Request, THREADS_MAX, Update, View};
use crate::inert::{is_inert, skips};
use crate::locals;

/// A spawned thread.
pub struct JoinHandle<T> {
    thread: usize,
    result: Arc<Mutex<Option<T>>>,
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("JoinHandle").field("thread", &self.thread).finish_non_exhaustive()
    }
}

/// Spawns a thread. An execution has at most 8 of them; the main thread is thread 0, and usually
/// plays one of the participants.
#[track_caller]
pub fn spawn<T, F>(body: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let result = Arc::new(Mutex::new(None));
    if is_inert() {
        return JoinHandle { thread: 0, result };
    }
    let at = Location::caller();
    let slot = Arc::clone(&result);
    let body = Box::new(move || {
        let value = body();
        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
        locals::end_thread();
    });
    let thread = perform(|engine| engine.spawn(body, at));
    JoinHandle { thread, result }
}

impl<T> JoinHandle<T> {
    /// The number of the thread, as [`thread_id`] gives it to the thread itself.
    pub fn thread_id(&self) -> usize {
        self.thread
    }

    /// Waits for the thread to end, and returns its result.
    ///
    /// # Panics
    /// While the thread unwinds no other thread can be run: a destructor that joins must ask
    /// `std::thread::panicking()` first, unless the other thread is known to have ended.
    #[track_caller]
    pub fn join(self) -> T {
        self.try_join().expect("a thread that was joined has left its result")
    }

    /// Waits for the thread to end; gives nothing if the calling one unwinds and the other has not
    /// ended.
    #[track_caller]
    pub fn try_join(self) -> Option<T> {
        let at = Location::caller();
        if !is_inert() {
            perform(|engine| engine.begin_join(self.thread));
            suspend();
            perform(|engine| engine.join(self.thread, at));
        }
        let mut result = self.result.lock().unwrap_or_else(PoisonError::into_inner);
        result.take()
    }
}

impl Engine {
    /// Spawns a thread, or refuses. It has the number that the graph has given to it, or the lowest
    /// one that is free there.
    pub(crate) fn spawn(
        &mut self,
        body: Body,
        at: &'static Location<'static>,
    ) -> Result<usize, Stop> {
        let (thread, index, graph) = (self.run.current, self.next_event(), &self.search.graph);
        let recorded = graph.threads[thread].get(index).map(|event| event.request);
        let child = match recorded.filter(|request| request.kind == Kind::Spawn) {
            Some(request) => Some(request.location as usize),
            None => self.free_number(EventId::new(thread, index)),
        };
        let Some(child) = child else {
            return Err(self.misuse(
                at,
                "a program has at most 8 threads, the main thread included: spawn fewer",
            ));
        };
        self.other(Request::new(Kind::Spawn, child as u32, at))?;
        self.run.bodies[child] = Some(body);
        self.enter(child);
        Ok(child)
    }

    /// The number of a new thread.
    fn free_number(&mut self, spawn: EventId) -> Option<usize> {
        let graph = &self.search.graph;
        let is_free = |child: &usize| graph.spawned[*child].is_none();
        let lowest = (1..THREADS_MAX).find(is_free)?;
        match &mut self.guide {
            Some(guide) => guide.number_of(spawn, lowest).filter(is_free),
            None => Some(lowest),
        }
    }

    /// Joins a thread that has ended, or waits.
    pub(crate) fn join(
        &mut self,
        child: usize,
        at: &'static Location<'static>,
    ) -> Result<(), Stop> {
        if self.is_blocked(child) {
            return Err(Stop::Blocked);
        }
        self.other(Request::new(Kind::Join, child as u32, at)).map(|_| ())
    }
}

/// A choice between `0..n` that is explored like all others.
#[track_caller]
pub fn choose(n: u64) -> u64 {
    let at = Location::caller();
    if skips(at) {
        return 0;
    }
    perform(|engine| {
        if n == 0 {
            return Err(engine.misuse(at, "choose(0) has nothing to choose from: give at least 1"));
        }
        let update = Update::Choose(n);
        engine.other(Request { update, ..Request::new(Kind::Choose, NO_LOCATION, at) })
    })
}

/// The number of the calling thread, also while it unwinds; 0 is the main thread.
pub fn thread_id() -> usize {
    current()
}

/// The index that the calling thread's next event or plain access will have: ties a log entry to
/// the trace.
///
/// A read-modify-write is two events, the read with this index and the write behind it.
pub fn event_index() -> usize {
    if is_inert() { 0 } else { with(|engine| engine.next_index()) }
}

/// A point in a thread, after what it has done and before what it does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Mark {
    thread: usize,
    index: usize,
    known: View,
}

/// Marks the point at which the calling thread is.
pub fn mark() -> Mark {
    if is_inert() {
        return Mark { thread: 0, index: 0, known: View::default() };
    }
    with(|engine| {
        let (thread, index) = (engine.current_thread(), engine.next_index());
        let graph = &engine.search.graph;
        let mut known = graph.known_before(thread, engine.run.next[thread]);
        for (other, known) in known.0.iter_mut().enumerate() {
            *known = graph.items_known(other, usize::from(*known)) as u16;
        }
        Mark { thread, index, known }
    })
}

impl Mark {
    /// The thread.
    pub fn thread(&self) -> usize {
        self.thread
    }

    /// How many events and plain accesses the thread has had.
    pub fn index(&self) -> usize {
        self.index
    }

    /// How many events and plain accesses of `thread` happen before everything that comes after the
    /// mark.
    pub fn known(&self, thread: usize) -> usize {
        self.known.0[thread].into()
    }

    /// Whether everything that this mark's thread did before it happens before everything that the
    /// other's thread did after the other mark. Unlike the order in which threads happen to run,
    /// this is a property of the execution: the operation that ended here is over for the
    /// operation that begins there.
    pub fn before(&self, other: &Mark) -> bool {
        if self.thread == other.thread {
            self.index <= other.index
        } else {
            usize::from(other.known.0[self.thread]) >= self.index.max(1)
        }
    }
}
