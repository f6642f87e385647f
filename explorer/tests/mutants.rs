//! The seeded defects in `mutants/` still fit the code that they break.
//!
//! Each patch begins with what it breaks, the command that must fail, and what that command then
//! prints. Applying it and running the command is another tool's job; this test only notices at
//! once when an edit leaves a patch behind.

/// The lines that each hunk of a patch expects, with the file they are in.
fn expected_text(patch: &str) -> Vec<(String, String)> {
    let mut hunks: Vec<(String, String)> = Vec::new();
    let mut file = String::new();
    for line in patch.lines() {
        if let Some(path) = line.strip_prefix("--- a/") {
            path.clone_into(&mut file);
        } else if line.starts_with("@@") {
            hunks.push((file.clone(), String::new()));
        } else if let (Some(hunk), Some(text)) =
            (hunks.last_mut(), line.strip_prefix(' ').or_else(|| line.strip_prefix('-')))
        {
            hunk.1.push_str(text);
            hunk.1.push('\n');
        }
    }
    hunks
}

#[test]
fn every_mutant_has_its_header_and_fits_the_code() {
    // cargo runs tests in the folder of their package.
    let root = &std::env::current_dir().expect("the current folder exists");
    let entries = std::fs::read_dir(root.join("mutants")).expect("the mutants are there");
    let mut count = 0;
    for entry in entries {
        let path = entry.expect("the directory is readable").path();
        let name = path.display();
        let patch = std::fs::read_to_string(&path).expect("a patch is text");
        let mut header = patch.lines();
        for key in ["Breaks: ", "Run: cargo test -p weft-explorer --test gate ", "Expect: "] {
            let line = header.next().unwrap_or_default();
            assert!(line.starts_with(key) && line.len() > key.len(), "{name}: no `{key}` line");
        }
        let hunks = expected_text(&patch);
        assert!(!hunks.is_empty(), "{name}: nothing is changed");
        for (file, expected) in hunks {
            let path = root.parent().unwrap_or(root).join(&file);
            let source = std::fs::read_to_string(path).expect("the file to break is there");
            assert!(
                source.contains(&expected),
                "{name} does not fit {file} any more: make it anew"
            );
        }
        count += 1;
    }
    assert!(count >= 4, "maximality, coherence, release sequences, fences: only {count} mutants");
}
