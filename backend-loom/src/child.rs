//! Asking another process, and being asked.
//!
//! The parent starts a program again with a request in the environment. The child explores and
//! answers with lines on its standard output, each marked so that other output does no harm:
//! progress now and then, and one report. A child that hangs is killed at its deadline, one that
//! dies is described by how it ended and by what it said last.
//!
//! A child makes one search, because a request names the time of one. So a request that compares
//! memory models becomes up to three children, and a finished verdict is kept whatever happens to
//! the children that only compare.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::engine::{MemoryModel, Progress, Verdict};
use crate::report::{Report, Request};

const REQUEST: &str = "WEFT_REQUEST";
const PROGRESS: &str = "@weft-progress ";
const REPORT: &str = "@weft-report ";

/// How much longer than the time of its search a child may take: to set up, and to find the
/// simplest execution that fails.
const GRACE: Duration = Duration::from_secs(20);

/// How often a parent looks whether it should stop waiting.
const STOP_INTERVAL: Duration = Duration::from_millis(100);

/// The request to this process, if it was started by [`ask`].
///
/// # Panics
///
/// If the request cannot be read: parent and child are different programs.
pub fn asked() -> Option<Request> {
    let text = std::env::var(REQUEST).ok()?;
    Some(serde_json::from_str(&text).expect("parent and child are the same program"))
}

/// Sends progress to the parent.
pub fn progress_to_parent() -> Progress {
    Arc::new(|executions| say(&format!("{PROGRESS}{executions}")))
}

/// Sends the report to the parent and ends the process.
pub fn answer(report: &Report) -> ! {
    say(&format!("{REPORT}{}", serde_json::to_string(report).expect("reports are plain data")));
    std::process::exit(0)
}

/// Writes a line of its own. A parent that went away is the end of this process too.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "\n{line}").and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// A child process, killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Already gone is as good as killed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts `command`, which answers with [`answer`], and waits for the report.
///
/// # Errors
///
/// One sentence, if the child cannot be started, dies, or passes its deadline.
pub fn ask(
    command: &mut Command,
    request: &Request,
    progress: impl FnMut(u64),
) -> Result<Report, String> {
    ask_until(command, request, || false, progress)
}

/// As [`ask`], but kills the child once `stop` says so; it is asked a few times a second.
///
/// # Errors
///
/// One sentence, if the child cannot be started, dies, passes its deadline, or is stopped.
pub fn ask_until(
    command: &mut Command,
    request: &Request,
    stop: impl Fn() -> bool,
    progress: impl FnMut(u64),
) -> Result<Report, String> {
    let mut report = ask_once(command, request, &stop, progress)?;
    if request.compare_models && report.verdict == Verdict::Exhausted {
        compare_models(command, request, &stop, &mut report);
    }
    Ok(report)
}

/// Counts the executions under the memory models that the request is not about. A search that does
/// not end gives no count.
fn compare_models(
    command: &mut Command,
    request: &Request,
    stop: &impl Fn() -> bool,
    report: &mut Report,
) {
    for memory_model in MemoryModel::ALL.into_iter().filter(|model| *model != request.memory_model)
    {
        let request = Request { memory_model, ..request.clone() };
        match ask_once(command, &request, stop, |_| ()) {
            Ok(other) if other.verdict == Verdict::Exhausted => {
                report.other_models.push((memory_model, other.executions));
            }
            Ok(_) => {}
            Err(error) => report.caveats.push(format!("not compared with {memory_model}: {error}")),
        }
    }
}

