//! The races that shipped: what the headers of scenario files say, and what no scenario says.
//!
//! A bug has a row of the catalogue and one or more ways in which its scenario makes it again: a
//! twin, a mistake, or a mutant on file that names the scenario as its killer. Each way is a
//! [`Race`]; the first of a bug is the one that counts for it. What cannot be expressed is on file
//! with the reason, one bug a line, in the form of the headers.

use std::collections::BTreeSet;
use std::fmt;

use weft_scenarios::sabotage::Sabotage;

use crate::checkers::{self, Bug, FILES, File, NAMES};
use crate::mutants::catalogue::{Catalogue, Claim};
use crate::mutants::check::Check;

/// What cannot be expressed, seen from the root of the workspace.
pub(crate) const NOT_EXPRESSED: &str = "scenarios/not-expressed.txt";

/// A historical bug, in one of the ways in which its scenario makes it again.
#[derive(Clone, Debug)]
pub(crate) struct Race {
    /// The bug.
    pub(crate) bug: &'static Bug,
    /// Whether this is the first way of the bug.
    pub(crate) is_first: bool,
    /// The scenario.
    pub(crate) scenario: &'static str,
    /// What the scenario's file says about itself.
    pub(crate) file: &'static File,
    /// How it is made again.
    pub(crate) how: How,
}

/// How a bug is made again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// As a twin or mistake, to be caught with this message.
    World(Sabotage, &'static str),
    /// As the mutant on file of this name.
    Mutant(&'static str),
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::World(sabotage, _) => sabotage.fmt(f),
            Self::Mutant(name) => write!(f, "mutant {name}"),
        }
    }
}

impl Race {
    /// A part of the header of the scenario's file.
    pub(crate) fn header(&self, key: &str) -> &'static str {
        let found = self.file.header.iter().find(|(known, _)| *known == key);
        found.map_or("", |(_, text)| text)
    }

    /// What is different, in words.
    pub(crate) fn described(&self) -> String {
        match self.how {
            How::World(sabotage, _) => checkers::described(self.scenario, sabotage),
            How::Mutant(_) => self.how.to_string(),
        }
    }
}

/// A bug that is no scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotExpressed {
    /// The row of the catalogue.
    pub(crate) row: String,
    /// Where it is told.
    pub(crate) references: String,
    /// What raced.
    pub(crate) what: String,
    /// Why, and what would be needed.
    pub(crate) reason: String,
}

/// All races, by their rows.
///
/// # Errors
///
/// A sentence for each row that is wrong.
pub(crate) fn races(catalogue: &Catalogue) -> Result<Vec<Race>, Vec<String>> {
    let (mut races, mut complaints) = (Vec::new(), Vec::new());
    let mut rows = BTreeSet::new();
    for (&scenario, file) in NAMES.iter().zip(FILES) {
        for bug in file.bugs {
            if !rows.insert(bug.row) {
                complaints.push(format!("{scenario}: another file has row {} too", bug.row));
            }
            for (number, name) in bug.hows.iter().enumerate() {
                match how(scenario, name, catalogue) {
                    Ok(how) => {
                        races.push(Race { bug, is_first: number == 0, scenario, file, how });
                    }
                    Err(complaint) => complaints.push(complaint),
                }
            }
        }
    }
    races.sort_by_key(|race| place(race.bug.row));
    if complaints.is_empty() { Ok(races) } else { Err(complaints) }
}

/// What a header's `how` means in a scenario.
fn how(scenario: &str, name: &'static str, catalogue: &Catalogue) -> Result<How, String> {
    if let Some(mutant) = name.strip_prefix("mutant ") {
        let found = catalogue.mutants.iter().find(|it| it.name == mutant);
        let found = found.ok_or_else(|| {
            format!(
                "{scenario}: History names the mutant {mutant}, and none of that name is on file"
            )
        })?;
        let is_killed = match &found.claim {
            Claim::Killed(checks) => checks
                .keys()
                .any(|check| matches!(check, Check::Scenario(killer) if *killer == scenario)),
            _ => false,
        };
        return if is_killed {
            Ok(How::Mutant(mutant))
        } else {
            Err(format!("{scenario}: {found} does not name this scenario under killed-by: add it"))
        };
    }
    let plan = checkers::prepare(scenario).expect("a collected scenario exists").plan;
    let twin = plan.twins.iter().find(|(sabotage, _)| sabotage.to_string() == name);
    let (sabotage, message) = twin.ok_or_else(|| {
        let all: Vec<String> = plan.twins.iter().map(|(twin, _)| twin.to_string()).collect();
        format!(
            "{scenario}: History names {name}, which is none of its twins and mistakes: {}",
            all.join(", ")
        )
    })?;
    Ok(How::World(*sabotage, message))
}

