//! Every memory ordering, one step weaker, at one line at a time: who notices?
//!
//! First each scenario is explored in the whole world, which tells the lines that it executes.
//! Then each line that accesses of a site belong to is weakened by itself, by every step, and the
//! scenarios that execute it are explored in that world. Only a broken condition counts as
//! noticing: a deadlock or a limit on steps is no argument about memory.
//!
//! A line of which nothing notices the weakening has a reason in the core's text, and one that has
//! a reason is noticed by nothing. The table of sites names scenarios for each site; each of them
//! has to notice a line of it, and there is one of either [`Kind`] if scenarios of both execute it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use comfy_table::Cell;
use serde_json::{Value, json};
use weft_backend_loom::coverage::CoreLine;
use weft_backend_loom::engine::FailureKind;
use weft_backend_loom::harness::Plan;
use weft_backend_loom::report::{Report, Request};
use weft_backend_loom::sabotage;
use weft_core::sites::{ALL, AnySite, Evidence, GENERATION_SEEN};
use weft_scenarios::sabotage::Sabotage;
use weft_shell::{exit, interruption, text};

use crate::arguments::{Search, Selection};
use crate::checkers::{Checker, NAMES, Use};
use crate::coverage::{Covered, Kind};
use crate::jobs::{self, Job, Purpose};
use crate::progress::Board;
use crate::runner::{self, Done};
use crate::source::{Excuse, Source};

/// Executions that a sampling engine draws in each world.
const SAMPLES: u64 = 300;

/// One way to weaken one line, and who noticed.
#[derive(Debug)]
pub(crate) struct Weakening {
    sabotage: Sabotage,
    site: AnySite,
    line: CoreLine,
    kills: Vec<Kill>,
    /// Why the ordering stays although nothing notices, if the text says so.
    reason: Option<String>,
    /// Whether nothing noticed, and no reason is given.
    survived: bool,
}

/// A scenario that noticed.
#[derive(Clone, Debug)]
struct Kill {
    scenario: &'static str,
    engine: &'static str,
    executions: u64,
    message: String,
}

/// The result of a sweep.
#[derive(Debug, Default)]
pub(crate) struct Sweep {
    weakenings: Vec<Weakening>,
    complaints: Vec<String>,
    died: Vec<String>,
    unfinished: usize,
}

/// Weakens `sites` and explores `plans` in each of these worlds.
pub(crate) fn sweep(
    search: &Search,
    selection: &Selection,
    plans: &[Plan],
    sites: &[AnySite],
) -> Sweep {
    let source = Source::of_core();
    let covered = Covered::by(search, plans);
    let mut worlds = Vec::new();
    for site in sites.iter().copied().filter(|_| !interruption::is_here()) {
        for (line, scenarios) in covered.lines(site) {
            for sabotage in sabotage::weakenings(site, &line) {
                worlds.push((sabotage, site, line.clone(), scenarios.clone()));
            }
        }
    }
    let jobs = worlds.iter().flat_map(|(world, _, _, scenarios)| {
        let executing = plans.iter().filter(|plan| scenarios.contains(plan.name));
        executing.flat_map(|plan| jobs_in(search, selection, plan, *world))
    });
    let jobs: Vec<Job> = jobs.collect();
    let expected = jobs.len();
    let done = runner::run(jobs, search.workers(), &mut Board::new());
    let mut sweep = Sweep {
        died: covered.died().to_vec(),
        unfinished: expected - done.len(),
        ..Sweep::default()
    };
    for Done { job, result } in &done {
        if let Err(error) = result {
            sweep.died.push(format!("{}: {error}", job.title()));
        }
    }
    let everything = plans.len() == NAMES.len();
    for (sabotage, site, line, _) in worlds {
        let here = done.iter().filter(|done| done.job.sabotage == Some(sabotage));
        let kills: Vec<Kill> = here.filter_map(kill).collect();
        let reason = source.reason(Excuse::Weaker, &line).map(|reason| reason.text.clone());
        // What the other scenarios would notice is not known.
        let survived = everything && kills.is_empty() && reason.is_none();
        sweep.weakenings.push(Weakening { sabotage, site, line, kills, reason, survived });
    }
    sweep.judge_reasons(&source, everything && sites.len() == ALL.len());
    if everything {
        for site in sites {
            sweep.complaints.extend(row_complaints(*site, &sweep.weakenings, &covered));
        }
    }
    sweep
}

