//! The engine of one OS thread: the graph being explored, and one run of the program over it.
//!
//! The scheduler is fixed: the program's main thread runs until it first joins, then threads 1, 2,
//! ... each run to completion or until they block, then the main thread goes on. Every value that
//! a thread needs from another one is taken from the graph, so a thread is a plain function call:
//! nothing is ever suspended and resumed, and neither coroutines nor OS threads are needed. What
//! an operation finds in the graph it *replays* (checking that it is the same operation: a thread
//! must be a function of what it reads); past the end of its thread it adds an event.
//!
//! A thread that cannot go on is *stopped*: the operation returns [`Stop`], and the interface
//! unwinds the thread to where it was started. While a thread unwinds, operations are inert.

use std::cell::RefCell;
use std::panic::Location;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::accesses::{Item, PlainAccess};
use crate::choices::Search;
use crate::event::{EventId, INITIAL, Kind, Payload, Request, THREADS_MAX, Update};
use crate::graph::{location_of, split};
use crate::handle::Early;
use crate::options::Options;
use crate::report::{FailureKind, RawFailure, SourcePlace};
use crate::token::Guide;
use crate::trace::describe;
use crate::waiting::Probe;
use crate::window::Window;

/// Why a thread was stopped. As large as a value, so that a result of either fits into registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub(crate) enum Stop {
    /// It waits for another thread.
    Blocked,
    /// This graph need not be explored.
    Redundant,
    /// A failure was recorded.
    Failed,
}

/// How a run of the program ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    Complete,
    Blocked,
    Redundant,
    Failed,
    /// Every waiting thread has read the newest value where it waits: see `waiting`.
    Suspected,
}

type Body = Box<dyn FnOnce()>;

/// The state of one run; the graph outlives it.
#[derive(Default)]
pub(crate) struct Run {
    /// No other run of this process has the same.
    pub(crate) number: u64,
    pub(crate) current: usize,
    /// Index of each thread's next event.
    pub(crate) next: [usize; THREADS_MAX],
    /// Index of each thread's next plain access.
    plain: [usize; THREADS_MAX],
    thread_count: usize,
    bodies: [Option<Body>; THREADS_MAX],
    blocked: [bool; THREADS_MAX],
    /// A thread has ended because it assumed what is not so.
    pub(crate) assumed: bool,
    /// What waiting threads would do next, where that is being asked.
    pub(crate) probe: Option<Probe>,
    /// Objects of earlier runs that were used before this run has made them.
    pub(crate) early: Vec<Early>,
    /// How many locations each thread has created; numbers them the same way in every run.
    created: [u32; THREADS_MAX],
}

pub(crate) struct Engine {
    pub(crate) search: Search,
    /// Steers a replay; no choices are explored then.
    pub(crate) guide: Option<Guide>,
    pub(crate) failure: Option<RawFailure>,
    pub(crate) run: Run,
    /// Which run has made each location last, and where.
    made: [Vec<(u64, &'static Location<'static>)>; THREADS_MAX],
    /// Which exploration this is, so that objects of another one are noticed.
    exploration: u32,
    pub(crate) events_max: usize,
}

/// What to do next with the spawned threads.
pub(crate) enum NextThread {
    Run(usize, Body),
    /// Known to be blocked where it stands: nothing new can happen in it.
    Skip(Body),
    Done,
}

thread_local! {
    static ENGINE: RefCell<Option<Box<Engine>>> = const { RefCell::new(None) };
}

/// Installs an engine for this OS thread, which has none.
pub(crate) fn install(engine: Engine) {
    let before = ENGINE.replace(Some(Box::new(engine)));
    assert!(before.is_none(), "one engine at a time on an OS thread");
}

pub(crate) fn uninstall() -> Option<Box<Engine>> {
    ENGINE.take()
}

pub(crate) fn is_installed() -> bool {
    ENGINE.with_borrow(Option::is_some)
}

pub(crate) fn with<R>(action: impl FnOnce(&mut Engine) -> R) -> R {
    ENGINE.with_borrow_mut(|slot| match slot {
        Some(engine) => action(engine),
        None => panic!(
            "weft-explorer objects work only inside a program: create and use them in the closure \
             that is given to `explore`"
        ),
    })
}

