//! The text of the core: where it names sites, which public operations it has, and the reasons that
//! stand in it.
//!
//! The core is formatted by rustfmt, so indentation says what belongs to what. A reason is a
//! comment above a statement:
//!
//! * `// weaker: <reason>` where no scenario notices that an ordering of the statement is weaker;
//! * `// not raced: <reason>` where no scenario executes the statement while CPUs race.
//!
//! Tests at the end of a file are left out.

use std::ops::RangeInclusive;

use weft_backend_loom::coverage::CoreLine;

/// The core that the command was built with: names seen from the workspace, and texts.
const FILES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/core.rs"));

/// Where orderings are defined and not used.
const TABLE: &str = "core/src/sites.rs";

/// The types whose operations scenarios have to race.
const TYPES: [&str; 4] = ["Cursor", "SharedCursor", "Guard", "Entry"];

/// What is to be known of the core's text.
#[derive(Debug, Default)]
pub(crate) struct Source {
    /// Lines that name a site.
    pub(crate) named: Vec<(String, CoreLine)>,
    /// Reasons for what has no evidence.
    pub(crate) reasons: Vec<Reason>,
    /// Public operations.
    pub(crate) operations: Vec<Operation>,
}

/// A reason that stands above a statement.
#[derive(Clone, Debug)]
pub(crate) struct Reason {
    /// What it excuses.
    pub(crate) excuses: Excuse,
    /// The words.
    pub(crate) text: String,
    /// Where it stands.
    pub(crate) at: CoreLine,
    /// The lines of the statement.
    statement: RangeInclusive<u32>,
}

/// What a reason excuses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Excuse {
    /// A weaker ordering that nothing notices.
    Weaker,
    /// A statement that no race executes.
    NotRaced,
}

impl Reason {
    /// Whether it is about this line.
    pub(crate) fn is_about(&self, line: &CoreLine) -> bool {
        self.at.file == line.file && self.statement.contains(&line.line)
    }
}

/// A public operation.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    /// As `Cursor::map`.
    pub(crate) name: String,
    /// Where it is declared.
    pub(crate) at: CoreLine,
    /// Whether its body tells a model, by its name, that it begins.
    pub(crate) announced: bool,
}

impl Source {
    /// The core that the command was built with.
    pub(crate) fn of_core() -> Self {
        let mut source = Self::default();
        for (file, text) in FILES {
            source.add(file, text);
        }
        source
    }

    /// The reason of this kind for this line.
    pub(crate) fn reason(&self, excuses: Excuse, line: &CoreLine) -> Option<&Reason> {
        let mut reasons = self.reasons.iter();
        reasons.find(|reason| reason.excuses == excuses && reason.is_about(line))
    }

    fn add(&mut self, file: &str, text: &str) {
        if file == TABLE {
            return;
        }
        let lines: Vec<&str> = text.lines().take_while(|line| *line != "#[cfg(test)]").collect();
        let at = |index: usize| CoreLine { file: file.to_owned(), line: index as u32 + 1 };
        let mut owner = None;
        for (index, line) in lines.iter().enumerate() {
            if let Some(comment) = comment(line) {
                self.reasons.extend(reason(comment, at(index), &lines[index + 1..]));
                continue;
            }
            self.named.extend(named(line).map(|site| (site.to_owned(), at(index))));
            if line.starts_with("impl") {
                owner = implemented(&lines[index..]);
            } else if *line == "}" {
                owner = None;
            }
            if let Some((owner, method)) = owner.zip(public_function(line)) {
                let name = format!("{owner}::{method}");
                let body = lines[index..].iter().take_while(|line| **line != "    }");
                let announcement = format!("(\"{name}\")");
                let announced = body.into_iter().any(|line| line.contains(&announcement));
                self.operations.push(Operation { name, at: at(index), announced });
            }
        }
    }
}

/// What a line of comment says.
fn comment(line: &str) -> Option<&str> {
    line.trim_start().strip_prefix("//").map(str::trim_start)
}

/// The sites that a line names.
fn named(line: &str) -> impl Iterator<Item = &str> {
    line.split("site!(").skip(1).filter_map(|rest| rest.split_once(')').map(|(site, _)| site))
}

