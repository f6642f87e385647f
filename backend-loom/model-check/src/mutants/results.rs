//! What became of the mutants.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use comfy_table::Cell;
use weft_shell::{exit, interruption, text};

use super::NO_MUTANT;
use super::catalogue::{Claim, Mutant};
use super::check::{Check, Outcome};

/// A check that was run on a mutant, or on none.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    /// How it ended, or why there is no answer.
    pub(crate) outcome: Result<Outcome, String>,
    /// How long it took.
    pub(crate) time: Duration,
}

/// What became of a mutant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// All of its checks noticed it; in which execution, where it was explored.
    Killed(Vec<(Check, Option<u64>)>),
    /// It survived, as its entry says.
    Explained,
    /// A check did not notice it; what happened instead.
    Survived(String),
    /// Its entry says that it survives, and a check noticed it.
    Contradicted(String),
    /// It was not tried.
    Error(String),
}

impl Fate {
    /// The fate of a mutant, if all of its checks were run on it and on no mutant.
    pub(crate) fn of(
        mutant: &Mutant,
        number: u32,
        checks: &BTreeSet<Check>,
        runs: &BTreeMap<(u32, Check), Run>,
    ) -> Option<Self> {
        if checks.is_empty() {
            let error = "no check could notice it: no other mutant of its crate is on file";
            return Some(Self::Error(error.to_owned()));
        }
        let mut killers = Vec::new();
        for check in checks {
            let ended = |number| runs.get(&(number, check.clone())).map(|run| &run.outcome);
            match ended(NO_MUTANT)? {
                Ok(Outcome::Passed(_)) => {}
                Ok(Outcome::Failed(said, _)) => {
                    let said = excerpt(said);
                    return Some(Self::Error(format!("{check} fails without it: {said}")));
                }
                Err(error) => return Some(Self::Error(format!("{check}: {error}"))),
            }
            match (ended(number)?, &mutant.claim) {
                (Err(error), _) => return Some(Self::Error(format!("{check}: {error}"))),
                (Ok(Outcome::Passed(said)), Claim::Killed(_)) => {
                    return Some(Self::Survived(format!("{check}: {said}")));
                }
                (Ok(Outcome::Passed(_)), _) => {}
                (Ok(Outcome::Failed(said, executions)), Claim::Killed(messages)) => {
                    if !said.contains(&messages[check]) {
                        let said = excerpt(said);
                        let instead = format!("{check} fails with another message: {said}");
                        return Some(Self::Survived(instead));
                    }
                    killers.push((check.clone(), *executions));
                }
                (Ok(Outcome::Failed(said, _)), _) => {
                    let said = excerpt(said);
                    return Some(Self::Contradicted(format!("{check} notices it: {said}")));
                }
            }
        }
        Some(if killers.is_empty() { Self::Explained } else { Self::Killed(killers) })
    }
}

/// The line that says most: what a panic says, or the last one. Long lines are cut.
fn excerpt(said: &str) -> String {
    let mut lines = said.lines();
    let panicked = lines.by_ref().any(|line| line.contains("panicked at"));
    let after = lines.next().filter(|_| panicked);
    let last = || said.lines().rev().find(|line| !line.trim().is_empty());
    let line = after.or_else(last).unwrap_or("nothing was said").trim();
    match line.char_indices().nth(EXCERPT) {
        Some((end, _)) => format!("{}..", &line[..end]),
        None => line.to_owned(),
    }
}

/// The most characters of a message that are shown.
const EXCERPT: usize = 100;

/// A mutant and what became of it.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// The mutant.
    pub(crate) mutant: Mutant,
    /// What became of it.
    pub(crate) fate: Fate,
    /// How long its checks took, and its build if it had one of its own.
    pub(crate) time: Duration,
    /// Why it had one.
    pub(crate) alone: Option<String>,
}

/// The results of all mutants that were selected.
#[derive(Debug, Default)]
pub(crate) struct Results {
    /// Those that are over.
    pub(crate) rows: Vec<Row>,
    /// How many are not.
    pub(crate) unfinished: usize,
    /// How long the build of the merged copy took.
    pub(crate) building: Duration,
    /// How long everything took.
    pub(crate) elapsed: Duration,
}

