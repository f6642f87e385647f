//! Files that nothing uses, and patches that break nothing.

use std::collections::BTreeSet;

use crate::tree::{Tree, folder, join, name, quoted};

/// Rust files that are in no module tree.
fn dead_sources(tree: &Tree) -> Vec<String> {
    let mut alive = BTreeSet::new();
    // Whether the modules of a file are in its own folder, as those of `main.rs` are.
    let mut left: Vec<(String, bool)> = roots(tree).into_iter().map(|root| (root, true)).collect();
    while let Some((path, is_root)) = left.pop() {
        let Some(text) = tree.text(&path) else { continue };
        if !alive.insert(path.clone()) {
            continue;
        }
        let at = folder(&path);
        let modules = if is_root || name(&path) == "mod.rs" {
            at.to_owned()
        } else {
            path.trim_end_matches(".rs").to_owned()
        };
        let mut inside = "";
        for line in text.lines() {
            // `pub mod machine {`: what it declares is in a folder of that name.
            inside = match line.trim_end_matches(" {").split_once("mod ") {
                Some((_, inline)) if line.ends_with(" {") => inline,
                _ if line == "}" => "",
                _ => inside,
            };
            for ending in [".rs", "/mod.rs"] {
                let file = module(line).map(|module| format!("{inside}/{module}{ending}"));
                left.extend(file.and_then(|file| join(&modules, &file)).map(|path| (path, false)));
            }
        }
        for named in quoted(text, &["#[path", "include_str!", "include!"]) {
            left.extend(join(at, named).map(|path| (path, true)));
        }
    }
    let dead = tree.ending(".rs").map(|(path, _)| path).filter(|path| !alive.contains(*path));
    dead.map(str::to_owned).collect()
}

/// The files that cargo compiles as they are: those it finds, and those that a package names.
fn roots(tree: &Tree) -> Vec<String> {
    let mut roots = Vec::new();
    for (manifest, text) in tree.ending("Cargo.toml") {
        let package = folder(manifest);
        let inside = |path: &str| join(package, path).expect("below the package");
        roots.extend(["build.rs", "src/lib.rs", "src/main.rs"].map(inside));
        roots.extend(quoted(text, &["path = \""]).filter_map(|path| join(package, path)));
        for targets in ["tests", "examples", "benches"].map(inside) {
            let found = tree.ending(".rs").map(|(path, _)| path).filter(|path| {
                let main = name(path) == "main.rs" && folder(folder(path)) == targets;
                folder(path) == targets || main
            });
            roots.extend(found.map(str::to_owned));
        }
    }
    roots
}

/// The module that a line declares in another file.
fn module(line: &str) -> Option<&str> {
    let (before, named) = line.trim().strip_suffix(';')?.split_once("mod ")?;
    let is_declared = before.is_empty() || before.starts_with("pub");
    is_declared.then_some(named).filter(|named| !named.contains(' '))
}

/// Other files that no file names. Tools look for some by their names, and mutants have a rule of
/// their own.
fn dead_others(tree: &Tree) -> Vec<String> {
    const LOOKED_FOR: [&str; 14] = [
        "Cargo.toml",
        "Cargo.lock",
        "README.md",
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "justfile",
        "rustfmt.toml",
        "clippy.toml",
        "deny.toml",
        "rust-toolchain.toml",
        ".editorconfig",
    ];
    let is_looked_for = |path: &str| {
        LOOKED_FOR.contains(&name(path))
            || name(path) == ".gitignore"
            || [".ci", ".github/workflows"].contains(&folder(path))
            || name(folder(path)) == "mutants"
    };
    let is_named = |path: &str| {
        // A document has to be linked, or named in full by what reads it; of anything else it is
        // enough that its name is said.
        let is_said = |text: &str| match path.strip_suffix(".md") {
            Some(_) => text.contains(&format!("{})", name(path))) || text.contains(path),
            None => text.contains(name(path)),
        };
        tree.files().any(|(other, text)| other != path && is_said(text))
    };
    let others = tree.files().map(|(path, _)| path).filter(|path| !path.ends_with(".rs"));
    others.filter(|path| !is_looked_for(path) && !is_named(path)).map(str::to_owned).collect()
}

/// Patches of files that are gone, or that tests and scenarios are to notice which are gone.
fn dead_patches(tree: &Tree) -> Vec<String> {
    let mut dead = Vec::new();
    let is_mutants = |path: &&str| name(folder(path)) == "mutants";
    for (path, text) in tree.ending(".toml").filter(|(path, _)| is_mutants(path)) {
        for file in quoted(text, &["file = "]).filter(|file| !tree.has(file)) {
            dead.push(format!("{path}: {file} is gone"));
        }
        for command in text.split('"').filter(|text| text.starts_with("cargo test ")) {
            dead.extend(unknown_test(tree, command).map(|gone| format!("{path}: {gone}")));
        }
    }
    dead
}

