//! Threads that wait, and how a deadlock is told from a round of a loop.
//!
//! A waiting loop whose rounds only read is explored by its last round (see `choices`): where a
//! round ends without success, the thread *waits* at its last read, and ends there in this graph.
//! The loop goes on in other graphs, in which one of its reads has another source.
//!
//! A graph in which all threads have ended or wait is a deadlock if no thread could ever do
//! anything else. That every waiting read has the newest value is necessary, and not enough: an
//! earlier read of the same round may be old, and the failed exchange of a retry loop has just read
//! what the next attempt needs. So the program is run once more as a *probe*. Each waiting thread
//! is alone with the memory that all threads have left behind: it reads the newest values, and its
//! writes go to a memory of its own. If it waits again with memory as it was, it will do so for
//! ever, because no thread changes anything. If it waits with memory changed, or ends, or spawns or
//! joins, it goes on, and the graph is just one in which its loop has another round.
//!
//! Nothing of a probe is recorded. A choice in it is 0.

use std::panic::Location;

use crate::engine::{Engine, Outcome, Stop};
use crate::event::{EventId, Kind, Request, THREADS_MAX, Update};
use crate::report::{FailureKind, SourcePlace};
use crate::trace::describe;

/// What is known of each waiting thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Probed {
    /// It has not reached the point at which it waits.
    #[default]
    NotYet,
    /// It is alone with the newest values. No thread is before all others have come to where they
    /// end or wait.
    Alone,
    /// It has changed something, or ended.
    GoesOn,
    /// It waits again, and nothing has changed.
    Stuck,
}

/// A run that asks what waiting threads would do next.
#[derive(Debug, Default)]
pub(crate) struct Probe {
    threads: [Probed; THREADS_MAX],
    /// What the thread that is alone has written.
    written: Vec<(u32, u64)>,
    pub(crate) operations: usize,
    /// How many operations there were at the last yield, and how many yields with some before.
    pub(crate) yielded_at: usize,
    pub(crate) rounds: usize,
}

impl Engine {
    /// Whether the calling thread is alone with the newest values.
    pub(crate) fn is_probing(&self) -> bool {
        let thread = self.run.current;
        self.run.probe.as_ref().is_some_and(|probe| probe.threads[thread] == Probed::Alone)
    }

    fn conclude_probe(&mut self, probed: Probed) -> Stop {
        let thread = self.run.current;
        if let Some(probe) = &mut self.run.probe {
            probe.threads[thread] = probed;
        }
        Stop::Blocked
    }

    /// The calling thread does something that it did not do while it waited.
    pub(crate) fn goes_on(&mut self) -> Stop {
        self.conclude_probe(Probed::GoesOn)
    }

    /// The newest value of a location, without what the probe has written.
    fn newest(&self, location: u32) -> u64 {
        let graph = &self.search.graph;
        match graph.place(location).coherence.last() {
            Some(write) => graph.event(*write).value,
            None => graph.plain_value(location),
        }
    }

    fn probed_value(&self, location: u32) -> u64 {
        let written = self.run.probe.iter().flat_map(|probe| probe.written.iter().rev());
        let own = written.into_iter().find(|(other, _)| *other == location);
        own.map_or_else(|| self.newest(location), |(_, value)| *value)
    }

    /// Counts an operation of a probe: a loop that waits for nothing goes on for ever, which is
    /// reported where it is explored.
    fn count_probe(&mut self) -> Result<(), Stop> {
        let Some(probe) = &mut self.run.probe else { return Ok(()) };
        probe.operations += 1;
        if probe.operations > self.events_max { Err(self.goes_on()) } else { Ok(()) }
    }

    pub(crate) fn probe_read(&mut self, request: &Request) -> Result<u64, Stop> {
        self.count_probe()?;
        let value = self.probed_value(request.location);
        if request.update.blocks(value) {
            return Err(self.probe_waits());
        }
        if let Some(new) = request.update.written(value) {
            self.probe_writes(request.location, new)?;
        }
        Ok(value)
    }

    pub(crate) fn probe_write(&mut self, request: &Request) -> Result<(), Stop> {
        self.count_probe()?;
        match request.update {
            Update::Store(value) => self.probe_writes(request.location, value),
            _ => Ok(()),
        }
    }

    fn probe_writes(&mut self, location: u32, value: u64) -> Result<(), Stop> {
        // The data of a mutex is not followed.
        if self.search.graph.place(location).is_mutex {
            return Err(self.goes_on());
        }
        if let Some(probe) = &mut self.run.probe {
            probe.written.retain(|(other, _)| *other != location);
            probe.written.push((location, value));
        }
        Ok(())
    }

    pub(crate) fn probe_other(&mut self, request: &Request) -> Result<u64, Stop> {
        self.count_probe()?;
        match request.kind {
            Kind::Spawn | Kind::Join => Err(self.goes_on()),
            _ => Ok(0),
        }
    }

    pub(crate) fn probe_plain(&mut self, request: &Request) -> Result<u64, Stop> {
        match request.kind {
            Kind::PlainWrite => self.probe_write(request).map(|()| 0),
            _ => self.probe_read(request),
        }
    }

