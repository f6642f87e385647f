//! The test on the README's first screen, as it is there.

// Copied from here.
use std::sync::{Arc, atomic::Ordering::*};
use weft_explorer::{Atomic, Options, Plain, Verdict, explore, spawn};

/// A lock of one word. `unlock` has the order that is to be tested.
fn increment_twice(unlock: std::sync::atomic::Ordering) {
    let shared = Arc::new((Atomic::named("lock", 0), Plain::named("count", 0)));
    let increment = move |shared: &(Atomic, Plain<u32>)| {
        while shared.0.compare_exchange(0, 1, Acquire, Relaxed).is_err() {
            shared.0.wait_for_change();
        }
        shared.1.set(shared.1.get() + 1);
        shared.0.store(0, unlock);
    };
    let other = Arc::clone(&shared);
    let thread = spawn(move || increment(&other));
    increment(&shared);
    thread.join();
    assert_eq!(shared.1.get(), 2);
}

#[test]
fn the_lock_keeps_the_count() {
    let report = explore(&Options::default(), || increment_twice(Release));
    assert_eq!(report.verdict, Verdict::Exhausted, "{report}");
}
// To here.

#[test]
fn a_relaxed_unlock_is_a_race() {
    let report = explore(&Options::default(), || increment_twice(Relaxed));
    let failure = report.failure.expect("nothing orders the two counts");
    assert!(failure.message.starts_with("data race: "), "{}", failure.message);
}

#[test]
fn the_readme_shows_this_test() {
    let (readme, own) = (include_str!("../README.md"), include_str!("paste.rs"));
    let (_, rest) = own.split_once("// Copied from here.\n").expect("the mark is there");
    let (test, _) = rest.split_once("// To here.").expect("the mark is there");
    assert!(readme.contains(test), "copy the test to explorer/README.md");
    assert!(test.lines().count() <= 30, "it is longer than a screen bears");
}
