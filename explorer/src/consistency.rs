//! What each memory model forbids.
//!
//! Coherence, atomicity of read-modify-writes and the absence of `porf` cycles hold by
//! construction: lower bounds, the place of an exclusive write, and events that are only ever added
//! last. What remains is checked here, on the whole graph, and only after a choice that is not
//! "the newest": a new event that takes the newest value or place has no successor in any of the
//! relations below and so closes no cycle.
//!
//! * **RC11** (PLDI'17, section 3): `psc` is acyclic, where `psc` orders `SeqCst` accesses and
//!   fences. With `eco = (rf | co | fr)+` and `scb = sb | sb≠;hb;sb≠ | hb= | co | fr` (`≠` and `=`:
//!   of different, of the same location),
//!   `psc = ([E] | [F];hb?) ; scb ; ([E] | hb?;[F])  |  [F] ; (hb | hb;eco;hb) ; [F]`.
//!   If fences are the only `SeqCst` events, the first part adds nothing to the second, and the
//!   second needs no matrix: give a write at coherence position `p` the key `2p` and a read of it
//!   the key `2p + 1`; then `eco` between accesses of one location is exactly "smaller key".
//! * **TSO** (Owens, Sarkar, Sewell 2009, in the axiomatic form of Alglave, Maranget, Tautschnig
//!   2014): `ppo | rfe | co | fr` is acyclic, where `ppo` is program order without write-to-read
//!   pairs. Read-modify-writes, `SeqCst` writes and `SeqCst` fences order everything, as the usual
//!   mapping of C11 to x86 does. The model here is TSO *and* RC11.
//! * **SC**: `sb | rf | co | fr` is acyclic.
//!
//! Both stronger models are prefix-closed and allow the newest choice always, which is what TruSt
//! asks of a model; the exploration still proposes RC11's choices and drops what the model forbids.

use std::sync::atomic::Ordering;

use crate::event::{Event, EventId, INITIAL, Kind};
use crate::graph::{Graph, Place};
use crate::relation::Relation;

/// The memory model under which executions are consistent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Model {
    /// C11 as repaired by Lahav et al., PLDI'17, without load buffering.
    #[default]
    Rc11,
    /// x86: stores wait in a first-in first-out buffer.
    Tso,
    /// Sequential consistency.
    Sc,
}

impl Graph {
    /// Whether the model allows this graph, given that it was built by coherent choices.
    pub(crate) fn is_consistent(&self, model: Model) -> bool {
        match model {
            Model::Rc11 => self.sequential_order_exists(),
            Model::Tso => self.sequential_order_exists() && self.global_order_exists(true),
            Model::Sc => self.global_order_exists(false),
        }
    }

    fn sequential_order_exists(&self) -> bool {
        if self.sequential_count < 2 {
            return true;
        }
        let fences: Vec<EventId> =
            self.order.iter().copied().filter(|id| self.is_sc_fence(*id)).collect();
        if fences.len() == self.sequential_count as usize {
            self.fences_are_ordered(&fences)
        } else {
            self.psc().is_acyclic()
        }
    }

    fn is_sc_fence(&self, id: EventId) -> bool {
        let request = &self.event(id).request;
        request.kind == Kind::Fence && request.order == Ordering::SeqCst
    }

    /// The key of an access in its location: `eco` is "smaller key".
    fn coherence_key(&self, id: EventId) -> usize {
        let event = self.event(id);
        let location = event.request.location;
        match event.request.kind {
            Kind::Write => 2 * self.coherence_position(location, id),
            _ => 2 * self.coherence_position(location, event.reads_from) + 1,
        }
    }

    /// RC11's `psc` is acyclic, for graphs whose only `SeqCst` events are these fences.
    fn fences_are_ordered(&self, fences: &[EventId]) -> bool {
        let count = fences.len();
        let mut psc = Relation::empty(count);
        for (to, fence) in fences.iter().enumerate() {
            let view = &self.event(*fence).happens_before;
            for (from, other) in fences.iter().enumerate() {
                if from != to && other.within(view) {
                    psc.add(from, to);
                }
            }
        }
        let (mut lowest, mut highest) = (vec![usize::MAX; count], vec![0; count]);
        for place in self.places.iter().filter(|place| is_shared(place)) {
            lowest.fill(usize::MAX);
            highest.fill(0);
            for id in place.coherence.iter().chain(&place.accesses) {
                let (key, view) = (self.coherence_key(*id), &self.event(*id).happens_before);
                for (index, fence) in fences.iter().enumerate() {
                    if fence.within(view) {
                        lowest[index] = lowest[index].min(key);
                    } else if id.within(&self.event(*fence).happens_before) {
                        highest[index] = highest[index].max(key);
                    }
                }
            }
            for (from, low) in lowest.iter().enumerate() {
                for (to, high) in highest.iter().enumerate() {
                    if low < high {
                        psc.add(from, to);
                    }
                }
            }
        }
        psc.is_acyclic()
    }

