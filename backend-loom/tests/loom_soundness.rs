//! The soundness gate: the loom engine loses no sequentially consistent outcome.
//!
//! Random programs run under the engine to the end, and every outcome of the enumerator must be
//! among theirs. A word is created, read and written by each side in every way, so a search that
//! forgets an order shows. The gate itself is tested with the same programs on loom's own words,
//! where it must find losses.

mod random_programs;
mod raw_loom;

use std::time::Duration;

use random_programs::{enumerate, explore, generate, well_formed};
use raw_loom::RawLoom;
use weft_backend_loom::engine::{Engine, Search, Verdict};
use weft_backend_loom::loom::Loom;

/// Executions after which a program is left aside: the few long ones would take most of the time.
const EXECUTIONS_MAX: u64 = 2_000;

/// What the gate saw.
#[derive(Debug, Default)]
struct Gate {
    /// Programs whose search ended, so that their outcomes were compared.
    compared: usize,
    /// Programs among them that lost an outcome.
    lost: usize,
    /// The first program that lost an outcome, in words.
    example: Option<String>,
}

/// Compares the programs of `seeds` under `E` with the enumerator.
fn gate<E: Engine>(seeds: std::ops::Range<u64>, with_updates: bool) -> Gate {
    let search = Search {
        time: Duration::from_secs(600),
        executions: Some(EXECUTIONS_MAX),
        ..Search::new(2)
    };
    let mut gate = Gate::default();
    for seed in seeds {
        let threads = generate(seed, with_updates);
        let (exploration, outcomes) = explore::<E>(&search, &threads);
        assert_eq!(exploration.failure, None, "seed {seed}: {threads:?}");
        if exploration.verdict != Verdict::Exhausted {
            continue;
        }
        gate.compared += 1;
        assert!(outcomes.iter().all(|outcome| well_formed(&threads, outcome)));
        let expected = enumerate(&threads);
        let missing: Vec<_> = expected.difference(&outcomes).collect();
        if !missing.is_empty() {
            gate.lost += 1;
            gate.example
                .get_or_insert_with(|| format!("seed {seed}: {threads:?} loses {missing:?}"));
        }
    }
    gate
}

#[test]
fn no_outcome_of_loads_stores_and_fences_is_lost() {
    let gate = gate::<Loom>(1..121, false);
    assert_eq!(gate.lost, 0, "{gate:?}");
    assert!(gate.compared >= 100, "{gate:?}");
    println!("compared {} of 120 programs without updates", gate.compared);
}

#[test]
fn no_outcome_of_updates_is_lost() {
    let gate = gate::<Loom>(1..101, true);
    assert_eq!(gate.lost, 0, "{gate:?}");
    assert!(gate.compared >= 80, "{gate:?}");
    println!("compared {} of 100 programs with updates", gate.compared);
}

#[test]
fn the_gate_finds_what_raw_loom_loses() {
    let without = gate::<RawLoom>(1..121, false);
    let with = gate::<RawLoom>(1..101, true);
    assert!(without.lost >= 3 && with.lost >= 3, "{without:?} {with:?}");
    println!("raw loom loses outcomes in {} of {}", without.lost, without.compared);
    println!("and with updates in {} of {}", with.lost, with.compared);
}
