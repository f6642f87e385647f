//! Everything that was run, put together, and the exit code that follows.

use std::time::Duration;

use weft_scenarios::sabotage::Sabotage;
use weft_shell::exit;

use crate::host::Accelerator;
use crate::models::Models;
use crate::verdict::{Failure, Request, Verdict};

/// One scenario or self-test on one machine.
#[derive(Clone, Debug)]
pub struct Row {
    /// What was asked for.
    pub request: Request,
    /// Whether it is a test of the kernel itself.
    pub self_test: bool,
    /// What came out.
    pub verdict: Verdict,
    /// For a hang: where each processor was, in words.
    pub places: Vec<String>,
    /// A command that runs this again.
    pub again: String,
}

/// A broken world, and whether it was noticed.
#[derive(Clone, Debug)]
pub struct Twin {
    /// The scenario or self-test that must notice.
    pub name: String,
    /// How the world is broken.
    pub sabotage: String,
    /// Parts of messages, one of which must be in the message it is noticed with.
    pub messages: Vec<String>,
    /// What came out.
    pub verdict: Verdict,
    /// A command that runs this again.
    pub again: String,
}

impl Twin {
    /// Whether it was noticed, and with the right message. A hang or a reset is not a catch.
    pub fn is_caught(&self) -> bool {
        match &self.verdict.failure {
            Some(Failure::Violation { message, .. }) => {
                self.messages.iter().any(|part| message.contains(part))
            }
            _ => false,
        }
    }

    /// How it went, in words.
    pub fn fate(&self) -> String {
        match &self.verdict.failure {
            None => "SURVIVED".to_owned(),
            Some(failure) if self.is_caught() => format!("caught: {failure}"),
            Some(failure) => format!("CAUGHT OTHERWISE: {failure}"),
        }
    }
}

/// How good a row is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Judgement {
    /// Nothing failed.
    Good,
    /// Something demanded was not seen.
    Missing,
    /// Something failed.
    Bad,
    /// Something else than the kernel failed.
    Internal,
}

/// All of it.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The rows, in the order they were run.
    pub rows: Vec<Row>,
    /// The broken worlds, in the order they were run.
    pub twins: Vec<Twin>,
    /// QEMU's version.
    pub qemu: String,
    /// How processors were run.
    pub accelerator: Accelerator,
    /// How many processors each machine had.
    pub cpus: usize,
    /// The seed.
    pub seed: u64,
    /// How the world was broken, if it was.
    pub sabotage: Option<Sabotage>,
    /// Whether what is expected is demanded.
    pub demand: bool,
    /// What the models say.
    pub models: Models,
    /// Names that were not run because of an interruption.
    pub unfinished: Vec<String>,
    /// How long all of it took.
    pub elapsed: Duration,
}

impl Summary {
    /// How good a row is.
    pub fn judge(&self, row: &Row) -> Judgement {
        match &row.verdict.failure {
            Some(Failure::Internal(_)) => Judgement::Internal,
            Some(_) => Judgement::Bad,
            None if self.demand && row.verdict.missing().next().is_some() => Judgement::Missing,
            None => Judgement::Good,
        }
    }

    /// The exit code: the worst of all rows. In a world that was broken on purpose a violation is
    /// the code of a catch, and that nothing was noticed is as bad as a twin that survives.
    pub fn exit(&self) -> u8 {
        let survived = self.twins.iter().any(|twin| !twin.is_caught());
        let worst = self.rows.iter().map(|row| self.judge(row)).max();
        match worst {
            Some(Judgement::Internal) => exit::INTERNAL,
            Some(Judgement::Bad) => exit::VIOLATION,
            _ if self.models.error.is_some() => exit::INTERNAL,
            _ if !self.unfinished.is_empty() => exit::INTERRUPTED,
            Some(Judgement::Missing) => exit::MISSING,
            Some(Judgement::Good) if survived || self.sabotage.is_some() => exit::MISSING,
            Some(Judgement::Good) => exit::GOOD,
            None => exit::MISSING,
        }
    }

