//! The engine of one OS thread: the graph being explored, and one run of the program over it.
//!
//! What an operation finds in the graph it *replays* (checking that it is the same operation: a
//! thread must be a function of what it reads); past the end of its thread it adds an event. Which
//! thread goes on is decided in `schedule`, after each operation.
//!
//! A thread that cannot go on is *stopped*: the operation returns [`Stop`], and the thread is kept
//! as it is until the run is over. Then it unwinds, with operations inert.

use std::cell::RefCell;
use std::panic::Location;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::accesses::{Item, PlainAccess};
use crate::arena;
use crate::choices::Search;
use crate::coroutines::suspend;
use crate::event::{EventId, INITIAL, Kind, Payload, Request, THREADS_MAX, Update, View};
use crate::graph::{location_of, split};
use crate::options::Options;
use crate::report::{FailureKind, RawFailure, SourcePlace};
use crate::schedule::Schedule;
use crate::token::Guide;
use crate::trace::describe;
use crate::waiting::Probe;
use crate::window::Window;
use crate::yielding::Rounds;

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
    /// The run has to be made again: see `yielding`.
    Again,
}

/// How a run of the program ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    Complete,
    Blocked,
    Redundant,
    Failed,
    /// The program has to be run again on the same graph: see `yielding`.
    Again,
    /// Every waiting thread has read the newest value where it waits: see `waiting`.
    Suspected,
}

pub(crate) type Body = Box<dyn FnOnce()>;

/// The state of one run; the graph outlives it.
#[derive(Default)]
pub(crate) struct Run {
    /// No other run of this process has the same.
    pub(crate) number: u64,
    pub(crate) current: usize,
    /// Index of each thread's next event.
    pub(crate) next: [usize; THREADS_MAX],
    /// Index of each thread's next plain access.
    pub(crate) plain: [usize; THREADS_MAX],
    pub(crate) schedule: Schedule,
    /// What the threads do that were spawned and have not begun.
    pub(crate) bodies: [Option<Body>; THREADS_MAX],
    /// A thread has ended because it assumed what is not so.
    pub(crate) assumed: bool,
    /// What waiting threads would do next, where that is being asked.
    pub(crate) probe: Option<Probe>,
    pub(crate) rounds: Rounds,
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
    arena::outside(|| {
        ENGINE.with_borrow_mut(|slot| match slot {
            Some(engine) => action(engine),
            None => panic!(
                "weft-explorer objects work only inside a program: create and use them in the \
                 closure that is given to `explore`"
            ),
        })
    })
}

/// Performs an operation, and lets other threads run where they have to. Does not return if the
/// calling thread is stopped.
pub(crate) fn perform<R>(action: impl FnOnce(&mut Engine) -> Result<R, Stop>) -> R {
    if with(|engine| engine.has_done_enough()) {
        suspend();
    }
    let (result, gives_way) = with(|engine| {
        let result = action(engine);
        let gives_way = engine.gives_way(result.as_ref().err().copied());
        (result, gives_way)
    });
    if gives_way {
        suspend();
    }
    let Ok(result) = result else { unreachable!("a thread that was stopped does not go on") };
    result
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

    /// Prepares to run the program on the current graph.
    pub(crate) fn begin(&mut self, probe: Option<Probe>) {
        static RUNS: AtomicU64 = AtomicU64::new(1);
        let number = RUNS.fetch_add(1, Ordering::Relaxed);
        self.run = Run { number, probe, ..Run::default() };
        self.enter(0);
        arena::reset();
    }

    /// The body of a thread that begins.
    pub(crate) fn take_body(&mut self, thread: usize) -> Body {
        self.run.bodies[thread].take().expect("a thread that goes on was spawned")
    }

    /// Bodies that were not run, to be dropped inertly.
    pub(crate) fn take_bodies(&mut self) -> impl Sized + use<> {
        std::mem::take(&mut self.run.bodies)
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
        if self.is_ahead() {
            return self.leaves_round();
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

    /// Where the last event of a thread is in the source text.
    pub(crate) fn last_place(&self, thread: usize) -> Option<&'static Location<'static>> {
        let last = self.run.next[thread].checked_sub(1)?;
        self.search.graph.threads[thread].get(last).map(|event| event.request.at)
    }

    /// Index of the calling thread's next event.
    pub(crate) fn next_event(&self) -> usize {
        self.run.next[self.run.current]
    }

    /// What happens before what the calling thread does now.
    pub(crate) fn known_here(&self) -> View {
        self.search.graph.known_before(self.run.current, self.next_event())
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
        if !self.leads() {
            return Err(self.diverges(&describe(&self.search.graph, request)));
        }
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
        if self.is_ahead() {
            return self.repeat(&request).map(|value| (value, INITIAL));
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
        let (update, value, source) = (event.request.update, event.value, event.reads_from);
        if update.blocks(value) {
            return Err(Stop::Blocked);
        }
        if update.written(value).is_some() {
            self.advance();
        }
        self.run.schedule.need(read.thread(), source);
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
        if self.is_ahead() {
            return Err(self.leaves_round());
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
        if self.is_ahead() {
            return self.repeat(&request);
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
        if self.is_ahead() {
            return self.repeat_plain(&request);
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

    /// Whether a thread has done in this run all that it did before.
    pub(crate) fn is_over(&self, thread: usize) -> bool {
        self.run.next[thread] >= self.search.graph.threads[thread].len()
            && self.run.plain[thread] >= self.search.graph.plain[thread].len()
    }

    /// The body of a thread has returned, or was stopped by a failure.
    pub(crate) fn end_thread(&mut self, thread: usize, ended: Result<(), Stop>) {
        let stop = match ended {
            Ok(()) if self.is_probing() => self.goes_on(),
            Ok(()) if self.is_ahead() => self.leaves_round(),
            Ok(()) if !self.is_over(thread) => self.diverges("the end of the thread"),
            Ok(()) => return self.run.schedule.end(thread),
            Err(stop) => stop,
        };
        self.run.schedule.stop(thread, stop);
    }

    /// Classifies the run.
    pub(crate) fn conclude(&mut self) -> Outcome {
        if let Some(fault) = arena::take_fault() {
            self.fail(FailureKind::Violation, fault, None);
        }
        let schedule = &self.run.schedule;
        if self.failure.is_some() || schedule.is_stopped_by(Stop::Failed) {
            Outcome::Failed
        } else if schedule.is_stopped_by(Stop::Again) {
            Outcome::Again
        } else if schedule.is_stopped_by(Stop::Redundant) {
            Outcome::Redundant
        } else if schedule.all_have_ended() {
            match arena::leak() {
                Some((message, at)) => {
                    self.fail(FailureKind::Violation, message, Some(SourcePlace::of(at)));
                    Outcome::Failed
                }
                None => Outcome::Complete,
            }
        } else {
            self.conclude_blocked()
        }
    }
}
