//! Runs of scenarios: planned, recorded, gone on with, put together from shards, and replayed.

use std::time::Instant;

use weft_backend_loom::coverage::CoreLine;
use weft_backend_loom::engine::FailureKind;
use weft_backend_loom::harness::Plan;
use weft_backend_loom::sabotage;
use weft_scenarios::sabotage::{Sabotage, Weakening};
use weft_shell::arguments::{Form, Format};
use weft_shell::page::{self, Earlier, Pages};
use weft_shell::select::did_you_mean;
use weft_shell::{checkout, complain, exit, interruption, print, print_json};

use crate::arguments::{Explore, Merge, Replay, Search};
use crate::columns::Telling;
use crate::coverage::Covered;
use crate::jobs::{self, Job, Purpose};
use crate::progress::Board;
use crate::record::{self, Head, Record, Recorder, Unfit};
use crate::source::Source;
use crate::summary::{Found, Summary};
use crate::token::Token;
use crate::{documents, human, listing, runner};

/// What options ask for.
struct Planned {
    plans: Vec<Plan>,
    sabotage: Option<Sabotage>,
    /// The explorations of the whole run.
    jobs: Vec<Job>,
    /// The positions of those that belong to the shard.
    mine: Vec<usize>,
}

impl Planned {
    /// # Errors
    ///
    /// One sentence, for options that contradict each other or leave nothing to explore.
    fn from(explore: &Explore) -> Result<Self, String> {
        let selection = explore.selection()?;
        let Search { filters, skip, .. } = &explore.search;
        let mut plans = jobs::selected(filters, skip)?;
        if explore.long && filters.is_empty() {
            plans.retain(|plan| plan.deviations.is_some());
        }
        let sabotage = explore.sabotage.as_deref().map(sabotage_named).transpose()?.flatten();
        let plans = breakable(&explore.search, plans, sabotage)?;
        let jobs = jobs::plan(explore, &selection, &plans, sabotage)?;
        let Some(shard) = explore.shard else {
            let mine = (0..jobs.len()).collect();
            return Ok(Self { plans, sabotage, jobs, mine });
        };
        let is_mine = |job: &Job| {
            let position = plans.iter().position(|plan| plan.name == job.scenario);
            position.is_some_and(|position| shard.has(position))
        };
        let mine: Vec<usize> = (0..jobs.len()).filter(|at| is_mine(&jobs[*at])).collect();
        if mine.is_empty() {
            let count = plans.len();
            return Err(format!("shard {shard} has nothing to run: make at most {count} shards"));
        }
        Ok(Self { plans, sabotage, jobs, mine })
    }

    fn summary(&self, explore: &Explore, all: Vec<Found>) -> Summary {
        let is_found = |at: &usize| all.iter().any(|found| found.index == *at);
        let unfinished = self.mine.iter().filter(|at| !is_found(at));
        let unfinished: Vec<&str> = unfinished.map(|at| self.jobs[*at].scenario).collect();
        Summary::of(&self.plans, self.sabotage, all, &unfinished, explore.require_exhausted)
    }
}

/// Refuses in one sentence what does not fit, with the exit code that it has.
fn unfit(unfit: Unfit) -> Result<u8, String> {
    match unfit {
        Unfit::Broken(sentence) => Err(sentence),
        Unfit::AnotherState(sentence) => {
            complain(&sentence);
            Ok(exit::ANOTHER_STATE)
        }
    }
}

