//! From a failing graph to a failure that can be read and replayed.
//!
//! *Fewest deviations.* The execution that is found first is deep in the search: it may deviate
//! from the default execution in dozens of places that have nothing to do with the failure. The
//! search is repeated with a growing bound on deviations, and the first failure it meets is
//! reported instead; the search is within a budget of runs and of time, and the failure says if
//! that ended it.
//!
//! *Smallest.* Where `Options::smallest_within` gives a budget, the repeated search goes on behind
//! that failure. Of the executions with the same message it reports the one that is told with the
//! fewest switches between threads, and of these the one with the fewest events. The bound grows
//! until it bites no more: then no execution is smaller. Fewer deviations come first because they
//! go with fewer switches, so that a budget that ends early ends among small ones.
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

/// How often the program is run to find a failure with fewer deviations.
const SHRINKING_RUNS_MAX: u64 = 10_000;
/// For how long a smaller failure is searched for, whatever the budget of runs.
const SHRINKING_TIME_MAX: Duration = Duration::from_secs(10);

/// Makes the failure of an exploration out of what was found.
pub(crate) fn describe_failure(options: &Options, program: &dyn Fn(), found: Found) -> Failure {
    if let Some(callback) = &options.on_failure {
        callback();
    }
    let mut shrinking = Shrinking::new(options, found);
    let is_minimal = shrinking.search(program);
    let found = shrinking.best;
    let arrived = guided(options, program, options.model, Script::of(&found.graph));
    let failure = finish(found, is_minimal, arrived.token);
    Failure { searched: shrinking.searched, ..failure }
}

fn finish(found: Found, is_minimal: bool, token: Token) -> Failure {
    let trace = Trace::of(&found.graph);
    Failure {
        message: found.failure.message,
        kind: found.failure.kind,
        at: found.failure.at,
        thread: found.failure.thread,
        deviations: found.graph.deviations,
        switches: trace.switches(),
        is_minimal,
        searched: 0,
        trace,
        token,
    }
}

/// A search for a smaller execution that fails.
struct Shrinking<'options> {
    options: &'options Options,
    started: Instant,
    runs_left: u64,
    /// How often the program was run since a failure was met.
    searched: u64,
    /// A failure was met.
    has_met: bool,
    /// The smallest one so far; until one is met, the one to do better than.
    best: Found,
}

/// What came of a search within a bound.
enum Within {
    /// There is nothing beyond the bound.
    Exhausted,
    Ended,
    /// The budget, or that one failure is enough.
    Stopped,
}

impl<'options> Shrinking<'options> {
    fn new(options: &'options Options, found: Found) -> Shrinking<'options> {
        Shrinking {
            options,
            started: Instant::now(),
            runs_left: SHRINKING_RUNS_MAX,
            searched: 0,
            has_met: false,
            best: found,
        }
    }

    /// Searches within one bound on deviations after the other, and says whether it came to its
    /// end.
    fn search(&mut self, program: &dyn Fn()) -> bool {
        // What depends on earlier executions fails differently in a search of its own.
        if matches!(self.best.failure.kind, FailureKind::Nondeterminism | FailureKind::Misuse) {
            return false;
        }
        let (mut bound, mut stride) = (0, 1);
        loop {
            match self.search_within(program, bound) {
                Within::Exhausted => return true,
                Within::Stopped => return self.has_met && self.options.smallest_within == 0,
                Within::Ended if !self.has_met && bound >= self.best.graph.deviations => {
                    return true;
                }
                Within::Ended => {}
            }
            bound += stride;
            // Nearly everything is searched again each time.
            stride *= if self.has_met { 2 } else { 1 };
        }
    }

    fn search_within(&mut self, program: &dyn Fn(), bound: u32) -> Within {
        let search = Search::new(self.options.model, Some(bound));
        let _installed = Installed::new(Engine::new(self.options, search, number_exploration()));
        loop {
            if self.runs_left == 0 || self.started.elapsed() >= SHRINKING_TIME_MAX {
                return Within::Stopped;
            }
            self.runs_left -= 1;
            self.searched += u64::from(self.has_met);
            if run_once(program) == Outcome::Failed {
                self.meet();
                if self.options.smallest_within == 0 {
                    return Within::Stopped;
                }
            }
            if !with(|engine| engine.search.advance()) {
                let refused = with(|engine| engine.search.counts.refused);
                return if refused == 0 { Within::Exhausted } else { Within::Ended };
            }
        }
    }

    /// Takes the failure of the last run, if it is the first one, or a smaller one of its kind.
    fn meet(&mut self) {
        let best = (self.has_met).then_some(&self.best);
        let smaller = with(|engine| {
            let failure = engine.failure.take()?;
            let graph = &engine.search.graph;
            let is_smaller = best.is_none_or(|best| {
                (failure.kind, &failure.message) == (best.failure.kind, &best.failure.message)
                    && Trace::size_of(graph) < Trace::size_of(&best.graph)
            });
            is_smaller.then(|| Found { failure, graph: graph.clone() })
        });
        if let Some(smaller) = smaller {
            self.best = smaller;
        }
        if !self.has_met {
            self.has_met = true;
            self.runs_left = self.options.smallest_within;
        }
    }
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
