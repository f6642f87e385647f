//! The `model-check` command.
//!
//! Every scenario under every engine, each exploration in a child process of its own, on all
//! cores; then the twins, the broken worlds that must be caught. What comes out is one table, and
//! for a failure the one execution that fails, with a command that runs exactly it again.
//!
//! * [`arguments`], [`token`]: what people type;
//! * [`checkers`]: the list of engines, and the collected scenarios;
//! * [`checkout`]: where the files are that are read and written;
//! * [`jobs`], [`runner`], [`progress`]: what is explored with which budget, and its running;
//! * [`summary`], [`agreement`]: what came out and what it means, the exit code included;
//! * [`source`], [`coverage`]: the core's text, and what of it scenarios execute;
//! * [`sweep`]: every ordering weakened; [`mutants`], [`scratch`]: broken copies of the workspace;
//! * [`speed`]: engines side by side; [`skeleton`]: a new scenario;
//! * [`human`], [`columns`], [`documents`], [`listing`]: writing it down.

mod agreement;
mod arguments;
mod checkers;
#[path = "../../../scenarios/checkout.rs"]
mod checkout;
mod columns;
mod coverage;
mod documents;
mod human;
mod jobs;
mod listing;
mod mutants;
mod progress;
mod runner;
mod scratch;
mod skeleton;
mod source;
mod speed;
mod summary;
mod sweep;
mod token;

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Instant;

use clap::Parser as _;
use clap::error::ErrorKind;
use weft_backend_loom::child;
use weft_backend_loom::coverage::CoreLine;
use weft_backend_loom::harness::Plan;
use weft_backend_loom::sabotage;
use weft_scenarios::sabotage::{Sabotage, Weakening};

use crate::arguments::{Action, Arguments, Coverage, Explore, Format, Mutants, Replay};
use crate::coverage::Covered;
use crate::jobs::{Job, Purpose};
use crate::mutants::catalogue::{Catalogue, Mutant};
use crate::progress::Board;
use crate::runner::Done;
use crate::scratch::{Scratch, Workspace};
use crate::source::Source;
use crate::summary::{Summary, exit};
use crate::token::Token;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return refused(&error),
    };
    let result = match arguments.action {
        None => checkers::of_this_checkout().and_then(|()| explore(&arguments.explore)),
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
        Some(Action::NewScenario(options)) => skeleton::create(&options),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(sentence) => {
            complain(&sentence);
            ExitCode::from(exit::INTERNAL)
        }
    }
}

/// Help and version are results; everything else is one sentence and exit code 4.
fn refused(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return match print(&error.to_string()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(sentence) => {
                complain(&sentence);
                ExitCode::from(exit::INTERNAL)
            }
        };
    }
    let text = error.to_string();
    // The first paragraph says what is wrong; the others repeat what --help says.
    let first = text.lines().take_while(|line| !line.is_empty()).map(str::trim);
    let first = first.collect::<Vec<_>>().join(" ");
    let first = first.trim_start_matches("error: ");
    let tips = text.lines().filter_map(|line| line.trim_start().strip_prefix("tip: "));
    let tips: String = tips.map(|tip| format!("; {tip}")).collect();
    complain(&format!("{first}{tips}; --help shows what there is"));
    ExitCode::from(exit::INTERNAL)
}

/// Writes a sentence for the user to the standard error stream.
pub(crate) fn complain(sentence: &str) {
    // If nobody reads it, the exit code still says it.
    let _ = writeln!(io::stderr(), "model-check: {sentence}");
}

/// Writes a result. A reader that went away has had enough, which is a quiet end.
///
/// # Errors
///
/// One sentence, if the result cannot be written.
pub(crate) fn print(text: &str) -> Result<(), String> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(format!("cannot write the results: {error}"))
        }
        _ => Ok(()),
    }
}

fn start_log(verbose: u8) {
    let level = match verbose {
        0 => return,
        1 => tracing::Level::INFO,
        _ => tracing::Level::DEBUG,
    };
    let log = tracing_subscriber::fmt().with_max_level(level).with_writer(io::stderr);
    log.with_ansi(console::colors_enabled_stderr()).with_target(false).init();
}

/// From now on an interruption ends the children, and what has finished is still shown.
fn catch_interruptions() -> Result<(), String> {
    ctrlc::set_handler(|| runner::INTERRUPTED.store(true, Ordering::Relaxed))
        .map_err(|error| format!("cannot prepare for interruptions: {error}"))
}

fn answer(scenario: &str, engine: &str) -> Result<u8, String> {
    let request = child::asked().ok_or("`child` is for model-check itself: leave it out")?;
    let checker = checkers::find(engine).ok_or("the parent asked for an unknown engine")?;
    let prepared = checkers::prepare(scenario).ok_or("the parent asked for an unknown scenario")?;
    let progress = Some(child::progress_to_parent());
    child::answer(&prepared.explore(checker.engine, request, progress))
}

fn explore(explore: &Explore) -> Result<u8, String> {
    start_log(explore.verbose);
    let selection = explore.selection()?;
    let plans = jobs::select(&explore.filters)?;
    if explore.list {
        let text = match explore.format {
            Format::Human => listing::text(&plans),
            Format::Json => format!("{:#}\n", listing::json(&plans)),
            Format::Junit => return Err("--list has no JUnit form: use human or json".to_owned()),
        };
        print(&text)?;
        return Ok(exit::GOOD);
    }
    let sabotage = explore.sabotage.as_deref().map(sabotage::decode).transpose()?.flatten();
    let plans = breakable(explore, plans, sabotage)?;
    let jobs = jobs::plan(explore, &selection, &plans, sabotage)?;
    let expected = jobs.len();
    catch_interruptions()?;
    let start = Instant::now();
    let mut board = Board::new();
    let done = runner::run(jobs, explore.workers(), &mut board);
    let mut summary = Summary::of(&plans, sabotage, done, expected, explore.require_exhausted);
    summary.elapsed = start.elapsed();
    show(&summary, explore.format)
}

