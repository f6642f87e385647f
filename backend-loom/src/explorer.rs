//! The explorer engine: every execution exactly once, under RC11, TSO or SC.
//!
//! The CPUs of a program become threads of [`weft_explorer`], which runs them as coroutines and
//! takes the values of their reads from an execution graph. The last CPU is the main thread, as
//! everywhere.
//!
//! A CPU runs until it needs what another one does. So a failure comes with an
//! [`Arrangement`]: the order in which the failing execution can be told, and which of its reads
//! were stale. Before a failure is reported its token is replayed, on this thread: that the message
//! is the same is part of the report's claim, and it leaves the ghost state of exactly that
//! execution behind. So the search itself records nothing.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use weft_explorer::{
    Atomic, EventRef, Options, Plain, Sample, Source, Token, Trace, TraceEvent, TraceKind, Window,
};
use weft_scenarios::mark::Mark;

use crate::engine::{
    Access, Action, Arrangement, Caching, Engine, EnginePlain, EngineWord, Execution, Exploration,
    Failure, FailureKind, Operation, Program, Search, Traits, Verdict, refuse_load,
    refuse_sequentially_consistent,
};
use crate::ghost;
use crate::report::Size;

thread_local! {
    /// How many CPUs the program has that is explored on this thread.
    static CPUS: Cell<usize> = const { Cell::new(1) };
}

/// Every execution exactly once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Explorer;

impl Explorer {
    pub(crate) const TRAITS: Traits = Traits {
        name: "explorer",
        memory_model: "RC11",
        exhaustive: true,
        controls_schedule: true,
        cpus_max: 8,
        arranges: true,
        caching: Caching::Windows,
    };
}

impl Engine for Explorer {
    fn traits() -> &'static Traits {
        &Self::TRAITS
    }

    type Word = ExplorerWord;
    type Plain = ExplorerPlain;

    #[track_caller]
    fn fence(order: Ordering) {
        if order != Ordering::Relaxed {
            weft_explorer::fence(order);
        }
    }

    fn cpu() -> usize {
        cpu_of(weft_explorer::thread_id(), CPUS.get())
    }

    fn position() -> u64 {
        position(weft_explorer::thread_id(), weft_explorer::event_index())
    }

    fn mark() -> Mark {
        let mark = weft_explorer::mark();
        Mark::knowing(mark.thread(), mark.index() as u32, |thread| mark.known(thread) as u32)
    }

    fn memory_model(search: &Search) -> String {
        search.memory_model.to_string()
    }

    fn explore(search: &Search, program: Program) -> Exploration {
        let options = options(search);
        let cpus = search.cpus;
        let run = |recorded| {
            let program = &program;
            move || {
                ghost::record(recorded);
                CPUS.set(cpus);
                execute(cpus, program());
            }
        };
        ghost::count(true);
        let report = match &search.replay {
            None => weft_explorer::explore(&options, run(false)),
            Some(token) => match token.parse::<Token>() {
                Ok(token) => weft_explorer::replay(&options, &token, run(true)),
                Err(error) => return refused(&error.to_string()),
            },
        };
        let failure = report.failure.as_ref().map(|found| {
            if search.replay.is_none() {
                let again = weft_explorer::replay(&options, &found.token, run(true));
                let message = again.failure.map(|failure| failure.message);
                if message.as_ref() != Some(&found.message) {
                    return crate::capture::internal(format!(
                        "a failure did not replay: \"{}\" became {message:?}",
                        found.message
                    ));
                }
            }
            let is_sought = search.smallest_within > 0 && search.replay.is_none();
            failure(found, cpus, is_sought)
        });
        Exploration {
            verdict: verdict(&report, failure.is_some()),
            // The explorer counts executions that ended; the one that failed is one more.
            executions: report.executions + u64::from(report.failure.is_some()),
            blocked: report.blocked,
            depth: report.events_max as u64,
            elapsed: report.elapsed,
            failure,
            caveats: Vec::new(),
        }
    }
}

