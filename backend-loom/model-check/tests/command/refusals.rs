//! Bad input gets one sentence that says what to do, and exit code 4.

use crate::run;

/// Runs with bad arguments; the one sentence must contain `part`.
fn refuses(arguments: &[&str], part: &str) {
    let ran = run(arguments);
    assert_eq!(ran.code, Some(4), "{arguments:?}: {ran:?}");
    assert!(ran.out.is_empty(), "{arguments:?}: {ran:?}");
    assert_eq!(ran.err.lines().count(), 1, "{arguments:?}: {ran:?}");
    assert!(ran.err.contains(part), "{arguments:?}: {ran:?}");
}

#[test]
fn a_filter_that_selects_nothing() {
    refuses(&["nobody_vs_nobody"], "no scenario's name contains \"nobody_vs_nobody\"");
    refuses(&["walk_vs_mop"], "\"walk_vs_mop\" (a similar one is walk_vs_map); --list shows all");
    refuses(&["lock", "nobody"], "no scenario's name contains \"nobody\"");
    refuses(&[""], "no scenario's name contains \"\"");
}

#[test]
fn unknown_flags_and_values() {
    refuses(&["--frobnicate"], "unexpected argument '--frobnicate'");
    refuses(&["--engine", "genmc"], "there is no engine \"genmc\"");
    refuses(&["--engine"], "a value is required for '--engine");
    refuses(&["--format", "yaml"], "invalid value 'yaml'");
    refuses(&["--time", "0"], "not between");
    refuses(&["--time", "soon"], "not a number of seconds");
    refuses(&["--executions", "0"], "invalid value '0'");
    refuses(&["--jobs", "0"], "invalid value '0'");
    refuses(&["--sabotage", "gently"], "unknown sabotage \"gently\"");
    refuses(&["--memory-model", "arm"], "invalid value 'arm'");
}

#[test]
fn sabotages_that_break_nothing() {
    let refuses = |how, part| refuses(&["lock_vs_lock", "--sabotage", how], part);
    refuses("forgotten-cpu-9", "no selected scenario has a CPU 9: name one of 0 to 1");
    refuses("forgotten-cpu-200", "no selected scenario has a CPU 200");
    refuses("never-freed", "can only break the machine: use `just qemu --sabotage never-freed`");
    refuses("mistake-", "unknown sabotage \"mistake-\"");
    refuses("mistake-frees-first", "no selected scenario has a mistake \"frees-first\"; --list");
    refuses("LOCK_CONTENDED", "can be weakened in 0 ways");
    refuses("LOCK_RELEASE@lock.rs:1", "\"lock.rs:1\" is no line of the core");
    refuses(
        "LOCK_RELEASE@core/src/lock.rs:1",
        "no access of LOCK_RELEASE is at core/src/lock.rs:1",
    );
    refuses("LOCK_RELEASE@core/src/nowhere.rs:1", "no access of LOCK_RELEASE is at");
}

#[test]
fn mistakes_that_no_caller_makes() {
    let similar = "has a mistake \"copies-after-flush\" (a similar one is copies-before-flush)";
    refuses(&["--sabotage", "mistake-copies-after-flush"], similar);
    let token = "wt1:lock_vs_lock:explorer:mistake-copies-before-flush:e1";
    refuses(&["replay", token], "no selected scenario has a mistake \"copies-before-flush\"");
}

#[test]
fn flags_that_contradict_each_other() {
    refuses(&["--engine", "shuttle", "--require-exhausted"], "needs an engine that can exhaust");
    refuses(&["--engine", "shuttle", "--preemptions", "2"], "bounds preemptions");
    refuses(&["--engine", "loom", "--memory-model", "tso"], "needs the explorer");
    refuses(&["--preemptions", "2", "--require-exhausted"], "contradict each other");
    refuses(&["--list", "--format", "junit"], "no JUnit form");
    refuses(&["sites", "--engine", "threads"], "controls the schedule");
    refuses(&["mutants", "--no-sites", "--sites"], "cannot be used with");
}

#[test]
fn a_command_lists_and_takes_only_its_own_options() {
    for (command, others) in [
        ("sites", &["--no-twins", "--list", "--sabotage", "--require-exhausted"][..]),
        ("speed", &["--no-twins", "--engine", "--jobs"]),
        ("coverage", &["--engine", "--time"]),
    ] {
        let help = run(&[command, "--help"]).out;
        assert!(!help.contains("junit"), "{help}");
        refuses(&[command, "--format", "junit"], "[possible values: human, json]");
        for other in others {
            assert!(!help.contains(other), "{command}: {help}");
            refuses(&[command, other], "unexpected argument");
        }
    }
}

#[test]
fn races_that_are_none() {
    refuses(&["races", "nobody_vs_nobody"], "no scenario's name contains \"nobody_vs_nobody\"");
    refuses(&["races", "--engine", "genmc"], "there is no engine \"genmc\"");
    refuses(&["races", "--documents", "--machine"], "cannot be used with");
    refuses(&["races", "--check", "--directory", "/tmp"], "cannot be used with");
}

#[test]
fn tokens_that_lead_nowhere() {
    refuses(&["replay"], "<TOKEN>");
    refuses(&["replay", "what"], "a token has the form wt1:");
    refuses(&["replay", "wt1:nobody_vs_nobody:loom:-:e1"], "names a scenario");
    refuses(&["replay", "wt1:lock_vs_lock:genmc:-:e1"], "names an engine");
}

#[test]
fn a_token_that_the_engine_cannot_read_is_an_internal_error() {
    let ran = run(&["replay", "wt1:lock_vs_lock:loom:-:backwards"]);
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert!(ran.out.contains("malformed loom token \"backwards\""), "{ran:?}");
}

#[test]
fn names_that_are_no_races() {
    refuses(&["new-scenario", "walk"], "use <actor>_vs_<actor>");
    refuses(&["new-scenario", "../a_vs_b"], "use <actor>_vs_<actor>");
    refuses(&["new-scenario", "lock_vs_lock"], "exists already");
    refuses(&["new-scenario", "a_vs_b", "--folder", "/nowhere"], "is not a folder");
}

#[test]
fn a_child_is_not_for_people() {
    refuses(&["child", "lock_vs_lock", "loom"], "`child` is for model-check itself");
}
