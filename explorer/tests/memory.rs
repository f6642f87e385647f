//! Memory of the host, and threads that spawn threads: what happens before an operation has been
//! done when the operation returns.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Arc, Mutex as StdMutex};

use weft_explorer::{
    Atomic, FailureKind, Model, Options, Plain, Report, Token, Verdict, explore, replay, spawn,
    thread_id,
};

/// Explores under every model, with one and with two workers, to the same counts.
#[track_caller]
fn counts(program: impl Fn() + Send + Sync) -> Vec<(u64, u64)> {
    let count = |model, workers| {
        let options = Options { model, workers, find_duplicates: true, ..Options::default() };
        let report = explore(&options, &program);
        assert_eq!((report.verdict, report.duplicates), (Verdict::Exhausted, 0), "{report}");
        (report.executions, report.blocked)
    };
    let one: Vec<_> = Model::ALL.iter().map(|model| count(*model, 1)).collect();
    let two: Vec<_> = Model::ALL.iter().map(|model| count(*model, 2)).collect();
    assert_eq!(one, two, "one worker and two");
    one
}

#[test]
fn what_was_released_is_there() {
    // The reader comes first in the order in which threads add what they do.
    let counts = counts(|| {
        let shared = Arc::new((Atomic::new(0), StdMutex::new(Vec::new())));
        let writer = Arc::clone(&shared);
        let thread = spawn(move || {
            writer.1.lock().expect("no panic holds it").push("written");
            writer.0.store(1, Release);
        });
        if shared.0.load(Acquire) == 1 {
            assert_eq!(*shared.1.lock().expect("no panic holds it"), ["written"]);
        }
        thread.join();
    });
    assert_eq!(counts, [(2, 0); 3]);
}

#[test]
fn what_a_thread_notes_behind_an_operation_is_there_when_the_operation_was_seen() {
    // As a harness does that records what each operation has found.
    let counts = counts(|| {
        let shared = Arc::new((Atomic::new(0), Atomic::new(0), AtomicUsize::new(0)));
        let (first, second) = (Arc::clone(&shared), Arc::clone(&shared));
        let one = spawn(move || {
            first.0.fetch_add(1, Relaxed);
            first.2.fetch_add(1, Relaxed);
            first.1.load(Relaxed);
        });
        let two = spawn(move || {
            second.0.fetch_add(1, Relaxed);
            second.2.fetch_add(1, Relaxed);
            second.1.store(1, Relaxed);
        });
        let seen = shared.0.load(Relaxed);
        let noted = shared.2.load(Relaxed) as u64;
        assert!(noted >= seen, "{seen} operations were seen, and {noted} were noted");
        one.join();
        two.join();
    });
    assert_eq!(counts[0], (12, 0));
}

#[test]
fn a_thread_that_waits_has_done_what_it_did_before() {
    // The middle thread passes on what the last one did, and then waits for ever.
    let report = explore(&Options { keep_going: true, ..Options::default() }, || {
        let shared = Arc::new((Atomic::new(0), Atomic::new(0), AtomicUsize::new(0)));
        let (middle, last) = (Arc::clone(&shared), Arc::clone(&shared));
        spawn(move || {
            middle.1.store(middle.0.load(Acquire), Release);
            middle.2.fetch_add(1, Relaxed);
            middle.0.await_eq(7, Acquire);
        });
        spawn(move || {
            last.2.fetch_add(1, Relaxed);
            last.0.store(1, Release);
        });
        if shared.1.load(Acquire) == 1 {
            assert_ne!(shared.2.load(Relaxed), 0, "the last thread has not begun");
        }
    });
    let failure = report.failure.expect("a thread waits for ever");
    assert_eq!(failure.kind, FailureKind::Deadlock, "{}", failure.message);
}

#[test]
fn a_thread_may_hold_a_lock_of_the_host_between_two_operations() {
    let found = counts(|| {
        let shared = Arc::new((Atomic::new(0), Atomic::new(0)));
        let body = |shared: Arc<(Atomic, Atomic)>| {
            move || {
                shared.0.await_cas(0, 1, Acquire);
                let value = shared.1.load(Relaxed);
                shared.1.store(value + 1, Relaxed);
                shared.0.store(0, Release);
            }
        };
        let others = [(); 2].map(|()| spawn(body(Arc::clone(&shared))));
        body(Arc::clone(&shared))();
        others.into_iter().for_each(|other| other.join());
    });
    assert_eq!(found[0].0, 6);
}

