//! Documents show what commands print, what files say, and options that exist.
//!
//! That they name files, items, races and recipes which exist is a test of `weft-backend-loom`,
//! called `tidy`.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use serde_json::Value;

use crate::{command, run};

fn document(path: &str) -> String {
    fs::read_to_string(format!("../../{path}")).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Documents are written on a quiet machine with an optimised command.
const PATIENCE: [&str; 2] = ["--time", "600"];

/// The words of a line. Places in the sources move with every edit above them, so their numbers
/// are left out.
fn words(line: &str) -> Vec<String> {
    let word = |word: &str| match word.split_once(".rs:") {
        Some((file, _)) => format!("{file}.rs"),
        None => word.trim_end_matches([';', ',']).to_owned(),
    };
    line.split_whitespace().map(word).collect()
}

/// Whether `all` has these words in this order, and perhaps others in between.
fn has(all: &[String], some: &[String]) -> bool {
    let mut left = all.iter();
    some.iter().all(|word| left.any(|other| other == word))
}

/// The first line of a block that is not among these lines, behind the one before.
fn not_printed<'a>(shown: &'a str, printed: &str) -> Option<&'a str> {
    let printed: Vec<_> = printed.lines().map(words).collect();
    let mut left = printed.iter();
    let mut shown = shown.lines().filter(|line| !["", "..."].contains(&line.trim()));
    shown.find(|line| !left.any(|told| has(told, &words(line))))
}

/// The blocks of a document that begin with a line "```" and a language.
fn blocks<'a>(text: &'a str, language: &'a str) -> impl Iterator<Item = &'a str> {
    text.split("\n```").filter_map(move |part| part.strip_prefix(language)?.strip_prefix('\n'))
}

/// Runs the command that a block begins with, and compares the other lines of the block.
#[track_caller]
fn demand(block: &str, more: &[&str]) {
    let (line, shown) = block.split_once('\n').expect("a command and its lines");
    let arguments = line.strip_prefix("$ just model-check").expect("a command");
    let arguments: Vec<_> = arguments.split_whitespace().chain(more.iter().copied()).collect();
    let ran = run(&[&arguments[..], &PATIENCE].concat());
    if let Some(missing) = not_printed(shown, &ran.out) {
        panic!("{line} does not print {missing:?}, or earlier:\n{}{}", ran.out, ran.err);
    }
}

/// The guide, whose lines all are the command's, and in its order; some steps and columns are left
/// out there.
#[test]
fn the_guide_shows_what_its_commands_print_and_its_file_says() {
    let text = document("scenarios/README.md");
    let (_, guide) = text.split_once("\n## From a bug report to a scenario\n").expect("a section");
    let (guide, _) = guide.split_once("\n## ").expect("another section follows");
    assert_eq!(blocks(guide, "console").inspect(|block| demand(block, &[])).count(), 2);
    let file = document("scenarios/tests/free_vs_use.rs");
    let said: Vec<&str> = blocks(guide, "rust").collect();
    assert_eq!(said.len(), 2, "a mistake, and a history");
    for block in said {
        assert!(file.contains(block.trim_end()), "free_vs_use does not say:\n{block}");
    }
}

/// The race that a newcomer writes is one of the catalogue under another name, and what is wrong
/// with it for a while is a mistake of that.
#[test]
fn the_first_race_is_what_commands_print_and_the_catalogue_says() {
    let text = document("docs/first-race.md").replace("find_vs_map", "walk_vs_map");
    let (whole, broken) = text.split_once("\n## Break it\n").expect("a section");
    assert_eq!(blocks(whole, "console").inspect(|block| demand(block, &[])).count(), 1);
    let mistake = ["--sabotage", "mistake-maps-first"];
    assert_eq!(blocks(broken, "console").inspect(|block| demand(block, &mistake)).count(), 2);
    let file = document("scenarios/tests/walk_vs_map.rs");
    let said: Vec<&str> = blocks(&text, "rust").collect();
    assert!(said.len() > 7, "{} parts of a scenario", said.len());
    for block in said {
        assert!(file.contains(block.trim_end()), "walk_vs_map does not say:\n{block}");
    }
}

/// The README's summary: its rows are run again, and the last line is of nearly all scenarios and
/// explorations that there are.
#[test]
fn the_readme_shows_what_a_whole_run_prints() {
    let readme = document("README.md");
    let block = blocks(&readme, "console").next().expect("a block");
    let (first, shown) = block.split_once('\n').expect("a command and its lines");
    assert_eq!(first, "$ just model-check");
    let rows: Vec<&str> = shown.lines().filter(|line| line.contains("_vs_")).collect();
    assert!(rows.len() > 5, "{} rows", rows.len());
    for row in rows {
        let cells: Vec<&str> = row.split_whitespace().collect();
        let mut arguments = vec![cells[0], "--engine", cells[2], "--no-twins"];
        arguments.extend(PATIENCE);
        // Otherwise a search without a bound would be tried first.
        if let Some(at) = cells.iter().position(|cell| *cell == "BOUNDED") {
            arguments.extend(["--preemptions", cells[at + 1]]);
        }
        let ran = run(&arguments);
        assert_eq!(not_printed(row, &ran.out), None, "{}", ran.out);
    }
    let total = shown.lines().last().expect("a last line");
    let number = |before: &str| -> usize {
        let (number, _) = total.split_once(before).unwrap_or_else(|| panic!("{total}"));
        let number = number.rsplit([' ', '/']).next().expect("a part");
        number.parse().unwrap_or_else(|_| panic!("{before:?} in {total}"))
    };
    let rows = number(" EXHAUSTED") + number(" BOUNDED") + number(" SAMPLED");
    // A new race changes no file but its own, so the line may be somewhat old.
    let is_near = |shown, now| shown <= now && 10 * shown >= 9 * now;
    let (scenarios, explorations) = planned();
    let is_near =
        is_near(number(" scenarios"), scenarios) && is_near(rows + number(" caught"), explorations);
    assert!(is_near, "write the last line of `just model-check` to README.md: {explorations}");
}

