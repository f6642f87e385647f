//! RC11's order of `SeqCst` accesses and fences: `psc` is acyclic (PLDI'17, section 3).
//!
//! With `eco = (rf | co | fr)+` and `scb = sb | sb≠;hb;sb≠ | hb= | co | fr` (`≠` and `=`: of
//! different, of the same location),
//! `psc = ([E] | [F];hb?) ; scb ; ([E] | hb?;[F])  |  [F] ; (hb | hb;eco;hb) ; [F]`,
//! where `E` are the `SeqCst` events and `F` the fences among them. The relation is built over the
//! events of `E` alone; no relation over all events is needed, because
//!
//! * happens-before is a view of each event, so `hb` is a comparison;
//! * give a write at coherence position `p` the key `2p` and a read of it the key `2p + 1`: then
//!   `eco` between accesses of one location is "smaller key", and `co | fr` is that into a write;
//! * there is `sb≠;hb;sb≠` from `a` to `b` if there is `hb` from the *next* item behind `a` of
//!   another location to the *last* one before `b`, because `hb` contains program order;
//! * from a fence, every way that begins with happens-before ends in what precedes `b` in its
//!   thread, in `hb=`, or in `co | fr`; likewise into a fence. Where both ends are fences, `scb`
//!   adds nothing to the second part of `psc`.
//!
//! An event that stands apart from its thread (see `window`) has what it knows in place of what
//! happens before it; its thread's `SeqCst` accesses are ordered with it by that alone.
//!
//! Plain accesses are items of other locations; they are no events, and have the view of the event
//! before them.

use std::sync::atomic::Ordering;

use crate::event::{Event, EventId, Kind, View};
use crate::graph::{Graph, Place};
use crate::relation::Relation;

/// A `SeqCst` access, with what `scb` asks of it.
struct Access<'graph> {
    id: EventId,
    event: &'graph Event,
    key: usize,
    /// The next item of another location in its thread, as the index that a view has to exceed.
    next_elsewhere: Option<u16>,
    /// What the last item of another location before it knows.
    before_elsewhere: Option<View>,
}

impl Graph {
    /// Whether the `SeqCst` events have an order that RC11 allows.
    pub(crate) fn sequential_order_exists(&self) -> bool {
        if self.sequential_count < 2 {
            return true;
        }
        let (mut fences, mut accesses) = (Vec::new(), Vec::new());
        for id in &self.order {
            let event = self.event(*id);
            match event.request.kind {
                Kind::Fence if event.request.order == Ordering::SeqCst => fences.push(*id),
                Kind::Read | Kind::Write if event.effective_order() == Ordering::SeqCst => {
                    accesses.push(self.sequential_access(*id));
                }
                _ => {}
            }
        }
        let mut psc = Relation::empty(fences.len() + accesses.len());
        self.order_fences(&fences, &mut psc);
        for (to, second) in accesses.iter().enumerate() {
            for (from, first) in accesses.iter().enumerate() {
                if from != to && precedes(first, second) {
                    psc.add(fences.len() + from, fences.len() + to);
                }
            }
            for (number, fence) in fences.iter().enumerate() {
                if self.fence_precedes(*fence, second) {
                    psc.add(number, fences.len() + to);
                }
                if self.precedes_fence(second, *fence) {
                    psc.add(fences.len() + to, number);
                }
            }
        }
        psc.is_acyclic()
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

    fn sequential_access(&self, id: EventId) -> Access<'_> {
        let (events, event) = (&self.threads[id.thread()], self.event(id));
        // What stands apart is not ordered with the access by its thread.
        let is_elsewhere = |other: &Event| {
            !other.stands_apart()
                && (!matches!(other.request.kind, Kind::Read | Kind::Write)
                    || other.request.location != event.request.location)
        };
        let plain_count = self.plain[id.thread()].len();
        let plain_before = |index: usize| {
            events.get(index).map_or(plain_count, |event| event.plain_before as usize)
        };
        // Whether a plain access stands directly before the event with this index.
        let has_plain = |index: usize| {
            let earlier = if index == 0 { 0 } else { plain_before(index - 1) };
            plain_before(index) > earlier
        };
        let next_elsewhere = (id.index() + 1..=events.len())
            .find(|index| has_plain(*index) || events.get(*index).is_some_and(is_elsewhere));
        let before_elsewhere = (0..=id.index())
            .rev()
            .find(|index| has_plain(*index) || *index > 0 && is_elsewhere(&events[*index - 1]));
        let mut before = before_elsewhere.map(|index| self.known_before(id.thread(), index));
        for load in &events[before_elsewhere.unwrap_or(0)..id.index()] {
            let is_elsewhere = load.request.location != event.request.location;
            if load.stands_apart() && !load.is_of_handler() && is_elsewhere {
                before.get_or_insert_default().join(&self.learnt_apart(load));
            }
        }
        Access {
            id,
            event,
            key: self.coherence_key(id),
            next_elsewhere: next_elsewhere.map(|index| index as u16),
            before_elsewhere: before,
        }
    }

