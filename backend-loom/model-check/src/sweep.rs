//! Every memory ordering, one step weaker: who notices?
//!
//! The table of sites in the core says for each ordering that is not relaxed which scenario catches
//! its weakening, or why it is kept although none does. Both claims are checked here by weakening
//! every site by every step and exploring all scenarios in that world. Only a broken condition
//! counts as noticing: a deadlock or a limit on steps is no argument about memory.

use std::fmt::Write as _;

use comfy_table::Cell;
use serde_json::{Value, json};
use weft_backend_loom::harness::Plan;
use weft_backend_loom::report::{FailureClass, Report, Request, SabotageName};
use weft_backend_loom::sabotage;
use weft_core::sites::{self, Evidence};

use crate::arguments::{Explore, Selection};
use crate::checkers::{Checker, NAMES, Use};
use crate::human;
use crate::jobs::{self, Job, Purpose};
use crate::progress::Board;
use crate::runner::{self, Done};
use crate::summary::exit;

/// Executions that a sampling engine draws in each world.
const SAMPLES: u64 = 300;

/// One way to weaken a site, and who noticed.
#[derive(Debug)]
pub(crate) struct Weakening {
    sabotage: SabotageName,
    site: &'static str,
    evidence: Evidence,
    kills: Vec<Kill>,
    /// Why the table of sites is wrong about it, if it is.
    complaint: Option<String>,
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
    died: Vec<String>,
    unfinished: usize,
}

/// Weakens the sites that `wanted` selects and explores `plans` in each of these worlds.
pub(crate) fn sweep(
    explore: &Explore,
    selection: &Selection,
    plans: &[Plan],
    wanted: impl Fn(&str) -> bool,
) -> Sweep {
    let worlds: Vec<(SabotageName, &'static str)> = sabotage::weakenings()
        .into_iter()
        .filter_map(|world| {
            let name = row_of(&world)?.name;
            wanted(name).then_some((world, name))
        })
        .collect();
    let jobs: Vec<Job> =
        worlds.iter().flat_map(|(world, _)| jobs_in(explore, selection, plans, world)).collect();
    let expected = jobs.len();
    let done = runner::run(jobs, explore.workers(), &mut Board::new());
    let mut sweep = Sweep { unfinished: expected - done.len(), ..Sweep::default() };
    for Done { job, result } in &done {
        if let Err(error) = result {
            sweep.died.push(format!("{}: {error}", job.title()));
        }
    }
    for (world, site) in worlds {
        let here = done.iter().filter(|done| done.job.sabotage == world);
        let kills: Vec<Kill> = here.filter_map(kill).collect();
        let evidence = row_of(&world).expect("the world is a weakened site").evidence;
        let complaint = complaint(evidence, &kills, plans);
        sweep.weakenings.push(Weakening { sabotage: world, site, evidence, kills, complaint });
    }
    sweep
}

fn row_of(world: &SabotageName) -> Option<&'static sites::Row> {
    match world {
        SabotageName::Weakened { index, .. } => sites::ALL.get(*index).map(|site| site.row()),
        _ => None,
    }
}

/// Unless engines are named, only the one that explores everything is used where there is one: it
/// needs a fraction of the time, and its answer is final.
fn jobs_in(
    explore: &Explore,
    selection: &Selection,
    plans: &[Plan],
    world: &SabotageName,
) -> Vec<Job> {
    let everything = selection.checkers.iter().any(|it| it.used_for == Use::Everything);
    let used = |checker: &&Checker| {
        let primary = selection.named || !everything || checker.used_for == Use::Everything;
        primary && checker.controls_schedule
    };
    let mut jobs = Vec::new();
    for plan in plans {
        for checker in jobs::checkers_for(selection, plan).into_iter().filter(|it| used(it)) {
            let stages = jobs::broken_stages(explore, checker, plan.roles.len(), world);
            let stages = stages.into_iter().take(1).map(|request| match checker.used_for {
                Use::Sample(_) => {
                    Request { executions: explore.executions.or(Some(SAMPLES)), ..request }
                }
                Use::Everything | Use::WithinBounds => request,
            });
            jobs.push(Job {
                scenario: plan.name,
                checker,
                sabotage: world.clone(),
                purpose: Purpose::Site,
                stages: stages.collect(),
            });
        }
    }
    jobs
}

fn kill(done: &Done) -> Option<Kill> {
    let Ok(Report { failure: Some(failure), executions, .. }) = &done.result else { return None };
    (failure.class == FailureClass::Violation).then(|| Kill {
        scenario: done.job.scenario,
        engine: done.job.checker.name,
        executions: *executions,
        message: failure.message.clone(),
    })
}