/// The order of rows: 2, 11, N1, N20.
fn place(row: &str) -> (bool, u32) {
    let number = row.strip_prefix('N').unwrap_or(row);
    (row.starts_with('N'), number.parse().unwrap_or(u32::MAX))
}

/// Reads what cannot be expressed: `<row>, <references>: <what raced> => <reason>`, a bug a line.
///
/// # Errors
///
/// A sentence for the first line of another form, and for a row that a scenario has.
pub(crate) fn not_expressed(text: &str, races: &[Race]) -> Result<Vec<NotExpressed>, String> {
    let read = |line: &str| {
        let (before, reason) = line.split_once(" => ")?;
        let (references, what) = before.split_once(": ")?;
        let (row, references) = references.split_once(", ")?;
        let owned = |text: &str| text.trim().to_owned();
        let [row, references, what, reason] = [row, references, what, reason].map(owned);
        let empty = [&row, &references, &what, &reason].iter().any(|part| part.is_empty());
        (!empty).then_some(NotExpressed { row, references, what, reason })
    };
    let mut all = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let place = format!("{NOT_EXPRESSED}, line {}", number + 1);
        let one = read(line).ok_or_else(|| {
            format!("{place} is not `<row>, <reference>, ..: <what raced> => <reason>`")
        })?;
        if let Some(race) = races.iter().find(|race| race.bug.row == one.row) {
            return Err(format!("{place}: row {} is the scenario {}", one.row, race.scenario));
        }
        all.push(one);
    }
    all.sort_by_key(|one| place(&one.row));
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Workspace;

    #[test]
    fn histories_name_what_their_files_have() {
        let workspace = Workspace::read().expect("tests run in the workspace");
        let catalogue = Catalogue::read(&workspace).expect("every file is well formed");
        let races = races(&catalogue).unwrap_or_else(|complaints| panic!("{complaints:#?}"));
        assert!(races.iter().any(|race| race.scenario == "activate_vs_unmap"));
        assert!(races.iter().all(|race| !race.header("Invariant:").is_empty()));
    }

    #[test]
    fn what_a_file_has_not_is_named() {
        let of = |name| how("copy_vs_writes", name, &Catalogue::default()).expect_err(name);
        assert!(of("freed-at-once").contains("none of its twins and mistakes: HOLDERS_SEEN, "));
        assert!(of("mutant no_such").contains("the mutant no_such, and none of that name"));
        let named = how("copy_vs_writes", "mistake-copies-before-flush", &Catalogue::default());
        assert!(matches!(named, Ok(How::World(Sabotage::Mistake(_), "data race on"))));
    }

    #[test]
    fn rows_are_in_the_order_of_their_numbers() {
        let mut rows = ["N20", "11", "N3", "2"];
        rows.sort_by_key(|row| place(row));
        assert_eq!(rows, ["2", "11", "N3", "N20"]);
    }

    #[test]
    fn what_cannot_be_expressed_is_read_line_by_line() {
        let text = "\nN16, linux x, linux y: a batch is filled => no such batch here\n";
        let read = not_expressed(text, &[]).expect("well formed");
        assert_eq!(read[0].references, "linux x, linux y");
        assert_eq!(read[0].reason, "no such batch here");
        for bad in ["N16: a => b", "N16, linux x: a", "N16, linux x: => b", "N16, linux x a => b"] {
            let error = not_expressed(bad, &[]).expect_err(bad);
            assert!(error.contains("line 1 is not `<row>,"), "{error}");
        }
    }
}
