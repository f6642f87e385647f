//! Lines of JSON, one as soon as a machine has ended: `docs/results.md` describes them.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use weft_qemu_runner::documents;
use weft_qemu_runner::verdict::Verdict;
use weft_shell::arguments::Format;
use weft_shell::interruption;
use weft_shell::lines::Lines;

use crate::arguments::Arguments;
use crate::runner::Bench;

/// What is written while machines run.
pub(crate) struct Record(Mutex<State>);

struct State {
    lines: Lines,
    lost: Option<String>,
}

impl Record {
    /// Begins what was asked for.
    ///
    /// # Errors
    ///
    /// One sentence, if it cannot be written.
    pub(crate) fn begin(bench: &Bench, arguments: &Arguments) -> Result<Self, String> {
        let to_output = arguments.format == Format::Jsonl;
        let mut lines = Lines::begin(arguments.output.as_deref(), to_output)?;
        lines.write(&json!({
            "record": "run",
            "version": documents::VERSION,
            "provenance": documents::provenance(),
            "qemu": bench.qemu.version,
            "accelerator": bench.settings.accelerator.to_string(),
            "cpus": bench.settings.cpus,
            "filters": arguments.filters,
            "skip": arguments.skip,
            "repeat": arguments.repeat,
            "sabotage": arguments.sabotage.map(|sabotage| sabotage.to_string()),
        }))?;
        Ok(Self(Mutex::new(State { lines, lost: None })))
    }

    /// Notes what a machine came to. Where that cannot be written, no more is booted.
    pub(crate) fn boot(&self, name: &str, sabotage: Option<&str>, seed: u64, verdict: &Verdict) {
        self.write(&json!({
            "record": "boot",
            "name": name,
            "sabotage": sabotage,
            "seed": seed,
            "outcomes": documents::json_counts(&verdict.outcomes),
            "situations": documents::json_counts(&verdict.situations),
            "failure": verdict.failure.as_ref().map(documents::json_failure),
            "fingerprint": format!("{:016x}", verdict.fingerprint),
            "elapsed_seconds": verdict.elapsed.as_secs_f64(),
        }));
    }

    fn write(&self, line: &Value) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(sentence) = state.lines.write(line) {
            state.lost.get_or_insert(sentence);
            interruption::enough();
        }
    }

    /// Notes the end.
    ///
    /// # Errors
    ///
    /// One sentence, if something could not be written.
    pub(crate) fn end(self, exit: u8, unfinished: usize, elapsed: Duration) -> Result<(), String> {
        self.write(&json!({
            "record": "end",
            "exit": exit,
            "unfinished": unfinished,
            "elapsed_seconds": elapsed.as_secs_f64(),
        }));
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner).lost.map_or(Ok(()), Err)
    }
}
