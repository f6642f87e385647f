//! Events, and the views they carry.
//!
//! An execution is a graph whose nodes are events: the reads, writes and fences that the threads
//! of the program performed. Three relations are stored with the events themselves, as *views*.
//! A [`View`] says, for every thread, how many of its events (from the first one on) are included;
//! because each relation below contains program order, such a prefix is all that is ever needed.
//!
//! * `happens_before`: the events ordered before this one by program order and synchronisation
//!   (RC11's `hb`; Lahav, Vafeiadis, Kang, Hur, Dreyer, "Repairing sequential consistency in
//!   C/C++11", PLDI'17).
//! * `causes`: the events reachable backwards through program order and reads-from (`porf`). RC11
//!   forbids cycles in it, so a write can be read early only by threads that it does not depend on.
//! * `pending_acquires`: what relaxed reads have seen so far and an acquire fence would pick up;
//!   `release_fence`: what the last release fence gave to all later writes of the thread;
//!   `released`: for a write, what a reader that synchronises with it learns.
//!
//! Some events *stand apart* from their thread: loads within a window, which may have been done
//! earlier, and interrupts, which another thread handles. Their thread's order does not order them
//! ([`Event::knows`]); `window` says more.
//!
//! A read-modify-write is two events, a read and the write directly behind it (`exclusive`). The
//! read's [`Update`] holds the operation with its operands, so that the engine can compute the
//! write for any source of the read *without running the thread*.

use std::any::Any;
use std::hash::{Hash, Hasher};
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::inert::drop_inertly;

/// The most threads a program may have, the main thread included.
pub(crate) const THREADS_MAX: usize = 8;

/// How many events of each thread are included.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub(crate) struct View(pub(crate) [u16; THREADS_MAX]);

impl View {
    /// Includes everything that `other` includes.
    pub(crate) fn join(&mut self, other: &View) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine = (*mine).max(*theirs);
        }
    }

    /// Whether everything that `other` includes is included.
    pub(crate) fn contains(&self, other: &View) -> bool {
        self.0.iter().zip(&other.0).all(|(mine, theirs)| mine >= theirs)
    }

    /// Includes the event itself, and so all events before it in its thread.
    pub(crate) fn include(&mut self, event: EventId) {
        self.0[usize::from(event.thread)] = event.index + 1;
    }
}

/// Names an event: the `index`-th of its thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub(crate) struct EventId {
    pub(crate) thread: u8,
    pub(crate) index: u16,
}

/// The write that gave a location its first value; it stands for all locations alike.
pub(crate) const INITIAL: EventId = EventId { thread: u8::MAX, index: 0 };

impl EventId {
    pub(crate) fn new(thread: usize, index: usize) -> EventId {
        EventId { thread: thread as u8, index: index as u16 }
    }

    /// Whether the view includes this event, which must not be [`INITIAL`].
    pub(crate) fn within(self, view: &View) -> bool {
        self.index < view.0[usize::from(self.thread)]
    }

    pub(crate) fn thread(self) -> usize {
        usize::from(self.thread)
    }

    pub(crate) fn index(self) -> usize {
        usize::from(self.index)
    }

