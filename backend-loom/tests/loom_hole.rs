//! The hole in loom's search, and that our words do not have it.
//!
//! A CPU that loads a word and then stores it erases loom's record of another CPU's earlier load,
//! so loom never runs the order in which the store comes first (tokio-rs/loom#166). The programs
//! here are the smallest ones with the hole; each is run on loom's own words, which must lose an
//! outcome, and on ours, which must not. If the first half fails, loom has been repaired and the
//! companions can go.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

#[expect(dead_code, reason = "each test binary uses its part of the programs")]
mod litmus;
mod raw_loom;

use litmus::{Outcomes, State, good, role, set};
use raw_loom::RawLoom;
use weft_backend_loom::engine::{Access, Engine, EngineWord, Search, Verdict};
use weft_backend_loom::loom::Loom;

/// Outcomes of "read a word" against `other`, which first loads the same word.
fn against_a_reader<E: Engine>(other: fn(&State<E>)) -> (u64, Outcomes) {
    let reader = role::<E>(|state| state.note(0, state.words[0].load(Relaxed)));
    let roles = vec![role::<E>(other), reader];
    let (exploration, outcomes) = litmus::run(&Search::new(2), &[Access::Loaded], 1, roles);
    good(&exploration);
    assert_eq!(exploration.verdict, Verdict::Exhausted);
    (exploration.executions, outcomes)
}

fn load_then_store<E: Engine>(state: &State<E>) {
    state.words[0].load(Relaxed);
    state.words[0].store(1, Relaxed);
}

fn load_then_update<E: Engine>(state: &State<E>) {
    state.words[0].load(Relaxed);
    state.words[0].fetch_add(1, Relaxed);
}

fn load_then_compare_exchange<E: Engine>(state: &State<E>) {
    let found = state.words[0].load(Relaxed);
    // Nothing interferes; the result is what the reader is compared with.
    assert_eq!(state.words[0].compare_exchange(found, 1, Relaxed, Relaxed), Ok(0));
}

fn publish_if_empty<E: Engine>(state: &State<E>) {
    if state.words[0].load(Relaxed) == 0 {
        state.words[0].store(1, Relaxed);
    }
}

#[test]
fn raw_loom_loses_the_store_that_comes_first() {
    for other in [load_then_store, load_then_update, load_then_compare_exchange, publish_if_empty] {
        let (executions, outcomes) = against_a_reader::<RawLoom>(other);
        assert_eq!((executions, outcomes), (1, set(&[[0]])), "loom has changed");
    }
}

#[test]
fn our_words_see_the_store_that_comes_first() {
    for other in [load_then_store, load_then_update, load_then_compare_exchange, publish_if_empty] {
        let (_, outcomes) = against_a_reader::<Loom>(other);
        assert_eq!(outcomes, set(&[[0], [1]]));
    }
}

/// The same hole on loom's types alone, without any code of ours around them.
#[test]
fn loom_by_itself_loses_it_too() {
    use loom::sync::atomic::AtomicU64;
    let seen = Arc::new(std::sync::Mutex::new(std::collections::BTreeSet::new()));
    let collected = Arc::clone(&seen);
    loom::model::Builder::new().check(move || {
        let word = Arc::new(AtomicU64::new(0));
        let other = Arc::clone(&word);
        let other = loom::thread::spawn(move || {
            other.load(Relaxed);
            other.store(1, Relaxed);
        });
        let value = word.load(Relaxed);
        other.join().expect("nothing panics");
        collected.lock().expect("nothing panics").insert(value);
    });
    let seen: Vec<u64> = seen.lock().expect("nothing panics").iter().copied().collect();
    assert_eq!(seen, [0], "loom has changed");
}