/// A thread that counts down, spawning a child that does so too, and adds one to the counter.
fn count_down(counter: &Arc<Atomic>, threads: usize) {
    let child = (threads > 1).then(|| {
        let counter = Arc::clone(counter);
        spawn(move || count_down(&counter, threads - 1))
    });
    counter.fetch_add(1, Relaxed);
    if let Some(child) = child {
        child.join();
    }
}

#[test]
fn threads_spawn_threads() {
    for (threads, executions) in [(2, 2), (3, 6), (4, 24), (5, 120)] {
        let found = counts(|| {
            let counter = Arc::new(Atomic::new(0));
            count_down(&counter, threads);
            assert_eq!(counter.load(Relaxed), threads as u64);
        });
        assert_eq!(found, [(executions, 0); 3], "{threads} threads");
    }
}

/// What a thread read, and the number of its child.
type Seen = (u64, Option<usize>);

/// Two threads that spawn one each, if they see what the other or its child has done.
fn spawn_perhaps(seen: &(dyn Fn(Vec<Seen>) + Sync)) {
    let words = Arc::new([Atomic::new(0), Atomic::new(0)]);
    let body = |own: usize| {
        let words = Arc::clone(&words);
        move || {
            words[own].store(1, Relaxed);
            let value = words[1 - own].load(Relaxed);
            let child = (value != 0).then(|| {
                let words = Arc::clone(&words);
                spawn(move || {
                    words[own].fetch_add(1, Relaxed);
                    thread_id()
                })
            });
            (value, child.map(|child| (child.thread_id(), child.join())))
        }
    };
    let both = [spawn(body(0)), spawn(body(1))];
    seen(
        both.map(|one| {
            let (value, child) = one.join();
            assert!(child.is_none_or(|(told, own)| told == own), "{child:?}");
            (value, child.map(|(_, own)| own))
        })
        .to_vec(),
    );
}

#[test]
fn executions_do_not_depend_on_the_numbers_of_threads() {
    let seen = StdMutex::new(BTreeSet::new());
    let counts = counts(|| {
        spawn_perhaps(&|threads| {
            seen.lock().expect("no panic holds it").insert(threads);
        });
    });
    // Each thread reads 0, 1 or what the other's child has made of it; not both read a child, and
    // who reads 0 has none. Under SC not both read 0.
    assert_eq!(counts, [(6, 0), (6, 0), (5, 0)]);
    let seen = seen.into_inner().expect("no panic holds it");
    // Each outcome is an execution that can be replayed, whatever numbers the search has given.
    let mut numbers = 0;
    for forbidden in seen {
        let program =
            || spawn_perhaps(&|threads| assert_ne!(threads, forbidden, "forbidden by the test"));
        let report = explore(&Options::default(), program);
        numbers += usize::from(fails_again(&report, program).contains('+'));
    }
    assert_ne!(numbers, 0, "the order of spawns is the same in all replays");
}

/// Replays a failure, and returns its token.
fn fails_again(report: &Report, program: impl Fn() + Send + Sync) -> String {
    let failure = report.failure.as_ref().expect("it fails");
    let text = failure.token.to_string();
    let token: Token = text.parse().expect("a printed token is a token");
    let again = replay(&Options::default(), &token, program).failure.expect("it fails again");
    assert_eq!((&again.message, &again.token.to_string()), (&failure.message, &text));
    text
}

#[test]
fn a_child_knows_what_its_parent_did_before_and_races_with_what_it_does_behind() {
    let program = |is_behind: bool| {
        move || {
            let cell = Arc::new(Plain::new(0));
            let middle = Arc::clone(&cell);
            spawn(move || {
                middle.set(1);
                let own = Arc::clone(&middle);
                let child = spawn(move || own.get());
                if is_behind {
                    middle.set(2);
                }
                assert_eq!(child.join(), 1);
                middle.set(3);
            })
            .join();
            assert_eq!(cell.get(), 3);
        }
    };
    let report = explore(&Options::default(), program(false));
    assert_eq!((report.verdict, report.executions), (Verdict::Exhausted, 1), "{report}");
    let report = explore(&Options::default(), program(true));
    assert_eq!(report.failure.as_ref().map(|it| it.kind), Some(FailureKind::DataRace), "{report}");
    fails_again(&report, program(true));
}

#[test]
fn a_thread_may_be_joined_by_another_than_its_parent() {
    let found = counts(|| {
        let word = Arc::new(Atomic::new(0));
        let first = Arc::clone(&word);
        let child = spawn(move || first.fetch_add(1, Relaxed));
        let second = spawn(move || child.join());
        word.fetch_add(1, Relaxed);
        assert!(second.join() <= 1);
        assert_eq!(word.load(Relaxed), 2);
    });
    assert_eq!(found, [(2, 0); 3]);
}
