//! Bad input gets one sentence that says what to do, and exit code 4.

use serde_json::Value;

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
    refuses(
        &["walk_vs_mo?"],
        "no scenario's name fits \"walk_vs_mo?\" (a similar one is walk_vs_map)",
    );
    refuses(&["--skip", "nobody"], "no scenario's name contains \"nobody\"");
    refuses(&["lock_vs_lock", "--skip", "lock*"], "--skip leaves no scenario");
    refuses(&["sites", "--site", "WALK_ENTY"], "a similar one is WALK_ENTRY); sites --list shows");
    refuses(
        &["mutants", "WALK_ENTY"],
        "no mutant and no site fits \"WALK_ENTY\" (a similar one is",
    );
    refuses(&["lock", "nobody"], "no scenario's name contains \"nobody\"");
    refuses(&[""], "no scenario's name contains \"\"");
}

#[test]
fn unknown_flags_and_values() {
    refuses(&["--frobnicate"], "unexpected argument '--frobnicate'");
    refuses(&["--engine", "genmc"], "there is no engine \"genmc\"");
    refuses(&["--engine", "explore"], "\"explore\" (a similar one is explorer)");
    refuses(&["--sabotage", "LOCK_RELEAS"], "(a similar one is LOCK_RELEASE)");
    refuses(&["--sabotage", "forgoten-cpu-0"], "(a similar one is forgotten-cpu-0)");
    for shard in ["0/2", "3/2", "1", "a/b"] {
        refuses(&["--shard", shard], "use I/N with I from 1 to N, as 2/3");
    }
    refuses(&["lock_vs_lock", "--shard", "2/2"], "shard 2/2 has nothing to run");
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
    refuses("lost-count", "can only break the machine: use `just qemu --sabotage lost-count`");
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
    let token = &token("lock_vs_lock:explorer:mistake-copies-before-flush:e1");
    refuses(&["replay", token], "no selected scenario has a mistake \"copies-before-flush\"");
}

#[test]
fn flags_that_contradict_each_other() {
    refuses(&["--engine", "shuttle", "--require-exhausted"], "needs an engine that can exhaust");
    refuses(&["--engine", "shuttle", "--preemptions", "2"], "bounds preemptions");
    refuses(&["--engine", "loom", "--memory-model", "tso"], "needs the explorer");
    refuses(&["--preemptions", "2", "--require-exhausted"], "contradict each other");
    refuses(&["--long", "--deviations", "2"], "cannot be used with '--deviations <N>'");
    refuses(&["--list", "--format", "junit"], "--list has only the forms human and json");
    refuses(&["sites", "--engine", "threads"], "controls the schedule");
    refuses(&["mutants", "--no-sites", "--sites"], "cannot be used with");
}

#[test]
fn a_command_lists_and_takes_only_its_own_options() {
    for (command, others) in [
        ("sites", &["--no-twins", "--shard", "--sabotage", "--require-exhausted"][..]),
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

/// A token of the state of the code that the command was built with.
fn token(rest: &str) -> String {
    let head = run(&["lock_vs_lock", "--engine=threads", "--executions=1", "--format=jsonl"]).out;
    let head: Value = serde_json::from_str(head.lines().next().expect("a head")).expect("JSON");
    format!("wt2:{}:{rest}", head["state"].as_str().expect("a state"))
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
    refuses(&["replay", "what"], "a token has the form wt2:");
    refuses(&["replay", &token("nobody_vs_nobody:loom:-:e1")], "names a scenario");
    refuses(&["replay", &token("lock_vs_lock:genmc:-:e1")], "names an engine");
    let one = token("lock_vs_lock:loom:-:e1");
    refuses(&["replay", &one, "--format=jsonl"], "use --format json");
}

#[test]
fn a_token_that_the_engine_cannot_read_is_an_internal_error() {
    let ran = run(&["replay", &token("lock_vs_lock:loom:-:backwards")]);
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert!(ran.out.contains("malformed loom token \"backwards\""), "{ran:?}");
}

#[test]
fn a_token_of_another_state_of_the_code_says_so_where_it_leads_nowhere() {
    let broken = ["lock_vs_lock", "--engine=explorer", "--sabotage=LOCK_RELEASE"];
    let value = run(&[&broken[..], &["--format=json"]].concat()).json();
    let token = value["rows"][0]["token"].as_str().expect("a failure has a token");
    let [form, _, rest] = token.splitn(3, ':').collect::<Vec<_>>()[..] else { panic!("{token}") };
    let other = format!("{form}:00c0ffee:{rest}");
    let leads = run(&["replay", &other]);
    assert_eq!(leads.code, Some(1), "the execution is still there: {leads:?}");
    let (start, end) = other.rsplit_once("rc11-").expect("the engine's part");
    let misfit = format!("{start}rc11-0000beef{}", &end[8..]);
    let gone = other.replace("lock_vs_lock", "gone_vs_gone");
    let old = other.replace("wt2:", "wt1:");
    for (token, part) in [
        (
            misfit,
            "explore again by `just model-check lock_vs_lock --engine explorer --sabotage LOCK",
        ),
        (gone, "the token names a scenario \"gone_vs_gone\", and there is none"),
        (old, "the token begins with wt1:, and this command reads wt2: tokens"),
    ] {
        let ran = run(&["replay", &token]);
        assert_eq!(ran.code, Some(5), "{ran:?}");
        assert!(ran.out.is_empty() && ran.err.lines().count() == 1, "{ran:?}");
        assert!(ran.err.contains(part), "{ran:?}");
    }
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