/// The reason that begins with this comment; `below` are the lines that follow.
fn reason(comment: &str, at: CoreLine, below: &[&str]) -> Option<Reason> {
    let starts = [("weaker: ", Excuse::Weaker), ("not raced: ", Excuse::NotRaced)];
    let (text, excuses) =
        starts.iter().find_map(|(start, it)| Some((comment.strip_prefix(start)?, *it)))?;
    let more: Vec<&str> = below.iter().map_while(|line| self::comment(line)).collect();
    let text = [&[text], more.as_slice()].concat().join(" ");
    let code = &below[more.len()..];
    let ends = |line: &&str| [';', '{', '}', ','].iter().any(|end| line.ends_with(*end));
    let length = code.iter().position(ends).unwrap_or(0) as u32;
    let first = at.line + more.len() as u32 + 1;
    Some(Reason { excuses, text, at, statement: first..=first + length })
}

/// The type whose own methods the block that begins here has, if it is one of [`TYPES`].
fn implemented(block: &[&str]) -> Option<&'static str> {
    let mut header = String::new();
    for line in block {
        header += line;
        if line.contains('{') {
            break;
        }
    }
    let header = header.split('{').next().unwrap_or_default();
    if header.contains(" for ") {
        return None;
    }
    TYPES.into_iter().find(|name| header.contains(&format!(" {name}<")))
}

/// The name of the public method that is declared on this line.
fn public_function(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("    pub ")?;
    let rest = rest.trim_start_matches("const ").trim_start_matches("unsafe ");
    rest.strip_prefix("fn ")?.split(['(', '<']).next()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const TEXT: &str = "\
impl<'g, C: Config> Cursor<'g, C> {
    /// Looks.
    pub fn look(&self) -> u64 {
        self.began(\"Cursor::look\");
        // weaker: nothing travels
        // along this edge.
        self.word()
            .load(site!(WALK_ENTRY))
            .into();
        // not raced: made once.
        let (one, two) = (site!(ENTRY_INIT), site!(ENTRY_RETRY));
    }
    pub const fn mute(&self) {}
    fn private(&self) {}
}
impl<C: Config> Drop for Cursor<'_, C> {
    pub fn nothing(&self) {}
}
#[cfg(test)]
mod tests { fn f() { site!(CLEAR_ENTRY) } }
";

    /// A made-up file.
    pub(crate) fn source() -> Source {
        let mut source = Source::default();
        source.add("core/src/a.rs", TEXT);
        source
    }

    #[test]
    fn sites_are_found_where_they_are_named() {
        let named: Vec<String> =
            source().named.iter().map(|(site, line)| format!("{site} {line}")).collect();
        assert_eq!(
            named,
            [
                "WALK_ENTRY core/src/a.rs:8",
                "ENTRY_INIT core/src/a.rs:11",
                "ENTRY_RETRY core/src/a.rs:11"
            ]
        );
    }

    #[test]
    fn a_reason_is_about_the_statement_below_it() {
        let source = source();
        let texts: Vec<&str> = source.reasons.iter().map(|reason| reason.text.as_str()).collect();
        assert_eq!(texts, ["nothing travels along this edge.", "made once."]);
        let about = |line| {
            let line = CoreLine { file: "core/src/a.rs".to_owned(), line };
            [Excuse::Weaker, Excuse::NotRaced].map(|it| source.reason(it, &line).is_some())
        };
        let found = [6, 7, 8, 9, 10, 11, 12].map(about);
        let (weaker, not_raced, neither) = ([true, false], [false, true], [false, false]);
        assert_eq!(found, [neither, weaker, weaker, weaker, neither, not_raced, neither]);
    }

    #[test]
    fn operations_are_public_methods_and_announce_themselves_by_their_names() {
        let operations: Vec<(String, bool)> =
            source().operations.into_iter().map(|it| (it.name, it.announced)).collect();
        let expected = [("Cursor::look".to_owned(), true), ("Cursor::mute".to_owned(), false)];
        assert_eq!(operations, expected);
    }

    #[test]
    fn the_core_has_operations_of_every_type_and_names_every_kind_of_site() {
        let source = Source::of_core();
        for name in TYPES {
            let start = format!("{name}::");
            assert!(source.operations.iter().any(|it| it.name.starts_with(&start)), "{name}");
        }
        for site in ["LOCK_ACQUIRE", "PUBLISH_ITEM", "QUERY_ORDER", "REFERENCE_LAST"] {
            assert!(source.named.iter().any(|(name, _)| name == site), "{site}");
        }
    }
}
