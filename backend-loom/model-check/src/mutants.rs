//! Logic mutants: patches that break the code, and the check that must notice.
//!
//! A patch lies in a folder called `mutants` and begins with a header:
//!
//! ```text
//! Breaks: <what it breaks, one sentence>
//! Killed-by: <the scenario that must notice>
//! Expect: <a part of the message>
//! ```
//!
//! In place of `Killed-by:` there may be `Run: cargo test ..` or `Run: cargo run ..`, for code that
//! scenarios do not run, or that they run on a machine.
//! Each patch is applied to a scratch copy, which is built and checked. A mutant is killed if the
//! check fails with the expected message there, and does not fail without the patch. A patch that
//! no longer applies, and a mutant that does not build, are errors: neither has been noticed by
//! anybody.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use comfy_table::Cell;
use serde_json::Value;

use crate::checkers::{self, NAMES, Use};
use crate::human;
use crate::runner;
use crate::scratch::{self, Scratch};
use crate::summary::exit;

/// A patch on file.
#[derive(Clone, Debug)]
pub(crate) struct Mutant {
    /// The path of the patch, seen from the root, which is also its name.
    path: PathBuf,
    /// What it breaks.
    breaks: String,
    /// What must notice.
    killer: Killer,
    /// A part of the message.
    expect: String,
}

/// What must notice a mutant.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Killer {
    Scenario(&'static str),
    Cargo(String),
}

/// What became of a mutant.
#[derive(Debug)]
enum Fate {
    /// It was noticed, in which execution of which engine where there is one.
    Killed(String, Option<u64>),
    /// It was not; what happened instead.
    Survived(String),
    /// It was not tried.
    Error(String),
}

/// The results of all patches.
#[derive(Debug, Default)]
pub(crate) struct Results {
    results: Vec<(Mutant, Fate, Duration)>,
    unfinished: usize,
}

impl Mutant {
    /// Every patch that the filters select.
    ///
    /// # Errors
    ///
    /// One sentence for a header that cannot be read.
    pub(crate) fn all(scratch: &Scratch, filters: &[String]) -> Result<Vec<Self>, String> {
        let mut mutants = Vec::new();
        for path in scratch.files() {
            let folder = path.parent().and_then(Path::file_name);
            if folder != Some("mutants".as_ref()) || path.extension() != Some("patch".as_ref()) {
                continue;
            }
            let name = path.display().to_string();
            if filters.is_empty() || filters.iter().any(|filter| name.contains(filter)) {
                mutants.push(Self::read(scratch.root(), path)?);
            }
        }
        Ok(mutants)
    }

    fn read(root: &Path, path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(root.join(path))
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        Self::parse(path, &text).map_err(|error| format!("{}: {error}", path.display()))
    }

    fn parse(path: &Path, text: &str) -> Result<Self, String> {
        let is_diff = |line: &&str| line.starts_with("diff ") || line.starts_with("--- ");
        let header = text.lines().take_while(|line| !is_diff(line));
        let header: BTreeMap<&str, &str> =
            header.filter_map(|line| line.split_once(": ")).collect();
        if !text.lines().any(|line| is_diff(&line)) {
            return Err("there is no diff in it: add the output of `git diff`".to_owned());
        }
        let find = |key: &str| header.get(key).map(|value| value.trim().to_owned());
        let need = |key: &str| find(key).ok_or_else(|| format!("add a header line `{key}: ..`"));
        let killer = match (find("Killed-by"), find("Run")) {
            (Some(name), None) => {
                let found = NAMES.iter().find(|scenario| **scenario == name);
                Killer::Scenario(found.ok_or_else(|| {
                    format!("`Killed-by: {name}` names no scenario: see model-check --list")
                })?)
            }
            (None, Some(command))
                if ["cargo test ", "cargo run "].iter().any(|it| command.starts_with(it)) =>
            {
                Killer::Cargo(command)
            }
            (None, Some(_)) => {
                return Err("`Run:` takes a `cargo test` or a `cargo run` command".to_owned());
            }
            _ => return Err("add one header line, `Killed-by: ..` or `Run: ..`".to_owned()),
        };
        let path = path.to_owned();
        Ok(Self { path, breaks: need("Breaks")?, killer, expect: need("Expect")? })
    }

