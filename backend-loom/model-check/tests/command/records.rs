//! Records of runs: what a killed run keeps, going on with one, and shards put together.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;

use crate::endings::{signal, wait_for};
use crate::{Ran, command, ran, run};

/// Explorations that draw the same each time: host threads do not.
const RUN: &[&str] = &[
    "lock_vs_lock",
    "walk_vs_map",
    "attach_vs_attach",
    "--engine=explorer",
    "--engine=loom",
    "--engine=shuttle",
    "--executions=300",
];

/// A folder of this test's own, removed in the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        // It is there if a run before was ended half-way.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a temporary folder can be made");
        Self(folder)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("the path is text").to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What stays is in the way of nothing.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn lines(file: &str) -> Vec<Value> {
    let text = fs::read_to_string(file).expect("there is a record");
    let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
    whole.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
}

fn results(file: &str) -> usize {
    lines(file).iter().filter(|line| line["record"] == "result").count()
}

/// A document without what is measured anew each time.
fn timeless(mut value: Value) -> Value {
    match &mut value {
        Value::Object(fields) => {
            let measured = ["elapsed_seconds", "memory_peak", "started"];
            fields.retain(|name, _| !measured.contains(&name.as_str()));
            fields.values_mut().for_each(|field| *field = timeless(field.take()));
        }
        Value::Array(values) => {
            values.iter_mut().for_each(|value| *value = timeless(value.take()));
        }
        _ => {}
    }
    value
}

fn document(arguments: &[&str]) -> Value {
    let ran = run(&[arguments, &["--format=json"]].concat());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    timeless(ran.json())
}

/// Demands that two documents have the same lines; a whole document is too long to look at.
#[track_caller]
fn same(one: &Value, other: &Value) {
    let texts = [one, other].map(|document| format!("{document:#}"));
    let mut pairs = texts[0].lines().zip(texts[1].lines());
    assert_eq!(pairs.find(|(one, other)| one != other), None);
    assert_eq!(texts[0].len(), texts[1].len());
}

fn refuses(arguments: &[&str], code: i32, part: &str) {
    let ran = run(arguments);
    assert_eq!(ran.code, Some(code), "{arguments:?}: {ran:?}");
    assert_eq!(ran.err.lines().count(), 1, "{arguments:?}: {ran:?}");
    assert!(ran.err.contains(part), "{arguments:?}: {ran:?}");
}

/// Changes each line of a record.
fn change(file: &str, change: impl Fn(&mut Value)) {
    let mut lines = lines(file);
    lines.iter_mut().for_each(change);
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    fs::write(file, text).expect("the record can be written");
}

#[test]
fn a_run_that_is_killed_goes_on_to_the_same_document() {
    let folder = Folder::new("killed");
    let file = folder.file("run.jsonl");
    let whole = document(RUN);
    let output = ["--jobs=1", "--output", &file];
    let mut child = command(&[RUN, &output].concat());
    let child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut child = child.expect("it starts");
    wait_for(|| fs::metadata(&file).ok().filter(|it| it.len() > 3000)).expect("it records");
    signal("KILL", child.id());
    child.wait().expect("it ends");
    let kept = results(&file);
    let all = whole["rows"].as_array().map_or(0, Vec::len);
    let all = all + whole["twins"].as_array().map_or(0, Vec::len);
    assert!((1..all).contains(&kept), "{kept} of {all} were kept");
    // What a write leaves that came to no end.
    let half = fs::read_to_string(&file).expect("there is a record") + "{\"record\":\"resu";
    fs::write(&file, half).expect("the record can be written");
    same(&document(&["--resume", &file]), &whole);
    assert_eq!(results(&file), all, "each exploration was made once");
    same(&document(&["merge", &file]), &whole);
    let again = run(&["--resume", &file, "--format=jsonl"]);
    assert_eq!(again.out.lines().count(), 1, "nothing is left but the end: {again:?}");
}

