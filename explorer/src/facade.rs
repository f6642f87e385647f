//! What a facade needs beside, that gives unmodified code the explorer's objects under other names.
//!
//! A program that is written for the explorer has better means. `weft-loom` is built on this.

use std::panic::Location;
use std::sync::atomic::Ordering;

use crate::arena;
use crate::atomic::Atomic;
use crate::coroutines::{current, suspend};
use crate::engine::{Engine, Stop, is_installed, perform, with};
use crate::event::{EventId, Kind, Payload, Request, Update, View};
use crate::inert::{is_inert, skips};
use crate::report::{FailureKind, SourcePlace};

pub use crate::event::Narrow;

/// An operation on an integer of so many bits, which the word holds in its lower ones; returns the
/// value before.
#[track_caller]
pub fn fetch_narrow(
    word: &Atomic,
    operation: Narrow,
    operand: u64,
    bits: u32,
    order: Ordering,
) -> u64 {
    word.update(Update::Narrow { operation, operand, bits }, order)
}

/// Waits until the value is below `limit`, and adds `operand` in one step.
#[track_caller]
pub fn await_add(word: &Atomic, limit: u64, operand: u64, order: Ordering) {
    word.update(Update::AwaitAdd { limit, operand }, order);
}

/// What is not atomic: reads a word, and writes it if a value is given, in code that has it to
/// itself. It fails with a data race if another thread's access is unordered with it.
#[track_caller]
pub fn exclusive(word: &Atomic, stored: impl FnOnce(u64) -> Option<u64>) -> u64 {
    let at = Location::caller();
    if skips(at) {
        return 0;
    }
    let value = perform(|engine| {
        let location = word.handle().enter(engine, at)?;
        let (value, read) = engine.read(Request::new(Kind::Read, location, at), None)?;
        engine.refuse_shared(location, read, at)?;
        Ok(value)
    });
    if let Some(new) = stored(value).filter(|new| *new != value) {
        perform(|engine| {
            let location = word.handle().enter(engine, at)?;
            let request = Request::new(Kind::Write, location, at);
            engine.write(
                Request { update: Update::Store(new), ..request },
                Payload::default(),
                None,
            )
        });
    }
    value
}

/// Where an object was made: by which thread, behind how many of its events.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    thread: usize,
    epoch: usize,
    at: &'static Location<'static>,
}

impl Origin {
    /// An object is made here.
    #[track_caller]
    pub fn here() -> Origin {
        let at = Location::caller();
        let thread = current();
        let epoch = if is_inert() { 0 } else { with(|engine| engine.next_event()) };
        Origin { thread, epoch, at }
    }

    /// The object is used: fails if its memory was freed before, or if that it was made is not
    /// ordered before this. `what` names the object.
    #[track_caller]
    pub fn check<T: ?Sized>(&self, what: &str, object: *const T) {
        let at = Location::caller();
        if is_inert() {
            return;
        }
        if with(|engine| engine.has_done_enough()) {
            suspend();
        }
        let freed = arena::freed(object.cast::<u8>().addr());
        let known = |view: View| self.thread == current() || self.is_within(&view);
        if freed.is_none() && with(|engine| known(engine.known_here())) {
            return;
        }
        perform::<()>(|engine| {
            let (file, line) = (at.file(), at.line());
            let (kind, message) = match freed {
                Some(freed) => {
                    let message = format!("use after free: {what} at {file}:{line} is in {freed}");
                    (FailureKind::Violation, message)
                }
                None => {
                    let message = format!(
                        "data race: the use of {what} by thread {} at {file}:{line} is unordered \
                         with its making by thread {} at {}:{}",
                        current(),
                        self.thread,
                        self.at.file(),
                        self.at.line()
                    );
                    (FailureKind::DataRace, message)
                }
            };
            Err(engine.fail(kind, message, Some(SourcePlace::of(at))))
        });
    }

    fn is_within(&self, view: &View) -> bool {
        self.epoch < usize::from(view.0[self.thread])
    }
}

/// Whether the caller is inside of a program that is being explored.
pub fn is_inside() -> bool {
    is_installed()
}

/// What this memory and all that it leads to holds is no leak: it is kept for the whole execution.
pub fn keep<T: ?Sized>(object: *const T) {
    arena::keep(object.cast::<u8>().addr());
}

impl Engine {
    /// The calling thread has just read a word that it takes to be its own.
    fn refuse_shared(
        &mut self,
        location: u32,
        read: EventId,
        at: &'static Location<'static>,
    ) -> Result<(), Stop> {
        let (thread, known) = (self.run.current, self.known_here());
        let graph = &self.search.graph;
        let foreign = |other: &&EventId| other.thread() != thread && !other.within(&known);
        let place = graph.place(location);
        let Some(other) = place.coherence.iter().chain(&place.reads).find(foreign) else {
            return Ok(());
        };
        let what = graph.name(location);
        let (own, other) = (graph.event(read).request.at, graph.event(*other).request.at);
        debug_assert_eq!(own, at, "an operation has one place");
        let message = format!(
            "data race: thread {thread} has {what} to itself at {}:{}, unordered with another \
             thread's access at {}:{}",
            at.file(),
            at.line(),
            other.file(),
            other.line()
        );
        Err(self.fail(FailureKind::DataRace, message, Some(SourcePlace::of(at))))
    }
}
