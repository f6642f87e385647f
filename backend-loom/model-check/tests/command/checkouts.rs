//! The command works in the checkout that it is started in, wherever it was built.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{Ran, command, ran};

/// A folder of this test's own, removed in the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        // Outside of the checkout, which the current folder and the output of builds are in.
        let folder =
            std::env::temp_dir().join(format!("weft Prüfung, {name} {}", std::process::id()));
        fs::create_dir_all(&folder).expect("a temporary folder can be made");
        Self(folder)
    }

    /// Makes a checkout of it, with these scenario files.
    fn checkout(self, scenarios: &[&str]) -> Self {
        let tests = self.0.join("scenarios/tests");
        fs::create_dir_all(&tests).expect("folders can be made");
        fs::write(self.0.join("scenarios/collect.rs"), "").expect("files can be written");
        for name in scenarios {
            fs::write(tests.join(name), "").expect("files can be written");
        }
        self
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let output = command(arguments).current_dir(&self.0).output();
        ran(output.expect("the command can be started"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What stays is in the way of nothing.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_new_scenario_is_written_where_the_command_is_started() {
    let other = Folder::new("new").checkout(&[]);
    let written = other.run(&["new-scenario", "copied_vs_copied"]);
    let here = Path::new("../../scenarios/tests/copied_vs_copied.rs");
    let is_here = here.exists();
    if is_here {
        fs::remove_file(here).expect("what was written can be removed");
    }
    assert!(!is_here, "it was written where the command was built");
    assert_eq!(written.code, Some(0), "{written:?}");
    assert!(other.0.join("scenarios/tests/copied_vs_copied.rs").exists(), "{written:?}");
}

#[test]
fn the_scenarios_of_another_checkout_are_not_passed_off_as_its_own() {
    let other = Folder::new("other").checkout(&["walk_vs_map.rs"]);
    for arguments in [&["--list"][..], &["walk_vs_map"], &["sites"], &["mutants", "--list"]] {
        let refused = other.run(arguments);
        assert_eq!(refused.code, Some(4), "{arguments:?}: {refused:?}");
        assert!(refused.err.contains("holds other scenarios"), "{arguments:?}: {refused:?}");
    }
}

#[test]
fn outside_of_any_checkout_only_what_needs_none_works() {
    let nowhere = Folder::new("nowhere");
    let listed = nowhere.run(&["--list", "lock_vs_lock"]);
    assert_eq!(listed.code, Some(0), "{listed:?}");
    for arguments in [&["new-scenario", "a_vs_b"][..], &["mutants", "--list"]] {
        let refused = nowhere.run(arguments);
        assert_eq!(refused.code, Some(4), "{arguments:?}: {refused:?}");
        assert!(refused.err.contains("is not in a checkout of Weft"), "{arguments:?}: {refused:?}");
    }
}
