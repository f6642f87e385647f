//! What scenarios execute of the core: every line that names a site, every public operation.
//!
//! Each scenario is explored once, in full, in the whole world. What no scenario executes is not
//! checked at all, whatever the verdicts say, so it is an error unless a reason is given: for a
//! line, in the core's text (see [`source`](crate::source)); for an operation, in the list below.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use comfy_table::Cell;
use serde_json::{Value, json};
use weft_backend_loom::coverage::{CoreLine, Coverage};
use weft_backend_loom::harness::Plan;
use weft_core::sites::AnySite;
use weft_shell::{exit, interruption, text};

use crate::arguments::Search;
use crate::checkers;
use crate::jobs::{self, Job, Purpose};
use crate::progress::Board;
use crate::runner::{self, Done};
use crate::source::{Excuse, Source};

/// Public operations that no scenario has to race.
const NOT_RACED: &[(&str, &str)] = &[
    ("Cursor::range", "the range is the cursor's own"),
    ("Cursor::vaddr", "the position is the cursor's own"),
    ("Cursor::jump", "the position is the cursor's own"),
    ("SharedCursor::new", "it looks at the root's level, which never changes"),
    ("SharedCursor::range", "the range is the cursor's own"),
    ("SharedCursor::vaddr", "the position is the cursor's own"),
    ("SharedCursor::jump", "the position is the cursor's own"),
    ("Guard::node", "which node it is never changes"),
    ("Guard::level", "the level of a node never changes"),
    ("Guard::entry", "it looks at nothing before the entry is used"),
    ("Guard::write_raw", "it is unsafe, and scenarios contain no unsafe code"),
];

/// What a scenario races.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Kind {
    /// Cursors, as kernels use them.
    Cursors,
    /// Nodes and entries, by hand.
    Nodes,
}

impl Kind {
    /// The kind of a scenario that executes this.
    fn of(coverage: &Coverage) -> Self {
        let is_cursor =
            |name: &String| name.starts_with("Cursor::") || name.starts_with("SharedCursor::");
        if coverage.operations.iter().any(is_cursor) { Self::Cursors } else { Self::Nodes }
    }

    /// For people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cursors => "cursors",
            Self::Nodes => "nodes by hand",
        }
    }
}

/// What each scenario executes.
#[derive(Debug, Default)]
pub(crate) struct Covered {
    by_scenario: BTreeMap<&'static str, Coverage>,
    died: Vec<String>,
    unfinished: usize,
}

impl Covered {
    /// Explores `plans`.
    pub(crate) fn by(search: &Search, plans: &[Plan]) -> Self {
        let checker = &checkers::ALL[0];
        let stages = |plan: &Plan| jobs::broken_stages(search, checker, plan, None);
        let job = |plan: &Plan| Job {
            scenario: plan.name,
            checker,
            sabotage: None,
            purpose: Purpose::Row,
            stages: stages(plan),
        };
        let jobs: Vec<Job> = plans.iter().map(job).collect();
        let expected = jobs.len();
        let done = runner::run(jobs, search.workers(), &mut Board::new());
        let mut covered = Self { unfinished: expected - done.len(), ..Self::default() };
        for Done { job, result } in done {
            match result {
                Ok(report) => drop(covered.by_scenario.insert(job.scenario, report.coverage)),
                Err(error) => covered.died.push(format!("{}: {error}", job.title())),
            }
        }
        covered
    }

