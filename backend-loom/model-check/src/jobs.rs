//! What is explored: jobs, their budgets, and how the stages of one become a single report.
//!
//! A job is one scenario under one engine in one world. It has one or more stages, each a request
//! to a child process. For a whole world, the next stage follows if time or count cut the one
//! before: an engine first searches without a bound, and where that does not end in time, again
//! with one (loom: on preemptions, the explorer: on deviations), which the verdict then says.
//! For a broken world, where a catch is all that is wanted, small bounds come first, because most
//! bugs need few preemptions; the next stage follows if nothing was caught.
//!
//! The budgets are chosen so that everything takes less than a minute on two cores.

use std::time::Duration;

use weft_backend_loom::engine::Verdict;
use weft_backend_loom::harness::Plan;
use weft_backend_loom::report::{Report, Request};
use weft_backend_loom::sabotage::is_shown_by;
use weft_scenarios::sabotage::Sabotage;
use weft_shell::select::select;

use crate::arguments::{Explore, Search, Selection};
use crate::checkers::{self, Checker, NAMES, Use};

/// The most CPUs that are explored without a bound on preemptions.
const UNBOUNDED_CPUS: usize = 2;

/// In how many executions a smaller one that fails is searched for, where it is to be read: a
/// second or two.
const SMALLEST_WITHIN: u64 = 100_000;

/// One scenario under one engine in one world.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    /// The scenario.
    pub(crate) scenario: &'static str,
    /// The engine.
    pub(crate) checker: &'static Checker,
    /// How the world is broken.
    pub(crate) sabotage: Option<Sabotage>,
    /// What it is for.
    pub(crate) purpose: Purpose,
    /// What is asked of children, one after the other.
    pub(crate) stages: Vec<Request>,
}

/// Why a world is explored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It is a row of the table.
    Row,
    /// It is a twin, to be caught with this message.
    Twin {
        /// Its position in the scenario's list.
        number: usize,
        /// A part of the message.
        message: &'static str,
    },
    /// A site is weakened, and who notices is the question.
    Site,
}

impl Job {
    /// Whether another stage has to follow one that ended with this report.
    pub(crate) fn goes_on_after(&self, report: &Report) -> bool {
        let failed = report.failure.is_some();
        match self.purpose {
            Purpose::Row => !failed && matches!(report.verdict, Verdict::CutShort { .. }),
            Purpose::Twin { .. } | Purpose::Site => !failed,
        }
    }

    /// A name for progress lines and logs.
    pub(crate) fn title(&self) -> String {
        let Self { scenario, checker, sabotage, .. } = self;
        match sabotage {
            None => format!("{scenario} {}", checker.name()),
            Some(broken) => format!("{scenario} {} ({broken})", checker.name()),
        }
    }
}

/// One report of several stages: the last one's, which is the strongest, with everything that any
/// of them has seen.
pub(crate) fn merge(earlier: Option<Report>, later: Report) -> Report {
    let Some(earlier) = earlier else { return later };
    let mut merged = later;
    merged.caveats.push(format!(
        "a search without this bound was cut at {} executions after {:.1} s",
        earlier.executions,
        earlier.elapsed.as_secs_f64()
    ));
    for (outcome, count) in earlier.outcomes {
        *merged.outcomes.entry(outcome).or_default() += count;
    }
    merged.observations.extend(earlier.observations);
    merged.reached.extend(earlier.reached);
    merged.never_reached.retain(|name| !merged.reached.contains(name));
    merged.never_seen.retain(|name| !merged.outcomes.contains_key(name));
    merged
}

/// The scenarios that `filters` select and that `skip` does not.
///
/// # Errors
///
/// One sentence, if a filter hits nothing, or nothing is left.
pub(crate) fn selected(filters: &[String], skip: &[String]) -> Result<Vec<Plan>, String> {
    let selected = select("scenario", "--list", NAMES, (filters, skip), |_| false)?;
    let names = NAMES.iter().zip(selected).filter_map(|(name, selected)| selected.then_some(name));
    Ok(names.map(|name| checkers::prepare(name).expect("listed names exist").plan).collect())
}

/// Everything that the arguments ask for. Long searches come first, so that no core is left alone
/// with one at the end.
///
/// # Errors
///
/// One sentence, if nothing is left to run.
pub(crate) fn plan(
    explore: &Explore,
    selection: &Selection,
    plans: &[Plan],
    sabotage: Option<Sabotage>,
) -> Result<Vec<Job>, String> {
    let mut jobs = Vec::new();
    for plan in plans {
        for checker in checkers_for(selection, plan) {
            jobs.push(Job {
                scenario: plan.name,
                checker,
                sabotage,
                purpose: Purpose::Row,
                stages: row_stages(explore, checker, plan, sabotage),
            });
            if explore.no_twins || !checker.traits().controls_schedule || sabotage.is_some() {
                continue;
            }
            for (number, &(twin, message)) in plan.twins.iter().enumerate() {
                if !is_shown_by(checker.engine, twin) {
                    continue;
                }
                jobs.push(Job {
                    scenario: plan.name,
                    checker,
                    sabotage: Some(twin),
                    purpose: Purpose::Twin { number, message },
                    stages: broken_stages(&explore.search, checker, plan, Some(twin)),
                });
            }
        }
    }
    if jobs.is_empty() {
        return Err("no selected engine can run the selected scenarios: they have too many CPUs; \
                    leave out --engine"
            .to_owned());
    }
    Ok(jobs)
}

