//! Web pages that commands write: one file each, which needs no network.
//!
//! What is common to the pages of the models and of machines: [where they go](Pages), how they
//! look, source lines, [histories](history) that are not linearizable, and [earlier](Earlier)
//! results that an index compares with.

mod earlier;
pub mod history;
mod run;

use std::path::{Path, PathBuf};
use std::{fs, io};

use maud::{DOCTYPE, Markup, PreEscaped, html};

pub use self::earlier::{Earlier, Unfit, Was};
pub use self::run::{Pages, Run};

/// Where pages go if no folder is named, seen from the checkout.
pub const DEFAULT: &str = "target/report";

/// Lines of source around the one that is shown.
const AROUND: usize = 4;

/// A folder that pages are written to.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// A folder, which is made if it is missing, and can be written to.
    ///
    /// # Errors
    ///
    /// One sentence, if it cannot.
    pub fn make(path: &Path) -> Result<Self, String> {
        let probe = path.join(format!(".probe.{}", std::process::id()));
        fs::create_dir_all(path)
            .and_then(|()| fs::write(&probe, ""))
            .and_then(|()| fs::remove_file(&probe))
            .map_err(|error| refusal(path, &error))?;
        Ok(Self { path: path.to_owned() })
    }

    /// Writes a page at once, so that a reader sees the old one or the new one, and says where.
    ///
    /// # Errors
    ///
    /// One sentence, if it cannot be written.
    pub fn write(&self, name: &str, page: Markup) -> Result<PathBuf, String> {
        let path = self.path.join(name);
        let part = self.path.join(format!(".{name}.{}", std::process::id()));
        let written = fs::write(&part, page.into_string()).and_then(|()| fs::rename(&part, &path));
        if let Err(error) = written {
            let _ = fs::remove_file(&part);
            return Err(refusal(&path, &error));
        }
        Ok(path)
    }
}

fn refusal(path: &Path, error: &io::Error) -> String {
    format!("cannot write the report to {}: {error}: give another folder", path.display())
}

/// A text as a part of a file's name.
pub fn stem(text: &str) -> String {
    text.replace(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_', "_")
}

/// A page.
pub fn document(title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(include_str!("page/style.css"))) }
            }
            body { (body) }
        }
    }
}

/// Lines of a source file.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct Excerpt {
    /// The number of the first line.
    pub first: usize,
    /// The number of the line that it is about.
    pub here: usize,
    /// The lines.
    pub lines: Vec<String>,
}

impl Excerpt {
    /// The lines around `file:line`, or `file:line:column`, if the file is below `root`.
    pub fn of(root: &Path, at: &str) -> Option<Self> {
        let mut parts = at.split(':');
        let (file, here) = (parts.next()?, parts.next()?.parse::<usize>().ok()?);
        let text = fs::read_to_string(root.join(file)).ok()?;
        let first = here.saturating_sub(AROUND).max(1);
        let lines = text.lines().skip(first - 1).take(here + AROUND + 1 - first);
        Some(Self { first, here, lines: lines.map(str::to_owned).collect() })
    }

    /// As a page shows it.
    pub fn markup(&self) -> Markup {
        html! {
            div .source {
                @for (number, line) in (self.first..).zip(&self.lines) {
                    div .(if number == self.here { "here" } else { "" }) {
                        (format!("{number:>4}  {line}"))
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_is_around_its_line() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let excerpt = Excerpt::of(root, "src/page.rs:1:9").expect("this file is there");
        assert_eq!((excerpt.first, excerpt.here, excerpt.lines.len()), (1, 1, 5));
        assert!(excerpt.lines[0].starts_with("//! Web pages"));
        for nowhere in ["src/page.rs", "src/none.rs:1", "src/page.rs:x", ""] {
            assert_eq!(Excerpt::of(root, nowhere), None, "{nowhere:?}");
        }
    }

    #[test]
    fn names_of_files_are_plain() {
        assert_eq!(stem("SITE@core/src/a.rs:7"), "SITE_core_src_a_rs_7");
        assert_eq!(stem("mistake-looks-first"), "mistake-looks-first");
    }
}
