//! Replay: a token leads back to the same message and the same token.
//!
//! The failing programs are made of random ones: each program of a family is explored once to see
//! what outcomes it has, and then, for one outcome after the other, asserted not to have it. Racing
//! and deadlocking programs fail on their own.

#[path = "gate/axiomatic.rs"]
mod axiomatic;
#[path = "gate/check.rs"]
#[expect(dead_code, reason = "the gate compares; here programs are only run")]
mod check;
#[path = "gate/operational.rs"]
mod operational;
#[path = "gate/program.rs"]
mod program;
#[path = "gate/random.rs"]
mod random;

use std::collections::BTreeMap;

use check::{Harness, body, run};
use random::FAMILIES;
use weft_explorer::{FailureKind, Model, Options, Token, explore, replay};

/// Explores a program that fails if `fails` says so, and replays what was found.
fn fails_the_same_again(
    harness: Harness,
    program: &(dyn Fn() + Send + Sync),
) -> Option<FailureKind> {
    let options = Options { model: harness.model, ..Options::default() };
    let failure = explore(&options, program).failure?;
    let text = failure.token.to_string();
    let token: Token = text.parse().expect("a printed token is a token");
    let again = replay(&options, &token, program).failure.expect("it fails again");
    let context = format!("{text}\n{failure}");
    assert_eq!(again.message, failure.message, "message of {context}");
    assert_eq!(again.kind, failure.kind, "kind of {context}");
    assert_eq!(again.token.to_string(), text, "token of {context}");
    Some(failure.kind)
}

#[test]
fn failing_executions_replay_to_the_same_message_and_token() {
    let mut replayed: BTreeMap<String, usize> = BTreeMap::new();
    for (family, model) in FAMILIES.iter().zip([Model::Rc11, Model::Tso, Model::Sc].iter().cycle())
    {
        for seed in 1..=family.programs.min(25) {
            let program = family.generate(seed);
            let harness =
                Harness { is_lean: seed % 2 == 0, ..Harness::new(*model, family.flavour) };
            let (outcomes, _) = run(&program, harness);
            let kind = fails_the_same_again(harness, &|| body(&program, harness, &|_| ()));
            if let Some(kind) = kind {
                *replayed.entry(format!("{kind:?}")).or_default() += 1;
                continue;
            }
            for forbidden in outcomes.iter().take(4) {
                let kind = fails_the_same_again(harness, &|| {
                    body(&program, harness, &|outcome| {
                        assert_ne!(outcome, *forbidden, "forbidden by the test");
                    });
                });
                let Some(kind) = kind else {
                    panic!("{}, seed {seed}: {forbidden:?} is not found again", family.name)
                };
                *replayed.entry(format!("{kind:?}")).or_default() += 1;
            }
        }
    }
    println!("replayed: {replayed:?}");
    for kind in ["Violation", "Deadlock", "DataRace"] {
        let count = replayed.get(kind).copied().unwrap_or(0);
        assert!(count >= 20, "only {count} failures of kind {kind} were replayed");
    }
    assert!(replayed.values().sum::<usize>() >= 500, "{replayed:?}");
}
