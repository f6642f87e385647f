//! Plain memory in the graph.
//!
//! A plain access has no options, and its value follows from happens-before, or it races. So it is
//! no event: each thread has a log of its accesses beside its events, and an access stands between
//! two events of its thread. Its *epoch* is the number of events before it. It happens before
//! whatever knows the event that comes next, because only events synchronise: a view knows an
//! access exactly if it includes an event with the index of the epoch ([`Touch::is_known`]). A join
//! knows one event more than the thread had, and so all of its accesses.
//!
//! The accesses between two events are a function of what the thread read before. They stay while
//! the event before them stays as it is, and go when that event goes or reads something else.
//!
//! A location lists its accesses in the order of addition, one for each thread, epoch and kind.
//! Every two of them that conflict are ordered, or the second one would have been refused. So its
//! writes are ordered among each other, the last one has the value that a reader gets, and a new
//! access has to be compared with the last write, and if it writes with the reads behind that.

use std::panic::Location;

use crate::event::{Event, Kind, Request, Update, View};
use crate::graph::Graph;

/// A plain access of a thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlainAccess {
    pub(crate) location: u32,
    pub(crate) epoch: u16,
    pub(crate) is_write: bool,
    /// The value read or written.
    pub(crate) value: u64,
    pub(crate) at: &'static Location<'static>,
}

impl PlainAccess {
    /// The access as its thread has asked for it.
    pub(crate) fn request(&self) -> Request {
        let (kind, update) = match self.is_write {
            true => (Kind::PlainWrite, Update::Store(self.value)),
            false => (Kind::PlainRead, Update::None),
        };
        Request { update, ..Request::new(kind, self.location, self.at) }
    }
}

/// An access as its location lists it: the `entry`-th in the log of its thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Touch {
    pub(crate) entry: u32,
    pub(crate) thread: u8,
    epoch: u16,
    /// For reads: how many writes of the location came before.
    writes_before: u32,
}

impl Touch {
    /// Whether the access happens before whatever `thread` does next with this view.
    fn is_known(&self, thread: usize, view: &View) -> bool {
        usize::from(self.thread) == thread || self.epoch < view.0[usize::from(self.thread)]
    }
}

/// What a thread has done at one point.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Item<'graph> {
    Event(&'graph Event),
    Access(&'graph PlainAccess),
}

impl Item<'_> {
    pub(crate) fn request(self) -> Request {
        match self {
            Item::Event(event) => event.request,
            Item::Access(access) => access.request(),
        }
    }
}

impl Graph {
    /// What a thread did after its first so many events and accesses.
    pub(crate) fn item(&self, thread: usize, events: usize, accesses: usize) -> Option<Item<'_>> {
        let event = self.threads[thread].get(events);
        let before = event.map_or(usize::MAX, |event| event.plain_before as usize);
        match self.plain[thread].get(accesses) {
            Some(access) if accesses < before => Some(Item::Access(access)),
            _ => event.map(Item::Event),
        }
    }

    /// Everything that a thread did, in program order.
    pub(crate) fn items(&self, thread: usize) -> impl Iterator<Item = Item<'_>> {
        let (mut events, mut accesses) = (0, 0);
        std::iter::from_fn(move || {
            let item = self.item(thread, events, accesses)?;
            match item {
                Item::Event(_) => events += 1,
                Item::Access(_) => accesses += 1,
            }
            Some(item)
        })
    }

    /// How many events and plain accesses of a thread a view knows that includes so many events.
    pub(crate) fn items_known(&self, thread: usize, events: usize) -> usize {
        match events.checked_sub(1).map(|last| self.threads[thread].get(last)) {
            None => 0,
            Some(Some(last)) => events + last.plain_before as usize,
            // It was joined.
            Some(None) => self.threads[thread].len() + self.plain[thread].len(),
        }
    }

    /// How many events and plain accesses there are.
    pub(crate) fn size(&self) -> usize {
        self.order.len() + self.plain.iter().map(Vec::len).sum::<usize>()
    }

    pub(crate) fn access(&self, touch: Touch) -> &PlainAccess {
        &self.plain[usize::from(touch.thread)][touch.entry as usize]
    }

    /// The value of the last plain write to a location.
    pub(crate) fn plain_value(&self, location: u32) -> u64 {
        let place = self.place(location);
        place.plain_writes.last().map_or(place.initial, |touch| self.access(*touch).value)
    }

    /// An access that conflicts with one that `thread` would make now, and is unordered with it.
    pub(crate) fn race(&self, thread: usize, location: u32, is_write: bool) -> Option<Touch> {
        let place = self.place(location);
        let view = self.known_before(thread, self.threads[thread].len());
        let unknown = |touch: &&Touch| !touch.is_known(thread, &view);
        let write = place.plain_writes.last().filter(unknown);
        let count = place.plain_writes.len() as u32;
        let behind = place.plain_reads.iter().rev();
        let mut behind = behind.take_while(|touch| touch.writes_before == count);
        let read = if is_write { behind.find(unknown) } else { None };
        write.or(read).copied()
    }

    /// Adds an access at the end of a thread. It does not race.
    pub(crate) fn push_plain(&mut self, thread: usize, access: PlainAccess) {
        let PlainAccess { location, epoch, is_write, .. } = access;
        let entry = self.plain[thread].len() as u32;
        let place = self.place(location);
        let writes_before = place.plain_writes.len() as u32;
        let touch = Touch { entry, thread: thread as u8, epoch, writes_before };
        let same = |other: &Touch| (other.thread, other.epoch) == (touch.thread, epoch);
        let listed = match is_write {
            true => false,
            false => {
                let behind = place.plain_reads.iter().rev();
                behind.take_while(|other| other.writes_before == writes_before).any(same)
            }
        };
        if !listed {
            let place = self.place_mut(location);
            if is_write {
                place.plain_writes.push(touch);
            } else {
                place.plain_reads.push(touch);
            }
        }
        self.plain[thread].push(access);
    }

    /// Keeps the first `count` plain accesses of a thread.
    pub(crate) fn truncate_plain(&mut self, thread: usize, count: usize) {
        while self.plain[thread].len() > count {
            let Some(access) = self.plain[thread].pop() else { return };
            let entry = self.plain[thread].len() as u32;
            let mine = |touch: &Touch| (usize::from(touch.thread), touch.entry) == (thread, entry);
            let place = self.place(access.location);
            let list = if access.is_write { &place.plain_writes } else { &place.plain_reads };
            let Some(index) = list.iter().rposition(mine) else { continue };
            let place = self.place_mut(access.location);
            if access.is_write {
                place.plain_writes.remove(index);
            } else {
                place.plain_reads.remove(index);
            }
        }
    }
}
