//! What the command says before any machine is booted.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qemu-runner"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Demands exit code 4, no results, and one sentence with this part.
fn refuses(command: &mut Command, part: &str) {
    let output = command.output().expect("the command starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{command:?}: {said}");
    assert!(output.stdout.is_empty(), "{command:?}");
    assert!(said.starts_with("qemu: ") && said.lines().count() == 1, "{command:?}: {said}");
    assert!(said.contains(part), "{command:?}: {said}");
}

#[test]
fn unknown_flags_and_values() {
    refuses(&mut command(&["--colour"]), "unexpected argument '--colour'");
    refuses(&mut command(&["--sed", "1"]), "a similar argument exists: '--seed'");
    refuses(&mut command(&["--cpus", "0"]), "--help shows what there is");
    refuses(
        &mut command(&["--list", "--format", "junit"]),
        "--list has only the forms human and json",
    );
    refuses(&mut command(&["--format", "yaml"]), "[possible values: human, json, junit, ");
}

#[test]
fn sabotages_that_no_machine_has() {
    let sabotage = |how| command(&["--sabotage", how]);
    refuses(&mut sabotage("rain"), "unknown sabotage \"rain\": use torn-updates");
    refuses(&mut sabotage("LOCK_RELEASE"), "use `just model-check --sabotage LOCK_RELEASE`");
}

#[test]
fn boots_and_times_that_make_no_sense() {
    refuses(&mut command(&["--boots", "0"]), "invalid value '0' for '--boots <N>'");
    let unit = "use a number and its unit, as in 90s, 10m or 1h";
    for time in ["10", "0s", "m", "-1h", "5000000000s"] {
        refuses(&mut command(&[&format!("--soak={time}")]), unit);
    }
    refuses(&mut command(&["--soak", "1m", "--boots", "3"]), "cannot be used with '--boots <N>'");
    let broken = ["--soak", "1m", "--sabotage", "no-shootdown"];
    refuses(&mut command(&broken), "cannot be used with '--sabotage <HOW>'");
}

#[test]
fn a_host_without_qemu() {
    refuses(command(&[]).env("PATH", "/nowhere"), "is missing: install it with");
}

#[test]
fn results_that_cannot_be_written_are_code_4() {
    let full = File::create("/dev/full").expect("the system has one");
    refuses(command(&["--help"]).stdout(full), "cannot write the results: No space left");
}

#[test]
fn help_tells_what_exit_codes_mean() {
    let output = command(&["--help"]).env_remove("COLUMNS").output().expect("the command starts");
    assert_eq!(output.status.code(), Some(0));
    let help = String::from_utf8_lossy(&output.stdout);
    assert!(help.contains(weft_shell::exit::TABLE));
    let file = include_str!("../../docs/help/qemu.txt");
    assert!(file == help, "write this to docs/help/qemu.txt:\n{help}");
}

/// Stands in for QEMU: says its version, notes its process, and does as the kernel would that has
/// three scenarios, of which the first is not broken.
const QEMU: &str = r#"#!/bin/sh
case "$*" in
    --version) echo "QEMU emulator version 10.0.2"; exit ;;
esac
cd "${0%/*}"
if [ -e hang ]; then echo $$ >pid; exec sleep 600; fi
if [ -e broken ]; then echo "$(cat broken)" >&2; exit 1; fi
tab=$(printf '\t')
say() { echo "$*" | sed "s/ /$tab/g"; }
case "$*" in
    *append\ list*)
        say @boot 4 100
        say @scenario good_vs_good Title 2
        say @scenario bad_vs_bad Title 2
        say @scenario never_vs_never Title 2
        say @done 0
        exit 33 ;;
    *scenario=good_vs_good*)
        say @boot 4 100
        say @announce 1
        say @passed good_vs_good 3
        say @done 1
        exit 33 ;;
    *)
        say @boot 4 100
        say @announce 1
        say @panic 0 leaked core/src/run.rs:7:9
        exit 35 ;;
esac
"#;

/// A folder with that QEMU, and an image that it does not look at; removed in the end.
struct Host(PathBuf);