/// Performs an operation, and unwinds the calling thread if it is stopped.
pub(crate) fn perform<R>(action: impl FnOnce(&mut Engine) -> Result<R, Stop>) -> R {
    with(action).unwrap_or_else(|stop| unwind(stop))
}

#[cold]
fn unwind(stop: Stop) -> ! {
    std::panic::resume_unwind(Box::new(stop))
}

/// A number that no other exploration of this process has.
pub(crate) fn number_exploration() -> u32 {
    static EXPLORATIONS: AtomicU32 = AtomicU32::new(1);
    EXPLORATIONS.fetch_add(1, Ordering::Relaxed)
}

impl Engine {
    /// An engine of an exploration; the workers of one have the same number.
    pub(crate) fn new(options: &Options, search: Search, exploration: u32) -> Engine {
        Engine {
            search,
            guide: None,
            failure: None,
            run: Run::default(),
            made: Default::default(),
            exploration,
            events_max: options.events_max.min(60_000),
        }
    }

    /// Prepares to run the program on the current graph. The bodies that are returned were never
    /// run, and are to be dropped inertly.
    pub(crate) fn begin(&mut self, probe: Option<Probe>) -> impl Sized + use<> {
        static RUNS: AtomicU64 = AtomicU64::new(1);
        let old = std::mem::take(&mut self.run);
        self.run.number = RUNS.fetch_add(1, Ordering::Relaxed);
        self.run.thread_count = 1;
        self.run.probe = probe;
        old.bodies
    }

    /// Records a failure; the first one counts.
    pub(crate) fn fail(
        &mut self,
        kind: FailureKind,
        message: String,
        at: Option<SourcePlace>,
    ) -> Stop {
        if self.is_probing() {
            return self.goes_on();
        }
        let thread = self.run.current;
        self.failure.get_or_insert(RawFailure { kind, message, at, thread });
        Stop::Failed
    }

    pub(crate) fn misuse(&mut self, at: &'static Location<'static>, message: &str) -> Stop {
        self.fail(FailureKind::Misuse, format!("{message} ({at})"), Some(SourcePlace::of(at)))
    }

    pub(crate) fn current_thread(&self) -> usize {
        self.run.current
    }

    /// How many events and plain accesses the calling thread has had in this run.
    pub(crate) fn next_index(&self) -> usize {
        self.run.next[self.run.current] + self.run.plain[self.run.current]
    }

    pub(crate) fn exploration(&self) -> u32 {
        self.exploration
    }

    /// Creates a location: the k-th of a thread has the same number in every run.
    pub(crate) fn create(
        &mut self,
        initial: u64,
        name: Option<&'static str>,
        payload: Payload,
        made_at: &'static Location<'static>,
    ) -> u32 {
        let thread = self.run.current;
        let number = self.run.created[thread];
        let location = location_of(thread, number);
        self.run.created[thread] += 1;
        self.search.graph.create_place(location, initial, name, payload);
        let made = (self.run.number, made_at);
        match self.made[thread].get_mut(number as usize) {
            Some(before) => *before = made,
            None => self.made[thread].push(made),
        }
        location
    }

    /// Where the current run has made a location, if it has.
    pub(crate) fn made_at(&self, location: u32) -> Option<&'static Location<'static>> {
        let (thread, number) = split(location);
        let (run, made_at) = self.made[thread].get(number)?;
        (*run == self.run.number).then_some(*made_at)
    }