/// The engines that a scenario is explored with. Unless engines are named, the one that bounds
/// preemptions leaves larger scenarios to the one that explores everything.
pub(crate) fn checkers_for(selection: &Selection, plan: &Plan) -> Vec<&'static Checker> {
    let cpus = plan.roles.len();
    let everything = selection.checkers.iter().any(|it| it.used_for == Use::Everything);
    let second_opinion =
        |checker: &Checker| everything && !selection.named && checker.used_for == Use::WithinBounds;
    let fits = |checker: &&Checker| {
        checker.traits().cpus_max >= cpus && (!second_opinion(checker) || cpus <= UNBOUNDED_CPUS)
    };
    selection.checkers.iter().copied().filter(|checker| fits(checker)).collect()
}

/// Bounds with their time: on preemptions, or, for an engine that explores everything, on choices
/// that differ from the default execution.
type Bounds = [(Option<usize>, f64)];

/// The bound of a scenario whose executions are too many, if it is of that kind, for so long.
fn own_bound(plan: &Plan, seconds: f64) -> [(Option<usize>, f64); 1] {
    [(plan.deviations.map(|most| most as usize), seconds)]
}

/// The stages of a row.
fn row_stages(
    explore: &Explore,
    checker: &Checker,
    plan: &Plan,
    sabotage: Option<Sabotage>,
) -> Vec<Request> {
    let cpus = plan.roles.len();
    let own = own_bound(plan, 15.0);
    let bounds: &Bounds = match checker.used_for {
        Use::Everything if explore.long => &[(None, 3600.0)],
        Use::Everything if plan.deviations.is_some() && !explore.require_exhausted => &own,
        Use::Everything if explore.require_exhausted => &[(None, 20.0)],
        Use::Everything => &[(None, 15.0), (Some(3), 5.0)],
        Use::WithinBounds if cpus <= UNBOUNDED_CPUS => &[(None, 1.5), (Some(3), 3.0)],
        Use::WithinBounds if explore.require_exhausted => &[(None, 20.0)],
        Use::WithinBounds => &[(Some(3), 4.0), (Some(2), 4.0)],
        Use::Sample(_) => &[(None, 2.0)],
    };
    let mut stages = requests(&explore.search, checker, bounds, sabotage);
    if let Use::Sample(count) = checker.used_for {
        // A broken world's mistake has to be met by chance. A whole world is explored
        // exhaustively by the other engines; its samples only watch over them.
        stages[0].executions = explore.search.executions.or(Some(count / 4));
    }
    for stage in &mut stages {
        stage.smallest_within = explore.smallest_within.unwrap_or(SMALLEST_WITHIN);
    }
    // A bounded run, a long one, and one of a chosen model, has nothing to compare.
    stages[0].compare_models = checker.used_for == Use::Everything
        && bounds[0].0.is_none()
        && !explore.long
        && explore.search.memory_model.is_none()
        && sabotage.is_none();
    stages
}

/// The stages of a broken world.
pub(crate) fn broken_stages(
    search: &Search,
    checker: &Checker,
    plan: &Plan,
    sabotage: Option<Sabotage>,
) -> Vec<Request> {
    let cpus = plan.roles.len();
    let own = own_bound(plan, 20.0);
    let bounds: &Bounds = match checker.used_for {
        Use::Everything => &own,
        Use::WithinBounds if cpus <= UNBOUNDED_CPUS => &[(Some(2), 2.0), (None, 4.0)],
        Use::WithinBounds => &[(Some(2), 4.0)],
        Use::Sample(_) => &[(None, 4.0)],
    };
    requests(search, checker, bounds, sabotage)
}

fn requests(
    search: &Search,
    checker: &Checker,
    bounds: &Bounds,
    sabotage: Option<Sabotage>,
) -> Vec<Request> {
    let bounded = checker.used_for == Use::WithinBounds && search.preemptions.is_some();
    let asked = [(search.preemptions, bounds[0].1)];
    let bounds = if bounded { &asked[..] } else { bounds };
    let samples = match checker.used_for {
        Use::Sample(count) => Some(count),
        Use::Everything | Use::WithinBounds => None,
    };
    let model = search.memory_model.filter(|_| checker.used_for == Use::Everything);
    let memory_model = model.unwrap_or_default();
    let everything = checker.used_for == Use::Everything;
    let deviations = search.deviations.filter(|_| everything);
    let request = |&(bound, seconds): &(Option<usize>, f64)| Request {
        sabotage,
        time: search.time.unwrap_or(Duration::from_secs_f64(seconds)),
        executions: search.executions.or(samples),
        preemptions: bound.filter(|_| !everything),
        deviations: deviations.or(bound.filter(|_| everything).map(|bound| bound as u32)),
        seed: search.seed,
        memory_model,
        sample: search.sample && everything,
        ..Request::default()
    };
    bounds.iter().map(request).collect()
}