/// Unless engines are named, only the one that explores everything is used where there is one: it
/// needs a fraction of the time, and its answer is final.
fn jobs_in(search: &Search, selection: &Selection, plan: &Plan, world: Sabotage) -> Vec<Job> {
    let everything = selection.checkers.iter().any(|it| it.used_for == Use::Everything);
    let used = |checker: &&Checker| {
        let primary = selection.named || !everything || checker.used_for == Use::Everything;
        primary && checker.traits().controls_schedule
    };
    let checkers = jobs::checkers_for(selection, plan).into_iter().filter(|it| used(it));
    let job = |checker: &'static Checker| {
        let stages = jobs::broken_stages(search, checker, plan, Some(world));
        let stages = stages.into_iter().take(1).map(|request| match checker.used_for {
            Use::Sample(_) => {
                Request { executions: search.executions.or(Some(SAMPLES)), ..request }
            }
            Use::Everything | Use::WithinBounds => request,
        });
        Job {
            scenario: plan.name,
            checker,
            sabotage: Some(world),
            purpose: Purpose::Site,
            stages: stages.collect(),
        }
    };
    checkers.map(job).collect()
}

fn kill(done: &Done) -> Option<Kill> {
    let Ok(Report { failure: Some(failure), executions, .. }) = &done.result else { return None };
    (failure.class == FailureKind::Violation).then(|| Kill {
        scenario: done.job.scenario,
        engine: done.job.checker.name(),
        executions: *executions,
        message: failure.message.clone(),
    })
}

/// Sites that scenarios of nodes by hand reach, and cannot be about: such a scenario has CPUs run
/// on a space, but what it changes raises no generation of it.
const ABOUT_CURSORS: [&str; 1] = [GENERATION_SEEN.row.name];

/// What is wrong with what the table says of a site.
fn row_complaints(site: AnySite, weakenings: &[Weakening], covered: &Covered) -> Vec<String> {
    let Evidence::CaughtBy(named) = site.row().evidence else { return Vec::new() };
    let name = site.row().name;
    let of_site = weakenings.iter().filter(|one| one.site.row().index == site.row().index);
    let killers: BTreeSet<&str> =
        of_site.flat_map(|one| one.kills.iter().map(|kill| kill.scenario)).collect();
    let mut complaints: Vec<String> = named
        .iter()
        .filter(|scenario| !killers.contains(*scenario))
        .map(|scenario| {
            let others = killers.iter().copied().collect::<Vec<_>>().join(", ");
            format!("{name}: the table says `caught by` {scenario}, and only these do: {others}")
        })
        .collect();
    let kinds = |scenarios: &mut dyn Iterator<Item = &str>| -> BTreeSet<Kind> {
        scenarios.filter_map(|scenario| covered.kind(scenario)).collect()
    };
    let lines = covered.lines(site);
    let reaching = kinds(&mut lines.values().flatten().copied());
    let there = kinds(&mut named.iter().copied());
    let about_cursors = ABOUT_CURSORS.contains(&name);
    let concerned = |kind: &&Kind| !(about_cursors && **kind == Kind::Nodes);
    complaints.extend(reaching.difference(&there).filter(concerned).map(|kind| {
        let able = killers.iter().copied().filter(|it| covered.kind(it) == Some(*kind));
        let able = able.collect::<Vec<_>>().join(", ");
        let able = if able.is_empty() { "none of them notices".to_owned() } else { able };
        let what = kind.name();
        format!(
            "{name}: scenarios of {what} reach it, and the table says `caught by` none of them: \
             {able}"
        )
    }));
    complaints
}

impl Sweep {
    /// Notes reasons that are wrong: about a line that is noticed, or, if `all` lines were
    /// weakened, about no line.
    fn judge_reasons(&mut self, source: &Source, all: bool) {
        for reason in source.reasons.iter().filter(|it| it.excuses == Excuse::Weaker) {
            let mut about = self.weakenings.iter().filter(|one| reason.is_about(&one.line));
            if all && about.clone().next().is_none() {
                self.complaints.push(format!(
                    "{}: no race makes an access there that could be weaker: remove the reason",
                    reason.at
                ));
            } else if let Some(noticed) = about.find(|one| !one.kills.is_empty()) {
                self.complaints.push(format!(
                    "{} says why {} is not noticed, and {} notices: remove the reason",
                    reason.at, noticed.sabotage, noticed.kills[0].scenario
                ));
            }
        }
    }

