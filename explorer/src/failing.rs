//! From a failing graph to a failure that can be read and replayed.
//!
//! *Fewest deviations.* The execution that is found first is deep in the search: it may deviate
//! from the default execution in dozens of places that have nothing to do with the failure. The
//! search is repeated with a growing bound on deviations, and the first failure it meets is
//! reported instead; the search is within a budget of runs and of time, and the failure says if
//! that ended it.
//!
//! *Token.* The failing graph is turned into a script, the script is run, and what mattered in it
//! becomes the token (see `token`).

use std::time::{Duration, Instant};

use crate::choices::Search;
use crate::consistency::Model;
use crate::engine::{Engine, Outcome, number_exploration, with};
use crate::graph::Graph;
use crate::options::Options;
use crate::report::{Failure, FailureKind, RawFailure, Report, Verdict};
use crate::run::run_once;
use crate::token::{Guide, Script, Token};
use crate::trace::Trace;
use crate::workers::{Found, Installed};

/// How often the program is run to find a failure with fewer deviations, and for how long.
const SHRINKING_RUNS_MAX: u32 = 10_000;
const SHRINKING_TIME_MAX: Duration = Duration::from_secs(10);

/// Makes the failure of an exploration out of what was found.
pub(crate) fn describe_failure(options: &Options, program: &dyn Fn(), found: Found) -> Failure {
    let (found, is_minimal) = fewest_deviations(options, program, found);
    let arrived = guided(options, program, options.model, Script::of(&found.graph));
    finish(found, is_minimal, arrived.token)
}

fn finish(found: Found, is_minimal: bool, token: Token) -> Failure {
    Failure {
        message: found.failure.message,
        kind: found.failure.kind,
        at: found.failure.at,
        thread: found.failure.thread,
        deviations: found.graph.deviations,
        is_minimal,
        trace: Trace::of(&found.graph),
        token,
    }
}

fn fewest_deviations(options: &Options, program: &dyn Fn(), found: Found) -> (Found, bool) {
    // What depends on earlier executions fails differently in a search of its own.
    if matches!(found.failure.kind, FailureKind::Nondeterminism | FailureKind::Misuse) {
        return (found, false);
    }
    let started = Instant::now();
    let mut runs_left = SHRINKING_RUNS_MAX;
    for bound in 0..=found.graph.deviations {
        let search = Search::new(options.model, Some(bound));
        let _installed = Installed::new(Engine::new(options, search, number_exploration()));
        loop {
            if runs_left == 0 || started.elapsed() >= SHRINKING_TIME_MAX {
                return (found, false);
            }
            runs_left -= 1;
            if run_once(program) == Outcome::Failed {
                let smaller = with(|engine| {
                    let graph = std::mem::take(&mut engine.search.graph);
                    engine.failure.take().map(|failure| Found { failure, graph })
                });
                return (smaller.unwrap_or(found), true);
            }
            if !with(|engine| engine.search.advance()) {
                break;
            }
        }
    }
    (found, true)
}

/// Where a guided run ended.
struct Arrival {
    token: Token,
    /// The failure there, if the run failed.
    found: Option<Found>,
    /// The whole script was followed.
    is_complete: bool,
}

/// Runs the program along a script, in rounds, until it fails or nothing more happens.
fn guided(options: &Options, program: &dyn Fn(), model: Model, script: Script) -> Arrival {
    let mut engine = Engine::new(options, Search::new(model, None), number_exploration());
    engine.guide = Some(Guide::new(script));
    let _installed = Installed::new(engine);
    let mut last = None;
    loop {
        let outcome = run_once(program);
        let progress = with(|engine| {
            let notes = engine.guide.as_ref().map_or(0, Guide::notes);
            (engine.search.graph.size(), notes)
        });
        if outcome != Outcome::Blocked || last == Some(progress) {
            break;
        }
        last = Some(progress);
    }
    with(|engine| {
        let graph = std::mem::take(&mut engine.search.graph);
        let Some(guide) = engine.guide.take() else { unreachable!("the guide was set above") };
        Arrival {
            token: guide.token(model, &graph),
            is_complete: !guide.misfit && guide.is_complete(&graph),
            found: engine.failure.take().map(|failure| Found { failure, graph }),
        }
    })
}

/// Replays a token; refuses one that belongs to another program.
pub(crate) fn replay_token(options: &Options, token: &Token, program: &dyn Fn()) -> Report {
    let started = Instant::now();
    let mut report = Report::new(token.model);
    let arrived = guided(options, program, token.model, token.script.clone());
    let fits = arrived.token.fingerprint == token.fingerprint;
    report.failure = Some(match arrived.found {
        Some(found) if fits => {
            report.events_max = found.graph.size();
            finish(found, true, arrived.token)
        }
        None if fits && arrived.is_complete => misuse(
            "the token was replayed, and the execution does not fail: the program has changed \
             where no operation shows it, so explore it again",
            token.clone(),
        ),
        _ => misuse(
            "the token belongs to another program, or to this one before it was changed: explore \
             again to get a new token",
            token.clone(),
        ),
    });
    report.runs = 1;
    report.verdict = Verdict::Failed;
    report.elapsed = started.elapsed();
    report
}

/// A failure that has no execution.
pub(crate) fn misuse(message: &str, token: Token) -> Failure {
    let message = message.to_owned();
    let failure = RawFailure { kind: FailureKind::Misuse, message, at: None, thread: 0 };
    finish(Found { failure, graph: Graph::default() }, true, token)
}

/// The token of the execution in which nothing has happened yet.
pub(crate) fn empty_token(model: Model) -> Token {
    Token { model, fingerprint: 0, script: Script::default() }
}