#[test]
fn shards_are_put_together_to_the_same_document() {
    let folder = Folder::new("shards");
    let whole = document(RUN);
    let files = ["1/2", "2/2"].map(|shard| {
        let file = folder.file(&shard.replace('/', "-"));
        let ran = run(&[RUN, &["--shard", shard, "--output", &file]].concat());
        assert_eq!(ran.code, Some(0), "{ran:?}");
        file
    });
    let [one, two] = &files;
    let merged = folder.file("merged");
    same(&document(&["merge", one, two]), &whole);
    same(&document(&["merge", two, one, "--output", &merged]), &whole);
    same(&document(&["merge", &merged]), &whole);

    refuses(&["merge", one], 4, "explorations are in no record, as lock_vs_lock");
    refuses(&["merge", one, two, one], 4, "both have");
    refuses(&["merge", one, "/nowhere"], 4, "cannot read /nowhere");
    refuses(&["merge", one, "Cargo.toml"], 4, "Cargo.toml is no record of a run");
    let other = folder.file("other");
    let arguments = [&RUN[..6], &["--executions=200", "--shard=2/2"]].concat();
    assert_eq!(run(&[&arguments[..], &["--output", &other]].concat()).code, Some(0));
    refuses(&["merge", one, &other], 4, "were run with other options or budgets");

    let spoilt = |name: &str, with: &dyn Fn(&mut Value)| {
        let file = folder.file(name);
        fs::copy(two, &file).expect("it can be copied");
        change(&file, with);
        file
    };
    let head = |line: &mut Value, name: &str, value: Value| {
        if line["record"] == "run" {
            line[name] = value;
        }
    };
    let file = spoilt("state", &|line| head(line, "state", "00c0ffee".into()));
    refuses(&["merge", one, &file], 5, "belongs to another state of the code (00c0ffee, this is");
    refuses(&["--resume", &file], 5, "belongs to another state of the code");
    let file = spoilt("form", &|line| head(line, "version", 1.into()));
    refuses(&["merge", one, &file], 5, "a record in form 1, and this command knows form 2");
    let file = spoilt("commit", &|line| {
        if line["record"] == "run" {
            line["provenance"][0]["commit"] = "another".into();
        }
    });
    refuses(&["merge", one, &file], 5, "on another: merge records of one commit");
    let file = spoilt("moved", &|line| {
        if line["record"] == "result" {
            line["scenario"] = "walk_vs_grow".into();
        }
    });
    refuses(&["merge", one, &file], 4, "is not the one of the plan");
}

#[test]
fn a_record_is_not_overwritten_and_decides_what_is_explored() {
    let folder = Folder::new("kept");
    let file = folder.file("run.jsonl");
    let arguments = ["lock_vs_lock", "--engine=explorer", "--no-twins", "--output", &file];
    assert_eq!(run(&arguments).code, Some(0));
    let before = fs::read_to_string(&file).expect("there is a record");
    refuses(&arguments, 4, "exists already: remove it, or name another");
    refuses(&["--resume", &file, "--seed=2"], 4, "goes on with the options of its file");
    refuses(&["--resume", &file, "walk_vs_map"], 4, "goes on with the options of its file");
    assert_eq!(fs::read_to_string(&file).expect("there is a record"), before);
    let elsewhere = folder.file("no/such/folder");
    refuses(&["lock_vs_lock", "--output", &elsewhere], 4, "cannot write");
}

#[test]
fn a_record_that_cannot_be_written_is_an_error_and_what_came_is_shown() {
    let arguments = ["lock_vs_lock", "--engine=explorer", "--no-twins", "--output=/dev/full"];
    let ran = run(&arguments);
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert!(ran.err.contains("cannot record in /dev/full: No space left on device"), "{ran:?}");
}

#[test]
fn lines_come_as_results_do_and_say_what_they_belong_to() {
    let arguments = ["lock_vs_lock", "--engine=explorer", "--format=jsonl", "--seed=7"];
    let ran = run(&arguments);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let lines: Vec<Value> =
        ran.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let [head, results @ .., end] = &lines[..] else { panic!("{ran:?}") };
    assert_eq!(head["explorations"], results.len());
    assert_eq!(head["options"]["seed"], 7);
    let origin = &head["provenance"][0];
    assert_eq!(origin["tool"], "model-check");
    assert_eq!(origin["tool_version"], env!("CARGO_PKG_VERSION"));
    for name in ["system", "architecture", "processor"] {
        assert!(origin["host"][name].as_str().is_some_and(|it| !it.is_empty()), "{head:#}");
    }
    assert!(head["state"].as_str().is_some_and(|state| state.len() == 8), "{head:#}");
    assert_eq!(end["exit"], 0);
}

