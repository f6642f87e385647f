//! The command behind `just qemu`: every scenario on a machine of its own.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::error::ErrorKind;
use clap::{Parser, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use weft_qemu_runner::host::{self, Accelerator, Qemu};
use weft_qemu_runner::machine::{self, Ending, Settings};
use weft_qemu_runner::protocol::{Line, argument};
use weft_qemu_runner::summary::{Row, Summary, exit};
use weft_qemu_runner::verdict::{self, Failure, Request, Verdict};
use weft_qemu_runner::{documents, image, symbols, table};

/// Self-tests whose names begin so are to pass.
const GOOD: &str = "good-";

/// Boots the kernel under QEMU, once for every scenario, and says how it went.
///
/// Exit codes: 0 good; 1 a scenario failed; 2 something that --demand demands was not seen; 4 usage
/// or internal error; 3, of `model-check`, does not occur.
#[derive(Debug, Parser)]
#[command(name = "qemu", version)]
struct Arguments {
    /// Parts of names of scenarios, or of the kernel's own tests; a whole name selects only that.
    #[arg(value_name = "FILTER")]
    filters: Vec<String>,
    /// How many processors each machine has.
    #[arg(long, value_name = "N", default_value_t = 4,
        value_parser = clap::value_parser!(u8).range(1..=16))]
    cpus: u8,
    /// How often a scenario is repeated.
    #[arg(long, value_name = "N", default_value_t = 1000,
        value_parser = clap::value_parser!(u64).range(1..))]
    repeat: u64,
    /// What runs the processors.
    #[arg(long, value_enum, default_value_t = Accel::Tcg)]
    accel: Accel,
    /// The seed of delays, rotation and preemption.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// How results are written.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
    /// List the scenarios and the kernel's own tests instead.
    #[arg(long)]
    list: bool,
    /// Run processors in turn and count instructions, so that one seed is one run, to the last
    /// byte; a fingerprint of what the kernels wrote is printed.
    #[arg(long, conflicts_with = "accel")]
    deterministic: bool,
    /// Demand that every situation and every interesting outcome is seen.
    #[arg(long)]
    demand: bool,
    /// Seconds after which a machine counts as hung.
    #[arg(long, value_name = "SECONDS", default_value_t = 60,
        value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    /// Break the world: no-shootdown, freed-at-once, forgotten-cpu-N.
    #[arg(long, value_name = "HOW", value_parser = sabotage)]
    sabotage: Option<String>,
    /// Show what the kernels log.
    #[arg(short, long)]
    verbose: bool,
}

/// What runs the processors.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Accel {
    /// Translation: on any host.
    Tcg,
    /// The host's processor, if a probe boot shows that it can.
    Kvm,
}

/// Ways to write results.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Format {
    /// A table.
    Human,
    /// One document.
    Json,
    /// One document, as test servers take it.
    Junit,
}

fn sabotage(text: &str) -> Result<String, String> {
    let forgotten = text.strip_prefix("forgotten-cpu-").map(str::parse::<u8>);
    if matches!(text, "no-shootdown" | "freed-at-once") || matches!(forgotten, Some(Ok(_))) {
        Ok(text.to_owned())
    } else {
        Err("use no-shootdown, freed-at-once or forgotten-cpu-<n>".to_owned())
    }
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return refused(&error),
    };
    let level = if arguments.verbose { tracing::Level::DEBUG } else { tracing::Level::WARN };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .without_time()
        .init();
    match qemu(&arguments) {
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
        print(&error.to_string());
        return ExitCode::SUCCESS;
    }
    let text = error.to_string();
    let first = text.lines().take_while(|line| !line.is_empty()).map(str::trim);
    let first = first.collect::<Vec<_>>().join(" ");
    complain(&format!("{}; --help shows what there is", first.trim_start_matches("error: ")));
    ExitCode::from(exit::INTERNAL)
}

/// Writes a sentence for the user to the standard error stream.
fn complain(sentence: &str) {
    // If nobody reads it, the exit code still says it.
    let _ = writeln!(io::stderr(), "qemu: {sentence}");
}

/// Writes a result. A reader that went away has had enough.
fn print(text: &str) {
    let _ = io::stdout().lock().write_all(text.as_bytes());
}

/// Something to run.
#[derive(Clone, Debug)]
struct Known {
    name: String,
    title: String,
    roles: u64,
    self_test: bool,
}

/// What stays the same from machine to machine.
struct Bench {
    qemu: Qemu,
    image: PathBuf,
    settings: Settings,
}

fn qemu(arguments: &Arguments) -> Result<u8, String> {
    let bench = bench(arguments)?;
    let known = known(&bench)?;
    if arguments.list {
        list(&known, arguments.format);
        return Ok(exit::GOOD);
    }
    let selected = select(&known, &arguments.filters)?;
    let most = selected.iter().map(|known| known.roles).max().unwrap_or(0);
    if u64::from(arguments.cpus) < most {
        return Err(format!(
            "--cpus {} is too few: the scenarios selected have up to {most} roles",
            arguments.cpus
        ));
    }
    let summary = run_all(&bench, arguments, &selected)?;
    match arguments.format {
        Format::Human => print(&table::of(&summary, arguments.deterministic)),
        Format::Json => print(&format!("{:#}\n", documents::json(&summary))),
        Format::Junit => print(&format!("{}\n", documents::junit(&summary))),
    }
    Ok(summary.exit())
}