/// Explores, or lists, what the options ask for.
///
/// # Errors
///
/// One sentence, for bad options, and for results that cannot be written.
pub(crate) fn explore(explore: &Explore) -> Result<u8, String> {
    if explore.list {
        explore.selection()?;
        let plans = jobs::selected(&explore.search.filters, &explore.search.skip)?;
        match explore.output.format.of_list()? {
            Form::Human => print(&listing::text(&plans))?,
            Form::Json => print_json(&listing::json(&plans))?,
        }
        return Ok(exit::GOOD);
    }
    let earlier = match &explore.earlier {
        Some(path) => match Earlier::read(path, record::TOOL, record::VERSION) {
            Ok(earlier) => Some(earlier),
            Err(page::Unfit { code, sentence }) => {
                complain(&sentence);
                return Ok(code);
            }
        },
        None => None,
    };
    let pages = Pages::new(explore.report.as_deref(), earlier)?;
    let Some(path) = &explore.resume else {
        let planned = Planned::from(explore)?;
        let head = Head::new(explore, planned.jobs.len());
        let recorder = Recorder::begin(&explore.output, &head)?;
        return run(explore, explore, planned, head, Vec::new(), recorder, &pages);
    };
    if *explore != explore.as_it_is_run() {
        return Err("--resume goes on with the options of its file: add only --jobs, --format, \
                    --fail-fast or --verbose"
            .to_owned());
    }
    let record = match Record::read(path) {
        Ok(record) => record,
        Err(error) => return unfit(error),
    };
    let head = record.head.clone();
    let planned = Planned::from(&head.options)?;
    let recorder = Recorder::resume(&record, &explore.output)?;
    match record.found(&planned.jobs) {
        Ok(earlier) => {
            run(explore, &head.options.clone(), planned, head, earlier, recorder, &pages)
        }
        Err(error) => unfit(error),
    }
}

/// Runs what was not found earlier. `now` says how; `explore`, which explorations they are.
fn run(
    now: &Explore,
    explore: &Explore,
    planned: Planned,
    head: Head,
    earlier: Vec<Found>,
    mut recorder: Recorder,
    pages: &Pages,
) -> Result<u8, String> {
    interruption::catch()?;
    let is_left = |at: &usize| !earlier.iter().any(|found| found.index == *at);
    let left: Vec<usize> = planned.mine.iter().copied().filter(is_left).collect();
    let tasks = left.iter().map(|at| planned.jobs[*at].clone()).collect();
    let (start, mut all, mut lost) = (Instant::now(), earlier, None);
    runner::run_heeding(tasks, now.search.workers(), &mut Board::new(), |at, job, result| {
        let found = Found::new(left[at], job.clone(), result.clone());
        let written = recorder.found(&found);
        if written.is_err() || now.fail_fast && found.is_bad(explore.require_exhausted) {
            interruption::enough();
        }
        lost = lost.take().or(written.err());
        all.push(found);
    });
    all.sort_by_key(|found| found.index);
    let mut summary = planned.summary(explore, all);
    summary.elapsed = start.elapsed();
    summary.head = Some(head);
    let index = pages.write(&mut summary);
    let code = show(&summary, now.output.format, now.telling.into())?;
    if let Ok(Some(index)) = &index
        && now.output.format == Format::Human
    {
        print(&format!("report: {}\n", checkout::from_here(index).display()))?;
    }
    // What cannot be written takes nothing else along.
    match lost.or(index.err()) {
        Some(sentence) => Err(sentence),
        None => recorder.end(code, summary.unfinished, summary.elapsed).map(|()| code),
    }
}

/// Puts records together.
///
/// # Errors
///
/// One sentence, for records that do not belong together, and for results that cannot be written.
pub(crate) fn merge(Merge { files, output }: &Merge) -> Result<u8, String> {
    let records: Result<Vec<Record>, Unfit> = files.iter().map(|file| Record::read(file)).collect();
    let records = match records {
        Ok(records) => records,
        Err(error) => return unfit(error),
    };
    let elapsed = records.iter().map(|record| record.elapsed).sum();
    let plan = |explore: &Explore| Planned::from(explore).map(|planned| planned.jobs);
    let (head, all) = match record::merged(records, plan) {
        Ok(merged) => merged,
        Err(error) => return unfit(error),
    };
    let mut recorder = Recorder::begin(output, &head)?;
    for found in &all {
        recorder.found(found)?;
    }
    let mut summary = Planned::from(&head.options)?.summary(&head.options, all);
    summary.elapsed = elapsed;
    summary.head = Some(head);
    let code = show(&summary, output.format, Telling::default())?;
    recorder.end(code, 0, elapsed)?;
    Ok(code)
}

fn sabotage_named(name: &str) -> Result<Option<Sabotage>, String> {
    let names = Sabotage::names();
    // What only the machine can break is known by its name.
    let similar = if names.iter().any(|known| known == name) {
        String::new()
    } else {
        did_you_mean(name, &names)
    };
    sabotage::decode(name).map_err(|sentence| sentence + &similar)
}

