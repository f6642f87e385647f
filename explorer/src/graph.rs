//! The execution graph: events by thread, coherence order by location, and the order of addition.
//!
//! Program order is the order inside each thread's vector, reads-from is a field of the read,
//! coherence (`mo` in C11, `co` here) is one vector per location with the initial write left out:
//! coherence position 0 is the initial write, position `k` the `k`-th entry. The order of addition
//! is the algorithm's own: TruSt (Kokologiannakis, Marmanis, Gladstein, Vafeiadis, "Truly
//! stateless, optimal dynamic partial order reduction", POPL'22) undoes choices by cutting the
//! graph back to a prefix of that order, and by restricting it to the past of a write.
//!
//! Every new event is last in its thread and has no successor in any relation, so only its own
//! views need computing, and *taking the newest value or place is always consistent*. That is what
//! the lower bounds rest on: an event may read, or be placed behind, any write that is not
//! superseded by one that it already knows ([`Graph::coherence_bound`]).

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::accesses::{PlainAccess, Touch};
use crate::event::{
    Event, EventId, INITIAL, Kind, Payload, Request, THREADS_MAX, Update, View, acquires,
};

#[derive(Clone, Debug, Default)]
pub(crate) struct Place {
    pub(crate) initial: u64,
    /// The data of an engine mutex: at first, and after each unlocking store.
    pub(crate) payload: Payload,
    pub(crate) unlocked: Vec<(EventId, Payload)>,
    /// An engine mutex; matters only for how events are described.
    pub(crate) is_mutex: bool,
    pub(crate) name: Option<&'static str>,
    /// Atomic writes in coherence order, without the initial one.
    pub(crate) coherence: Vec<EventId>,
    /// Atomic reads.
    pub(crate) reads: Vec<EventId>,
    /// For plain memory: see `accesses`.
    pub(crate) plain_writes: Vec<Touch>,
    pub(crate) plain_reads: Vec<Touch>,
}

/// The number of the `number`-th location that `thread` creates.
pub(crate) fn location_of(thread: usize, number: u32) -> u32 {
    number * THREADS_MAX as u32 + thread as u32
}

/// The thread that creates a location, and which of the thread's it is.
pub(crate) fn split(location: u32) -> (usize, usize) {
    (location as usize % THREADS_MAX, location as usize / THREADS_MAX)
}

#[derive(Debug, Default)]
pub(crate) struct Graph {
    pub(crate) threads: [Vec<Event>; THREADS_MAX],
    /// Plain accesses, which are no events.
    pub(crate) plain: [Vec<PlainAccess>; THREADS_MAX],
    /// Events in the order in which they were added.
    pub(crate) order: Vec<EventId>,
    /// Shared with the graphs that were suspended, until one of them changes a location.
    /// Those of each thread that creates them.
    places: [Vec<Arc<Place>>; THREADS_MAX],
    /// What each thread knew when it was spawned: `happens_before` and `causes` of the spawn.
    pub(crate) start: [(View, View); THREADS_MAX],
    /// The event that has spawned each thread, and the thread's place among all: behind the thread
    /// that has spawned it, in the order of its spawns. A thread's number is any that was free.
    pub(crate) spawned: [Option<EventId>; THREADS_MAX],
    pub(crate) ranks: [u32; THREADS_MAX],
    /// How many events may be sequentially consistent.
    pub(crate) sequential_count: u32,
    /// How many events deviate from the default choice.
    pub(crate) deviations: u32,
}

impl Clone for Graph {
    fn clone(&self) -> Graph {
        let mut copy = Graph::default();
        copy.clone_from(self);
        copy
    }

    /// Reuses the memory of what is overwritten.
    fn clone_from(&mut self, other: &Graph) {
        for (mine, theirs) in self.threads.iter_mut().zip(&other.threads) {
            mine.clone_from(theirs);
        }
        for (mine, theirs) in self.plain.iter_mut().zip(&other.plain) {
            mine.clone_from(theirs);
        }
        self.order.clone_from(&other.order);
        for (mine, theirs) in self.places.iter_mut().zip(&other.places) {
            mine.clone_from(theirs);
        }
        self.start = other.start;
        self.spawned = other.spawned;
        self.ranks = other.ranks;
        self.sequential_count = other.sequential_count;
        self.deviations = other.deviations;
    }
}