#[test]
fn paths_are_seen_from_the_root_of_the_repository() {
    for engine in ["explorer", "loom", "shuttle"] {
        let engine = format!("--engine={engine}");
        let broken = ["walk_vs_map", &engine, "--sabotage=PUBLISH_ITEM", "--format=jsonl"];
        let Ran { code, out, .. } = run(&broken);
        assert_eq!(code, Some(1), "{out}");
        assert!(out.contains("\"at\":\"core/src/"), "{out}");
        let root = fs::canonicalize("../..").expect("the workspace exists");
        assert!(!out.contains(root.to_str().expect("text")), "{out}");
        assert!(!out.contains("\"/") && !out.contains(" /"), "{out}");
    }
}

#[test]
fn the_first_bad_result_is_the_last_one_where_that_is_asked_for() {
    let arguments = ["lock_vs_lock", "walk_vs_map", "--engine=explorer", "--jobs=1"];
    let broken = [&arguments[..], &["--sabotage=LOCK_RELEASE", "--format=json"]].concat();
    assert_eq!(run(&broken).json()["rows"].as_array().map(Vec::len), Some(2));
    let ran = run(&[&broken[..], &["--fail-fast"]].concat());
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert_eq!(ran.json()["rows"].as_array().map(Vec::len), Some(1), "{ran:?}");
    assert_eq!(ran.json()["unfinished"], 1);
    let arguments = ["drop_vs_walk", "--engine=shuttle", "--executions=3", "--jobs=1"];
    let ran = run(&[&arguments[..], &["--fail-fast"]].concat());
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.out.contains("SURVIVED") && ran.out.contains("1 not finished"), "{}", ran.out);
}

#[test]
fn annotations_are_about_lines_of_the_repository() {
    let arguments = ["lock_vs_lock", "--engine=explorer", "--format=github"];
    let good = run(&arguments);
    assert_eq!(good.code, Some(0), "{good:?}");
    assert!(good.out.starts_with("GOOD: no violation"), "{good:?}");
    let broken = ran(command(&arguments).arg("--sabotage=LOCK_RELEASE").output().expect("starts"));
    assert_eq!(broken.code, Some(1), "{broken:?}");
    let start = "::error file=scenarios/tests/lock_vs_lock.rs,line=";
    assert!(broken.out.starts_with(start), "{broken:?}");
    assert!(broken.out.contains("::data race on N1.children%0A"), "{broken:?}");
    let arguments = ["drop_vs_walk", "--engine=shuttle", "--executions=3", "--format=github"];
    let survived = run(&arguments);
    let start = "::error file=scenarios/tests/drop_vs_walk.rs,title=drop_vs_walk twin (";
    assert!(survived.out.starts_with(start), "{survived:?}");
}

/// The names of all fields, and of those inside of them. What outcomes are called is no field.
fn fields(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(inside) => {
            for (name, value) in inside {
                into.insert(name.clone());
                if name != "outcomes" {
                    fields(value, into);
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| fields(value, into)),
        _ => {}
    }
}

#[test]
fn every_field_is_described_and_everything_described_is_there() {
    let text = fs::read_to_string("../../docs/results.md").expect("the description exists");
    let about = text.split("## The lines and the document of `qemu`").next().unwrap_or_default();
    let mut there = BTreeSet::new();
    let broken = ["walk_vs_map", "--engine=explorer", "--sabotage=PUBLISH_ITEM"];
    let stale = ["use_vs_unmap", "--engine=explorer", "--sabotage=no-shootdown"];
    for arguments in [&["lock_vs_lock", "--engine=explorer"][..], &broken, &stale] {
        let lines = run(&[arguments, &["--format=jsonl"]].concat()).out;
        let lines = lines.lines().map(|line| serde_json::from_str(line).expect("it is JSON"));
        lines.for_each(|line: Value| fields(&line, &mut there));
        fields(&run(&[arguments, &["--format=json"]].concat()).json(), &mut there);
    }
    let rows = about.lines().filter_map(|line| line.strip_prefix("| `")?.split_once(" |"));
    let described = about.split('`').skip(1).step_by(2);
    let described: BTreeSet<&str> = described.collect();
    let missing: Vec<_> = there.iter().filter(|it| !described.contains(it.as_str())).collect();
    assert!(missing.is_empty(), "docs/results.md does not describe {missing:?}");
    for (names, _) in rows.filter(|(names, _)| !names.starts_with("--")) {
        for name in names.trim_end_matches('`').split("`, `") {
            // Formats of output are no fields, and a checker that dies does so elsewhere.
            let is_other = ["human", "json", "jsonl", "junit", "github", "error"].contains(&name);
            assert!(is_other || there.contains(name), "docs/results.md describes {name:?}");
        }
    }
}
