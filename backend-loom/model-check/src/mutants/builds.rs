//! What is built in a scratch copy, and on which mutants an error is blamed.
//!
//! Every program is a cargo command of its own, always the same one, so that features of
//! dependencies are the same whatever was selected, and cargo finds them built.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;

use crate::scratch::{self, Scratch};

use super::check::{Check, Program, Target};

/// The package of this command.
const EXPLORER: &str = "weft-model-check";

/// The package of the command that boots machines.
const MACHINE: &str = "weft-qemu-runner";

/// The programs that checks run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Programs {
    explorer: Option<PathBuf>,
    tests: BTreeMap<Target, Program>,
    machine: Option<Result<Machine, String>>,
}

/// What boots, and what is booted.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    /// The command.
    pub(crate) runner: PathBuf,
    /// The image of the kernel.
    pub(crate) image: PathBuf,
    /// The checkout that it was built in.
    pub(crate) folder: PathBuf,
}

/// A build that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    /// The first error of the compiler.
    pub(crate) first: String,
    /// Where the errors are: files, seen from the root, and offsets of bytes in them.
    pub(crate) places: Vec<(PathBuf, usize)>,
}

impl Broken {
    fn without_place(first: String) -> Self {
        Self { first, places: Vec::new() }
    }
}

impl Programs {
    /// Builds what `checks` run.
    ///
    /// # Errors
    ///
    /// The errors of the compiler. A kernel that does not build is the machines' error alone.
    pub(crate) fn build(scratch: &Scratch<'_>, checks: &BTreeSet<Check>) -> Result<Self, Broken> {
        let mut programs = Self::default();
        if checks.iter().any(|check| matches!(check, Check::Scenario(_))) {
            programs.explorer = Some(binary(scratch, EXPLORER)?);
        }
        let mut targets: BTreeMap<&str, Vec<&Target>> = BTreeMap::new();
        for check in checks {
            if let Check::Test(target, _) = check {
                targets.entry(&target.package).or_default().push(target);
            }
        }
        for (package, targets) in targets {
            let built = cargo(scratch, &test_arguments(package, &targets))?;
            for target in targets {
                let program = built.iter().find_map(|line| test_program(line, target));
                let program = program.ok_or_else(|| {
                    Broken::without_place(format!("cargo built no tests for {target:?}"))
                })?;
                programs.tests.insert(target.clone(), program);
            }
        }
        if checks.iter().any(Check::is_machine) {
            let runner = binary(scratch, MACHINE)?;
            programs.machine = Some(kernel(scratch, runner));
        }
        Ok(programs)
    }

    /// The explorer's command.
    ///
    /// # Errors
    ///
    /// One sentence, if it was not built.
    pub(crate) fn explorer(&self) -> Result<&Path, String> {
        self.explorer.as_deref().ok_or_else(|| "the explorer was not built".to_owned())
    }

    /// A test executable.
    ///
    /// # Errors
    ///
    /// One sentence, if it was not built.
    pub(crate) fn test(&self, target: &Target) -> Result<&Program, String> {
        self.tests.get(target).ok_or_else(|| format!("{target:?} was not built"))
    }

    /// What boots machines.
    ///
    /// # Errors
    ///
    /// One sentence, if the kernel does not build.
    pub(crate) fn machine(&self) -> Result<&Machine, String> {
        match &self.machine {
            Some(machine) => machine.as_ref().map_err(String::clone),
            None => Err("no kernel was built".to_owned()),
        }
    }
}

