//! Plain cells under loom, and a report of a race that names both accesses.
//!
//! loom's cell decides whether an access is ordered after all conflicting ones; nothing else does.
//! Its report names no place in the program unless a search is run that is many times slower, so
//! the cell keeps each CPU's last accesses, and adds them to loom's report when it comes.

use std::fmt;
use std::panic::Location;
use std::sync::Mutex;
use std::thread::panicking;
use weft_scenarios::detector::DATA_RACE;

use super::{CPUS_MAX, current, lock};
use crate::capture;
use crate::engine::EnginePlain;

/// A plain cell: loom checks that conflicting accesses are ordered.
pub struct LoomPlain {
    state: Mutex<PlainState>,
}

struct PlainState {
    /// Behind the mutex only because loom's cell is not `Sync`: all model threads share one
    /// thread of the host, so the mutex is never contended and orders nothing for loom.
    cell: loom::cell::Cell<u64>,
    reads: [Option<&'static Location<'static>>; CPUS_MAX],
    writes: [Option<&'static Location<'static>>; CPUS_MAX],
}

impl fmt::Debug for LoomPlain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoomPlain").finish_non_exhaustive()
    }
}

impl EnginePlain for LoomPlain {
    fn new(value: u64) -> Self {
        Self {
            state: Mutex::new(PlainState {
                cell: loom::cell::Cell::new(value),
                reads: [None; CPUS_MAX],
                writes: [None; CPUS_MAX],
            }),
        }
    }

    fn get(&self) -> u64 {
        let blame = Blame { plain: self, cpu: current(), here: Location::caller(), writes: false };
        let mut state = lock(&self.state);
        let value = state.cell.get();
        state.reads[blame.cpu] = Some(blame.here);
        value
    }

    fn set(&self, value: u64) {
        let blame = Blame { plain: self, cpu: current(), here: Location::caller(), writes: true };
        let mut state = lock(&self.state);
        state.cell.set(value);
        state.writes[blame.cpu] = Some(blame.here);
    }
}

/// Turns loom's report of a race, which names no place, into one that names both accesses.
/// Nothing happens unless the access between making and dropping it panics.
struct Blame<'a> {
    plain: &'a LoomPlain,
    cpu: usize,
    here: &'static Location<'static>,
    writes: bool,
}

impl Drop for Blame<'_> {
    fn drop(&mut self) {
        if !panicking() {
            return;
        }
        let state = lock(&self.plain.state);
        let places = |what: &str, places: &[Option<&'static Location<'static>>; CPUS_MAX]| {
            let others = places.iter().enumerate().filter(|(cpu, _)| *cpu != self.cpu);
            others
                .filter_map(|(cpu, place)| place.map(|at| format!("CPU {cpu} {what} at {at}")))
                .collect::<Vec<_>>()
        };
        let mut others = places("wrote", &state.writes);
        if self.writes {
            others.extend(places("read", &state.reads));
        }
        let verb = if self.writes { "writes" } else { "reads" };
        let message = format!(
            "{DATA_RACE}: CPU {} {verb} a plain cell at {} unordered with another CPU's access: {}",
            self.cpu,
            self.here,
            others.join("; ")
        );
        capture::amend(|failure| {
            if failure.message.starts_with("Causality violation") {
                failure.message = message;
                failure.location = Some(self.here.to_string());
            }
        });
    }
}
