//! Everything that came out, put together, and what it means.
//!
//! * A *row* is one scenario under one engine in the whole world. A child that died is a row too.
//! * A *twin* is a broken world; it counts only if its own message is what it was caught with.
//! * A situation or an interesting outcome is missing if no engine of this run has met it; an
//!   engine that has run every execution must have met it by itself.
//! * Engines are compared with each other: see [`agreement`].
//!
//! Every token is replayed once before it is shown. One that leads to another message is an
//! internal error: people would be sent after the wrong thing.
//!
//! A summary follows from what was [found](Found) and from nothing else, so that it is the same
//! whether that was found just now, or is read from [records](crate::record).

use std::path::PathBuf;
use std::time::Duration;

use weft_backend_loom::engine::{FailureKind, Verdict};
use weft_backend_loom::harness::Plan;
use weft_backend_loom::report::Report;
use weft_scenarios::sabotage::Sabotage;
use weft_shell::{exit, interruption};

use crate::agreement;
use crate::checkers::Checker;
use crate::jobs::{Job, Purpose};
use crate::record::Head;
use crate::runner;
use crate::token::Token;

/// What came of one exploration.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Its number: the position in the plan of the whole run.
    pub(crate) index: usize,
    /// What was explored.
    pub(crate) job: Job,
    /// What came out, or how the child died.
    pub(crate) result: Result<Report, String>,
    /// What replays the failure of a row, if it has one.
    pub(crate) token: Option<String>,
    /// What is wrong with the token, in a sentence.
    pub(crate) astray: Option<String>,
}

impl Found {
    /// What came of `job`, its token tried.
    pub(crate) fn new(index: usize, job: Job, result: Result<Report, String>) -> Self {
        let report = result.as_ref().ok().filter(|_| job.purpose == Purpose::Row);
        let replayed = report.and_then(|report| replayed(&job, report));
        let (token, astray) = replayed.map_or((None, None), |(token, it)| (Some(token), it));
        Self { index, job, result, token, astray }
    }

    /// Whether there is something to look at: a violation, a twin that was not caught, a child that
    /// died, or a search that is not exhaustive where that was demanded.
    pub(crate) fn is_bad(&self, exhausted: bool) -> bool {
        let Ok(report) = &self.result else { return true };
        match self.job.purpose {
            Purpose::Row => report.failure.is_some() || exhausted && report.verdict.is_bounded(),
            Purpose::Twin { message, .. } => !report.is_caught_with(message),
            Purpose::Site => false,
        }
    }
}

/// The token of a failure, and a sentence if it does not lead to the same failure again.
fn replayed(job: &Job, report: &Report) -> Option<(String, Option<String>)> {
    let model = job.stages.first()?.memory_model;
    let token = Token::of(report, job.scenario, job.checker, model)?;
    let wanted = &report.failure.as_ref()?.message;
    let found = match runner::ask(job, &token.request(), |_| {}) {
        Ok(Report { failure: Some(failure), .. }) => failure.message,
        Ok(_) => "nothing".to_owned(),
        Err(error) => error,
    };
    let is_astray = found != *wanted && !interruption::should_stop();
    let astray = is_astray.then(|| {
        format!(
            "the token {token} does not lead to its failure again: \"{wanted}\" became \
             \"{found}\""
        )
    });
    Some((token.to_string(), astray))
}

/// One scenario under one engine.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// What the scenario says about itself.
    pub(crate) plan: Plan,
    /// The engine.
    pub(crate) checker: &'static Checker,
    /// What came out, or how the child died.
    pub(crate) result: Result<Report, String>,
    /// What replays the failure, if it has one.
    pub(crate) token: Option<String>,
    /// The web page of the failure, once it is written.
    pub(crate) page: Option<PathBuf>,
}

/// A twin under one engine.
#[derive(Clone, Debug)]
pub(crate) struct Twin {
    /// The scenario.
    pub(crate) scenario: &'static str,
    /// Its position in the scenario's list.
    pub(crate) number: usize,
    /// How the world is broken.
    pub(crate) sabotage: Sabotage,
    /// The message that it must be caught with.
    pub(crate) message: &'static str,
    /// The engine.
    pub(crate) engine: &'static str,
    /// How it went.
    pub(crate) fate: Fate,
}

