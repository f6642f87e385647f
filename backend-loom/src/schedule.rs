//! Which task of shuttle runs next, and how that is written down.
//!
//! [`Guided`] wraps a strategy. It offers the strategy only tasks that do not wait, writes down
//! every choice, and ends an execution that has failed or grown too long. The record of the
//! failing execution is its replay token: one letter per run of choices of the same task, then
//! the length of the run if it is not one, as in `a12b3a`. Task `a` is the main one. An execution
//! may also [`draw`] numbers, which a seed of its own decides; it stands behind the choices, as in
//! `a12b3a-5f0c2`, if any was drawn.
//!
//! Strategies: a uniform choice among the tasks that can run, shuttle's uniform random walk over
//! interleavings (Zhao and others, ASPLOS 2025), and shuttle's PCT (Burckhardt and others, ASPLOS
//! 2010). They find different bugs, so each gets a share of the budget. Ours replaces shuttle's
//! uniform scheduler, which prints its seed whenever a search ends early.

use std::cell::RefCell;

use shuttle::scheduler::{PctScheduler, Schedule, Scheduler, Task, TaskId, UrwRandomScheduler};
use weft_scenarios::detector::MANY_POINTS;
use weft_scenarios::random::Random;

use crate::budget::Budget;
use crate::capture;
use crate::engine::{Failure, FailureKind, Search};
use crate::waiting;

/// What an execution draws besides its schedule.
#[derive(Default)]
pub(crate) struct Draws {
    /// The seed of the search, which decides those of its executions.
    of_search: u64,
    /// The seed of this execution.
    seed: u32,
    /// The numbers that are left, once one was drawn.
    random: Option<Random>,
}

impl Draws {
    /// Numbers for a search with a seed.
    pub(crate) fn of(search: &Search) -> Self {
        Self { of_search: search.seed, ..Self::default() }
    }

    /// A new execution, whose number this is.
    fn begin(&mut self, execution: u64) {
        self.seed = Random::stream(self.of_search, execution).next() as u32;
        self.random = None;
    }
}

/// A number below `bound`, which the seed of the execution decides.
pub(crate) fn draw(bound: u64) -> u64 {
    with(|run| {
        let seed = run.draws.seed;
        run.draws.random.get_or_insert_with(|| Random::new(seed.into())).below(bound)
    })
}

/// The number of preemptions that PCT places in an execution, plus one.
const PCT_DEPTH: usize = 3;

/// The search that runs on this thread of the host.
pub(crate) struct Run {
    pub(crate) cpus: usize,
    pub(crate) budget: Budget,
    /// Executions of the strategy at work.
    pub(crate) share: u64,
    pub(crate) steps_max: usize,
    /// The choices of this execution.
    pub(crate) record: Vec<u8>,
    /// What this execution draws.
    pub(crate) draws: Draws,
    /// An execution has failed: nothing runs any more.
    pub(crate) stopped: bool,
    /// Word operations of this execution, and of the longest one.
    pub(crate) steps: u64,
    pub(crate) depth: u64,
}

impl Run {
    /// The replay token of this execution.
    pub(crate) fn token(&self) -> String {
        encode(&self.record, self.draws.random.is_some().then_some(self.draws.seed))
    }
}

thread_local! {
    static RUN: RefCell<Option<Run>> = const { RefCell::new(None) };
}

/// Makes `run` the search of this thread, or takes it away.
pub(crate) fn exchange(run: Option<Run>) -> Option<Run> {
    RUN.replace(run)
}

/// The search of this thread.
pub(crate) fn with<R>(f: impl FnOnce(&mut Run) -> R) -> R {
    RUN.with_borrow_mut(|run| f(run.as_mut().expect("only called from within a search")))
}

/// The CPU that `task` plays: the main task plays the last one.
pub(crate) fn cpu_of(task: usize, cpus: usize) -> usize {
    if task == 0 { cpus - 1 } else { task - 1 }
}

/// How the next task is chosen.
pub(crate) enum Strategy {
    Uniform(Random),
    Walk(Box<UrwRandomScheduler>),
    Priorities(Box<PctScheduler>),
    Replay { choices: Vec<u8>, seed: u32, position: usize },
}

impl Strategy {
    /// The strategies that share the budget of `search`.
    pub(crate) fn all(search: &Search) -> Vec<Self> {
        if search.cpus == 1 {
            // There is nothing to choose.
            return vec![Self::Uniform(Random::new(search.seed))];
        }
        let walk = UrwRandomScheduler::new_from_seed(search.seed, usize::MAX);
        let pct = PctScheduler::new_from_seed(search.seed, PCT_DEPTH, usize::MAX);
        vec![
            Self::Uniform(Random::new(search.seed)),
            Self::Walk(Box::new(walk)),
            Self::Priorities(Box::new(pct)),
        ]
    }

    fn begin(&mut self) -> Option<Schedule> {
        match self {
            // The number is a seed for programs that ask shuttle for random numbers: none of ours.
            Self::Uniform(_) => Some(Schedule::new(0)),
            Self::Walk(walk) => walk.new_execution(),
            Self::Priorities(priorities) => priorities.new_execution(),
            Self::Replay { seed, position, .. } => {
                *position = 0;
                with(|run| run.draws.seed = *seed);
                Some(Schedule::new(0))
            }
        }
    }

