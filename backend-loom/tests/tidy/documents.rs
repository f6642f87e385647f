//! What documents name exists: files, sections, items, races, commands.
//!
//! Options of commands are compared with what the commands say of themselves by a test of
//! `weft-model-check`.

use std::collections::BTreeSet;

use crate::dead::unknown_test;
use crate::tree::{Tree, folder, join};

/// A document, without what it quotes: code, and what commands print.
struct Prose {
    /// Its lines.
    lines: String,
    /// The commands in its blocks, one a line.
    commands: Vec<String>,
}

impl Prose {
    fn of(text: &str) -> Self {
        let mut prose = Self { lines: String::new(), commands: Vec::new() };
        let mut language = None;
        for line in text.lines() {
            match (line.strip_prefix("```"), language) {
                (Some(begins), None) => language = Some(begins),
                (Some(_), Some(_)) => language = None,
                (None, Some("console")) => {
                    prose.commands.extend(line.strip_prefix("$ ").map(str::to_owned));
                }
                (None, Some(_)) => {}
                (None, None) => match line.strip_prefix("    ") {
                    Some(command)
                        if ["just ", "cargo "].iter().any(|it| command.starts_with(it)) =>
                    {
                        prose.commands.push(command.to_owned());
                    }
                    _ => prose.lines.push_str(&format!("{line}\n")),
                },
            }
        }
        let spans = spans(&prose.lines);
        let is_command = |span: &&String| span.starts_with("just ") || span.starts_with("cargo ");
        prose.commands.extend(spans.iter().filter(is_command).cloned());
        prose
    }
}

/// What stands between two `.
fn spans(text: &str) -> Vec<String> {
    text.split("\n\n")
        .flat_map(|paragraph| paragraph.split('`').skip(1).step_by(2))
        .map(|span| span.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}

/// The words of a text that may be names.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|it: char| !it.is_alphanumeric() && it != '_').filter(|word| !word.is_empty())
}

/// The anchor that a heading has.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = kept.chars().filter(|it| it.is_alphanumeric() || [' ', '-', '_'].contains(it));
    kept.map(|it| if it == ' ' { '-' } else { it }).collect()
}

/// Links of a document that lead nowhere.
fn dead_links(tree: &Tree, path: &str, text: &str) -> Vec<String> {
    let leads = |target: &str| {
        let (file, section) = target.split_once('#').unwrap_or((target, ""));
        let file = match file {
            "" => path.to_owned(),
            file => join(folder(path), file).unwrap_or_default(),
        };
        let headings =
            || tree.text(&file).unwrap_or_default().lines().filter(|it| it.starts_with('#'));
        tree.has_place(&file) && (section.is_empty() || headings().any(|it| anchor(it) == section))
    };
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let here = targets.filter(|target| !target.contains("://") && !target.contains(' '));
    here.filter(|target| !leads(target))
        .map(|target| format!("{path}: the link {target}"))
        .collect()
}

/// Whether a path, or its end, is one of the checkout. A `*` is any part of a name.
fn is_place(tree: &Tree, from: &str, span: &str) -> bool {
    if span.contains('*') {
        let parts: Vec<&str> = span.split('*').collect();
        let fits = |path: &str| {
            let mut rest = Some(path);
            for part in &parts {
                rest = rest.and_then(|rest| rest.split_once(part)).map(|(_, after)| after);
            }
            rest == Some("")
        };
        return tree.files().any(|(path, _)| fits(path));
    }
    let seen_from = |folder: &str| join(folder, span).is_some_and(|path| tree.has_place(&path));
    let is_end = |path: &str| match span.strip_suffix('/') {
        Some(folder) => path.contains(&format!("/{folder}/")),
        None => path.ends_with(&format!("/{span}")),
    };
    seen_from("") || seen_from(from) || tree.files().any(|(path, _)| is_end(path))
}

