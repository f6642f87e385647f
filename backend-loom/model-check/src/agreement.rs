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

use weft_backend_loom::report::{Report, VerdictWord};

/// The observations of which an engine has more than another may, in sentences.
pub(crate) fn disagreements(scenario: &str, reports: &[&Report]) -> Vec<String> {
    let whole = reports.iter().filter(|report| report.failure.is_none());
    let whole: Vec<&Report> = whole.copied().collect();
    let mut sentences = Vec::new();
    for complete in whole.iter().filter(|report| report.verdict == VerdictWord::Exhausted) {
        for other in whole.iter().filter(|other| other.engine != complete.engine) {
            if !are_comparable(complete, other) {
                continue;
            }
            let more: BTreeSet<&String> =
                other.observations.difference(&complete.observations).collect();
            for observation in more {
                sentences.push(format!(
                    "{scenario}: {} ({}) saw what {} ({}) did not: {observation}",
                    other.engine, other.verdict_text, complete.engine, complete.verdict_text
                ));
            }
        }
    }
    sentences
}

/// Whether what `other` saw must be a part of what `complete` saw.
fn are_comparable(complete: &Report, other: &Report) -> bool {
    let language_model = |report: &Report| report.model.contains("C11");
    language_model(complete) || other.verdict == VerdictWord::Sampled && other.model != "host"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(engine: &str, model: &str, verdict: &str, saw: &[&str]) -> Report {
        let text = serde_json::json!({
            "scenario": "one_vs_other", "engine": engine, "model": model,
            "sabotage": {"kind": "none"}, "cpus": 2, "verdict": verdict, "verdict_text": verdict,
            "cut_short": false, "executions": 1, "blocked": 0, "depth": 1,
            "elapsed": {"secs": 0, "nanos": 0}, "outcomes": {}, "observations": saw,
            "reached": [], "never_reached": [], "never_seen": [], "failure": null, "caveats": [],
            "other_models": [],
        });
        serde_json::from_value(text).expect("a report")
    }

    #[test]
    fn complete_engines_see_the_same() {
        let one = report("explorer", "RC11", "EXHAUSTED", &["a", "b"]);
        let other = report("loom", "C11 (some limits)", "EXHAUSTED", &["a"]);
        let found = disagreements("one_vs_other", &[&one, &other]);
        assert_eq!(
            found,
            ["one_vs_other: explorer (EXHAUSTED) saw what loom (EXHAUSTED) did not: b"]
        );
    }

    #[test]
    fn samples_are_a_part() {
        let complete = report("loom", "C11", "EXHAUSTED", &["a", "b"]);
        let part = report("shuttle", "SC", "SAMPLED", &["b"]);
        let more = report("threads", "host", "SAMPLED", &["b", "c"]);
        assert!(disagreements("one_vs_other", &[&complete, &part]).is_empty());
        assert_eq!(disagreements("one_vs_other", &[&part, &more, &complete]).len(), 1);
    }

    #[test]
    fn incomplete_engines_prove_nothing_against_each_other() {
        let bounded = report("loom", "C11", "BOUNDED", &["a"]);
        let samples = report("shuttle", "SC", "SAMPLED", &["b"]);
        assert!(disagreements("one_vs_other", &[&bounded, &samples]).is_empty());
    }

    #[test]
    fn stronger_models_see_less() {
        let strong = report("explorer", "SC", "EXHAUSTED", &["a"]);
        let weak = report("loom", "C11", "EXHAUSTED", &["a", "b"]);
        assert!(disagreements("one_vs_other", &[&strong, &weak]).is_empty());
    }
}