/// Runs one execution: spawns all CPUs but the last, plays that one, joins, finishes.
fn execute(cpus: usize, execution: Execution) {
    let Execution { cpus: mut bodies, finish } = execution;
    let last = bodies.pop().expect("a program has a CPU");
    let handles: Vec<_> = bodies.into_iter().map(weft_explorer::spawn).collect();
    assert_eq!(handles.len() + 1, cpus, "one body per CPU");
    last();
    for handle in handles {
        handle.join();
    }
    finish();
}

fn options(search: &Search) -> Options {
    let progress = search.progress.clone().map(|progress| {
        let report = move |now: &weft_explorer::Progress| progress(now.executions);
        Arc::new(report) as weft_explorer::ProgressCallback
    });
    Options {
        model: search.memory_model,
        workers: search.workers,
        time_limit: Some(search.time),
        executions_max: search.executions.filter(|_| !search.sample),
        deviations_max: search.deviations,
        sample: search
            .sample
            .then(|| Sample { seed: search.seed, count: search.executions.unwrap_or(1_000) }),
        smallest_within: search.smallest_within,
        on_failure: Some(Arc::new(|| ghost::count(false))),
        events_max: search.steps_max,
        progress,
        ..Options::default()
    }
}

fn cpu_of(thread: usize, cpus: usize) -> usize {
    thread.checked_sub(1).unwrap_or(cpus - 1)
}

fn position(thread: usize, index: usize) -> u64 {
    (thread as u64) << 32 | index as u64
}

fn verdict(report: &weft_explorer::Report, failed: bool) -> Verdict {
    match report.verdict {
        _ if failed => Verdict::Failed,
        weft_explorer::Verdict::Exhausted => Verdict::Exhausted,
        weft_explorer::Verdict::Sampled(_) => Verdict::Sampled(report.executions),
        weft_explorer::Verdict::Failed => Verdict::Failed,
        weft_explorer::Verdict::Bounded(bound) => Verdict::Bounded(bound as usize),
        weft_explorer::Verdict::CutShort => {
            Verdict::CutShort { executions: report.executions, preemptions: None }
        }
    }
}

fn failure(found: &weft_explorer::Failure, cpus: usize, is_sought: bool) -> Failure {
    let weft_explorer::Failure { switches, searched, is_minimal, .. } = *found;
    let size = Size { switches, searched, is_smallest: is_minimal };
    Failure {
        message: found.message.clone(),
        location: found.at.as_ref().map(ToString::to_string),
        cpu: Some(cpu_of(found.thread, cpus)),
        kind: found.kind.into(),
        token: Some(found.token.to_string()),
        arrangement: Some(Box::new(arrangement(&found.trace, cpus))),
        size: is_sought.then_some(size),
    }
}

impl From<weft_explorer::FailureKind> for FailureKind {
    fn from(kind: weft_explorer::FailureKind) -> Self {
        use weft_explorer::FailureKind as Found;
        match kind {
            Found::Violation | Found::DataRace => Self::Violation,
            Found::Deadlock => Self::Deadlock,
            Found::UnboundedLoop => Self::Limit,
            Found::Nondeterminism | Found::Misuse => Self::Internal,
        }
    }
}