/// The scenarios that can be run in a world that is broken in this way.
///
/// # Errors
///
/// One sentence, if there are none: they have no such CPU, or no access at such a line.
fn breakable(
    explore: &Explore,
    mut plans: Vec<Plan>,
    sabotage: Option<Sabotage>,
) -> Result<Vec<Plan>, String> {
    let Some(sabotage) = sabotage else { return Ok(plans) };
    let most = plans.iter().map(|plan| plan.roles.len()).max().unwrap_or(0);
    plans.retain(|plan| plan.roles.len() >= sabotage.cpus_min());
    if plans.is_empty() {
        return Err(sabotage.too_few(most));
    }
    if let Sabotage::Weakened(Weakening { site, line: Some(line), .. }) = sabotage {
        let line = CoreLine { file: line.file.to_owned(), line: line.line };
        let named = (site.row().name.to_owned(), line);
        let is_there =
            Source::of_core().named.contains(&named) || Covered::by(explore, &plans).lists(&named);
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
    print(&match format {
        Format::Human => human::text(summary),
        Format::Json => format!("{:#}\n", documents::json(summary)),
        Format::Junit => documents::junit(summary),
    })?;
    Ok(summary.exit())
}

/// Weakens every site.
fn weaken(explore: &Explore) -> Result<u8, String> {
    start_log(explore.verbose);
    let selection = explore.selection()?;
    if !selection.checkers.iter().any(|checker| checker.traits().controls_schedule) {
        return Err("no selected engine controls the schedule: add --engine explorer".to_owned());
    }
    for (is_set, flag) in [
        (explore.list, "--list"),
        (explore.sabotage.is_some(), "--sabotage"),
        (explore.no_twins, "--no-twins"),
        (explore.require_exhausted, "--require-exhausted"),
        (explore.format == Format::Junit, "--format junit"),
    ] {
        if is_set {
            return Err(format!("{flag} means nothing where sites are weakened: leave it out"));
        }
    }
    catch_interruptions()?;
    weaken_in(explore, &[])
}

/// Weakens the sites whose names contain one of `names`, or all of them.
fn weaken_in(explore: &Explore, names: &[String]) -> Result<u8, String> {
    let selection = explore.selection()?;
    let plans = jobs::select(&explore.filters)?;
    let wanted = |site: &str| {
        names.is_empty() || names.iter().any(|name| site.contains(&name.to_uppercase()))
    };
    let sweep = sweep::sweep(explore, &selection, &plans, wanted);
    print(&match explore.format {
        Format::Json => format!("{:#}\n", sweep.json()),
        Format::Human | Format::Junit => sweep.text(),
    })?;
    Ok(sweep.exit())
}

/// Lists what scenarios execute of the core.
fn cover(options: &Coverage) -> Result<u8, String> {
    let explore = Explore { jobs: options.jobs, ..Explore::default() };
    catch_interruptions()?;
    let covered = Covered::by(&explore, &jobs::select(&[])?);
    let source = Source::of_core();
    print(&match options.format {
        Format::Human => covered.text(&source),
        Format::Json => format!("{:#}\n", covered.json(&source)),
        Format::Junit => return Err("coverage has no JUnit form: use human or json".to_owned()),
    })?;
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
    catch_interruptions()?;
    let explore = Explore::default();
    let mut codes = Vec::new();
    if !selected.is_empty() {
        let scratch = Scratch::open(&workspace)?;
        let results = mutants::run(&scratch, &catalogue, &selected, explore.workers())?;
        print(&results.text())?;
        codes.push(results.exit());
    }
    if with_sites && !runner::interrupted() {
        print("\n")?;
        codes.push(weaken_in(&explore, &options.filters)?);
    }
    Ok(worst(&codes))
}

/// The code of which the user must hear first.
fn worst(codes: &[u8]) -> u8 {
    let order = [exit::INTERRUPTED, exit::INTERNAL, exit::VIOLATION, exit::MISSING, exit::BOUNDED];
    order.into_iter().find(|code| codes.contains(code)).unwrap_or(exit::GOOD)
}

fn replay_one(replay: &Replay) -> Result<u8, String> {
    let token = Token::parse(&replay.token)?;
    catch_interruptions()?;
    let job = Job {
        scenario: token.scenario,
        checker: token.checker,
        sabotage: token.sabotage,
        purpose: Purpose::Row,
        stages: vec![token.request()],
    };
    let plans = jobs::select(&[token.scenario.to_owned()])?;
    let plans = breakable(&Explore::default(), plans, token.sabotage)?;
    let result = runner::ask(&job, &token.request(), |_| {});
    let start = Instant::now();
    let failed = result.as_ref().is_ok_and(|report| report.failure.is_some());
    let mut summary = Summary::of(&plans, token.sabotage, vec![Done { job, result }], 1, false);
    summary.elapsed = start.elapsed();
    let code = show(&summary, replay.format)?;
    if code == exit::GOOD && !failed {
        complain("this execution does not fail: the code has changed, or the fault is gone");
    }
    Ok(code)
}
