//! The engine trait: what a checker must provide so that everything above it is written once.
//!
//! An engine supplies shared words, plain cells, fences, waiting, CPU numbers and a search over the
//! executions of a [`Program`]. It knows nothing of page tables. Model memory, harness and reports
//! are written over the one that [`crate::chosen`] stands for; litmus programs are generic over
//! [`Engine`].
//!
//! A program is called once per execution. The call itself is the set-up; what it returns is one
//! closure per CPU and one closure for what holds afterwards. The last CPU, the set-up and the
//! finish share the engine's main thread: one model thread less is worth a factor of three to a
//! thousand in executions. Within one execution an engine may run the CPUs in any order,
//! including one after the other, so programs pass no state between CPUs except through engine
//! operations.
//!
//! Rules that hold for every engine:
//!
//! * **Nothing is asked of an engine while a thread unwinds**, or of its words and cells: the model
//!   sees to that, in `actor.rs`. So an engine need not say what they do then.
//! * **No `SeqCst` accesses.** Words refuse the ordering with a failure, because checkers disagree
//!   about it. `fence(SeqCst)` is the way to say it.
//! * **Waiting is declared.** A CPU that cannot go on calls [`EngineWord::wait_for_change`]; it
//!   never spins. That is how a deadlock is told from a long execution.

use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::{Deserialize, Serialize};
pub use weft_explorer::Model as MemoryModel;
use weft_explorer::Window;
use weft_scenarios::mark::Mark;

use crate::report::Size;

/// What an engine says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traits {
    /// The name that verdicts and replay tokens carry.
    pub name: &'static str,
    /// The memory model under which the verdicts hold, in words for people.
    pub memory_model: &'static str,
    /// Whether a search can end by itself, having seen every execution.
    pub exhaustive: bool,
    /// Whether the engine controls the schedule, so that situations a scenario must meet can be
    /// demanded of it.
    pub controls_schedule: bool,
    /// The largest number of CPUs that a program may have.
    pub cpus_max: usize,
    /// Whether failures come with an [`Arrangement`].
    pub arranges: bool,
    /// How paging hardware comes to use what it has read before.
    pub caching: Caching,
}

/// How paging hardware of an engine's CPUs comes to use what it has read before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caching {
    /// It does not: it walks at every access.
    Nothing,
    /// Its loads may be as old as a [`Window`].
    Windows,
    /// It keeps what it has read, and uses or forgets it as [`Engine::draw`] says.
    Drawn,
}

impl Caching {
    /// Whether hardware may use what is not so any more.
    pub const fn is_modelled(self) -> bool {
        !matches!(self, Self::Nothing)
    }
}

/// A checker: one way to run the executions of a program.
pub trait Engine: Copy + Default + fmt::Debug + Send + Sync + 'static {
    /// What the engine says about itself.
    fn traits() -> &'static Traits;

    /// A shared 64-bit atomic word.
    type Word: EngineWord;
    /// A plain 64-bit memory cell.
    type Plain: EnginePlain;

    /// A fence by the calling CPU. `Relaxed` stands for no fence, so that a weakened fence can be
    /// passed on as it is.
    fn fence(order: Ordering);

    /// The number of the calling CPU. The set-up and the finish run as the last CPU.
    fn cpu() -> usize;

    /// A number for the calling CPU's next operation that [`Arrangement`] uses too. Engines that
    /// run CPUs in the order of the execution need none.
    fn position() -> u64 {
        0
    }

    /// Marks the point at which the calling CPU is, without an operation. Marks of different CPUs
    /// are unordered under an engine that cannot tell.
    fn mark() -> Mark {
        Mark::UNORDERED
    }

    /// A number below `bound`, drawn at random, of engines that draw; another one at each call, and
    /// the same ones when the execution is replayed.
    fn draw(_bound: u64) -> u64 {
        0
    }

    /// The memory model under which this search's verdict holds.
    fn memory_model(_search: &Search) -> String {
        Self::traits().memory_model.to_owned()
    }

    /// Runs executions of `program` until the search ends, the budget is used up, or one fails.
    ///
    /// A panic of the program ends the search and becomes the failure; it is neither printed nor
    /// passed on.
    fn explore(search: &Search, program: Program) -> Exploration;
}

