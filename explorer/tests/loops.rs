//! Loops that wait as real code does: rounds of several reads, and retries after a failed exchange.
//!
//! A round that only read is left behind when the loop goes on, so the executions of a loop are
//! those of its last round. A thread is stuck only if a round that reads nothing but the newest
//! values ends where it began.

use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use weft_explorer::{
    Atomic, FailureKind, Options, Plain, Report, Verdict, explore, replay, spawn,
    wait_for_any_change, yield_now,
};

fn explore_all(program: impl Fn() + Send + Sync) -> Report {
    explore(&Options { find_duplicates: true, ..Options::default() }, program)
}

#[track_caller]
fn expect_exhausted(report: &Report, executions: u64) {
    let found = (report.verdict, report.executions, report.duplicates);
    assert_eq!(found, (Verdict::Exhausted, executions, 0), "{report}");
}

fn two_words(values: [u64; 2]) -> Arc<(Atomic, Atomic)> {
    Arc::new((Atomic::new(values[0]), Atomic::new(values[1])))
}

#[test]
fn a_round_that_reads_two_words_waits_for_either() {
    let report = explore_all(|| {
        let words = two_words([0, 0]);
        let writer = Arc::clone(&words);
        let thread = spawn(move || writer.0.store(1, Release));
        while words.0.load(Acquire) != 1 && words.1.load(Acquire) != 1 {
            words.1.wait_for_change();
        }
        thread.join();
    });
    expect_exhausted(&report, 1);
}

#[test]
fn a_round_that_reads_one_word_twice_reads_both_anew() {
    let report = explore_all(|| {
        let words = two_words([0, 0]);
        let writer = Arc::clone(&words);
        let thread = spawn(move || writer.0.store(1, Release));
        // Both reads have to see the store; a round in which only the second does is repeated.
        while words.0.load(Acquire) + words.0.load(Acquire) != 2 {
            words.0.wait_for_change();
        }
        thread.join();
    });
    expect_exhausted(&report, 1);
}

#[test]
fn a_wait_need_not_name_what_it_waits_for() {
    let report = explore_all(|| {
        let words = two_words([0, 0]);
        let writer = Arc::clone(&words);
        let thread = spawn(move || {
            writer.1.store(1, Release);
            writer.0.store(1, Release);
        });
        // A round may end after the first read or after the second.
        while words.0.load(Acquire) == 0 || words.1.load(Acquire) == 0 {
            wait_for_any_change();
        }
        thread.join();
    });
    expect_exhausted(&report, 1);
}

/// Peterson's lock, with the exchange that C11 needs.
fn peterson(lock: &(Atomic, Atomic, Atomic, Plain<u64>), me: u64) {
    let (mine, other) = if me == 0 { (&lock.0, &lock.1) } else { (&lock.1, &lock.0) };
    mine.store(1, Relaxed);
    lock.2.swap(1 - me, AcqRel);
    while other.load(Acquire) == 1 && lock.2.load(Acquire) == 1 - me {
        lock.2.wait_for_change();
    }
    lock.3.set(lock.3.get() + 1);
    mine.store(0, Release);
}

#[test]
fn petersons_lock_is_exhausted() {
    let report = explore_all(|| {
        let words = [0, 0, 0].map(Atomic::new);
        let [first, second, turn] = words;
        let lock = Arc::new((first, second, turn, Plain::new(0)));
        let other = Arc::clone(&lock);
        let thread = spawn(move || peterson(&other, 1));
        peterson(&lock, 0);
        thread.join();
        assert_eq!(lock.3.get(), 2, "an increment was lost");
    });
    assert_eq!((report.verdict, report.duplicates), (Verdict::Exhausted, 0), "{report}");
}

/// The top of a stack, and the nodes below each node.
struct Stack {
    top: Atomic,
    below: [Atomic; 3],
}

impl Stack {
    /// Retries after a failure by waiting for a change of what it has just read.
    fn push(&self, node: u64) {
        loop {
            let top = self.top.load(Acquire);
            self.below[node as usize].store(top, Relaxed);
            if self.top.compare_exchange(top, node, Release, Relaxed).is_ok() {
                return;
            }
            self.top.wait_for_change();
        }
    }

    fn pop(&self) -> u64 {
        loop {
            let top = self.top.load(Acquire);
            if top == 0 {
                return 0;
            }
            let below = self.below[top as usize].load(Relaxed);
            if self.top.compare_exchange(top, below, Acquire, Relaxed).is_ok() {
                return top;
            }
            self.top.wait_for_change();
        }
    }
}

#[test]
fn a_failed_exchange_on_the_newest_value_is_tried_again() {
    let report = explore_all(|| {
        let stack = Arc::new(Stack { top: Atomic::new(0), below: [0; 3].map(Atomic::new) });
        let others = [1, 2].map(|node| {
            let stack = Arc::clone(&stack);
            spawn(move || stack.push(node))
        });
        let popped = stack.pop();
        others.into_iter().for_each(|other| other.join());
        let left = [(); 2].map(|()| stack.pop());
        assert_eq!(popped + left[0] + left[1], 3, "every node is popped once");
    });
    assert_eq!((report.verdict, report.duplicates), (Verdict::Exhausted, 0), "{report}");
}

