//! Waiting: locks have the mathematical number of executions however they wait.
//!
//! With `t` threads that each take a lock `k` times, an execution is an order in which the lock
//! changes hands: `(tk)! / (k!)^t` of them.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use weft_explorer::{
    Atomic, FailureKind, Mutex, Options, Plain, Report, Verdict, explore, mark, spawn,
};

/// A lock on two words, and a counter that it protects.
struct Lock {
    words: [Atomic; 2],
    counter: Plain<u64>,
}

type Section = fn(&Lock);

fn run(threads: usize, rounds: usize, section: Section) -> Report {
    explore(&Options { find_duplicates: true, ..Options::default() }, || {
        let words = [Atomic::new(0), Atomic::new(0)];
        let lock = Arc::new(Lock { words, counter: Plain::new(0) });
        let body = |lock: Arc<Lock>| move || (0..rounds).for_each(|_| section(&lock));
        let others: Vec<_> = (1..threads).map(|_| spawn(body(Arc::clone(&lock)))).collect();
        body(Arc::clone(&lock))();
        others.into_iter().for_each(|other| other.join());
        assert_eq!(lock.counter.get(), (threads * rounds) as u64, "an increment was lost");
    })
}

fn increment(lock: &Lock) {
    lock.counter.set(lock.counter.get() + 1);
}

fn awaiting_exchange(lock: &Lock) {
    lock.words[0].await_cas(0, 1, Acquire);
    increment(lock);
    lock.words[0].store(0, Release);
}

fn spinning_exchange(lock: &Lock) {
    while lock.words[0].compare_exchange(0, 1, Acquire, Relaxed).is_err() {
        lock.words[0].wait_for_change();
    }
    increment(lock);
    lock.words[0].store(0, Release);
}

fn awaiting_ticket(lock: &Lock) {
    let ticket = lock.words[0].fetch_add(1, Relaxed);
    lock.words[1].await_eq(ticket, Acquire);
    increment(lock);
    lock.words[1].store(ticket + 1, Release);
}

fn spinning_ticket(lock: &Lock) {
    let ticket = lock.words[0].fetch_add(1, Relaxed);
    while lock.words[1].load(Acquire) != ticket {
        lock.words[1].wait_for_change();
    }
    increment(lock);
    lock.words[1].store(ticket + 1, Release);
}

fn awaiting_test_and_set(lock: &Lock) {
    lock.words[0].await_eq(0, Relaxed);
    lock.words[0].await_cas(0, 1, Acquire);
    increment(lock);
    lock.words[0].store(0, Release);
}

fn spinning_test_and_set(lock: &Lock) {
    let word = &lock.words[0];
    while word.load(Relaxed) != 0 || word.compare_exchange(0, 1, Acquire, Relaxed).is_err() {
        word.wait_for_change();
    }
    increment(lock);
    word.store(0, Release);
}

fn factorial(n: usize) -> u64 {
    (1..=n as u64).product()
}

fn orders(threads: usize, rounds: usize) -> u64 {
    factorial(threads * rounds) / factorial(rounds).pow(threads as u32)
}

const SIZES: [(usize, usize); 6] = [(2, 1), (2, 2), (3, 1), (3, 2), (4, 1), (5, 1)];

#[test]
fn locks_have_one_execution_per_order() {
    let sections: [(&str, Section); 4] = [
        ("exchange, awaiting", awaiting_exchange),
        ("exchange, spinning", spinning_exchange),
        ("ticket, awaiting", awaiting_ticket),
        ("ticket, spinning", spinning_ticket),
    ];
    for (name, section) in sections {
        for (threads, rounds) in SIZES {
            let report = run(threads, rounds, section);
            let found = (report.verdict, report.executions, report.duplicates);
            let expected = (Verdict::Exhausted, orders(threads, rounds), 0);
            assert_eq!(found, expected, "{name}, {threads} x {rounds}");
        }
    }
}