    /// The thread that is alone waits: for ever, if it has left memory as it was.
    pub(crate) fn probe_waits(&mut self) -> Stop {
        let unchanged = self.run.probe.as_ref().is_some_and(|probe| {
            probe.written.iter().all(|(location, value)| self.newest(*location) == *value)
        });
        self.conclude_probe(if unchanged { Probed::Stuck } else { Probed::GoesOn })
    }

    /// The calling thread would only repeat its last round: it is blocked at its last read, of
    /// `location` if that is given. Returns for the first round of a probe.
    pub(crate) fn wait_for_change(
        &mut self,
        location: Option<u32>,
        at: &'static Location<'static>,
    ) -> Result<(), Stop> {
        if self.is_probing() {
            return Err(self.probe_waits());
        }
        if self.is_ahead() {
            return Err(self.leaves_round());
        }
        let thread = self.run.current;
        let index = self.run.next[thread];
        if !self.is_over(thread) {
            return Err(self.diverges("a wait for a change"));
        }
        let graph = &mut self.search.graph;
        let last = index.checked_sub(1).map(|index| EventId::new(thread, index));
        let read = last.filter(|id| {
            let request = &graph.event(*id).request;
            let is_meant = location.is_none_or(|location| request.location == location);
            request.kind == Kind::Read && is_meant
        });
        let Some(read) = read else {
            let message = match location {
                Some(_) => {
                    "wait_for_change must directly follow a load or a failed compare_exchange of \
                     the same word by the same thread"
                }
                None => {
                    "wait_for_any_change must directly follow a load or a failed compare_exchange \
                     by the same thread"
                }
            };
            return Err(self.misuse(at, message));
        };
        self.wait_at(read)
    }

    /// The calling thread waits at its last read, whose value makes it repeat a round for ever.
    pub(crate) fn wait_at(&mut self, read: EventId) -> Result<(), Stop> {
        let graph = &mut self.search.graph;
        let event = graph.event_mut(read);
        (event.waits, event.waits_on) = (true, event.value);
        if self.run.probe.is_some() {
            self.pause();
            return Ok(());
        }
        if self.guide.is_none() && graph.is_stale(read) {
            self.search.counts.redundant += 1;
            return Err(Stop::Redundant);
        }
        Err(Stop::Blocked)
    }

    /// From now on the calling thread is alone.
    pub(crate) fn begin_alone(&mut self, thread: usize) {
        if let Some(probe) = &mut self.run.probe {
            probe.threads[thread] = Probed::Alone;
            (probe.written, probe.operations) = (Vec::new(), 0);
            (probe.yielded_at, probe.rounds) = (0, 0);
        }
    }

    /// The calling thread gives this execution up.
    pub(crate) fn give_up(&mut self) -> Stop {
        if self.is_probing() {
            return self.goes_on();
        }
        if self.is_ahead() {
            return self.leaves_round();
        }
        if !self.is_over(self.run.current) {
            return self.diverges("an assumption that does not hold");
        }
        self.run.assumed = true;
        Stop::Blocked
    }

    /// Threads wait. If none of them can ever go on, it is a deadlock.
    pub(crate) fn conclude_blocked(&mut self) -> Outcome {
        let graph = &self.search.graph;
        let waiting =
            |thread: &usize| graph.threads[*thread].last().is_some_and(|event| event.blocks());
        let waiting: Vec<usize> = (0..THREADS_MAX).filter(waiting).collect();
        let reads_newest = |thread: &usize| {
            let read = EventId::new(*thread, graph.threads[*thread].len() - 1);
            let event = graph.event(read);
            let location = event.request.location;
            graph.coherence_position(location, event.reads_from)
                == graph.place(location).coherence.len()
        };
        let held_back = self.guide.as_ref().is_some_and(|guide| !guide.is_complete(graph));
        let gave_up = self.run.assumed || held_back;
        if waiting.is_empty() || gave_up || !waiting.iter().all(reads_newest) {
            return Outcome::Blocked;
        }
        let is_round = |thread: &&usize| {
            let last = graph.threads[**thread].last();
            last.is_some_and(|event| !event.request.update.blocks(event.value))
        };
        let mut rounds = waiting.iter().filter(is_round);
        match &self.run.probe {
            None if rounds.next().is_some() => return Outcome::Suspected,
            Some(probe) if !rounds.all(|thread| probe.threads[*thread] == Probed::Stuck) => {
                return Outcome::Blocked;
            }
            _ => {}
        }
        let waits: Vec<String> = waiting
            .iter()
            .map(|thread| {
                let event = &graph.threads[*thread][graph.threads[*thread].len() - 1];
                let operation = describe(graph, &event.request);
                format!("thread {thread} waits at {operation} and reads {}", event.value)
            })
            .collect();
        let message = format!("no thread can go on: {}", waits.join("; "));
        let last = graph.threads[waiting[0]].last();
        let at = last.map(|event| SourcePlace::of(event.request.at));
        self.run.current = waiting[0];
        self.fail(FailureKind::Deadlock, message, at);
        Outcome::Failed
    }
}
