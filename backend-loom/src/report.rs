//! What goes to a checking process and what comes back: requests and reports, as data.
//!
//! Every exploration runs in a process of its own (loom and shuttle cannot share one, a sabotage
//! is process-wide, and a process that dies takes no other with it), so both are serialised.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use weft_scenarios::sabotage::Sabotage;

use crate::chosen::EngineName;
use crate::coverage::Coverage;
use crate::engine::{FailureKind, MemoryModel, Verdict};

/// What to explore.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Request {
    /// How the world is broken.
    #[serde(with = "crate::sabotage::name")]
    pub sabotage: Option<Sabotage>,
    /// Wall time after which the search is cut short.
    pub time: Duration,
    /// Executions after which the search is cut short, or that are sampled.
    pub executions: Option<u64>,
    /// The bound on preemptions, for engines that know one.
    pub preemptions: Option<usize>,
    /// The memory model, for engines that know more than one.
    pub memory_model: MemoryModel,
    /// Count the executions under the other memory models too, if the search ends: each is a
    /// search of its own, with this time.
    pub compare_models: bool,
    /// The bound on choices that differ from the default execution, for engines that know one.
    pub deviations: Option<u32>,
    /// Draw executions at random, for engines that do not always.
    pub sample: bool,
    /// Runs within which a smaller execution that fails in the same way is searched for, for
    /// engines that can; 0 shows the first one.
    #[serde(default)]
    pub smallest_within: u64,
    /// Operating system threads that search, for engines that can share the work; 0 means one.
    pub workers: usize,
    /// The seed of everything random.
    pub seed: u64,
    /// The execution to run again.
    pub replay: Option<String>,
}

/// One step of a counterexample.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Line {
    /// The CPU; the number of CPUs for what is done after the race.
    pub cpu: usize,
    /// What it did, with names instead of addresses.
    pub text: String,
    /// The site of the memory order, or `hardware`.
    pub site: Option<String>,
    /// The memory order that the execution had.
    pub order: Option<String>,
    /// What that changed, if it changed anything worth saying.
    pub state: String,
    /// Where in the source: `file:line`.
    pub at: String,
    /// The step, from 0, that wrote the value that was read here.
    pub reads_from: Option<usize>,
    /// The step that had written a newer value, which was not seen here.
    pub missed: Option<usize>,
    /// The execution fails here.
    pub fails: bool,
    /// The failure hangs on it.
    pub decides: bool,
    /// What it changed in the tables.
    pub changes: Vec<Change>,
}

/// A change of what can be seen of the tables.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// An entry has a new value.
    Entry {
        /// The node.
        node: String,
        /// Which of its entries.
        index: usize,
        /// The value, in words; none if it is absent.
        value: Option<String>,
        /// The frame that it leads to.
        target: Option<String>,
    },
    /// A node's lock is taken by a CPU, or given back.
    Lock {
        /// The node.
        node: String,
        /// The holder.
        by: Option<usize>,
    },
    /// How many references a frame has.
    References {
        /// The frame.
        frame: String,
        /// The count.
        count: u64,
    },
    /// A frame is in another part of its life.
    Life {
        /// The frame.
        frame: String,
        /// The part.
        state: Life,
    },
    /// The contents of a frame.
    Contents {
        /// The frame.
        frame: String,
        /// What is in it.
        value: u64,
    },
    /// A CPU runs on a root.
    Runs {
        /// The CPU.
        cpu: usize,
        /// The root.
        root: String,
    },
}

/// The parts of a frame's life.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Life {
    /// It was allocated.
    Allocated,
    /// Its parent does not lead to it any more.
    Detached,
    /// It is marked stray.
    Stray,
    /// It waits for a grace period.
    Retired,
    /// It was freed.
    Freed,
}

/// A CPU that waits when a deadlocked execution ends.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Blocked {
    /// The CPU.
    pub cpu: usize,
    /// What it waits for.
    pub place: String,
    /// The CPU that has it, if one has.
    pub by: Option<usize>,
}

/// Two steps between which an order is missing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MissingOrder {
    /// The step, from 0, that should have come first, or whose effect should have been seen.
    pub from: usize,
    /// The step that fails, or that did not see it.
    pub to: usize,
}

/// How small a failing execution is among those that fail with the same message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Size {
    /// How often another CPU goes on.
    pub switches: usize,
    /// How many executions were searched for a smaller one.
    pub searched: u64,
    /// The search came to its end: none has fewer switches, or as many and fewer steps.
    pub is_smallest: bool,
}

/// The failing execution.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Counterexample {
    /// The violated condition.
    pub message: String,
    /// More about it: between which accesses an order is missing, or what the checker itself said.
    pub detail: Option<String>,
    /// What sort of failure it is.
    pub class: FailureKind,
    /// Where in the source.
    pub location: Option<String>,
    /// What each CPU plays.
    pub roles: Vec<String>,
    /// The tables when the race begins.
    pub before: Vec<Change>,
    /// The execution.
    pub lines: Vec<Line>,
    /// What should have ordered two of its steps, and did not.
    pub missing: Option<MissingOrder>,
    /// For deadlocks: who waits for what, in sentences.
    pub waiting: Vec<String>,
    /// For deadlocks: who waits for whom.
    #[serde(default)]
    pub blocked: Vec<Blocked>,
    /// How small it is, where that was searched for.
    #[serde(default)]
    pub size: Option<Size>,
    /// Runs this execution again.
    pub token: Option<String>,
}