    /// The calling thread's next event, if the graph has it already; otherwise the thread may add
    /// one. The caller advances once the event is there.
    fn find(&mut self, request: &Request) -> Result<Option<EventId>, Stop> {
        let thread = self.run.current;
        let (index, graph) = (self.run.next[thread], &self.search.graph);
        let Some(recorded) = graph.threads[thread].get(index) else {
            if self.run.plain[thread] < graph.plain[thread].len() {
                return Err(self.diverges(&describe(graph, request)));
            }
            return self.may_add(request).map(|()| None);
        };
        let (old, new) = (&recorded.request, request);
        let created = self.run.created[thread];
        if recorded.created != created {
            let now = format!(
                "{}, after it has created {created} objects where it had created {}",
                describe(graph, request),
                recorded.created
            );
            return Err(self.diverges(&now));
        }
        let same = (old.kind, old.location) == (new.kind, new.location)
            && (old.order, old.failure_order, old.update)
                == (new.order, new.failure_order, new.update)
            && recorded.plain_before as usize == self.run.plain[thread];
        if same {
            Ok(Some(EventId::new(thread, index)))
        } else {
            Err(self.diverges(&describe(graph, request)))
        }
    }

    /// Whether the calling thread may add what it asks for.
    fn may_add(&mut self, request: &Request) -> Result<(), Stop> {
        let (thread, index) = (self.run.current, self.next_index());
        if index >= self.events_max {
            let operation = describe(&self.search.graph, request);
            let message = format!(
                "unbounded loop: thread {thread} made {index} operations and still repeats \
                 {operation}; wait with an await operation or `wait_for_change`, or raise \
                 `events_max`"
            );
            let at = SourcePlace::of(request.at);
            return Err(self.fail(FailureKind::UnboundedLoop, message, Some(at)));
        }
        let holds_back = |guide: &Guide| guide.holds_back(thread, index, self.search.graph.size());
        if self.guide.as_ref().is_some_and(holds_back) {
            return Err(Stop::Blocked);
        }
        Ok(())
    }

    /// The calling thread does something else than it did before.
    pub(crate) fn diverges(&mut self, now: &str) -> Stop {
        let (thread, index) = (self.run.current, self.next_index());
        let graph = &self.search.graph;
        let was = graph.item(thread, self.run.next[thread], self.run.plain[thread]);
        let was = was.map(Item::request);
        let at = was.map(|was| SourcePlace::of(was.at));
        let was = was.map_or_else(|| "nothing".to_owned(), |was| describe(graph, &was));
        let message = format!(
            "nondeterminism: event {index} of thread {thread} was {was}, and now is {now}; \
             keep all state that threads share in Atomic, Plain or Mutex, made inside the program"
        );
        self.fail(FailureKind::Nondeterminism, message, at)
    }

    /// Notes with a new event what its thread had created before.
    fn note_created(&mut self, id: EventId) {
        self.search.graph.event_mut(id).created = self.run.created[id.thread()];
    }

    fn advance(&mut self) {
        self.run.next[self.run.current] += 1;
    }

    /// An atomic read, with its write if it is a read-modify-write. One that may stand apart from
    /// its thread comes with a window.
    pub(crate) fn read(
        &mut self,
        request: Request,
        window: Option<&Window>,
    ) -> Result<(u64, EventId), Stop> {
        if self.is_probing() {
            return self.probe_read(&request).map(|value| (value, INITIAL));
        }
        let read = match self.find(&request)? {
            Some(read) => read,
            None => {
                if let Some(window) = window {
                    self.refuse_unknown(window, request.at)?;
                }
                let read = self.search.add_read(self.run.current, request, window);
                self.guide_read(read)?;
                self.note_created(read);
                if !self.search.add_update(read) {
                    let message = "two read-modify-writes of the token read the same write";
                    return Err(self.misuse(request.at, message));
                }
                if self.guide.is_some() {
                    self.search.alternatives.clear();
                }
                read
            }
        };
        self.advance();
        let event = self.search.graph.event(read);
        let (update, value) = (event.request.update, event.value);
        if update.blocks(value) {
            return Err(Stop::Blocked);
        }
        if update.written(value).is_some() {
            self.advance();
        }
        Ok((value, read))
    }

    fn guide_read(&mut self, read: EventId) -> Result<(), Stop> {
        let Some(guide) = &mut self.guide else { return Ok(()) };
        let graph = &mut self.search.graph;
        let Some(source) = guide.source_of(read) else { return Ok(()) };
        let event = graph.event(read);
        let (location, position) = (event.request.location, event.position);
        if source != INITIAL {
            let Some(write) = graph.threads[source.thread()].get(source.index()) else {
                // What it must read does not exist yet: the thread waits for a later round.
                guide.note_read(read, source);
                graph.cut(position as usize);
                return Err(Stop::Blocked);
            };
            if write.request.kind != Kind::Write || write.request.location != location {
                guide.misfit = true;
                return Err(Stop::Failed);
            }
        }
        if source != event.reads_from {
            guide.note_read(read, source);
        }
        graph.set_reads_from(read, source);
        Ok(())
    }

