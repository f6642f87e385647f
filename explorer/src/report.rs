//! What an exploration found.

use std::fmt;
use std::panic::Location;
use std::time::Duration;

use crate::consistency::Model;
use crate::token::Token;
use crate::trace::Trace;

/// A place in source text.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct SourcePlace {
    /// The file, as the compiler was given it.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1.
    pub column: u32,
}

impl SourcePlace {
    pub(crate) fn of(location: &Location<'_>) -> SourcePlace {
        SourcePlace {
            file: location.file().to_owned(),
            line: location.line(),
            column: location.column(),
        }
    }
}

impl fmt::Display for SourcePlace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// What kind of failure was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum FailureKind {
    /// The program panicked, most likely in an assertion.
    Violation,
    /// Two plain accesses, at least one of them a write, are not ordered by happens-before.
    DataRace,
    /// Every thread that is not done waits for a value that no thread will write.
    Deadlock,
    /// A thread made more operations than `Options::events_max`.
    UnboundedLoop,
    /// A thread did something else although it had read the same values.
    Nondeterminism,
    /// The program or the call breaks a rule of this crate; the message says which.
    Misuse,
}

/// A failing execution.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What went wrong, in one sentence; for a panic, its message.
    pub message: String,
    /// What kind of failure it is.
    pub kind: FailureKind,
    /// Where: the panic, the racing access, the repeating operation, the first waiting read.
    pub at: Option<SourcePlace>,
    /// The thread that failed.
    pub thread: usize,
    /// How many events of the execution took another option than the default one.
    pub deviations: u32,
    /// How often another thread goes on, as the trace tells it.
    pub switches: usize,
    /// Whether the search for a smaller one came to its end: for one with fewer deviations, or,
    /// with `Options::smallest_within`, for one with the same message and fewer switches or events.
    pub is_minimal: bool,
    /// How many runs were searched for a smaller one with the same message.
    pub searched: u64,
    /// The execution.
    pub trace: Trace,
    /// Replays it; see [`crate::replay`].
    pub token: Token,
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{:?}: {}", self.kind, self.message)?;
        if let Some(place) = &self.at {
            writeln!(formatter, "at {place}")?;
        }
        let minimal = if self.is_minimal { "" } else { "; there may be a smaller one" };
        writeln!(
            formatter,
            "{} choices differ from the default, {} switches{minimal}",
            self.deviations, self.switches
        )?;
        write!(formatter, "{}", self.trace)?;
        write!(formatter, "replay token: {}", self.token)
    }
}

/// What the numbers of a report mean.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Every consistent execution was visited, and none fails.
    Exhausted,
    /// Every execution within this many deviations was visited; there are others.
    Bounded(u32),
    /// This many random descents were made.
    Sampled(u64),
    /// A limit or a cancellation ended the exploration early.
    CutShort,
    /// A failing execution was found.
    Failed,
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Exhausted => write!(formatter, "EXHAUSTED"),
            Verdict::Bounded(deviations) => write!(formatter, "BOUNDED({deviations})"),
            Verdict::Sampled(count) => write!(formatter, "SAMPLED({count})"),
            Verdict::CutShort => write!(formatter, "CUT SHORT"),
            Verdict::Failed => write!(formatter, "FAILED"),
        }
    }
}

/// The result of an exploration.
#[derive(Clone, Debug)]
pub struct Report {
    /// The memory model.
    pub model: Model,
    /// Executions in which every thread ended.
    pub executions: u64,
    /// Graphs that end with waiting threads, though not in a deadlock: some other execution has
    /// the value that they wait for.
    pub blocked: u64,
    /// Graphs dropped because a waiting thread had read a value known to be superseded.
    pub redundant: u64,
    /// Graphs dropped because two read-modify-writes claim one place, or the model forbids them.
    pub conflicts: u64,
    /// Complete executions that were visited more than once (with `Options::find_duplicates`).
    pub duplicates: u64,
    /// How often the program was run.
    pub runs: u64,
    /// What these numbers mean.
    pub verdict: Verdict,
    /// The estimated number of complete executions, when sampling (Knuth 1975).
    pub estimate: Option<f64>,
    /// The most events in one graph.
    pub events_max: usize,
    /// The most graphs that were suspended at one time by one worker.
    pub depth_max: usize,
    /// How long it took.
    pub elapsed: Duration,
    /// What failed, if anything did.
    pub failure: Option<Failure>,
}

impl Report {
    pub(crate) fn new(model: Model) -> Report {
        Report {
            model,
            executions: 0,
            blocked: 0,
            redundant: 0,
            conflicts: 0,
            duplicates: 0,
            runs: 0,
            verdict: Verdict::Exhausted,
            estimate: None,
            events_max: 0,
            depth_max: 0,
            elapsed: Duration::ZERO,
            failure: None,
        }
    }

    /// Adds the numbers of another worker.
    pub(crate) fn add(&mut self, other: &Report) {
        self.executions += other.executions;
        self.blocked += other.blocked;
        self.redundant += other.redundant;
        self.conflicts += other.conflicts;
        self.duplicates += other.duplicates;
        self.runs += other.runs;
        self.events_max = self.events_max.max(other.events_max);
        self.depth_max = self.depth_max.max(other.depth_max);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} under {}: {} executions, {} blocked, {:.3} s",
            self.verdict,
            self.model,
            self.executions,
            self.blocked,
            self.elapsed.as_secs_f64()
        )?;
        if let Some(estimate) = self.estimate {
            write!(formatter, ", about {estimate:.0} in all")?;
        }
        if let Some(failure) = &self.failure {
            write!(formatter, "\n{failure}")?;
        }
        Ok(())
    }
}

/// A failure as the engine notes it.
#[derive(Clone, Debug)]
pub(crate) struct RawFailure {
    pub(crate) kind: FailureKind,
    pub(crate) message: String,
    pub(crate) at: Option<SourcePlace>,
    pub(crate) thread: usize,
}