/// What CPUs may do with a word, declared when it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Some CPU loads the word.
    Loaded,
    /// The word is only stored and updated with read-modify-writes, as a lock word or a count
    /// is. Loading it is a failure. Engines can treat such words more cheaply.
    UpdatedOnly,
}

/// A shared 64-bit atomic word. Every method reports the caller's source location.
pub trait EngineWord: Send + Sync + 'static {
    /// A word with its first value.
    #[track_caller]
    fn new(value: u64, access: Access) -> Self;
    /// What an [`Operation`] calls this word.
    fn id(&self) -> u32 {
        0
    }
    /// An atomic load.
    #[track_caller]
    fn load(&self, order: Ordering) -> u64;
    /// An acquire load that paging hardware may have done at any time since `window` was opened, if
    /// it may keep the value. Engines without windows load now.
    #[track_caller]
    fn load_within(&self, _window: &mut Window, _may_keep: fn(u64) -> bool) -> u64 {
        self.load(Ordering::Acquire)
    }
    /// An atomic store.
    #[track_caller]
    fn store(&self, value: u64, order: Ordering);
    /// Stores and returns the value before.
    #[track_caller]
    fn swap(&self, value: u64, order: Ordering) -> u64;
    /// Stores `new` if the word holds `old`; the value before is returned either way.
    #[track_caller]
    fn compare_exchange(
        &self,
        old: u64,
        new: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64>;
    /// Adds, wrapping, and returns the value before.
    #[track_caller]
    fn fetch_add(&self, value: u64, order: Ordering) -> u64;
    /// Subtracts, wrapping, and returns the value before.
    #[track_caller]
    fn fetch_sub(&self, value: u64, order: Ordering) -> u64;
    /// Takes the bitwise and, and returns the value before.
    #[track_caller]
    fn fetch_and(&self, value: u64, order: Ordering) -> u64;
    /// Takes the bitwise or, and returns the value before.
    #[track_caller]
    fn fetch_or(&self, value: u64, order: Ordering) -> u64;
    /// The caller has read this word in a state from which it cannot go on. Returns once another
    /// CPU has written the word since that read, or spuriously: the caller reads again.
    #[track_caller]
    fn wait_for_change(&self);
}

/// Plain memory that a protocol makes exclusive. Two conflicting accesses that nothing orders
/// are a failure, under engines that see them.
pub trait EnginePlain: Send + Sync + 'static {
    /// A cell with its first value.
    #[track_caller]
    fn new(value: u64) -> Self;
    /// What an [`Operation`] calls this cell.
    fn id(&self) -> u32 {
        0
    }
    /// A plain read.
    #[track_caller]
    fn get(&self) -> u64;
    /// A plain write.
    #[track_caller]
    fn set(&self, value: u64);
}

/// The program under check: the set-up of one execution, called on the engine's main thread.
pub type Program = Arc<dyn Fn() -> Execution + Send + Sync>;

/// One closure of an execution.
pub type Body = Box<dyn FnOnce() + Send>;

/// What the set-up of one execution hands to the engine.
pub struct Execution {
    /// What each CPU does; as many as [`Search::cpus`] says.
    pub cpus: Vec<Body>,
    /// What is checked after every CPU has ended.
    pub finish: Body,
}

impl fmt::Debug for Execution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Execution").field("cpus", &self.cpus.len()).finish_non_exhaustive()
    }
}

/// Called now and then with the number of executions so far.
pub type Progress = Arc<dyn Fn(u64) + Send + Sync>;