    fn name(&self) -> String {
        self.path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// One line for a list.
    pub(crate) fn line(&self) -> String {
        let killer = match &self.killer {
            Killer::Scenario(name) => name,
            Killer::Cargo(command) => command.as_str(),
        };
        format!(
            "{}: {} Killed by {killer}: \"{}\"\n",
            self.path.display(),
            self.breaks,
            self.expect
        )
    }
}

/// Tries every mutant, one after the other: each build uses all cores.
///
/// # Errors
///
/// One sentence, if the scratch copy cannot be made.
pub(crate) fn run(scratch: &Scratch, mutants: Vec<Mutant>) -> Result<Results, String> {
    let mut results = Results::default();
    let mut sound = BTreeMap::new();
    let total = mutants.len();
    for (number, mutant) in mutants.into_iter().enumerate() {
        if runner::interrupted() {
            results.unfinished += 1;
            continue;
        }
        crate::complain(&format!("mutant {}/{total}: {}", number + 1, mutant.path.display()));
        let start = Instant::now();
        let fate = try_one(scratch, &mutant, &mut sound).unwrap_or_else(Fate::Error);
        if runner::interrupted() {
            results.unfinished += 1;
        } else {
            results.results.push((mutant, fate, start.elapsed()));
        }
    }
    scratch.restore()?;
    Ok(results)
}

/// Applies, builds and checks one mutant. `sound` remembers checks that do not fail by themselves.
fn try_one(
    scratch: &Scratch,
    mutant: &Mutant,
    sound: &mut BTreeMap<String, Result<(), String>>,
) -> Result<Fate, String> {
    scratch.restore()?;
    let key = format!("{:?}", mutant.killer);
    let without = sound.entry(key).or_insert_with(|| match &mutant.killer {
        Killer::Scenario(name) => sound_scenario(name),
        Killer::Cargo(command) => sound_command(scratch, command),
    });
    without.clone()?;
    scratch
        .apply(&scratch.root().join(&mutant.path))
        .map_err(|error| format!("the patch no longer applies: {error}"))?;
    match &mutant.killer {
        Killer::Scenario(name) => {
            let command = scratch.build()?;
            kill_by_scenario(&command, name, &mutant.expect)
        }
        Killer::Cargo(command) => kill_by_cargo(scratch, command, &mutant.expect),
    }
}

/// The engines that mutants are tried with, in this order: the one that explores everything, or,
/// where there is none, those that control the schedule.
fn engines() -> Vec<&'static str> {
    let primary = checkers::ALL.iter().filter(|it| it.used_for == Use::Everything);
    let primary: Vec<_> = primary.map(|checker| checker.name).collect();
    if !primary.is_empty() {
        return primary;
    }
    let others = checkers::ALL.iter().filter(|checker| checker.controls_schedule);
    others.map(|checker| checker.name).collect()
}

/// Explores a scenario with another build of this command.
fn explore(command: &Path, scenario: &str, engine: &str) -> Result<(Option<i32>, Value), String> {
    let mut command = Command::new(command);
    command.args([scenario, "--no-twins", "--engine", engine, "--format", "json"]);
    let output = scratch::run(&mut command)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let value = serde_json::from_slice(&output.stdout).map_err(|_| {
        format!("the check gave no answer: {}", said.lines().last().unwrap_or("no output"))
    })?;
    Ok((output.status.code(), value))
}

/// That a scenario does not fail by itself.
fn sound_scenario(scenario: &str) -> Result<(), String> {
    let me = std::env::current_exe().map_err(|error| format!("cannot find myself: {error}"))?;
    for engine in engines() {
        let (code, _) = explore(&me, scenario, engine)?;
        if code != Some(i32::from(exit::GOOD)) {
            return Err(format!("{scenario} fails under {engine} without the patch"));
        }
    }
    Ok(())
}

fn kill_by_scenario(command: &Path, scenario: &str, expect: &str) -> Result<Fate, String> {
    let mut instead = String::new();
    for engine in engines() {
        let (code, value) = explore(command, scenario, engine)?;
        let row = &value["rows"][0];
        let message = row["failure"]["message"].as_str().unwrap_or_default();
        if code == Some(i32::from(exit::VIOLATION)) && message.contains(expect) {
            let killer = format!("{scenario} ({engine})");
            return Ok(Fate::Killed(killer, row["executions"].as_u64()));
        }
        let verdict = row["verdict_text"].as_str().unwrap_or("DIED");
        instead = match message {
            "" => format!("{verdict} under {engine}, exit code {code:?}"),
            message => format!("{verdict} under {engine} with another message: {message}"),
        };
    }
    Ok(Fate::Survived(instead))
}

/// A `cargo test` or `cargo run` command in the copy.
fn cargo_command(scratch: &Scratch, command: &str, only_build: bool) -> Command {
    let (cargo_side, test_side) = command.split_once(" -- ").unwrap_or((command, ""));
    let mut cargo = scratch.cargo();
    let mut words = cargo_side.split_whitespace().skip(1);
    let verb = words.next().unwrap_or_default();
    cargo.arg(if only_build && verb == "run" { "build" } else { verb }).args(words);
    if only_build && verb == "test" {
        cargo.arg("--no-run");
    } else if !only_build && !test_side.is_empty() {
        cargo.arg("--").args(test_side.split_whitespace());
    }
    cargo
}