impl Graph {
    pub(crate) fn event(&self, id: EventId) -> &Event {
        &self.threads[id.thread()][id.index()]
    }

    pub(crate) fn event_mut(&mut self, id: EventId) -> &mut Event {
        &mut self.threads[id.thread()][id.index()]
    }

    pub(crate) fn place(&self, location: u32) -> &Place {
        let (thread, number) = split(location);
        &self.places[thread][number]
    }

    /// The place of a location that a message may name before it is created.
    pub(crate) fn known_place(&self, location: u32) -> Option<&Place> {
        let (thread, number) = split(location);
        self.places[thread].get(number).map(Arc::as_ref)
    }

    pub(crate) fn places(&self) -> impl Iterator<Item = &Place> {
        self.places.iter().flatten().map(Arc::as_ref)
    }

    pub(crate) fn place_mut(&mut self, location: u32) -> &mut Place {
        let (thread, number) = split(location);
        Arc::make_mut(&mut self.places[thread][number])
    }

    /// Makes a location known, or what is known of it that which an execution says when it creates
    /// the location again.
    pub(crate) fn create_place(
        &mut self,
        location: u32,
        initial: u64,
        name: Option<&'static str>,
        payload: Payload,
    ) {
        let (thread, number) = split(location);
        while self.places[thread].len() <= number {
            self.places[thread].push(Arc::default());
        }
        let (place, is_mutex) = (&self.places[thread][number], payload.is_some());
        if is_mutex || (place.initial, place.name, place.is_mutex) != (initial, name, false) {
            let place = self.place_mut(location);
            (place.initial, place.name, place.is_mutex) = (initial, name, is_mutex);
            place.payload = payload;
        }
    }

    /// Shares nothing any more with other graphs.
    pub(crate) fn release(&mut self) {
        self.places.iter_mut().for_each(Vec::clear);
    }

    /// What reports call a location.
    pub(crate) fn name(&self, location: u32) -> String {
        match self.known_place(location).map(|place| (place.name, place.is_mutex)) {
            Some((Some(name), _)) => name.to_owned(),
            Some((None, true)) => format!("m{location}"),
            _ => format!("x{location}"),
        }
    }

    /// The coherence position of a write.
    pub(crate) fn coherence_position(&self, location: u32, write: EventId) -> usize {
        if write == INITIAL {
            return 0;
        }
        let found = self.place(location).coherence.iter().rposition(|other| *other == write);
        1 + found.expect("a write that is read must be in the coherence order")
    }

    pub(crate) fn write_at(&self, location: u32, position: usize) -> EventId {
        if position == 0 { INITIAL } else { self.place(location).coherence[position - 1] }
    }

    pub(crate) fn written_value(&self, location: u32, write: EventId) -> u64 {
        if write == INITIAL { self.place(location).initial } else { self.event(write).value }
    }

    /// What happens before event `index` of `thread`, apart from what that event itself learns.
    pub(crate) fn known_before(&self, thread: usize, index: usize) -> View {
        match index {
            0 => self.start[thread].0,
            _ => self.threads[thread][index - 1].happens_before,
        }
    }

    /// The coherence position of the newest write that is in `view`, or was read by a read in
    /// `view`. An event that knows `view` can neither read nor be placed before anything older
    /// (the four coherence axioms of RC11: `hb;eco` is irreflexive).
    pub(crate) fn coherence_bound(&self, location: u32, view: &View) -> usize {
        let place = self.place(location);
        let mut position = place.coherence.len();
        while position > 0 {
            let write = place.coherence[position - 1];
            let was_read =
                |read: &EventId| read.within(view) && self.event(*read).reads_from == write;
            if write.within(view) || place.reads.iter().any(was_read) {
                break;
            }
            position -= 1;
        }
        position
    }

    /// An event that continues `thread`, with the views that it has before it reads anything.
    pub(crate) fn blank(&self, thread: usize, request: Request) -> Event {
        let id = EventId::new(thread, self.threads[thread].len());
        let (mut happens_before, mut causes) = self.start[thread];
        let (mut pending_acquires, mut release_fence) = (View::default(), View::default());
        if let Some(last) = self.threads[thread].last() {
            (happens_before, causes) = (last.happens_before, last.causes);
            (pending_acquires, release_fence) = (last.pending_acquires, last.release_fence);
        }
        happens_before.include(id);
        causes.include(id);
        Event {
            value: match request.update {
                Update::Store(value) => value,
                Update::Lock | Update::Interrupt if request.kind == Kind::Write => 1,
                _ => 0,
            },
            request,
            created: 0,
            plain_before: 0,
            exclusive: false,
            deviates: false,
            waits: false,
            waits_on: 0,
            goes_on: false,
            reads_from: INITIAL,
            after: INITIAL,
            position: 0,
            happens_before,
            causes,
            pending_acquires,
            release_fence,
            released: View::default(),
        }
    }

