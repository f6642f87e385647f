//! Choices: TruSt's forward options and backward revisits, and what makes each graph appear once.
//!
//! *Forward.* A new read takes the newest value it can; the older ones it may legally see are put
//! aside as alternatives. A new plain write goes last in coherence; the earlier places it may
//! legally take are put aside. `choose(n)` takes 0 and puts 1..n aside.
//!
//! *Backward.* A new write `w` may be what an earlier read `r` should have read. The revisit keeps
//! what was added up to `r` and what `w` depends on (its `porf` prefix), deletes the rest, and lets
//! `r` read `w`. The same graph would result from many different starting points, one for every
//! way in which the deleted events could have been chosen; exactly one of them may do it. TruSt's
//! rule (POPL'22, section 3.3): `r` and every deleted event must be *maximal*, that is, must be as
//! if it had been added with the newest option, looking only at what came before it and at the
//! past of `w` ([`Search::is_maximal`]).
//!
//! Why this is complete and visits nothing twice is the paper's theorem (mechanised there) for
//! models that are prefix-closed, maximally extensible and porf-acyclic, and a scheduler that is
//! a function of the graph. Deviations from the published algorithm, each watched by the gate:
//!
//! * *Eager writes, dropped conflicts.* When a read of a read-modify-write gets a new source, its
//!   write is added at once, without running the thread. If another such write already sits
//!   directly behind that source, the graph is inconsistent whatever follows: it is dropped after
//!   its write has queued its revisits, one of which makes the other read give way.
//! * *Waiting reads.* A read that blocks on its value never takes a stale source that would not
//!   satisfy it, forwards or backwards. A stale read stays stale: the newer write was there before
//!   it, so whatever keeps the read keeps the write. Hence it is never maximal and never deleted or
//!   revisited, its thread stays blocked in every graph below, and none of those is complete or
//!   a deadlock. What the other threads do there, they also do where the read takes the newest
//!   value. (A waiting read that ignored all writes that do not satisfy it would save more, and
//!   would visit executions twice: the gate sees it.)
//! * *Waiting for a change* (the spin-assume transformation of Kokologiannakis, Ren, Vafeiadis,
//!   FMCAD'21): a loop that re-reads a word without effect is one read that blocks when it gets a
//!   value which the loop does not accept. Which values those are is learnt when the thread says
//!   so, and noted at the read; a thread is a function of what it read, so the note stays true
//!   until the read is deleted. From then on the previous point applies.
//! * *Loads within windows* have further options, older ones, and are otherwise reads like any: the
//!   newest value is always allowed, and a load that took another one is not maximal. Where a later
//!   write revisits one, the write's places go back to what the window knows.
//! * *Other events* are always maximal: spawns, joins and fences have no options. Plain accesses
//!   have none either (a plain read that had two sources would be a data race), and are no events:
//!   see `accesses`. A choice is maximal only if it is 0; otherwise every deleted choice would
//!   multiply the revisits behind it.

use crate::consistency::Model;
use crate::event::{
    Event, EventId, INITIAL, Kind, Payload, Request, Update, View, acquires, releases,
};
use crate::graph::Graph;
use crate::window::Window;

/// A choice that was put aside. `position` is that of the event that chooses.
#[derive(Clone, Debug)]
pub(crate) enum Alternative {
    /// A read takes an older write.
    ReadFrom { position: u32, write: EventId },
    /// A write takes place `index` in coherence; `revisited` reads it from now on.
    PlaceAt { position: u32, index: usize, revisited: Option<EventId> },
    /// An earlier read takes the write at `position`.
    Revisit { position: u32, read: EventId },
    /// A choice takes another value.
    Pick { position: u32, value: u64 },
}

impl Alternative {
    pub(crate) fn position(&self) -> u32 {
        match self {
            Alternative::ReadFrom { position, .. }
            | Alternative::PlaceAt { position, .. }
            | Alternative::Revisit { position, .. }
            | Alternative::Pick { position, .. } => *position,
        }
    }
}

/// A graph with its open alternatives: what a backward revisit suspends, and a unit of work.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) graph: Graph,
    pub(crate) alternatives: Vec<Alternative>,
}

/// What was dropped without running the program, and how deep the search went.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// Graphs in which a waiting read is stale.
    pub(crate) redundant: u64,
    /// Graphs in which two read-modify-writes claim one place, or the model says no.
    pub(crate) conflicts: u64,
    /// Alternatives refused because of the bound on deviations.
    pub(crate) refused: u64,
    pub(crate) depth_max: usize,
}