/// That the tests of a command do not fail by themselves.
fn sound_command(scratch: &Scratch, command: &str) -> Result<(), String> {
    let output = scratch::run(&mut cargo_command(scratch, command, false))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("`{command}` fails without the patch"))
    }
}

fn kill_by_cargo(scratch: &Scratch, command: &str, expect: &str) -> Result<Fate, String> {
    let build = scratch::run(&mut cargo_command(scratch, command, true))?;
    if !build.status.success() {
        return Err(format!("it does not build: {}", scratch::first_error(&build)));
    }
    let output = scratch::run(&mut cargo_command(scratch, command, false))?;
    let said = [output.stdout, output.stderr].concat();
    Ok(if output.status.success() {
        Fate::Survived("its tests do not fail".to_owned())
    } else if String::from_utf8_lossy(&said).contains(expect) {
        Fate::Killed(command.to_owned(), None)
    } else {
        Fate::Survived("its tests fail without the expected message".to_owned())
    })
}

impl Results {
    /// The exit code.
    pub(crate) fn exit(&self) -> u8 {
        let any = |what: fn(&Fate) -> bool| self.results.iter().any(|(_, fate, _)| what(fate));
        if self.unfinished > 0 || runner::interrupted() {
            exit::INTERRUPTED
        } else if any(|fate| matches!(fate, Fate::Error(_))) {
            exit::INTERNAL
        } else if any(|fate| matches!(fate, Fate::Survived(_))) {
            exit::MISSING
        } else {
            exit::GOOD
        }
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let header = ["mutant", "killed by", "in", "time", "breaks"];
        let mut table = human::table(&header, 2..4);
        for (mutant, fate, time) in &self.results {
            let (killer, executions) = match fate {
                Fate::Killed(killer, executions) => (killer.as_str(), *executions),
                Fate::Survived(_) => ("SURVIVED", None),
                Fate::Error(_) => ("ERROR", None),
            };
            table.add_row(vec![
                Cell::new(mutant.name()),
                Cell::new(killer),
                Cell::new(executions.map_or("-".to_owned(), human::thousands)),
                Cell::new(format!("{:.1} s", time.as_secs_f64())),
                Cell::new(&mutant.breaks),
            ]);
        }
        let mut text = table.trim_fmt() + "\n\n";
        let mut killed = 0;
        for (mutant, fate, _) in &self.results {
            let path = mutant.path.display();
            match fate {
                Fate::Killed(..) => killed += 1,
                Fate::Survived(instead) => text += &format!("SURVIVED {path}: {instead}\n"),
                Fate::Error(error) => text += &format!("ERROR {path}: {error}\n"),
            }
        }
        text += &format!("{killed}/{} mutants killed\n", self.results.len());
        if self.unfinished > 0 {
            text += &format!("{} mutants not tried\n", self.unfinished);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIFF: &str = "diff --git a/x b/x\n";

    fn parse(header: &str) -> Result<Mutant, String> {
        Mutant::parse(Path::new("scenarios/mutants/x.patch"), &format!("{header}\n{DIFF}"))
    }

    #[test]
    fn a_header_is_read() {
        let mutant = parse("Breaks: Everything.\nKilled-by: lock_vs_lock\nExpect: data race\n");
        let mutant = mutant.expect("well formed");
        assert_eq!(mutant.killer, Killer::Scenario("lock_vs_lock"));
        assert_eq!(mutant.expect, "data race");
        let mutant = parse("Breaks: It.\nRun: cargo test -p weft-explorer\nExpect: gate");
        let killer = mutant.expect("well formed").killer;
        assert_eq!(killer, Killer::Cargo("cargo test -p weft-explorer".to_owned()));
    }

    #[test]
    fn what_a_header_lacks_is_named() {
        for (header, part) in [
            ("Killed-by: lock_vs_lock\nExpect: x", "`Breaks: ..`"),
            ("Breaks: x\nKilled-by: lock_vs_lock", "`Expect: ..`"),
            ("Breaks: x\nExpect: x", "`Killed-by: ..` or `Run: ..`"),
            ("Breaks: x\nKilled-by: nobody\nExpect: x", "names no scenario"),
            ("Breaks: x\nRun: rm -r /\nExpect: x", "a `cargo test` or a `cargo run` command"),
        ] {
            let error = parse(header).expect_err(header);
            assert!(error.contains(part), "{header:?}: {error}");
        }
        let error = Mutant::parse(Path::new("x"), "Breaks: x\n").expect_err("no diff");
        assert!(error.contains("no diff"));
    }
}