#[test]
fn rounds_with_two_reads_still_deadlock_and_the_token_leads_there() {
    let program = || {
        let words = two_words([0, 0]);
        let writer = Arc::clone(&words);
        // The wrong word: the round never gets what it waits for.
        let thread = spawn(move || writer.1.store(2, Release));
        while words.0.load(Acquire) != 1 && words.1.load(Acquire) != 1 {
            words.1.wait_for_change();
        }
        thread.join();
    };
    let failure = explore_all(program).failure.expect("no thread writes 1");
    assert_eq!(failure.kind, FailureKind::Deadlock, "{failure}");
    assert!(failure.message.contains("thread 0 waits at a load of x"), "{failure}");
    let again = replay(&Options::default(), &failure.token, program).failure;
    assert_eq!(again.map(|again| again.message), Some(failure.message));
}

#[test]
fn a_round_that_undoes_what_it_did_is_a_deadlock_too() {
    let program = || {
        let words = two_words([0, 1]);
        // Announces itself, sees the other one, takes the announcement back, waits.
        loop {
            words.0.store(1, Relaxed);
            if words.1.load(Acquire) == 0 {
                return;
            }
            words.0.store(0, Relaxed);
            if words.1.load(Acquire) != 0 {
                words.1.wait_for_change();
            }
        }
    };
    let failure = explore_all(program).failure.expect("no thread clears the other word");
    assert_eq!(failure.kind, FailureKind::Deadlock, "{failure}");
}

#[test]
fn a_thread_that_would_go_on_and_free_another_is_no_deadlock() {
    let report = explore_all(|| {
        let words = two_words([0, 0]);
        let other = Arc::clone(&words);
        let thread = spawn(move || {
            other.0.store(1, Release);
            while other.1.load(Acquire) != 1 {
                other.1.wait_for_change();
            }
        });
        // A round that ends with the old value of the second word and the new one of the first.
        while words.0.load(Acquire) != 1 || words.1.load(Acquire) != 0 {
            wait_for_any_change();
        }
        words.1.store(1, Release);
        thread.join();
    });
    expect_exhausted(&report, 1);
}

#[test]
fn a_yield_is_nothing_to_a_thread_that_goes_on() {
    // Neither does it hide the newer value, nor the end of a loop that gives up.
    let seen = std::sync::Mutex::new(std::collections::BTreeSet::new());
    let report = explore(&Options { find_duplicates: true, ..Options::default() }, || {
        let word = Arc::new(Atomic::new(0));
        let other = Arc::clone(&word);
        let thread = spawn(move || other.store(1, Relaxed));
        let first = word.load(Relaxed);
        yield_now();
        let second = word.load(Relaxed);
        yield_now();
        thread.join();
        seen.lock().expect("no panic holds it").insert((first, second));
    });
    assert_eq!((report.verdict, report.executions), (Verdict::Exhausted, 3), "{report}");
    assert_eq!(report.duplicates, 0);
    let seen = seen.into_inner().expect("no panic holds it");
    assert_eq!(seen, [(0, 0), (0, 1), (1, 1)].into());
}

#[test]
fn a_loop_that_yields_is_explored_by_its_last_round_and_may_read_two_words() {
    let program = |stores: u64| {
        move || {
            let words = Arc::new((Atomic::new(0), Atomic::new(0)));
            let others = [0, 1].map(|number| {
                let words = Arc::clone(&words);
                spawn(move || {
                    let word = if number == 0 { &words.0 } else { &words.1 };
                    word.store(stores, Release);
                })
            });
            while words.0.load(Acquire) + words.1.load(Acquire) < 2 {
                yield_now();
            }
            others.into_iter().for_each(|other| other.join());
        }
    };
    let report = explore(&Options { find_duplicates: true, ..Options::default() }, program(1));
    assert_eq!((report.verdict, report.executions), (Verdict::Exhausted, 1), "{report}");
    assert_eq!(report.duplicates, 0);
    let report = explore(&Options::default(), program(0));
    let failure = report.failure.expect("the loop does not end");
    assert_eq!(failure.kind, FailureKind::Deadlock, "{}", failure.message);
    assert!(failure.message.contains("thread 0 waits at a load"), "{}", failure.message);
    let again = replay(&Options::default(), &failure.token, program(0)).failure;
    assert_eq!(again.expect("it fails again").message, failure.message);
}

#[test]
fn a_loop_that_yields_and_reads_nothing_is_named() {
    let report = explore(&Options::default(), || {
        loop {
            yield_now();
        }
    });
    let failure = report.failure.expect("it does not end");
    assert_eq!(failure.kind, FailureKind::UnboundedLoop, "{}", failure.message);
    assert!(failure.message.contains("thread 0 has yielded 20000 times"), "{}", failure.message);
}

#[test]
fn a_read_before_a_loop_is_none_of_its_rounds() {
    let report = explore_all(|| {
        let word = Arc::new(Atomic::new(0));
        let other = Arc::clone(&word);
        let thread = spawn(move || other.store(1, Release));
        let before = word.load(Acquire);
        // It ends in one execution in which the read before it has found the old value.
        loop {
            yield_now();
            if before == 1 || word.load(Acquire) != before {
                break;
            }
        }
        thread.join();
    });
    expect_exhausted(&report, 2);
}
