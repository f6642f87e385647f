//! The search itself: workers, limits, bounds, sampling, choices.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use weft_explorer::{
    Atomic, FailureKind, Model, Options, Report, Sample, Verdict, choose, event_index, explore,
    fence, spawn, thread_id,
};

/// Threads that increment a counter under an exchange lock.
fn locked_increments(threads: usize, rounds: usize) {
    let words = Arc::new((Atomic::new(0), Atomic::new(0)));
    let body = |words: Arc<(Atomic, Atomic)>| {
        move || {
            for _ in 0..rounds {
                words.0.await_cas(0, 1, Acquire);
                let value = words.1.load(Relaxed);
                words.1.store(value + 1, Relaxed);
                words.0.store(0, Release);
            }
        }
    };
    let others: Vec<_> = (1..threads).map(|_| spawn(body(Arc::clone(&words)))).collect();
    body(Arc::clone(&words))();
    others.into_iter().for_each(|other| other.join());
    assert_eq!(words.1.load(Relaxed), (threads * rounds) as u64, "an increment was lost");
}

/// Increments without a lock: some of them are lost.
fn lost_increments(threads: usize) {
    let word = Arc::new(Atomic::new(0));
    let body = |word: Arc<Atomic>| move || word.store(word.load(Relaxed) + 1, Relaxed);
    let others: Vec<_> = (1..threads).map(|_| spawn(body(Arc::clone(&word)))).collect();
    body(Arc::clone(&word))();
    others.into_iter().for_each(|other| other.join());
    assert_eq!(word.load(Relaxed), threads as u64, "an increment was lost");
}

#[test]
fn counts_do_not_depend_on_the_number_of_workers() {
    for (threads, rounds) in [(3, 2), (4, 1), (3, 3)] {
        let counts = [1, 2, 4].map(|workers| {
            let options = Options { workers, find_duplicates: true, ..Options::default() };
            let report = explore(&options, || locked_increments(threads, rounds));
            (
                report.verdict,
                report.executions,
                report.blocked,
                report.redundant,
                report.conflicts,
                report.duplicates,
            )
        });
        assert_eq!(counts[0].0, Verdict::Exhausted);
        assert_eq!(counts[0], counts[1], "two workers");
        assert_eq!(counts[0], counts[2], "four workers");
    }
}

#[test]
fn the_failure_reported_does_not_depend_on_the_number_of_workers() {
    let failures = [1, 2, 4].map(|workers| {
        let options = Options { workers, ..Options::default() };
        let failure =
            explore(&options, || lost_increments(3)).failure.expect("increments are lost");
        (failure.message, failure.token, failure.deviations, failure.is_minimal)
    });
    assert_eq!(failures[0], failures[1]);
    assert_eq!(failures[0], failures[2]);
    assert_eq!((failures[0].2, failures[0].3), (1, true), "one stale read loses an increment");
}

/// Fails in two ways: a thread reads an old value, which is one deviation and needs another thread,
/// or the main thread chooses twice what is not the default.
fn fails_in_two_ways() {
    assert!(!(choose(2) == 1 && choose(2) == 1), "either");
    let word = Arc::new(Atomic::new(0));
    let reader = Arc::clone(&word);
    let thread = spawn(move || assert!(reader.load(Relaxed) == 1, "either"));
    word.store(1, Relaxed);
    thread.join();
}

#[test]
fn the_smallest_failure_has_the_fewest_switches() {
    let search = |smallest_within| {
        let options = Options { smallest_within, ..Options::default() };
        explore(&options, fails_in_two_ways)
    };
    let shown = |report: &Report| {
        let failure = report.failure.as_ref().expect("both ways are found");
        (failure.deviations, failure.switches > 0, failure.is_minimal)
    };
    let (first, cut, smallest) = (search(0), search(1), search(1_000));
    assert_eq!(shown(&first), (1, true, true), "the fewest deviations");
    assert_eq!(shown(&cut), (1, true, false), "the budget has ended the search");
    assert_eq!(shown(&smallest), (2, false, true), "the fewest switches");
    for other in [cut, smallest] {
        let counts = (other.verdict, other.executions, other.runs);
        assert_eq!(counts, (first.verdict, first.executions, first.runs));
    }
}

