//! Counting executions, and knowing when the budget is used up.
//!
//! The checkers' own limits are not used: loom looks at its limits rarely and then returns as if
//! the search had ended. We count in the program's closure and look at the clock before every
//! execution, so that a search that was cut short always knows it.

use std::time::{Duration, Instant};

use crate::engine::{Progress, Search};

const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// The budget of one search, and what has been used of it.
pub(crate) struct Budget {
    start: Instant,
    last_progress: Instant,
    /// Where the clock stands, counted from the start, when the budget is used up.
    deadline: Duration,
    executions_max: u64,
    progress: Option<Progress>,
    /// Executions begun so far.
    pub(crate) executions: u64,
}

impl Budget {
    pub(crate) fn new(search: &Search) -> Self {
        let start = Instant::now();
        Self {
            start,
            last_progress: start,
            deadline: search.time,
            executions_max: search.executions.unwrap_or(u64::MAX),
            progress: search.progress.clone(),
            executions: 0,
        }
    }

    /// Counts one more execution if the budget allows it.
    pub(crate) fn begin(&mut self) -> bool {
        if self.executions >= self.executions_max || self.start.elapsed() >= self.deadline {
            return false;
        }
        self.executions += 1;
        if let Some(progress) = &self.progress
            && self.last_progress.elapsed() >= PROGRESS_INTERVAL
        {
            self.last_progress = Instant::now();
            progress(self.executions);
        }
        true
    }

    /// From now on there is only so much time.
    pub(crate) fn limit(&mut self, time: Duration) {
        self.deadline = self.start.elapsed() + time;
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}