impl Results {
    /// Whether a check noticed the mutant called `name`, and in which execution; `None` if that
    /// was not tried to the end.
    pub(crate) fn noticed(&self, name: &str, check: &Check) -> Option<Option<u64>> {
        let row = self.rows.iter().find(|row| row.mutant.name == name)?;
        match &row.fate {
            Fate::Killed(checks) => {
                checks.iter().find(|(killer, _)| killer == check).map(|(_, executions)| *executions)
            }
            Fate::Survived(_) => Some(None),
            Fate::Explained | Fate::Contradicted(_) | Fate::Error(_) => None,
        }
    }

    /// The exit code.
    pub(crate) fn exit(&self) -> u8 {
        let any = |what: fn(&Fate) -> bool| self.rows.iter().any(|row| what(&row.fate));
        if self.unfinished > 0 || interruption::is_here() {
            exit::INTERRUPTED
        } else if any(|fate| matches!(fate, Fate::Error(_))) {
            exit::INTERNAL
        } else if any(|fate| matches!(fate, Fate::Survived(_) | Fate::Contradicted(_))) {
            exit::MISSING
        } else {
            exit::GOOD
        }
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = self.table();
        for Row { mutant, fate, alone, .. } in &self.rows {
            match (fate, &mutant.claim) {
                (Fate::Killed(_), _) => {}
                (Fate::Explained, Claim::Equivalent(reason)) => {
                    writeln!(text, "EQUIVALENT {mutant}: {reason}").expect("memory");
                }
                (Fate::Explained, Claim::Survives(reason)) => {
                    writeln!(text, "SURVIVES {mutant}: {reason}").expect("memory");
                }
                (Fate::Explained, Claim::Killed(_)) => unreachable!("it was killed"),
                (Fate::Survived(instead), _) => {
                    writeln!(text, "SURVIVED {mutant}: {instead}").expect("memory");
                }
                (Fate::Contradicted(check), _) => {
                    writeln!(
                        text,
                        "NOTICED {mutant}: {check}, and its entry says that no check does"
                    )
                    .expect("memory");
                }
                (Fate::Error(error), _) => {
                    writeln!(text, "ERROR {mutant}: {error}").expect("memory");
                }
            }
            if let Some(reason) = alone {
                writeln!(text, "ALONE {mutant}: built in a copy of its own: {reason}")
                    .expect("memory");
            }
        }
        let count = |what: fn(&Row) -> bool| self.rows.iter().filter(|row| what(row)).count();
        let killed = count(|row| matches!(row.fate, Fate::Killed(_)));
        let explained = count(|row| row.fate == Fate::Explained);
        let alone = count(|row| row.alone.is_some());
        writeln!(
            text,
            "{killed}/{} mutants killed, {explained} survive for a reason; {alone} were built \
             alone; {:.0} s, of which {:.0} s built one copy for all others",
            self.rows.len(),
            self.elapsed.as_secs_f64(),
            self.building.as_secs_f64()
        )
        .expect("memory");
        if self.unfinished > 0 {
            writeln!(text, "{} mutants not tried", self.unfinished).expect("memory");
        }
        text
    }

