//! Reports: the page of a failure, the index, and where they cannot be written.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::run;

/// A folder of its own for each test.
pub(crate) fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("report-{name}"))
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The page of a failure that a sabotage provokes.
pub(crate) fn page_of(scenario: &str, sabotage: &str, name: &str) -> PathBuf {
    let folder = folder(name);
    let report = folder.to_str().expect("a name of ours");
    let failed =
        run(&[scenario, "--engine", "explorer", "--sabotage", sabotage, "--report", report]);
    assert_eq!(failed.code, Some(1), "{failed:?}");
    let line = failed.out.lines().find_map(|line| line.strip_prefix("  PAGE      "));
    let page = PathBuf::from(line.expect("a line that says where the page is"));
    assert!(page.starts_with(&folder), "{page:?}");
    let index = text(&folder.join("index.html"));
    let file = page.file_name().and_then(|name| name.to_str()).expect("a name of ours");
    assert!(index.contains(&format!("<a href=\"{file}\">{scenario}</a>")), "{index}");
    page
}

#[test]
fn a_page_needs_nothing_else_and_says_it_without_scripts() {
    let page = text(&page_of("use_vs_unmap", "no-shootdown", "whole"));
    let (before_script, script) = page.split_once("<script").expect("there is one");
    for part in [
        "a CPU uses a page that it was told is not mapped",
        "<svg",
        "class=\"missing\"",
        "old: misses step",
        "The execution as text",
        "just replay ",
        "prefers-color-scheme: dark",
        "@media print",
    ] {
        assert!(before_script.contains(part), "no {part:?}");
    }
    assert!(script.contains("\"before\":["), "the tables at the start are there");
    assert!(script.contains("\"lines\":["), "sources are there");
    for outside in ["http://", "https://", "src=", "@import", "url(h"] {
        let found = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!found.contains(outside), "{outside:?}");
    }
    assert!(page.len() < 1 << 20, "{} bytes", page.len());
}

#[test]
fn a_deadlock_has_a_page() {
    let page = text(&page_of("flush_vs_flush", "masked-shootdown", "deadlock"));
    assert!(page.contains("CPU 0 waits for the answer of CPU 1, which masks interrupts"), "{page}");
}

#[test]
fn failures_have_pages_without_being_asked() {
    let failed = run(&["lock_vs_lock", "--engine", "explorer", "--sabotage", "LOCK_RELEASE"]);
    let line = failed.out.lines().find_map(|line| line.strip_prefix("  PAGE      "));
    let page = Path::new(line.expect("a line that says where the page is"));
    assert!(page.ends_with("target/report/lock_vs_lock-explorer-LOCK_RELEASE.html"), "{page:?}");
    assert!(text(page).contains("data race on N1.children"));
}

#[test]
fn a_good_run_has_an_index_and_no_pages() {
    let folder = folder("good");
    let report = folder.to_str().expect("a name of ours");
    let good = run(&["lock_vs_lock", "--engine", "explorer", "--report", report]);
    assert_eq!(good.code, Some(0), "{good:?}");
    let index = text(&folder.join("index.html"));
    assert!(index.contains("GOOD: no violation") && index.contains("LOCK_RELEASE"), "{index}");
    let files = folder.read_dir().expect("a folder").count();
    assert_eq!(files, 1);
}

#[test]
fn a_folder_that_cannot_be_made_is_one_sentence() {
    let refused = run(&["lock_vs_lock", "--engine", "explorer", "--report", "/dev/null/report"]);
    assert_eq!(refused.code, Some(4), "{refused:?}");
    let said = "model-check: cannot write the report to /dev/null/report: Not a directory \
                (os error 20): give another folder";
    assert_eq!(refused.err.trim_end(), said);
}

