//! The command behind `just qemu`: every scenario on a machine of its own, then broken worlds.
//!
//! [`arguments`] is what people type, [`catalogue`] what there is; the rest is in the library.

mod arguments;
mod catalogue;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use weft_qemu_runner::host::{self, Accelerator, Qemu};
use weft_qemu_runner::machine::{self, Settings};
use weft_qemu_runner::models::{self, Models};
use weft_qemu_runner::protocol::argument;
use weft_qemu_runner::summary::{Row, Summary, Twin};
use weft_qemu_runner::verdict::{self, Failure, Request, Verdict};
use weft_qemu_runner::{documents, image, symbols, table};
use weft_scenarios::sabotage::Sabotage;
use weft_shell::arguments::{Form, Format};
use weft_shell::{exit, interruption, print, print_json};

use crate::arguments::{Accel, Arguments};
use crate::catalogue::{Known, KnownTwin};

/// How much more often than a whole world a broken one is tried.
const TWIN_REPEAT_FACTOR: u64 = 5;

fn main() -> ExitCode {
    weft_shell::run(|arguments: Arguments| {
        let level = if arguments.verbose { tracing::Level::DEBUG } else { tracing::Level::WARN };
        weft_shell::start_log(level);
        qemu(&arguments)
    })
}

/// What stays the same from machine to machine.
struct Bench {
    qemu: Qemu,
    image: PathBuf,
    settings: Settings,
}

fn qemu(arguments: &Arguments) -> Result<u8, String> {
    if arguments.build {
        print(&format!("{}\n", image::build()?.display()))?;
        return Ok(exit::GOOD);
    }
    let listed = arguments.list.then(|| arguments.format.of_list()).transpose()?;
    let bench = bench(arguments)?;
    let run = machine::run(&bench.qemu, &bench.image, &bench.settings, argument::LIST)?;
    let known = catalogue::of(run)?;
    if let Some(form) = listed {
        match form {
            Form::Json => print_json(&catalogue::json(&known))?,
            Form::Human => print(&catalogue::text(&known))?,
        }
        return Ok(exit::GOOD);
    }
    let selected = catalogue::select(&known, &arguments.filters)?;
    let selected = breakable(selected, arguments.sabotage)?;
    let most = selected.iter().map(|known| known.roles).max().unwrap_or(0);
    if u64::from(arguments.cpus) < most {
        return Err(format!(
            "--cpus {} is too few: the scenarios selected have up to {most} roles",
            arguments.cpus
        ));
    }
    let summary = run_all(&bench, arguments, &selected)?;
    match arguments.format {
        Format::Human => print(&table::of(&summary, arguments.counts, arguments.deterministic))?,
        Format::Json => print_json(&documents::json(&summary))?,
        Format::Junit => print(&documents::junit(&summary))?,
    }
    Ok(summary.exit())
}

/// What can be run in a world that is broken in this way.
///
/// # Errors
///
/// One sentence, if it is nothing: no scenario has such a CPU, or such a mistake.
fn breakable(selected: Vec<Known>, sabotage: Option<Sabotage>) -> Result<Vec<Known>, String> {
    let Some(sabotage) = sabotage else { return Ok(selected) };
    if let Sabotage::Mistake(_) = sabotage {
        let name = sabotage.to_string();
        return catalogue::with_mistake(&selected, &name);
    }
    let roles = |known: &Known| usize::try_from(known.roles).unwrap_or(usize::MAX);
    let most = selected.iter().map(roles).max().unwrap_or(0);
    let able: Vec<Known> =
        selected.into_iter().filter(|known| roles(known) >= sabotage.cpus_min()).collect();
    if able.is_empty() { Err(sabotage.too_few(most)) } else { Ok(able) }
}

fn bench(arguments: &Arguments) -> Result<Bench, String> {
    let qemu = host::find_qemu()?;
    let image = match &arguments.image {
        Some(image) if image.is_file() => image.clone(),
        Some(image) => return Err(format!("there is no image {}", image.display())),
        None => image::build()?,
    };
    let cpus = usize::from(arguments.cpus);
    let accelerator = match arguments.accel {
        Accel::Kvm => Accelerator::Kvm,
        Accel::Tcg if arguments.deterministic => Accelerator::Counted,
        Accel::Tcg => Accelerator::fitting(cpus),
    };
    if accelerator == Accelerator::Kvm {
        host::probe_kvm(&qemu, &image)?;
    }
    let patience = Duration::from_secs(arguments.timeout);
    let settings = Settings { cpus, accelerator, patience, ..Settings::default() };
    Ok(Bench { qemu, image, settings })
}