fn test_arguments<'a>(package: &'a str, targets: &[&'a Target]) -> Vec<&'a str> {
    let mut arguments = vec!["test", "--no-run", "--package", package];
    for target in targets {
        let words = target.test.as_deref().map_or(vec!["--lib"], |test| vec!["--test", test]);
        // Some filters share an executable.
        if !arguments.ends_with(&words) {
            arguments.extend(words);
        }
    }
    arguments
}

/// Builds a package's command.
fn binary(scratch: &Scratch<'_>, package: &str) -> Result<PathBuf, Broken> {
    let built = cargo(scratch, &["build", "--package", package, "--bins"])?;
    let command = built.iter().rev().find(|line| line["executable"].is_string());
    let path = command.and_then(|line| line["executable"].as_str()).map(PathBuf::from);
    path.ok_or_else(|| Broken::without_place(format!("cargo built no command of {package}")))
}

/// Builds the kernel: its own command knows how.
fn kernel(scratch: &Scratch<'_>, runner: PathBuf) -> Result<Machine, String> {
    let output = scratch::run(scratch.command(&runner).arg("--build"))?;
    if !output.status.success() {
        return Err(format!("no machine can be booted: {}", first_error(&output)));
    }
    let image = String::from_utf8_lossy(&output.stdout).trim_end().into();
    Ok(Machine { runner, image, folder: scratch.folder().to_owned() })
}

/// Runs a cargo command in the copy, and gives its messages.
fn cargo(scratch: &Scratch<'_>, arguments: &[&str]) -> Result<Vec<Value>, Broken> {
    let mut cargo = scratch.cargo();
    cargo.args(arguments).args(["--quiet", "--message-format=json"]);
    let output = scratch::run(&mut cargo).map_err(Broken::without_place)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let messages: Vec<Value> =
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    if output.status.success() { Ok(messages) } else { Err(blame(&messages, &output)) }
}

/// Reads what the compiler says of its errors.
fn blame(messages: &[Value], output: &Output) -> Broken {
    let messages = messages.iter().map(|line| &line["message"]);
    let errors: Vec<&Value> = messages.filter(|message| message["level"] == "error").collect();
    let spans = errors.iter().flat_map(|error| error["spans"].as_array().into_iter().flatten());
    let primary = spans.filter(|span| span["is_primary"] == true);
    let places = primary.filter_map(|span| {
        let file = span["file_name"].as_str()?;
        Some((PathBuf::from(file), usize::try_from(span["byte_start"].as_u64()?).ok()?))
    });
    let said = errors.iter().find_map(|error| error["rendered"].as_str()?.lines().next());
    let first = said.map_or_else(|| first_error(output), str::to_owned);
    Broken { first, places: places.collect() }
}

/// The first error that a command printed.
fn first_error(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = text.lines().find(|line| line.starts_with("error"));
    line.or_else(|| text.lines().next()).unwrap_or("no output").to_owned()
}

/// The test executable that a message of cargo's is about, if it is the one that is looked for.
fn test_program(message: &Value, target: &Target) -> Option<Program> {
    let kinds = message["target"]["kind"].as_array()?;
    let name = message["target"]["name"].as_str()?;
    let is_right = match &target.test {
        Some(test) => name == test && kinds.contains(&Value::from("test")),
        // The library may have another name than its package; nothing else is built with `--lib`.
        None => kinds.contains(&Value::from("lib")) && message["profile"]["test"] == true,
    };
    let path = message["executable"].as_str().filter(|_| is_right)?;
    let manifest = Path::new(message["manifest_path"].as_str()?);
    Some(Program { path: path.into(), folder: manifest.parent()?.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    use serde_json::json;

    use super::*;

    #[test]
    fn errors_are_blamed_on_places() {
        let message = json!({ "reason": "compiler-message", "message": {
            "level": "error", "rendered": "error[E0308]: mismatched types\n --> core/src/a.rs",
            "spans": [
                { "file_name": "core/src/a.rs", "byte_start": 12, "is_primary": true },
                { "file_name": "core/src/b.rs", "byte_start": 1, "is_primary": false },
            ],
        }});
        let warning = json!({ "message": { "level": "warning", "spans": [] } });
        let status = ExitStatus::from_raw(256);
        let output = Output { status, stdout: Vec::new(), stderr: b"error: killed\n".to_vec() };
        let broken = blame(&[warning.clone(), message], &output);
        assert_eq!(broken.first, "error[E0308]: mismatched types");
        assert_eq!(broken.places, [(PathBuf::from("core/src/a.rs"), 12)]);
        assert_eq!(blame(&[warning], &output), Broken::without_place("error: killed".to_owned()));
    }

    #[test]
    fn executables_are_found_among_messages() {
        let target = |test: Option<&str>| Target {
            package: "weft-page-table".to_owned(),
            test: test.map(str::to_owned),
        };
        let message = |name: &str, kind: &str, test: bool| {
            json!({
                "manifest_path": "/copy/core/Cargo.toml",
                "target": { "name": name, "kind": [kind] },
                "profile": { "test": test },
                "executable": "/target/x",
            })
        };
        let found = |message, target| test_program(&message, &target).is_some();
        assert!(found(message("gate", "test", true), target(Some("gate"))));
        assert!(!found(message("gate", "bin", false), target(Some("gate"))));
        assert!(!found(message("gate", "test", true), target(Some("other"))));
        assert!(found(message("weft_core", "lib", true), target(None)));
        assert!(!found(message("weft_core", "lib", false), target(None)));
        assert!(!found(message("gate", "test", true), target(None)));
    }
}
