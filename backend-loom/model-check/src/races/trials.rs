//! Looking for races: each by every checker that can show it, with a budget of executions.
//!
//! Budgets are counts and not times, so that a checker finds the same in every run; only threads of
//! the host do as they please. The times are there to end a search that hangs.

use std::collections::BTreeMap;
use std::time::Duration;

use weft_backend_loom::chosen::EngineName;
use weft_backend_loom::engine::MemoryModel;
use weft_backend_loom::report::{Counterexample, Report, Request};
use weft_backend_loom::sabotage::is_shown_by;
use weft_scenarios::sabotage::Sabotage;

use crate::checkers::{self, Checker};
use crate::jobs::{Job, Purpose};
use crate::progress::Board;
use crate::runner::{self, Done, Task};

use super::found::{Column, Finding, Found};
use super::rows::{How, Race};

/// Executions that a sampling engine draws, and at which one that bounds preemptions is cut.
pub(crate) const EXECUTIONS: u64 = 10_000;

/// The bound on preemptions that is tried first.
pub(crate) const PREEMPTIONS: usize = 2;

/// Wall time after which a search is given up.
const TIME: Duration = Duration::from_secs(120);

/// A scenario to be searched: for one race by one checker, or as it is.
struct Trial {
    job: Job,
    /// The position of the race; none for the right core.
    race: Option<(usize, Column)>,
}

impl Task for Trial {
    type Answer = Report;

    fn kind(&self) -> &'static str {
        if self.race.is_some() { "races" } else { "scenarios" }
    }

    fn title(&self) -> String {
        self.job.title()
    }

    fn rank(&self) -> u8 {
        self.job.rank()
    }

    fn perform(&self, progress: &mut dyn FnMut(u64)) -> Result<Report, String> {
        runner::explore(&self.job, progress)
    }

    fn executions(report: &Report) -> u64 {
        report.executions
    }
}

/// A search that failed, and the execution that did.
pub(crate) type Shown = (Report, Counterexample);

/// What came of all trials.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// How checkers died, in sentences.
    pub(crate) died: Vec<String>,
    /// Scenarios that are not what they should be, in sentences.
    pub(crate) bad: Vec<String>,
    /// Trials that were not finished.
    pub(crate) unfinished: usize,
    /// What the explorer shows, by the position of the race.
    pub(crate) shown: BTreeMap<usize, Shown>,
    /// The other messages with which the explorer caught a race, by its position.
    pub(crate) otherwise: BTreeMap<usize, String>,
}

/// Looks for the races at these positions that are worlds, by the checkers of these columns, and
/// notes what was found.
pub(crate) fn run(
    races: &[Race],
    findings: &mut [Finding],
    selected: &[usize],
    columns: &[Column],
    workers: usize,
) -> Outcome {
    let trials = trials(races, findings, selected, columns);
    let mut outcome = Outcome { unfinished: trials.len(), ..Outcome::default() };
    for Done { job: Trial { job, race }, result } in runner::run(trials, workers, &mut Board::new())
    {
        outcome.unfinished -= 1;
        let report = match result {
            Ok(report) => report,
            Err(error) => {
                outcome.died.push(format!("{}: {error}", job.title()));
                continue;
            }
        };
        match race {
            Some((index, column)) => {
                note(races, findings, index, column, report, &mut outcome);
            }
            None => {
                if let Some(failure) = &report.failure {
                    outcome.bad.push(format!("{} fails: {}", job.scenario, failure.message));
                }
                for finding in findings.iter_mut().filter(|it| it.scenario == job.scenario) {
                    finding.executions = report.executions;
                    finding.verdict = report.verdict.to_string();
                }
            }
        }
    }
    outcome
}

fn note(
    races: &[Race],
    findings: &mut [Finding],
    index: usize,
    column: Column,
    report: Report,
    outcome: &mut Outcome,
) {
    let How::World(_, message) = races[index].how else { unreachable!("mutants are built") };
    let count = report.executions;
    let found = match &report.failure {
        None => Found::NotIn(count),
        Some(_) if report.is_caught_with(message) => Found::After(count),
        Some(failure) => {
            if column == Column::Explorer {
                outcome.otherwise.insert(index, failure.message.clone());
            }
            Found::Otherwise(count)
        }
    };
    findings[index].found.insert(column, found);
    if let (Column::Explorer, Some(failure)) = (column, &report.failure) {
        let failure = failure.clone();
        outcome.shown.insert(index, (report, failure));
    }
}

/// Everything that is to be searched. What a checker cannot show is noted right away.
fn trials(
    races: &[Race],
    findings: &mut [Finding],
    selected: &[usize],
    columns: &[Column],
) -> Vec<Trial> {
    let mut trials: Vec<Trial> = Vec::new();
    for &index in selected {
        let race = &races[index];
        let is_new = |it: &Trial| it.race.is_some() || it.job.scenario != race.scenario;
        if columns.contains(&Column::Explorer) && trials.iter().all(is_new) {
            let explorer = checker(Column::Explorer).expect("the explorer is listed");
            let job = job(race.scenario, Column::Explorer, explorer, None);
            trials.push(Trial { job, race: None });
        }
        let How::World(sabotage, _) = race.how else { continue };
        for &column in columns {
            let Some(checker) = checker(column) else { continue };
            if can_show(checker, race, sabotage) {
                let job = job(race.scenario, column, checker, Some(sabotage));
                trials.push(Trial { job, race: Some((index, column)) });
            } else {
                findings[index].found.insert(column, Found::Cannot);
            }
        }
    }
    trials
}

fn checker(column: Column) -> Option<&'static Checker> {
    let engine = match column {
        Column::Explorer | Column::Tso => EngineName::Explorer,
        Column::Loom => EngineName::Loom,
        Column::Shuttle => EngineName::Shuttle,
        Column::Threads => EngineName::Threads,
        Column::Machine => return None,
    };
    checkers::ALL.iter().find(|checker| checker.engine == engine)
}

/// Whether a race can show under an engine at all. What an engine may miss in a test, it is given a
/// chance to find here.
fn can_show(checker: &Checker, race: &Race, sabotage: Sabotage) -> bool {
    let roles = checkers::prepare(race.scenario).map_or(0, |it| it.plan.roles.len());
    let by_luck = match sabotage {
        Sabotage::Mistake(_) => true,
        Sabotage::LateShootdown => checker.engine == EngineName::Shuttle,
        _ => false,
    };
    checker.traits().cpus_max >= roles && (by_luck || is_shown_by(checker.engine, sabotage))
}

fn job(
    scenario: &'static str,
    column: Column,
    checker: &'static Checker,
    sabotage: Option<Sabotage>,
) -> Job {
    let memory_model = if column == Column::Tso { MemoryModel::Tso } else { MemoryModel::Rc11 };
    let all = Request { sabotage, time: TIME, memory_model, ..Request::default() };
    let some = Request { executions: Some(EXECUTIONS), ..all.clone() };
    let stages = match column {
        Column::Explorer | Column::Tso => vec![all],
        Column::Loom => {
            vec![Request { preemptions: Some(PREEMPTIONS), ..some.clone() }, some]
        }
        Column::Shuttle | Column::Threads | Column::Machine => vec![some],
    };
    let purpose = if sabotage.is_some() { Purpose::Site } else { Purpose::Row };
    Job { scenario, checker, sabotage, purpose, stages }
}