/// Runs everything, whole worlds first, until all is done or we are interrupted.
fn run_all(bench: &Bench, arguments: &Arguments, selected: &[Known]) -> Result<Summary, String> {
    let started = Instant::now();
    let with_twins = !arguments.no_twins && arguments.sabotage.is_none();
    let twins: Vec<_> = selected
        .iter()
        .flat_map(|known| known.twins.iter().map(move |twin| (known, twin)))
        .filter(|_| with_twins)
        .collect();
    interruption::catch()?;
    let bar = progress_bar(selected.len() + twins.len());
    let mut summary = Summary {
        rows: Vec::new(),
        twins: Vec::new(),
        qemu: bench.qemu.version.clone(),
        accelerator: bench.settings.accelerator,
        cpus: bench.settings.cpus,
        seed: arguments.seed,
        sabotage: arguments.sabotage,
        demand: arguments.demand,
        models: Models::default(),
        unfinished: Vec::new(),
        elapsed: Duration::ZERO,
    };
    // What was running when an interruption came is not a result.
    for known in selected {
        bar.set_message(known.name.clone());
        let row = (!interruption::is_here()).then(|| run_one(bench, arguments, known));
        match row {
            Some(row) if !interruption::is_here() => summary.rows.push(row),
            _ => summary.unfinished.push(known.name.clone()),
        }
        bar.inc(1);
    }
    for (known, twin) in twins {
        let title = format!("{} with {}", known.name, twin.sabotage);
        bar.set_message(title.clone());
        let result = (!interruption::is_here()).then(|| run_twin(bench, arguments, known, twin));
        match result {
            Some(result) if !interruption::is_here() => summary.twins.push(result),
            _ => summary.unfinished.push(title),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    summary.elapsed = started.elapsed();
    if !arguments.no_models && !interruption::is_here() {
        let command = arguments.model_check.as_deref();
        summary.models = models::ask(&mut summary.rows, command, arguments.sabotage);
    }
    Ok(summary)
}

fn progress_bar(length: usize) -> ProgressBar {
    let bar = ProgressBar::new(length as u64);
    let style = ProgressStyle::with_template("{spinner} {pos}/{len} {elapsed} {msg}");
    bar.set_style(style.expect("the template is well formed"));
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// Boots one machine, and gives the verdict and a command that does so again.
fn boot(
    bench: &Bench,
    settings: &Settings,
    seed: u64,
    known: &Known,
    repeat: u64,
    sabotage: Option<&str>,
) -> (Request, Verdict, String) {
    let repetitions = if known.self_test { 1 } else { repeat };
    let request = Request { name: known.name.clone(), repetitions };
    let what = if known.self_test { argument::SELF_TEST } else { argument::SCENARIO };
    let mut command_line = format!("{what}={}", request.name);
    for (key, value) in [(argument::REPEAT, repetitions), (argument::SEED, seed)] {
        command_line += &format!(" {key}={value}");
    }
    let mut again = format!("just qemu {} --cpus {}", request.name, settings.cpus);
    again += &format!(" --repeat {repetitions} --seed {seed}");
    if settings.accelerator == Accelerator::Counted {
        again += " --deterministic";
    }
    if let Some(sabotage) = sabotage {
        command_line += &format!(" {}={sabotage}", argument::SABOTAGE);
        again += &format!(" --sabotage {sabotage}");
    }
    let verdict = match machine::run(&bench.qemu, &bench.image, settings, &command_line) {
        Ok(run) => verdict::of(&request, &run),
        Err(sentence) => Verdict::without_run(sentence),
    };
    (request, verdict, again)
}

fn run_one(bench: &Bench, arguments: &Arguments, known: &Known) -> Row {
    let sabotage = arguments.sabotage.map(|sabotage| sabotage.to_string());
    let sabotage = sabotage.as_deref();
    let (request, verdict, again) =
        boot(bench, &bench.settings, arguments.seed, known, arguments.repeat, sabotage);
    let places = places(&bench.image, verdict.failure.as_ref());
    Row { request, self_test: known.self_test, verdict, places, again }
}

/// Boots a broken world. It is tried more often than a whole one, since it ends at the first
/// failure; and as reproducibly as possible, so that a world that is noticed today is tomorrow.
fn run_twin(bench: &Bench, arguments: &Arguments, known: &Known, twin: &KnownTwin) -> Twin {
    let settings = Settings { accelerator: Accelerator::Counted, ..bench.settings.clone() };
    let repeat = arguments.repeat.saturating_mul(TWIN_REPEAT_FACTOR);
    let sabotage = Some(twin.sabotage.as_str());
    let (request, verdict, again) = boot(bench, &settings, arguments.seed, known, repeat, sabotage);
    Twin {
        name: request.name,
        sabotage: twin.sabotage.clone(),
        messages: twin.messages.clone(),
        verdict,
        again,
    }
}

/// Where processors were when it went wrong, in words.
fn places(image: &Path, failure: Option<&Failure>) -> Vec<String> {
    let lines = |names: Vec<String>| names.join("\n    in ");
    match failure {
        Some(Failure::Hang(places)) => {
            let describe = |place: &verdict::Place| {
                let interrupts = if place.interruptible { "on" } else { "off" };
                let names = lines(symbols::names(image, place.rip));
                format!("processor {}, interrupts {interrupts}: {names}", place.cpu)
            };
            places.iter().map(describe).collect()
        }
        Some(Failure::Violation { message, .. }) => {
            let names = symbols::names_in(image, message);
            if names.is_empty() { Vec::new() } else { vec![format!("in {}", lines(names))] }
        }
        _ => Vec::new(),
    }
}