/// How many scenarios and how many explorations a whole run has.
fn planned() -> (usize, usize) {
    let listed = run(&["--list", "--format", "json"]).json();
    let scenarios = listed["scenarios"].as_array().expect("a list").len();
    let mut whole = command(&["--format", "jsonl"]);
    let mut whole = whole.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
    let mut first = String::new();
    let out = whole.stdout.take().expect("it is piped");
    let read = BufReader::new(out).read_line(&mut first);
    whole.kill().expect("it is ours");
    whole.wait().expect("it ends");
    read.expect("it writes a line");
    let first: Value = serde_json::from_str(&first).expect("a line is JSON");
    let explorations = first["explorations"].as_u64().expect("a number");
    (scenarios, usize::try_from(explorations).expect("it is small"))
}

/// The README's failure, and the token that leads to it.
#[test]
fn the_readme_shows_a_failure_and_its_token() {
    let readme = document("README.md");
    let block = blocks(&readme, "console").nth(1).expect("a second block");
    // State and place are of the checkout; the token is looked at below.
    let is_of_checkout = |line: &&str| !line.contains("REPLAY") && !line.contains("PAGE");
    let lines: Vec<&str> = block.lines().filter(is_of_checkout).collect();
    demand(&lines.join("\n").replace(" in 0.0 s", ""), &[]);
    let token = block.lines().find_map(|line| line.split("REPLAY    just replay ").nth(1));
    let ran = run(&["replay", token.expect("a line that replays").trim_matches('\'')]);
    assert_eq!(ran.code, Some(1), "show in README.md what the command says now: {ran:?}");
    let violated = block.lines().find(|line| line.contains("VIOLATED")).expect("an invariant");
    assert!(ran.out.contains(violated), "{}", ran.out);
}

/// The options in a text.
fn options(text: &str) -> BTreeSet<&str> {
    let ends = |it: char| !it.is_ascii_alphanumeric() && it != '-';
    let words = text.split(ends).filter(|word| word.starts_with("--") && word.len() > 3);
    words.collect()
}

/// Options that documents show behind recipes, and that their commands do not have.
fn unknown_options(text: &str, help: impl Fn(&str, &str) -> String) -> Vec<String> {
    // Commands stand between two `, in blocks, or indented.
    let parts = text.split(['`', '\n']).map(|part| part.trim().trim_start_matches("$ "));
    let commands = parts.filter_map(|part| part.strip_prefix("just "));
    let mut unknown = Vec::new();
    for command in commands {
        let mut words = command.split_whitespace();
        let (recipe, first) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let known = help(recipe, first);
        let known = options(&known);
        let shown = options(command);
        unknown.extend(shown.difference(&known).map(|option| format!("just {recipe} {option}")));
    }
    unknown
}

/// What a recipe's command says of its options.
fn help(recipe: &str, first: &str) -> String {
    match recipe {
        "qemu" => document("docs/help/qemu.txt"),
        "bench" => document("docs/help/bench.txt"),
        "model-check" | "watch" if !["sites", "coverage"].contains(&first) => {
            document("docs/help/model-check.txt")
        }
        "model-check" => run(&[first, "--help"]).out,
        "replay" | "merge" | "mutants" | "races" | "speed" | "new-scenario" => {
            run(&[recipe, "--help"]).out
        }
        _ => String::new(),
    }
}

#[test]
fn documents_show_options_that_exist() {
    let mut unknown = Vec::new();
    let folders = ["", "docs", "core", "explorer", "scenarios", "backend-baremetal"];
    for folder in folders.map(|folder| format!("../../{folder}")) {
        for entry in fs::read_dir(&folder).expect("a folder of documents") {
            let path = entry.expect("a readable folder").path();
            if path.extension().is_some_and(|extension| extension == "md") {
                let text = fs::read_to_string(&path).expect("documents are text");
                let found = unknown_options(&text, help);
                unknown.extend(found.iter().map(|found| format!("{}: {found}", path.display())));
            }
        }
    }
    assert!(unknown.is_empty(), "no command has these options:\n{}", unknown.join("\n"));
}

#[test]
fn a_line_that_is_not_printed_and_an_option_that_is_gone_are_found() {
    let printed = "one two three\nat a.rs:7, four\n";
    assert_eq!(not_printed("one three\n...\nat a.rs:9; four\n", printed), None);
    assert_eq!(not_printed("three one\n", printed), Some("three one"));
    assert_eq!(not_printed("at a.rs:7\none\n", printed), Some("one"), "it comes earlier");
    let text = "Say `just fly --high --fast`, or\n\n    just fly --low\n\nand `cargo fly --wrong`.";
    let help = |recipe: &str, _: &str| format!("{recipe}: --high, --slow");
    assert_eq!(unknown_options(text, help), ["just fly --fast", "just fly --low"]);
}