/// What came out of one exploration of one scenario.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// The scenario.
    pub scenario: String,
    /// The engine.
    pub engine: EngineName,
    /// The memory model.
    pub model: String,
    /// How the world was broken.
    #[serde(with = "crate::sabotage::name")]
    pub sabotage: Option<Sabotage>,
    /// Number of CPUs.
    pub cpus: usize,
    /// The verdict.
    pub verdict: Verdict,
    /// Executions.
    pub executions: u64,
    /// Executions that ended with a waiting CPU and are none of the program.
    pub blocked: u64,
    /// Word operations of the longest execution.
    pub depth: u64,
    /// Wall time of the search.
    #[serde(rename = "elapsed_seconds", with = "seconds")]
    pub elapsed: Duration,
    /// The most memory that the checking process ever had in use, in bytes; 0 if the system does
    /// not say.
    pub memory_peak: u64,
    /// How often each outcome was seen.
    pub outcomes: BTreeMap<String, u64>,
    /// What each CPU saw and the outcome, as text; compared between engines.
    pub observations: BTreeSet<String>,
    /// Situations that were met.
    pub reached: BTreeSet<String>,
    /// Situations that should have been met and were not.
    pub never_reached: Vec<String>,
    /// Interesting outcomes that should have been seen and were not.
    pub never_seen: Vec<String>,
    /// What failed.
    pub failure: Option<Counterexample>,
    /// What the reader has to know besides.
    pub caveats: Vec<String>,
    /// Executions under other memory models.
    pub other_models: Vec<(MemoryModel, u64)>,
    /// What the race executed of the core.
    #[serde(default, skip_serializing_if = "Coverage::is_empty")]
    pub coverage: Coverage,
}

/// How a report is judged when the world is whole.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Judgement {
    /// Nothing failed, and everything expected was met.
    Good,
    /// Something expected was never met.
    Missing,
    /// Something failed.
    Bad,
}

impl Report {
    /// How good it is, for a world that is whole.
    pub fn judgement(&self) -> Judgement {
        let nothing_run = self.executions == 0;
        if self.failure.is_some() || self.verdict == Verdict::Failed || nothing_run {
            Judgement::Bad
        } else if !self.never_reached.is_empty() || !self.never_seen.is_empty() {
            Judgement::Missing
        } else {
            Judgement::Good
        }
    }

    /// Whether every memory model has the same number of executions: then the protocol shows no
    /// weak behaviour, and its orderings are strong enough to make it robust. `None` unless the
    /// searches under all three models ended.
    pub fn is_robust(&self) -> Option<bool> {
        let mut others = self.other_models.iter();
        (self.other_models.len() == 2).then(|| others.all(|(_, count)| *count == self.executions))
    }

    /// Whether the failure is the one that `message` is a part of. A deadlock is a catch only if
    /// the message says so. Frames count as nodes here: which of the two a frame is may depend on
    /// the execution that was found.
    pub fn is_caught_with(&self, message: &str) -> bool {
        self.failure.as_ref().is_some_and(|failure| {
            let counts = match failure.class {
                FailureKind::Violation => true,
                FailureKind::Deadlock => message.starts_with("deadlock"),
                FailureKind::Limit | FailureKind::Internal => false,
            };
            counts && without_uses(&failure.message).contains(&without_uses(message))
        })
    }
}

/// Times in documents are seconds.
pub mod seconds {
    use std::time::Duration;

    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    /// Writes a time.
    ///
    /// # Errors
    ///
    /// As the serializer.
    pub fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(time.as_secs_f64())
    }

    /// Reads a time.
    ///
    /// # Errors
    ///
    /// As the deserializer, and for what is no time.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// A message in which every frame is called N, also one that ends before the frame's number.
fn without_uses(message: &str) -> String {
    let letters: Vec<char> = message.chars().collect();
    let name = |index: usize| {
        let starts = index == 0 || !letters[index - 1].is_alphanumeric();
        let ends = letters.get(index + 1).is_none_or(char::is_ascii_digit);
        starts && ends && matches!(letters[index], 'F' | 'S')
    };
    (0..letters.len()).map(|index| if name(index) { 'N' } else { letters[index] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_all_uses_are_alike_in_messages() {
        for (message, alike) in [
            ("use after free: F12", "use after free: N12"),
            ("data race on S", "data race on N"),
            ("data race on F6.contents", "data race on N6.contents"),
            ("a Frame of CPUS, F, is at F3", "a Frame of CPUS, F, is at N3"),
        ] {
            assert_eq!(without_uses(message), alike);
        }
    }

    #[test]
    fn verdicts_are_read_as_they_are_shown() {
        for verdict in [
            Verdict::Exhausted,
            Verdict::Bounded(3),
            Verdict::CutShort { executions: 9, preemptions: None },
            Verdict::CutShort { executions: 9, preemptions: Some(2) },
            Verdict::Sampled(10),
            Verdict::Failed,
        ] {
            let text = serde_json::to_string(&verdict).expect("plain data");
            assert_eq!(text, format!("\"{verdict}\""));
            assert_eq!(serde_json::from_str::<Verdict>(&text).ok(), Some(verdict));
        }
        for text in ["", "PASSED", "BOUNDED", "SAMPLED many", "BOUNDED 3 (cut at)", "FAILED 1"] {
            assert!(Verdict::try_from(text.to_owned()).is_err(), "{text:?}");
        }
    }
}
