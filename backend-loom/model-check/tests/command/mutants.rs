//! Mutants, on a small checkout of one crate that is built for the test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::endings::{children, signal, wait_for};
use crate::{Ran, command, ran, run};

const CRATE: &str = r#"//! Counts.

/// One more.
pub fn next(count: u32) -> u32 {
    count + 1
}

/// Twice as much.
pub const fn twice(count: u32) -> u32 {
    2 * count
}

/// The even numbers from here on.
pub fn evens(from: u32) -> impl Iterator<Item = u32> {
    (from..).filter(|number| number % 2 == 0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn next_is_one_more() {
        assert_eq!(super::next(1), 2, "next is wrong");
    }

    #[test]
    fn twice_is_double() {
        assert_eq!(super::twice(3), 6, "twice is wrong");
    }

    #[test]
    fn evens_are_even() {
        assert_eq!(super::evens(3).next(), Some(4), "evens are wrong");
    }
}
"#;

const HEAD: &str = "file = \"counter/src/lib.rs\"\n";

/// An entry; what it says of checks is `claim`.
fn entry(name: &str, find: &str, replace: &str, claim: &str) -> String {
    format!(
        "[[mutant]]\nname = \"{name}\"\nbreaks = \"It.\"\nfind = \"{find}\"\n\
         replace = \"{replace}\"\n{claim}\n"
    )
}

fn killed_by(test: &str, message: &str) -> String {
    format!("killed-by = {{ \"cargo test -p counter --lib {test}\" = \"{message}\" }}")
}

/// A checkout with these mutants, removed when dropped.
struct Checkout(PathBuf);

impl Checkout {
    fn new(name: &str, mutants: &[String]) -> Self {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        // It is there if a run before was ended half-way.
        let _ = fs::remove_dir_all(&root);
        let scenarios = run(&["--list", "--format", "json"]).json();
        let names = scenarios["scenarios"].as_array().expect("a list").iter();
        let names = names.map(|scenario| scenario["name"].as_str().expect("a name"));
        let scenarios = names.map(|name| (format!("scenarios/tests/{name}.rs"), String::new()));
        let package = "[package]\nname = \"counter\"\nedition = \"2024\"\n";
        let files = [
            ("scenarios/collect.rs", String::new()),
            (".gitignore", "/target\n".to_owned()),
            ("Cargo.toml", "[workspace]\nresolver = \"3\"\nmembers = [\"counter\"]\n".to_owned()),
            ("counter/Cargo.toml", package.to_owned()),
            ("counter/src/lib.rs", CRATE.to_owned()),
            ("counter/mutants/lib.toml", format!("{HEAD}{}", mutants.concat())),
        ];
        let files = files.map(|(file, text)| (file.to_owned(), text)).into_iter();
        for (file, text) in files.chain(scenarios) {
            let path = root.join(file);
            fs::create_dir_all(path.parent().expect("it is in a folder")).expect("writable");
            fs::write(path, text).expect("writable");
        }
        let git = Command::new("git").args(["init", "--quiet"]).current_dir(&root).status();
        assert!(git.expect("there is git").success());
        Self(root)
    }

    fn command(&self, filters: &[&str]) -> Command {
        let mut command = command(&[&["mutants", "--no-sites"], filters].concat());
        command.current_dir(&self.0);
        command
    }

    fn run(&self, filters: &[&str]) -> Ran {
        ran(self.command(filters).output().expect("it starts"))
    }
}

impl Drop for Checkout {
    fn drop(&mut self) {
        // What is left is written over by the next run.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn every_mutant_is_tried_and_told_apart() {
    let checkout = Checkout::new(
        "mutants",
        &[
            entry("dead", "count + 1", "count + 2", &killed_by("next", "next is wrong")),
            entry("deaf", "count + 1", "1 + count", &killed_by("next", "next is wrong")),
            entry("other", "count + 1", "panic!(\\\"odd\\\")", &killed_by("next", "next is wrong")),
            entry("equal", "count + 1", "1 + count", "equivalent = \"Sums commute.\""),
            entry("noticed", "count + 1", "count", "survives = \"No test counts.\""),
            entry("constant", "2 * count", "3 * count", &killed_by("twice", "twice is wrong")),
            entry("opaque", "== 0", "== 1", &killed_by("evens", "evens are wrong")),
            entry("gone", "count - 1", "count", &killed_by("next", "next is wrong")),
            entry("unbuilt", "count + 1", "counter", &killed_by("next", "next is wrong")),
        ],
    );
    let all = checkout.run(&[]);
    assert_eq!(all.code, Some(4), "{all:?}");
    for line in [
        "SURVIVED counter/mutants/lib.toml: deaf: cargo test -p counter --lib next: its tests do",
        "SURVIVED counter/mutants/lib.toml: other: cargo test -p counter --lib next fails with",
        "EQUIVALENT counter/mutants/lib.toml: equal: Sums commute.",
        "NOTICED counter/mutants/lib.toml: noticed: cargo test -p counter --lib next notices it",
        "ALONE counter/mutants/lib.toml: constant: built in a copy of its own: it changes a `const",
        "ALONE counter/mutants/lib.toml: opaque: built in a copy of its own: it does not compile",
        "ERROR counter/mutants/lib.toml: gone: counter/src/lib.rs: `count - 1` is not there",
        "ERROR counter/mutants/lib.toml: unbuilt: it does not build: error[E0425]",
        "3/9 mutants killed, 1 survive for a reason; 3 were built alone",
    ] {
        assert!(all.out.contains(line), "no {line:?} in {}{}", all.out, all.err);
    }
    // A survivor without a reason fails the command, and so does a reason that is wrong.
    for (filter, code) in [("dead", 0), ("e*l", 0), ("deaf", 2), ("other", 2), ("noticed", 2)] {
        let one = checkout.run(&[filter]);
        assert_eq!(one.code, Some(code), "{filter}: {one:?}");
    }
}

#[test]
fn an_interruption_shows_what_was_tried_and_ends_the_rest() {
    let checkout = Checkout::new(
        "interrupted-mutants",
        &[entry("endless", "count + 1", "loop {}", &killed_by("next", "next is wrong"))],
    );
    let mut command = checkout.command(&[]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    // The test executable that runs on no mutant ends at once.
    let endless = wait_for(|| {
        let mutant = b"WEFT_MUTANT=1\0";
        children(child.id()).into_iter().find(|pid| {
            let words = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            words.windows(mutant.len()).any(|part| part == mutant)
        })
    });
    signal("INT", child.id());
    let ran = ran(child.wait_with_output().expect("it ends"));
    assert_eq!(ran.code, Some(130), "{ran:?}");
    assert!(ran.out.contains("1 mutants not tried"), "{ran:?}");
    let endless = endless.expect("the endless test has begun");
    assert!(!fs::exists(format!("/proc/{endless}")).unwrap_or(true), "a test is left");
}
