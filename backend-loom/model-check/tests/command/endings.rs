//! Ends that nobody planned: what was finished before is still shown.

use std::fmt::Display;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Ran, command, ran};

/// One row that ends at once, and then one that would take a minute.
const LONG: &[&str] = &[
    "lock_vs_lock",
    "--engine=explorer",
    "--engine=shuttle",
    "--executions=1000000000",
    "--time=60",
    "--jobs=1",
    "--no-twins",
    "--format=json",
];

/// Starts the command and waits until its second row has begun. Gives the process that explores.
fn start() -> (Child, Option<u32>) {
    let mut command = command(LONG);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let of_shuttle = |pid: &u32| {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.ends_with("\0shuttle\0")
    };
    let explorer = wait_for(|| children(child.id()).into_iter().find(of_shuttle));
    (child, explorer)
}

/// Looks for something until it is there; a long time is a failure.
pub(crate) fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    let mut found = None;
    while found.is_none() && start.elapsed() < Duration::from_secs(60) {
        found = look();
        std::thread::yield_now();
    }
    found
}

/// The processes that a process has started.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists =
        tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok());
    let lists: Vec<String> = lists.collect();
    let pids = lists.iter().flat_map(|list| list.split_whitespace());
    pids.filter_map(|pid| pid.parse().ok()).collect()
}

/// Sends a signal to a process, or to a group of them, which is a negative number.
pub(crate) fn signal(name: &str, pid: impl Display) {
    let status = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status();
    assert!(status.expect("there is a shell").success());
}

fn end(child: Child) -> Ran {
    ran(child.wait_with_output().expect("it ends"))
}

#[test]
fn an_interruption_shows_what_finished_and_ends_the_children() {
    let (child, explorer) = start();
    let explorer = explorer.expect("an exploration has begun");
    signal("INT", child.id());
    let ran = end(child);
    assert_eq!(ran.code, Some(130), "{ran:?}");
    let value = ran.json();
    assert_eq!(value["rows"].as_array().map(Vec::len), Some(1), "{value:#}");
    assert_eq!(value["rows"][0]["verdict"], "EXHAUSTED");
    assert_eq!(value["unfinished"], 1);
    assert!(!fs::exists(format!("/proc/{explorer}")).unwrap_or(true), "a child is left");
}

#[test]
fn a_checker_that_dies_is_a_row_and_the_others_stay() {
    let (child, explorer) = start();
    let explorer = explorer.expect("an exploration has begun");
    signal("KILL", explorer);
    let ran = end(child);
    assert_eq!(ran.code, Some(4), "{ran:?}");
    let value = ran.json();
    assert_eq!(value["rows"][0]["verdict"], "EXHAUSTED", "{value:#}");
    assert_eq!(value["rows"][1]["verdict"], "DIED", "{value:#}");
    let error = value["rows"][1]["error"].as_str().unwrap_or_default();
    assert!(error.contains("died without an answer (signal: 9"), "{error}");
}