    /// The lines that accesses of a site belong to, with the scenarios that execute them.
    pub(crate) fn lines(&self, site: AnySite) -> BTreeMap<CoreLine, BTreeSet<&'static str>> {
        let mut lines: BTreeMap<CoreLine, BTreeSet<&'static str>> = BTreeMap::new();
        for (scenario, coverage) in &self.by_scenario {
            for (name, line) in &coverage.accesses {
                if name == site.row().name {
                    lines.entry(line.clone()).or_default().insert(scenario);
                }
            }
        }
        lines
    }

    /// What a scenario races.
    pub(crate) fn kind(&self, scenario: &str) -> Option<Kind> {
        self.by_scenario.get(scenario).map(Kind::of)
    }

    /// The scenarios that execute an operation.
    fn racing(&self, operation: &str) -> Vec<&'static str> {
        let executes = |coverage: &Coverage| coverage.operations.contains(operation);
        let scenarios = self.by_scenario.iter().filter(|(_, coverage)| executes(coverage));
        scenarios.map(|(scenario, _)| *scenario).collect()
    }

    /// The scenarios that execute a line that names a site.
    fn executing(&self, named: &(String, CoreLine)) -> Vec<&'static str> {
        let scenarios = self.by_scenario.iter();
        let scenarios = scenarios.filter(|(_, coverage)| coverage.accesses.contains(named));
        scenarios.map(|(scenario, _)| *scenario).collect()
    }

    /// Whether a scenario makes an access of this site that belongs to this line.
    pub(crate) fn lists(&self, access: &(String, CoreLine)) -> bool {
        !self.executing(access).is_empty()
    }

    /// How children died.
    pub(crate) fn died(&self) -> &[String] {
        &self.died
    }

    /// What is missing, in sentences: of all that the core has, if every scenario was explored.
    pub(crate) fn complaints(&self, source: &Source) -> Vec<String> {
        let mut complaints = Vec::new();
        for named in &source.named {
            let (site, line) = named;
            let scenarios = self.executing(named);
            match source.reason(Excuse::NotRaced, line) {
                None if scenarios.is_empty() => complaints.push(format!(
                    "{site} at {line} is executed by no scenario: add one, or say why above it, \
                     `// not raced: <reason>`"
                )),
                Some(reason) if !scenarios.is_empty() => complaints.push(format!(
                    "{} says that {site} is not raced, and {} executes it: remove the reason",
                    reason.at, scenarios[0]
                )),
                _ => {}
            }
        }
        for reason in source.reasons.iter().filter(|it| it.excuses == Excuse::NotRaced) {
            if !source.named.iter().any(|(_, line)| reason.is_about(line)) {
                complaints.push(format!("{}: the statement below names no site", reason.at));
            }
        }
        complaints.extend(source.operations.iter().filter_map(|operation| {
            let scenarios = self.racing(&operation.name);
            operation_complaint(&operation.name, operation.announced, &scenarios)
                .map(|complaint| format!("{} {complaint}", operation.at))
        }));
        for (name, _) in NOT_RACED {
            if !source.operations.iter().any(|operation| operation.name == *name) {
                complaints.push(format!("{name} is listed as not raced, and does not exist"));
            }
        }
        complaints
    }

    /// The exit code.
    pub(crate) fn exit(&self, source: &Source) -> u8 {
        if interruption::is_here() {
            exit::INTERRUPTED
        } else if !self.died.is_empty() || self.unfinished > 0 {
            exit::INTERNAL
        } else if self.complaints(source).is_empty() {
            exit::GOOD
        } else {
            exit::MISSING
        }
    }

    /// For people.
    pub(crate) fn text(&self, source: &Source) -> String {
        let mut table = text::table(&["of the core", "where", "scenarios", "such as"], 2..3);
        for operation in &source.operations {
            let scenarios = self.racing(&operation.name);
            table.add_row(row(&operation.name, &operation.at, &scenarios));
        }
        for named in &source.named {
            table.add_row(row(&named.0, &named.1, &self.executing(named)));
        }
        let mut text = text::lines(&table) + "\n";
        for (name, reason) in NOT_RACED {
            writeln!(text, "{name} is not raced: {reason}").expect("memory");
        }
        for reason in source.reasons.iter().filter(|it| it.excuses == Excuse::NotRaced) {
            writeln!(text, "{} is not raced: {}", reason.at, reason.text).expect("memory");
        }
        for sentence in &self.died {
            writeln!(text, "DIED {sentence}").expect("memory");
        }
        let complaints = self.complaints(source);
        for complaint in &complaints {
            writeln!(text, "UNCOVERED {complaint}").expect("memory");
        }
        let (lines, operations) = (source.named.len(), source.operations.len());
        let scenarios = self.by_scenario.len();
        let word = if complaints.is_empty() { "GOOD" } else { "MISSING" };
        writeln!(
            text,
            "{word}: {scenarios} scenarios race {operations} public operations and {lines} lines \
             with a site, but for {} reasons and {} complaints",
            NOT_RACED.len()
                + source.reasons.iter().filter(|it| it.excuses == Excuse::NotRaced).count(),
            complaints.len()
        )
        .expect("memory");
        text
    }

    /// For programs.
    pub(crate) fn json(&self, source: &Source) -> Value {
        let operations = source.operations.iter().map(|operation| {
            let reason = NOT_RACED.iter().find(|(name, _)| *name == operation.name);
            json!({
                "operation": operation.name,
                "at": operation.at.to_string(),
                "scenarios": self.racing(&operation.name),
                "reason": reason.map(|(_, reason)| reason),
            })
        });
        let lines = source.named.iter().map(|named| {
            let reason = source.reason(Excuse::NotRaced, &named.1);
            json!({
                "site": named.0,
                "at": named.1.to_string(),
                "scenarios": self.executing(named),
                "reason": reason.map(|reason| &reason.text),
            })
        });
        let scenarios = self.by_scenario.iter().map(|(scenario, coverage)| {
            json!({ "scenario": scenario, "races": Kind::of(coverage).name() })
        });
        json!({
            "version": 1,
            "exit": self.exit(source),
            "operations": operations.collect::<Vec<_>>(),
            "lines": lines.collect::<Vec<_>>(),
            "scenarios": scenarios.collect::<Vec<_>>(),
            "complaints": self.complaints(source),
            "died": self.died,
            "unfinished": self.unfinished,
        })
    }
}