    /// The next event of the same thread.
    pub(crate) fn successor(self) -> EventId {
        EventId { thread: self.thread, index: self.index + 1 }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(crate) enum Kind {
    Read,
    Write,
    Fence,
    PlainRead,
    PlainWrite,
    Spawn,
    Join,
    Choose,
}

/// Which values a load within a window may have taken before now.
///
/// All are equal: one function may have several addresses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cacheable(pub(crate) fn(u64) -> bool);

impl PartialEq for Cacheable {
    fn eq(&self, _: &Cacheable) -> bool {
        true
    }
}

impl Eq for Cacheable {}

impl Hash for Cacheable {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// What is done differently to an integer of fewer than 64 bits, or to a signed one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Narrow {
    /// Adds, and wraps around at the width.
    Add,
    /// Ands bitwise, and complements as many bits as there are.
    Nand,
    /// Takes the larger one.
    Max,
    /// Takes the smaller one.
    Min,
    /// Takes the larger one of two signed integers.
    MaxSigned,
    /// Takes the smaller one.
    MinSigned,
}

impl Narrow {
    /// What it makes of a value and an operand of so many bits, the bits above them being zero.
    fn apply(self, value: u64, operand: u64, bits: u32) -> u64 {
        let signed = |value: u64| ((value << (64 - bits)) as i64) >> (64 - bits);
        let result = match self {
            Narrow::Add => value.wrapping_add(operand),
            Narrow::Nand => !(value & operand),
            Narrow::Max => value.max(operand),
            Narrow::Min => value.min(operand),
            Narrow::MaxSigned => signed(value).max(signed(operand)) as u64,
            Narrow::MinSigned => signed(value).min(signed(operand)) as u64,
        };
        result & (u64::MAX >> (64 - bits))
    }
}

/// The operands: what an atomic read does with the value that it gets, and what others need.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(crate) enum Update {
    None,
    /// A write of this value.
    Store(u64),
    /// A choice among this many.
    Choose(u64),
    CompareExchange {
        expected: u64,
        new: u64,
    },
    Add(u64),
    Exchange(u64),
    Or(u64),
    And(u64),
    Xor(u64),
    Nand(u64),
    Max(u64),
    Min(u64),
    Narrow {
        operation: Narrow,
        operand: u64,
        bits: u32,
    },
    /// Blocks until the value is `expected`, then writes `new`.
    AwaitExchange {
        expected: u64,
        new: u64,
    },
    /// Blocks until the value is below `limit`, then adds `operand`.
    AwaitAdd {
        limit: u64,
        operand: u64,
    },
    AwaitEqual(u64),
    AwaitUnequal(u64),
    /// A load that may have been done earlier, if it took a value of this kind.
    Within(Cacheable),
    /// Blocks until an engine mutex is free, and takes it; also the write that does so.
    Lock,
    /// The same for a handler that another thread plays.
    Interrupt,
    /// The write with which the handler ends.
    Return,
}

impl Update {
    /// The value written after reading `value`, if the operation writes at all.
    pub(crate) fn written(self, value: u64) -> Option<u64> {
        match self {
            Update::None | Update::AwaitEqual(_) | Update::AwaitUnequal(_) => None,
            Update::Store(_) | Update::Choose(_) | Update::Within(_) | Update::Return => None,
            Update::Lock | Update::Interrupt => (value == 0).then_some(1),
            Update::CompareExchange { expected, new } | Update::AwaitExchange { expected, new } => {
                (value == expected).then_some(new)
            }
            Update::Add(operand) => Some(value.wrapping_add(operand)),
            Update::Narrow { operation, operand, bits } => {
                Some(operation.apply(value, operand, bits))
            }
            Update::AwaitAdd { limit, operand } => {
                (value < limit).then(|| value.wrapping_add(operand))
            }
            Update::Exchange(new) => Some(new),
            Update::Or(operand) => Some(value | operand),
            Update::And(operand) => Some(value & operand),
            Update::Xor(operand) => Some(value ^ operand),
            Update::Nand(operand) => Some(!(value & operand)),
            Update::Max(operand) => Some(value.max(operand)),
            Update::Min(operand) => Some(value.min(operand)),
        }
    }

    /// Whether the operation waits as long as it reads `value`.
    pub(crate) fn blocks(self, value: u64) -> bool {
        match self {
            Update::AwaitExchange { expected, .. } | Update::AwaitEqual(expected) => {
                value != expected
            }
            Update::AwaitUnequal(refused) => value == refused,
            Update::AwaitAdd { limit, .. } => value >= limit,
            Update::Lock | Update::Interrupt => value != 0,
            _ => false,
        }
    }

    /// Whether a read with this operation may write too.
    pub(crate) fn may_write(self) -> bool {
        !matches!(
            self,
            Update::None
                | Update::AwaitEqual(_)
                | Update::AwaitUnequal(_)
                | Update::Within(_)
                | Update::Return
        )
    }

    /// Whether it takes or gives back an engine mutex, which is no instruction of any machine.
    pub(crate) fn is_of_mutex(self) -> bool {
        matches!(self, Update::Lock | Update::Interrupt | Update::Return)
    }

    /// Whether a load may have taken this value before now.
    pub(crate) fn may_have_kept(self, value: u64) -> bool {
        matches!(self, Update::Within(Cacheable(cacheable)) if cacheable(value))
    }
}

/// Data that travels with a write: the contents of an engine mutex. Kept with the location, so
/// that events are plain data.
///
/// Graphs are dropped at times that have nothing to do with the program, so what the destructor of
/// the data does is of no effect.
#[derive(Clone, Debug, Default)]
pub(crate) struct Payload(Option<Arc<dyn Any + Send + Sync>>);

impl Payload {
    pub(crate) fn new<T: Send + Sync + 'static>(data: Arc<T>) -> Payload {
        Payload(Some(data))
    }