/// What to search, and how long.
#[derive(Clone)]
pub struct Search {
    /// Number of CPUs of the program.
    pub cpus: usize,
    /// Wall time after which the search is cut short.
    pub time: Duration,
    /// Number of executions after which the search is cut short.
    pub executions: Option<u64>,
    /// Bound on preemptions per execution, for engines that know one; `None` is no bound.
    pub preemptions: Option<usize>,
    /// The memory model, for engines that know more than one.
    pub memory_model: MemoryModel,
    /// Bound on choices that differ from the default execution, for engines that know one.
    pub deviations: Option<u32>,
    /// Draw executions at random, for engines that do not always.
    pub sample: bool,
    /// Runs within which a smaller execution that fails in the same way is searched for, for
    /// engines that can.
    pub smallest_within: u64,
    /// Operating system threads that search, for engines that can share the work.
    pub workers: usize,
    /// Seed of everything random.
    pub seed: u64,
    /// Bound on scheduling points per execution; passing it is a failure of kind
    /// [`FailureKind::Limit`].
    pub steps_max: usize,
    /// Engines on real threads only: how long an execution may go on waiting before it counts
    /// as a deadlock.
    pub wait_max: Duration,
    /// Called about ten times a second with the number of executions so far.
    pub progress: Option<Progress>,
    /// A [`Failure::token`]: run that execution instead of searching.
    pub replay: Option<String>,
}

impl Search {
    /// A search over `cpus` CPUs without bounds other than ten seconds of time.
    pub fn new(cpus: usize) -> Self {
        Self {
            cpus,
            time: Duration::from_secs(10),
            executions: None,
            preemptions: None,
            memory_model: MemoryModel::default(),
            deviations: None,
            sample: false,
            smallest_within: 0,
            workers: 1,
            seed: 0,
            steps_max: 20_000,
            wait_max: Duration::from_secs(5),
            progress: None,
            replay: None,
        }
    }
}

impl fmt::Debug for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Search")
            .field("cpus", &self.cpus)
            .field("time", &self.time)
            .field("executions", &self.executions)
            .field("preemptions", &self.preemptions)
            .field("memory_model", &self.memory_model)
            .field("deviations", &self.deviations)
            .field("sample", &self.sample)
            .field("smallest_within", &self.smallest_within)
            .field("workers", &self.workers)
            .field("seed", &self.seed)
            .field("steps_max", &self.steps_max)
            .field("wait_max", &self.wait_max)
            .field("progress", &self.progress.is_some())
            .field("replay", &self.replay)
            .finish()
    }
}

/// What a search found out.
#[derive(Clone, Debug)]
pub struct Exploration {
    /// The verdict, which is never just "passed".
    pub verdict: Verdict,
    /// Executions that were run, counted by us and not by the checker.
    pub executions: u64,
    /// Executions that ended with a waiting CPU and are no executions of the program; always 0
    /// where the engine has no such thing.
    pub blocked: u64,
    /// The largest number of word operations in one execution.
    pub depth: u64,
    /// Wall time of the search.
    pub elapsed: Duration,
    /// What failed, exactly if the verdict is [`Verdict::Failed`].
    pub failure: Option<Failure>,
    /// What the reader of the verdict has to know besides: one sentence each.
    pub caveats: Vec<String>,
}

/// The outcome of a search: one word, and its numbers. Documents hold it as it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Verdict {
    /// The search ended by itself, without a bound.
    Exhausted,
    /// The search ended by itself under this bound: on preemptions, or on choices that differ from
    /// the default execution.
    Bounded(usize),
    /// Time or count ended the search.
    CutShort {
        /// Executions until then.
        executions: u64,
        /// The bound on preemptions that was in force.
        preemptions: Option<usize>,
    },
    /// So many executions were drawn, none failed.
    Sampled(u64),
    /// An execution failed, or the search could not be carried out.
    Failed,
}

impl Verdict {
    /// The words of verdicts, in the order of what they promise.
    pub const WORDS: [&str; 4] = ["EXHAUSTED", "BOUNDED", "SAMPLED", "FAILED"];

    /// Whether there may be executions that were not run, although nothing was drawn.
    pub fn is_bounded(self) -> bool {
        matches!(self, Self::Bounded(_) | Self::CutShort { .. })
    }

    /// The word without its numbers.
    pub fn word(self) -> &'static str {
        let [exhausted, bounded, sampled, failed] = Self::WORDS;
        match self {
            Self::Exhausted => exhausted,
            Self::Bounded(_) | Self::CutShort { .. } => bounded,
            Self::Sampled(_) => sampled,
            Self::Failed => failed,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())?;
        match self {
            Self::Exhausted | Self::Failed => Ok(()),
            Self::Bounded(bound) => write!(f, " {bound}"),
            Self::CutShort { executions, preemptions: None } => {
                write!(f, " (cut at {executions})")
            }
            Self::CutShort { executions, preemptions: Some(bound) } => {
                write!(f, " {bound} (cut at {executions})")
            }
            Self::Sampled(executions) => write!(f, " {executions}"),
        }
    }
}

