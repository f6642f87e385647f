//! Metal beside the models: what machines saw, and what the model checkers allow.
//!
//! The same scenario files run in both, so the same outcomes and situations are counted. The
//! explorer goes through every execution of a scenario; where it says `EXHAUSTED`, an outcome that
//! it did not see is not allowed, and a machine that saw it has found an error: in the core, in the
//! kernel below it, or in the model. The other way round a machine may miss what the models see:
//! it draws interleavings at random, and a translating QEMU reorders less than the models do.
//!
//! Models and machines differ in size (2 entries and 3 levels against 512 and 4). Outcomes are
//! about what CPUs saw, never about sizes: the comparison is by name.
//!
//! Where a scenario fails on a machine, the models are searched for the failure, by every engine:
//! a counterexample of theirs tells the whole interleaving, and can be replayed.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use weft_scenarios::sabotage::{Sabotage, Side};

use crate::image;
use crate::summary::Row;
use crate::verdict::{Count, Failure, Verdict};

const PACKAGE: &str = "weft-model-check";
const BINARY: &str = "model-check";
/// The engine that is asked what is allowed: it goes through every execution.
const ENGINE: &str = "explorer";
/// The verdict after which nothing else is possible.
const EXHAUSTED: &str = "EXHAUSTED";
/// The exit code of `model-check` where it has found a violation.
const EXIT_VIOLATION: i32 = 1;
/// The exit code of `model-check` for a broken world in which it has found nothing wrong.
const EXIT_SURVIVED: i32 = 2;
/// Seconds that each engine may search for what went wrong on a machine.
const SEARCH_SECONDS: &str = "30";

/// What the models say of one scenario.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Model {
    /// The verdict of the engine.
    pub verdict: String,
    /// The memory model.
    pub memory_model: String,
    /// The outcomes that were seen.
    pub outcomes: BTreeSet<String>,
    /// The situations that were met.
    pub situations: BTreeSet<String>,
}

impl Model {
    /// The outcomes that a machine saw and that are not allowed.
    fn forbids<'a>(&self, verdict: &'a Verdict) -> Vec<&'a str> {
        let seen = verdict.outcomes.iter().filter(|count| count.times > 0);
        let unknown = seen.filter(|count| !self.outcomes.contains(&count.name));
        let is_exhausted = self.verdict == EXHAUSTED;
        unknown.filter(|_| is_exhausted).map(|count| count.name.as_str()).collect()
    }

    /// A line for each outcome and situation in which a machine differs, or for all.
    fn differences(&self, metal: &Verdict, details: bool) -> String {
        let mut text = String::new();
        let mut line = |count: &Count, is_same: bool, word: &str| {
            if details || !is_same {
                writeln!(text, "  {:>7}  {}: {word}", count.times, count.name).expect("memory");
            }
        };
        for count in &metal.outcomes {
            let allowed = self.outcomes.contains(&count.name);
            let word = match (count.times, allowed) {
                (0, true) => "not seen on metal, allowed by the models",
                (_, true) => "allowed",
                (0, false) => "seen by neither",
                (_, false) if self.verdict == EXHAUSTED => "NOT ALLOWED",
                (_, false) => "not seen by the models, which are not exhausted",
            };
            line(count, count.times > 0 && allowed, word);
        }
        for count in &metal.situations {
            let reached = self.situations.contains(&count.name);
            let word = match (count.times, reached) {
                (0, true) => "NOT REACHED on metal, reached by the models",
                (_, true) => "reached by both",
                (0, false) => "NOT REACHED by either",
                (_, false) => "reached on metal only",
            };
            line(count, count.times > 0 && reached, word);
        }
        text
    }
}

/// What came of a search for what went wrong on a machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Search {
    /// What `model-check` tells of it, its REPLAY lines included.
    Found(String),
    /// Nothing was found: the verdicts.
    Nothing(String),
    /// There was no search: one sentence.
    Impossible(String),
}

/// What the models say of all scenarios that were run.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Models {
    /// By the scenario's name.
    pub by_name: BTreeMap<String, Model>,
    /// For each scenario that failed on a machine.
    pub searches: BTreeMap<String, Search>,
    /// Why some or all are missing: one sentence.
    pub error: Option<String>,
}

/// Asks the models about every scenario among the rows, turns outcomes that they do not allow into
/// failures, and searches for the failures. `command` is the `model-check` to ask, if it is not to
/// be built. What the models allow says nothing about a world that is broken by `sabotage`; a
/// failure is then searched for in the same broken world.
pub fn ask(rows: &mut [Row], command: Option<&Path>, sabotage: Option<Sabotage>) -> Models {
    let mut models = Models::default();
    let is_failure = |row: &&Row| !row.self_test && row.verdict.failure.is_some();
    let wanted = rows.iter().any(|row| !row.self_test)
        && (sabotage.is_none() || rows.iter().any(|row| is_failure(&row)));
    if !wanted {
        return models;
    }
    let command = match built(command) {
        Ok(command) => command,
        Err(sentence) => return Models { error: Some(sentence), ..models },
    };
    if sabotage.is_none() {
        match explore(&command, rows) {
            Ok(by_name) => {
                models.error = judge(rows, &by_name);
                models.by_name = by_name;
            }
            Err(sentence) => models.error = Some(sentence),
        }
    }
    for row in rows.iter().filter(is_failure) {
        models.searches.insert(row.request.name.clone(), search(&command, row, sabotage));
    }
    models
}