    /// An atomic store. One that stands apart from its thread comes with a window.
    pub(crate) fn write(
        &mut self,
        request: Request,
        payload: Payload,
        window: Option<&Window>,
    ) -> Result<(), Stop> {
        if self.is_probing() {
            return self.probe_write(&request);
        }
        if self.find(&request)?.is_none() {
            if let Some(window) = window {
                self.refuse_unknown(window, request.at)?;
            }
            let location = request.location;
            let write = self.search.add_store(self.run.current, request, payload, window);
            self.note_created(write);
            if let Some(guide) = &mut self.guide {
                self.search.alternatives.clear();
                let graph = &mut self.search.graph;
                let coherence = &graph.place(location).coherence;
                if let Some(index) = guide.place_of(write, coherence) {
                    graph.take_from_coherence(write, location);
                    graph.place_in_coherence(write, location, index);
                }
            }
        }
        self.advance();
        Ok(())
    }

    /// A fence, spawn, join or choice; returns the value chosen.
    pub(crate) fn other(&mut self, request: Request) -> Result<u64, Stop> {
        if self.is_probing() {
            return self.probe_other(&request);
        }
        let id = match self.find(&request)? {
            Some(id) => id,
            None => {
                let is_choice = request.kind == Kind::Choose;
                let id = self.search.add_other(self.run.current, request);
                self.note_created(id);
                if let Some(guide) = &mut self.guide
                    && is_choice
                {
                    self.search.alternatives.clear();
                    let event = self.search.graph.event_mut(id);
                    event.value = guide.pick_of(id);
                    if !matches!(event.request.update, Update::Choose(count) if event.value < count)
                    {
                        guide.misfit = true;
                        return Err(Stop::Failed);
                    }
                }
                id
            }
        };
        self.advance();
        Ok(self.search.graph.event(id).value)
    }

    /// A plain access, of this value if it is a write: every conflicting access must be ordered
    /// with it by happens-before.
    pub(crate) fn plain(
        &mut self,
        location: u32,
        stored: Option<u64>,
        at: &'static Location<'static>,
    ) -> Result<u64, Stop> {
        let (thread, run) = (self.run.current, &mut self.run);
        // Nearly always it is a replay.
        if let Some(recorded) = self.search.graph.plain[thread].get(run.plain[thread])
            && recorded.location == location
            && recorded.is_write == stored.is_some()
            && usize::from(recorded.epoch) == run.next[thread]
            && stored.is_none_or(|value| value == recorded.value)
        {
            run.plain[thread] += 1;
            return Ok(recorded.value);
        }
        self.new_plain(location, stored, at)
    }

    fn new_plain(
        &mut self,
        location: u32,
        stored: Option<u64>,
        at: &'static Location<'static>,
    ) -> Result<u64, Stop> {
        let (kind, update) = match stored {
            Some(value) => (Kind::PlainWrite, Update::Store(value)),
            None => (Kind::PlainRead, Update::None),
        };
        let request = Request { update, ..Request::new(kind, location, at) };
        if self.is_probing() {
            return self.probe_plain(&request);
        }
        let (thread, graph) = (self.run.current, &self.search.graph);
        let epoch = self.run.next[thread];
        if self.run.plain[thread] < graph.plain[thread].len() || epoch < graph.threads[thread].len()
        {
            return Err(self.diverges(&describe(graph, &request)));
        }
        self.may_add(&request)?;
        self.refuse_race(&request)?;
        let value = stored.unwrap_or_else(|| self.search.graph.plain_value(location));
        let (epoch, is_write) = (epoch as u16, stored.is_some());
        let access = PlainAccess { location, epoch, is_write, value, at };
        self.search.graph.push_plain(thread, access);
        self.run.plain[thread] += 1;
        Ok(value)
    }