impl From<Verdict> for String {
    fn from(verdict: Verdict) -> Self {
        verdict.to_string()
    }
}

impl TryFrom<String> for Verdict {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (word, numbers) = text.split_once(' ').unwrap_or((&text, ""));
        let (number, cut) = match numbers.split_once("(cut at ") {
            Some((number, cut)) => (number.trim_end(), cut.strip_suffix(')')),
            None => (numbers, None),
        };
        let verdict = match (word, number.parse(), cut.and_then(|cut| cut.parse().ok())) {
            ("EXHAUSTED", ..) => Self::Exhausted,
            ("BOUNDED", bound, Some(executions)) => {
                Self::CutShort { executions, preemptions: bound.ok() }
            }
            ("BOUNDED", Ok(bound), None) => Self::Bounded(bound),
            ("SAMPLED", Ok(executions), None) => Self::Sampled(executions as u64),
            _ => Self::Failed,
        };
        // What is not read as it is shown is no verdict.
        if verdict.to_string() == text { Ok(verdict) } else { Err(format!("no verdict: {text:?}")) }
    }
}

/// The failure of one execution, or of the search itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The message of the panic, or ours.
    pub message: String,
    /// Where it happened: `file:line:column`.
    pub location: Option<String>,
    /// The CPU on which it happened.
    pub cpu: Option<usize>,
    /// What sort of failure it is.
    pub kind: FailureKind,
    /// What [`Search::replay`] takes to run this execution again; valid for this engine, this
    /// program and these bounds.
    pub token: Option<String>,
    /// How to tell the execution, from engines that do not run CPUs in the order of the
    /// execution.
    pub arrangement: Option<Box<Arrangement>>,
    /// How small the execution is, if a smaller one was searched for.
    pub size: Option<Size>,
}

/// An execution as an engine sees it, in terms of [`Engine::position`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arrangement {
    /// All operations, in an order in which they can be told.
    pub operations: Vec<Operation>,
}

/// One operation of an execution, as an engine remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Its [`Engine::position`].
    pub position: u64,
    /// The CPU.
    pub cpu: usize,
    /// The word or cell, as [`EngineWord::id`] and [`EnginePlain::id`] give it.
    pub word: Option<u32>,
    /// What was done.
    pub action: Action,
    /// The memory order, in the language's words; none for plain accesses.
    pub order: Option<Ordering>,
    /// Where a value that was read was written, if an operation wrote it.
    pub reads_from: Option<u64>,
    /// The newer write that was told before, although this operation did not see it.
    pub missed: Option<u64>,
    /// Where in the source.
    pub at: &'static Location<'static>,
}

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// An atomic load of the value.
    Load(u64),
    /// An atomic store of the value.
    Store(u64),
    /// A read-modify-write: before, after.
    Update(u64, u64),
    /// A compare-exchange that failed on this value.
    Failed(u64),
    /// A plain read of the value.
    Get(u64),
    /// A plain write of the value.
    Set(u64),
    /// A fence.
    Fence,
}

/// Sorts of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The program broke a condition: an assertion, or a data race.
    Violation,
    /// Every CPU that has not ended waits.
    Deadlock,
    /// An execution passed a bound of the engine, on steps or on CPUs' patience.
    Limit,
    /// The search could not be carried out: a misuse, nondeterminism, or a defect of the engine.
    Internal,
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Violation => "violation",
            Self::Deadlock => "deadlock",
            Self::Limit => "limit",
            Self::Internal => "internal error",
        })
    }
}

/// Fails unless `order` is one that every engine models.
#[track_caller]
pub(crate) fn refuse_sequentially_consistent(order: Ordering) {
    assert!(
        order != Ordering::SeqCst,
        "a SeqCst access is not modelled: use a weaker access and fence(SeqCst)"
    );
}

/// Fails if a word that was declared never to be loaded is loaded.
#[track_caller]
pub(crate) fn refuse_load(access: Access) {
    assert!(access == Access::Loaded, "a word declared Access::UpdatedOnly was loaded");
}
