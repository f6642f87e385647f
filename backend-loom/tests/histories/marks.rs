//! What engines say about marks: which order they are in, and that drawing them costs nothing.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering::{self, Acquire, Relaxed, Release};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use weft_backend_loom::engine::{
    Access, Body, Engine, EngineWord, Execution, Exploration, Program, Search,
};
use weft_scenarios::mark::Mark;

fn search(executions: Option<u64>) -> Search {
    Search { executions, time: Duration::from_secs(60), seed: 1, ..Search::new(2) }
}

/// What a reader knows: whether it has seen the writer's store, and whether the writer's marks
/// behind the store, and behind a load that came next, are before the reader's own.
pub(crate) type Known = (bool, bool, bool);

/// A writer stores, marks, loads, marks again; a reader loads and marks.
pub(crate) fn order<E: Engine>(
    executions: Option<u64>,
    store: Ordering,
    load: Ordering,
) -> BTreeSet<Known> {
    let outcomes = Arc::new(Mutex::new(BTreeSet::new()));
    let collected = Arc::clone(&outcomes);
    let program: Program = Arc::new(move || {
        let words = Arc::new([0, 1].map(|_| E::Word::new(0, Access::Loaded)));
        // Ghost state: each is written by one CPU, and read when both have ended.
        let written = Arc::new(OnceLock::<[Mark; 2]>::new());
        let read = Arc::new(OnceLock::<(bool, Mark)>::new());
        let (writer_words, marks) = (Arc::clone(&words), Arc::clone(&written));
        let writer = Box::new(move || {
            writer_words[0].store(1, store);
            let stored = E::mark();
            writer_words[1].load(Relaxed);
            marks.set([stored, E::mark()]).expect("an execution writes once");
        }) as Body;
        let mark = Arc::clone(&read);
        let reader = Box::new(move || {
            let has_seen = words[0].load(load) == 1;
            mark.set((has_seen, E::mark())).expect("an execution reads once");
        }) as Body;
        let collected = Arc::clone(&collected);
        let finish = Box::new(move || {
            let [stored, loaded] = written.get().expect("the writer has ended");
            let (has_seen, mark) = read.get().expect("the reader has ended");
            let known = (*has_seen, stored.is_before(mark), loaded.is_before(mark));
            collected.lock().expect("no test panics here").insert(known);
        });
        Execution { cpus: vec![writer, reader], finish }
    });
    let exploration = E::explore(&search(executions), program);
    assert_eq!(exploration.failure, None);
    std::mem::take(&mut outcomes.lock().expect("no test panics here"))
}

/// Asserts that marks are in order exactly where one happens before the other.
#[track_caller]
pub(crate) fn follow_happens_before<E: Engine>(executions: Option<u64>) {
    let unseen = (false, false, false);
    let order = |store, load| order::<E>(executions, store, load);
    // What came behind the store is not known, whenever it was done.
    assert_eq!(order(Release, Acquire), [unseen, (true, true, false)].into());
    for (store, load) in [(Relaxed, Acquire), (Release, Relaxed)] {
        assert_eq!(order(store, load), [unseen, (true, false, false)].into());
    }
}

/// Two CPUs take a lock twice each, with marks or without.
fn locking<E: Engine>(executions: Option<u64>, has_marks: bool) -> Exploration {
    let program: Program = Arc::new(move || {
        let word = Arc::new(E::Word::new(0, Access::UpdatedOnly));
        let cpus = (0..2).map(|_| {
            let word = Arc::clone(&word);
            let mark = move || has_marks.then(E::mark);
            Box::new(move || {
                for _ in 0..2 {
                    mark();
                    while word.compare_exchange(0, 1, Acquire, Relaxed).is_err() {
                        mark();
                        word.wait_for_change();
                    }
                    word.store(0, Release);
                    mark();
                }
            }) as Body
        });
        Execution { cpus: cpus.collect(), finish: Box::new(|| {}) }
    });
    E::explore(&search(executions), program)
}

/// Asserts that a search has as many executions, as long, with marks as without.
#[track_caller]
pub(crate) fn cost_nothing<E: Engine>(executions: Option<u64>) {
    let [without, with] = [false, true].map(|has_marks| {
        let exploration = locking::<E>(executions, has_marks);
        (exploration.verdict, exploration.executions, exploration.blocked, exploration.depth)
    });
    assert_eq!(without, with);
}
