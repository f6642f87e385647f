//! The gate at length: random programs against the enumerators, as a table.
//!
//! `cargo run --release -p weft-explorer --example fuzz -- [--long] [--family <part of a name>]
//! [--first <seed>] [--programs <count>]`, or `-- --program "x = 1 rlx; y acq || ..."` for a
//! single program. Exit code 1 if anything differs. `--long` tries ten times as many programs of
//! each family as the tests do.

#[path = "../tests/gate/axiomatic.rs"]
mod axiomatic;
#[path = "../tests/gate/check.rs"]
mod check;
#[path = "../tests/gate/operational.rs"]
mod operational;
#[path = "../tests/gate/program.rs"]
mod program;
#[path = "../tests/gate/random.rs"]
mod random;

use std::process::ExitCode;
use std::time::Instant;

use check::{Tally, compare};
use program::Program;
use random::{FAMILIES, Family, Flavour};

#[derive(Default)]
struct Arguments {
    is_long: bool,
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
            "--family" => parsed.family = value()?,
            "--first" => parsed.first = Some(number(value()?)?),
            "--programs" => parsed.programs = Some(number(value()?)?),
            "--program" => parsed.program = Some(value()?),
            _ => return Err(format!("{argument} is not known: see the head of the example")),
        }
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

fn run(arguments: &Arguments) -> Result<bool, String> {
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
