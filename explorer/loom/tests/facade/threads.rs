//! Threads: parking, scopes, locals, statics, and loops that wait.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::{expect, failure, outcomes};
use loom::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use loom::sync::atomic::{AtomicBool, AtomicUsize};
use loom::sync::{Arc, Mutex};
use loom::thread;

#[test]
fn a_thread_parks_until_it_is_unparked() {
    let program = |unparks: bool| {
        move || {
            let ready = Arc::new(AtomicBool::new(false));
            let seen = Arc::clone(&ready);
            let thread = thread::spawn(move || {
                while !seen.load(Acquire) {
                    thread::park();
                }
            });
            ready.store(true, Release);
            if unparks {
                thread.thread().unpark();
            }
            thread.join().unwrap();
        }
    };
    loom::model(program(true));
    let message = failure(program(false));
    expect(&message, &["deadlock", "thread 1 waits", "facade/threads.rs"]);
}

#[test]
fn threads_have_names_and_need_not_be_sent() {
    loom::model(|| {
        let shared = Rc::new(Cell::new(0));
        let inside = Rc::clone(&shared);
        thread::spawn(move || inside.set(7)).join().unwrap();
        assert_eq!(shared.get(), 7);
        let named = thread::Builder::new().name("worker".to_owned());
        let named = named.spawn(|| thread::current().name().map(str::to_owned)).unwrap();
        let id = named.thread().id();
        assert_ne!(id, thread::current().id());
        assert_eq!(named.join().unwrap().as_deref(), Some("worker"));
    });
}

#[test]
fn scoped_threads_borrow_and_are_joined() {
    let seen = outcomes(|| {
        let words = [AtomicUsize::new(0), AtomicUsize::new(0)];
        let mut plain = vec![1, 2];
        let first = thread::scope(|scope| {
            let first = scope.spawn(|| words[0].fetch_add(1, Relaxed));
            scope.spawn(|| {
                scope.spawn(|| words[0].fetch_add(1, Relaxed));
                plain.push(3);
            });
            first.join().unwrap()
        });
        assert_eq!(plain, [1, 2, 3], "the second thread has ended");
        assert_eq!(words[0].load(Relaxed), 2, "and the one that it spawned");
        first
    });
    assert_eq!(seen, [0, 1]);
}

#[test]
fn each_thread_has_its_locals_and_drops_them() {
    struct Counts(RefCell<Option<Arc<AtomicUsize>>>);
    impl Drop for Counts {
        fn drop(&mut self) {
            if let Some(count) = self.0.take() {
                count.fetch_add(1, Relaxed);
                assert!(LOCAL.try_with(|_| ()).is_err(), "it is made again");
            }
        }
    }
    loom::thread_local! {
        static LOCAL: Counts = Counts(RefCell::new(None));
    }
    loom::model(|| {
        let count = Arc::new(AtomicUsize::new(0));
        let given = Arc::clone(&count);
        LOCAL.with(|local| assert!(local.0.borrow().is_none()));
        thread::spawn(move || LOCAL.with(|local| *local.0.borrow_mut() = Some(given)));
        if count.load(Relaxed) == 0 {
            thread::yield_now();
        }
        LOCAL.with(|local| assert!(local.0.borrow().is_none(), "it is another thread's"));
    });
}

#[test]
fn a_static_is_made_once_in_each_execution() {
    loom::lazy_static! {
        static ref MADE: AtomicUsize = AtomicUsize::new(0);
        static ref LIST: Mutex<Vec<Arc<usize>>> = {
            MADE.fetch_add(1, Relaxed);
            Mutex::new(Vec::new())
        };
    }
    let seen = outcomes(|| {
        let thread = thread::spawn(|| LIST.lock().unwrap().push(Arc::new(1)));
        LIST.lock().unwrap().push(Arc::new(0));
        thread.join().unwrap();
        assert_eq!(MADE.load(Relaxed), 1);
        LIST.lock().unwrap().iter().map(|value| **value).collect::<Vec<_>>()
    });
    assert_eq!(seen, [[0, 1], [1, 0]]);
}

#[test]
fn a_loop_that_yields_waits_and_one_that_never_ends_is_a_deadlock() {
    let program = |stores: bool| {
        move || {
            let words = Arc::new((AtomicBool::new(false), AtomicBool::new(!stores)));
            let other = Arc::clone(&words);
            thread::spawn(move || other.0.store(stores, Release));
            while !words.0.load(Acquire) {
                loom::hint::spin_loop();
            }
        }
    };
    loom::model(program(true));
    expect(&failure(program(false)), &["deadlock", "thread 0 waits", "facade/threads.rs"]);
}

#[test]
fn a_loop_that_gives_up_does_so_in_some_execution() {
    let seen = outcomes(|| {
        let ready = Arc::new(AtomicBool::new(false));
        let other = Arc::clone(&ready);
        thread::spawn(move || other.store(true, Release));
        for round in 0..3 {
            if ready.load(Acquire) {
                return round;
            }
            thread::yield_now();
        }
        9
    });
    assert_eq!(seen, [0, 1, 2, 9]);
}

#[test]
fn a_loop_that_does_nothing_is_named() {
    let message = failure(|| {
        loop {
            thread::yield_now();
        }
    });
    expect(&message, &["unbounded loop: thread 0", "facade/threads.rs"]);
}

#[test]
fn nine_threads_are_too_many() {
    let message = failure(|| {
        for _ in 0..8 {
            thread::spawn(|| ());
        }
    });
    expect(&message, &["at most 8 threads", "spawn fewer"]);
}
