//! The gate at length: random programs against the enumerators, as a table.
//!
//! `cargo run --release -p weft-explorer --example fuzz -- --help` says what can be chosen.

#[path = "../tests/gate/axiomatic.rs"]
mod axiomatic;
#[path = "../tests/gate/caches.rs"]
mod caches;
#[path = "../tests/gate/check.rs"]
mod check;
#[path = "../tests/gate/operational.rs"]
mod operational;
#[path = "../tests/gate/program.rs"]
mod program;
#[path = "../tests/gate/random.rs"]
mod random;
#[path = "../tests/gate/tables.rs"]
mod tables;

use std::process::ExitCode;
use std::time::Instant;

use check::{Tally, compare};
use program::Program;
use random::{FAMILIES, Family, Flavour};
use tables::{GROUPS, Group};
use weft_explorer::Model;

const HELP: &str = "\
Compares the explorer with independent enumerators on random programs.

usage: fuzz [--long] [--family <part of a name>] [--first <seed>] [--programs <count>]
       fuzz --windows [--long] [--first <seed>] [--programs <count>]
       fuzz --program <text>

  --long              ten times as many programs as the tests try
  --family <part>     only the families of programs that have this in their name
  --windows           page tables: windows against a machine with TLBs and cached upper entries
  --first <seed>      the first program; a seed determines its program
  --programs <count>  how many programs of each family, or of each number of CPUs
  --program <text>    one program, as \"x = 1 rlx; y acq || open; x win\", and nothing else

The exit code is 1 if anything differs, and 2 if the arguments make no sense.";

#[derive(Default)]
struct Arguments {
    is_long: bool,
    has_windows: bool,
    wants_help: bool,
    family: String,
    first: Option<u64>,
    programs: Option<u64>,
    program: Option<String>,
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut parsed = Arguments::default();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        let number = |text: String| text.parse().map_err(|_| format!("{text} is not a number"));
        match argument.as_str() {
            "--long" => parsed.is_long = true,
            "--windows" => parsed.has_windows = true,
            "--help" => parsed.wants_help = true,
            "--family" => parsed.family = value()?,
            "--first" => parsed.first = Some(number(value()?)?),
            "--programs" => parsed.programs = Some(number(value()?)?),
            "--program" => parsed.program = Some(value()?),
            _ => return Err(format!("{argument} is not known: see --help")),
        }
    }
    if parsed.has_windows && !parsed.family.is_empty() {
        return Err("--windows has no families: leave --family out".to_owned());
    }
    Ok(parsed)
}

/// Tries a family; returns whether everything agreed.
fn try_family(family: &Family, arguments: &Arguments) -> bool {
    let started = Instant::now();
    let first = arguments.first.unwrap_or(1);
    let factor = if arguments.is_long { 10 } else { 1 };
    let count = arguments.programs.unwrap_or(family.programs * factor);
    let mut tally = Tally::default();
    let mut differences = 0;
    for seed in first..first + count {
        let program = family.generate(seed);
        match compare(&program, family.flavour, seed % 2 == 0) {
            Ok(part) => tally.add(part),
            Err(difference) => {
                differences += 1;
                println!("{}, seed {seed}: {difference}\n  program: {program}", family.name);
            }
        }
    }
    println!(
        "{:<30} {:>8} {:>11} {:>8} {:>6} {:>9} {:>11} {:>7.1} s {:>7.1} s",
        family.name,
        tally.programs,
        tally.executions,
        tally.blocked,
        tally.races,
        tally.deadlocks,
        differences,
        tally.engine.as_secs_f64(),
        started.elapsed().as_secs_f64()
    );
    differences == 0
}

/// Compares windows with caches under a model; returns whether everything agreed.
fn try_group(group: &Group, model: Model, arguments: &Arguments) -> bool {
    let started = Instant::now();
    let first = arguments.first.unwrap_or(1);
    let factor = if arguments.is_long { 10 } else { 1 };
    let count = arguments.programs.unwrap_or(group.programs * factor);
    let (mut tally, mut differences) = (tables::Tally::default(), 0);
    for seed in first..first + count {
        let program = group.generate(seed);
        match tables::compare(&program, model) {
            Ok(part) => tally.add(part),
            Err(difference) => {
                differences += 1;
                println!("{model}, seed {seed}: {difference}\n  program: {program}");
            }
        }
    }
    println!(
        "{:<6} {:>4} {:>8} {:>11} {:>8} {:>8} {:>6} {:>7} {:>11} {:>7.1} s",
        model.to_string(),
        group.cpus,
        tally.programs,
        tally.executions,
        tally.outcomes,
        tally.several,
        tally.mixed,
        tally.weaker,
        differences,
        started.elapsed().as_secs_f64()
    );
    differences == 0
}

fn run_windows(arguments: &Arguments) -> bool {
    println!(
        "{:<6} {:>4} {:>8} {:>11} {:>8} {:>8} {:>6} {:>7} {:>11} {:>9}",
        "model",
        "CPUs",
        "programs",
        "executions",
        "outcomes",
        "several",
        "mixed",
        "weaker",
        "differences",
        "all"
    );
    let mut agrees = true;
    for group in &GROUPS {
        for model in Model::ALL {
            agrees &= try_group(group, model, arguments);
        }
    }
    agrees
}

fn run(arguments: &Arguments) -> Result<bool, String> {
    if arguments.wants_help {
        println!("{HELP}");
        return Ok(true);
    }
    if arguments.has_windows {
        return Ok(run_windows(arguments));
    }
    if let Some(text) = &arguments.program {
        let program: Program = text.parse()?;
        for flavour in [Flavour::Atomic, Flavour::Awaiting, Flavour::Plain] {
            println!("{flavour:?}: {:?}", compare(&program, flavour, false)?);
        }
        return Ok(true);
    }
    println!(
        "{:<30} {:>8} {:>11} {:>8} {:>6} {:>9} {:>11} {:>9} {:>9}",
        "family",
        "programs",
        "executions",
        "blocked",
        "races",
        "deadlocks",
        "differences",
        "engine",
        "all"
    );
    let selected = FAMILIES.iter().filter(|family| family.name.contains(&arguments.family));
    let agreed: Vec<bool> = selected.map(|family| try_family(family, arguments)).collect();
    if agreed.is_empty() {
        return Err(format!("no family has `{}` in its name", arguments.family));
    }
    Ok(!agreed.contains(&false))
}

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)).and_then(|arguments| run(&arguments)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
    }
}