    fn choose(&mut self, runnable: &[&Task], current: Option<TaskId>) -> Option<TaskId> {
        match self {
            Self::Uniform(random) => {
                Some(runnable[random.below(runnable.len() as u64) as usize].id())
            }
            // No task ever yields in earnest: a yield is how a task of ours offers a choice.
            Self::Walk(walk) => walk.next_task(runnable, current, false),
            Self::Priorities(priorities) => priorities.next_task(runnable, current, false),
            Self::Replay { choices, position, .. } => {
                let task = choices.get(*position).map(|task| TaskId::from(usize::from(*task)))?;
                *position += 1;
                runnable.iter().any(|candidate| candidate.id() == task).then_some(task)
            }
        }
    }
}

/// shuttle's scheduler for our searches.
pub(crate) struct Guided(pub(crate) Strategy);

impl Scheduler for Guided {
    fn new_execution(&mut self) -> Option<Schedule> {
        let more = with(|run| {
            run.record.clear();
            let more = !run.stopped && run.share > 0 && run.budget.begin();
            run.share = run.share.saturating_sub(u64::from(more));
            run.draws.begin(run.budget.executions);
            more
        });
        if more { self.0.begin() } else { None }
    }

    fn next_task(
        &mut self,
        runnable: &[&Task],
        current: Option<TaskId>,
        _is_yielding: bool,
    ) -> Option<TaskId> {
        let (stopped, cpus, too_long) =
            with(|run| (run.stopped, run.cpus, run.record.len() >= run.steps_max));
        if stopped {
            return None;
        }
        if too_long {
            stop_too_long();
            return None;
        }
        let ready: Vec<&Task> = runnable
            .iter()
            .filter(|task| !waiting::waits(cpu_of(task.id().into(), cpus)))
            .copied()
            .collect();
        assert!(!ready.is_empty(), "a deadlock is found before the last CPU waits");
        let Some(choice) = self.0.choose(&ready, current) else {
            let message = "the program did not follow the recorded schedule: it has changed, or is \
                           not deterministic";
            capture::record(capture::internal(message));
            with(|run| run.stopped = true);
            return None;
        };
        let task = u8::try_from(usize::from(choice)).expect("there are few CPUs");
        with(|run| run.record.push(task));
        Some(choice)
    }

    fn next_u64(&mut self) -> u64 {
        unreachable!("programs draw no random numbers from shuttle")
    }
}

fn stop_too_long() {
    with(|run| {
        capture::record(Failure {
            message: format!(
                "an execution passed {} scheduling points: {MANY_POINTS}",
                run.steps_max
            ),
            location: None,
            cpu: None,
            kind: FailureKind::Limit,
            token: Some(run.token()),
            arrangement: None,
            size: None,
        });
        run.stopped = true;
    });
}

/// The replay token of a record of choices, and of the seed of what was drawn.
fn encode(record: &[u8], seed: Option<u32>) -> String {
    let mut token = String::new();
    for run in record.chunk_by(|a, b| a == b) {
        token.push(char::from(b'a' + run[0]));
        if run.len() > 1 {
            token.push_str(&run.len().to_string());
        }
    }
    if let Some(seed) = seed {
        token.push_str(&format!("-{seed:x}"));
    }
    token
}

/// The record and the seed that a token stands for, if it is well formed.
pub(crate) fn decode(token: &str, cpus: usize) -> Option<(Vec<u8>, u32)> {
    let mut record = Vec::new();
    let (mut rest, seed) = match token.split_once('-') {
        Some((rest, seed)) if seed.bytes().all(|digit| digit.is_ascii_hexdigit()) => {
            (rest, u32::from_str_radix(seed, 16).ok()?)
        }
        Some(_) => return None,
        None => (token, 0),
    };
    while let Some(letter) = rest.bytes().next() {
        let task = letter.checked_sub(b'a').filter(|task| usize::from(*task) < cpus)?;
        let digits = rest[1..].bytes().take_while(u8::is_ascii_digit).count();
        let length = match &rest[1..=digits] {
            "" => 1,
            number => number.parse::<u32>().ok().filter(|length| (1..=1 << 20).contains(length))?,
        };
        record.extend(std::iter::repeat_n(task, length as usize));
        rest = &rest[1 + digits..];
    }
    (!record.is_empty()).then_some((record, seed))
}

#[cfg(test)]
mod tests {
    use super::{decode, encode};

    #[test]
    fn a_token_stands_for_its_record() {
        let record = [0, 0, 0, 1, 2, 2, 0];
        assert_eq!(encode(&record, None), "a3bc2a");
        assert_eq!(encode(&record, Some(0x5f0)), "a3bc2a-5f0");
        assert_eq!(decode("a3bc2a", 3), Some((record.to_vec(), 0)));
        assert_eq!(decode("a3bc2a-5f0", 3), Some((record.to_vec(), 0x5f0)));
    }

    #[test]
    fn malformed_tokens_are_refused() {
        for token in [
            "",
            "A",
            "a0",
            "3",
            "d",
            "a99999999999",
            "ä",
            "a2 ",
            "a-",
            "-5",
            "a-g",
            "a-+5",
            "a-123456789",
        ] {
            assert_eq!(decode(token, 3), None, "{token:?}");
        }
    }
}