/// Makes failures of outcomes that are not allowed. One sentence if the models know nothing of a
/// scenario.
fn judge(rows: &mut [Row], by_name: &BTreeMap<String, Model>) -> Option<String> {
    let mut error = None;
    for row in rows.iter_mut().filter(|row| !row.self_test) {
        let Some(model) = by_name.get(&row.request.name) else {
            error = Some(format!("the models do not explore {}", row.request.name));
            continue;
        };
        let forbidden = model.forbids(&row.verdict);
        if row.verdict.failure.is_none() && !forbidden.is_empty() {
            let message = format!("the models do not allow this outcome: {}", forbidden.join(", "));
            let location = format!("{ENGINE}, {}", model.memory_model);
            row.verdict.failure = Some(Failure::Violation { cpu: 0, message, location });
        }
    }
    error
}

/// The command, built if none is given.
fn built(command: Option<&Path>) -> Result<PathBuf, String> {
    if let Some(command) = command {
        // It is run in another folder.
        return std::path::absolute(command).map_err(|error| error.to_string());
    }
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(&cargo)
        .args(["build", "--package", PACKAGE, "--profile", BINARY])
        .arg("--message-format=json-render-diagnostics")
        .current_dir(image::workspace()?)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cargo cannot be run ({error}): use --no-models"))?;
    let messages = String::from_utf8_lossy(&output.stdout);
    let built = messages.lines().filter_map(|line| image::executable(line, BINARY)).next_back();
    built
        .filter(|_| output.status.success())
        .ok_or_else(|| "model-check does not build: mend it, or use --no-models".to_owned())
}

/// Runs `model-check` in the workspace.
fn run(command: &Path, arguments: &[&str]) -> Result<Output, String> {
    Command::new(command)
        .args(arguments)
        .current_dir(image::workspace()?)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{} cannot be run: {error}", command.display()))
}

fn explore(command: &Path, rows: &[Row]) -> Result<BTreeMap<String, Model>, String> {
    let mut arguments = vec!["--engine", ENGINE, "--no-twins", "--format", "json"];
    let scenarios = rows.iter().filter(|row| !row.self_test);
    arguments.extend(scenarios.map(|row| row.request.name.as_str()));
    let output = run(command, &arguments)?;
    parse(&output.stdout).ok_or_else(|| {
        let words = String::from_utf8_lossy(&output.stderr);
        format!("model-check gives no results ({}): {}", output.status, words.trim())
    })
}

/// The rows of a document of `model-check`.
fn parse(document: &[u8]) -> Option<BTreeMap<String, Model>> {
    let document: Value = serde_json::from_slice(document).ok()?;
    let model = |row: &Value| {
        let seen = row["outcomes"].as_object()?.iter();
        let outcomes = seen.filter(|(_, times)| times.as_u64() != Some(0));
        let situations = row["reached"].as_array()?.iter();
        Some((
            row["scenario"].as_str()?.to_owned(),
            Model {
                verdict: row["verdict"].as_str()?.to_owned(),
                memory_model: row["model"].as_str()?.to_owned(),
                outcomes: outcomes.map(|(name, _)| name.clone()).collect(),
                situations: situations.filter_map(|one| one.as_str().map(str::to_owned)).collect(),
            },
        ))
    };
    // A row without outcomes is one of an engine that died: it is no answer.
    Some(document["rows"].as_array()?.iter().filter_map(model).collect())
}

/// Has every engine look for what went wrong on a machine.
fn search(command: &Path, row: &Row, sabotage: Option<Sabotage>) -> Search {
    let name = row.request.name.as_str();
    let mut arguments = vec![name, "--engine", "all", "--no-twins", "--time", SEARCH_SECONDS];
    let broken = match sabotage.map(|sabotage| sabotage.on(Side::Models)).transpose() {
        Ok(sabotage) => sabotage.map(|sabotage| sabotage.to_string()),
        Err(sentence) => return Search::Impossible(sentence),
    };
    if let Some(name) = &broken {
        arguments.extend(["--sabotage", name]);
    }
    match run(command, &arguments) {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
            if output.status.code() == Some(EXIT_VIOLATION) {
                Search::Found(text)
            } else if output.status.success()
                || (sabotage.is_some() && output.status.code() == Some(EXIT_SURVIVED))
            {
                Search::Nothing(text)
            } else {
                let words = String::from_utf8_lossy(&output.stderr);
                Search::Impossible(format!("model-check: {}, {}", output.status, words.trim()))
            }
        }
        Err(sentence) => Search::Impossible(sentence),
    }
}

