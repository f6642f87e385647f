//! Which checker found which race, and after how much: what is kept between runs.
//!
//! Some columns take long, or need a machine; a run that leaves one out keeps what was found there
//! before. So the findings are a file of their own, beside the table that is made from it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use weft_shell::text::thousands;

use super::rows::Race;

/// Where the findings are, seen from the root of the workspace.
pub(crate) const FINDINGS: &str = "scenarios/races.json";

/// Who looks for a race: a column of the table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Column {
    /// The explorer, under RC11.
    Explorer,
    /// The explorer, under TSO.
    Tso,
    /// loom.
    Loom,
    /// shuttle.
    Shuttle,
    /// Threads of the host.
    Threads,
    /// A machine under QEMU.
    Machine,
}

impl Column {
    /// All of them, in the order of the table.
    pub(crate) const ALL: [Self; 6] =
        [Self::Explorer, Self::Tso, Self::Loom, Self::Shuttle, Self::Threads, Self::Machine];

    /// What it is called in tables.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Explorer => "explorer",
            Self::Tso => "under TSO",
            Self::Loom => "loom",
            Self::Shuttle => "shuttle",
            Self::Threads => "host threads",
            Self::Machine => "machine",
        }
    }

    /// Whether it finds the same after as many executions in every run.
    pub(crate) const fn is_exact(self) -> bool {
        matches!(self, Self::Explorer | Self::Tso | Self::Loom | Self::Shuttle)
    }
}

/// What came of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Found {
    /// Found, in this execution.
    After(u64),
    /// Found, in one of so many runs.
    Within(u64),
    /// Not found in so many executions, or runs.
    NotIn(u64),
    /// A mutant is not noticed, or otherwise than its entry says.
    Survived,
    /// It fails with another message than the invariant's.
    Otherwise(u64),
    /// It cannot show it: its hardware keeps nothing, or it has one order of all accesses.
    Cannot,
    /// Not tried.
    #[default]
    NotTried,
}

impl Found {
    /// Whether it was found.
    pub(crate) const fn is_found(self) -> bool {
        matches!(self, Self::After(_) | Self::Within(_))
    }

    /// Whether it was looked for.
    pub(crate) const fn is_tried(self) -> bool {
        !matches!(self, Self::NotTried | Self::Cannot)
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::After(count) => write!(f, "{}", thousands(count)),
            Self::Within(count) => write!(f, "in {}", thousands(count)),
            Self::NotIn(count) => write!(f, "not in {}", thousands(count)),
            Self::Otherwise(count) => write!(f, "other message, {}", thousands(count)),
            Self::Survived => f.write_str("SURVIVED"),
            Self::Cannot => f.write_str("cannot"),
            Self::NotTried => f.write_str("-"),
        }
    }
}

/// What was found of one race.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Finding {
    /// The row of the catalogue.
    pub(crate) row: String,
    /// The scenario.
    pub(crate) scenario: String,
    /// How it is made again.
    pub(crate) how: String,
    /// The verdict of the explorer on the right core.
    pub(crate) verdict: String,
    /// Executions of the right core.
    pub(crate) executions: u64,
    /// By column.
    pub(crate) found: BTreeMap<Column, Found>,
}

impl Finding {
    /// Nothing yet.
    pub(crate) fn none(race: &Race) -> Self {
        Self {
            row: race.bug.row.to_owned(),
            scenario: race.scenario.to_owned(),
            how: race.how.to_string(),
            verdict: String::new(),
            executions: 0,
            found: BTreeMap::new(),
        }
    }

    /// What a checker found.
    pub(crate) fn of(&self, column: Column) -> Found {
        self.found.get(&column).copied().unwrap_or_default()
    }

    fn is_of(&self, race: &Race) -> bool {
        self.row == race.bug.row
            && self.scenario == race.scenario
            && self.how == race.how.to_string()
    }
}

/// Reads the findings that are kept, one for each race; of a new race there are none.
///
/// # Errors
///
/// One sentence, if the file is there and cannot be read.
pub(crate) fn read(root: &Path, races: &[Race]) -> Result<Vec<Finding>, String> {
    let kept: Vec<Finding> = match std::fs::read_to_string(root.join(FINDINGS)) {
        Ok(text) => serde_json::from_str(&text).map_err(|error| {
            format!("{FINDINGS} is broken ({error}): remove it, it is made anew")
        })?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(format!("cannot read {FINDINGS}: {error}")),
    };
    let of = |race: &Race| kept.iter().find(|finding| finding.is_of(race)).cloned();
    Ok(races.iter().map(|race| of(race).unwrap_or_else(|| Finding::none(race))).collect())
}

/// The text of the file.
pub(crate) fn text(findings: &[Finding]) -> String {
    let rows: Vec<String> = findings
        .iter()
        .map(|finding| serde_json::to_string(finding).expect("findings are plain data"))
        .collect();
    format!("[\n{}\n]\n", rows.join(",\n"))
}

/// In how many races, counting each bug once, a checker found it, of how many it was tried on; and
/// how often sooner than the explorer.
pub(crate) fn count(races: &[Race], findings: &[Finding], column: Column) -> (usize, usize, usize) {
    let firsts = races.iter().zip(findings).filter(|(race, _)| race.is_first);
    let mut counts = (0, 0, 0);
    for (_, finding) in firsts {
        let found = finding.of(column);
        counts.0 += usize::from(found.is_found());
        counts.1 += usize::from(found.is_tried());
        if let (Found::After(one), Found::After(other)) = (found, finding.of(Column::Explorer)) {
            counts.2 += usize::from(one < other);
        }
    }
    counts
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Findings of a race, made up.
    pub(crate) fn finding(found: &[(Column, Found)]) -> Finding {
        Finding {
            row: "1".to_owned(),
            scenario: "a_vs_b".to_owned(),
            how: "no-shootdown".to_owned(),
            verdict: "EXHAUSTED".to_owned(),
            executions: 7,
            found: found.iter().copied().collect(),
        }
    }

    #[test]
    fn findings_are_read_back() {
        let all = [
            finding(&[(Column::Explorer, Found::After(3)), (Column::Loom, Found::Cannot)]),
            finding(&[(Column::Machine, Found::Within(5_000)), (Column::Tso, Found::NotIn(1))]),
        ];
        let read: Vec<Finding> = serde_json::from_str(&text(&all)).expect("it is JSON");
        assert_eq!(read, all);
        assert_eq!(read[0].of(Column::Shuttle), Found::NotTried);
    }

    #[test]
    fn cells_are_words_for_people() {
        let cells = [Found::After(1_234), Found::Within(5_000), Found::NotIn(10_000)];
        assert_eq!(cells.map(|it| it.to_string()), ["1,234", "in 5,000", "not in 10,000"]);
    }
}
