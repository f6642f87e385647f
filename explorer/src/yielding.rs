//! Yields: where a loop may begin its next round, or not.
//!
//! Code that waits in a loop yields in each round, and code yields that does not wait, or waits for
//! a while and then does something else. [`yield_now`] has to tell them apart, because the thread
//! that waits is stopped (see `waiting`): otherwise each round would be a further execution.
//!
//! If a thread has read since it changed something last, and would do the same for ever as long as
//! it reads the same, it waits. So it is *looked ahead*: the thread goes on, and whatever it has
//! read in that time, at the same place of the source text, has the same value as then. Nothing of
//! that becomes an event, because to read again what one has read orders nothing. A thread that has
//! come to the same yield [`ROUNDS_MAX`] times so waits at its last read. One that does anything
//! else goes on: this is noted at that read, the run is made again, and the yield is then nothing.
//! The note is a function of what the thread has read, and stays until the read is deleted or reads
//! something else.
//!
//! The places keep apart a read before a loop and the same read in the loop: if a loop waits for a
//! value that differs from the one before it, it is the read in the loop that has to change.
//!
//! So a loop that gives up after fewer rounds is explored round by round, as it is, and one that
//! goes on for longer is explored by its last round. Rounds that change something are explored one
//! by one in any case, and so are those whose last event is no read; the engine's limits end loops
//! of such rounds that do not end.

use std::panic::Location;

use crate::engine::{Engine, Stop, perform};
use crate::event::{Event, EventId, Kind, Request, THREADS_MAX};
use crate::inert::skips;
use crate::report::{FailureKind, SourcePlace};

/// A thread that has repeated a round so often is taken to repeat it for ever.
const ROUNDS_MAX: usize = 200;
/// Yields that are no round, in a row or at other places, before a thread is taken to go on.
const OTHERS_MAX: usize = 20_000;

/// The thread that leads is looked ahead.
#[derive(Clone, Copy, Debug)]
struct Ahead {
    thread: usize,
    /// The events that it may repeat.
    start: usize,
    end: usize,
    /// How many it has repeated since it yielded, and whether the last one was ever among them.
    repeated: usize,
    waits_at_last: bool,
    /// Where it has yielded, how often it has come there with something repeated, and how often to
    /// other yields, or without.
    at: &'static Location<'static>,
    rounds: usize,
    others: usize,
}

/// The yields of a run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rounds {
    /// How many events and plain accesses each thread had when it yielded last.
    yielded: [usize; THREADS_MAX],
    /// How often each thread has yielded without an event since.
    idle: [usize; THREADS_MAX],
    ahead: Option<Ahead>,
}

/// A round of a loop is over, perhaps.
///
/// What a spin hint or a yield is in real code. A thread that would go on for ever if it read the
/// same values again and again waits here; to any other one it is nothing. See also
/// [`wait_for_any_change`](crate::wait_for_any_change), for a loop that is known to wait.
#[track_caller]
pub fn yield_now() {
    let at = Location::caller();
    if !skips(at) {
        perform(|engine| engine.yield_now(at));
    }
}

/// Whether an event could be made again without a difference to any thread.
fn is_repeatable(event: &Event) -> bool {
    match event.request.kind {
        Kind::Read => event.request.update.written(event.value).is_none(),
        Kind::Fence => true,
        _ => false,
    }
}

impl Engine {
    /// Whether the calling thread is looked ahead.
    pub(crate) fn is_ahead(&self) -> bool {
        self.run.rounds.ahead.is_some_and(|ahead| ahead.thread == self.run.current)
    }

    /// The calling thread does not wait: it does something else than what it did in its round.
    pub(crate) fn leaves_round(&mut self) -> Stop {
        if let Some(ahead) = self.run.rounds.ahead.take() {
            let last = EventId::new(ahead.thread, ahead.end - 1);
            self.search.graph.event_mut(last).goes_on = true;
        }
        Stop::Again
    }