#[test]
fn a_load_before_the_exchange_multiplies_executions_by_what_it_may_read() {
    for (threads, rounds) in [(2, 1), (2, 2), (3, 1), (4, 1)] {
        let (awaiting, spinning) = (
            run(threads, rounds, awaiting_test_and_set),
            run(threads, rounds, spinning_test_and_set),
        );
        assert_eq!(spinning.executions, awaiting.executions, "{threads} x {rounds}");
        assert_eq!((spinning.duplicates, spinning.verdict), (0, Verdict::Exhausted));
        if rounds == 1 {
            // The p-th owner has seen any of the p free states so far.
            let expected = factorial(threads).pow(2);
            assert_eq!(spinning.executions, expected, "{threads} threads");
        }
    }
}

#[test]
fn mutexes_have_one_execution_per_order() {
    for (threads, rounds) in SIZES {
        let report = explore(&Options::default(), || {
            let counter = Arc::new(Mutex::new(0));
            let body =
                |counter: Arc<Mutex<usize>>| move || (0..rounds).for_each(|_| *counter.lock() += 1);
            let others: Vec<_> = (1..threads).map(|_| spawn(body(Arc::clone(&counter)))).collect();
            body(Arc::clone(&counter))();
            others.into_iter().for_each(|other| other.join());
            counter.with(|value| assert_eq!(*value, threads * rounds, "an increment was lost"));
        });
        let found = (report.verdict, report.executions);
        assert_eq!(found, (Verdict::Exhausted, orders(threads, rounds)), "{threads} x {rounds}");
    }
}

/// Two mutexes taken in opposite orders.
fn opposite_orders() {
    let mutexes = Arc::new((Mutex::new(()), Mutex::new(())));
    let other = Arc::clone(&mutexes);
    let thread = spawn(move || other.1.with(|()| other.0.with(|()| ())));
    mutexes.0.with(|()| mutexes.1.with(|()| ()));
    thread.join();
}

#[test]
fn opposite_lock_orders_deadlock_and_the_report_tells_how() {
    let report = explore(&Options::default(), opposite_orders);
    assert_eq!(report.verdict, Verdict::Failed);
    let failure = report.failure.expect("the deadlock is found");
    assert_eq!(failure.kind, FailureKind::Deadlock);
    assert_eq!(failure.trace.blocked.len(), 2, "both threads wait");
    let text = failure.to_string();
    for part in [
        "Deadlock: no thread can go on: thread 0 waits at a lock of m",
        "thread 0 ",
        "| thread 1",
        "to be unlocked, and reads 0x1 from T",
        "waiting.rs:",
        "replay token: rc11-",
    ] {
        assert!(text.contains(part), "`{part}` is missing in:\n{text}");
    }
    assert!(text.lines().count() < 20, "a small deadlock has a small report:\n{text}");
}

#[test]
fn a_spin_on_a_word_that_no_thread_changes_is_a_deadlock() {
    let report = explore(&Options::default(), || {
        let word = Atomic::new(1);
        while word.load(Acquire) != 0 {
            word.wait_for_change();
        }
    });
    let failure = report.failure.expect("no thread changes the word");
    assert_eq!(failure.kind, FailureKind::Deadlock);
    let expected = "waits for a change of x0 from 0x1";
    assert!(failure.to_string().contains(expected), "{failure}");
}

#[test]
fn a_spinning_main_thread_is_woken_by_a_later_thread() {
    let report = explore(&Options::default(), || {
        let word = Arc::new(Atomic::new(0));
        let writer = Arc::clone(&word);
        let thread = spawn(move || (1..=3).for_each(|value| writer.store(value, Release)));
        while word.load(Acquire) < 2 {
            word.wait_for_change();
        }
        thread.join();
    });
    assert_eq!((report.verdict, report.executions), (Verdict::Exhausted, 2));
}

#[test]
fn marks_follow_happens_before_and_not_the_schedule() {
    let related = std::sync::Mutex::new(Vec::new());
    let report = explore(&Options::default(), || {
        let flag = Arc::new(Atomic::new(0));
        let other = Arc::clone(&flag);
        let thread = spawn(move || {
            other.store(1, Release);
            mark()
        });
        let seen = flag.load(Acquire);
        let begin = mark();
        let end = thread.join();
        related.lock().expect("no panic holds it").push((seen, end.before(&begin)));
        assert!(begin.before(&mark()), "a thread's own marks are in order");
    });
    assert_eq!(report.verdict, Verdict::Exhausted);
    let mut related = related.into_inner().expect("no panic holds it");
    related.sort_unstable();
    assert_eq!(related, [(0, false), (1, true)]);
}