/// The failing graph as operations. The two halves of a read-modify-write become one, told where
/// it writes, and known by where it reads.
fn arrangement(trace: &Trace, cpus: usize) -> Arrangement {
    let mut operations: Vec<Operation> = Vec::new();
    let mut halves: BTreeMap<usize, &TraceEvent> = BTreeMap::new();
    let mut places: BTreeMap<EventRef, u64> = BTreeMap::new();
    for event in &trace.events {
        let EventRef { thread, index } = event.event;
        let (mut reading, mut place) = (event, position(thread, index));
        let action = match event.kind {
            TraceKind::Load => Action::Load(event.value),
            TraceKind::Store => Action::Store(event.value),
            TraceKind::CasFailed => Action::Failed(event.value),
            TraceKind::PlainRead => Action::Get(event.value),
            TraceKind::PlainWrite => Action::Set(event.value),
            TraceKind::Fence => Action::Fence,
            TraceKind::RmwRead => {
                halves.insert(thread, event);
                continue;
            }
            TraceKind::RmwWrite => {
                let Some(read) = halves.remove(&thread) else { continue };
                reading = read;
                place = position(read.event.thread, read.event.index);
                Action::Update(read.value, event.value)
            }
            _ => continue,
        };
        places.insert(event.event, place);
        let source = match reading.reads_from {
            Some(Source::Event(write)) => places.get(&write).copied(),
            Some(Source::Initial) | None => None,
        };
        operations.push(Operation {
            position: place,
            cpu: cpu_of(thread, cpus),
            word: event.location,
            action,
            order: event.order,
            reads_from: source,
            missed: reading.stale.and_then(|write| places.get(&write).copied()),
            at: event.at,
        });
    }
    Arrangement { operations }
}

fn refused(message: &str) -> Exploration {
    Exploration {
        verdict: Verdict::Failed,
        executions: 0,
        blocked: 0,
        depth: 0,
        elapsed: std::time::Duration::ZERO,
        failure: Some(crate::capture::internal(message)),
        caveats: Vec::new(),
    }
}

/// A word whose values come from the execution graph.
#[derive(Debug)]
pub struct ExplorerWord {
    word: Atomic,
    access: Access,
}

impl EngineWord for ExplorerWord {
    #[track_caller]
    fn new(value: u64, access: Access) -> Self {
        Self { word: Atomic::new(value), access }
    }

    fn id(&self) -> u32 {
        self.word.id()
    }

    #[track_caller]
    fn load(&self, order: Ordering) -> u64 {
        refuse_sequentially_consistent(order);
        refuse_load(self.access);
        self.word.load(order)
    }

    #[track_caller]
    fn load_within(&self, window: &mut Window, may_keep: fn(u64) -> bool) -> u64 {
        self.word.load_within(window, may_keep)
    }

    #[track_caller]
    fn store(&self, value: u64, order: Ordering) {
        refuse_sequentially_consistent(order);
        self.word.store(value, order);
    }

    #[track_caller]
    fn swap(&self, value: u64, order: Ordering) -> u64 {
        refuse_sequentially_consistent(order);
        self.word.swap(value, order)
    }

    #[track_caller]
    fn compare_exchange(
        &self,
        old: u64,
        new: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        refuse_sequentially_consistent(success);
        refuse_sequentially_consistent(failure);
        self.word.compare_exchange(old, new, success, failure)
    }

    #[track_caller]
    fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        refuse_sequentially_consistent(order);
        self.word.fetch_add(value, order)
    }

    #[track_caller]
    fn fetch_sub(&self, value: u64, order: Ordering) -> u64 {
        refuse_sequentially_consistent(order);
        self.word.fetch_sub(value, order)
    }

    #[track_caller]
    fn fetch_and(&self, value: u64, order: Ordering) -> u64 {
        refuse_sequentially_consistent(order);
        self.word.fetch_and(value, order)
    }

    #[track_caller]
    fn fetch_or(&self, value: u64, order: Ordering) -> u64 {
        refuse_sequentially_consistent(order);
        self.word.fetch_or(value, order)
    }

    #[track_caller]
    fn wait_for_change(&self) {
        self.word.wait_for_change();
    }
}

/// A plain cell whose accesses must be ordered.
#[derive(Debug)]
pub struct ExplorerPlain {
    cell: Plain<u64>,
}

impl EnginePlain for ExplorerPlain {
    #[track_caller]
    fn new(value: u64) -> Self {
        Self { cell: Plain::new(value) }
    }

    fn id(&self) -> u32 {
        self.cell.id()
    }

    #[track_caller]
    fn get(&self) -> u64 {
        self.cell.get()
    }

    #[track_caller]
    fn set(&self, value: u64) {
        self.cell.set(value);
    }
}