/// What is wrong with a row of the table of sites.
fn complaint(evidence: Evidence, kills: &[Kill], plans: &[Plan]) -> Option<String> {
    let killers: Vec<&str> = kills.iter().map(|kill| kill.scenario).collect();
    match evidence {
        Evidence::Relaxed => None,
        Evidence::KeptBecause(_) if killers.is_empty() => None,
        Evidence::KeptBecause(_) => Some(format!(
            "the table says that no scenario needs it, but {} does: say `caught by`",
            killers[0]
        )),
        Evidence::CaughtBy(name) if !NAMES.contains(&name) => {
            Some(format!("the table says `caught by {name}`, and there is no such scenario"))
        }
        Evidence::CaughtBy(name) if plans.iter().all(|plan| plan.name != name) => None,
        Evidence::CaughtBy(name) if killers.contains(&name) => None,
        Evidence::CaughtBy(name) if killers.is_empty() => {
            Some(format!("SURVIVED: the table says `caught by {name}`, and nothing catches it"))
        }
        Evidence::CaughtBy(name) => {
            Some(format!("the table says `caught by {name}`, but only {} does", killers.join(", ")))
        }
    }
}

impl Sweep {
    /// How many sites were weakened, and how many of those were noticed or are kept for a reason.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let fine = self.weakenings.iter().filter(|one| one.complaint.is_none()).count();
        (self.weakenings.len(), fine)
    }

    /// The exit code.
    pub(crate) fn exit(&self) -> u8 {
        if runner::interrupted() {
            exit::INTERRUPTED
        } else if !self.died.is_empty() {
            exit::INTERNAL
        } else if self.weakenings.iter().any(|one| one.complaint.is_some()) {
            exit::MISSING
        } else {
            exit::GOOD
        }
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let header = ["site", "weakened", "the table says", "killed by", "in", "also killed by"];
        let mut table = human::table(&header, 4..5);
        for one in &self.weakenings {
            let (first, others) = one.killers();
            table.add_row(vec![
                Cell::new(one.site),
                Cell::new(weakened(&one.sabotage)),
                Cell::new(match one.evidence {
                    Evidence::CaughtBy(name) => format!("caught by {name}"),
                    Evidence::KeptBecause(_) => "kept for a reason".to_owned(),
                    Evidence::Relaxed => "relaxed".to_owned(),
                }),
                Cell::new(first.map_or("nobody", |kill| kill.scenario)),
                Cell::new(first.map_or("-".to_owned(), |it| human::thousands(it.executions))),
                Cell::new(others.join(", ")),
            ]);
        }
        let mut text = table.trim_fmt() + "\n\n";
        for one in &self.weakenings {
            if let Evidence::KeptBecause(reason) = one.evidence {
                writeln!(text, "{} is kept because {reason}", one.site).expect("memory");
            }
            if let Some(complaint) = &one.complaint {
                writeln!(text, "SITE {}: {complaint}", one.sabotage).expect("memory");
            }
        }
        for sentence in &self.died {
            writeln!(text, "DIED {sentence}").expect("memory");
        }
        let (count, fine) = self.counts();
        writeln!(text, "{fine}/{count} weakened orderings are killed or kept for a reason")
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
                "site": one.site,
                "sabotage": sabotage::encode(&one.sabotage),
                "broken": one.sabotage.to_string(),
                "kills": kills.collect::<Vec<_>>(),
                "complaint": one.complaint,
            })
        });
        json!({
            "version": 1,
            "exit": self.exit(),
            "weakenings": weakenings.collect::<Vec<_>>(),
            "died": self.died,
            "unfinished": self.unfinished,
        })
    }
}

impl Weakening {
    /// The kill to show, by the scenario that the table names where it did kill, and the names of
    /// the other scenarios.
    fn killers(&self) -> (Option<&Kill>, Vec<&'static str>) {
        let named = |kill: &&Kill| self.evidence == Evidence::CaughtBy(kill.scenario);
        let first = self.kills.iter().find(named).or_else(|| self.kills.first());
        let mut others = Vec::new();
        for kill in &self.kills {
            let shown = first.is_some_and(|first| first.scenario == kill.scenario);
            if !shown && !others.contains(&kill.scenario) {
                others.push(kill.scenario);
            }
        }
        (first, others)
    }
}

/// From what to what.
fn weakened(sabotage: &SabotageName) -> String {
    let text = sabotage.to_string();
    text.split_once(' ').map_or(text.clone(), |(_, change)| change.to_owned())
}
