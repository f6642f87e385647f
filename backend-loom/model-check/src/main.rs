//! The `model-check` command.
//!
//! Every scenario under every engine, each exploration in a child process of its own, on all
//! cores; then the twins, the broken worlds that must be caught. What comes out is one table, and
//! for a failure the one execution that fails, with a command that runs exactly it again.
//!
//! * [`arguments`], [`token`]: what people type;
//! * [`checkers`]: the list of engines, and the collected scenarios;
//! * [`jobs`], [`runner`], [`progress`]: what is explored with which budget, and its running;
//! * [`summary`], [`agreement`]: what came out and what it means, the exit code included;
//! * [`source`], [`coverage`]: the core's text, and which of its lines scenarios execute;
//! * [`sweep`]: every ordering weakened; [`mutants`], [`scratch`]: broken copies of the workspace;
//! * [`races`]: the bugs that shipped, and who finds them; [`sections`], [`messages`]: what documents
//!   say that is written by the command;
//! * [`speed`]: engines side by side; [`skeleton`]: a new scenario;
//! * [`human`], [`columns`], [`documents`], [`listing`]: writing it down.

mod agreement;
mod arguments;
mod checkers;
mod columns;
mod coverage;
mod documents;
mod human;
mod jobs;
mod listing;
mod messages;
mod mutants;
mod progress;
mod races;
mod runner;
mod scratch;
mod sections;
mod skeleton;
mod source;
mod speed;
mod summary;
mod sweep;
mod token;

use std::process::ExitCode;
use std::time::Instant;

use weft_backend_loom::child;
use weft_backend_loom::coverage::CoreLine;
use weft_backend_loom::harness::Plan;
use weft_backend_loom::sabotage;
use weft_scenarios::sabotage::{Sabotage, Weakening};
use weft_shell::arguments::{Form, Format};
use weft_shell::{exit, interruption, print, print_json};

use crate::arguments::{Action, Arguments, Coverage, Explore, Mutants, Replay, Search, Sites};
use crate::coverage::Covered;
use crate::jobs::{Job, Purpose};
use crate::mutants::catalogue::{Catalogue, Mutant};
use crate::progress::Board;
use crate::runner::Done;
use crate::scratch::{Scratch, Workspace};
use crate::source::Source;
use crate::summary::Summary;
use crate::token::Token;

fn main() -> ExitCode {
    weft_shell::run(|Arguments { action, explore }| match action {
        None => checkers::of_this_checkout().and_then(|()| search(&explore)),
        Some(Action::Replay(replay)) => replay_one(&replay),
        Some(Action::Child { scenario, engine }) => answer(&scenario, &engine),
        Some(Action::Measure { program, engine }) => speed::answer(&program, &engine),
        Some(Action::Speed(options)) => speed::compare(&options),
        Some(Action::Sites(options)) => {
            checkers::of_this_checkout().and_then(|()| weaken(&options))
        }
        Some(Action::Mutants(options)) => {
            checkers::of_this_checkout().and_then(|()| mutate(&options))
        }
        Some(Action::Coverage(options)) => {
            checkers::of_this_checkout().and_then(|()| cover(&options))
        }
        Some(Action::Races(options)) => {
            checkers::of_this_checkout().and_then(|()| races::run(&options))
        }
        Some(Action::NewScenario(options)) => skeleton::create(&options),
    })
}

fn start_log(verbose: u8) {
    match verbose {
        0 => {}
        1 => weft_shell::start_log(tracing::Level::INFO),
        _ => weft_shell::start_log(tracing::Level::DEBUG),
    }
}

fn answer(scenario: &str, engine: &str) -> Result<u8, String> {
    let request = child::asked().ok_or("`child` is for model-check itself: leave it out")?;
    let checker = checkers::find(engine).ok_or("the parent asked for an unknown engine")?;
    let prepared = checkers::prepare(scenario).ok_or("the parent asked for an unknown scenario")?;
    let progress = Some(child::progress_to_parent());
    child::answer(&prepared.explore(checker.engine, request, progress))
}