    fn table(&self) -> String {
        let header = ["mutant", "killed by", "in", "time", "breaks"];
        let mut table = text::table(&header, 2..4);
        for row in &self.rows {
            let (killers, executions) = match &row.fate {
                Fate::Killed(killers) => {
                    let names = killers.iter().map(|(check, _)| check.to_string());
                    let counts = killers
                        .iter()
                        .map(|(_, executions)| executions.map_or("-".to_owned(), text::thousands));
                    (names.collect::<Vec<_>>().join("\n"), counts.collect::<Vec<_>>().join("\n"))
                }
                Fate::Explained => ("nothing, for a reason".to_owned(), "-".to_owned()),
                Fate::Survived(_) => ("SURVIVED".to_owned(), "-".to_owned()),
                Fate::Contradicted(_) => ("NOTICED".to_owned(), "-".to_owned()),
                Fate::Error(_) => ("ERROR".to_owned(), "-".to_owned()),
            };
            table.add_row(vec![
                Cell::new(&row.mutant.name),
                Cell::new(killers),
                Cell::new(executions),
                Cell::new(format!("{:.1} s", row.time.as_secs_f64())),
                Cell::new(&row.mutant.breaks),
            ]);
        }
        text::lines(&table) + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHECK: Check = Check::Scenario("lock_vs_lock");

    fn mutant(claim: Claim) -> Mutant {
        Mutant {
            on_file: "mutants/x.toml".into(),
            name: "n".to_owned(),
            breaks: "It.".to_owned(),
            edits: Ok(BTreeMap::new()),
            claim,
            alone: None,
        }
    }

    fn killed() -> Mutant {
        mutant(Claim::Killed(BTreeMap::from([(CHECK, "data race".to_owned())])))
    }

    fn survives() -> Mutant {
        mutant(Claim::Survives("Nothing reads it.".to_owned()))
    }

    fn failed(said: &str) -> Result<Outcome, String> {
        Ok(Outcome::Failed(said.to_owned(), Some(3)))
    }

    fn passed() -> Result<Outcome, String> {
        Ok(Outcome::Passed("EXHAUSTED".to_owned()))
    }

    /// The fate of a mutant whose one check ended so without it, and so on it.
    fn fate(
        mutant: &Mutant,
        without: Result<Outcome, String>,
        with: Result<Outcome, String>,
    ) -> Fate {
        let run = |outcome| Run { outcome, time: Duration::ZERO };
        let runs = BTreeMap::from([((NO_MUTANT, CHECK), run(without)), ((1, CHECK), run(with))]);
        Fate::of(mutant, 1, &BTreeSet::from([CHECK]), &runs).expect("both are over")
    }

    fn exit_of(mutant: &Mutant, fate: Fate) -> u8 {
        let (mutant, time) = (mutant.clone(), Duration::ZERO);
        let rows = vec![Row { mutant, fate, time, alone: None }];
        let results = Results { rows, ..Results::default() };
        assert!(!results.text().is_empty());
        results.exit()
    }

    #[test]
    fn a_mutant_is_killed_by_the_message_that_is_expected() {
        let fate = fate(&killed(), passed(), failed("a data race on N1"));
        assert_eq!(fate, Fate::Killed(vec![(CHECK, Some(3))]));
        assert_eq!(exit_of(&killed(), fate), exit::GOOD);
    }

    #[test]
    fn a_survivor_without_a_reason_is_code_2() {
        for (with, part) in [
            (passed(), "lock_vs_lock: EXHAUSTED"),
            (failed("thread 'x' panicked at y:\nodd\nmore"), "with another message: odd"),
            (failed("deadlock\n"), "with another message: deadlock"),
        ] {
            let fate = fate(&killed(), passed(), with);
            let Fate::Survived(instead) = &fate else { panic!("{fate:?}") };
            assert!(instead.contains(part), "{instead}");
            assert_eq!(exit_of(&killed(), fate), exit::MISSING);
        }
    }

    #[test]
    fn a_long_message_is_cut() {
        let said = format!("thread 'x' panicked at y:\n{}", "é".repeat(101));
        assert_eq!(excerpt(&said), format!("{}..", "é".repeat(100)));
        assert_eq!(excerpt("short\n\n"), "short");
    }

    #[test]
    fn a_reason_holds_until_a_check_notices() {
        let explained = fate(&survives(), passed(), passed());
        assert_eq!(explained, Fate::Explained);
        assert_eq!(exit_of(&survives(), explained), exit::GOOD);
        let noticed = fate(&survives(), passed(), failed("a data race"));
        assert!(matches!(&noticed, Fate::Contradicted(by) if by.contains("a data race")));
        assert_eq!(exit_of(&survives(), noticed), exit::MISSING);
    }

    #[test]
    fn what_fails_without_the_mutant_shows_nothing() {
        let fails = fate(&killed(), failed("data race"), failed("data race"));
        assert!(matches!(&fails, Fate::Error(error) if error.contains("fails without it")));
        assert_eq!(exit_of(&killed(), fails), exit::INTERNAL);
        let lost = fate(&killed(), passed(), Err("cannot run it".to_owned()));
        assert_eq!(lost, Fate::Error("lock_vs_lock: cannot run it".to_owned()));
    }

    #[test]
    fn a_mutant_whose_checks_did_not_end_has_no_fate() {
        let checks = BTreeSet::from([CHECK]);
        assert_eq!(Fate::of(&killed(), 1, &checks, &BTreeMap::new()), None);
        let nothing = Fate::of(&survives(), 1, &BTreeSet::new(), &BTreeMap::new());
        assert!(matches!(nothing, Some(Fate::Error(error)) if error.contains("no check could")));
        let results = Results { unfinished: 1, ..Results::default() };
        assert_eq!(results.exit(), exit::INTERRUPTED);
    }
}
