//! Engines against each other.
//!
//! What every CPU saw, together with the outcome, is an *observation*. Engines that were built
//! independently of each other must observe the same: two that have run every execution observe
//! equal sets, and one that has not observes a part of what a complete one does. The difference is
//! a defect of an engine, or a program that is not deterministic; either way no verdict holds.
//!
//! Only engines of one memory model are compared. Sampling engines interleave, which every memory
//! model allows, so they are compared with the complete ones of any model. Host threads run under
//! the model of the host: they may see what sequential consistency forbids.

use std::collections::BTreeSet;

use weft_backend_loom::engine::Verdict;
use weft_backend_loom::report::Report;

/// What one engine saw of a scenario.
#[derive(Clone, Copy, Debug)]
struct Seen<'a> {
    engine: &'a str,
    model: &'a str,
    verdict: Verdict,
    observations: &'a BTreeSet<String>,
}

impl<'a> From<&'a Report> for Seen<'a> {
    fn from(report: &'a Report) -> Self {
        let Report { engine, model, verdict, observations, .. } = report;
        let engine = engine.traits().name;
        Self { engine, model, verdict: *verdict, observations }
    }
}

/// The observations of which an engine has more than another may, in sentences.
pub(crate) fn disagreements(scenario: &str, reports: &[&Report]) -> Vec<String> {
    let whole = reports.iter().filter(|report| report.failure.is_none());
    let seen: Vec<Seen<'_>> = whole.map(|report| Seen::from(*report)).collect();
    compare(scenario, &seen)
}

fn compare(scenario: &str, all: &[Seen<'_>]) -> Vec<String> {
    let mut sentences = Vec::new();
    for complete in all.iter().filter(|seen| seen.verdict == Verdict::Exhausted) {
        for other in all.iter().filter(|other| other.engine != complete.engine) {
            if !are_comparable(complete, other) {
                continue;
            }
            for observation in other.observations.difference(complete.observations) {
                sentences.push(format!(
                    "{scenario}: {} ({}) saw what {} ({}) did not: {observation}",
                    other.engine, other.verdict, complete.engine, complete.verdict
                ));
            }
        }
    }
    sentences
}

/// Whether what `other` saw must be a part of what `complete` saw.
fn are_comparable(complete: &Seen<'_>, other: &Seen<'_>) -> bool {
    let language_model = complete.model.contains("C11");
    language_model || matches!(other.verdict, Verdict::Sampled(_)) && other.model != "host"
}

#[cfg(test)]
mod tests {
    use super::Verdict::{Bounded, Exhausted, Sampled};
    use super::*;

    fn set(saw: &[&str]) -> BTreeSet<String> {
        saw.iter().map(|one| (*one).to_owned()).collect()
    }

    fn seen<'a>(
        engine: &'a str,
        model: &'a str,
        verdict: Verdict,
        observations: &'a BTreeSet<String>,
    ) -> Seen<'a> {
        Seen { engine, model, verdict, observations }
    }

    #[test]
    fn complete_engines_see_the_same() {
        let (all, part) = (set(&["a", "b"]), set(&["a"]));
        let one = seen("explorer", "RC11", Exhausted, &all);
        let other = seen("loom", "C11 (some limits)", Exhausted, &part);
        let found = compare("one_vs_other", &[one, other]);
        let expected = "one_vs_other: explorer (EXHAUSTED) saw what loom (EXHAUSTED) did not: b";
        assert_eq!(found, [expected]);
    }

    #[test]
    fn samples_are_a_part() {
        let (all, part, more) = (set(&["a", "b"]), set(&["b"]), set(&["b", "c"]));
        let complete = seen("loom", "C11", Exhausted, &all);
        let part = seen("shuttle", "SC", Sampled(9), &part);
        let more = seen("threads", "host", Sampled(9), &more);
        assert!(compare("one_vs_other", &[complete, part]).is_empty());
        assert_eq!(compare("one_vs_other", &[part, more, complete]).len(), 1);
    }

    #[test]
    fn incomplete_engines_prove_nothing_against_each_other() {
        let (one, other) = (set(&["a"]), set(&["b"]));
        let bounded = seen("loom", "C11", Bounded(2), &one);
        let samples = seen("shuttle", "SC", Sampled(9), &other);
        assert!(compare("one_vs_other", &[bounded, samples]).is_empty());
    }

    #[test]
    fn stronger_models_see_less() {
        let (less, more) = (set(&["a"]), set(&["a", "b"]));
        let strong = seen("explorer", "SC", Exhausted, &less);
        let weak = seen("loom", "C11", Exhausted, &more);
        assert!(compare("one_vs_other", &[strong, weak]).is_empty());
    }
}