/// Whether a span is the path of a source or a document, as far as one can tell.
fn looks_like_a_place(span: &str) -> bool {
    let endings = [".rs", ".md", ".toml", ".s", ".ld", ".json"];
    let is_plain = |it: char| it.is_alphanumeric() || ['_', '-', '.', '/', '*'].contains(&it);
    span.chars().all(is_plain)
        && !span.starts_with(['/', '.'])
        && !span.starts_with("target/")
        && (endings.iter().any(|ending| span.ends_with(ending)) || span.ends_with('/'))
}

/// Files, items and races that a document names and that are gone.
fn gone_names(tree: &Tree, known: &BTreeSet<&str>, path: &str, text: &str) -> Vec<String> {
    let prose = Prose::of(text);
    let mut gone = Vec::new();
    // What the reader is to write is not there yet.
    let news = text.split("new-scenario ").skip(1).filter_map(|rest| words(rest).next());
    let news: BTreeSet<&str> = news.collect();
    for span in spans(&prose.lines) {
        if looks_like_a_place(&span) {
            let is_new = words(&span).any(|word| news.contains(word));
            if !is_new && !is_place(tree, folder(path), &span) {
                gone.push(format!("{path}: the file `{span}`"));
            }
            continue;
        }
        // A path of names, as `Cursor::lock`; anything else is code, and not looked at.
        let item = span.trim_end_matches("()").trim_end_matches('!');
        let parts: Vec<&str> = item.split("::").collect();
        let is_name = |part: &str| part.chars().all(|it| it.is_alphanumeric() || it == '_');
        // What other crates have is theirs.
        let is_ours = !["alloc", "core", "loom", "std"].contains(&parts[0]);
        let is_code = is_ours && !item.starts_with(char::is_numeric);
        if !is_code || !parts.iter().all(|part| is_name(part)) {
            continue;
        }
        let is_item = |part: &str| {
            !part.contains("_vs_") && (part.contains(char::is_uppercase) || part.contains('_'))
        };
        for part in parts.into_iter().filter(|part| is_item(part)) {
            if !known.contains(part) {
                gone.push(format!("{path}: the name {part} in `{span}`"));
            }
        }
    }
    for race in words(text).filter(|word| word.contains("_vs_") && !word.ends_with('_')) {
        let is_file = tree.has(&format!("scenarios/tests/{race}.rs"));
        if !is_file && !news.contains(race) {
            gone.push(format!("{path}: the race {race}"));
        }
    }
    gone
}

/// Recipes of a justfile, and whether they take words.
fn recipes(justfile: &str) -> Vec<(&str, bool)> {
    let heads = justfile.lines().filter(|line| line.starts_with(char::is_lowercase));
    let heads =
        heads.filter_map(|line| line.split_once(':')).filter(|(_, rest)| !rest.starts_with('='));
    let heads = heads.filter_map(|(head, _)| {
        let mut words = head.split_whitespace();
        words.next().map(|name| (name, words.next().is_some()))
    });
    heads.collect()
}

/// What is wrong with a command that a document shows.
fn wrong_command(tree: &Tree, command: &str) -> Option<String> {
    if command.starts_with("cargo test ") {
        return unknown_test(tree, command);
    }
    let recipes = recipes(tree.text("justfile").unwrap_or_default());
    for one in command.split("&&").filter_map(|one| one.trim().strip_prefix("just ")) {
        for word in one.split_whitespace().take_while(|word| !word.starts_with(['#', '<', '-'])) {
            match recipes.iter().find(|(name, _)| *name == word) {
                None => return Some(format!("`{command}`: the justfile has no recipe {word}")),
                // What follows is what it takes.
                Some((_, true)) => break,
                Some((_, false)) => {}
            }
        }
    }
    None
}

/// Every name that is written in a source, a manifest or a script.
fn known_names(tree: &Tree) -> BTreeSet<&str> {
    let is_code = |path: &str| {
        let endings = [".rs", ".toml", ".s", ".ld", ".js", "justfile", ".lock", ".json"];
        endings.iter().any(|ending| path.ends_with(ending))
    };
    tree.files().filter(|(path, _)| is_code(path)).flat_map(|(_, text)| words(text)).collect()
}