impl Models {
    /// What machines saw beside what the models allow: a line for every scenario, and one for
    /// each outcome and situation in which the two differ, or for all of them with `details`.
    pub fn beside(&self, rows: &[Row], details: bool) -> String {
        let mut text = String::new();
        for row in rows {
            let Some(model) = self.by_name.get(&row.request.name) else { continue };
            let Model { verdict, memory_model, outcomes, .. } = model;
            let seen = row.verdict.outcomes.iter().filter(|count| count.times > 0);
            let names: BTreeSet<&String> = seen.clone().map(|count| &count.name).collect();
            let seen: Vec<_> =
                seen.map(|count| format!("{} {}", count.times, count.name)).collect();
            let metal = if seen.is_empty() { "nothing".to_owned() } else { seen.join("; ") };
            let allowed: Vec<&str> = outcomes.iter().map(String::as_str).collect();
            let is_same = names.into_iter().eq(outcomes);
            let allowed = if is_same { "the same".to_owned() } else { allowed.join("; ") };
            let name = &row.request.name;
            writeln!(text, "{name:<20} {metal} | {allowed} ({verdict}, {memory_model})")
                .expect("memory");
            text += &model.differences(&row.verdict, details);
        }
        text
    }

    /// What the search for a failure gave, in indented lines.
    pub fn told(&self, scenario: &str) -> String {
        let (heading, text) = match self.searches.get(scenario) {
            None => return String::new(),
            Some(Search::Found(text)) => ("the models fail as well", text),
            Some(Search::Nothing(text)) => ("the models, searched by every engine, do not", text),
            Some(Search::Impossible(sentence)) => ("the models were not searched", sentence),
        };
        let lines = text.lines().map(|line| format!("  > {line}\n"));
        format!("  {heading}:\n{}", lines.collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::Boots;
    use crate::verdict::Request;

    const DOCUMENT: &str = r#"{ "rows": [
        { "scenario": "lock_vs_lock", "verdict": "EXHAUSTED", "model": "RC11",
          "outcomes": { "left first": 1, "right first": 0 }, "reached": ["waited"] },
        { "scenario": "walk_vs_map", "verdict": "DIED", "error": "killed" }
    ] }"#;

    fn models() -> BTreeMap<String, Model> {
        parse(DOCUMENT.as_bytes()).expect("the document is well formed")
    }

    fn row(left: u64, right: u64) -> Row {
        let count = |name: &str, times| Count { name: name.to_owned(), times, expected: true };
        let verdict = Verdict {
            failure: None,
            outcomes: vec![count("left first", left), count("right first", right)],
            situations: vec![count("waited", 0)],
            ..Verdict::without_run(String::new())
        };
        let request = Request { name: "lock_vs_lock".to_owned(), repetitions: left + right };
        Row {
            request,
            self_test: false,
            verdict,
            boots: Boots { all: 1, wrong: 0 },
            seed: 1,
            places: Vec::new(),
            again: String::new(),
            page: None,
        }
    }

    #[test]
    fn an_outcome_that_no_execution_has_is_a_failure() {
        let mut rows = [row(2, 0), row(1, 1)];
        assert_eq!(judge(&mut rows, &models()), None);
        assert_eq!(rows[0].verdict.failure, None);
        let failure = rows[1].verdict.failure.as_ref().expect("a failure").to_string();
        assert_eq!(failure, "the models do not allow this outcome: right first");
    }

    #[test]
    fn models_that_are_not_exhausted_forbid_nothing() {
        let mut models = models();
        models.get_mut("lock_vs_lock").expect("it is there").verdict = "BOUNDED 2".to_owned();
        let mut rows = [row(1, 1)];
        assert_eq!(judge(&mut rows, &models), None);
        assert_eq!(rows[0].verdict.failure, None);
    }

    #[test]
    fn a_scenario_without_an_answer_is_said() {
        let mut rows = [row(1, 0)];
        rows[0].request.name = "walk_vs_map".to_owned();
        let said = judge(&mut rows, &models());
        assert_eq!(said.as_deref(), Some("the models do not explore walk_vs_map"));
    }

    #[test]
    fn what_machines_missed_and_what_they_should_not_see_is_told() {
        let models = Models { by_name: models(), ..Models::default() };
        assert_eq!(
            models.beside(&[row(0, 3)], false),
            "lock_vs_lock         3 right first | left first (EXHAUSTED, RC11)\n        \
             0  left first: not seen on metal, allowed by the models\n        \
             3  right first: NOT ALLOWED\n        \
             0  waited: NOT REACHED on metal, reached by the models\n"
        );
        let mut row = row(2, 0);
        row.verdict.situations[0].times = 1;
        row.verdict.outcomes.pop();
        let line = "lock_vs_lock         2 left first | the same (EXHAUSTED, RC11)\n";
        assert_eq!(models.beside(&[row.clone()], false), line);
        let more = "        2  left first: allowed\n        1  waited: reached by both\n";
        assert_eq!(models.beside(&[row], true), format!("{line}{more}"));
    }

    #[test]
    fn what_is_no_document_is_no_answer() {
        for text in ["", "{}", "{ \"rows\": 1 }"] {
            assert!(parse(text.as_bytes()).is_none(), "{text}");
        }
    }
}
