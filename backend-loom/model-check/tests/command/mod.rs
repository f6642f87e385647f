//! Running the command as people do, and looking at what comes out.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// The command, with arguments, not started yet.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_model-check"));
    command.args(arguments).stdin(Stdio::null()).env_remove("NO_COLOR");
    command
}

/// What the command did.
#[derive(Debug)]
pub struct Ran {
    /// The exit code, if it was not killed.
    pub code: Option<i32>,
    /// The results.
    pub out: String,
    /// Sentences, and progress.
    pub err: String,
}

/// Runs the command to its end.
pub fn run(arguments: &[&str]) -> Ran {
    let output = command(arguments).output().expect("the command can be started");
    ran(output)
}

/// What a finished command did.
pub fn ran(output: Output) -> Ran {
    let text = |bytes| String::from_utf8(bytes).expect("output is text");
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

impl Ran {
    /// The results as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}