#[derive(Debug)]
pub(crate) struct Search {
    pub(crate) graph: Graph,
    pub(crate) alternatives: Vec<Alternative>,
    pub(crate) suspended: Vec<Pending>,
    /// Graphs that are not needed any more; their memory is used for the next ones.
    spare: Vec<Graph>,
    pub(crate) model: Model,
    pub(crate) deviations_max: u32,
    pub(crate) counts: Counts,
}

impl Search {
    pub(crate) fn new(model: Model, deviations_max: Option<u32>) -> Search {
        Search {
            graph: Graph::default(),
            alternatives: Vec::new(),
            suspended: Vec::new(),
            spare: Vec::new(),
            model,
            deviations_max: deviations_max.unwrap_or(u32::MAX),
            counts: Counts::default(),
        }
    }

    /// Adds a read that takes the newest value, and puts the older ones aside.
    pub(crate) fn add_read(
        &mut self,
        thread: usize,
        request: Request,
        window: Option<&Window>,
    ) -> EventId {
        let (location, update) = (request.location, request.update);
        let mut event = self.graph.blank(thread, request);
        let known = self.graph.known_before(thread, self.graph.threads[thread].len());
        let mut oldest_now = self.graph.coherence_bound(location, &known);
        let mut oldest = oldest_now;
        if let Some(window) = window {
            (event.released, event.after) = (window.known, window.last);
            oldest = self.graph.window_bound(location, window);
            oldest_now = oldest_now.max(oldest);
        }
        let newest = self.graph.place(location).coherence.len();
        let read = self.graph.push(thread, event);
        let position = self.graph.event(read).position;
        for index in oldest..newest {
            let write = self.graph.write_at(location, index);
            let value = self.graph.written_value(location, write);
            if !update.blocks(value) && (index >= oldest_now || update.may_have_kept(value)) {
                self.alternatives.push(Alternative::ReadFrom { position, write });
            }
        }
        self.graph.set_reads_from(read, self.graph.write_at(location, newest));
        read
    }

    /// Adds a write, not yet placed in coherence, and puts aside the reads that it may revisit.
    fn push_write(
        &mut self,
        thread: usize,
        request: Request,
        read: Option<EventId>,
        window: Option<&Window>,
    ) -> EventId {
        let mut event = self.graph.blank(thread, request);
        event.exclusive = read.is_some();
        event.released = event.release_fence;
        if releases(event.request.order) {
            event.released.join(&event.happens_before);
        }
        // A handler passes on what it knows, and not what the thread knows that plays it.
        if let Some(window) = window {
            (event.released, event.after) = (window.known, window.last);
        }
        // A read-modify-write continues the release sequence that it read from (C++20).
        if let Some(source) = read.map(|read| self.graph.event(read).reads_from)
            && source != INITIAL
        {
            event.released.join(&self.graph.event(source).released);
        }
        let write = self.graph.push(thread, event);
        self.put_revisits_aside(write);
        write
    }

    /// Adds a store: last in coherence, with the earlier places put aside.
    pub(crate) fn add_store(
        &mut self,
        thread: usize,
        request: Request,
        payload: Payload,
        window: Option<&Window>,
    ) -> EventId {
        let location = request.location;
        let known = self.graph.known_before(thread, self.graph.threads[thread].len());
        let write = self.push_write(thread, request, None, window);
        if payload.is_some() {
            self.graph.place_mut(location).unlocked.push((write, payload));
        }
        let oldest = self.graph.coherence_bound(location, &known);
        let position = self.graph.event(write).position;
        let coherence = &self.graph.place(location).coherence;
        for (index, next) in coherence.iter().enumerate().skip(oldest) {
            // Nothing comes between a read-modify-write and what it read.
            if !self.graph.is_exclusive(*next) {
                let alternative = Alternative::PlaceAt { position, index, revisited: None };
                self.alternatives.push(alternative);
            }
        }
        let newest = coherence.len();
        self.graph.place_in_coherence(write, location, newest);
        write
    }