#[test]
fn a_smaller_failure_has_the_same_message() {
    let program = || {
        assert!(!(choose(2) == 1 && choose(2) == 1), "another one");
        let word = Arc::new(Atomic::new(0));
        let reader = Arc::clone(&word);
        let thread = spawn(move || assert!(reader.load(Relaxed) == 1, "this one"));
        word.store(1, Relaxed);
        thread.join();
    };
    let options = Options { smallest_within: 1_000, ..Options::default() };
    let failure = explore(&options, program).failure.expect("both ways are found");
    assert_eq!((failure.message.as_str(), failure.is_minimal), ("this one", true));
}

#[test]
fn choices_are_explored_once_each() {
    let count = |program: &(dyn Fn() + Send + Sync)| {
        let report = explore(&Options { find_duplicates: true, ..Options::default() }, program);
        assert_eq!((report.verdict, report.duplicates), (Verdict::Exhausted, 0));
        report.executions
    };
    let seen = Mutex::new(BTreeSet::new());
    let executions = count(&|| {
        let pair = (choose(3), choose(2));
        seen.lock().expect("no panic holds it").insert(pair);
    });
    assert_eq!((executions, seen.lock().expect("no panic holds it").len()), (6, 6));
    // A choice between a read and a write that revisits it: deleted and made again.
    let executions = count(&|| {
        let word = Arc::new(Atomic::new(0));
        let writer = Arc::clone(&word);
        let thread = spawn(move || writer.store(1, Relaxed));
        word.load(Relaxed);
        choose(2);
        thread.join();
    });
    assert_eq!(executions, 4);
    // Choices that decide whether there is an access at all.
    let executions = count(&|| {
        let word = Arc::new(Atomic::new(0));
        let writer = Arc::clone(&word);
        let thread = spawn(move || {
            if choose(2) == 1 {
                writer.store(1, Relaxed);
            }
        });
        if choose(2) == 1 {
            word.load(Relaxed);
        }
        thread.join();
    });
    assert_eq!(executions, 5);
}

#[test]
fn a_bound_on_deviations_is_named_only_if_it_bites() {
    let bounded = |deviations| {
        let options = Options { deviations_max: Some(deviations), ..Options::default() };
        explore(&options, || locked_increments(3, 2))
    };
    let none = bounded(0);
    assert_eq!((none.verdict, none.executions), (Verdict::Bounded(0), 1));
    let some = bounded(2);
    assert_eq!(some.verdict, Verdict::Bounded(2));
    assert!((2..90).contains(&some.executions), "{some}");
    let all = bounded(1000);
    assert_eq!((all.verdict, all.executions), (Verdict::Exhausted, 90));
}

#[test]
fn sampling_estimates_the_number_of_executions() {
    let sample = Some(Sample { seed: 7, count: 4000 });
    let report = explore(&Options { sample, ..Options::default() }, || locked_increments(2, 3));
    assert_eq!(report.verdict, Verdict::Sampled(4000));
    let estimate = report.estimate.expect("sampling estimates");
    assert!((16.0..24.0).contains(&estimate), "20 executions, estimated as {estimate}");
    let again = explore(&Options { sample, ..Options::default() }, || locked_increments(2, 3));
    assert_eq!(again.estimate, report.estimate, "the seed determines the sample");
}

#[test]
fn sampling_finds_failures() {
    let sample = Some(Sample { seed: 1, count: 1000 });
    let report = explore(&Options { sample, ..Options::default() }, || lost_increments(4));
    assert_eq!(report.verdict, Verdict::Failed);
    assert_eq!(report.failure.map(|failure| failure.kind), Some(FailureKind::Violation));
}

#[test]
fn limits_cut_short_and_say_so() {
    let limited = Options { executions_max: Some(10), ..Options::default() };
    let report = explore(&limited, || locked_increments(3, 2));
    assert_eq!((report.verdict, report.executions), (Verdict::CutShort, 10));
    let out_of_time = Options { time_limit: Some(Duration::ZERO), ..Options::default() };
    assert_eq!(explore(&out_of_time, || locked_increments(3, 2)).verdict, Verdict::CutShort);
    let cancelled = Arc::new(AtomicBool::new(true));
    for workers in [1, 2] {
        let cancel = Some(Arc::clone(&cancelled));
        let options = Options { workers, cancel, ..Options::default() };
        assert_eq!(explore(&options, || locked_increments(3, 2)).verdict, Verdict::CutShort);
    }
}