/// All that documents name and that is gone.
fn stale(tree: &Tree) -> Vec<String> {
    let known = known_names(tree);
    let mut stale = Vec::new();
    for (path, text) in tree.ending(".md") {
        stale.extend(dead_links(tree, path, text));
        stale.extend(gone_names(tree, &known, path, text));
        let commands = Prose::of(text).commands;
        let wrong = commands.iter().filter_map(|command| wrong_command(tree, command));
        stale.extend(wrong.map(|wrong| format!("{path}: {wrong}")));
    }
    for (path, text) in tree.ending(".rs") {
        let comments = text.lines().map(str::trim_start).filter(|line| line.starts_with("//"));
        let comments: String = comments.map(|line| format!("{line}\n")).collect();
        for span in spans(&comments).into_iter().filter(|span| looks_like_a_place(span)) {
            if span.contains('/') && span.ends_with(".rs") && !is_place(tree, folder(path), &span) {
                stale.push(format!("{path}: the file `{span}`"));
            }
        }
    }
    stale
}

#[test]
fn documents_name_what_exists() {
    let stale = stale(Tree::of_checkout());
    assert!(stale.is_empty(), "gone, or misspelt:\n{}", stale.join("\n"));
}

#[test]
fn what_is_gone_is_found_in_documents() {
    let justfile = "root := quote(\"a\")\n\n# One.\ntest:\n    just setup\n\nmodel-check *ARGS:\n";
    let document = "# Title\n\nSee [a](a.md), [b](../README.md#the-second), [c](c.md),\n\
        [d](../README.md#third), [e](#title), `core/src/lib.rs`, `lib.rs`, `gone.rs`, `core/`,\n\
        `core/*/lib.rs`, `core/*/at.rs`, `Cursor::lock`, `Cursor::unlock_all()`, `PUBLISH_NODE`,\n\
        `FORGOTTEN`, `just test`, `just tests`, walk_vs_map, walk_vs_run and\n\
        `cargo test -p weft-a --test gone`.\n\n\
        ```console\n$ just model-check walk_vs_map\nprints `Words`\n$ just model-checks\n```\n\n\
        \x20   just test model-check --all && just bench   # measures\n\
        \x20   just new-scenario sit_vs_stand\n\nNot yet there is sit_vs_stand.\n";
    let tree = Tree::planted(&[
        ("justfile", justfile),
        ("README.md", "# Weft\n\n## The second\n"),
        ("core/Cargo.toml", "name = \"weft-a\"\n"),
        (
            "core/src/lib.rs",
            "Cursor lock PUBLISH_NODE\n// See `tests/it.rs` and\n// `tests/away.rs`.\n",
        ),
        ("core/tests/it.rs", ""),
        ("scenarios/tests/walk_vs_map.rs", ""),
        ("docs/a.md", document),
    ]);
    assert_eq!(
        stale(&tree),
        [
            "docs/a.md: the link c.md",
            "docs/a.md: the link ../README.md#third",
            "docs/a.md: the file `gone.rs`",
            "docs/a.md: the file `core/*/at.rs`",
            "docs/a.md: the name unlock_all in `Cursor::unlock_all()`",
            "docs/a.md: the name FORGOTTEN in `FORGOTTEN`",
            "docs/a.md: the race walk_vs_run",
            "docs/a.md: `just model-checks`: the justfile has no recipe model-checks",
            "docs/a.md: `just test model-check --all && just bench   # measures`: \
             the justfile has no recipe bench",
            "docs/a.md: `just new-scenario sit_vs_stand`: the justfile has no recipe new-scenario",
            "docs/a.md: `just tests`: the justfile has no recipe tests",
            "docs/a.md: `cargo test -p weft-a --test gone`: no test target is called so",
            "core/src/lib.rs: the file `tests/away.rs`",
        ]
    );
}