/// What became of a twin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It was caught with its message.
    Caught {
        /// In this execution.
        executions: u64,
    },
    /// It was caught with another message, which does not count.
    CaughtOtherwise {
        /// In this execution.
        executions: u64,
        /// The other message.
        message: String,
    },
    /// Nothing was noticed.
    Survived {
        /// What the engine says it has done.
        verdict: String,
    },
    /// The child died.
    Died(String),
}

impl Fate {
    fn of(result: Result<Report, String>, message: &str) -> Self {
        match result {
            Err(error) => Self::Died(error),
            Ok(report) if report.is_caught_with(message) => {
                Self::Caught { executions: report.executions }
            }
            Ok(Report { failure: Some(failure), executions, .. }) => {
                Self::CaughtOtherwise { executions, message: failure.message }
            }
            Ok(report) => Self::Survived { verdict: report.verdict.to_string() },
        }
    }
}

/// The result of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Summary {
    /// How the world was broken.
    pub(crate) sabotage: Option<Sabotage>,
    /// The rows, by scenario and engine.
    pub(crate) rows: Vec<Row>,
    /// The twins, by scenario, number and engine.
    pub(crate) twins: Vec<Twin>,
    /// Where engines saw different things, in sentences.
    pub(crate) disagreements: Vec<String>,
    /// What was expected and never met, in sentences.
    pub(crate) missing: Vec<String>,
    /// What must never happen to the command itself, in sentences.
    pub(crate) internal: Vec<String>,
    /// Rows that should have been exhausted and were not.
    pub(crate) not_exhausted: Vec<String>,
    /// Rows and twins that were not finished.
    pub(crate) unfinished: usize,
    /// Wall time of everything.
    pub(crate) elapsed: Duration,
    /// What was run, unless it was one execution.
    pub(crate) head: Option<Head>,
}

impl Summary {
    /// Puts results together. `unfinished` are the scenarios of explorations that have none.
    pub(crate) fn of(
        plans: &[Plan],
        sabotage: Option<Sabotage>,
        all: Vec<Found>,
        unfinished: &[&str],
        exhausted: bool,
    ) -> Self {
        let mut summary = Self { sabotage, unfinished: unfinished.len(), ..Self::default() };
        for found in all {
            match found.job.purpose {
                Purpose::Row => summary.add_row(plans, found, exhausted),
                Purpose::Twin { number, message } => summary.twins.push(Twin {
                    scenario: found.job.scenario,
                    number,
                    engine: found.job.checker.name(),
                    fate: Fate::of(found.result, message),
                    sabotage: found.job.sabotage.expect("a twin is a broken world"),
                    message,
                }),
                Purpose::Site => {}
            }
        }
        summary.twins.sort_by_key(|twin| (twin.scenario, twin.number));
        if summary.is_broken() {
            // Engines do not all show it, and what it never meets says nothing.
            return summary;
        }
        for plan in plans {
            let reports = summary.rows.iter().filter(|row| row.plan.name == plan.name);
            let reports: Vec<&Report> =
                reports.filter_map(|row| row.result.as_ref().ok()).collect();
            summary.disagreements.extend(agreement::disagreements(plan.name, &reports));
            // What is unfinished may still be met.
            if !unfinished.contains(&plan.name) {
                summary.missing.extend(missing(&reports));
            }
        }
        summary
    }

    fn add_row(&mut self, plans: &[Plan], found: Found, exhausted: bool) {
        let Found { job, result, token, astray, .. } = found;
        let plan = plans.iter().find(|plan| plan.name == job.scenario).expect("jobs have plans");
        self.internal.extend(astray);
        match &result {
            Ok(report) if report.verdict.is_bounded() && exhausted => {
                let Report { scenario, engine, verdict, .. } = report;
                self.not_exhausted.push(format!("{scenario} under {engine} is {verdict}"));
            }
            Ok(Report { failure: Some(failure), .. }) if failure.class == FailureKind::Internal => {
                let (scenario, engine) = (job.scenario, job.checker.name());
                self.internal.push(format!("{scenario} under {engine}: {}", failure.message));
            }
            Ok(_) => {}
            Err(error) => {
                let (scenario, engine) = (job.scenario, job.checker.name());
                self.internal.push(format!("{scenario} under {engine}: {error}"));
            }
        }
        self.rows.push(Row { plan: plan.clone(), checker: job.checker, result, token, page: None });
    }

