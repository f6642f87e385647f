//! Loads within windows: what they may read, what they learn, and how they are reported.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::{Arc, Mutex};

use weft_explorer::{
    Atomic, FailureKind, Model, Options, Sample, Verdict, Window, explore, fence, replay, spawn,
};

fn any(_: u64) -> bool {
    true
}

fn present(value: u64) -> bool {
    value != 0
}

/// What the program returns in its executions.
fn outcomes<T: Ord + Send>(model: Model, program: impl Fn() -> T + Send + Sync) -> BTreeSet<T> {
    let seen = Mutex::new(BTreeSet::new());
    let options = Options { model, find_duplicates: true, ..Options::default() };
    let report = explore(&options, || {
        let outcome = program();
        seen.lock().expect("no test panics with the lock").insert(outcome);
    });
    assert_eq!((report.verdict, report.duplicates), (Verdict::Exhausted, 0), "{model}");
    seen.into_inner().expect("no test panics with the lock")
}

#[test]
fn what_can_be_kept_is_read_at_any_time_since_the_window_was_opened() {
    for model in Model::ALL {
        let read = outcomes(model, || {
            let word = Atomic::new(1);
            word.store(2, Relaxed);
            let mut window = Window::open();
            word.store(3, Relaxed);
            word.store(4, Relaxed);
            word.load_within(&mut window, any)
        });
        assert_eq!(read, BTreeSet::from([2, 3, 4]), "{model}");
    }
}

#[test]
fn what_cannot_be_kept_is_read_now() {
    for model in Model::ALL {
        let read = outcomes(model, || {
            let word = Atomic::new(0);
            let mut window = Window::open();
            word.store(3, Relaxed);
            word.store(0, Relaxed);
            word.store(4, Relaxed);
            word.load_within(&mut window, present)
        });
        assert_eq!(read, BTreeSet::from([3, 4]), "{model}");
    }
}

#[test]
fn a_fence_behind_the_opening_forbids_nothing() {
    // Store buffering, where the fences forbid that both read 0; a load that was done before the
    // fence may.
    for model in Model::ALL {
        for is_within in [false, true] {
            let read = outcomes(model, move || {
                let words = Arc::new((Atomic::new(0), Atomic::new(0)));
                let shared = Arc::clone(&words);
                let other = spawn(move || {
                    let mut window = Window::open();
                    shared.0.store(1, Relaxed);
                    fence(SeqCst);
                    if is_within {
                        shared.1.load_within(&mut window, any)
                    } else {
                        shared.1.load(Acquire)
                    }
                });
                words.1.store(1, Relaxed);
                fence(SeqCst);
                (words.0.load(Relaxed), other.join())
            });
            assert_eq!(read.contains(&(0, 0)), is_within, "{model}");
        }
    }
}

#[test]
fn a_fence_before_the_opening_counts() {
    for model in Model::ALL {
        let read = outcomes(model, || {
            let words = Arc::new((Atomic::new(0), Atomic::new(0)));
            let shared = Arc::clone(&words);
            let other = spawn(move || {
                shared.0.store(1, Relaxed);
                fence(SeqCst);
                shared.1.load_within(&mut Window::open(), any)
            });
            words.1.store(1, Relaxed);
            fence(SeqCst);
            (words.0.load(Relaxed), other.join())
        });
        assert!(!read.contains(&(0, 0)), "{model}");
    }
}

#[test]
fn the_loads_of_a_window_are_done_in_their_order() {
    for model in Model::ALL {
        let read = outcomes(model, || {
            let words = Arc::new((Atomic::new(1), Atomic::new(1)));
            let shared = Arc::clone(&words);
            let mut window = Window::open();
            let writer = spawn(move || {
                shared.1.store(2, Relaxed);
                shared.0.store(2, Release);
            });
            writer.join();
            let first = words.0.load_within(&mut window, any);
            let second = words.1.load_within(&mut window, any);
            let again = words.1.load_within(&mut window, any);
            (first, second, again)
        });
        let all = [(1, 1, 1), (1, 1, 2), (1, 2, 2), (2, 2, 2)];
        assert_eq!(read, BTreeSet::from(all), "{model}");
    }
}