fn search(explore: &Explore) -> Result<u8, String> {
    start_log(explore.search.verbose);
    let selection = explore.selection()?;
    let plans = jobs::select(&explore.search.filters)?;
    if explore.list {
        match explore.format.of_list()? {
            Form::Human => print(&listing::text(&plans))?,
            Form::Json => print_json(&listing::json(&plans))?,
        }
        return Ok(exit::GOOD);
    }
    let sabotage = explore.sabotage.as_deref().map(sabotage::decode).transpose()?.flatten();
    let plans = breakable(&explore.search, plans, sabotage)?;
    let jobs = jobs::plan(explore, &selection, &plans, sabotage)?;
    let expected = jobs.len();
    interruption::catch()?;
    let start = Instant::now();
    let mut board = Board::new();
    let done = runner::run(jobs, explore.search.workers(), &mut board);
    let mut summary = Summary::of(&plans, sabotage, done, expected, explore.require_exhausted);
    summary.elapsed = start.elapsed();
    show(&summary, explore.format)
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
            let similar = weft_shell::select::did_you_mean(name, &all);
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

fn show(summary: &Summary, format: Format) -> Result<u8, String> {
    match format {
        Format::Human => print(&human::text(summary))?,
        Format::Json => print_json(&documents::json(summary))?,
        Format::Junit => print(&documents::junit(summary))?,
    }
    Ok(summary.exit())
}

/// Weakens every site.
fn weaken(options: &Sites) -> Result<u8, String> {
    start_log(options.search.verbose);
    let selection = options.search.selection()?;
    if !selection.checkers.iter().any(|checker| checker.traits().controls_schedule) {
        return Err("no selected engine controls the schedule: add --engine explorer".to_owned());
    }
    interruption::catch()?;
    weaken_in(&options.search, options.format, &[])
}

/// Weakens the sites whose names contain one of `names`, or all of them.
fn weaken_in(search: &Search, form: Form, names: &[String]) -> Result<u8, String> {
    let selection = search.selection()?;
    let plans = jobs::select(&search.filters)?;
    let wanted = |site: &str| {
        names.is_empty() || names.iter().any(|name| site.contains(&name.to_uppercase()))
    };
    let sweep = sweep::sweep(search, &selection, &plans, wanted);
    match form {
        Form::Human => print(&sweep.text())?,
        Form::Json => print_json(&sweep.json())?,
    }
    Ok(sweep.exit())
}

/// Lists what scenarios execute of the core.
fn cover(options: &Coverage) -> Result<u8, String> {
    let search = Search { jobs: options.jobs, ..Search::default() };
    interruption::catch()?;
    let covered = Covered::by(&search, &jobs::select(&[])?);
    let source = Source::of_core();
    match options.format {
        Form::Human => print(&covered.text(&source))?,
        Form::Json => print_json(&covered.json(&source))?,
    }
    Ok(covered.exit(&source))
}

/// Tries the mutants on file, then the sites.
fn mutate(options: &Mutants) -> Result<u8, String> {
    start_log(options.verbose);
    let workspace = Workspace::read()?;
    let catalogue = Catalogue::read(&workspace)?;
    let selected = if options.sites { Vec::new() } else { catalogue.select(&options.filters) };
    if options.list {
        let line = |index: &usize| Mutant::line(&catalogue.mutants[*index]);
        print(&selected.iter().map(line).collect::<String>())?;
        return Ok(exit::GOOD);
    }
    let is_site = |filter: &String| {
        let name = filter.to_uppercase();
        weft_core::sites::ALL.iter().any(|site| site.row().name.contains(&name))
    };
    let with_sites =
        !options.no_sites && (options.filters.is_empty() || options.filters.iter().any(is_site));
    if selected.is_empty() && !with_sites {
        return Err("no mutant and no site is selected: see model-check mutants --list".to_owned());
    }
    interruption::catch()?;
    let search = Search::default();
    let mut codes = Vec::new();
    if !selected.is_empty() {
        let scratch = Scratch::open(&workspace)?;
        let results = mutants::run(&scratch, &catalogue, &selected, search.workers())?;
        print(&results.text())?;
        codes.push(results.exit());
    }
    if with_sites && !interruption::is_here() {
        print("\n")?;
        codes.push(weaken_in(&search, Form::Human, &options.filters)?);
    }
    Ok(exit::worst(&codes))
}

fn replay_one(replay: &Replay) -> Result<u8, String> {
    let token = Token::parse(&replay.token)?;
    interruption::catch()?;
    let job = Job {
        scenario: token.scenario,
        checker: token.checker,
        sabotage: token.sabotage,
        purpose: Purpose::Row,
        stages: vec![token.request()],
    };
    let plans = jobs::select(&[token.scenario.to_owned()])?;
    let plans = breakable(&Search::default(), plans, token.sabotage)?;
    let result = runner::ask(&job, &token.request(), |_| {});
    let start = Instant::now();
    let failed = result.as_ref().is_ok_and(|report| report.failure.is_some());
    let mut summary = Summary::of(&plans, token.sabotage, vec![Done { job, result }], 1, false);
    summary.elapsed = start.elapsed();
    let code = show(&summary, replay.format)?;
    if code == exit::GOOD && !failed {
        weft_shell::complain(
            "this execution does not fail: the code has changed, or the fault is gone",
        );
    }
    Ok(code)
}
