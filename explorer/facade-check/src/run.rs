//! Runs one test in a process of its own, with a limit.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::build::Side;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    Passed,
    Failed,
    /// By a signal.
    Died,
    DidNotEnd,
}

/// What a test did on one side.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    /// The sum over its models, if it has any that ended.
    pub(crate) executions: Option<u64>,
    pub(crate) time: Duration,
}

/// The tests of a program that are not ignored.
pub(crate) fn list(program: &Path) -> Result<Vec<String>, String> {
    let output = Command::new(program).args(["--list", "--format", "terse"]).output();
    let output = output.map_err(|error| format!("{}: {error}", program.display()))?;
    let ignored = Command::new(program).args(["--list", "--format", "terse", "--ignored"]).output();
    let ignored = ignored.map_err(|error| format!("{}: {error}", program.display()))?;
    let names = |text: &[u8]| -> Vec<String> {
        let text = String::from_utf8_lossy(text);
        text.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
    };
    let ignored = names(&ignored.stdout);
    Ok(names(&output.stdout).into_iter().filter(|test| !ignored.contains(test)).collect())
}

/// Runs a test. The process is killed when the limit is reached.
pub(crate) fn run(
    program: &Path,
    test: &str,
    side: Side,
    limit: Duration,
) -> Result<Outcome, String> {
    let failed = |error: std::io::Error| format!("{test} cannot be run: {error}");
    // In a file, because a pipe that is full would stop the test.
    let file = program.with_extension("output");
    let output = File::create(&file).map_err(failed)?;
    let errors = output.try_clone().map_err(failed)?;
    let mut command = Command::new(program);
    command.args(["--exact", test, "--nocapture", "--test-threads", "1"]);
    command.env_remove("RUST_BACKTRACE").env("LOOM_LOG", "info");
    command.stdin(Stdio::null()).stdout(output).stderr(errors);
    let begun = Instant::now();
    let mut child = command.spawn().map_err(failed)?;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            break Some(status);
        }
        if begun.elapsed() > limit {
            let _ = child.kill();
            let _ = child.wait();
            break None;
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    let time = begun.elapsed();
    let text = String::from_utf8_lossy(&fs::read(&file).map_err(failed)?).into_owned();
    let verdict = match status {
        None => Verdict::DidNotEnd,
        Some(status) if status.success() => Verdict::Passed,
        Some(status) if status.code().is_some() => Verdict::Failed,
        Some(_) => Verdict::Died,
    };
    Ok(Outcome { verdict, executions: count(&text, side), time })
}

/// How many executions the lines of a test name.
fn count(text: &str, side: Side) -> Option<u64> {
    let (before, after) = match side {
        Side::Loom => ("Completed in ", " iterations"),
        Side::Weft => (": ", " executions"),
    };
    let number = |line: &str| -> Option<u64> {
        let (head, _) = line.split_once(after)?;
        head.rsplit_once(before)?.1.parse().ok()
    };
    let lines = text.lines().filter(|line| side == Side::Loom || line.contains("weft-loom: "));
    let numbers: Vec<u64> = lines.filter_map(number).collect();
    (!numbers.is_empty()).then(|| numbers.iter().sum())
}
