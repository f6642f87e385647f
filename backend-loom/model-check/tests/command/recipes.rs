//! Recipes of the justfile, in a folder whose name has spaces and umlauts, with a cargo that builds
//! nothing and a command that says how it was called.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::endings::{signal, wait_for};
use crate::{Ran, ran, run};

/// Notes how it was called.
const CARGO: &str = "#!/bin/sh\necho \"cargo $*\" >>\"${0%/*}/called\"\n";

/// Says where it was called, and how.
const CHECKER: &str = "#!/bin/sh\necho \"$PWD\"\nfor word; do echo \"<$word>\"; done\n\
                       echo explored >>\"${0%/*}/../../called\"\nexit 3\n";

/// A checkout, as far as recipes know one; removed in the end.
struct Checkout(PathBuf);

impl Checkout {
    /// None, if there is no `just` and there need not be one.
    fn new(name: &str) -> Option<Self> {
        let just = Command::new("just").arg("--version").stdout(Stdio::null()).status();
        if just.is_err() && std::env::var_os("REQUIRE_QEMU").is_none() {
            eprintln!("recipes are not tested: just is missing");
            return None;
        }
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("Prüfung {name}, größer"));
        // It is there if a run before was ended half-way.
        let _ = fs::remove_dir_all(&root);
        for folder in ["target/model-check", "core/src", "explorer", "scenarios", "backend-loom"] {
            fs::create_dir_all(root.join(folder)).expect("folders can be made");
        }
        fs::copy("../../justfile", root.join("justfile")).expect("there is one");
        fs::create_dir_all(root.join("docs/help")).expect("folders can be made");
        let help = "docs/help/model-check.txt";
        fs::copy(Path::new("../..").join(help), root.join(help)).expect("there is one");
        for (program, text) in [("cargo", CARGO), ("target/model-check/model-check", CHECKER)] {
            let program = root.join(program);
            fs::write(&program, text).expect("files can be written");
            fs::set_permissions(&program, Permissions::from_mode(0o755)).expect("it is ours");
        }
        Some(Self(root))
    }

    fn just(&self, below: &str, arguments: &[&str]) -> Command {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let paths = [self.0.clone()].into_iter().chain(std::env::split_paths(&path));
        let mut just = Command::new("just");
        just.args(arguments).current_dir(self.0.join(below)).stdin(Stdio::null());
        just.env("PATH", std::env::join_paths(paths).expect("folders have no colons"));
        just.env_remove("HOME");
        just
    }

    fn run(&self, below: &str, arguments: &[&str]) -> Ran {
        ran(self.just(below, arguments).output().expect("just can be started"))
    }

    fn called(&self) -> String {
        fs::read_to_string(self.0.join("called")).unwrap_or_default()
    }
}

impl Drop for Checkout {
    fn drop(&mut self) {
        // What stays is in the way of nothing.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn recipes_run_where_they_are_started_and_pass_on_words_and_codes() {
    let Some(checkout) = Checkout::new("recipes") else { return };
    for (recipe, words) in [
        (&["model-check", "--output", "a b.jsonl"][..], "<--output>\n<a b.jsonl>\n"),
        (&["replay", "wt2:a:1<2 3"], "<replay>\n<wt2:a:1<2 3>\n"),
        (&["merge", "one", "t wo"], "<merge>\n<one>\n<t wo>\n"),
        (&["mutants", "a*"], "<mutants>\n<a*>\n"),
        (&["speed"], "<speed>\n"),
        (&["new-scenario", "a_vs_b"], "<new-scenario>\n<a_vs_b>\n"),
    ] {
        let ran = checkout.run("core/src", recipe);
        assert_eq!(ran.code, Some(3), "{recipe:?}: {ran:?}");
        let folder = checkout.0.join("core/src");
        assert_eq!(ran.out, format!("{}\n{words}", folder.display()), "{recipe:?}: {ran:?}");
    }
    assert!(checkout.called().contains("--package weft-model-check"), "{}", checkout.called());
}

/// What `.ci/run` calls: everything is in it, in this order, and the first failure ends it.
#[test]
fn the_test_command_lints_tests_explores_and_boots() {
    let Some(checkout) = Checkout::new("whole") else { return };
    let ran = checkout.run("docs", &["test"]);
    assert_eq!(ran.code, Some(3), "the code of what explores: {ran:?}");
    let called = checkout.called();
    let mut left = called.lines();
    for part in [
        "cargo fmt --all --check",
        "cargo clippy --workspace --all-targets -- -D warnings",
        "cargo clippy --package weft-kernel --profile kernel -- -D warnings",
        "cargo doc --workspace --no-deps",
        "cargo deny check bans licenses sources",
        "cargo test --workspace",
        "explored",
    ] {
        assert!(left.any(|line| line == part), "no {part:?}, or earlier: {called}");
    }
    assert_eq!(left.next(), None, "what failed was not the end");
    let booted = checkout.just("", &["smoke"]).env("REQUIRE_QEMU", "1").output();
    assert!(booted.expect("just can be started").status.success());
    let part = "weft-qemu-runner -- --repeat 20 --no-twins --no-models\n";
    assert!(checkout.called().ends_with(part), "{}", checkout.called());
}

#[test]
fn help_is_shown_before_anything_is_built_and_is_what_the_command_says() {
    let Some(checkout) = Checkout::new("help") else { return };
    let shown = checkout.run("core", &["model-check", "--help"]);
    assert_eq!(shown.code, Some(0), "{shown:?}");
    assert_eq!(checkout.called(), "", "nothing is built");
    let help = run(&["--help"]).out;
    assert!(shown.out == help, "write this to docs/help/model-check.txt:\n{help}");
}

#[test]
fn what_is_watched_is_explored_again_when_a_file_changes() {
    let Some(checkout) = Checkout::new("watch") else { return };
    let mut watch = checkout.just("core/src", &["watch", "walk_vs_map", "--no-twins"]);
    // A group of its own, which is interrupted as a whole, as a terminal does it.
    let child = watch.process_group(0).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut child = child.expect("just can be started");
    let times = |wanted: usize| {
        let explored = || checkout.called().matches("explored").count();
        wait_for(|| (explored() >= wanted).then_some(())).is_some()
    };
    assert!(times(1), "{}", checkout.called());
    for round in 2..4 {
        // Newer than the look before, which may have been in this very moment.
        let write = || fs::write(checkout.0.join("core/src/run.rs"), "// changed\n").ok();
        wait_for(write).expect("files can be written");
        assert!(times(round), "{}", checkout.called());
    }
    signal("INT", -i64::from(child.id()));
    assert!(child.wait().expect("it ends").code() != Some(0));
}