    /// Adds an event at the end of its thread. A write's place in coherence is the caller's job.
    pub(crate) fn push(&mut self, thread: usize, mut event: Event) -> EventId {
        let id = EventId::new(thread, self.threads[thread].len());
        event.position = self.order.len() as u32;
        self.order.push(id);
        self.sequential_count += u32::from(event.request.may_be_sequential());
        self.deviations += u32::from(event.deviates);
        event.plain_before = self.plain[thread].len() as u32;
        if event.request.kind == Kind::Read {
            self.place_mut(event.request.location).reads.push(id);
        }
        self.threads[thread].push(event);
        id
    }

    pub(crate) fn set_deviates(&mut self, id: EventId) {
        let event = self.event_mut(id);
        if !event.deviates {
            event.deviates = true;
            self.deviations += 1;
        }
    }

    pub(crate) fn place_in_coherence(&mut self, write: EventId, location: u32, index: usize) {
        self.place_mut(location).coherence.insert(index, write);
    }

    pub(crate) fn take_from_coherence(&mut self, write: EventId, location: u32) {
        self.place_mut(location).coherence.retain(|other| *other != write);
    }

    /// Removes the last event of a thread.
    fn pop(&mut self, id: EventId) {
        let event = self.threads[id.thread()].pop().expect("an event in the order is in a thread");
        assert_eq!(self.threads[id.thread()].len(), id.index(), "program order is not closed");
        self.sequential_count -= u32::from(event.request.may_be_sequential());
        self.deviations -= u32::from(event.deviates);
        self.truncate_plain(id.thread(), event.plain_before as usize);
        match event.request.kind {
            Kind::Read => {
                let reads = &mut self.place_mut(event.request.location).reads;
                let index = reads.iter().rposition(|other| *other == id);
                reads.swap_remove(index.expect("a read is listed with its location"));
            }
            // The thread may do something else when it is spawned again.
            Kind::Spawn => {
                let child = event.request.location as usize;
                self.truncate_plain(child, 0);
                self.spawned[child] = None;
            }
            Kind::Write => {
                self.take_from_coherence(id, event.request.location);
                self.place_mut(event.request.location).unlocked.retain(|(write, _)| *write != id);
            }
            _ => {}
        }
    }

    /// Keeps the first `count` events in the order of addition.
    pub(crate) fn cut(&mut self, count: usize) {
        while self.order.len() > count {
            if let Some(id) = self.order.pop() {
                self.pop(id);
            }
        }
    }

    /// Whether a revisit of a read at `position` by a write that knows `causes` keeps the event.
    pub(crate) fn survives(&self, id: EventId, position: u32, causes: &View) -> bool {
        id.within(causes) || self.event(id).position <= position
    }

    /// Keeps the events up to `position` and those in `causes`.
    pub(crate) fn restrict(&mut self, position: u32, causes: &View) {
        let mut order = std::mem::take(&mut self.order);
        let mut dropped = Vec::new();
        order.retain(|id| {
            let keep = self.survives(*id, position, causes);
            if !keep {
                dropped.push(*id);
            }
            keep
        });
        for id in dropped.into_iter().rev() {
            self.pop(id);
        }
        for (position, id) in order.iter().enumerate() {
            self.event_mut(*id).position = position as u32;
        }
        self.order = order;
    }

