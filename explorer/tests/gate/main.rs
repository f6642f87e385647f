//! The soundness gate: the engine against independent enumerators of the memory models.
//!
//! For the litmus catalogue and for thousands of random programs, the set of outcomes, the *number*
//! of executions, and the verdicts on data races and deadlocks must be what the enumerators say,
//! and no execution may be visited twice. The RC11 enumerator is written from the definition of the
//! model and shares no code with the engine; the SC and TSO ones are machines.
//!
//! `cargo test -p weft-explorer --test gate` runs a share of each family; all of it is run by
//! `cargo run --release -p weft-explorer --example fuzz -- --long`. A failure names family, seed
//! and program; `--program "<text>"` runs that program alone.

mod axiomatic;
mod check;
mod litmus;
mod operational;
mod program;
mod random;

use check::{Harness, Tally, compare, run};
use litmus::{CATALOGUE, Verdict, Z6U_EXECUTIONS};
use program::Program;
use random::{FAMILIES, Flavour};
use weft_explorer::Model;

#[test]
fn litmus_counts_are_those_of_genmc() {
    assert_eq!(CATALOGUE.len(), 74, "the catalogue is complete");
    for litmus in CATALOGUE {
        let (outcomes, report) = run(&litmus.program(), Harness::new(Model::Rc11, Flavour::Atomic));
        let expected = if litmus.name == "Z6.U" { Z6U_EXECUTIONS } else { litmus.genmc };
        assert_eq!(report.executions, expected, "execution counts differ: {}", litmus.name);
        let weak = outcomes.iter().any(|it| litmus.is_weak(&it.registers, &it.memory));
        let verdict = if weak { Verdict::Sometimes } else { Verdict::Never };
        assert_eq!(verdict, litmus.verdict, "the weak outcome of {}", litmus.name);
    }
}

#[test]
fn litmus_outcomes_and_counts_are_those_of_the_models() {
    for litmus in CATALOGUE {
        for is_lean in [false, true] {
            if let Err(difference) = compare(&litmus.program(), Flavour::Atomic, is_lean) {
                panic!("{}: {difference}", litmus.name);
            }
        }
    }
}

#[test]
fn sequential_accesses_are_ordered_through_other_locations() {
    // The middle thread passes on, without `SeqCst`, what the first one did.
    let text = "x = 1 sc; y = 1 rel || y acq; z sc || z = 1 sc; x sc";
    let program: Program = text.parse().expect("it is a program");
    compare(&program, Flavour::Atomic, false).expect("engine and enumerators agree");
}

/// Compares an ordinary run's share of the families that are selected by name.
fn compare_random(select: impl Fn(&str) -> bool) {
    for family in FAMILIES.iter().filter(|family| select(family.name)) {
        let mut tally = Tally::default();
        for seed in 1..=family.programs {
            let program = family.generate(seed);
            match compare(&program, family.flavour, seed % 2 == 0) {
                Ok(part) => tally.add(part),
                Err(difference) => {
                    panic!("{}, seed {seed}: {difference}\nprogram: {program}", family.name)
                }
            }
        }
        println!("{}: seeds 1..={}: {tally:?}", family.name, family.programs);
    }
}

#[test]
fn random_programs_of_two_threads() {
    compare_random(|name| name.starts_with("two threads") && !name.contains(", "));
    compare_random(|name| ["two threads, updates", "two threads, long"].contains(&name));
}

#[test]
fn random_programs_of_two_threads_with_sequential_order() {
    compare_random(|name| name.starts_with("two threads, SeqCst"));
}

#[test]
fn random_programs_of_two_threads_that_wait() {
    compare_random(|name| ["two threads, awaits", "two threads, locks"].contains(&name));
}

#[test]
fn random_programs_of_two_threads_with_plain_memory() {
    compare_random(|name| name.starts_with("two threads, plain"));
}

#[test]
fn random_programs_of_two_threads_with_windows() {
    compare_random(|name| name.starts_with("windows") && !name.contains("three"));
}

#[test]
fn random_programs_of_three_threads_with_windows() {
    compare_random(|name| name.starts_with("windows, three"));
}

#[test]
fn random_programs_of_three_threads() {
    compare_random(|name| name.starts_with("three threads"));
}

#[test]
fn random_programs_of_four_threads() {
    compare_random(|name| name.starts_with("four threads"));
}
