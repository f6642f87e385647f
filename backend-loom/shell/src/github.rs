//! What is wrong, as annotations that GitHub's workflows show beside the lines they are about.

use std::fmt::Write as _;

/// One annotation: an error, at a place in the repository if there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Annotation {
    /// What it is about, in some words.
    pub title: String,
    /// What is wrong.
    pub message: String,
    /// `file`, `file:line` or `file:line:column`, seen from the root of the repository.
    pub at: Option<String>,
}

/// The lines that a workflow reads.
pub fn text(annotations: &[Annotation]) -> String {
    let mut text = String::new();
    for Annotation { title, message, at } in annotations {
        text += "::error ";
        let mut parts = at.as_deref().unwrap_or_default().split(':');
        for (name, part) in ["file", "line", "col"].into_iter().zip(&mut parts) {
            if !part.is_empty() {
                write!(text, "{name}={},", property(part)).expect("memory");
            }
        }
        writeln!(text, "title={}::{}", property(title), data(message)).expect("memory");
    }
    text
}

/// A message: it ends with its line.
fn data(text: &str) -> String {
    text.trim_end().replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// A property: it ends at a comma or a colon.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_annotation_is_one_line_at_its_place() {
        let at = Some("core/src/run.rs:7:9".to_owned());
        let title = "walk_vs_map: explorer, RC11".to_owned();
        let one = Annotation { title, message: "100% lost\nat once\n".to_owned(), at };
        let other = Annotation { title: "x".to_owned(), message: "y".to_owned(), at: None };
        assert_eq!(
            text(&[one, other]),
            "::error file=core/src/run.rs,line=7,col=9,title=walk_vs_map%3A explorer%2C \
             RC11::100%25 lost%0Aat once\n::error title=x::y\n"
        );
    }
}
