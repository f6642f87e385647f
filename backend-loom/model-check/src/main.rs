//! The `model-check` command.
//!
//! Every scenario under every engine, each exploration in a child process of its own, on all
//! cores; then the twins, the broken worlds that must be caught. What comes out is one table, and
//! for a failure the one execution that fails, with a command that runs exactly it again.
//!
//! * [`arguments`], [`token`]: what people type;
//! * [`checkers`]: the list of engines, and the collected scenarios;
//! * [`explore`]: a run from its options to its results; [`record`]: what it leaves on file, and
//!   [`state`], the code that it is about;
//! * [`jobs`], [`runner`], [`progress`]: what is explored with which budget, and its running;
//! * [`summary`], [`agreement`]: what came out and what it means, the exit code included;
//! * [`source`], [`coverage`]: the core's text, and which of its lines scenarios execute;
//! * [`sweep`]: every ordering weakened; [`mutants`], [`scratch`]: broken copies of the workspace;
//! * [`races`]: the bugs that shipped, and who finds them; [`sections`], [`messages`]: what
//!   documents say that is written by the command;
//! * [`speed`]: engines side by side; [`skeleton`]: a new scenario;
//! * [`human`], [`columns`], [`explain`], [`documents`], [`page`], [`listing`]: writing it down.

mod agreement;
mod arguments;
mod checkers;
mod columns;
mod coverage;
mod documents;
mod explain;
mod explore;
mod human;
mod jobs;
mod listing;
mod messages;
mod mutants;
mod page;
mod progress;
mod races;
mod record;
mod runner;
mod scratch;
mod sections;
mod skeleton;
mod source;
mod speed;
mod state;
mod summary;
mod sweep;
mod token;

use std::process::ExitCode;

use weft_backend_loom::child;
use weft_core::sites::{ALL, AnySite};
use weft_shell::arguments::Form;
use weft_shell::select::{did_you_mean, select};
use weft_shell::{exit, interruption, print, print_json};

use crate::arguments::{Action, Arguments, Coverage, Mutants, Search, Sites};
use crate::coverage::Covered;
use crate::mutants::catalogue::{Catalogue, Mutant};
use crate::scratch::{Scratch, Workspace};
use crate::source::Source;

fn main() -> ExitCode {
    weft_shell::run(|Arguments { action, explore }| match action {
        None => {
            start_log(explore.search.verbose)?;
            checkers::of_this_checkout().and_then(|()| explore::explore(&explore))
        }
        Some(Action::Replay(replay)) => explore::replay(&replay),
        Some(Action::Merge(files)) => explore::merge(&files),
        Some(Action::About(about)) => about.tell::<Arguments>(),
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

fn start_log(verbose: u8) -> Result<(), String> {
    weft_shell::start_log(match verbose {
        0 => tracing::Level::ERROR,
        1 => tracing::Level::INFO,
        _ => tracing::Level::DEBUG,
    })
}

fn answer(scenario: &str, engine: &str) -> Result<u8, String> {
    let request = child::asked().ok_or("`child` is for model-check itself: leave it out")?;
    let checker = checkers::find(engine).ok_or("the parent asked for an unknown engine")?;
    let prepared = checkers::prepare(scenario).ok_or("the parent asked for an unknown scenario")?;
    let progress = Some(child::progress_to_parent());
    let mut report = prepared.explore(checker.engine, request, progress);
    checkers::seen_from_the_root(&mut report);
    child::answer(&report)
}

/// Weakens every site, or lists them.
fn weaken(options: &Sites) -> Result<u8, String> {
    start_log(options.search.verbose)?;
    let wanted = sites_among(&options.site)?;
    if options.list {
        match options.format {
            Form::Human => print(&listing::sites_text(&wanted))?,
            Form::Json => print_json(&listing::sites_json(&wanted))?,
        }
        return Ok(exit::GOOD);
    }
    let selection = options.search.selection()?;
    if !selection.checkers.iter().any(|checker| checker.traits().controls_schedule) {
        return Err("no selected engine controls the schedule: add --engine explorer".to_owned());
    }
    interruption::catch()?;
    weaken_in(&options.search, options.format, &wanted)
}

/// The sites that filters select, all of them if there are none.
fn sites_among(filters: &[String]) -> Result<Vec<AnySite>, String> {
    let filters: Vec<String> = filters.iter().map(|filter| filter.to_uppercase()).collect();
    let names: Vec<&str> = ALL.iter().map(|site| site.row().name).collect();
    let selected = select("site", "sites --list", &names, (&filters, &[]), |_| false)?;
    Ok(ALL.iter().zip(selected).filter_map(|(site, selected)| selected.then_some(*site)).collect())
}

/// Weakens these sites.
fn weaken_in(search: &Search, form: Form, sites: &[AnySite]) -> Result<u8, String> {
    let selection = search.selection()?;
    let plans = jobs::selected(&search.filters, &search.skip)?;
    let sweep = sweep::sweep(search, &selection, &plans, sites);
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
    let covered = Covered::by(&search, &jobs::selected(&[], &[])?);
    let source = Source::of_core();
    match options.format {
        Form::Human => print(&covered.text(&source))?,
        Form::Json => print_json(&covered.json(&source))?,
    }
    Ok(covered.exit(&source))
}

/// Tries the mutants on file, then the sites.
fn mutate(options: &Mutants) -> Result<u8, String> {
    start_log(options.verbose)?;
    let workspace = Workspace::read()?;
    let catalogue = Catalogue::read(&workspace)?;
    let selected = if options.sites { Vec::new() } else { catalogue.select(&options.filters) };
    // A filter may be about mutants, about sites, or both; one that is about neither is a slip.
    let mut sites = if options.filters.is_empty() { ALL.to_vec() } else { Vec::new() };
    for filter in &options.filters {
        match sites_among(std::slice::from_ref(filter)) {
            Ok(more) if !options.no_sites => sites.extend(more),
            Err(_) if catalogue.select(std::slice::from_ref(filter)).is_empty() => {
                let names: Vec<&str> =
                    catalogue.mutants.iter().map(|it| it.name.as_str()).collect();
                let names = [names, ALL.iter().map(|site| site.row().name).collect()].concat();
                let similar = did_you_mean(filter, &names);
                return Err(format!(
                    "no mutant and no site fits {filter:?}{similar}: see `mutants --list` and \
                     `sites --list`"
                ));
            }
            _ => {}
        }
    }
    if options.list {
        let line = |index: &usize| Mutant::line(&catalogue.mutants[*index]);
        print(&selected.iter().map(line).collect::<String>())?;
        return Ok(exit::GOOD);
    }
    if options.no_sites {
        sites.clear();
    }
    if selected.is_empty() && sites.is_empty() {
        return Err("no mutant and no site is selected: see `mutants --list`".to_owned());
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
    if !sites.is_empty() && !interruption::is_here() {
        print("\n")?;
        codes.push(weaken_in(&search, Form::Human, &sites)?);
    }
    Ok(exit::worst(&codes))
}