    /// Whether the world was broken.
    pub(crate) fn is_broken(&self) -> bool {
        self.sabotage.is_some()
    }

    /// The exit code. In a broken world a violation is the code of a catch, and that nothing was
    /// noticed is as bad as a twin that survives. An internal error outranks everything, since it
    /// says that the command itself cannot be trusted; then come violations.
    pub(crate) fn exit(&self) -> u8 {
        let died = |twin: &Twin| matches!(twin.fate, Fate::Died(_));
        let caught = |twin: &Twin| matches!(twin.fate, Fate::Caught { .. });
        let failed = |row: &Row| row.result.as_ref().is_ok_and(|report| report.failure.is_some());
        if interruption::is_here() {
            exit::INTERRUPTED
        } else if !self.internal.is_empty() || self.twins.iter().any(died) {
            exit::INTERNAL
        } else if self.rows.iter().any(failed) || !self.disagreements.is_empty() {
            exit::VIOLATION
        } else if self.is_broken() || !self.missing.is_empty() || !self.twins.iter().all(caught) {
            exit::MISSING
        } else if !self.not_exhausted.is_empty() {
            exit::BOUNDED
        } else {
            exit::GOOD
        }
    }
}

/// What one scenario should have met and has not, in sentences.
fn missing(reports: &[&Report]) -> Vec<String> {
    let mut sentences = Vec::new();
    for report in reports {
        let complete = report.verdict == Verdict::Exhausted;
        let elsewhere = |has: fn(&Report, &str) -> bool, name: &str| {
            reports.iter().any(|other| has(other, name))
        };
        let Report { scenario, engine, verdict, .. } = report;
        if report.executions == 0 && report.failure.is_none() {
            sentences.push(format!(
                "{scenario} under {engine} ({verdict}) ran nothing: leave out --time, or give it \
                 more"
            ));
        }
        for name in &report.never_reached {
            if complete || !elsewhere(|other, name| other.reached.contains(name), name) {
                sentences
                    .push(format!("{scenario} under {engine} ({verdict}) never reached: {name}"));
            }
        }
        for name in &report.never_seen {
            if complete || !elsewhere(|other, name| other.outcomes.contains_key(name), name) {
                sentences.push(format!(
                    "{scenario} under {engine} ({verdict}) never ended with: {name}"
                ));
            }
        }
    }
    sentences
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use weft_backend_loom::coverage::Coverage;

    use crate::checkers;

    use super::*;

    const NAME: &str = "lock_vs_lock";

    /// A summary of one row, which drew so many executions.
    pub(crate) fn sampled(executions: u64) -> Summary {
        let checker = checkers::find("threads").expect("it is listed");
        let plan = checkers::prepare(NAME).expect("it is there").plan;
        let job = Job {
            scenario: NAME,
            checker,
            sabotage: None,
            purpose: Purpose::Row,
            stages: Vec::new(),
        };
        let report = Report {
            scenario: NAME.to_owned(),
            engine: checker.engine,
            model: checker.traits().memory_model.to_owned(),
            sabotage: None,
            cpus: plan.roles.len(),
            verdict: Verdict::Sampled(executions),
            executions,
            blocked: 0,
            depth: 0,
            elapsed: Duration::ZERO,
            memory_peak: 0,
            outcomes: BTreeMap::new(),
            observations: BTreeSet::new(),
            reached: BTreeSet::new(),
            never_reached: Vec::new(),
            never_seen: Vec::new(),
            failure: None,
            caveats: Vec::new(),
            other_models: Vec::new(),
            coverage: Coverage::default(),
        };
        Summary::of(&[plan], None, vec![Found::new(0, job, Ok(report))], &[], false)
    }

    #[test]
    fn a_search_that_ran_nothing_is_missing() {
        assert_eq!(sampled(1).exit(), exit::GOOD);
        let nothing = sampled(0);
        assert_eq!(nothing.exit(), exit::MISSING);
        let part = "lock_vs_lock under threads (SAMPLED 0) ran nothing: leave out --time";
        assert!(nothing.missing[0].starts_with(part), "{:?}", nothing.missing);
    }
}
