//! The tests that every scenario file gets from its last line: one per checker.
//!
//! libtest runs tests as threads of one process, but an exploration needs a process of its own. So
//! a test starts its own executable again, as a child that runs only this test and finds the
//! request in its environment. The parent asks for the whole world first and then for each twin.
//!
//! Budgets are small: these tests are for the author of a new race. Searches that
//! need longer are what the `model-check` command is for.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use weft_scenarios::sabotage::Sabotage;

use crate::child;
use crate::chosen::EngineName;
use crate::engine::Verdict;
use crate::harness::{Plan, Prepared};
use crate::report::{Judgement, Report, Request};
use crate::sabotage;

/// Executions that a sampling engine draws in a test.
const SAMPLES: u64 = 2_000;
/// Wall time of one exploration in a test.
const TIME: Duration = Duration::from_secs(20);

/// Makes the tests of a scenario file. Called by its `scenario!` line.
#[macro_export]
macro_rules! tests {
    () => {
        mod under {
            $crate::tests!(explorer, Explorer);
            $crate::tests!(loom, Loom);
            $crate::tests!(shuttle, Shuttle);
            $crate::tests!(threads, Threads);
        }
    };
    ($name:ident, $engine:ident) => {
        #[test]
        fn $name() {
            let prepared = super::accept::<$crate::model::Model, _>($crate::harness::Prepare);
            let engine = $crate::chosen::EngineName::$engine;
            $crate::testing::run_test(module_path!(), engine, &prepared);
        }
    };
}

/// How long a test explores.
struct Budget {
    executions: Option<u64>,
    preemptions: Option<usize>,
    deviations: Option<u32>,
    /// Whether a search that is cut short is a failure.
    must_exhaust: bool,
}

impl Budget {
    fn of(engine: EngineName, plan: &Plan) -> Self {
        let nothing =
            Self { executions: None, preemptions: None, deviations: None, must_exhaust: false };
        match engine {
            EngineName::Explorer => {
                let deviations = plan.deviations;
                Self { deviations, must_exhaust: deviations.is_none(), ..nothing }
            }
            EngineName::Loom => Self { preemptions: Some(2), ..nothing },
            EngineName::Shuttle | EngineName::Threads => {
                Self { executions: Some(SAMPLES), ..nothing }
            }
        }
    }

    fn request(&self, sabotage: Option<Sabotage>) -> Request {
        let Self { executions, preemptions, deviations, .. } = *self;
        Request { sabotage, time: TIME, executions, preemptions, deviations, ..Request::default() }
    }
}

/// The body of one such test.
///
/// # Panics
///
/// If the scenario fails, misses a situation, lets a twin survive, or has another number of
/// executions than its header says.
#[track_caller]
pub fn run_test(module: &str, engine: EngineName, prepared: &Prepared) {
    if let Some(request) = child::asked() {
        child::answer(&prepared.explore(engine, request, None));
    }
    let (budget, test) = (Budget::of(engine, &prepared.plan), engine.traits().name);
    let (scenario, path) = module.split_once("::").expect("a module of a test target");
    let ask = |sabotage| {
        let mut me = Command::new(std::env::current_exe().expect("a test has an executable"));
        me.args([&format!("{path}::{test}"), "--exact", "--nocapture", "--test-threads=1"]);
        child::ask(&mut me, &budget.request(sabotage), |_| {})
            .unwrap_or_else(|error| panic!("{scenario} under {test}: {error}"))
    };
    let whole = ask(None);
    let ended = whole.verdict == Verdict::Exhausted;
    // A search that was cut short has not tried all of the race; the explorer's is never.
    let is_good = match whole.judgement() {
        Judgement::Good => true,
        Judgement::Missing => !ended && !budget.must_exhaust,
        _ => false,
    };
    assert!(is_good, "{}", complaint(&whole));
    assert!(ended || !budget.must_exhaust, "not every execution: {}", complaint(&whole));
    if engine == EngineName::Explorer
        && let Some(said) = executions_in_header(scenario)
    {
        let found = whole.executions;
        assert!(said == found, "{scenario} says {said} executions in its header, and has {found}");
    }
    if !engine.traits().controls_schedule {
        return;
    }
    for (number, &(twin, message)) in prepared.plan.twins.iter().enumerate() {
        if !sabotage::is_shown_by(engine, twin) {
            continue;
        }
        let report = ask(Some(twin));
        assert!(
            report.is_caught_with(message),
            "{scenario} twin {} under {test} ({}): expected \"{message}\", {}",
            number + 1,
            prepared.plan.described(twin),
            complaint(&report)
        );
    }
}

/// The number before the word "executions" in the line `Bounds:` of a scenario's header. cargo
/// runs tests in the folder of their package; a path that was compiled in would lead a copied
/// checkout to the files of another one.
fn executions_in_header(scenario: &str) -> Option<u64> {
    let file = Path::new("tests").join(scenario).with_extension("rs");
    let text = std::fs::read_to_string(file).ok()?;
    let (_, bounds) = text.split_once("//! Bounds: ")?;
    let (bounds, _) = bounds.split_once("//! References: ")?;
    let (before, _) = bounds.split_once(" executions")?;
    before.split_whitespace().last()?.replace(',', "").parse().ok()
}

/// Why a report is not good, in one line.
fn complaint(report: &Report) -> String {
    let Report { scenario, engine, verdict, executions, .. } = report;
    let mut text = format!("{scenario} under {engine}: {verdict} after {executions} executions");
    if let Some(failure) = &report.failure {
        text += &format!(", {}", failure.message);
    }
    if !report.never_reached.is_empty() {
        text += &format!(", never reached: {}", report.never_reached.join("; "));
    }
    if !report.never_seen.is_empty() {
        text += &format!(", never seen: {}", report.never_seen.join("; "));
    }
    text
}
