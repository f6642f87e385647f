//! Everything that was run, put together, and the exit code that follows.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use weft_scenarios::sabotage::Sabotage;
use weft_shell::{exit, interruption};

use crate::host::Accelerator;
use crate::models::Models;
use crate::verdict::{Failure, Request, Verdict, fold_prints};

/// Of a hundred boots of a broken world so many must be noticed.
const NOTICED_PERCENT: u64 = 95;

/// How many machines were booted for the same, and in how many of them something went wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Boots {
    /// All of them.
    pub all: u64,
    /// Those in which something went wrong; in a twin, what was to go wrong.
    pub wrong: u64,
}

impl Boots {
    /// Whether a broken world is noticed as often as it has to be.
    fn suffice(self) -> bool {
        self.wrong * 100 >= self.all * NOTICED_PERCENT
    }
}

impl fmt::Display for Boots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} boots", self.wrong, self.all)
    }
}

/// One scenario or self-test on its machines.
#[derive(Clone, Debug)]
pub struct Row {
    /// What was asked for.
    pub request: Request,
    /// Whether it is a test of the kernel itself.
    pub self_test: bool,
    /// What came out of all boots together.
    pub verdict: Verdict,
    /// How many there were, and how many of them failed.
    pub boots: Boots,
    /// The seed of the first boot that failed; if none did, of the first one.
    pub seed: u64,
    /// For a hang: where each processor was, in words.
    pub places: Vec<String>,
    /// A command that runs this again.
    pub again: String,
    /// The web page of the failure, once it is written.
    pub page: Option<PathBuf>,
}

impl Row {
    /// How often the race was run, in all boots together.
    pub fn runs(&self) -> u64 {
        self.request.repetitions.saturating_mul(self.boots.all)
    }
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
    /// What came out of the boot that is told.
    pub verdict: Verdict,
    /// How many there were, and in how many it was noticed with the right message.
    pub boots: Boots,
    /// The seed of the first boot in which it was not noticed; if there is none, of the first one.
    pub seed: u64,
    /// A command that boots this machine again.
    pub again: String,
}

impl Twin {
    /// Whether it was noticed as often as it has to be, and with the right message. A hang or a
    /// reset is not a catch.
    pub fn is_caught(&self) -> bool {
        self.boots.suffice()
    }

    /// How it went, in words.
    pub fn fate(&self) -> String {
        let fate = match &self.verdict.failure {
            None => "SURVIVED".to_owned(),
            Some(failure) if self.verdict.fails_with(&self.messages) => {
                format!("caught: {failure}")
            }
            Some(failure) => format!("CAUGHT OTHERWISE: {failure}"),
        };
        match self.boots.all {
            1 => fate,
            _ => format!("caught in {}; seed {}: {fate}", self.boots, self.seed),
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
        // In a broken world it is not enough that some boot of many fails.
        let noticed = |row: &Row| self.judge(row) == Judgement::Bad && row.boots.suffice();
        let survived = survived || self.sabotage.is_some() && !self.rows.iter().any(noticed);
        let worst = self.rows.iter().map(|row| self.judge(row)).max();
        match worst {
            Some(Judgement::Internal) => exit::INTERNAL,
            Some(Judgement::Bad) if self.sabotage.is_none() || !survived => exit::VIOLATION,
            _ if self.models.error.is_some() => exit::INTERNAL,
            _ if !self.unfinished.is_empty() && !interruption::was_enough() => exit::INTERRUPTED,
            Some(Judgement::Missing) => exit::MISSING,
            Some(_) if survived => exit::MISSING,
            Some(_) => exit::GOOD,
            None => exit::MISSING,
        }
    }

    /// How many machines were booted.
    pub fn boots(&self) -> usize {
        let rows = self.rows.iter().map(|row| row.boots);
        let boots = rows.chain(self.twins.iter().map(|twin| twin.boots));
        boots.map(|boots| boots.all as usize).sum()
    }

    /// A number that two invocations share if the kernels wrote the same in both.
    pub fn fingerprint(&self) -> u64 {
        let prints = self.rows.iter().map(|row| row.verdict.fingerprint);
        prints.fold(0, fold_prints)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::verdict::Count;

    pub(crate) fn verdict(failure: Option<Failure>, times: u64) -> Verdict {
        let seen = Count { name: "left first".to_owned(), times, expected: true };
        Verdict { failure, outcomes: vec![seen], ..Verdict::without_run(String::new()) }
    }

    fn violation() -> Option<Failure> {
        let (message, location) = ("use after free: N1".to_owned(), String::new());
        Some(Failure::Violation { cpu: 0, message, location })
    }

    pub(crate) fn summary(verdicts: Vec<Verdict>) -> Summary {
        let request = Request { name: "lock_vs_lock".to_owned(), repetitions: 1 };
        let row = |verdict: Verdict| Row {
            request: request.clone(),
            self_test: false,
            boots: Boots { all: 1, wrong: u64::from(verdict.failure.is_some()) },
            seed: 1,
            verdict,
            places: Vec::new(),
            again: String::new(),
            page: None,
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
        let messages = vec!["use after free".to_owned(), "corrupt entry".to_owned()];
        let verdict = verdict(failure, 1);
        Twin {
            name: "walk_vs_detach".to_owned(),
            sabotage: "freed-at-once".to_owned(),
            boots: Boots { all: 1, wrong: u64::from(verdict.fails_with(&messages)) },
            seed: 1,
            messages,
            verdict,
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
        for (failure, code) in [(None, exit::MISSING), (violation(), exit::VIOLATION)] {
            let mut summary = summary(vec![verdict(failure, 1)]);
            summary.sabotage = Some(Sabotage::FreedAtOnce);
            assert_eq!(summary.exit(), code);
        }
    }

    #[test]
    fn of_many_boots_of_a_broken_world_95_of_100_are_noticed() {
        let mut summary = summary(vec![verdict(violation(), 1)]);
        summary.sabotage = Some(Sabotage::NoShootdown);
        for (all, wrong, code) in [
            (100, 95, exit::VIOLATION),
            (100, 94, exit::MISSING),
            (20, 19, exit::VIOLATION),
            (10, 9, exit::MISSING),
        ] {
            summary.rows[0].boots = Boots { all, wrong };
            assert_eq!(summary.exit(), code, "{wrong} of {all}");
        }
        summary.sabotage = None;
        summary.rows[0].boots = Boots { all: 100, wrong: 1 };
        assert_eq!(summary.exit(), exit::VIOLATION, "the right kernel never fails");
        summary.rows[0].verdict.failure = None;
        summary.twins.push(Twin { boots: Boots { all: 100, wrong: 95 }, ..twin(None) });
        assert_eq!(summary.exit(), exit::GOOD);
        summary.twins[0].boots.wrong = 94;
        assert_eq!(summary.exit(), exit::MISSING);
        assert_eq!(summary.twins[0].fate(), "caught in 94 of 100 boots; seed 1: SURVIVED");
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