#[test]
fn progress_is_reported_until_cancelled() {
    let cancel = Arc::new(AtomicBool::new(false));
    let (flag, reports) = (Arc::clone(&cancel), Arc::new(Mutex::new(Vec::new())));
    let sink = Arc::clone(&reports);
    let options = Options {
        workers: 2,
        cancel: Some(cancel),
        progress: Some(Arc::new(move |progress| {
            sink.lock().expect("no panic holds it").push(progress.executions);
            flag.store(true, SeqCst);
        })),
        ..Options::default()
    };
    // Too large to finish: the first report ends it.
    let report = explore(&options, || locked_increments(6, 3));
    assert_eq!(report.verdict, Verdict::CutShort);
    let reports = reports.lock().expect("no panic holds it");
    assert!(!reports.is_empty() && reports.iter().all(|count| *count <= report.executions));
}

#[test]
fn store_buffering_separates_the_models() {
    let weak = |model, with_fence: bool| {
        let report = explore(&Options { model, ..Options::default() }, move || {
            let words = Arc::new((Atomic::new(0), Atomic::new(0)));
            let other = Arc::clone(&words);
            let order = |is_fenced: bool| {
                if is_fenced {
                    fence(SeqCst);
                }
            };
            let thread = spawn(move || {
                other.1.store(1, Release);
                order(with_fence);
                other.0.load(Acquire)
            });
            words.0.store(1, Release);
            order(with_fence);
            let mine = words.1.load(Acquire);
            assert!(mine + thread.join() > 0, "both threads read the old value");
        });
        report.failure.is_some()
    };
    let found = [Model::Rc11, Model::Tso, Model::Sc].map(|model| weak(model, false));
    assert_eq!(found, [true, true, false]);
    let found = [Model::Rc11, Model::Tso, Model::Sc].map(|model| weak(model, true));
    assert_eq!(found, [false, false, false]);
}

#[test]
fn threads_and_events_are_numbered_as_in_the_trace() {
    let noted = Arc::new(Mutex::new(None));
    let sink = Arc::clone(&noted);
    let report = explore(&Options::default(), move || {
        let word = Arc::new(Atomic::new(0));
        let (writer, sink) = (Arc::clone(&word), Arc::clone(&sink));
        let thread = spawn(move || {
            writer.load(Relaxed);
            *sink.lock().expect("no panic holds it") = Some((thread_id(), event_index()));
            writer.store(7, Relaxed);
        });
        let child = thread.thread_id();
        thread.join();
        panic!("thread {child} has stored {}", word.load(Relaxed));
    });
    let failure = report.failure.expect("the program panics");
    assert_eq!(failure.message, "thread 1 has stored 7");
    let noted = noted.lock().expect("no panic holds it").expect("the thread ran");
    let store = failure.trace.events.iter().find(|event| event.value == 7).expect("it stored 7");
    assert_eq!((store.event.thread, store.event.index), noted);
}

#[test]
fn every_read_modify_write_does_what_it_does_in_std() {
    use std::sync::atomic::AtomicU64;
    let report = explore(&Options::default(), || {
        for (initial, operand) in [(6, 3), (3, 6), (u64::MAX, 1), (0, u64::MAX)] {
            let (ours, theirs) = (Atomic::new(initial), AtomicU64::new(initial));
            macro_rules! same {
                ($operation:ident) => {
                    assert_eq!(
                        (ours.$operation(operand, AcqRel), ours.load(Relaxed)),
                        (theirs.$operation(operand, AcqRel), theirs.load(Relaxed)),
                        stringify!($operation)
                    );
                };
            }
            same!(fetch_add);
            same!(fetch_max);
            same!(fetch_xor);
            same!(fetch_nand);
            same!(fetch_min);
            same!(fetch_or);
            same!(fetch_sub);
            same!(fetch_and);
            same!(swap);
            let change = |value| (value != 5).then_some(5);
            for _ in 0..2 {
                assert_eq!(
                    ours.fetch_update(AcqRel, Relaxed, change),
                    theirs.fetch_update(AcqRel, Relaxed, change)
                );
            }
        }
    });
    assert_eq!((report.verdict, report.executions), (Verdict::Exhausted, 1), "{report}");
}

#[test]
fn an_update_by_exchange_is_repeated_if_another_comes_between() {
    let report = explore(&Options::default(), || {
        let word = Arc::new(Atomic::new(1));
        let other = Arc::clone(&word);
        let double = |word: &Atomic| word.fetch_update(AcqRel, Acquire, |value| Some(value * 2));
        let thread = spawn(move || double(&other));
        double(&word).expect("there is always a new value");
        thread.join().expect("there is always a new value");
        assert_eq!(word.load(Relaxed), 4);
    });
    assert_eq!(report.verdict, Verdict::Exhausted, "{report}");
}
