//! A failing execution, as data and as a picture.
//!
//! The graph that failed *is* the trace; it only needs an order to be told in. Program order,
//! reads-from, spawn and join are kept strictly. Among the events that these allow next, the one is
//! told that fits best with what was told before: writes in coherence order, and a read before the
//! writes that it did not see. So an execution that is sequentially consistent is told without any
//! surprise, and in a weak one a read is marked *stale* exactly where a newer write has been told
//! already. Coherence cannot always be kept: RC11 allows `porf | co` to be cyclic (2+2W).

use std::fmt;
use std::panic::Location;
use std::sync::atomic::Ordering;

use crate::accesses::{Item, PlainAccess};
use crate::event::{Event, EventId, INITIAL, Kind, NO_LOCATION, Request, THREADS_MAX, Update};
use crate::graph::Graph;

/// Longer traces print only their end.
const PRINTED_MAX: usize = 400;
/// Beyond this many events, reads are not told before the writes that they missed.
const SORTED_MAX: usize = 4_000;

/// Names an event: the `index`-th of its thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub struct EventRef {
    /// The thread, 0 being the main thread.
    pub thread: usize,
    /// The index in the thread, from 0; plain accesses count too.
    pub index: usize,
}

impl fmt::Display for EventRef {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "T{}.{}", self.thread, self.index)
    }
}

/// Where a read got its value.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Source {
    /// From the location's initial value.
    Initial,
    /// From this write.
    Event(EventRef),
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Initial => write!(formatter, "initial"),
            Source::Event(event) => event.fmt(formatter),
        }
    }
}

/// What an event of a trace does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum TraceKind {
    /// An atomic load, or an await that only reads.
    Load,
    /// An atomic store.
    Store,
    /// The read half of a read-modify-write.
    RmwRead,
    /// The write half of a read-modify-write.
    RmwWrite,
    /// A compare-exchange that failed, or an awaiting one that still waits.
    CasFailed,
    /// A fence.
    Fence,
    /// A read of plain memory.
    PlainRead,
    /// A write of plain memory.
    PlainWrite,
    /// The read half of locking an engine mutex.
    Lock,
    /// The write half of locking an engine mutex.
    Locked,
    /// The store that unlocks an engine mutex.
    Unlock,
    /// The read half of interrupting the holder of an engine mutex.
    Interrupt,
    /// The write half of that.
    Interrupted,
    /// The store with which the handler ends.
    Return,
    /// A thread spawns the thread in `value`.
    Spawn,
    /// A thread joins the thread in `value`.
    Join,
    /// A choice.
    Choose,
}

impl TraceKind {
    fn name(self) -> &'static str {
        match self {
            TraceKind::Load => "load",
            TraceKind::Store => "store",
            TraceKind::RmwRead => "rmw reads",
            TraceKind::RmwWrite => "rmw writes",
            TraceKind::CasFailed => "cas fails",
            TraceKind::Fence => "fence",
            TraceKind::PlainRead => "plain read",
            TraceKind::PlainWrite => "plain write",
            TraceKind::Lock => "lock",
            TraceKind::Locked => "has locked",
            TraceKind::Unlock => "unlock",
            TraceKind::Interrupt => "interrupt",
            TraceKind::Interrupted => "has interrupted",
            TraceKind::Return => "return",
            TraceKind::Spawn => "spawn",
            TraceKind::Join => "join",
            TraceKind::Choose => "choose",
        }
    }
}

/// One event of a trace.
#[derive(Clone, Debug)]
pub struct TraceEvent {
    /// The event.
    pub event: EventRef,
    /// What it does.
    pub kind: TraceKind,
    /// The location, as `Atomic::id` gives it.
    pub location: Option<u32>,
    /// What the program calls the location, or `x` or `m` with its number; empty if there is none.
    pub name: String,
    /// The memory order of atomic accesses and fences; the failure order where that applied.
    pub order: Option<Ordering>,
    /// The value read, written or chosen; the other thread of a spawn or join.
    pub value: u64,
    /// For atomic reads: where the value came from.
    pub reads_from: Option<Source>,
    /// The newest write that came earlier in the trace although the read did not see it.
    pub stale: Option<EventRef>,
    /// A load within a window took a value that its thread could not have loaded now.
    pub is_old: bool,
    /// The source text.
    pub at: &'static Location<'static>,
}

