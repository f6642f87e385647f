//! What is seen while the command works: a line on a terminal, and otherwise a line now and then.
//!
//! Progress goes to the standard error stream, so that results can be piped.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often a line is written where there is no terminal.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// What is going on.
#[derive(Debug)]
pub(crate) struct Board {
    bar: Option<ProgressBar>,
    start: Instant,
    last_heartbeat: Instant,
    /// How far each kind of task has come.
    counts: Vec<(&'static str, Count)>,
    /// Executions of tasks that are over.
    executions: u64,
    /// What each worker does, and how many executions it has done of it.
    current: Vec<Option<(String, u64)>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    done: usize,
    total: usize,
}

impl Board {
    /// A board that shows nothing yet.
    pub(crate) fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{spinner} {elapsed} {wide_msg}");
            bar.set_style(style.expect("the template is well formed"));
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        let now = Instant::now();
        Self {
            bar,
            start: now,
            last_heartbeat: now,
            counts: Vec::new(),
            executions: 0,
            current: Vec::new(),
        }
    }

    /// More tasks of these kinds are to come.
    pub(crate) fn expect(&mut self, kinds: impl Iterator<Item = &'static str>) {
        for kind in kinds {
            self.count(kind).total += 1;
        }
    }

    fn count(&mut self, kind: &'static str) -> &mut Count {
        let position = self.counts.iter().position(|(known, _)| *known == kind);
        let position = position.unwrap_or_else(|| {
            self.counts.push((kind, Count::default()));
            self.counts.len() - 1
        });
        &mut self.counts[position].1
    }

    /// A worker has begun something.
    pub(crate) fn started(&mut self, worker: usize, title: String) {
        if self.current.len() <= worker {
            self.current.resize(worker + 1, None);
        }
        self.current[worker] = Some((title, 0));
    }

    /// A worker has come so far with it.
    pub(crate) fn executions(&mut self, worker: usize, count: u64) {
        if let Some(Some((_, executions))) = self.current.get_mut(worker) {
            *executions = count;
        }
    }

    /// A worker is done with it, after so many executions.
    pub(crate) fn done(&mut self, worker: usize, kind: &'static str, executions: u64) {
        if let Some(current) = self.current.get_mut(worker) {
            *current = None;
        }
        self.executions += executions;
        self.count(kind).done += 1;
    }

    /// Shows how it goes, if it is time to.
    pub(crate) fn tick(&mut self) {
        if let Some(bar) = &self.bar {
            bar.set_message(self.message());
        } else if self.last_heartbeat.elapsed() >= HEARTBEAT {
            self.last_heartbeat = Instant::now();
            let seconds = self.start.elapsed().as_secs();
            // A reader of progress that went away does not matter.
            let _ = writeln!(std::io::stderr(), "{seconds} s: {}", self.message());
        }
    }

    /// Leaves the terminal clean.
    pub(crate) fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn message(&self) -> String {
        let running = self.current.iter().flatten();
        let executions = self.executions + running.clone().map(|(_, count)| count).sum::<u64>();
        let rate = executions as f64 / self.start.elapsed().as_secs_f64().max(0.001);
        let titles: Vec<&str> = running.map(|(title, _)| title.as_str()).collect();
        let counts = self.counts.iter();
        let counts: Vec<String> =
            counts.map(|(kind, count)| format!("{kind} {}/{}", count.done, count.total)).collect();
        format!(
            "{}, {executions} executions, {rate:.0}/s: {}",
            counts.join(", "),
            titles.join(", ")
        )
    }
}
