//! What comes out: verdicts, documents, and a failure from its columns to its replay.

use std::io::Read as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::{command, ran, run};

#[test]
fn a_whole_world_is_good_and_says_what_that_means() {
    let ran = run(&["lock_vs_lock", "--executions", "300"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for part in ["EXHAUSTED", "SAMPLED 300", "RC11", "GOOD: no violation; 1 scenario", "twins"] {
        assert!(ran.out.contains(part), "no {part:?} in {}", ran.out);
    }
    assert!(!ran.out.contains('\u{1b}'), "colours without a terminal: {}", ran.out);
    assert!(!ran.out.to_lowercase().contains("passed"), "{}", ran.out);
}

#[test]
fn json_has_what_a_program_needs() {
    let ran =
        run(&["lock_vs_lock", "--format", "json", "--engine", "explorer", "--engine", "loom"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let value = ran.json();
    assert_eq!(value["exit"], 0);
    let rows = value["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 2, "{value:#}");
    for row in rows {
        assert_eq!(row["scenario"], "lock_vs_lock");
        assert_eq!(row["verdict"], "EXHAUSTED");
        assert!(row["executions"].as_u64() > Some(0), "{row:#}");
        assert!(row["elapsed_seconds"].is_f64(), "{row:#}");
        assert_eq!(row["observations"], rows[0]["observations"]);
    }
    let twins = value["twins"].as_array().expect("twins");
    assert!(twins.len() >= 4, "{value:#}");
    assert!(twins.iter().all(|twin| twin["result"] == "caught"), "{value:#}");
}

#[test]
fn junit_counts_failures() {
    let whole = run(&["lock_vs_lock", "--format", "junit", "--engine", "explorer"]);
    assert_eq!(whole.code, Some(0), "{whole:?}");
    assert!(whole.out.contains("failures=\"0\""), "{}", whole.out);
    let arguments = ["lock_vs_lock", "--format", "junit", "--engine", "explorer"];
    let broken = run(&[&arguments[..], &["--sabotage", "LOCK_RELEASE"]].concat());
    assert_eq!(broken.code, Some(1), "{broken:?}");
    assert!(broken.out.contains("failures=\"1\""), "{}", broken.out);
    assert!(broken.out.contains("data race on N1.children"), "{}", broken.out);
}

#[test]
fn the_list_names_roles_outcomes_situations_and_twins() {
    let ran = run(&["--list", "lock_vs_detach"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for part in ["Lock vs. detach", "mapper", "forbidden", "demanded", "twin", "\n1 scenario\n"] {
        assert!(ran.out.contains(part), "no {part:?} in {}", ran.out);
    }
    let ran = run(&["--list", "copy_vs_writes", "activate_vs_unmap"]);
    for part in [
        "mistake-copies-before-flush: the copier copies the page before it flushes, caught with",
        "history      1 (linux 71b3c126e611, CVE-2016-2069): a space is switched to",
    ] {
        assert!(ran.out.contains(part), "no {part:?} in {}", ran.out);
    }
    let value = run(&["--list", "--format", "json"]).json();
    let scenarios = value["scenarios"].as_array().expect("scenarios");
    let files = std::fs::read_dir("../../scenarios/tests");
    let files = files.expect("the folder exists").map(|file| file.expect("readable").path());
    let files = files.filter(|file| file.extension() == Some("rs".as_ref())).count();
    assert_eq!(scenarios.len(), files, "every file is a scenario");
}

#[test]
fn a_whole_name_selects_only_that_one() {
    let value = run(&["--list", "lock_vs_lock", "--format", "json"]).json();
    assert_eq!(value["scenarios"].as_array().map(Vec::len), Some(1));
}

/// A caller's mistake is caught as a twin is, and can be run by its name, and replayed.
#[test]
fn a_mistake_is_a_broken_world() {
    let arguments = ["copy_vs_writes", "--engine", "explorer"];
    let value = run(&[&arguments[..], &["--format", "json"]].concat()).json();
    let twins = value["twins"].as_array().expect("twins");
    let made = twins.iter().find(|twin| twin["sabotage"] == "mistake-copies-before-flush");
    let made = made.expect("the mistake is run");
    assert_eq!(made["result"], "caught", "{made}");
    let failed = run(&[&arguments[..], &["--sabotage", "mistake-copies-before-flush"]].concat());
    assert_eq!(failed.code, Some(1), "{failed:?}");
    let broken =
        "in a broken world: mistake-copies-before-flush: the copier copies the page before";
    let words = failed.out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains(broken), "{}", failed.out);
    let found = failed.out.lines().find_map(|line| line.split("REPLAY    just replay ").nth(1));
    let token = found.expect("a line that replays").trim_matches('\'');
    assert!(token.contains(":mistake-copies-before-flush:"), "{token}");
    let again = run(&["replay", token]);
    assert_eq!(again.code, Some(1), "{again:?}");
    assert!(again.out.contains("VIOLATED  data race on"), "{}", again.out);
}

/// A failure in a broken world is told in columns, and its token leads to the same failure.
fn fails_and_replays(engine: &str) {
    let arguments = ["lock_vs_lock", "--engine", engine, "--sabotage", "LOCK_RELEASE"];
    let failed = run(&arguments);
    assert_eq!(failed.code, Some(1), "{failed:?}");
    for part in [
        "in a broken world: LOCK_RELEASE Release->Relaxed",
        "CPU 0 (left)",
        "CPU 1 (right)",
        "steps decide it",
        "VIOLATED  data race on N1.children",
        "execution 1,",
        "AT        scenarios/tests/lock_vs_lock.rs:",
    ] {
        assert!(failed.out.contains(part), "no {part:?} in {}", failed.out);
    }
    assert!(
        !failed.out.contains("../scenarios/tests"),
        "a place begins in the workspace: {}",
        failed.out
    );
    let told = failed.out.lines().skip_while(|line| !line.starts_with("FAILED"));
    let told = told.take_while(|line| !line.contains("REPLAY"));
    let widest = told.map(|line| line.chars().count()).max();
    assert!(widest <= Some(80), "{widest:?} columns: {}", failed.out);
    let found = failed.out.lines().find_map(|line| line.split("REPLAY    just replay ").nth(1));
    let token = found.expect("a line that replays").trim_matches('\'');
    let again = run(&["replay", token]);
    assert_eq!(again.code, Some(1), "{again:?}");
    assert!(again.out.contains("VIOLATED  data race on N1.children"), "{}", again.out);
    assert!(again.out.contains(token), "{}", again.out);
}

#[test]
fn neither_a_home_nor_an_output_is_needed() {
    let arguments = ["lock_vs_lock", "--engine=explorer", "--no-twins"];
    let homeless = ran(command(&arguments).env_remove("HOME").output().expect("it starts"));
    assert_eq!((homeless.code, homeless.err.as_str()), (Some(0), ""), "{homeless:?}");
    let script = "\"$0\" \"$@\" --sabotage LOCK_RELEASE >&-";
    let words = [&[env!("CARGO_BIN_EXE_model-check")][..], &arguments].concat();
    let mut closed = Command::new("sh");
    closed.args(["-c", script]).args(words);
    let closed = ran(closed.output().expect("there is a shell"));
    assert_eq!((closed.code, closed.err.as_str()), (Some(1), ""), "{closed:?}");
}

#[test]
fn failures_of_the_explorer_replay() {
    fails_and_replays("explorer");
}

#[test]
fn failures_of_loom_replay() {
    fails_and_replays("loom");
}

#[test]
fn failures_of_shuttle_replay() {
    fails_and_replays("shuttle");
}

#[test]
fn a_twin_that_survives_is_code_2() {
    // Three executions are too few to find this one at random.
    let arguments = ["drop_vs_walk", "--engine", "shuttle", "--executions", "3"];
    let ran = run(&arguments);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.out.contains("SURVIVED: SAMPLED 3"), "{}", ran.out);
    assert!(ran.out.contains("MISSING:"), "{}", ran.out);
}

#[test]
fn a_cut_search_is_code_3_where_exhaustion_is_demanded() {
    let arguments = ["lock_vs_detach", "--engine", "loom", "--executions", "60", "--no-twins"];
    let ran = run(&[&arguments[..], &["--require-exhausted"]].concat());
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(ran.out.contains("NOT EXHAUSTED"), "{}", ran.out);
}

/// A run of everything bounds them; the long form does not, and is of no other scenario.
#[test]
fn the_long_form_explores_all_of_what_is_too_large() {
    let rows = |arguments: &[&str]| {
        let form = ["--no-twins", "--executions", "100", "--format", "json"];
        let rows = run(&[arguments, &form].concat()).json()["rows"].clone();
        let rows = rows.as_array().expect("rows").clone();
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        rows.iter()
            .map(|row| ["scenario", "engine", "verdict"].map(|key| text(&row[key])))
            .collect()
    };
    let long: Vec<_> = rows(&["--long"]);
    let names: Vec<_> = long.iter().map(|[scenario, ..]| scenario.as_str()).collect();
    assert_eq!(names, ["activate_vs_activate", "map_vs_map_crowded", "unmap_vs_unmap"]);
    assert!(long.iter().all(|[_, engine, _]| engine == "explorer"), "{long:?}");
    let verdict = |arguments: &[&str]| {
        let mut found: Vec<[String; 3]> = rows(arguments);
        found.remove(0)[2].clone()
    };
    let name = "map_vs_map_crowded";
    assert_eq!(verdict(&[name, "--engine", "explorer"]), "BOUNDED 4");
    assert_eq!(verdict(&[name, "--long"]), "BOUNDED (cut at 100)");
}

#[test]
fn a_broken_world_that_survives_is_code_2_and_says_so() {
    let arguments = ["lock_vs_lock", "--engine", "explorer", "--sabotage", "QUERY_ORDER"];
    let ran = run(&arguments);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    let verdict = ran.out.lines().last().unwrap_or_default();
    let part = "SURVIVED in a broken world: QUERY_ORDER SeqCst->AcqRel; 1 scenario";
    assert!(verdict.starts_with(part), "{verdict}");
}

#[test]
fn a_forgotten_cpu_breaks_only_scenarios_that_have_it() {
    let filters = ["lock_vs_lock", "map_vs_unmap_vs_query", "--engine", "explorer"];
    let broken = ["--sabotage", "forgotten-cpu-2", "--format", "json"];
    let value = run(&[&filters[..], &broken[..]].concat()).json();
    let rows = value["rows"].as_array().expect("rows");
    let names: Vec<_> = rows.iter().map(|row| row["scenario"].clone()).collect();
    assert_eq!(names, ["map_vs_unmap_vs_query"], "{value:#}");
}

#[test]
fn every_line_with_an_ordering_is_killed_or_has_a_reason() {
    let ran = run(&["sites", "--format", "json"]);
    let value = ran.json();
    assert_eq!(ran.code, Some(0), "{value:#}");
    let weakenings = value["weakenings"].as_array().expect("weakenings");
    let kills = |one: &Value| one["kills"].as_array().map_or(0, Vec::len);
    for one in weakenings {
        assert_eq!(one["survived"], false, "{one:#}");
        assert_eq!(kills(one) == 0, one["reason"].is_string(), "{one:#}");
        assert!(one["line"].as_str().is_some_and(|line| line.starts_with("core/src/")), "{one:#}");
    }
    let lines: Vec<_> = weakenings.iter().map(|one| &one["line"]).collect();
    assert!(lines.len() > 30, "a call stands for itself: {lines:?}");
}

#[test]
fn scenarios_execute_every_line_with_a_site_and_every_public_operation() {
    let ran = run(&["coverage", "--format", "json"]);
    let value = ran.json();
    assert_eq!(ran.code, Some(0), "{:#}", value["complaints"]);
    for what in ["operations", "lines"] {
        let listed = value[what].as_array().expect("a list");
        assert!(listed.len() > 20, "{what}: {value:#}");
        for one in listed {
            let raced = one["scenarios"].as_array().is_some_and(|names| !names.is_empty());
            assert_eq!(raced, one["reason"].is_null(), "{one:#}");
        }
    }
}

#[test]
fn one_line_is_broken_by_itself_and_the_failure_replays() {
    let value = run(&["sites", "unmap_vs_ask", "--format", "json"]).json();
    let weakenings = value["weakenings"].as_array().expect("weakenings");
    let of_site = weakenings.iter().filter(|one| one["site"] == "CLEAR_ENTRY");
    let codes: Vec<&str> = of_site.filter_map(|one| one["sabotage"].as_str()).collect();
    assert!(codes.len() >= 2, "{value:#}");
    for code in codes {
        let ran = run(&["unmap_vs_ask", "--engine", "explorer", "--sabotage", code]);
        assert_eq!(ran.code, Some(1), "{ran:?}");
        let verdict = ran.out.lines().last().unwrap_or_default();
        assert!(verdict.starts_with(&format!("CAUGHT in a broken world: {code} ")), "{verdict}");
        let token = ran.out.lines().find_map(|line| line.split("just replay ").nth(1));
        let token = token.expect("a line that replays").trim_matches('\'');
        assert!(token.contains(code), "{token}");
        let again = run(&["replay", token]);
        assert_eq!(again.code, Some(1), "{again:?}");
        assert!(again.out.contains("VIOLATED  data race on note"), "{}", again.out);
    }
}

#[test]
fn sites_are_listed_with_what_they_carry() {
    let ran = run(&["sites", "--list"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for site in weft_core::sites::ALL {
        assert!(ran.out.contains(site.row().name), "no {} in {}", site.row().name, ran.out);
    }
    let value = run(&["sites", "--list", "--site", "walk_*", "--format=json"]).json();
    let site = &value["sites"][0];
    assert_eq!((&site["name"], &site["ordering"]), (&"WALK_ENTRY".into(), &"Acquire".into()));
    assert!(site["lines"].as_array().is_some_and(|lines| !lines.is_empty()), "{value:#}");
}

#[test]
fn the_log_is_what_a_variable_asks_for() {
    let arguments = ["lock_vs_lock", "--engine=explorer", "--no-twins"];
    let log = |level| {
        let output = command(&arguments).env("RUST_LOG", level).output().expect("it starts");
        ran(output)
    };
    assert!(log("info").err.contains("begins: lock_vs_lock explorer"), "{:?}", log("info"));
    let silent = log("model_check=error");
    assert!(silent.code == Some(0) && silent.err.is_empty(), "{silent:?}");
    let refused = log("model_check=loud");
    assert_eq!(refused.code, Some(4), "{refused:?}");
    assert!(refused.err.contains("RUST_LOG cannot be read"), "{refused:?}");
}

#[test]
fn shells_and_manuals_know_the_options() {
    for shell in ["bash", "zsh", "fish"] {
        let ran = run(&["completions", shell]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(ran.out.contains("fail-fast") && ran.out.contains("new-scenario"), "{shell}");
    }
    let page = run(&["man"]);
    assert_eq!(page.code, Some(0), "{page:?}");
    for part in [".TH model-check 1", "fail\\-fast", "another state"] {
        assert!(page.out.contains(part), "no {part:?} in {}", page.out);
    }
}

#[test]
fn a_reader_that_goes_away_is_a_quiet_end() {
    let mut child = command(&["--list"]);
    let mut child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    drop(child.stdout.take());
    let mut err = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut err).expect("text");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    assert_eq!(err, "");
}

#[test]
fn results_that_cannot_be_written_are_code_4() {
    for arguments in [&["--help"][..], &["--list"], &["--list", "--format", "json"]] {
        let full = std::fs::File::create("/dev/full").expect("the system has one");
        let ran = ran(command(arguments).stdout(full).output().expect("it starts"));
        assert_eq!(ran.code, Some(4), "{ran:?}");
        let said = "model-check: cannot write the results: No space left on device (os error 28)";
        assert_eq!(ran.err.trim_end(), said);
    }
}

#[test]
fn every_command_tells_what_exit_codes_mean() {
    let commands =
        ["sites", "coverage", "races", "mutants", "replay", "merge", "new-scenario", "speed"];
    for command in commands.into_iter().chain(["completions", "man"]) {
        let ran = run(&[command, "--help"]);
        assert!(ran.out.contains(weft_shell::exit::TABLE), "{command}: {}", ran.out);
    }
}

#[test]
fn help_and_version_are_results() {
    for flag in ["--help", "--version"] {
        let ran = run(&[flag]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(ran.out.contains("model-check"), "{ran:?}");
        assert_eq!(ran.out.contains(weft_shell::exit::TABLE), flag == "--help", "{ran:?}");
    }
}
