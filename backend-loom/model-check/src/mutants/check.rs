//! What may notice a mutant: a scenario, a test, or a machine.
//!
//! A check is written as people run it: the name of a scenario, `cargo test -p .. --test ..` with a
//! filter, or `just qemu ..`. Scenarios are explored by the engine that explores everything, in a
//! child process as ever. Tests are run as executables that cargo has built before, so that two
//! mutants never wait for each other's build.

use std::fmt;
use std::io::{self, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use weft_backend_loom::child;
use weft_shell::interruption;

use crate::arguments::Search;
use crate::checkers::{self, Checker, NAMES, Use};
use crate::jobs;

use super::builds::Programs;
use super::choice;

/// How long a test or a machine may take. The slowest takes a fifth of it on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long it may take to end when it is asked to.
const GRACE: Duration = Duration::from_secs(10);

/// How often it is asked whether the user has had enough.
const TICK: Duration = Duration::from_millis(100);

/// The command that boots machines.
const MACHINE: &str = "just qemu ";

/// One check, as it is written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Check {
    /// A scenario.
    Scenario(&'static str),
    /// Tests: an executable, and what it is told.
    Test(Target, Vec<String>),
    /// Scenarios, or tests of the kernel, on machines.
    Machine(Vec<String>),
}

/// A test executable: of a package the one called so, or the tests inside the library.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Target {
    /// The package.
    pub(crate) package: String,
    /// The integration test; none for the library.
    pub(crate) test: Option<String>,
}

/// How a check ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It found nothing; what it says of itself.
    Passed(String),
    /// It failed, and said so much, for an engine in so many executions.
    Failed(String, Option<u64>),
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scenario(name) => f.write_str(name),
            Self::Test(target, words) => {
                write!(f, "cargo test -p {}", target.package)?;
                match &target.test {
                    Some(test) => write!(f, " --test {test}")?,
                    None => f.write_str(" --lib")?,
                }
                words.iter().try_for_each(|word| write!(f, " {word}"))
            }
            Self::Machine(words) => write!(f, "{MACHINE}{}", words.join(" ")),
        }
    }
}

impl Check {
    /// Reads what a mutant's file says.
    ///
    /// # Errors
    ///
    /// One sentence, if this is no check.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        if let Some(options) = text.strip_prefix("cargo test ") {
            return test(&words(options)).ok_or_else(|| {
                format!("`{text}` is not `cargo test -p PACKAGE --test NAME|--lib [FILTER]`")
            });
        }
        if let Some(options) = text.strip_prefix(MACHINE) {
            return Ok(Self::Machine(words(options)));
        }
        let name = NAMES.iter().find(|name| **name == text);
        name.map(|name| Self::Scenario(name)).ok_or_else(|| {
            format!(
                "`{text}` is no check: name a scenario of model-check --list, or a `cargo test` or \
                 a `just qemu` command"
            )
        })
    }

    /// Every scenario.
    pub(crate) fn all_scenarios() -> impl Iterator<Item = Self> {
        NAMES.iter().map(|name| Self::Scenario(name))
    }

    /// Whether it boots a machine.
    pub(crate) fn is_machine(&self) -> bool {
        matches!(self, Self::Machine(_))
    }

    /// Runs it on a mutant; number 0 is none.
    ///
    /// # Errors
    ///
    /// One sentence, if it has no answer.
    pub(crate) fn run(
        &self,
        programs: &Programs,
        mutant: u32,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Outcome, String> {
        match self {
            Self::Scenario(name) => explore(name, programs, mutant, progress),
            Self::Test(target, words) => {
                let program = programs.test(target)?;
                let mut command = Command::new(&program.path);
                command.args(words).current_dir(&program.folder);
                command.env("CARGO_MANIFEST_DIR", &program.folder);
                command.env(choice::VARIABLE, mutant.to_string());
                // Which program fails is the question, and neither which small one does nor where.
                command.env("PROPTEST_MAX_SHRINK_ITERS", "0").env("RUST_BACKTRACE", "0");
                finish(command)
            }
            Self::Machine(words) => {
                let machine = programs.machine()?;
                let image = choice::image(&machine.image, mutant)?;
                let mut command = Command::new(&machine.runner);
                command.args(words).args(["--no-twins", "--no-models", "--image"]);
                command.arg(image.path()).current_dir(&machine.folder);
                finish(command)
            }
        }
    }
}

/// Reads the options of a `cargo test` command.
fn test(words: &[String]) -> Option<Check> {
    let mut words = words.iter().map(String::as_str).filter(|word| *word != "--quiet");
    let package = words.next().filter(|word| ["-p", "--package"].contains(word));
    let package = package.and_then(|_| words.next())?.to_owned();
    let test = match words.next()? {
        "--lib" => None,
        "--test" => Some(words.next()?.to_owned()),
        _ => return None,
    };
    let rest = words.filter(|word| *word != "--").map(str::to_owned).collect();
    Some(Check::Test(Target { package, test }, rest))
}