    pub(crate) fn is_some(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn get<T: 'static>(&self) -> Option<&T> {
        self.0.as_ref()?.downcast_ref()
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        if let Some(data) = self.0.take() {
            drop_inertly(data);
        }
    }
}

/// The location of events that have none.
pub(crate) const NO_LOCATION: u32 = u32::MAX;

/// What a thread asks for: an event without its place in the graph.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) kind: Kind,
    /// For plain accesses and the like, `Relaxed`.
    pub(crate) order: Ordering,
    /// The order of a compare-exchange that fails.
    pub(crate) failure_order: Ordering,
    pub(crate) update: Update,
    /// The location; for spawn and join the child; [`NO_LOCATION`] for fences and choices.
    pub(crate) location: u32,
    pub(crate) at: &'static Location<'static>,
}

impl Request {
    pub(crate) fn new(kind: Kind, location: u32, at: &'static Location<'static>) -> Request {
        Request {
            kind,
            order: Ordering::Relaxed,
            failure_order: Ordering::Relaxed,
            update: Update::None,
            location,
            at,
        }
    }

    /// Whether the event is `SeqCst`, at least for some value.
    pub(crate) fn may_be_sequential(&self) -> bool {
        [self.order, self.failure_order].contains(&Ordering::SeqCst)
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) request: Request,
    /// How many objects the thread had created before.
    pub(crate) created: u32,
    /// How many plain accesses the thread had made before.
    pub(crate) plain_before: u32,
    /// The write half of a read-modify-write.
    pub(crate) exclusive: bool,
    /// The choice made for this event is not the default one, the newest value or place.
    pub(crate) deviates: bool,
    /// The thread was seen to wait for a change after reading `waits_on` here.
    pub(crate) waits: bool,
    pub(crate) waits_on: u64,
    /// The thread was seen to go on from a yield behind this read: see `yielding`.
    pub(crate) goes_on: bool,
    /// The value read, written or chosen.
    pub(crate) value: u64,
    /// What an atomic read reads.
    pub(crate) reads_from: EventId,
    /// The event that comes directly before one that stands apart, if any does.
    pub(crate) after: EventId,
    /// The place of the event in the order of addition.
    pub(crate) position: u32,
    pub(crate) happens_before: View,
    pub(crate) causes: View,
    pub(crate) pending_acquires: View,
    pub(crate) release_fence: View,
    /// For a read that may stand apart, what comes before it.
    pub(crate) released: View,
}

impl Event {
    /// Whether the event is ordered by what [`Event::knows`] says, and not by its thread.
    pub(crate) fn stands_apart(&self) -> bool {
        self.is_of_handler() || self.request.update.may_have_kept(self.value)
    }

    /// Whether the event is of an interrupt's handler.
    pub(crate) fn is_of_handler(&self) -> bool {
        matches!(self.request.update, Update::Interrupt | Update::Return)
    }

    /// What comes before the event: what its thread knew, unless it stands apart.
    pub(crate) fn knows(&self) -> &View {
        if self.stands_apart() { &self.released } else { &self.happens_before }
    }

    /// Whether the event is a fence with which its thread learns what it has only read.
    pub(crate) fn is_acquire_fence(&self) -> bool {
        self.request.kind == Kind::Fence && acquires(self.request.order)
    }

    /// Whether the thread waits here, given what the read returned.
    pub(crate) fn blocks(&self) -> bool {
        self.request.kind == Kind::Read && self.would_block(self.value)
    }

    /// Whether the thread is known to wait here if the read returns `value`.
    pub(crate) fn would_block(&self, value: u64) -> bool {
        self.request.update.blocks(value) || (self.waits && self.waits_on == value)
    }

    /// The order that applies, which for a failed compare-exchange is the failure order.
    pub(crate) fn effective_order(&self) -> Ordering {
        self.order_when_reading(self.value)
    }

    pub(crate) fn order_when_reading(&self, value: u64) -> Ordering {
        match self.request.update {
            Update::CompareExchange { expected, .. }
                if self.request.kind == Kind::Read && value != expected =>
            {
                self.request.failure_order
            }
            _ => self.request.order,
        }
    }
}

pub(crate) fn acquires(order: Ordering) -> bool {
    matches!(order, Ordering::Acquire | Ordering::AcqRel | Ordering::SeqCst)
}

pub(crate) fn releases(order: Ordering) -> bool {
    matches!(order, Ordering::Release | Ordering::AcqRel | Ordering::SeqCst)
}