    /// An operation of a thread that is looked ahead; returns the value that it had before.
    pub(crate) fn repeat(&mut self, request: &Request) -> Result<u64, Stop> {
        let Some(ahead) = &mut self.run.rounds.ahead else { return Err(Stop::Again) };
        let events = &self.search.graph.threads[ahead.thread][ahead.start..ahead.end];
        let same = |event: &Event| {
            let old = &event.request;
            (old.kind, old.location, old.at) == (request.kind, request.location, request.at)
                && (old.order, old.failure_order, old.update)
                    == (request.order, request.failure_order, request.update)
        };
        let Some(index) = events.iter().rposition(same) else { return Err(self.leaves_round()) };
        ahead.repeated += 1;
        ahead.waits_at_last |= index + 1 == events.len();
        Ok(events[index].value)
    }

    /// A plain access of a thread that is looked ahead. What it reads has not changed.
    pub(crate) fn repeat_plain(&mut self, request: &Request) -> Result<u64, Stop> {
        match request.kind {
            Kind::PlainRead => Ok(self.search.graph.plain_value(request.location)),
            _ => Err(self.leaves_round()),
        }
    }

    fn yield_now(&mut self, at: &'static Location<'static>) -> Result<(), Stop> {
        if self.is_probing() {
            return self.probe_yield();
        }
        if self.is_ahead() {
            return self.repeat_round(at);
        }
        let thread = self.run.current;
        let (next, items) = (self.run.next[thread], self.next_index());
        let yielded = std::mem::replace(&mut self.run.rounds.yielded[thread], items);
        let graph = &self.search.graph;
        if next < graph.threads[thread].len() {
            return Ok(());
        }
        if yielded == items {
            return self.count_idle(at);
        }
        self.run.rounds.idle[thread] = 0;
        let events = &graph.threads[thread][..next];
        let changed = events.iter().rposition(|event| !is_repeatable(event));
        let written = graph.plain[thread].iter().rfind(|access| access.is_write);
        let written = written.map_or(0, |access| usize::from(access.epoch));
        let start = changed.map_or(0, |index| index + 1).max(written);
        let Some(event) = events[start..].last() else { return Ok(()) };
        if event.request.kind != Kind::Read || event.goes_on {
            return Ok(());
        }
        if event.waits && event.waits_on == event.value {
            return self.wait_at(EventId::new(thread, next - 1));
        }
        self.run.rounds.ahead = Some(Ahead {
            thread,
            start,
            end: next,
            repeated: 0,
            waits_at_last: false,
            at,
            rounds: 0,
            others: 0,
        });
        Ok(())
    }

    /// A thread that is looked ahead yields again.
    fn repeat_round(&mut self, at: &'static Location<'static>) -> Result<(), Stop> {
        let Some(ahead) = &mut self.run.rounds.ahead else { return Ok(()) };
        if ahead.at != at || ahead.repeated == 0 {
            ahead.others += 1;
            return if ahead.others < OTHERS_MAX { Ok(()) } else { Err(self.leaves_round()) };
        }
        (ahead.repeated, ahead.rounds) = (0, ahead.rounds + 1);
        if ahead.rounds < ROUNDS_MAX {
            return Ok(());
        }
        if !ahead.waits_at_last {
            return Err(self.leaves_round());
        }
        let last = EventId::new(ahead.thread, ahead.end - 1);
        self.run.rounds.ahead = None;
        self.wait_at(last)
    }

    /// The calling thread yields although it has done nothing since it did so last.
    fn count_idle(&mut self, at: &'static Location<'static>) -> Result<(), Stop> {
        let thread = self.run.current;
        self.run.rounds.idle[thread] += 1;
        if self.run.rounds.idle[thread] <= self.events_max {
            return Ok(());
        }
        let message = format!(
            "unbounded loop: thread {thread} has yielded {} times in a row at {}:{} and has done \
             nothing else; let it look for what it waits for",
            self.events_max,
            at.file(),
            at.line()
        );
        Err(self.fail(FailureKind::UnboundedLoop, message, Some(SourcePlace::of(at))))
    }

    /// A thread that is alone with the newest values yields.
    fn probe_yield(&mut self) -> Result<(), Stop> {
        let Some(probe) = &mut self.run.probe else { return Ok(()) };
        if probe.operations > probe.yielded_at {
            (probe.yielded_at, probe.rounds) = (probe.operations, probe.rounds + 1);
            if probe.rounds == ROUNDS_MAX {
                return Err(self.probe_waits());
            }
        }
        Ok(())
    }
}
