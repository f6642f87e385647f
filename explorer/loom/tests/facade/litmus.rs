//! Atomics: which outcomes there are, and arithmetic at every width.

use crate::{expect, failure, outcomes};
use loom::sync::Arc;
use loom::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use loom::sync::atomic::{AtomicBool, AtomicI8, AtomicPtr, AtomicU8, AtomicUsize, fence};
use loom::thread;

/// Both threads store to their word and load the other's.
fn store_buffering(order: [std::sync::atomic::Ordering; 2], fenced: bool) -> (usize, usize) {
    let words = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
    let shared = Arc::clone(&words);
    let thread = thread::spawn(move || {
        shared.0.store(1, order[0]);
        if fenced {
            fence(SeqCst);
        }
        shared.1.load(order[1])
    });
    words.1.store(1, order[0]);
    if fenced {
        fence(SeqCst);
    }
    let mine = words.0.load(order[1]);
    (mine, thread.join().unwrap())
}

#[test]
fn both_stores_may_be_missed_unless_they_are_sequentially_consistent() {
    let three = [(0, 1), (1, 0), (1, 1)];
    let four = [(0, 0), (0, 1), (1, 0), (1, 1)];
    assert_eq!(outcomes(|| store_buffering([Release, Acquire], false)), four);
    assert_eq!(outcomes(|| store_buffering([Relaxed, Relaxed], true)), three);
    assert_eq!(outcomes(|| store_buffering([SeqCst, SeqCst], false)), three);
}

#[test]
fn a_relaxed_flag_may_come_before_its_message() {
    let pass = |order| {
        move || {
            let shared = Arc::new((AtomicUsize::new(0), AtomicBool::new(false)));
            let other = Arc::clone(&shared);
            thread::spawn(move || {
                other.0.store(7, Relaxed);
                other.1.store(true, order);
            });
            if shared.1.load(Acquire) { shared.0.load(Relaxed) } else { 1 }
        }
    };
    assert_eq!(outcomes(pass(Release)), [1, 7]);
    assert_eq!(outcomes(pass(Relaxed)), [0, 1, 7]);
}

#[test]
fn integers_wrap_at_their_width() {
    loom::model(|| {
        let small = AtomicU8::new(250);
        assert_eq!(small.fetch_add(10, Relaxed), 250);
        assert_eq!(small.compare_exchange(4, 1, AcqRel, Relaxed), Ok(4));
        assert_eq!(small.fetch_sub(2, Relaxed), 1);
        assert_eq!(small.fetch_nand(0x0f, Relaxed), 255);
        assert_eq!(small.fetch_xor(0xff, Relaxed), 0xf0);
        assert_eq!(small.fetch_max(3, Relaxed), 0x0f);
        assert_eq!(small.fetch_min(3, Relaxed), 0x0f);
        assert_eq!(small.into_inner(), 3);
        let signed = AtomicI8::new(-3);
        assert_eq!(signed.fetch_max(2, Relaxed), -3);
        assert_eq!(signed.fetch_min(-128, Relaxed), 2);
        assert_eq!(signed.fetch_sub(1, Relaxed), -128);
        assert_eq!(signed.load(Relaxed), 127);
        let flag = AtomicBool::new(true);
        assert!(flag.fetch_nand(true, Relaxed));
        assert!(!flag.fetch_not(Relaxed));
        assert!(flag.load(Relaxed));
    });
}

#[test]
fn a_pointer_is_the_same_in_every_execution() {
    // The words are compared: another address would be another execution, and nondeterminism.
    let seen = outcomes(|| {
        let head = Arc::new(AtomicPtr::new(std::ptr::null_mut::<u32>()));
        let others = [1, 2].map(|value| {
            let head = Arc::clone(&head);
            thread::spawn(move || {
                let own = Box::into_raw(Box::new(value));
                let empty = std::ptr::null_mut();
                match head.compare_exchange(empty, own, AcqRel, Acquire) {
                    Ok(_) => std::ptr::null_mut(),
                    Err(_) => own,
                }
            })
        });
        let lost = others.map(|other| other.join().unwrap());
        let won = head.load(Acquire);
        assert!(!won.is_null() && lost.iter().filter(|own| own.is_null()).count() == 1);
        lost[0].is_null()
    });
    assert_eq!(seen, [false, true]);
}

#[test]
fn what_is_taken_to_be_ones_own_may_not_be_shared() {
    let program = |joins: bool| {
        move || {
            let word = Arc::new(AtomicUsize::new(0));
            let other = Arc::clone(&word);
            let thread = thread::spawn(move || other.store(1, Release));
            if joins {
                thread.join().unwrap();
            }
            // SAFETY: none if the thread was not joined.
            #[expect(unsafe_code, reason = "what is wrong here is what is tested")]
            unsafe {
                word.unsync_load();
            }
        }
    };
    loom::model(program(true));
    let message = failure(program(false));
    expect(
        &message,
        &["Causality violation", "has x", "to itself at tests/facade/litmus.rs", "unordered"],
    );
}