    /// A number that two invocations share if the kernels wrote the same in both.
    pub fn fingerprint(&self) -> u64 {
        let prints = self.rows.iter().map(|row| row.verdict.fingerprint);
        prints.fold(0, |all, one| (all ^ one).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::Count;

    fn verdict(failure: Option<Failure>, times: u64) -> Verdict {
        let seen = Count { name: "left first".to_owned(), times, expected: true };
        Verdict { failure, outcomes: vec![seen], ..Verdict::without_run(String::new()) }
    }

    fn violation() -> Option<Failure> {
        let (message, location) = ("use after free: N1".to_owned(), String::new());
        Some(Failure::Violation { cpu: 0, message, location })
    }

    fn summary(verdicts: Vec<Verdict>) -> Summary {
        let request = Request { name: "lock_vs_lock".to_owned(), repetitions: 1 };
        let row = |verdict| Row {
            request: request.clone(),
            self_test: false,
            verdict,
            places: Vec::new(),
            again: String::new(),
        };
        Summary {
            rows: verdicts.into_iter().map(row).collect(),
            twins: Vec::new(),
            qemu: String::new(),
            accelerator: Accelerator::Counted,
            cpus: 4,
            seed: 1,
            sabotage: None,
            demand: false,
            models: Models::default(),
            unfinished: Vec::new(),
            elapsed: Duration::ZERO,
        }
    }

    fn twin(failure: Option<Failure>) -> Twin {
        Twin {
            name: "walk_vs_detach".to_owned(),
            sabotage: "freed-at-once".to_owned(),
            messages: vec!["use after free".to_owned(), "corrupt entry".to_owned()],
            verdict: verdict(failure, 1),
            again: String::new(),
        }
    }

    #[test]
    fn the_worst_row_decides() {
        let internal = Some(Failure::Internal("no QEMU".to_owned()));
        assert_eq!(summary(vec![verdict(None, 1)]).exit(), exit::GOOD);
        assert_eq!(
            summary(vec![verdict(None, 1), verdict(violation(), 1)]).exit(),
            exit::VIOLATION
        );
        let both = vec![verdict(internal, 1), verdict(violation(), 1)];
        assert_eq!(summary(both).exit(), exit::INTERNAL);
        assert_eq!(summary(Vec::new()).exit(), exit::MISSING, "nothing was run");
    }

    #[test]
    fn what_was_not_seen_counts_if_demanded() {
        let mut summary = summary(vec![verdict(None, 0)]);
        assert_eq!(summary.exit(), exit::GOOD);
        summary.demand = true;
        assert_eq!(summary.exit(), exit::MISSING);
    }

    #[test]
    fn a_broken_world_that_is_not_noticed_is_not_good() {
        let mut summary = summary(vec![verdict(None, 1)]);
        summary.sabotage = Some(Sabotage::FreedAtOnce);
        assert_eq!(summary.exit(), exit::MISSING);
        summary.rows[0].verdict.failure = violation();
        assert_eq!(summary.exit(), exit::VIOLATION);
    }

    #[test]
    fn models_that_do_not_answer_are_an_error() {
        let mut summary = summary(vec![verdict(None, 1)]);
        summary.models.error = Some("it does not build".to_owned());
        assert_eq!(summary.exit(), exit::INTERNAL);
        summary.rows[0].verdict.failure = violation();
        assert_eq!(summary.exit(), exit::VIOLATION);
    }

    #[test]
    fn what_was_not_run_is_not_good() {
        let mut summary = summary(vec![verdict(None, 1)]);
        summary.unfinished.push("walk_vs_map".to_owned());
        assert_eq!(summary.exit(), exit::INTERRUPTED);
    }

    #[test]
    fn a_broken_world_has_to_be_noticed_with_its_own_message() {
        let mut summary = summary(vec![verdict(None, 1)]);
        summary.twins.push(twin(violation()));
        assert_eq!(summary.exit(), exit::GOOD);
        for other in [None, Some(Failure::Hang(Vec::new())), Some(Failure::Reset)] {
            summary.twins = vec![twin(other)];
            assert_eq!(summary.exit(), exit::MISSING);
        }
    }
}