    /// The part of `psc` between fences.
    fn order_fences(&self, fences: &[EventId], psc: &mut Relation) {
        for (to, fence) in fences.iter().enumerate() {
            let view = &self.event(*fence).happens_before;
            for (from, other) in fences.iter().enumerate() {
                if from != to && other.within(view) {
                    psc.add(from, to);
                }
            }
        }
        if fences.len() < 2 {
            return;
        }
        let (mut lowest, mut highest) = (vec![usize::MAX; fences.len()], vec![0; fences.len()]);
        for place in self.places().filter(|place| is_shared(place)) {
            lowest.fill(usize::MAX);
            highest.fill(0);
            for id in place.coherence.iter().chain(&place.reads) {
                let (key, view) = (self.coherence_key(*id), self.event(*id).knows());
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
    }

    /// `[F] ; hb? ; scb ; [E]`.
    fn fence_precedes(&self, fence: EventId, access: &Access<'_>) -> bool {
        let (thread, index) = (access.id.thread(), access.id.index());
        let follows_something = index > 0 || access.event.plain_before > 0;
        if follows_something && fence.within(&self.known_before(thread, index)) {
            return true;
        }
        let place = self.place(access.event.request.location);
        place.coherence.iter().chain(&place.reads).any(|other| {
            let is_between = fence.within(self.event(*other).knows());
            let happens_before = other.within(&access.event.happens_before);
            *other != access.id
                && is_between
                && (happens_before || access.is_write() && self.coherence_key(*other) < access.key)
        })
    }

    /// `[E] ; scb ; hb? ; [F]`.
    fn precedes_fence(&self, access: &Access<'_>, fence: EventId) -> bool {
        let (thread, index) = (access.id.thread(), access.id.index());
        let known = &self.event(fence).happens_before;
        let precedes_something = index + 1 < self.threads[thread].len()
            || self.plain[thread].len() > access.event.plain_before as usize;
        if precedes_something && index + 1 < usize::from(known.0[thread]) {
            return true;
        }
        let place = self.place(access.event.request.location);
        let writes = place.coherence.iter().zip(std::iter::repeat(true));
        let reads = place.reads.iter().zip(std::iter::repeat(false));
        writes.chain(reads).any(|(other, is_write)| {
            let happens_before = access.id.within(self.event(*other).knows());
            *other != access.id
                && other.within(known)
                && (happens_before || is_write && access.key < self.coherence_key(*other))
        })
    }
}

impl Access<'_> {
    fn is_write(&self) -> bool {
        self.event.request.kind == Kind::Write
    }
}

/// `[E] ; scb ; [E]`.
fn precedes(first: &Access<'_>, second: &Access<'_>) -> bool {
    let by_program = first.id.thread == second.id.thread && first.id.index < second.id.index;
    let by_others = match (first.next_elsewhere, &second.before_elsewhere) {
        (Some(next), Some(view)) => next < view.0[first.id.thread()],
        _ => false,
    };
    let by_location = || {
        first.event.request.location == second.event.request.location
            && (first.id.within(&second.event.happens_before)
                || second.is_write() && first.key < second.key)
    };
    by_program || by_others || by_location()
}

/// Whether `eco` of this location can order anything that happens-before does not: if one thread
/// makes all accesses, or none writes, it cannot.
fn is_shared(place: &Place) -> bool {
    let Some(first) = place.coherence.first() else { return false };
    place.coherence.iter().chain(&place.reads).any(|other| other.thread != first.thread)
}
