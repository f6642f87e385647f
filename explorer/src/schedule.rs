//! Which thread goes on.
//!
//! *New events* are added by one thread at a time, the *leader*, in an order that is a function of
//! the graph: the main thread until it joins, then the other threads in the order in which they
//! were spawned, each until it ends, waits or joins, and then those that join. A child that a
//! thread spawns comes directly behind that thread.
//!
//! *Recorded events* are replayed on demand. Whatever a thread has read, it read from an event of
//! another thread, and goes on only when that thread has done this event in the current run too;
//! the same for the end of a thread that it joins, and for the start of one that was spawned by
//! another. So a thread that is not the leader goes as far as the leader needs, step by step. What
//! is needed comes before in `porf`, which has no cycle; and happens-before is inside of `porf`. So
//! everything that happens before an operation has been done, in this run and in this order, when
//! the operation returns, and plain memory that is free of races is real memory.
//!
//! A thread that is known to wait where its events end is never the leader, and goes as far as it
//! is needed: nothing new can happen in it.

use crate::engine::{Engine, Stop};
use crate::event::{EventId, INITIAL, Kind, THREADS_MAX};

/// How far the threads have come in this run.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    /// The threads that were spawned, in the order in which they lead.
    order: Vec<usize>,
    leader: usize,
    /// How many events each thread has done, with everything that they need.
    done: [usize; THREADS_MAX],
    /// How many events are needed of each thread that does not lead.
    needed: [usize; THREADS_MAX],
    /// What a thread has read, and was perhaps not done yet.
    source: [Option<EventId>; THREADS_MAX],
    joining: [Option<usize>; THREADS_MAX],
    /// A thread of a probe has reached the point from which on it is alone.
    pausing: [bool; THREADS_MAX],
    ended: [bool; THREADS_MAX],
    stopped: [Option<Stop>; THREADS_MAX],
}

impl Schedule {
    pub(crate) fn is_stopped_by(&self, stop: Stop) -> bool {
        self.stopped.contains(&Some(stop))
    }

    pub(crate) fn all_have_ended(&self) -> bool {
        self.order.iter().all(|thread| self.ended[*thread])
    }

    pub(crate) fn stop(&mut self, thread: usize, stop: Stop) {
        self.stopped[thread] = Some(stop);
    }

    pub(crate) fn end(&mut self, thread: usize) {
        self.ended[thread] = true;
    }

    /// The calling thread has read this, and goes on when it was done.
    pub(crate) fn need(&mut self, thread: usize, source: EventId) {
        if source != INITIAL && source.thread() != thread {
            self.source[thread] = Some(source);
        }
    }

    /// Whether an event has been done, with all that its thread does before the next one.
    fn has_done(&self, event: EventId) -> bool {
        self.done[event.thread()] > event.index()
    }
}

impl Engine {
    /// A thread exists from now on.
    pub(crate) fn enter(&mut self, thread: usize) {
        let ranks = &self.search.graph.ranks;
        let order = &mut self.run.schedule.order;
        let place = order.partition_point(|other| ranks[*other] < ranks[thread]);
        order.insert(place, thread);
    }

    /// Looks, before each operation, whether the calling thread has gone as far as it is needed.
    /// What it does behind its last operation, such as recording it, it has done then.
    pub(crate) fn has_done_enough(&self) -> bool {
        let (thread, schedule) = (self.run.current, &self.run.schedule);
        thread != schedule.leader && schedule.done[thread] >= schedule.needed[thread]
    }

    /// Looks, after each operation, whether the calling thread has to give way.
    pub(crate) fn gives_way(&mut self, stop: Option<Stop>) -> bool {
        let (thread, schedule) = (self.run.current, &mut self.run.schedule);
        if stop.is_some() {
            schedule.stopped[thread] = stop;
            return true;
        }
        if let Some(source) = schedule.source[thread] {
            if !schedule.has_done(source) {
                return true;
            }
            schedule.source[thread] = None;
        }
        schedule.done[thread] = self.run.next[thread];
        schedule.pausing[thread]
    }