/// The engine that mutants are tried with: the one that explores everything.
fn engine() -> &'static Checker {
    let everything = checkers::ALL.iter().find(|it| it.used_for == Use::Everything);
    everything.unwrap_or(&checkers::ALL[0])
}

fn explore(
    scenario: &str,
    programs: &Programs,
    mutant: u32,
    progress: &mut dyn FnMut(u64),
) -> Result<Outcome, String> {
    let engine = engine();
    let plan = checkers::prepare(scenario).expect("listed names exist").plan;
    let stages = jobs::broken_stages(&Search::default(), engine, &plan, None);
    let request = stages.first().expect("there is a first stage");
    let mut command = Command::new(programs.explorer()?);
    command.args(["child", scenario, engine.name()]).env(choice::VARIABLE, mutant.to_string());
    command.process_group(0);
    match child::ask_until(&mut command, request, interruption::is_here, progress) {
        Ok(report) => Ok(match report.failure {
            Some(failure) => Outcome::Failed(failure.message, Some(report.executions)),
            None => Outcome::Passed(report.verdict.to_string()),
        }),
        // A broken core may end the checker itself.
        Err(sentence) if !interruption::is_here() => Ok(Outcome::Failed(sentence, None)),
        Err(sentence) => Err(sentence),
    }
}

/// Runs a command to its end, and hears what it says on both of its outputs.
fn finish(mut command: Command) -> Result<Outcome, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let cannot = |error: io::Error| format!("cannot run {name}: {error}");
    let (mut reader, writer) = io::pipe().map_err(cannot)?;
    command.stdin(Stdio::null()).stdout(writer.try_clone().map_err(cannot)?).stderr(writer);
    // A group of its own: the terminal's Ctrl-C reaches us alone, and we end the children.
    let mut child = command.process_group(0).spawn().map_err(cannot)?;
    drop(command);
    let (sender, said) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What could be read until the pipe broke is what there is.
        let _ = reader.read_to_end(&mut bytes);
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    let mut deadline = Instant::now() + PATIENCE;
    let mut stopped = None;
    let said = loop {
        let ends = match said.recv_timeout(TICK) {
            Ok(text) => break text,
            Err(RecvTimeoutError::Disconnected) => break String::new(),
            Err(RecvTimeoutError::Timeout) => interruption::is_here() || Instant::now() >= deadline,
        };
        if !ends {
            continue;
        }
        match stopped {
            None => {
                let sentence = format!("it does not end within {} s", PATIENCE.as_secs());
                stopped = Some(sentence);
                deadline = Instant::now() + GRACE;
                signal("INT", &mut child);
            }
            Some(_) if Instant::now() >= deadline => signal("KILL", &mut child),
            Some(_) => {}
        }
    };
    let status = child.wait().map_err(cannot)?;
    match stopped {
        Some(_) if interruption::is_here() => Err("it was stopped".to_owned()),
        Some(sentence) => Ok(Outcome::Failed(sentence, None)),
        None if status.success() => Ok(Outcome::Passed("its tests do not fail".to_owned())),
        None => Ok(Outcome::Failed(format!("{said}\n{status}"), None)),
    }
}

/// Signals a child and its own children, as a terminal does.
fn signal(name: &str, child: &mut Child) {
    let group = format!("-{}", child.id());
    let sent = Command::new("kill").args([&format!("-{name}"), "--", &group]).status();
    if !sent.is_ok_and(|status| status.success()) {
        // Already gone is as good as killed.
        let _ = child.kill();
    }
}

/// A test executable, and the folder that its package is in.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// The executable.
    pub(crate) path: PathBuf,
    /// The folder.
    pub(crate) folder: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_are_written_as_people_run_them() {
        for text in [
            "lock_vs_lock",
            "cargo test -p weft-explorer --test gate litmus_outcomes",
            "cargo test -p weft-core --lib merging:: --exact",
            "just qemu lock_vs_lock --timeout 8",
        ] {
            let check = Check::parse(text).expect(text);
            assert_eq!(check.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_check_is_refused() {
        for (text, part) in [
            ("nobody_vs_nobody", "is no check"),
            ("rm -r /", "is no check"),
            ("cargo run -p weft-qemu-runner", "is no check"),
            ("cargo test -p weft-explorer", "is not `cargo test -p PACKAGE --test"),
            ("cargo test --workspace", "is not `cargo test -p PACKAGE --test"),
        ] {
            let error = Check::parse(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_command_is_judged_by_its_exit_code_and_heard_on_both_outputs() {
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            finish(command)
        };
        assert!(matches!(shell("exit 0"), Ok(Outcome::Passed(_))));
        let failed = shell("echo one; echo two >&2; exit 3").expect("it ends");
        let Outcome::Failed(said, None) = failed else { panic!("{failed:?}") };
        assert!(said.contains("one") && said.contains("two") && said.contains('3'), "{said}");
    }
}
