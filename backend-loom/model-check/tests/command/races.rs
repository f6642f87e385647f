//! The table of races that shipped is true, and so is the guide that enters one.

use std::fs;

use crate::run;

/// What the explorer finds, and after how many executions, is what the table says. Mutants are not
/// built for it: what is kept of them is not looked at here.
#[test]
fn the_explorer_finds_what_the_table_says() {
    let ran = run(&["races", "--check", "--engine", "explorer", "--format", "json"]);
    assert_eq!(ran.code, Some(0), "{}", ran.out);
    let value = ran.json();
    let races = value["races"].as_array().expect("a list of races");
    assert!(races.len() > 30, "{} races", races.len());
    for race in races {
        assert!(race["found"]["explorer"]["after"].is_u64(), "{race}");
    }
}

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

/// The blocks of a document that begin with a line "```" and a language.
fn blocks<'a>(text: &'a str, language: &'a str) -> impl Iterator<Item = &'a str> {
    text.split("\n```").filter_map(move |part| part.strip_prefix(language)?.strip_prefix('\n'))
}

/// The guide, whose lines all are the command's, and in its order; some steps and columns are left
/// out there.
#[test]
fn the_guide_shows_what_its_commands_print_and_its_file_says() {
    let text = fs::read_to_string("../../scenarios/README.md").expect("the guide is there");
    let (_, guide) = text.split_once("\n## From a bug report to a scenario\n").expect("a section");
    let (guide, _) = guide.split_once("\n## ").expect("another section follows");
    let mut shown = 0;
    for block in blocks(guide, "console") {
        let (command, lines) = block.split_once('\n').expect("a command and its lines");
        let arguments = command.strip_prefix("$ just model-check ").expect("a command");
        let ran = run(&arguments.split(' ').collect::<Vec<_>>());
        let out: Vec<_> = ran.out.lines().map(words).collect();
        let mut left = out.iter();
        for line in lines.lines().filter(|line| !line.trim().is_empty()) {
            let is_there = left.any(|told| has(told, &words(line)));
            assert!(is_there, "{command} does not print {line:?}, or earlier:\n{}", ran.out);
            shown += 1;
        }
    }
    assert!(shown > 15, "the guide shows {shown} lines");
    let file = fs::read_to_string("../../scenarios/tests/free_vs_use.rs").expect("the race");
    let said: Vec<&str> = blocks(guide, "rust").collect();
    assert_eq!(said.len(), 2, "a mistake, and a history");
    for block in said {
        assert!(file.contains(block.trim_end()), "free_vs_use does not say:\n{block}");
    }
}