impl fmt::Display for TraceEvent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.kind.name())?;
        match (self.kind, self.location) {
            (TraceKind::Spawn | TraceKind::Join, _) => write!(formatter, " T{}", self.value)?,
            (TraceKind::Lock | TraceKind::Locked | TraceKind::Unlock, Some(_))
            | (TraceKind::Interrupt | TraceKind::Interrupted | TraceKind::Return, Some(_)) => {
                write!(formatter, " {}", self.name)?;
            }
            (_, Some(_)) => write!(formatter, " {} = {:#x}", self.name, self.value)?,
            (TraceKind::Choose, None) => write!(formatter, " {}", self.value)?,
            (_, None) => {}
        }
        if let Some(order) = self.order {
            write!(formatter, " {order:?}")?;
        }
        if let Some(source) = self.reads_from {
            write!(formatter, " from {source}")?;
        }
        if let Some(missed) = self.stale {
            let old = if self.is_old { "old: " } else { "" };
            write!(formatter, " (!) {old}missed {missed}")?;
        }
        Ok(())
    }
}

/// A thread that waits at the end of a trace.
#[derive(Clone, Debug)]
pub struct BlockedThread {
    /// The thread.
    pub thread: usize,
    /// The location that it waits on.
    pub location: u32,
    /// What it waits for, in words that name the location.
    pub waits_for: String,
    /// What it read.
    pub value: u64,
    /// Where that came from.
    pub reads_from: Source,
    /// The source text.
    pub at: &'static Location<'static>,
}

/// An execution, in an order in which it can be told.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// All events.
    pub events: Vec<TraceEvent>,
    /// The threads that wait.
    pub blocked: Vec<BlockedThread>,
}

fn reference(graph: &Graph, id: EventId) -> EventRef {
    let index = id.index() + graph.event(id).plain_before as usize;
    EventRef { thread: id.thread(), index }
}

fn source(graph: &Graph, id: EventId) -> Source {
    if id == INITIAL { Source::Initial } else { Source::Event(reference(graph, id)) }
}

impl Trace {
    pub(crate) fn of(graph: &Graph) -> Trace {
        let mut teller = Teller::new(graph);
        let mut events = Vec::with_capacity(graph.size());
        while let Some((thread, item)) = teller.next() {
            let index = teller.told[thread];
            let plain_index = index + teller.plain_told[thread];
            teller.pass(thread, item);
            events.push(match item {
                Item::Event(_) => teller.tell(EventId::new(thread, index)),
                Item::Access(access) => teller.tell_access(thread, plain_index, access),
            });
        }
        let blocked = (0..THREADS_MAX)
            .filter_map(|thread| {
                let event = graph.threads[thread].last().filter(|event| event.blocks())?;
                Some(BlockedThread {
                    thread,
                    location: event.request.location,
                    waits_for: awaited(graph, event),
                    value: event.value,
                    reads_from: source(graph, event.reads_from),
                    at: event.request.at,
                })
            })
            .collect();
        Trace { events, blocked }
    }

    /// How large the trace of a graph is: switches between threads, then events.
    pub(crate) fn size_of(graph: &Graph) -> (usize, usize) {
        let mut teller = Teller::new(graph);
        let (mut switches, mut events) = (0, 0);
        while let Some((thread, item)) = teller.next() {
            switches += usize::from(thread != teller.previous);
            events += 1;
            teller.pass(thread, item);
        }
        (switches, events)
    }

    /// How often another thread than before goes on; the main thread begins.
    pub fn switches(&self) -> usize {
        let threads = self.events.iter().map(|event| event.event.thread);
        let before = std::iter::once(0).chain(threads.clone());
        before.zip(threads).filter(|(before, now)| before != now).count()
    }
}

fn awaited(graph: &Graph, event: &Event) -> String {
    let location = event.request.location;
    let name = graph.name(location);
    match event.request.update {
        _ if graph.place(location).is_mutex => format!("{name} to be unlocked"),
        Update::AwaitEqual(value) | Update::AwaitExchange { expected: value, .. } => {
            format!("{value:#x} in {name}")
        }
        Update::AwaitUnequal(value) => format!("anything but {value:#x} in {name}"),
        Update::AwaitAdd { limit, .. } => format!("less than {limit:#x} in {name}"),
        _ => format!("a change of {name} from {:#x}", event.value),
    }
}

/// Chooses the order of a trace.
struct Teller<'graph> {
    graph: &'graph Graph,
    /// How many events and plain accesses of each thread have been told.
    told: [usize; THREADS_MAX],
    plain_told: [usize; THREADS_MAX],
    previous: usize,
}

