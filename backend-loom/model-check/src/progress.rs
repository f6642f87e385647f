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
    current: Vec<Option<Current>>,
}

#[derive(Clone, Debug)]
struct Current {
    title: String,
    executions: u64,
    began: Instant,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    done: usize,
    total: usize,
    /// Time that workers have spent on what is done.
    spent: Duration,
}

/// How long what is left will take: as long as what is done of its kind, or, of a kind of which
/// nothing is done, of any kind. None, if nothing is done at all.
fn estimate(counts: &[Count], workers: usize) -> Option<Duration> {
    let mean = |spent: Duration, done: usize| (done > 0).then(|| spent / done as u32);
    let (spent, done) = (counts.iter().map(|it| it.spent).sum(), counts.iter().map(|it| it.done));
    let of_any = mean(spent, done.sum())?;
    let left = |count: &Count| {
        let each = mean(count.spent, count.done).unwrap_or(of_any);
        each * (count.total - count.done) as u32
    };
    Some(counts.iter().map(left).sum::<Duration>() / workers.max(1) as u32)
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
        self.current[worker] = Some(Current { title, executions: 0, began: Instant::now() });
    }

    /// A worker has come so far with it.
    pub(crate) fn executions(&mut self, worker: usize, count: u64) {
        if let Some(Some(current)) = self.current.get_mut(worker) {
            current.executions = count;
        }
    }

    /// A worker is done with it, after so many executions.
    pub(crate) fn done(&mut self, worker: usize, kind: &'static str, executions: u64) {
        let current = self.current.get_mut(worker).and_then(Option::take);
        self.executions += executions;
        let count = self.count(kind);
        count.done += 1;
        count.spent += current.map_or(Duration::ZERO, |current| current.began.elapsed());
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
        let executions = running.clone().map(|current| current.executions).sum::<u64>();
        let executions = self.executions + executions;
        let rate = executions as f64 / self.start.elapsed().as_secs_f64().max(0.001);
        let titles: Vec<&str> = running.map(|current| current.title.as_str()).collect();
        let (kinds, counts): (Vec<_>, Vec<_>) = self.counts.iter().copied().unzip();
        let left = estimate(&counts, self.current.len());
        let left = left.map(|left| format!("about {} s left, ", left.as_secs() + 1));
        let counts = kinds.iter().zip(&counts);
        let counts: Vec<String> =
            counts.map(|(kind, count)| format!("{kind} {}/{}", count.done, count.total)).collect();
        format!(
            "{}, {}{executions} executions, {rate:.0}/s: {}",
            counts.join(", "),
            left.unwrap_or_default(),
            titles.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(done: usize, total: usize, seconds: u64) -> Count {
        Count { done, total, spent: Duration::from_secs(seconds) }
    }

    #[test]
    fn what_is_left_takes_as_long_as_its_kind_did() {
        let (rows, twins) = (count(4, 10, 40), count(10, 30, 10));
        assert_eq!(estimate(&[rows, twins], 2), Some(Duration::from_secs(40)));
        assert_eq!(estimate(&[rows, count(0, 2, 0)], 1), Some(Duration::from_secs(80)));
        assert_eq!(estimate(&[count(3, 3, 9)], 1), Some(Duration::ZERO));
        assert_eq!(estimate(&[count(0, 9, 0)], 2), None);
    }

    #[test]
    fn the_line_says_how_far_how_fast_and_what_runs() {
        let mut board = Board::new();
        board.expect(["rows", "rows", "twins"].into_iter());
        board.started(0, "walk_vs_map loom".to_owned());
        assert!(!board.message().contains("left"), "{}", board.message());
        board.done(0, "rows", 7);
        board.started(0, "walk_vs_map explorer".to_owned());
        board.executions(0, 5);
        let line = board.message();
        for part in
            ["rows 1/2, twins 0/1, about ", " s left, 12 executions, ", "/s: walk_vs_map ex"]
        {
            assert!(line.contains(part), "no {part:?} in {line}");
        }
    }
}
