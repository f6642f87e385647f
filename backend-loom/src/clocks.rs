//! Happens-before of C11 over executions whose values are sequentially consistent.
//!
//! shuttle runs one interleaving of all operations and ignores orderings. These clocks put the
//! orderings back: they compute which events of other CPUs a CPU may rely on, and a conflicting
//! access to a plain cell outside of that is a data race, whatever value it happened to see.
//!
//! ```text
//! load(o)         acquire: now |= word         otherwise: pending |= word
//! store(o)        word = release ? now : fenced                   then one's own epoch advances
//! update(o)       load part; word |= release ? now : fenced       then one's own epoch advances
//! failed update   load part with the failure order, nothing else
//! fence           acquire: now |= pending      release: fenced = now, own epoch advances
//! plain read      every write's epoch is within now, else a race; its own epoch is kept
//! plain write     the same for writes and reads
//! spawn, join     the child starts with the parent's clock; the parent joins the child's last
//! waiting         carries nothing
//! ```
//!
//! A word keeps its clock through an update, which is C++20's release sequence; a plain store
//! replaces it, even by the same CPU. A `SeqCst` fence acquires and releases, and is no
//! happens-before edge between fences.
//! Waiting carries nothing on purpose: a lock must be ordered by its own accesses.
//! The scheme is FastTrack's (Flanagan and Freund, PLDI 2009) with fences added.

use std::cell::RefCell;
use std::panic::Location;
use std::sync::atomic::Ordering;

use weft_scenarios::detector::DATA_RACE;
use weft_scenarios::mark::Mark;

/// The largest number of CPUs that clocks have room for.
pub(crate) const CPUS_MAX: usize = 8;

/// For each CPU, the number of its epochs that are included.
pub(crate) type Clock = [u32; CPUS_MAX];

/// A place in the program.
type Place = &'static Location<'static>;

fn join(into: &mut Clock, other: &Clock) {
    for (mine, theirs) in into.iter_mut().zip(other) {
        *mine = (*mine).max(*theirs);
    }
}

fn acquires(order: Ordering) -> bool {
    matches!(order, Ordering::Acquire | Ordering::AcqRel | Ordering::SeqCst)
}

fn releases(order: Ordering) -> bool {
    matches!(order, Ordering::Release | Ordering::AcqRel | Ordering::SeqCst)
}

#[derive(Clone, Copy, Default)]
struct CpuClock {
    now: Clock,
    /// What an acquire fence would add: the clocks of words read without acquiring.
    pending: Clock,
    /// What was included at the last release fence.
    fenced: Clock,
    /// Whether the CPU has done anything in its present epoch.
    has_acted: bool,
    /// For each other CPU, the last word on which the two met: written there, read here.
    met: [Option<(Place, Place)>; CPUS_MAX],
}

thread_local! {
    static CPUS: RefCell<[CpuClock; CPUS_MAX]> = RefCell::new([CpuClock::default(); CPUS_MAX]);
}

fn with<R>(cpu: usize, f: impl FnOnce(&mut CpuClock) -> R) -> R {
    CPUS.with_borrow_mut(|cpus| f(&mut cpus[cpu]))
}

/// Marks the point at which `cpu` is. A new epoch in which nothing was done yet does not count, so
/// that what ends with a release is over for a CPU that acquires it.
pub(crate) fn mark(cpu: usize) -> Mark {
    with(cpu, |clock| {
        let done = clock.now[cpu] - u32::from(!clock.has_acted);
        Mark::knowing(cpu, done, |other| clock.now[other])
    })
}

impl CpuClock {
    /// What `cpu`, whose clock this is, has released is complete: what it does next is not in it.
    fn advance(&mut self, cpu: usize) {
        self.now[cpu] += 1;
        self.has_acted = false;
    }
}

/// `cpu` does something in its present epoch, which is returned.
fn act(cpu: usize) -> u32 {
    with(cpu, |clock| {
        clock.has_acted = true;
        clock.now[cpu]
    })
}

/// A new execution, in which only `main` runs.
pub(crate) fn reset(main: usize) {
    CPUS.with_borrow_mut(|cpus| {
        *cpus = [CpuClock::default(); CPUS_MAX];
        cpus[main].now[main] = 1;
    });
}