    /// Adds the write of a read-modify-write whose read has got its source, if it writes at all.
    /// Returns false if the graph cannot be continued; its revisits stay queued.
    pub(crate) fn add_update(&mut self, read: EventId) -> bool {
        let event = self.graph.event(read);
        let Some(value) = event.request.update.written(event.value) else { return true };
        let source = event.reads_from;
        let mut request = event.request;
        request.kind = Kind::Write;
        let mut window = None;
        match request.update {
            Update::Lock => {}
            Update::Interrupt => window = Some(Window { known: event.released, last: read }),
            _ => request.update = Update::Store(value),
        }
        let location = request.location;
        let write = self.push_write(read.thread(), request, Some(read), window.as_ref());
        let index = self.graph.coherence_position(location, source);
        let next = self.graph.place(location).coherence.get(index).copied();
        if next.is_some_and(|next| self.graph.is_exclusive(next)) {
            return false;
        }
        self.graph.place_in_coherence(write, location, index);
        next.is_none() || self.graph.is_consistent(self.model)
    }

    /// Adds an event that has no options, or a choice with its alternatives.
    pub(crate) fn add_other(&mut self, thread: usize, request: Request) -> EventId {
        let alternatives = match request.update {
            Update::Choose(count) => 1..count,
            _ => 0..0,
        };
        let mut event: Event = self.graph.blank(thread, request);
        match event.request.kind {
            Kind::Fence => {
                if acquires(event.request.order) {
                    let pending = event.pending_acquires;
                    event.happens_before.join(&pending);
                }
                if releases(event.request.order) {
                    event.release_fence = event.happens_before;
                }
            }
            Kind::Join => {
                let child = event.request.location as usize;
                let (hb, causes) = match self.graph.threads[child].last() {
                    Some(last) => (last.happens_before, last.causes),
                    None => self.graph.start[child],
                };
                event.happens_before.join(&hb);
                event.causes.join(&causes);
                // The end of the child comes behind its last plain accesses.
                event.happens_before.0[child] = self.graph.threads[child].len() as u16 + 1;
            }
            Kind::Spawn => {
                let child = event.request.location as usize;
                self.graph.start[child] = (event.happens_before, event.causes);
            }
            _ => {}
        }
        let id = self.graph.push(thread, event);
        if event.request.kind == Kind::Spawn {
            self.graph.note_spawn(id, event.request.location as usize);
        }
        let position = self.graph.event(id).position;
        for value in alternatives {
            self.alternatives.push(Alternative::Pick { position, value });
        }
        id
    }

    fn put_revisits_aside(&mut self, write: EventId) {
        let graph = &self.graph;
        let event = graph.event(write);
        let (position, causes) = (event.position, event.causes);
        for read in &graph.place(event.request.location).reads {
            if read.within(&causes) {
                continue;
            }
            let first = graph.event(*read).position as usize;
            let mut deleted = graph.order[first..position as usize]
                .iter()
                .filter(|id| **id == *read || !id.within(&causes));
            if deleted.all(|id| self.is_maximal(*id, write, &causes)) {
                self.alternatives.push(Alternative::Revisit { position, read: *read });
            }
        }
    }

    /// Whether the event is as if it had been added with the newest option, looking only at what
    /// came before it and at the past of `write`.
    fn is_maximal(&self, id: EventId, write: EventId, causes: &View) -> bool {
        let graph = &self.graph;
        let event = graph.event(id);
        let position = event.position;
        let earlier = |other: EventId| other != write && graph.survives(other, position, causes);
        let place = match event.request.kind {
            Kind::Choose => return event.value == 0,
            Kind::Read | Kind::Write => graph.place(event.request.location),
            _ => return true,
        };
        let shown = if event.request.kind == Kind::Write {
            let reads_it = |read: &EventId| graph.event(*read).reads_from == id && earlier(*read);
            if place.reads.iter().any(reads_it) {
                return false;
            }
            id
        } else {
            if event.reads_from != INITIAL && !earlier(event.reads_from) {
                return false;
            }
            event.reads_from
        };
        let newer = graph.coherence_position(event.request.location, shown);
        !place.coherence[newer..].iter().any(|other| earlier(*other))
    }

    /// Prepares the next graph to run; false if there is none left.
    pub(crate) fn advance(&mut self) -> bool {
        loop {
            if let Some(alternative) = self.alternatives.pop() {
                if self.apply(alternative) {
                    return true;
                }
            } else if let Some(pending) = self.suspended.pop() {
                self.resume(pending);
            } else {
                return false;
            }
        }
    }

    pub(crate) fn resume(&mut self, pending: Pending) {
        let mut over = std::mem::replace(&mut self.graph, pending.graph);
        over.release();
        self.spare.push(over);
        self.alternatives = pending.alternatives;
    }