/// The scenarios that can be run in a world that is broken in this way.
///
/// # Errors
///
/// One sentence, if there are none: they have no such CPU, no such mistake, or no access at such a
/// line.
fn breakable(
    search: &Search,
    mut plans: Vec<Plan>,
    sabotage: Option<Sabotage>,
) -> Result<Vec<Plan>, String> {
    let Some(sabotage) = sabotage else { return Ok(plans) };
    let most = plans.iter().map(|plan| plan.roles.len()).max().unwrap_or(0);
    plans.retain(|plan| plan.roles.len() >= sabotage.cpus_min());
    if plans.is_empty() {
        return Err(sabotage.too_few(most));
    }
    if let Sabotage::Mistake(name) = sabotage {
        let all: Vec<&str> =
            plans.iter().flat_map(|plan| plan.mistakes.iter().map(|(name, _, _)| *name)).collect();
        plans.retain(|plan| plan.mistakes.iter().any(|(known, _, _)| *known == name));
        if plans.is_empty() {
            let similar = did_you_mean(name, &all);
            return Err(format!(
                "no selected scenario has a mistake {name:?}{similar}; --list shows all of them"
            ));
        }
    }
    if let Sabotage::Weakened(Weakening { site, line: Some(line), .. }) = sabotage {
        let line = CoreLine { file: line.file.to_owned(), line: line.line };
        let named = (site.row().name.to_owned(), line);
        let is_there =
            Source::of_core().named.contains(&named) || Covered::by(search, &plans).lists(&named);
        if !is_there {
            return Err(format!(
                "no access of {} is at {}: `model-check sites` lists the lines",
                named.0, named.1
            ));
        }
    }
    Ok(plans)
}

fn show(summary: &Summary, format: Format, telling: Telling) -> Result<u8, String> {
    match format {
        Format::Human => print(&human::text(summary, telling))?,
        Format::Json => print_json(&documents::json(summary))?,
        Format::Junit => print(&documents::junit(summary))?,
        Format::Github => print(&documents::github(summary))?,
        // Every line was written as soon as there was something to tell.
        Format::Jsonl => {}
    }
    Ok(summary.exit())
}

/// Runs the one execution that a token names.
///
/// # Errors
///
/// One sentence, for a bad token, and for results that cannot be written.
pub(crate) fn replay(replay: &Replay) -> Result<u8, String> {
    if replay.format == Format::Jsonl {
        return Err("one execution has no lines to come: use --format json".to_owned());
    }
    let token = match Token::parse(&replay.token) {
        Ok(token) => token,
        Err(error) => return unfit(error),
    };
    interruption::catch()?;
    let job = Job {
        scenario: token.scenario,
        checker: token.checker,
        sabotage: token.sabotage,
        purpose: Purpose::Row,
        stages: vec![token.request()],
    };
    let plans = jobs::selected(&[token.scenario.to_owned()], &[])?;
    let plans = match breakable(&Search::default(), plans, token.sabotage) {
        Ok(plans) => plans,
        Err(sentence) => {
            let foreign = token.of_another_state().map(Unfit::AnotherState);
            return unfit(foreign.unwrap_or(Unfit::Broken(sentence)));
        }
    };
    let start = Instant::now();
    let result = runner::ask(&job, &token.request(), |_| {});
    let leads_there = result.as_ref().is_ok_and(|report| {
        let class = report.failure.as_ref().map(|failure| failure.class);
        class.is_some_and(|class| class != FailureKind::Internal)
    });
    if let Some(sentence) = token.of_another_state().filter(|_| !leads_there) {
        return unfit(Unfit::AnotherState(sentence));
    }
    let given = leads_there.then(|| replay.token.clone());
    let found = Found { index: 0, job, result, token: given, astray: None };
    let mut summary = Summary::of(&plans, token.sabotage, vec![found], &[], false);
    summary.elapsed = start.elapsed();
    Pages::default().write(&mut summary)?;
    let code = show(&summary, replay.format, replay.telling.into())?;
    if code == exit::GOOD && !leads_there {
        complain("this execution does not fail");
    }
    Ok(code)
}