    fn refuse_race(&mut self, request: &Request) -> Result<(), Stop> {
        let (thread, graph) = (self.run.current, &self.search.graph);
        let is_write = request.kind == Kind::PlainWrite;
        let Some(other) = graph.race(thread, request.location, is_write) else { return Ok(()) };
        let message = format!(
            "data race: {} by thread {thread} is unordered with {} by thread {}",
            describe(graph, request),
            describe(graph, &graph.access(other).request()),
            other.thread
        );
        Err(self.fail(FailureKind::DataRace, message, Some(SourcePlace::of(request.at))))
    }

    /// Registers a thread, or refuses.
    pub(crate) fn spawn(&mut self, at: &'static Location<'static>) -> Result<usize, Stop> {
        if self.run.current != 0 {
            return Err(self.misuse(
                at,
                "spawn was called by a spawned thread: spawn all threads from the main thread",
            ));
        }
        if self.run.thread_count == THREADS_MAX {
            return Err(self.misuse(
                at,
                "a program has at most 8 threads, the main thread included: spawn fewer",
            ));
        }
        let child = self.run.thread_count;
        self.other(Request::new(Kind::Spawn, child as u32, at))?;
        self.run.thread_count += 1;
        Ok(child)
    }

    pub(crate) fn set_body(&mut self, child: usize, body: Body) {
        self.run.bodies[child] = Some(body);
    }

    pub(crate) fn join(
        &mut self,
        child: usize,
        at: &'static Location<'static>,
    ) -> Result<(), Stop> {
        if self.run.blocked[child] {
            return Err(Stop::Blocked);
        }
        self.other(Request::new(Kind::Join, child as u32, at)).map(|_| ())
    }

    /// The lowest thread that has not been started in this run.
    pub(crate) fn next_thread(&mut self) -> NextThread {
        for thread in 1..self.run.thread_count {
            let Some(body) = self.run.bodies[thread].take() else { continue };
            let last = self.search.graph.threads[thread].last();
            let skips = self.guide.is_none() && self.run.probe.is_none();
            if skips && last.is_some_and(|event| event.blocks()) {
                self.run.blocked[thread] = true;
                return NextThread::Skip(body);
            }
            self.run.current = thread;
            return NextThread::Run(thread, body);
        }
        NextThread::Done
    }

    /// Whether a thread has done in this run all that it did before.
    pub(crate) fn is_over(&self, thread: usize) -> bool {
        self.run.next[thread] >= self.search.graph.threads[thread].len()
            && self.run.plain[thread] >= self.search.graph.plain[thread].len()
    }

    /// Ends the turn of a thread; control is the main thread's again.
    pub(crate) fn end_thread(
        &mut self,
        thread: usize,
        ended: Result<(), Stop>,
    ) -> Result<(), Stop> {
        let result = match ended {
            Ok(()) if self.is_probing() => {
                self.goes_on();
                self.run.blocked[thread] = true;
                Ok(())
            }
            Ok(()) if !self.is_over(thread) => {
                self.run.current = thread;
                Err(self.diverges("the end of the thread"))
            }
            Err(Stop::Blocked) => {
                self.run.blocked[thread] = true;
                Ok(())
            }
            other => other,
        };
        self.run.current = 0;
        result
    }

    /// Classifies the run, given how the main thread and the threads that it left ended.
    pub(crate) fn conclude(&mut self, main: Result<(), Stop>, others: Result<(), Stop>) -> Outcome {
        let main = match main {
            Ok(()) => self.end_thread(0, Ok(())),
            stopped => stopped,
        };
        if self.failure.is_some() {
            return Outcome::Failed;
        }
        match (main, others) {
            (Err(Stop::Failed), _) | (_, Err(Stop::Failed)) => Outcome::Failed,
            (Err(Stop::Redundant), _) | (_, Err(Stop::Redundant)) => Outcome::Redundant,
            (Ok(()), Ok(())) if !self.run.blocked.contains(&true) => self.check_early(),
            _ => self.conclude_blocked(),
        }
    }
}
