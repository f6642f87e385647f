//! The loop that explores, on one or several OS threads.
//!
//! A suspended graph with its open alternatives shares nothing with any other, so it is a unit of
//! work that any worker can take. Each worker explores depth first. When another one has run out
//! of work, it gives away the *oldest* thing it has put aside, which is the root of the largest
//! open subtree. The exploration is over when all workers are out of work. Which worker visits a
//! graph has no influence on what is visited, so all counts are the same for any number of workers.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::choices::{Pending, Search};
use crate::engine::{Engine, Outcome, install, number_exploration, uninstall, with};
use crate::graph::Graph;
use crate::inert::drop_inertly;
use crate::options::{Options, Progress};
use crate::report::{RawFailure, Report, Verdict};
use crate::run::run_once;

/// Time between two progress reports.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

/// A failing execution, as the engine leaves it.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) failure: RawFailure,
    pub(crate) graph: Graph,
}

#[derive(Default)]
struct Jobs {
    waiting: Vec<Pending>,
    idle: usize,
    over: bool,
}

/// What the workers of one exploration share.
pub(crate) struct Shared<'options> {
    options: &'options Options,
    pub(crate) exploration: u32,
    started: Instant,
    jobs: Mutex<Jobs>,
    work_came: Condvar,
    idle: AtomicUsize,
    stop: AtomicBool,
    cut_short: AtomicBool,
    executions: AtomicU64,
    blocked: AtomicU64,
    next_progress_ms: AtomicU64,
    seen: Option<Mutex<HashSet<u128>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'options> Shared<'options> {
    pub(crate) fn new(options: &'options Options) -> Shared<'options> {
        Shared {
            options,
            exploration: number_exploration(),
            started: Instant::now(),
            jobs: Mutex::default(),
            work_came: Condvar::new(),
            idle: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            cut_short: AtomicBool::new(false),
            executions: AtomicU64::new(0),
            blocked: AtomicU64::new(0),
            next_progress_ms: AtomicU64::new(PROGRESS_INTERVAL.as_millis() as u64),
            seen: options.find_duplicates.then(Mutex::default),
        }
    }

    pub(crate) fn is_cut_short(&self) -> bool {
        self.cut_short.load(Ordering::Relaxed)
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    fn end(&self) {
        self.stop.store(true, Ordering::Relaxed);
        lock(&self.jobs).over = true;
        self.work_came.notify_all();
    }

    fn cut(&self) {
        self.cut_short.store(true, Ordering::Relaxed);
        self.end();
    }

    /// Reports progress, and looks whether the exploration has to end here.
    pub(crate) fn goes_on(&self, estimate: Option<f64>) -> bool {
        if self.stop.load(Ordering::Relaxed) {
            return false;
        }
        let elapsed = self.started.elapsed();
        let options = self.options;
        let cancelled = options.cancel.as_ref().is_some_and(|flag| flag.load(Ordering::Relaxed));
        let executions = self.executions.load(Ordering::Relaxed);
        if cancelled
            || options.time_limit.is_some_and(|limit| elapsed >= limit)
            || options.executions_max.is_some_and(|max| executions >= max)
        {
            self.cut();
            return false;
        }
        if let Some(callback) = &options.progress {
            let now = elapsed.as_millis() as u64;
            let due = self.next_progress_ms.load(Ordering::Relaxed);
            let next = now + PROGRESS_INTERVAL.as_millis() as u64;
            let relaxed = Ordering::Relaxed;
            let mine = || self.next_progress_ms.compare_exchange(due, next, relaxed, relaxed);
            if now >= due && mine().is_ok() {
                callback(&Progress {
                    executions,
                    blocked: self.blocked.load(Ordering::Relaxed),
                    rate: executions as f64 / elapsed.as_secs_f64().max(1e-9),
                    estimate,
                    elapsed,
                });
            }
        }
        true
    }

    /// Counts a run, and takes the graph out of the engine if it failed.
    pub(crate) fn record(&self, report: &mut Report, outcome: Outcome) -> Option<Found> {
        report.runs += 1;
        with(|engine| {
            let events = engine.search.graph.size();
            report.events_max = report.events_max.max(events);
            match outcome {
                Outcome::Complete => {
                    report.executions += 1;
                    self.executions.fetch_add(1, Ordering::Relaxed);
                    if let Some(seen) = &self.seen {
                        let new = lock(seen).insert(engine.search.graph.canonical());
                        report.duplicates += u64::from(!new);
                    }
                }
                Outcome::Blocked => {
                    report.blocked += 1;
                    self.blocked.fetch_add(1, Ordering::Relaxed);
                }
                Outcome::Redundant => {}
                Outcome::Suspected | Outcome::Again => unreachable!("another run has decided"),
                Outcome::Failed => {
                    let graph = engine.search.graph.clone();
                    return engine.failure.take().map(|failure| Found { failure, graph });
                }
            }
            None
        })
    }

    /// Waits for work; false when all workers are out of work, or the exploration is over.
    fn take_work(&self) -> bool {
        let mut jobs = lock(&self.jobs);
        jobs.idle += 1;
        self.idle.store(jobs.idle, Ordering::Relaxed);
        loop {
            if jobs.over {
                return false;
            }
            if let Some(pending) = jobs.waiting.pop() {
                jobs.idle -= 1;
                self.idle.store(jobs.idle, Ordering::Relaxed);
                with(|engine| engine.search.resume(pending));
                return true;
            }
            if jobs.idle >= self.options.workers {
                jobs.over = true;
                self.work_came.notify_all();
                return false;
            }
            jobs = self.work_came.wait(jobs).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The next graph to run, from this worker's own work or another's.
    fn next_graph(&self) -> bool {
        loop {
            let found = with(|engine| {
                let search = &mut engine.search;
                if !search.advance() {
                    return false;
                }
                if self.idle.load(Ordering::Relaxed) > 0
                    && let Some(pending) = search.give_away()
                {
                    lock(&self.jobs).waiting.push(pending);
                    self.work_came.notify_one();
                }
                true
            });
            if found {
                return true;
            }
            if self.options.workers < 2 || !self.take_work() {
                return false;
            }
        }
    }

    /// One worker; the first one begins with the empty graph.
    fn work(&self, program: &dyn Fn(), is_first: bool) -> (Report, Option<Found>, bool) {
        let _ending = EndOnPanic(self);
        let mut report = Report::new(self.options.model);
        let mut found = None;
        let search = Search::new(self.options.model, self.options.deviations_max);
        let _installed = Installed::new(Engine::new(self.options, search, self.exploration));
        let mut ready = is_first || self.next_graph();
        while ready {
            let outcome = run_once(program);
            if let Some(failing) = self.record(&mut report, outcome) {
                found.get_or_insert(failing);
                if !self.options.keep_going {
                    self.end();
                    break;
                }
            }
            ready = self.next_graph() && self.goes_on(None);
        }
        let counts = with(|engine| engine.search.counts);
        report.redundant = counts.redundant;
        report.conflicts = counts.conflicts;
        report.depth_max = counts.depth_max;
        (report, found, counts.refused > 0)
    }
}

/// Keeps an engine installed for this OS thread.
pub(crate) struct Installed;

impl Installed {
    /// The caller has checked that this thread has no engine.
    pub(crate) fn new(engine: Engine) -> Installed {
        install(engine);
        Installed
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        drop_inertly(uninstall());
    }
}

/// Lets the other workers end if this one breaks.
struct EndOnPanic<'shared, 'options>(&'shared Shared<'options>);

impl Drop for EndOnPanic<'_, '_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.end();
        }
    }
}

/// Explores with all workers, and says what is wrong with the first failing execution, if any.
pub(crate) fn explore_all(
    options: &Options,
    program: &(dyn Fn() + Send + Sync),
) -> (Report, Option<Found>) {
    let shared = Shared::new(options);
    let mut results = Vec::new();
    if options.workers < 2 {
        results.push(shared.work(&program, true));
    } else {
        std::thread::scope(|scope| {
            let shared = &shared;
            let handles: Vec<_> = (0..options.workers)
                .map(|index| scope.spawn(move || shared.work(&program, index == 0)))
                .collect();
            for handle in handles {
                match handle.join() {
                    Ok(result) => results.push(result),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
        });
    }
    let mut report = Report::new(options.model);
    let mut found = None;
    let mut refused = false;
    for (part, failing, part_refused) in results {
        report.add(&part);
        found = found.or(failing);
        refused |= part_refused;
    }
    report.verdict = match options.deviations_max {
        _ if found.is_some() => Verdict::Failed,
        _ if shared.is_cut_short() => Verdict::CutShort,
        Some(deviations) if refused => Verdict::Bounded(deviations),
        _ => Verdict::Exhausted,
    };
    report.elapsed = shared.elapsed();
    (report, found)
}