impl<'graph> Teller<'graph> {
    fn new(graph: &'graph Graph) -> Teller<'graph> {
        let (told, plain_told) = ([0; THREADS_MAX], [0; THREADS_MAX]);
        Teller { graph, told, plain_told, previous: 0 }
    }

    /// Counts something as told.
    fn pass(&mut self, thread: usize, item: Item<'_>) {
        match item {
            Item::Event(_) => self.told[thread] += 1,
            Item::Access(_) => self.plain_told[thread] += 1,
        }
        self.previous = thread;
    }

    fn is_told(&self, id: EventId) -> bool {
        id == INITIAL || id.index() < self.told[id.thread()]
    }

    /// Whether everything that `thread` needs for what it does next has been told.
    fn is_ready(&self, thread: usize, item: Item<'_>) -> bool {
        let causes = match item {
            Item::Event(event) => event.causes,
            // All but the first accesses come behind an event that has been told.
            Item::Access(access) if access.epoch == 0 => self.graph.start[thread].1,
            Item::Access(_) => return true,
        };
        let joins = |other: usize| match item {
            Item::Event(event) => {
                event.request.kind == Kind::Join && event.request.location as usize == other
            }
            Item::Access(_) => false,
        };
        (0..THREADS_MAX).filter(|other| *other != thread).all(|other| {
            usize::from(causes.0[other]) <= self.told[other]
                && (!joins(other) || self.plain_told[other] == self.graph.plain[other].len())
        })
    }

    /// What to tell next: of what has all its causes told, the least surprising.
    fn next(&self) -> Option<(usize, Item<'graph>)> {
        (0..THREADS_MAX)
            .filter_map(|thread| {
                let (told, plain_told) = (self.told[thread], self.plain_told[thread]);
                let item = self.graph.item(thread, told, plain_told)?;
                let surprises = match item {
                    Item::Event(_) => self.surprises(EventId::new(thread, told)),
                    Item::Access(_) => 0,
                };
                let key = (surprises, usize::from(thread != self.previous), thread);
                self.is_ready(thread, item).then_some((key, (thread, item)))
            })
            .min_by_key(|(key, _)| *key)
            .map(|(_, next)| next)
    }

    /// How many events that should have been told before this write have not been.
    fn surprises(&self, id: EventId) -> usize {
        let event = self.graph.event(id);
        if event.request.kind != Kind::Write {
            return 0;
        }
        let location = event.request.location;
        let place = self.graph.place(location);
        let Some(index) = place.coherence.iter().position(|write| *write == id) else { return 0 };
        let older = place.coherence[..index].iter().filter(|write| !self.is_told(**write)).count();
        if self.graph.order.len() > SORTED_MAX {
            return older;
        }
        let missing = |read: &&EventId| {
            let seen = self.graph.event(**read).reads_from;
            !self.is_told(**read) && self.graph.coherence_position(location, seen) <= index
        };
        older + place.reads.iter().filter(missing).count()
    }

    fn tell_access(&self, thread: usize, index: usize, access: &PlainAccess) -> TraceEvent {
        TraceEvent {
            event: EventRef { thread, index },
            kind: if access.is_write { TraceKind::PlainWrite } else { TraceKind::PlainRead },
            location: Some(access.location),
            name: self.graph.name(access.location),
            order: None,
            value: access.value,
            reads_from: None,
            stale: None,
            is_old: false,
            at: access.at,
        }
    }

    fn tell(&self, id: EventId) -> TraceEvent {
        let graph = self.graph;
        let event = graph.event(id);
        let request = &event.request;
        let is_read = request.kind == Kind::Read;
        let kind = trace_kind(graph, event);
        let stale = is_read.then(|| {
            let place = graph.place(request.location);
            let newer = graph.coherence_position(request.location, event.reads_from);
            let is_apart = event.stands_apart();
            let told =
                |write: &&EventId| self.is_told(**write) && (is_apart || write.thread != id.thread);
            place.coherence[newer..]
                .iter()
                .rev()
                .find(told)
                .copied()
                .map(|write| reference(graph, write))
        });
        let has_order = matches!(request.kind, Kind::Read | Kind::Write | Kind::Fence);
        let is_thread = matches!(request.kind, Kind::Spawn | Kind::Join);
        let location = (request.location != NO_LOCATION && !is_thread).then_some(request.location);
        TraceEvent {
            event: reference(graph, id),
            kind,
            location,
            name: location.map_or_else(String::new, |location| graph.name(location)),
            order: has_order.then(|| event.effective_order()),
            value: if is_thread { u64::from(request.location) } else { event.value },
            reads_from: is_read.then(|| source(graph, event.reads_from)),
            stale: stale.flatten(),
            is_old: is_read && event.request.update.may_have_kept(event.value) && graph.is_old(id),
            at: request.at,
        }
    }
}

fn trace_kind(graph: &Graph, event: &Event) -> TraceKind {
    let request = &event.request;
    let is_mutex = || graph.place(request.location).is_mutex;
    match request.kind {
        Kind::Read if request.update == Update::Interrupt => TraceKind::Interrupt,
        Kind::Write if request.update == Update::Interrupt => TraceKind::Interrupted,
        Kind::Write if request.update == Update::Return => TraceKind::Return,
        Kind::Read if is_mutex() => TraceKind::Lock,
        Kind::Read if !request.update.may_write() => TraceKind::Load,
        Kind::Read if request.update.written(event.value).is_none() => TraceKind::CasFailed,
        Kind::Read => TraceKind::RmwRead,
        Kind::Write if event.exclusive && is_mutex() => TraceKind::Locked,
        Kind::Write if event.exclusive => TraceKind::RmwWrite,
        Kind::Write if is_mutex() => TraceKind::Unlock,
        Kind::Write => TraceKind::Store,
        Kind::Fence => TraceKind::Fence,
        Kind::PlainRead => TraceKind::PlainRead,
        Kind::PlainWrite => TraceKind::PlainWrite,
        Kind::Spawn => TraceKind::Spawn,
        Kind::Join => TraceKind::Join,
        Kind::Choose => TraceKind::Choose,
    }
}

/// A request in words, with its place: for messages.
pub(crate) fn describe(graph: &Graph, request: &Request) -> String {
    let (location, order) = (request.location, request.order);
    let operand = match request.update {
        Update::Store(value) | Update::Choose(value) => value,
        _ => 0,
    };
    let name = graph.name(location);
    let is_mutex = graph.known_place(location).is_some_and(|place| place.is_mutex);
    let what = match (request.kind, request.update) {
        (Kind::Read, Update::Interrupt) => format!("an interrupt of {name}"),
        (Kind::Write, Update::Return) => format!("the return from an interrupt of {name}"),
        (Kind::Read, Update::Within(_)) => format!("a load of {name} within a window"),
        (Kind::Read, _) if is_mutex => format!("a lock of {name}"),
        (Kind::Write, _) if is_mutex => format!("an unlock of {name}"),
        (Kind::Read, Update::None) => format!("a load of {name} ({order:?})"),
        (Kind::Read, update) => format!("{update:?} of {name} ({order:?})"),
        (Kind::Write, _) => format!("a store of {operand} to {name} ({order:?})"),
        (Kind::Fence, _) => format!("a fence ({order:?})"),
        (Kind::PlainRead, _) => format!("a plain read of {name}"),
        (Kind::PlainWrite, _) => format!("a plain write to {name}"),
        (Kind::Spawn, _) => format!("the spawn of thread {location}"),
        (Kind::Join, _) => format!("the join of thread {location}"),
        (Kind::Choose, _) => format!("a choice of {operand}"),
    };
    format!("{what} at {}:{}", request.at.file(), request.at.line())
}

impl fmt::Display for Trace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let skipped = self.events.len().saturating_sub(PRINTED_MAX);
        let shown = &self.events[skipped..];
        let cells: Vec<(usize, String)> = shown
            .iter()
            .map(|event| (event.event.thread, format!("{} {event}", event.event)))
            .collect();
        let threads = cells.iter().map(|(thread, _)| thread + 1).max().unwrap_or(0);
        let mut widths = vec![8; threads];
        for (thread, cell) in &cells {
            widths[*thread] = widths[*thread].max(cell.len());
        }
        let titles: Vec<String> = widths
            .iter()
            .enumerate()
            .map(|(thread, width)| format!("{:<width$}", format!("thread {thread}")))
            .collect();
        writeln!(formatter, "{}", titles.join(" | ").trim_end())?;
        if skipped > 0 {
            writeln!(formatter, "({skipped} earlier events)")?;
        }
        for (event, (own, cell)) in shown.iter().zip(&cells) {
            for (thread, width) in widths.iter().enumerate() {
                let text = if thread == *own { cell.as_str() } else { "" };
                let separator = if thread == 0 { "" } else { " | " };
                write!(formatter, "{separator}{text:<width$}")?;
            }
            writeln!(formatter, "   {}:{}", event.at.file(), event.at.line())?;
        }
        for blocked in &self.blocked {
            writeln!(
                formatter,
                "thread {} waits for {}, and reads {:#x} from {} ({}:{})",
                blocked.thread,
                blocked.waits_for,
                blocked.value,
                blocked.reads_from,
                blocked.at.file(),
                blocked.at.line()
            )?;
        }
        Ok(())
    }
}