    /// The calling thread is going to join another one, and gives way.
    pub(crate) fn begin_join(&mut self, child: usize) -> Result<(), Stop> {
        if self.is_ahead() {
            return Err(self.leaves_round());
        }
        self.run.schedule.joining[self.run.current] = Some(child);
        Ok(())
    }

    /// The calling thread is going to be alone, and gives way to all others before.
    pub(crate) fn pause(&mut self) {
        self.run.schedule.pausing[self.run.current] = true;
    }

    pub(crate) fn leads(&self) -> bool {
        self.run.schedule.leader == self.run.current
    }

    /// Whether a thread waits, so far as is known, for ever.
    pub(crate) fn is_blocked(&self, thread: usize) -> bool {
        self.run.schedule.stopped[thread] == Some(Stop::Blocked) || self.is_known_to_wait(thread)
    }

    fn is_known_to_wait(&self, thread: usize) -> bool {
        let events = &self.search.graph.threads[thread];
        let is_followed = self.guide.is_none() && self.run.probe.is_none();
        // Those that it spawns have to exist.
        let spawns = || events.iter().any(|event| event.request.kind == Kind::Spawn);
        is_followed && events.last().is_some_and(|event| event.blocks()) && !spawns()
    }

    fn find_leader(&self) -> Option<usize> {
        let schedule = &self.run.schedule;
        let (mut joining, mut pausing) = (None, None);
        for thread in schedule.order.iter().copied() {
            if schedule.ended[thread] || schedule.stopped[thread].is_some() {
                continue;
            }
            match schedule.joining[thread] {
                Some(child) if schedule.ended[child] || self.is_blocked(child) => {
                    joining = joining.or(Some(thread));
                }
                Some(_) => {}
                None if schedule.pausing[thread] => pausing = pausing.or(Some(thread)),
                None if self.is_known_to_wait(thread) => {}
                None => return Some(thread),
            }
        }
        joining.or(pausing)
    }

    /// What a thread needs of another one before it can go on: so many events.
    fn need_of(&mut self, thread: usize) -> Option<(usize, usize)> {
        let schedule = &mut self.run.schedule;
        if !schedule.order.contains(&thread) {
            let spawn = self.search.graph.spawned[thread]?;
            return Some((spawn.thread(), spawn.index() + 1));
        }
        if let Some(source) = schedule.source[thread] {
            if !schedule.has_done(source) {
                return Some((source.thread(), source.index() + 1));
            }
            schedule.source[thread] = None;
            schedule.done[thread] = self.run.next[thread];
        }
        let child = schedule.joining[thread].filter(|child| !schedule.ended[*child])?;
        (thread != schedule.leader).then_some((child, usize::MAX))
    }

    /// The thread that goes on now; none if the run is over.
    pub(crate) fn next_turn(&mut self) -> Option<usize> {
        let schedule = &self.run.schedule;
        if [Stop::Failed, Stop::Redundant, Stop::Again]
            .iter()
            .any(|stop| schedule.is_stopped_by(*stop))
        {
            return None;
        }
        let leader = self.find_leader()?;
        self.run.schedule.leader = leader;
        let mut thread = leader;
        while let Some((other, count)) = self.need_of(thread) {
            self.run.schedule.needed[other] = count;
            thread = other;
        }
        self.run.current = thread;
        let schedule = &mut self.run.schedule;
        if schedule.ended[thread] || schedule.stopped[thread].is_some() {
            let stop = self.diverges("the end of the thread");
            self.run.schedule.stop(thread, stop);
            return None;
        }
        schedule.joining[thread] = None;
        if std::mem::take(&mut schedule.pausing[thread]) {
            self.begin_alone(thread);
        }
        Some(thread)
    }
}