#[test]
fn what_was_read_is_known_from_then_on() {
    for model in Model::ALL {
        let read = outcomes(model, || {
            let words = Arc::new((Atomic::new(1), Atomic::new(1)));
            let shared = Arc::clone(&words);
            let writer = spawn(move || {
                shared.1.store(2, Relaxed);
                shared.0.store(2, Release);
            });
            let first = words.0.load_within(&mut Window::open(), any);
            let second = words.1.load(Relaxed);
            writer.join();
            (first, second)
        });
        assert_eq!(read, BTreeSet::from([(1, 1), (1, 2), (2, 2)]), "{model}");
    }
}

#[test]
fn joined_windows_know_what_both_know() {
    let read = outcomes(Model::Rc11, || {
        let word = Atomic::new(1);
        let first = Window::open();
        word.store(2, Relaxed);
        let mut window = Window::open();
        word.store(3, Relaxed);
        window.join(&first);
        word.load_within(&mut window, any)
    });
    assert_eq!(read, BTreeSet::from([2, 3]));
}

/// A CPU whose hardware uses the entry although it was found gone.
fn use_after_removal() {
    let entry = Arc::new(Atomic::named("entry", 7));
    let shared = Arc::clone(&entry);
    let mut window = Window::open();
    let remover = spawn(move || shared.store(0, Release));
    let is_gone = entry.load(Acquire) == 0;
    let used = entry.load_within(&mut window, present);
    remover.join();
    assert!(!(is_gone && used == 7), "used after it was found gone");
}

#[test]
fn a_trace_says_that_a_load_is_old_and_what_it_misses() {
    for model in Model::ALL {
        let options = Options { model, ..Options::default() };
        let failure = explore(&options, use_after_removal).failure.expect("it is found");
        let told = failure.trace.to_string();
        assert!(told.contains("load entry = 0x7"), "{told}");
        assert!(told.contains("from initial (!) old: missed T1.0"), "{told}");
        let again = replay(&options, &failure.token, use_after_removal);
        let again = again.failure.expect("the token leads there");
        assert_eq!((again.kind, again.message), (failure.kind, failure.message));
    }
}

#[test]
fn workers_and_samples_see_old_values_too() {
    let counts = [1, 2].map(|workers| {
        let options = Options { workers, keep_going: true, ..Options::default() };
        let report = explore(&options, use_after_removal);
        assert!(report.failure.is_some(), "{workers} workers");
        (report.executions, report.blocked, report.conflicts)
    });
    assert_eq!(counts[0], counts[1]);
    let sample = Some(Sample { seed: 1, count: 200 });
    let report = explore(&Options { sample, ..Options::default() }, use_after_removal);
    assert!(report.failure.is_some(), "a sample finds it");
}

#[test]
fn an_old_value_is_a_deviation() {
    let options = Options { deviations_max: Some(0), ..Options::default() };
    let report = explore(&options, use_after_removal);
    assert!(report.failure.is_none(), "without deviations the newest value is read");
    let options = Options { deviations_max: Some(2), ..Options::default() };
    assert!(explore(&options, use_after_removal).failure.is_some());
}

#[test]
fn a_window_that_was_smuggled_to_another_thread_is_refused() {
    let report = explore(&Options::default(), || {
        let words = Arc::new((Atomic::new(1), Atomic::new(0)));
        let (shared, smuggled) = (Arc::clone(&words), Arc::new(Mutex::new(Window::default())));
        let hidden = Arc::clone(&smuggled);
        let other = spawn(move || {
            shared.1.store(1, Relaxed);
            *hidden.lock().expect("no test panics with the lock") = Window::open();
        });
        let user = spawn(move || {
            let mut window = *smuggled.lock().expect("no test panics with the lock");
            words.0.load_within(&mut window, any)
        });
        other.join();
        user.join();
    });
    let failure = report.failure.expect("it is refused");
    assert_eq!(failure.kind, FailureKind::Misuse);
    assert!(failure.message.contains("a window knows what the thread that uses it does not"));
}
