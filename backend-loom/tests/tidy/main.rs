//! The rules of the repository that no compiler checks.
//!
//! Each test reads the sources and names the file and line that breaks its rule.

mod dead;
mod documents;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};

use weft_core::sites::{ALL, Evidence};

/// The workspace.
fn root() -> PathBuf {
    // cargo runs tests in the folder of their package.
    Path::new("..").canonicalize().expect("the workspace exists")
}

/// Rust sources below a directory, with their paths relative to the workspace.
fn sources(below: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut left = vec![root().join(below)];
    while let Some(path) = left.pop() {
        for entry in fs::read_dir(&path).unwrap_or_else(|error| panic!("{path:?}: {error}")) {
            let path = entry.expect("a readable directory").path();
            if path.is_dir() {
                // What a build of the fuzzer's own workspace leaves.
                if !path.ends_with("target") {
                    left.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).expect("below the workspace");
                let text = fs::read_to_string(&path).expect("sources are text");
                found.push((name.display().to_string(), text));
            }
        }
    }
    assert!(!found.is_empty(), "no sources below {below}");
    found.sort();
    found
}

/// Fails with every line of `sources` that `breaks` the rule.
#[track_caller]
fn refuse(rule: &str, sources: &[(String, String)], breaks: impl Fn(&str, &str) -> bool) {
    let mut complaints = Vec::new();
    for (name, text) in sources {
        for (number, line) in text.lines().enumerate() {
            if breaks(name, line) {
                complaints.push(format!("{name}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert!(complaints.is_empty(), "{rule}:\n{}", complaints.join("\n"));
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

#[test]
fn orderings_are_rows_of_the_table() {
    refuse(
        "an ordering is chosen outside core/src/sites.rs",
        &sources("core/src"),
        |name, line| {
            let chosen = line.contains("Ordering::") || line.contains("sync::atomic");
            chosen && !is_comment(line) && !name.ends_with("/sites.rs")
        },
    );
}

#[test]
fn every_site_is_used() {
    let core = sources("core/src");
    for site in ALL {
        let name = site.row().name;
        let used = core.iter().any(|(_, text)| text.contains(&format!("site!({name})")));
        assert!(used, "the site {name} orders nothing: remove its row");
    }
}

/// Otherwise nothing tells the line from the others that name the site.
#[test]
fn the_core_names_sites_with_their_lines() {
    let is_bare =
        |line: &str| ALL.iter().any(|site| line.contains(&format!("&{}", site.row().name)));
    refuse("a site is named without its line: write site!(..)", &sources("core/src"), |_, line| {
        !is_comment(line) && is_bare(line)
    });
}

#[test]
fn scenarios_that_sites_name_exist_and_name_them_back() {
    let scenarios = sources("scenarios/tests");
    for site in ALL {
        let Evidence::CaughtBy(named) = site.row().evidence else { continue };
        for scenario in named {
            let file = format!("/{scenario}.rs");
            let file = scenarios.iter().find(|(name, _)| name.ends_with(&file));
            let (_, text) = file.unwrap_or_else(|| panic!("{} names {scenario}", site.row().name));
            assert!(
                text.contains(&format!("sites::{}", site.row().name)),
                "{scenario} has no twin with {} weakened",
                site.row().name
            );
        }
    }
}

#[test]
fn scenarios_name_sites_that_exist() {
    for (name, text) in sources("scenarios/tests") {
        let line = text.lines().find_map(|line| line.strip_prefix("//! Sites: "));
        let line = line.unwrap_or_else(|| panic!("{name} has no line `//! Sites: `"));
        for site in line.trim_end_matches('.').split(", ") {
            let exists = ALL.iter().any(|row| row.row().name == site);
            assert!(exists, "{name} names the site {site}, which is not in the table");
        }
    }
}

/// CPUs may be run one after the other, so a race that shares state behind the engine's back is
/// checked wrongly. [`weft_scenarios::world::Parcel`] is the one exception, argued there.
#[test]
fn scenarios_share_nothing_behind_the_engine() {
    let mut scenarios = sources("scenarios/tests");
    scenarios.extend(sources("scenarios/src"));
    refuse("a scenario shares state that no engine sees", &scenarios, |name, line| {
        let hidden = ["std::", "thread_local", "Atomic", "Mutex", "RefCell", "OnceCell"];
        let parcel = name == "scenarios/src/world.rs" && line.contains("Mutex");
        let is_static = line.trim_start().starts_with("static ");
        let shares = is_static || hidden.iter().any(|word| line.contains(word));
        !is_comment(line) && !parcel && shares
    });
}

/// The same for model memory: what is shared outside of the engine is ghost state, and says so.
#[test]
fn model_memory_shares_only_ghost_state() {
    let model: Vec<_> = sources("backend-loom/src")
        .into_iter()
        .filter(|(name, _)| {
            ["memory.rs", "mmu.rs", "model.rs", "words.rs"].iter().any(|it| name.ends_with(it))
        })
        .collect();
    assert_eq!(model.len(), 4, "model memory is in these files");
    for (name, text) in &model {
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            let is_field = line.trim_end().ends_with(',') && line.contains(": ");
            let shares = ["Atomic", "Mutex", "RefCell", "OnceLock"];
            let shares = shares.iter().any(|word| line.contains(word)) && !line.contains("::new");
            let argued = number > 0 && lines[number - 1].contains("/// Ghost:");
            assert!(
                !(is_field && shares) || argued,
                "{name}:{}: shared outside of the engine: {line}",
                number + 1
            );
        }
    }
}

#[test]
fn only_backends_know_what_machine_they_run_on() {
    let mut everywhere = sources("core/src");
    everywhere.extend(sources("scenarios/src"));
    everywhere.extend(sources("scenarios/tests"));
    refuse("conditional compilation outside of the backends", &everywhere, |_, line| {
        let conditional = line.contains("cfg(") || line.contains("cfg_attr(");
        let tests_only = line.contains("cfg(test)") || line.contains("weft_collected");
        conditional && !tests_only && !is_comment(line)
    });
}

#[test]
fn files_have_one_job_and_lines_fit() {
    let folders =
        ["core", "backend-loom", "backend-baremetal", "scenarios", "explorer", "qemu-runner"];
    for below in folders {
        for (name, text) in sources(below) {
            let lines = text.lines().count();
            assert!(lines <= 600, "{name} has {lines} lines: it has more than one job");
            // The litmus catalogue is a table of programs, one to a row.
            let is_table = name == "explorer/tests/gate/litmus.rs";
            let wide = text.lines().position(|line| !is_table && line.chars().count() > 100);
            assert!(wide.is_none(), "{name}:{} is wider than 100", wide.unwrap_or(0) + 1);
        }
    }
}

/// A reader who meets the project for the first time looks for the noun.
#[test]
fn sentences_name_their_subject() {
    const NAMELESS: [&str; 6] =
        ["somebody", "nobody", "whoever", "everybody", "anybody", "someone"];
    let mut texts = Vec::new();
    for below in ["core", "explorer", "scenarios", "backend-loom/src", "backend-baremetal/src"] {
        texts.extend(sources(below));
    }
    let documents = tree::Tree::of_checkout().ending(".md");
    texts.extend(documents.map(|(path, text)| (path.to_owned(), text.to_owned())));
    refuse("a sentence says which CPU, thread or node it is about", &texts, |_, line| {
        let line = line.to_lowercase();
        line.split(|it: char| !it.is_alphabetic()).any(|word| NAMELESS.contains(&word))
    });
}

#[test]
fn the_table_of_sites_is_printed() {
    for site in ALL {
        let row = site.row();
        println!("{:<22} {:<40} {}", row.name, format!("{:?}", row.evidence), row.carries);
    }
    assert!(ALL.len() > 10, "the table holds every ordering of the core");
}

#[test]
fn floors_of_the_kernel_import_from_no_floor_above() {
    let floors = ["machine", "services", "tests"];
    for (height, floor) in floors.iter().enumerate() {
        let files = sources(&format!("backend-baremetal/kernel/src/{floor}"));
        refuse(&format!("{floor} uses a floor above"), &files, |_, line| {
            let above = &floors[height + 1..];
            above.iter().any(|above| line.contains(&format!("crate::{above}::")))
        });
    }
}