impl Host {
    fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        // It is there if a run before was ended half-way.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder can be made");
        let host = Self(folder);
        host.write("image", "");
        host.write("qemu-system-x86_64", QEMU);
        let program = host.0.join("qemu-system-x86_64");
        fs::set_permissions(program, Permissions::from_mode(0o755)).expect("it is ours");
        host
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.join(name), text).expect("the folder can be written");
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let paths = [self.0.clone()].into_iter().chain(std::env::split_paths(&path));
        let mut command = command(&["--no-models", "--repeat=3", "--jobs=1", "--image"]);
        command.arg(self.0.join("image")).args(arguments);
        command.env("PATH", std::env::join_paths(paths).expect("folders have no colons"));
        command
    }

    fn run(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = self.command(arguments).output().expect("the command starts");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // What stays is in the way of nothing.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Looks for something until it is there; a long time is a failure.
fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    let mut found = None;
    while found.is_none() && start.elapsed() < Duration::from_secs(60) {
        found = look();
        std::thread::yield_now();
    }
    found
}

#[test]
fn a_runner_that_is_killed_takes_its_machines_along() {
    let host = Host::new("killed");
    host.write("hang", "");
    let mut command = host.command(&[]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut child = child.expect("the command starts");
    let pid = || fs::read_to_string(host.0.join("pid")).ok()?.trim().parse::<u32>().ok();
    let machine = wait_for(pid).expect("a machine has started");
    let process = format!("/proc/{machine}/cmdline");
    let is_there = || fs::read_to_string(&process).is_ok_and(|line| line.contains("sleep"));
    wait_for(|| is_there().then_some(())).expect("the machine runs");
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    assert!(wait_for(|| (!is_there()).then_some(())).is_some(), "machine {machine} lives on");
}

#[test]
fn a_qemu_that_breaks_is_told_in_words() {
    let host = Host::new("broken");
    host.write("broken", &"garbage \u{1}\u{2} of many bytes\n".repeat(500));
    let mut command = host.command(&[]);
    refuses(
        &mut command,
        "the kernel does not list its scenarios, since QEMU ended with status 1: ",
    );
    let said = command.output().expect("the command starts").stderr;
    assert!(said.len() < 700 && !said.contains(&1), "{}", String::from_utf8_lossy(&said));
    assert!(!said.windows(5).any(|part| part == b"Some("), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn filters_take_patterns_and_leave_out() {
    let host = Host::new("filters");
    assert_eq!(host.run(&["good*"]).0, Some(0));
    assert_eq!(host.run(&["--skip=bad*", "--skip=never"]).0, Some(0));
    assert_eq!(host.run(&[]).0, Some(1));
    let none = "no scenario's name contains \"god_vs_good\" (a similar one is good_vs_good)";
    refuses(&mut host.command(&["god_vs_good"]), none);
    refuses(&mut host.command(&["--skip=*"]), "skip less");
    refuses(&mut host.command(&["--sabotage=no-shotdown"]), "(a similar one is no-shootdown)");
}

#[test]
fn lines_come_as_machines_end_and_are_lost_by_no_one() {
    let host = Host::new("lines");
    let file = host.0.join("run.jsonl");
    let output = format!("--output={}", file.display());
    let (code, out) = host.run(&["good*", "bad*", "--format=jsonl", &output]);
    assert_eq!(code, Some(1), "{out}");
    assert_eq!(fs::read_to_string(&file).expect("there is a record"), out);
    let lines: Vec<Value> =
        out.lines().map(|line| serde_json::from_str(line).expect("it is JSON")).collect();
    let records: Vec<_> = lines.iter().map(|line| line["record"].clone()).collect();
    assert_eq!(records, ["run", "boot", "boot", "end"]);
    assert_eq!(lines[0]["provenance"]["tool"], "qemu");
    assert_eq!(lines[1]["failure"], Value::Null);
    assert_eq!(lines[2]["failure"]["message"], "leaked");
    refuses(&mut host.command(&[&output]), "exists already");
    let full = host.command(&["--output=/dev/full"]).output().expect("the command starts");
    assert_eq!(full.status.code(), Some(4));
    let full = File::create("/dev/full").expect("the system has one");
    let lost = host.command(&["good*"]).stdout(full).output().expect("the command starts");
    assert_eq!(lost.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&lost.stderr).contains("cannot write the results"));
}

#[test]
fn the_first_machine_that_fails_is_the_last_one_where_that_is_asked_for() {
    let host = Host::new("fast");
    for (arguments, boots) in
        [(&["--deterministic"][..], 3), (&["--deterministic", "--fail-fast"], 2)]
    {
        let (code, out) = host.run(&[arguments, &["--format=jsonl"]].concat());
        assert_eq!(code, Some(1), "{out}");
        assert_eq!(out.matches("\"record\":\"boot\"").count(), boots, "{out}");
    }
    let (code, out) = host.run(&["bad*", "--format=github"]);
    assert_eq!(code, Some(1), "{out}");
    let start = "::error file=core/src/run.rs,line=7,col=9,title=bad_vs_bad on a machine::leaked";
    assert!(out.starts_with(start), "{out}");
}

#[test]
fn what_fails_on_a_machine_has_a_page() {
    let host = Host::new("pages");
    let folder = host.0.join("report");
    let report = format!("--report={}", folder.display());
    let (code, out) = host.run(&["good*", "bad*", &report]);
    assert_eq!(code, Some(1), "{out}");
    let page = folder.join("qemu-bad_vs_bad.html");
    assert!(out.contains(&format!("  PAGE   {}\n", page.display())), "{out}");
    let page = fs::read_to_string(page).expect("it is there");
    for part in ["leaked", "processor 0</b><div><code>fails here", "just qemu bad_vs_bad"] {
        assert!(page.contains(part), "no {part:?} in {page}");
    }
    let source = include_str!("../../core/src/run.rs").lines().nth(6).expect("it has a line 7");
    assert!(page.contains(source.split('<').next().unwrap_or_default()), "{source:?} in {page}");
    let index = fs::read_to_string(folder.join("qemu.html")).expect("it is there");
    assert!(index.contains("<a href=\"qemu-bad_vs_bad.html\">bad_vs_bad</a>"), "{index}");
    assert!(!index.contains("compared with"), "{index}");
    // What was found earlier, in which the good one was bad and took longer.
    let (_, earlier) = host.run(&["--format=json"]);
    let earlier = earlier.replacen("\"judgement\": \"good\"", "\"judgement\": \"bad\"", 1);
    host.write("earlier.json", &earlier);
    let compare = format!("--earlier={}", host.0.join("earlier.json").display());
    assert_eq!(host.run(&["good*", "bad*", &report, &compare]).0, Some(1));
    let index = fs::read_to_string(folder.join("qemu.html")).expect("it is there");
    for part in ["compared with ", "was bad", "not run now: never_vs_never"] {
        assert!(index.contains(part), "no {part:?} in {index}");
    }
}

#[test]
fn reports_that_cannot_be_written_or_compared() {
    let host = Host::new("reports");
    let sentence = "cannot write the report to /dev/null/report: Not a directory";
    refuses(&mut host.command(&["--report=/dev/null/report"]), sentence);
    let report = format!("--report={}", host.0.join("report").display());
    let compare = |name: &str| format!("--earlier={}", host.0.join(name).display());
    host.write("broken.json", "{");
    let sentence = "is no document of results: name a document that `qemu --format json`";
    refuses(&mut host.command(&[&report, &compare("broken.json")]), sentence);
    refuses(&mut host.command(&[&report, &compare("none.json")]), "No such file");
    refuses(&mut host.command(&[&compare("broken.json")]), "--report <FOLDER>");
    host.write("old.json", r#"{ "version": 1, "rows": [] }"#);
    let old = host.command(&[&report, &compare("old.json")]).output().expect("it starts");
    assert_eq!(old.status.code(), Some(5), "it has another form");
    assert!(String::from_utf8_lossy(&old.stderr).contains("in form 1"), "{old:?}");
}
