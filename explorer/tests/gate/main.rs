//! The soundness gate: the engine against independent enumerators of the memory models.
//!
//! For the litmus catalogue and for thousands of random programs, the set of outcomes, the *number*
//! of executions, and the verdicts on data races and deadlocks must be what the enumerators say,
//! and no execution may be visited twice. The RC11 enumerator is written from the definition of the
//! model and shares no code with the engine; the SC and TSO ones are machines. Loads within windows
//! are compared twice: as loads of observers, in the families called "windows", and as what paging
//! hardware does with its caches, in `tables`.
//!
//! `cargo test -p weft-explorer --test gate` runs a share of each family; all of it is run by
//! `cargo run --release -p weft-explorer --example fuzz -- --long`, and the same with `--windows`
//! for `tables`. A failure names family, seed and program; `--program "<text>"` runs that program
//! alone.

mod axiomatic;
mod caches;
mod check;
mod litmus;
mod operational;
mod program;
mod random;
mod tables;

use check::{Harness, Tally, compare, run};
use litmus::{CATALOGUE, Verdict, Z6U_EXECUTIONS};
use program::Program;
use random::{FAMILIES, Flavour};
use tables::{GROUPS, Group, INITIAL, Step, UPPER, leaf_word};
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

#[test]
fn loads_within_windows_are_beside_sequential_accesses() {
    for text in [
        // The load is not ordered with the store before it, and so orders nothing behind that.
        "x = 1 sc; y win; x = 2 rel || x acq; z sc || z = 1 sc; x sc",
        // What the load learns, it passes on.
        "x = 1 sc; y = 2 rel || y win; z sc || z = 1 sc; x sc",
    ] {
        let program: Program = text.parse().expect("it is a program");
        let agrees = compare(&program, Flavour::Atomic, false);
        assert!(agrees.is_ok(), "{text}: {agrees:?}");
    }
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

/// Compares windows with caches, for all programs of a group under all models, and bounds how many
/// of them have outcomes beyond those of the caches: several entries, mixed levels, RC11 alone.
fn compare_tables(group: Group, excess_max: [u64; 3]) {
    for model in Model::ALL {
        let mut tally = tables::Tally::default();
        for seed in 1..=group.programs {
            let program = group.generate(seed);
            match tables::compare(&program, model) {
                Ok(part) => tally.add(part),
                Err(difference) => panic!("{model}, seed {seed}: {difference}\nprogram: {program}"),
            }
        }
        println!("{model}, {} CPUs: {tally:?}", group.cpus);
        let excess = [tally.several, tally.mixed, tally.weaker];
        let is_within = excess.iter().zip(&excess_max).all(|(count, most)| count <= most);
        assert!(is_within, "{model}: more programs than before have other outcomes: {excess:?}");
    }
}

#[test]
fn windows_are_the_caches_of_two_cpus() {
    compare_tables(GROUPS[0], [61, 0, 1]);
}

#[test]
fn windows_are_the_caches_of_three_cpus() {
    compare_tables(GROUPS[1], [5, 0, 0]);
}

#[test]
fn accesses_overtake_stores_that_wait_in_buffers() {
    // Each CPU maps a page and then faults on the other's.
    let cpus = [0, 1].map(|own| {
        let map = Step::Write { word: leaf_word(0, own), value: 8, is_locked: false };
        vec![map, Step::Read(1 - own)]
    });
    let program = tables::Program { initial: [1, 0, 0, 0, 0, 0], cpus: cpus.to_vec() };
    for model in Model::ALL {
        let tally = tables::compare(&program, model).unwrap_or_else(|it| panic!("{model}: {it}"));
        assert_eq!(tally.outcomes, if model == Model::Sc { 3 } else { 4 }, "{model}");
    }
}

#[test]
fn what_windows_have_in_excess_of_caches_is_seen() {
    use Step::{Flush, Look, Read, Signal, Write};
    let upper = |value| Write { word: UPPER, value, is_locked: true };
    let leaf = |page, value| Write { word: leaf_word(0, page), value, is_locked: true };
    let tally = |cpus: Vec<Vec<Step>>, model| {
        let program = tables::Program { initial: INITIAL[0], cpus };
        tables::compare(&program, model).expect("engine and caches agree as far as they should")
    };
    for model in Model::ALL {
        // The new entry, then the old one again.
        let several = tally(vec![vec![leaf(0, 8), Read(0), Read(0)]], model);
        assert_eq!((several.several, several.mixed, several.weaker), (1, 0, 0), "{model}");
        // The node is taken out and written to, and the other page is flushed in between.
        let mixed = vec![vec![upper(2), Flush(Some(1)), leaf(0, 8), Read(0)]];
        let mixed = tally(mixed, model);
        assert_eq!((mixed.several, mixed.mixed, mixed.weaker), (0, 1, 0), "{model}");
        // One CPU signals and then faults, the other one maps the page and then sees no signal:
        // locked writes are no fences in RC11.
        let map = Write { word: leaf_word(1, 1), value: 8, is_locked: true };
        let weaker = tally(vec![vec![upper(2), Signal, Read(1)], vec![map, Look]], model);
        let is_weaker = u64::from(model == Model::Rc11);
        assert_eq!((weaker.several, weaker.mixed, weaker.weaker), (0, 0, is_weaker), "{model}");
    }
}

#[test]
fn random_programs_of_three_threads() {
    compare_random(|name| name.starts_with("three threads"));
}

#[test]
fn random_programs_of_four_threads() {
    compare_random(|name| name.starts_with("four threads"));
}