/// Asks one child for one search.
fn ask_once(
    command: &mut Command,
    request: &Request,
    stop: &impl Fn() -> bool,
    mut progress: impl FnMut(u64),
) -> Result<Report, String> {
    let text = serde_json::to_string(request).expect("requests are plain data");
    let child = command.env(REQUEST, text).stdin(Stdio::null()).stdout(Stdio::piped());
    let child = child.stderr(Stdio::piped()).spawn();
    let mut child = Running(child.map_err(|error| format!("cannot start the checker: {error}"))?);
    let (lines, received) = mpsc::channel();
    let out = child.0.stdout.take().expect("piped");
    thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            if lines.send(line).is_err() {
                break;
            }
        }
    });
    let mut err = child.0.stderr.take().expect("piped");
    let errors = thread::spawn(move || {
        let mut text = Vec::new();
        // What could be read until the pipe broke is what there is.
        let _ = err.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    });
    let deadline = Instant::now() + request.time + GRACE;
    loop {
        if stop() {
            return Err("the checker was stopped".to_owned());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        match received.recv_timeout(left.min(STOP_INTERVAL)) {
            Ok(line) => {
                if let Some(report) = line.strip_prefix(REPORT) {
                    let report = serde_json::from_str(report);
                    return report.map_err(|error| format!("the checker's answer is bad: {error}"));
                }
                if let Some(count) = line.strip_prefix(PROGRESS).and_then(|it| it.parse().ok()) {
                    progress(count);
                }
            }
            Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
            Err(RecvTimeoutError::Timeout) => {
                return Err(format!(
                    "the checker hung: no answer {} s after its budget was used up",
                    GRACE.as_secs()
                ));
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let status = child.0.wait().map_err(|error| format!("the checker is lost: {error}"))?;
    let said = errors.join().unwrap_or_default();
    let last: Vec<&str> = said.lines().rev().take(3).collect();
    let last: Vec<&str> = last.into_iter().rev().collect();
    Err(format!("the checker died without an answer ({status}): {}", last.join(" | ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chosen::EngineName;

    fn exhausted(executions: u64) -> Report {
        Report {
            scenario: "one_vs_other".to_owned(),
            engine: EngineName::Explorer,
            model: MemoryModel::Rc11.to_string(),
            sabotage: None,
            cpus: 2,
            verdict: Verdict::Exhausted,
            executions,
            blocked: 0,
            depth: 1,
            elapsed: Duration::ZERO,
            memory_peak: 0,
            outcomes: Default::default(),
            observations: Default::default(),
            reached: Default::default(),
            never_reached: Vec::new(),
            never_seen: Vec::new(),
            failure: None,
            caveats: Vec::new(),
            other_models: Vec::new(),
            coverage: Default::default(),
        }
    }

    /// A checker that answers to searches under RC11, and to others does what `otherwise` says.
    fn checker(otherwise: &str) -> Command {
        let answer = serde_json::to_string(&exhausted(9)).expect("reports are plain data");
        let mut command = Command::new("sh");
        let script = "case \"$WEFT_REQUEST\" in *rc11*) echo \"$0\";; *) eval \"$1\";; esac";
        command.args(["-c", script, &format!("{REPORT}{answer}"), otherwise]);
        command
    }

    fn request() -> Request {
        Request { time: Duration::from_secs(1), compare_models: true, ..Request::default() }
    }

    #[test]
    fn every_search_of_a_comparison_is_counted() {
        let report = ask(&mut checker("echo \"$0\""), &request(), |_| ()).expect("it answers");
        assert_eq!(report.other_models, [(MemoryModel::Tso, 9), (MemoryModel::Sc, 9)]);
        assert_eq!(report.is_robust(), Some(true));
    }

    #[test]
    fn a_verdict_outlives_the_comparison_with_other_models() {
        let report = ask(&mut checker("exit 3"), &request(), |_| ()).expect("the verdict is kept");
        assert_eq!((report.verdict, report.executions), (Verdict::Exhausted, 9));
        assert_eq!(report.other_models, []);
        let caveats = report.caveats.join("; ");
        for model in ["TSO", "SC"] {
            let part = format!("not compared with {model}: the checker died without an answer");
            assert!(caveats.contains(&part), "{caveats}");
        }
    }
}
