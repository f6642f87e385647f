//! The files of the checkout, or of one that a test plants defects in.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

/// Paths, seen from the root, and texts. What is no text is empty.
pub(crate) struct Tree(BTreeMap<String, String>);

impl Tree {
    /// The checkout that is tested.
    pub(crate) fn of_checkout() -> &'static Self {
        static READ: OnceLock<Tree> = OnceLock::new();
        READ.get_or_init(|| {
            let root = crate::root();
            let mut files = BTreeMap::new();
            let mut left = vec![root.clone()];
            while let Some(folder) = left.pop() {
                for entry in fs::read_dir(&folder).expect("a folder of the checkout") {
                    let path = entry.expect("a readable folder").path();
                    // `target` is what builds leave, `.git` what the version control keeps.
                    if path.is_dir() && !path.ends_with("target") && !path.ends_with(".git") {
                        left.push(path);
                    } else if path.is_file() && !path.ends_with(".git") {
                        let name = path.strip_prefix(&root).expect("below the root");
                        let text = fs::read_to_string(&path).unwrap_or_default();
                        files.insert(name.display().to_string(), text);
                    }
                }
            }
            Self(files)
        })
    }

    /// A checkout of these files.
    pub(crate) fn planted(files: &[(&str, &str)]) -> Self {
        Self(files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect())
    }

    /// All files, in the order of their paths.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// The files whose names have this ending.
    pub(crate) fn ending<'a>(
        &'a self,
        ending: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.files().filter(move |(path, _)| path.ends_with(ending))
    }

    /// The text of a file.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.0.get(path).map(String::as_str)
    }

    /// Whether there is such a file.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }

    /// Whether there is such a file or folder.
    pub(crate) fn has_place(&self, path: &str) -> bool {
        let folder = format!("{}/", path.trim_end_matches('/'));
        self.has(path) || self.0.keys().any(|file| file.starts_with(&folder))
    }
}

/// The folder of a file.
pub(crate) fn folder(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// The name of a file, without its folder.
pub(crate) fn name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// Where a path leads that is seen from `folder`; none, if it leads out of the checkout.
pub(crate) fn join(folder: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The texts between `"` and `"` on the lines where `says` is, as in `path = "main.rs"`.
pub(crate) fn quoted<'a>(text: &'a str, says: &'a [&str]) -> impl Iterator<Item = &'a str> {
    let lines = text.lines().filter(|line| says.iter().any(|says| line.contains(says)));
    lines.filter_map(|line| line.split('"').nth(1)).filter(|text| Path::new(text).is_relative())
}

#[test]
fn paths_are_joined_as_a_shell_does_it() {
    assert_eq!(join("a/b", "../c.rs").as_deref(), Some("a/c.rs"));
    assert_eq!(join("", "./c.rs").as_deref(), Some("c.rs"));
    assert_eq!(join("a", "../../c.rs"), None);
}