/// What a command `cargo test -p PACKAGE --test NAME FILTER` names that is gone.
pub(crate) fn unknown_test(tree: &Tree, command: &str) -> Option<String> {
    let words: Vec<&str> = command.split_whitespace().collect();
    let after = |option: &[&str]| {
        let at = words.iter().position(|word| option.contains(word))?;
        words.get(at + 1).copied()
    };
    let package = after(&["-p", "--package"]);
    let called = |text: &str| package.is_none_or(|it| text.contains(&format!("name = \"{it}\"\n")));
    let manifests = tree.ending("Cargo.toml").filter(|(_, text)| called(text));
    let folders: Vec<&str> = manifests.map(|(manifest, _)| folder(manifest)).collect();
    if folders.is_empty() {
        return Some(format!("`{command}`: no package is called so"));
    }
    let test = after(&["--test"]).filter(|test| !test.starts_with('<'));
    let is_there = |test: &str| {
        let paths = [format!("tests/{test}.rs"), format!("tests/{test}/main.rs")];
        let has = |folder: &str, path: &str| join(folder, path).is_some_and(|path| tree.has(&path));
        folders.iter().any(|folder| paths.iter().any(|path| has(folder, path)))
    };
    if test.is_some_and(|test| !is_there(test)) {
        return Some(format!("`{command}`: no test target is called so"));
    }
    let filter = words.last().filter(|word| word.contains("::") || word.contains('_'));
    let filter = filter.filter(|_| test != words.last().copied())?;
    let part = filter.rsplit("::").find(|part| !part.is_empty())?;
    let says = |path: &str, text: &str| {
        let is_inside = folders.iter().any(|folder| path.starts_with(folder));
        is_inside && (text.contains(&format!("fn {part}")) || text.contains(&format!("mod {part}")))
    };
    let gone = !tree.ending(".rs").any(|(path, text)| says(path, text));
    gone.then(|| format!("`{command}`: no test is called {part}"))
}

#[test]
fn every_file_is_used() {
    let tree = Tree::of_checkout();
    let dead = [dead_sources(tree), dead_others(tree)].concat();
    assert!(dead.is_empty(), "nothing uses these files: remove them\n{}", dead.join("\n"));
}

#[test]
fn every_patch_is_of_something_and_noticed_by_something() {
    let dead = dead_patches(Tree::of_checkout());
    assert!(dead.is_empty(), "remove these patches, or mend them\n{}", dead.join("\n"));
}

#[test]
fn a_file_that_nothing_uses_is_found() {
    let tree = Tree::planted(&[
        ("a/Cargo.toml", "[[test]]\npath = \"odd/named.rs\"\n"),
        (
            "a/src/lib.rs",
            "mod used;\nmod inline {\n    mod inner;\n}\n\
             #[path = \"../tests/shared.rs\"]\nmod shared;\n",
        ),
        ("a/src/used.rs", "pub(crate) mod below;\nconst TEXT: &str = include_str!(\"words.txt\");"),
        ("a/src/used/below.rs", ""),
        ("a/src/inline/inner.rs", ""),
        ("a/src/below.rs", "a module of the same name, in the wrong place"),
        ("a/src/words.txt", ""),
        ("a/src/other.txt", ""),
        ("a/odd/named.rs", ""),
        ("a/tests/long/main.rs", "mod part;"),
        ("a/tests/long/part.rs", ""),
        ("a/tests/long/rest.rs", ""),
        ("docs/linked.md", ""),
        ("docs/named.md", ""),
        ("README.md", "See [this](docs/linked.md), and not named.md"),
    ]);
    assert_eq!(dead_sources(&tree), ["a/src/below.rs", "a/tests/long/rest.rs"]);
    assert_eq!(dead_others(&tree), ["a/src/other.txt", "docs/named.md"]);
}

#[test]
fn a_patch_that_nothing_notices_is_found() {
    let tree = Tree::planted(&[
        ("a/Cargo.toml", "name = \"weft-a\"\n"),
        ("a/tests/t.rs", "mod part {}\nfn holds_always() {}"),
        (
            "a/mutants/a.toml",
            "file = \"a/src/gone.rs\"\nkilled-by = {\n\
             \"cargo test -p weft-a --test t part::holds\" = \"\",\n\
             \"cargo test -p weft-a --test t part::ends\" = \"\",\n\
             \"cargo test -p weft-a --test u\" = \"\",\n\
             \"cargo test -p weft-b --test t\" = \"\",\n}",
        ),
    ]);
    assert_eq!(
        dead_patches(&tree),
        [
            "a/mutants/a.toml: a/src/gone.rs is gone",
            "a/mutants/a.toml: `cargo test -p weft-a --test t part::ends`: no test is called ends",
            "a/mutants/a.toml: `cargo test -p weft-a --test u`: no test target is called so",
            "a/mutants/a.toml: `cargo test -p weft-b --test t`: no package is called so",
        ]
    );
}