fn row(name: &str, at: &CoreLine, scenarios: &[&str]) -> Vec<Cell> {
    let such = scenarios.first().copied().unwrap_or("-");
    vec![Cell::new(name), Cell::new(at), Cell::new(scenarios.len()), Cell::new(such)]
}

/// What is wrong about an operation that these scenarios execute.
fn operation_complaint(name: &str, announced: bool, scenarios: &[&str]) -> Option<String> {
    let reason = NOT_RACED.iter().any(|(listed, _)| *listed == name);
    match (reason, announced) {
        (true, true) => Some(format!("{name} is listed as not raced, and announces itself")),
        (true, false) => None,
        (false, false) => Some(format!(
            "{name} does not announce itself: begin it with `.began(\"{name}\")`, or list it \
             as not raced"
        )),
        (false, true) if scenarios.is_empty() => {
            Some(format!("{name} is raced by no scenario: add one"))
        }
        (false, true) => None,
    }
}

#[cfg(test)]
impl Covered {
    /// What scenarios execute, made up.
    pub(crate) fn of(by_scenario: BTreeMap<&'static str, Coverage>) -> Self {
        Self { by_scenario, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use crate::source::tests::source;

    use super::*;

    /// One scenario that executes these operations, and the first of the source's lines.
    fn covered(operations: &[&str]) -> Covered {
        let coverage = Coverage {
            accesses: BTreeSet::from([source().named[0].clone()]),
            operations: operations.iter().map(|name| (*name).to_owned()).collect(),
        };
        Covered::of(BTreeMap::from([("lock_vs_lock", coverage)]))
    }

    #[test]
    fn what_no_scenario_executes_is_missing_unless_a_reason_says_why() {
        let complaints = covered(&[]).complaints(&source());
        let has = |part: &str| complaints.iter().filter(|it| it.contains(part)).count();
        assert_eq!(has("Cursor::look is raced by no scenario"), 1, "{complaints:#?}");
        assert_eq!(has("Cursor::mute does not announce itself"), 1, "{complaints:#?}");
        // The first line is executed, and the others have a reason.
        assert_eq!(has("is executed by no scenario"), 0, "{complaints:#?}");
        let complaints = Covered::default().complaints(&source());
        let line = complaints.iter().find(|it| it.contains("is executed by no scenario"));
        assert!(line.is_some_and(|it| it.starts_with("WALK_ENTRY at core/src/a.rs:8")));
        assert_eq!(covered(&["Cursor::look"]).exit(&source()), exit::MISSING);
    }

    #[test]
    fn a_reason_for_what_is_raced_is_wrong() {
        let source = source();
        let mut covered = covered(&[]);
        let coverage = covered.by_scenario.get_mut("lock_vs_lock").expect("it is there");
        coverage.accesses.insert(source.named[1].clone());
        let complaints = covered.complaints(&source);
        let wrong = "says that ENTRY_INIT is not raced, and lock_vs_lock executes it";
        assert!(complaints.iter().any(|it| it.contains(wrong)), "{complaints:#?}");
    }

    #[test]
    fn a_scenario_that_uses_a_cursor_races_cursors() {
        let kind = |operations: &[&str]| covered(operations).kind("lock_vs_lock");
        assert_eq!(kind(&["Guard::children", "Cursor::map"]), Some(Kind::Cursors));
        assert_eq!(kind(&["SharedCursor::visit"]), Some(Kind::Cursors));
        assert_eq!(kind(&["Guard::children", "Entry::replace"]), Some(Kind::Nodes));
        assert_eq!(covered(&[]).kind("nobody_vs_nobody"), None);
    }
}
