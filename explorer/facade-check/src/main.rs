//! Runs the loom tests of published crates, unmodified, on loom and on weft-loom, and compares.
//!
//! Cargo fetches the crates from the registry into a folder below `target`; nothing of them is
//! kept elsewhere. Each test runs in a process of its own with a limit, once on each side, one
//! after the other. A test that does not end within the limit has that for a verdict. Verdicts that
//! differ have to be explained in `explorer/loom/DIFFERENCES.md`, by the name of the test.
//!
//! It ends with 0 if all verdicts agree or are explained, with 1 if one is not, and with 4 if it
//! could not be done.

mod build;
mod run;
mod subjects;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use build::Side;
use run::Outcome;
use subjects::{SUBJECTS, Subject};

const HELP: &str = "\
Runs the loom tests of published crates on loom and on weft-loom, and compares.

Usage: just facade-check [OPTIONS] [NAME]...

  NAME...          only crates, or tests, whose names contain one of these
  --limit SECONDS  how long one test may take on one side (60)
  --help           this text";

/// A test, and what it did on both sides.
pub(crate) struct Row {
    pub(crate) subject: &'static Subject,
    pub(crate) test: String,
    pub(crate) loom: Outcome,
    pub(crate) weft: Outcome,
}

impl Row {
    /// What the test is called where differences are explained.
    pub(crate) fn name(&self) -> String {
        format!("{}::{}", self.subject.name, self.test)
    }

    pub(crate) fn differs(&self) -> bool {
        self.loom.verdict != self.weft.verdict
    }
}

struct Arguments {
    names: Vec<String>,
    limit: Duration,
}

fn arguments() -> Result<Option<Arguments>, String> {
    let mut found = Arguments { names: Vec::new(), limit: Duration::from_secs(60) };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--help" => return Ok(None),
            "--limit" => {
                let seconds = words.next().and_then(|text| text.parse().ok());
                let seconds: u64 = seconds.filter(|seconds| *seconds > 0).ok_or(
                    "--limit needs a number of seconds: `--limit 60` gives each test a minute",
                )?;
                found.limit = Duration::from_secs(seconds);
            }
            option if option.starts_with('-') => {
                return Err(format!("there is no option `{option}`: `--help` lists them"));
            }
            name => found.names.push(name.to_owned()),
        }
    }
    Ok(Some(found))
}

/// The folder of the whole project.
fn root() -> Result<PathBuf, String> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = here.parent().and_then(Path::parent).ok_or("the command has been moved")?;
    Ok(root.to_owned())
}

fn compare(arguments: &Arguments) -> Result<bool, String> {
    let root = root()?;
    let names = &arguments.names;
    let is_meant =
        |name: &str| names.is_empty() || names.iter().any(|part| name.contains(part.as_str()));
    let place = build::Place::fetch(&root)?;
    let mut rows = Vec::new();
    for subject in SUBJECTS {
        // A name may be one of a test: then the crate has to be built to know.
        let whole = is_meant(subject.name);
        if !whole && SUBJECTS.iter().any(|other| is_meant(other.name)) {
            continue;
        }
        eprintln!("facade-check: building {} {}", subject.name, subject.version);
        let programs = [Side::Loom, Side::Weft].map(|side| place.build(subject, side));
        let [loom, weft] = programs;
        let (loom, weft) = (loom?, weft?);
        for (on_loom, on_weft) in loom.iter().zip(&weft) {
            for test in run::list(on_loom)? {
                if !whole && !is_meant(&test) {
                    continue;
                }
                eprintln!("facade-check: {}::{test}", subject.name);
                let loom = run::run(on_loom, &test, Side::Loom, arguments.limit)?;
                let weft = run::run(on_weft, &test, Side::Weft, arguments.limit)?;
                // A test that models nothing says nothing about either.
                if loom.executions.is_some() || weft.executions.is_some() {
                    rows.push(Row { subject, test, loom, weft });
                }
            }
        }
    }
    if rows.is_empty() {
        return Err("no test has such a name: leave the names out to run all".to_owned());
    }
    let explained = std::fs::read_to_string(root.join("explorer/loom/DIFFERENCES.md"))
        .map_err(|error| format!("explorer/loom/DIFFERENCES.md cannot be read: {error}"))?;
    let is_explained = |row: &Row| explained.contains(&format!("| {} |", row.name()));
    table::print(&rows, arguments.limit, &is_explained);
    Ok(rows.iter().filter(|row| row.differs()).all(is_explained))
}

fn main() -> ExitCode {
    let done = match arguments() {
        Ok(None) => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Ok(Some(arguments)) => compare(&arguments),
        Err(message) => Err(message),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(message) => {
            eprintln!("facade-check: {message}");
            ExitCode::from(4)
        }
    }
}