#[test]
fn the_smallest_failure_is_shown_and_what_that_is_worth() {
    let search = |within: &'static str| {
        let broken = ["merge_vs_writes", "--engine", "explorer", "--sabotage", "LOCK_ACQUIRE"];
        let options = ["--smallest-within", within];
        move |format| run(&[&broken[..], &options, &["--format", format]].concat())
    };
    let row = |within| search(within)("json").json()["rows"][0].clone();
    let (first, smallest) = (row("0"), row("100000"));
    let steps = |row: &Value| row["failure"]["lines"].as_array().map(Vec::len);
    assert!(steps(&smallest) < steps(&first), "{:?} of {:?}", steps(&smallest), steps(&first));
    assert_eq!(first["failure"]["size"], Value::Null);
    assert_eq!(smallest["failure"]["size"]["is_smallest"], true);
    for field in ["executions", "outcomes", "reached", "observations"] {
        assert_eq!(first[field], smallest[field], "{field} are those of the first failure");
    }
    let said = |within, worth| {
        let text = search(within)("human").out;
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(worth), "no {worth:?} in {text}");
    };
    said("100000", "46 steps: the smallest that fails with this");
    said("3", "the smallest of those in 3 that were tried");
}

#[test]
fn an_index_compares_with_earlier_results() {
    let folder = folder("trends");
    let report = folder.to_str().expect("a name of ours");
    std::fs::create_dir_all(&folder).expect("a folder can be made");
    let earlier = folder.join("earlier.json");
    let name = earlier.to_str().expect("a name of ours");
    let both = run(&["lock_vs_lock", "walk_vs_map", "--engine", "explorer", "--format", "json"]);
    let known = both.out.replacen("\"EXHAUSTED\"", "\"BOUNDED 3\"", 1);
    std::fs::write(&earlier, known).expect("it can be written");
    let options = ["--engine", "explorer", "--no-twins", "--report", report, "--earlier", name];
    let now = run(&[&["lock_vs_lock"][..], &options].concat());
    assert_eq!(now.code, Some(0), "{now:?}");
    let index = text(&folder.join("index.html"));
    for part in ["compared with ", "was BOUNDED 3", "not run now: walk_vs_map explorer"] {
        assert!(index.contains(part), "no {part:?} in {index}");
    }
}

#[test]
fn earlier_results_that_do_not_fit_are_one_sentence_before_anything_is_run() {
    let folder = folder("unfit");
    std::fs::create_dir_all(&folder).expect("a folder can be made");
    let report = folder.to_str().expect("a name of ours");
    let refused = |text: &str| {
        let earlier = folder.join("earlier.json");
        std::fs::write(&earlier, text).expect("it can be written");
        let earlier = earlier.to_str().expect("a name of ours");
        let refused = run(&["lock_vs_lock", "--report", report, "--earlier", earlier]);
        assert!(refused.out.is_empty() && refused.err.lines().count() == 1, "{refused:?}");
        (refused.code, refused.err)
    };
    for (text, code, part) in [
        ("no JSON", 4, "is no document of results: name a document that `model-check --format"),
        (r#"{ "record": "run" }"#, 4, "is no document of results"),
        (r#"{ "provenance": { "tool": "qemu" } }"#, 4, "has results of qemu"),
        (r#"{ "version": 1, "rows": [] }"#, 5, "in form 1, and this command knows form 2"),
    ] {
        let (found, said) = refused(text);
        assert_eq!(found, Some(code), "{said}");
        assert!(said.contains(part), "{said}");
    }
    let alone = run(&["lock_vs_lock", "--earlier", "x.json"]);
    assert_eq!(alone.code, Some(4), "{alone:?}");
    assert!(alone.err.contains("--report <FOLDER>"), "{alone:?}");
}

#[test]
fn a_report_that_is_lost_takes_no_results_along() {
    let folder = folder("lost");
    // What an earlier run has left is in the way.
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(folder.join("index.html/in the way")).expect("folders can be made");
    let report = folder.to_str().expect("a name of ours");
    let lost = run(&["lock_vs_lock", "--engine", "explorer", "--no-twins", "--report", report]);
    assert_eq!(lost.code, Some(4), "{lost:?}");
    assert!(lost.out.contains("GOOD: no violation; 1 scenario, 1 EXHAUSTED"), "{lost:?}");
    let sentence = format!("cannot write the report to {report}/index.html: ");
    assert!(lost.err.contains(&sentence) && lost.err.contains("give another folder"), "{lost:?}");
}
