//! What the command says before any machine is booted.

use std::fs::File;
use std::process::{Command, Stdio};

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
    refuses(&mut command(&["--list", "--format", "junit"]), "--list has no JUnit form");
    refuses(&mut command(&["--format", "yaml"]), "[possible values: human, json, junit]");
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
    let output = command(&["--help"]).output().expect("the command starts");
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).contains(weft_shell::exit::TABLE));
}