    fn in_order(&self, position: usize) -> &Event {
        self.event(self.order[position])
    }

    fn same_location(&self, left: usize, right: usize) -> bool {
        let (left, right) = (&self.in_order(left).request, &self.in_order(right).request);
        left.location == right.location
            && matches!(left.kind, Kind::Read | Kind::Write)
            && matches!(right.kind, Kind::Read | Kind::Write)
    }

    /// RC11's `psc`, in general, over positions in the order of addition.
    fn psc(&self) -> Relation {
        let count = self.order.len();
        let (hb, sb_elsewhere, mut scb) = self.program_relations();
        let mut eco = Relation::empty(count);
        self.add_coherence_relations(&mut eco, &mut scb);
        eco.close();
        scb.add_all(&sb_elsewhere.then(&hb).then(&sb_elsewhere));
        let (mut before, mut after) = (Relation::empty(count), Relation::empty(count));
        let fences: Vec<usize> =
            (0..count).filter(|position| self.is_sc_fence(self.order[*position])).collect();
        for position in 0..count {
            let event = self.in_order(position);
            let is_access = matches!(event.request.kind, Kind::Read | Kind::Write);
            if is_access && event.effective_order() == Ordering::SeqCst {
                before.add(position, position);
                after.add(position, position);
            }
        }
        for fence in &fences {
            before.add(*fence, *fence);
            before.add_row(*fence, &hb, *fence);
            after.add(*fence, *fence);
            for position in (0..count).filter(|position| hb.has(*position, *fence)) {
                after.add(position, *fence);
            }
        }
        let mut psc = before.then(&scb).then(&after);
        let mut between_fences = hb.then(&eco).then(&hb);
        between_fences.add_all(&hb);
        for from in &fences {
            for to in &fences {
                if between_fences.has(*from, *to) {
                    psc.add(*from, *to);
                }
            }
        }
        psc
    }

    /// `hb`, `sb≠`, and `sb | hb=`, the start of `scb`.
    fn program_relations(&self) -> (Relation, Relation, Relation) {
        let count = self.order.len();
        let (mut hb, mut sb_elsewhere, mut scb) =
            (Relation::empty(count), Relation::empty(count), Relation::empty(count));
        for to in 0..count {
            for from in (0..count).filter(|from| *from != to) {
                let (first, second) = (self.order[from], self.order[to]);
                let same = self.same_location(from, to);
                if first.within(&self.in_order(to).happens_before) {
                    hb.add(from, to);
                    if same {
                        scb.add(from, to);
                    }
                }
                if first.thread == second.thread && first.index < second.index {
                    scb.add(from, to);
                    if !same {
                        sb_elsewhere.add(from, to);
                    }
                }
            }
        }
        (hb, sb_elsewhere, scb)
    }

    /// Adds `rf | co | fr` to `eco`, and `co | fr` to `scb`.
    fn add_coherence_relations(&self, eco: &mut Relation, scb: &mut Relation) {
        let position = |id: EventId| self.event(id).position as usize;
        for place in &self.places {
            for (index, write) in place.coherence.iter().enumerate() {
                for later in &place.coherence[index + 1..] {
                    eco.add(position(*write), position(*later));
                    scb.add(position(*write), position(*later));
                }
            }
            for read in &place.accesses {
                let event = self.event(*read);
                if event.request.kind != Kind::Read {
                    continue;
                }
                if event.reads_from != INITIAL {
                    eco.add(position(event.reads_from), position(*read));
                }
                let newer = self.coherence_position(event.request.location, event.reads_from);
                for write in &place.coherence[newer..] {
                    // A read-modify-write is one event: its own write is not after its read.
                    if *write != read.successor() || !self.is_exclusive(*write) {
                        eco.add(position(*read), position(*write));
                        scb.add(position(*read), position(*write));
                    }
                }
            }
        }
    }