fn bench(arguments: &Arguments) -> Result<Bench, String> {
    let qemu = host::find_qemu()?;
    let image = image::build()?;
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

/// Asks the kernel what there is to run.
fn known(bench: &Bench) -> Result<Vec<Known>, String> {
    let run = machine::run(&bench.qemu, &bench.image, &bench.settings, argument::LIST)?;
    let complete =
        run.ending == Ending::Good && matches!(run.lines.last(), Some(Line::Done { .. }));
    if !complete {
        return Err(format!(
            "the kernel does not list its scenarios ({:?}): {} {}",
            run.ending,
            run.complaints.join(" "),
            run.log.join(" ")
        ));
    }
    let known = run.lines.into_iter().filter_map(|line| match line {
        Line::Scenario { name, title, roles } => {
            Some(Known { name, title, roles, self_test: false })
        }
        Line::SelfTest { name } => {
            let title = "the kernel itself".to_owned();
            Some(Known { name, title, roles: 1, self_test: true })
        }
        _ => None,
    });
    Ok(known.collect())
}

fn list(known: &[Known], format: Format) {
    if format == Format::Json {
        let names = known.iter().map(|known| {
            serde_json::json!({
                "name": known.name,
                "title": known.title,
                "roles": known.roles,
                "self_test": known.self_test,
            })
        });
        print(&format!("{:#}\n", names.collect::<serde_json::Value>()));
        return;
    }
    for Known { name, title, roles, self_test } in known {
        let roles = if *self_test { String::new() } else { format!(", {roles} CPUs") };
        print(&format!("{name:<24} {title}{roles}\n"));
    }
}

/// What the filters select. Tests that go wrong on purpose have to be named.
fn select(known: &[Known], filters: &[String]) -> Result<Vec<Known>, String> {
    let is_wanted = |known: &Known| !known.self_test || known.name.starts_with(GOOD);
    if filters.is_empty() {
        return Ok(known.iter().filter(|known| is_wanted(known)).cloned().collect());
    }
    let mut selected = vec![false; known.len()];
    for filter in filters {
        let exactly = known.iter().position(|known| known.name == *filter);
        let mut any = false;
        for (index, one) in known.iter().enumerate() {
            let matches = match exactly {
                Some(exactly) => index == exactly,
                None => one.name.contains(filter.as_str()) && is_wanted(one),
            };
            selected[index] |= matches;
            any |= matches;
        }
        if !any {
            return Err(format!("no scenario matches {filter:?}: --list shows all of them"));
        }
    }
    let pairs = known.iter().zip(selected);
    Ok(pairs.filter(|(_, selected)| *selected).map(|(known, _)| known.clone()).collect())
}

fn run_all(bench: &Bench, arguments: &Arguments, selected: &[Known]) -> Result<Summary, String> {
    let started = Instant::now();
    let bar = ProgressBar::new(selected.len() as u64);
    let style = ProgressStyle::with_template("{spinner} {pos}/{len} {elapsed} {msg}");
    bar.set_style(style.expect("the template is well formed"));
    bar.enable_steady_tick(Duration::from_millis(100));
    let interrupted = &bench.settings.interrupted;
    let seen = Arc::clone(interrupted);
    ctrlc::set_handler(move || seen.store(true, Ordering::Release))
        .map_err(|error| format!("interruptions cannot be caught: {error}"))?;
    let (mut rows, mut unfinished) = (Vec::new(), Vec::new());
    for known in selected {
        if !interrupted.load(Ordering::Acquire) {
            bar.set_message(known.name.clone());
            let row = run_one(bench, arguments, known);
            bar.inc(1);
            // An interruption reaches QEMU as well: what it was doing is not a result.
            if !interrupted.load(Ordering::Acquire) {
                rows.push(row);
                continue;
            }
        }
        unfinished.push(known.name.clone());
    }
    bar.finish_and_clear();
    Ok(Summary {
        rows,
        qemu: bench.qemu.version.clone(),
        accelerator: bench.settings.accelerator,
        cpus: bench.settings.cpus,
        seed: arguments.seed,
        sabotage: arguments.sabotage.clone(),
        demand: arguments.demand,
        unfinished,
        elapsed: started.elapsed(),
    })
}

fn run_one(bench: &Bench, arguments: &Arguments, known: &Known) -> Row {
    let repetitions = if known.self_test { 1 } else { arguments.repeat };
    let request = Request { name: known.name.clone(), repetitions };
    let what = if known.self_test { argument::SELF_TEST } else { argument::SCENARIO };
    let mut command_line = format!(
        "{what}={} {}={repetitions} {}={}",
        request.name,
        argument::REPEAT,
        argument::SEED,
        arguments.seed
    );
    let mut again = format!("just qemu {} --cpus {}", request.name, bench.settings.cpus);
    again += &format!(" --repeat {} --seed {}", arguments.repeat, arguments.seed);
    if bench.settings.accelerator == Accelerator::Counted {
        again += " --deterministic";
    }
    if let Some(sabotage) = &arguments.sabotage {
        command_line += &format!(" {}={sabotage}", argument::SABOTAGE);
        again += &format!(" --sabotage {sabotage}");
    }
    let verdict = match machine::run(&bench.qemu, &bench.image, &bench.settings, &command_line) {
        Ok(run) => verdict::of(&request, &run),
        Err(sentence) => Verdict::without_run(sentence),
    };
    let places = places(&bench.image, verdict.failure.as_ref());
    Row { request, self_test: known.self_test, verdict, places, again }
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
