//! What an exploration is asked to do.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::consistency::Model;

/// Random sampling instead of exploration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sample {
    /// The same seed draws the same executions.
    pub seed: u64,
    /// How many random descents to make.
    pub count: u64,
}

/// A report on an exploration that is still running.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Complete executions so far.
    pub executions: u64,
    /// Blocked executions so far.
    pub blocked: u64,
    /// Complete executions per second since the start.
    pub rate: f64,
    /// The estimated total of complete executions, where there is one.
    pub estimate: Option<f64>,
    /// Time since the start.
    pub elapsed: Duration,
}

/// Called once, on the calling thread, when a search has ended with a failure.
pub type FailureCallback = Arc<dyn Fn() + Send + Sync>;

/// Called with each progress report.
pub type ProgressCallback = Arc<dyn Fn(&Progress) + Send + Sync>;

/// How to explore. `Options::default()` explores everything under RC11 on one worker.
#[derive(Clone)]
pub struct Options {
    /// The memory model.
    pub model: Model,
    /// How many OS threads explore; 0 means one.
    pub workers: usize,
    /// Stop after this time.
    pub time_limit: Option<Duration>,
    /// Stop after this many complete executions.
    pub executions_max: Option<u64>,
    /// Explore only what is reached with at most this many choices other than the default ones.
    pub deviations_max: Option<u32>,
    /// Draw random executions instead of exploring all; runs on one worker.
    pub sample: Option<Sample>,
    /// Remember all graphs, and count those that appear twice: a check of the engine itself.
    pub find_duplicates: bool,
    /// Go on after a failure; the first one is reported.
    pub keep_going: bool,
    /// Of the executions that fail in the same way, report the one with the fewest switches between
    /// threads, and then the fewest events, that is found within so many further runs; 0 reports
    /// the one with the fewest deviations.
    pub smallest_within: u64,
    /// The most events of one thread; beyond it the program is taken to loop for ever.
    pub events_max: usize,
    /// What threads allocate has the same address in every run: see [`Arena`](crate::Arena).
    pub arena: bool,
    /// Called when the search has found a failure: what is run from here on serves only to describe
    /// it.
    pub on_failure: Option<FailureCallback>,
    /// Called about twice a second.
    pub progress: Option<ProgressCallback>,
    /// Stops the exploration when it becomes true.
    pub cancel: Option<Arc<AtomicBool>>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            model: Model::Rc11,
            workers: 1,
            time_limit: None,
            executions_max: None,
            deviations_max: None,
            sample: None,
            find_duplicates: false,
            keep_going: false,
            smallest_within: 0,
            events_max: 20_000,
            arena: false,
            on_failure: None,
            progress: None,
            cancel: None,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Options")
            .field("model", &self.model)
            .field("workers", &self.workers)
            .field("time_limit", &self.time_limit)
            .field("executions_max", &self.executions_max)
            .field("deviations_max", &self.deviations_max)
            .field("sample", &self.sample)
            .field("find_duplicates", &self.find_duplicates)
            .field("keep_going", &self.keep_going)
            .field("smallest_within", &self.smallest_within)
            .field("events_max", &self.events_max)
            .field("arena", &self.arena)
            .field("on_failure", &self.on_failure.is_some())
            .field("progress", &self.progress.is_some())
            .field("cancel", &self.cancel)
            .finish()
    }
}
