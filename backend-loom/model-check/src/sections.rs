//! Sections of documents that are written by a command: what they say is said elsewhere first.
//!
//! Such a section begins with the comment `<!-- NAME: written by just races -->` and ends with
//! `<!-- end of NAME -->`. What is around it is written by hand.

use std::fmt::Write as _;

use crate::checkers::{FILES, NAMES};

/// A document in which the section `name` is `section`.
///
/// # Errors
///
/// One sentence, if the document has no such section.
pub(crate) fn replaced(document: &str, name: &str, section: &str) -> Result<String, String> {
    let begin = format!("<!-- {name}: written by just races -->\n");
    let end = format!("<!-- end of {name} -->");
    let parts = document.split_once(&begin).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(&end)?;
        Some((before, after))
    });
    let (before, after) = parts.ok_or_else(|| {
        format!("no section begins with `{}` and ends with `{end}`: add both", begin.trim_end())
    })?;
    Ok(format!("{before}{begin}\n{section}\n{end}{after}"))
}

/// The table of all scenarios.
pub(crate) fn scenarios() -> String {
    let mut text = "| file | must never happen |\n|---|---|\n".to_owned();
    for (name, file) in NAMES.iter().zip(FILES) {
        let result = file.header.iter().find(|(key, _)| *key == "Result:");
        let never = result.map_or("", |(_, text)| text).trim_start_matches("Never. ");
        writeln!(text, "| [`{name}`](tests/{name}.rs) | {never} |").expect("memory");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_replaced_and_the_rest_stays() {
        let marked = |text| {
            format!("before\n<!-- x: written by just races -->\n{text}<!-- end of x -->\nafter\n")
        };
        let written = replaced(&marked("old"), "x", "new\n");
        assert_eq!(written, Ok(marked("\nnew\n\n")));
        assert!(replaced("nothing", "x", "").is_err_and(|error| error.contains("end of x")));
    }

    #[test]
    fn every_scenario_says_what_must_never_happen() {
        let table = scenarios();
        assert_eq!(table.lines().count(), NAMES.len() + 2);
        assert!(!table.contains("|  |"), "{table}");
    }
}