    /// Takes work for another searcher: the oldest, and so probably the largest, open part.
    pub(crate) fn give_away(&mut self) -> Option<Pending> {
        if !self.suspended.is_empty() {
            return Some(self.suspended.remove(0));
        }
        if self.alternatives.len() < 2 {
            return None;
        }
        let oldest = self.alternatives.remove(0);
        Some(Pending { graph: self.graph.clone(), alternatives: vec![oldest] })
    }

    /// Turns the graph into the one that the alternative stands for. False if that one is not to
    /// be run: it is dropped, or has become several further alternatives.
    pub(crate) fn apply(&mut self, alternative: Alternative) -> bool {
        let position = alternative.position();
        self.graph.cut(position as usize + 1);
        let id = self.graph.order[position as usize];
        match alternative {
            Alternative::Pick { value, .. } => {
                let event = self.graph.event_mut(id);
                event.value = value;
                let before = event.plain_before as usize;
                self.graph.truncate_plain(id.thread(), before);
                self.graph.set_deviates(id);
                self.is_within_bound()
            }
            Alternative::ReadFrom { write, .. } => {
                let event = self.graph.event(id);
                let value = self.graph.written_value(event.request.location, write);
                if event.would_block(value) {
                    self.counts.redundant += 1;
                    return false;
                }
                self.graph.set_reads_from(id, write);
                self.graph.set_deviates(id);
                self.is_within_bound() && self.settle(Some(id))
            }
            Alternative::PlaceAt { index, revisited, .. } => {
                let location = self.graph.event(id).request.location;
                self.graph.take_from_coherence(id, location);
                let newest = self.graph.place(location).coherence.len();
                if index < newest {
                    if revisited.is_some_and(|read| self.graph.event(read).blocks()) {
                        self.counts.redundant += 1;
                        self.graph.place_in_coherence(id, location, index);
                        return false;
                    }
                    self.graph.set_deviates(id);
                }
                self.graph.place_in_coherence(id, location, index);
                self.is_within_bound() && self.settle(revisited)
            }
            Alternative::Revisit { read, .. } => {
                self.revisit(read, id);
                false
            }
        }
    }

    /// Checks a graph that has just got its choice, and completes the read-modify-write of `read`.
    fn settle(&mut self, read: Option<EventId>) -> bool {
        let goes_on =
            self.graph.is_consistent(self.model) && read.is_none_or(|read| self.add_update(read));
        self.counts.conflicts += u64::from(!goes_on);
        goes_on
    }

    fn is_within_bound(&mut self) -> bool {
        let within = self.graph.deviations <= self.deviations_max;
        self.counts.refused += u64::from(!within);
        within
    }

    /// Restricts the graph to what came before `read` and to the past of `write`, and puts the
    /// places aside that the write may take now that `read` reads it.
    fn revisit(&mut self, read: EventId, write: EventId) {
        if !self.alternatives.is_empty() {
            let alternatives = std::mem::take(&mut self.alternatives);
            let mut graph = self.spare.pop().unwrap_or_default();
            graph.clone_from(&self.graph);
            self.suspended.push(Pending { graph, alternatives });
            self.counts.depth_max = self.counts.depth_max.max(self.suspended.len());
        }
        let graph = &mut self.graph;
        let (causes, location) = (graph.event(write).causes, graph.event(write).request.location);
        graph.take_from_coherence(write, location);
        graph.restrict(graph.event(read).position, &causes);
        let position = graph.event(write).position;
        // The write comes after everything that the read knows, and that it knows itself.
        let oldest_for_read = graph.oldest_source(read, graph.event(write).value);
        let known = graph.known_before(write.thread(), write.index());
        let oldest_for_write = graph.coherence_bound(location, &known);
        let newest = graph.place(location).coherence.len();
        let places = if graph.is_exclusive(write) {
            let own_read = EventId { index: write.index - 1, ..write };
            let index = graph.coherence_position(location, graph.event(own_read).reads_from);
            index.max(oldest_for_read)..index + 1
        } else {
            oldest_for_write.max(oldest_for_read)..newest + 1
        };
        graph.set_reads_from(read, write);
        graph.set_deviates(read);
        for index in places {
            let next = graph.place(location).coherence.get(index);
            if next.is_none_or(|next| !graph.is_exclusive(*next)) {
                let revisited = Some(read);
                self.alternatives.push(Alternative::PlaceAt { position, index, revisited });
            }
        }
    }
}