    /// Whether one total order explains what the model keeps of program order, and all values.
    fn global_order_exists(&self, tso: bool) -> bool {
        let mut successors: Vec<Vec<u32>> = vec![Vec::new(); self.order.len()];
        self.add_preserved_program_order(tso, &mut successors);
        let position = |id: EventId| self.event(id).position;
        for place in &self.places {
            for pair in place.coherence.windows(2) {
                successors[position(pair[0]) as usize].push(position(pair[1]));
            }
            for read in &place.accesses {
                let event = self.event(*read);
                if event.request.kind != Kind::Read {
                    continue;
                }
                let source = event.reads_from;
                // Under TSO a thread reads its own writes from its buffer, before they are visible.
                if source != INITIAL && (!tso || source.thread != read.thread) {
                    successors[position(source) as usize].push(event.position);
                }
                let newer = self.coherence_position(event.request.location, source);
                let own =
                    |write: &&EventId| **write == read.successor() && self.is_exclusive(**write);
                let next = place.coherence[newer..].iter().find(|write| !own(write));
                if let Some(write) = next {
                    successors[event.position as usize].push(position(*write));
                }
            }
        }
        is_acyclic(&successors)
    }

    fn add_preserved_program_order(&self, tso: bool, successors: &mut [Vec<u32>]) {
        for events in &self.threads {
            // Only the last event of each class that orders later ones needs an edge.
            let (mut last_of_all, mut last_read, mut last_write) = (None, None, None);
            for event in events {
                if tso && !is_ordered_by_tso(event) {
                    continue;
                }
                let mut after = |earlier: Option<u32>| {
                    if let Some(earlier) = earlier {
                        successors[earlier as usize].push(event.position);
                    }
                };
                let locked = !tso || is_locked(event);
                let is_read = event.request.kind == Kind::Read;
                after(last_of_all);
                after(last_read);
                if locked || !is_read {
                    after(last_write);
                }
                match (locked, is_read) {
                    (true, _) => last_of_all = Some(event.position),
                    (false, true) => last_read = Some(event.position),
                    (false, false) => last_write = Some(event.position),
                }
                if event.request.kind == Kind::Join {
                    for child in &self.threads[event.request.location as usize] {
                        successors[child.position as usize].push(event.position);
                    }
                }
            }
        }
        for event in self.threads[0].iter().filter(|event| event.request.kind == Kind::Spawn) {
            for child in &self.threads[event.request.location as usize] {
                successors[event.position as usize].push(child.position);
            }
        }
    }
}

/// Whether `eco` of this location can order anything that happens-before does not: if one thread
/// makes all accesses, or nobody writes, it cannot.
fn is_shared(place: &Place) -> bool {
    let Some(first) = place.coherence.first() else { return false };
    place.coherence.iter().chain(&place.accesses).any(|other| other.thread != first.thread)
}

/// Whether TSO's order has anything to say about the event.
fn is_ordered_by_tso(event: &Event) -> bool {
    match event.request.kind {
        Kind::Fence => event.request.order == Ordering::SeqCst,
        Kind::PlainRead | Kind::PlainWrite | Kind::Choose => false,
        Kind::Read | Kind::Write | Kind::Spawn | Kind::Join => true,
    }
}

/// Whether x86 drains the store buffer at this event.
fn is_locked(event: &Event) -> bool {
    match event.request.kind {
        Kind::Read => event.request.update.may_write(),
        Kind::Write => event.exclusive || event.request.order == Ordering::SeqCst,
        _ => true,
    }
}

fn is_acyclic(successors: &[Vec<u32>]) -> bool {
    let mut pending = vec![0u32; successors.len()];
    for next in successors.iter().flatten() {
        pending[*next as usize] += 1;
    }
    let mut ready: Vec<usize> = (0..pending.len()).filter(|event| pending[*event] == 0).collect();
    let mut done = 0;
    while let Some(event) = ready.pop() {
        done += 1;
        for next in &successors[event] {
            pending[*next as usize] -= 1;
            if pending[*next as usize] == 0 {
                ready.push(*next as usize);
            }
        }
    }
    done == pending.len()
}