    /// Makes a read take its value from `write`, and computes its views anew.
    pub(crate) fn set_reads_from(&mut self, read: EventId, write: EventId) {
        let (mut happens_before, mut causes) = self.start[read.thread()];
        let mut pending_acquires = View::default();
        if read.index > 0 {
            let before = &self.threads[read.thread()][read.index() - 1];
            (happens_before, causes) = (before.happens_before, before.causes);
            pending_acquires = before.pending_acquires;
        }
        let location = self.event(read).request.location;
        let value = self.written_value(location, write);
        if write != INITIAL {
            let source = self.event(write);
            causes.join(&source.causes);
            if acquires(self.event(read).order_when_reading(value)) {
                happens_before.join(&source.released);
            } else {
                pending_acquires.join(&source.released);
            }
        }
        happens_before.include(read);
        causes.include(read);
        // What the thread did behind the read depends on what it read.
        self.truncate_plain(read.thread(), self.event(read).plain_before as usize);
        let event = self.event_mut(read);
        event.reads_from = write;
        event.goes_on = false;
        event.value = value;
        event.happens_before = happens_before;
        event.causes = causes;
        event.pending_acquires = pending_acquires;
    }

    /// The data that a read of an engine mutex gets.
    pub(crate) fn payload_read(&self, read: EventId) -> Payload {
        let event = self.event(read);
        let place = self.place(event.request.location);
        if event.reads_from == INITIAL {
            return place.payload.clone();
        }
        let unlocked = place.unlocked.iter().find(|(write, _)| *write == event.reads_from);
        unlocked.map(|(_, payload)| payload.clone()).unwrap_or_default()
    }

    /// Whether a read missed a write that was there when its source was decided: one that is
    /// coherence-after its source, and was added before the read or caused the source.
    ///
    /// Such a read can never be revisited again, and stays so in every graph that follows: see
    /// the header of `choices`.
    pub(crate) fn is_stale(&self, read: EventId) -> bool {
        let event = self.event(read);
        let (location, source) = (event.request.location, event.reads_from);
        let revisited = (source != INITIAL && self.event(source).position > event.position)
            .then(|| self.event(source).causes);
        let place = self.place(location);
        place.coherence[self.coherence_position(location, source)..].iter().any(|other| {
            self.event(*other).position <= event.position
                || revisited.is_some_and(|causes| other.within(&causes))
        })
    }

    /// Whether a write was made by a read-modify-write that read `source`; it then sits directly
    /// behind its source, and nothing may come between.
    pub(crate) fn is_exclusive(&self, write: EventId) -> bool {
        self.event(write).exclusive
    }
}

impl Graph {
    /// Notes that an event has spawned a thread. A rank has one digit for each spawn that leads to
    /// the thread, the main thread's first.
    pub(crate) fn note_spawn(&mut self, spawn: EventId, child: usize) {
        let earlier = self.threads[spawn.thread()][..spawn.index()].iter();
        let number = 1 + earlier.filter(|event| event.request.kind == Kind::Spawn).count();
        let (mut depth, mut ancestor) = (0, spawn.thread());
        while let Some(before) = self.spawned[ancestor] {
            (depth, ancestor) = (depth + 1, before.thread());
        }
        let digits = THREADS_MAX - 2 - depth;
        self.ranks[child] = self.ranks[spawn.thread()] | (number as u32) << (3 * digits);
        self.spawned[child] = Some(spawn);
    }

    /// A number that two graphs share only if they are the same execution, whatever the order in
    /// which it was built, and which numbers it has given to the threads.
    pub(crate) fn canonical(&self) -> u128 {
        let exists = |thread: &usize| *thread == 0 || self.spawned[*thread].is_some();
        let mut threads: Vec<usize> = (0..THREADS_MAX).filter(exists).collect();
        threads.sort_by_key(|thread| self.ranks[*thread]);
        let place = |thread: usize| threads.iter().position(|other| *other == thread);
        let halves = [1u64, 2].map(|salt| {
            let mut hasher = DefaultHasher::new();
            salt.hash(&mut hasher);
            for thread in &threads {
                let events = &self.threads[*thread];
                events.len().hash(&mut hasher);
                for event in events {
                    let (kind, location) = (event.request.kind, event.request.location);
                    let location = match kind {
                        Kind::Spawn | Kind::Join => (place(location as usize), 0),
                        _ => (place(split(location).0), split(location).1),
                    };
                    let source = (place(event.reads_from.thread()), event.reads_from.index);
                    (kind, location, event.value, source).hash(&mut hasher);
                }
            }
            for place_of_thread in threads.iter().map(|thread| &self.places[*thread]) {
                for location in place_of_thread {
                    for write in &location.coherence {
                        (place(write.thread()), write.index).hash(&mut hasher);
                    }
                    u8::MAX.hash(&mut hasher);
                }
            }
            hasher.finish()
        });
        u128::from(halves[0]) << 64 | u128::from(halves[1])
    }
}