    /// The exit code.
    pub(crate) fn exit(&self) -> u8 {
        if interruption::is_here() {
            exit::INTERRUPTED
        } else if !self.died.is_empty() {
            exit::INTERNAL
        } else if !self.complaints.is_empty() || self.weakenings.iter().any(|one| one.survived) {
            exit::MISSING
        } else {
            exit::GOOD
        }
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let header = ["site", "line", "weakened", "killed by", "in", "and by"];
        let mut table = text::table(&header, 4..6);
        for one in &self.weakenings {
            let first = one.first();
            let unkilled = if one.survived { "SURVIVED" } else { "nothing" };
            table.add_row(vec![
                Cell::new(one.site.row().name),
                Cell::new(&one.line),
                Cell::new(weakened(one.sabotage)),
                Cell::new(first.map_or(unkilled, |kill| kill.scenario)),
                Cell::new(first.map_or("-".to_owned(), |it| text::thousands(it.executions))),
                Cell::new(one.kills.len().saturating_sub(1)),
            ]);
        }
        let mut text = text::lines(&table) + "\n";
        let mut reasons: BTreeMap<&CoreLine, &str> = BTreeMap::new();
        for one in self.weakenings.iter().filter(|one| one.kills.is_empty()) {
            match &one.reason {
                Some(reason) => drop(reasons.insert(&one.line, reason)),
                None if one.survived => writeln!(
                    text,
                    "SURVIVED {}: no scenario notices: add one, or say why above the line, \
                     `// weaker: <reason>`",
                    one.sabotage
                )
                .expect("memory"),
                None => {}
            }
        }
        for (line, reason) in reasons {
            writeln!(text, "{line} need not be noticed: {reason}").expect("memory");
        }
        for complaint in &self.complaints {
            writeln!(text, "EVIDENCE {complaint}").expect("memory");
        }
        for sentence in &self.died {
            writeln!(text, "DIED {sentence}").expect("memory");
        }
        let count =
            |what: fn(&Weakening) -> bool| self.weakenings.iter().filter(|one| what(one)).count();
        let killed = count(|one| !one.kills.is_empty());
        let excused = count(|one| one.kills.is_empty() && one.reason.is_some());
        let all = self.weakenings.len();
        writeln!(text, "{killed} of {all} weakened lines are killed, {excused} have a reason")
            .expect("memory");
        if self.unfinished > 0 {
            writeln!(text, "{} explorations not finished", self.unfinished).expect("memory");
        }
        text
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        let weakenings = self.weakenings.iter().map(|one| {
            let kills = one.kills.iter().map(|kill| {
                json!({
                    "scenario": kill.scenario,
                    "engine": kill.engine,
                    "executions": kill.executions,
                    "message": kill.message,
                })
            });
            json!({
                "site": one.site.row().name,
                "line": one.line.to_string(),
                "sabotage": one.sabotage.to_string(),
                "broken": one.sabotage.described(),
                "kills": kills.collect::<Vec<_>>(),
                "reason": one.reason,
                "survived": one.survived,
            })
        });
        json!({
            "version": 2,
            "exit": self.exit(),
            "weakenings": weakenings.collect::<Vec<_>>(),
            "complaints": self.complaints,
            "died": self.died,
            "unfinished": self.unfinished,
        })
    }
}

impl Weakening {
    /// The kill to show: by a scenario that the table names, if there is one.
    fn first(&self) -> Option<&Kill> {
        let is_named = |kill: &&Kill| match self.site.row().evidence {
            Evidence::CaughtBy(named) => named.contains(&kill.scenario),
            Evidence::Relaxed => false,
        };
        self.kills.iter().find(is_named).or_else(|| self.kills.first())
    }
}

