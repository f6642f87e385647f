//! Running the command as people do, and looking at what comes out.

mod browser;
mod checkouts;
mod documents;
mod endings;
mod golden;
mod mutants;
mod pages;
mod races;
mod recipes;
mod records;
mod refusals;
mod report;
mod results;

use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// The command, with arguments, not started yet.
fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_model-check"));
    command.args(arguments).stdin(Stdio::null()).env_remove("NO_COLOR").env_remove("COLUMNS");
    command
}

/// What the command did.
#[derive(Debug)]
struct Ran {
    /// The exit code, if it was not killed.
    code: Option<i32>,
    /// The results.
    out: String,
    /// Sentences, and progress.
    err: String,
}

/// Runs the command to its end.
fn run(arguments: &[&str]) -> Ran {
    ran(command(arguments).output().expect("the command can be started"))
}

/// What a finished command did.
fn ran(output: Output) -> Ran {
    let text = |bytes| String::from_utf8(bytes).expect("output is text");
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

impl Ran {
    /// The results as JSON.
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}