/// `parent` starts `child`.
pub(crate) fn spawn(parent: usize, child: usize) {
    let now = with(parent, |clock| {
        let now = clock.now;
        clock.advance(parent);
        now
    });
    with(child, |clock| {
        clock.now = now;
        clock.now[child] = 1;
    });
}

/// `parent` has seen the end of `child`.
pub(crate) fn join_cpu(parent: usize, child: usize) {
    let end = with(child, |clock| clock.now);
    with(parent, |clock| join(&mut clock.now, &end));
}

/// A fence by `cpu`.
pub(crate) fn fence(cpu: usize, order: Ordering) {
    with(cpu, |clock| {
        if acquires(order) {
            let pending = clock.pending;
            join(&mut clock.now, &pending);
        }
        if releases(order) {
            clock.fenced = clock.now;
            // What comes behind the fence is not released by it.
            clock.advance(cpu);
        }
    });
}

/// What a word carries from its writers to its readers.
#[derive(Default)]
pub(crate) struct WordClock {
    released: Clock,
    writer: Option<(usize, Place)>,
}

impl WordClock {
    /// A load, or the load part of an update, by `cpu`.
    pub(crate) fn read(&self, cpu: usize, order: Ordering, here: Place) {
        with(cpu, |clock| {
            clock.has_acted = true;
            if acquires(order) {
                join(&mut clock.now, &self.released);
            } else {
                join(&mut clock.pending, &self.released);
            }
            if let Some((writer, there)) = self.writer
                && writer != cpu
            {
                clock.met[writer] = Some((there, here));
            }
        });
    }

    /// A plain store by `cpu`.
    pub(crate) fn store(&mut self, cpu: usize, order: Ordering, here: Place) {
        self.released = [0; CPUS_MAX];
        self.write(cpu, order, here);
    }

    /// The store part of an update by `cpu`, which continues the release sequence.
    pub(crate) fn update(&mut self, cpu: usize, order: Ordering, here: Place) {
        self.write(cpu, order, here);
    }

    fn write(&mut self, cpu: usize, order: Ordering, here: Place) {
        self.writer = Some((cpu, here));
        with(cpu, |clock| {
            join(&mut self.released, if releases(order) { &clock.now } else { &clock.fenced });
            clock.advance(cpu);
        });
    }
}

/// For each CPU, its last access of one sort to a plain cell: epoch and place.
type Accesses = [Option<(u32, Place)>; CPUS_MAX];

/// Who accessed a plain cell, and when.
#[derive(Default)]
pub(crate) struct PlainClock {
    reads: Accesses,
    writes: Accesses,
}

impl PlainClock {
    /// A read by `cpu`; an error describes a race.
    pub(crate) fn read(&mut self, cpu: usize, here: Place) -> Result<(), String> {
        check(&self.writes, "wrote", cpu, "reads", here)?;
        self.reads[cpu] = Some((act(cpu), here));
        Ok(())
    }

    /// A write by `cpu`; an error describes a race.
    pub(crate) fn write(&mut self, cpu: usize, here: Place) -> Result<(), String> {
        check(&self.writes, "wrote", cpu, "writes", here)?;
        check(&self.reads, "read", cpu, "writes", here)?;
        self.writes[cpu] = Some((act(cpu), here));
        Ok(())
    }
}

fn check(others: &Accesses, did: &str, cpu: usize, does: &str, here: Place) -> Result<(), String> {
    with(cpu, |clock| {
        for (other, access) in others.iter().enumerate() {
            let Some((epoch, there)) = access else { continue };
            if clock.now[other] >= *epoch {
                continue;
            }
            let met = match clock.met[other] {
                Some((written, read)) => {
                    format!(
                        "CPU {cpu} last read a word of CPU {other} at {read}, written at {written}"
                    )
                }
                None => format!("CPU {cpu} has read no word that CPU {other} wrote"),
            };
            return Err(format!(
                "{DATA_RACE}: CPU {cpu} {does} a plain cell at {here} that CPU {other} {did} at \
                 {there}, and nothing orders the two; {met}"
            ));
        }
        Ok(())
    })
}