/// From what to what.
fn weakened(sabotage: Sabotage) -> String {
    match sabotage {
        Sabotage::Weakened(weakening) => weakening.change(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use weft_backend_loom::coverage::Coverage;
    use weft_core::sites::{PUBLISH_NODE, WALK_ENTRY};

    use crate::source::tests::source;

    use super::*;

    fn line(line: u32) -> CoreLine {
        CoreLine { file: "core/src/a.rs".to_owned(), line }
    }

    /// A weakening of `site` that these scenarios notice.
    fn weakening(site: AnySite, at: u32, killers: &[&'static str]) -> Weakening {
        let kill = |scenario: &&'static str| Kill {
            scenario,
            engine: "explorer",
            executions: 1,
            message: String::new(),
        };
        let sabotage = sabotage::weakenings(site, &line(at)).next();
        Weakening {
            sabotage: sabotage.expect("it can be weakened"),
            site,
            line: line(at),
            kills: killers.iter().map(kill).collect(),
            reason: None,
            survived: false,
        }
    }

    const WALK: AnySite = AnySite::Access(&WALK_ENTRY);

    fn judged(weakenings: Vec<Weakening>) -> Vec<String> {
        let mut sweep = Sweep { weakenings, ..Sweep::default() };
        sweep.judge_reasons(&source(), true);
        sweep.complaints
    }

    #[test]
    fn a_reason_at_a_line_that_nothing_notices_is_right() {
        assert!(judged(vec![weakening(WALK, 8, &[])]).is_empty());
    }

    #[test]
    fn a_reason_at_a_line_that_is_noticed_is_wrong() {
        let complaints = judged(vec![weakening(WALK, 8, &["walk_vs_grow"])]);
        assert!(complaints[0].contains("and walk_vs_grow notices: remove"), "{complaints:?}");
    }

    #[test]
    fn a_reason_at_a_line_without_a_site_is_wrong() {
        let complaints = judged(vec![weakening(WALK, 99, &[])]);
        assert!(complaints[0].starts_with("core/src/a.rs:5: no race makes an access there"));
    }

    #[test]
    fn a_line_that_survives_without_a_reason_is_code_2() {
        let survivor = Weakening { survived: true, ..weakening(WALK, 99, &[]) };
        let sweep = Sweep { weakenings: vec![survivor], ..Sweep::default() };
        assert_eq!(sweep.exit(), exit::MISSING);
        assert!(sweep.text().contains("SURVIVED WALK_ENTRY@core/src/a.rs:99"), "{}", sweep.text());
    }

    /// The complaints about [`WALK_ENTRY`] if these scenarios notice, and reach the site.
    fn of_row(killers: &[&'static str], reaching: &[(&'static str, &str)]) -> Vec<String> {
        let coverage = |operation: &str| Coverage {
            accesses: BTreeSet::from([("WALK_ENTRY".to_owned(), line(1))]),
            operations: BTreeSet::from([operation.to_owned()]),
        };
        let by_scenario = reaching.iter().map(|(scenario, it)| (*scenario, coverage(it)));
        let covered = Covered::of(by_scenario.collect());
        row_complaints(WALK, &[weakening(WALK, 1, killers)], &covered)
    }

    #[test]
    fn a_row_names_scenarios_that_notice_one_of_either_kind() {
        let Evidence::CaughtBy([nodes, cursors]) = WALK_ENTRY.row.evidence else {
            panic!("two kinds of scenarios reach the site")
        };
        let reaching = [(*nodes, "Entry::child"), (*cursors, "Cursor::map")];
        assert!(of_row(&[nodes, cursors], &reaching).is_empty());
        let blind = of_row(&[nodes], &reaching);
        assert!(
            blind[0].contains(&format!("caught by` {cursors}, and only these do")),
            "{blind:?}"
        );
        let both_of_nodes = [(*nodes, "Entry::child"), (*cursors, "Entry::child")];
        let more = [both_of_nodes[0], both_of_nodes[1], ("look_vs_remap", "Cursor::lock")];
        let one_kind = of_row(&[nodes, cursors, "look_vs_remap"], &more);
        let part = "scenarios of cursors reach it, and the table says `caught by` none of them: \
                    look_vs_remap";
        assert!(one_kind[0].contains(part), "{one_kind:?}");
        // What another site does is not asked.
        assert!(
            row_complaints(AnySite::Access(&PUBLISH_NODE), &[], &Covered::default()).len() == 2
        );
    }
}
