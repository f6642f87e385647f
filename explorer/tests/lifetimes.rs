//! What outlives a thread or an execution: destructors that wait, objects that were kept, and data
//! of a thread.

use std::cell::Cell;
use std::process::Command;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Arc, Mutex as StdMutex, OnceLock};

use weft_explorer::{
    Atomic, Failure, FailureKind, Mutex, Options, Plain, Verdict, choose, explore, spawn,
};

fn failure(program: impl Fn() + Send + Sync) -> Failure {
    let report = explore(&Options::default(), program);
    report.failure.unwrap_or_else(|| panic!("nothing fails: {:?}", report.verdict))
}

#[track_caller]
fn expect_kept(failure: &Failure, parts: &[&str]) {
    assert_eq!(failure.kind, FailureKind::Misuse, "{}", failure.message);
    for part in parts.iter().chain(&["was kept from an earlier execution", "lifetimes.rs:"]) {
        assert!(failure.message.contains(part), "`{part}` is missing in: {}", failure.message);
    }
}

/// Waits for a value when it is dropped.
struct Patient(Arc<Atomic>, u64);

impl Drop for Patient {
    fn drop(&mut self) {
        while self.0.load(Acquire) != self.1 {
            self.0.wait_for_change();
        }
    }
}

/// Takes a lock by exchange when it is dropped.
struct Exchanging(Arc<Atomic>);

impl Drop for Exchanging {
    fn drop(&mut self) {
        while self.0.swap(1, Acquire) != 0 {}
        self.0.store(0, Release);
    }
}

#[test]
fn a_destructor_that_waits_in_a_loop_ends_while_its_thread_unwinds() {
    let report = explore(&Options::default(), || {
        let (flag, lock) = (Arc::new(Atomic::new(0)), Arc::new(Atomic::new(0)));
        let writer = Arc::clone(&flag);
        let (patient, exchanging) = (Patient(Arc::clone(&flag), 3), Exchanging(lock));
        let waiter = spawn(move || {
            let _both = (patient, exchanging);
            _both.0.0.await_eq(3, Acquire);
        });
        let writer = spawn(move || writer.store(3, Release));
        waiter.join();
        writer.join();
    });
    let found = (report.verdict, report.executions, report.blocked);
    assert_eq!(found, (Verdict::Exhausted, 1, 1), "{report}");
}

const ENDLESS: &str = "WEFT_EXPLORER_TEST_ENDLESS";

#[test]
fn a_destructor_that_nothing_ends_ends_the_process_with_a_sentence() {
    if std::env::var_os(ENDLESS).is_some() {
        failure(|| {
            let word = Arc::new(Atomic::new(0));
            let _patient = Patient(word, u64::MAX);
            panic!("the destructor runs while this unwinds");
        });
        return;
    }
    let name = "a_destructor_that_nothing_ends_ends_the_process_with_a_sentence";
    let mut child = Command::new(std::env::current_exe().expect("a test has an executable"));
    let ended = child.args(["--exact", name]).env(ENDLESS, "").output().expect("it starts");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(70), "{said}");
    for part in ["a destructor waits for ever at", "lifetimes.rs:", "std::thread::panicking()"] {
        assert!(said.contains(part), "`{part}` is missing in: {said}");
    }
}

#[test]
fn an_object_kept_by_its_own_thread_is_refused_by_name() {
    let kept = OnceLock::new();
    let found = failure(|| {
        choose(2);
        let word = kept.get_or_init(|| Arc::new(Atomic::named("flag", 0)));
        word.store(1, Relaxed);
    });
    expect_kept(&found, &["flag, made at"]);
}

#[test]
fn an_object_kept_by_another_thread_is_refused_when_the_execution_is_over() {
    let kept: OnceLock<Arc<Plain<u32>>> = OnceLock::new();
    let kept: &'static OnceLock<Arc<Plain<u32>>> = Box::leak(Box::new(kept));
    let found = failure(move || {
        let thread = spawn(move || {
            choose(2);
            kept.get_or_init(|| Arc::new(Plain::new(0)));
        });
        thread.join();
        kept.get().expect("it was made").get();
    });
    expect_kept(&found, &["x1, made at"]);
}

#[test]
fn a_kept_object_is_not_taken_for_a_new_one_with_its_number() {
    let kept = OnceLock::new();
    let found = failure(|| {
        choose(2);
        let old = kept.get_or_init(|| Arc::new(Atomic::new(0)));
        let _new = Atomic::new(0);
        old.store(1, Relaxed);
    });
    expect_kept(&found, &["x0, made at"]);
}

#[test]
fn creating_fewer_objects_than_before_is_noticed() {
    let made = StdMutex::new(Vec::new());
    let make = || Arc::new(Atomic::new(0));
    let found = failure(|| {
        let mut made = made.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if made.is_empty() {
            made.push(make());
        }
        make().store(0, Relaxed);
        choose(2);
    });
    assert_eq!(found.kind, FailureKind::Nondeterminism, "{}", found.message);
    assert!(
        found.message.contains("created 1 objects where it had created 2"),
        "{}",
        found.message
    );
}

#[test]
fn an_object_may_travel_in_a_mutex() {
    let report = explore(&Options::default(), || {
        let slot: Arc<Mutex<Option<Arc<Plain<u32>>>>> = Arc::new(Mutex::new(None));
        let giver = Arc::clone(&slot);
        let taker = Arc::clone(&slot);
        let takes = spawn(move || taker.lock().take().map(|cell| cell.get()));
        let gives = spawn(move || {
            let cell = Arc::new(Plain::new(0));
            cell.set(7);
            *giver.lock() = Some(cell);
        });
        assert!([None, Some(7)].contains(&takes.join()));
        gives.join();
    });
    assert_eq!((report.verdict, report.executions), (Verdict::Exhausted, 2), "{report}");
}

#[test]
fn threads_that_wait_unwind_when_the_execution_is_over_and_the_main_thread_last() {
    struct Notes(Arc<StdMutex<Vec<&'static str>>>, &'static str);
    impl Drop for Notes {
        fn drop(&mut self) {
            self.0.lock().expect("no panic holds it").push(self.1);
        }
    }
    let order = Arc::new(StdMutex::new(Vec::new()));
    failure(|| {
        let note = |what| Notes(Arc::clone(&order), what);
        let (word, _main) = (Arc::new(Atomic::new(0)), note("main"));
        let (first, second) = (Arc::clone(&word), Arc::clone(&word));
        let (first_note, second_note) = (note("first"), note("second"));
        spawn(move || {
            let _note = first_note;
            first.await_eq(1, Acquire);
        });
        spawn(move || {
            let note = second_note;
            second.store(2, Relaxed);
            drop(note);
        });
        word.await_eq(3, Acquire);
    });
    let order = order.lock().expect("no panic holds it");
    assert_eq!(order[..3], ["second", "first", "main"]);
}

weft_explorer::thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static LEFT: Leaver = Leaver(Cell::new(None));
}

/// Says in a word of the program that its thread has ended.
struct Leaver(Cell<Option<Arc<Atomic>>>);

impl Drop for Leaver {
    fn drop(&mut self) {
        if let Some(word) = self.0.take() {
            word.fetch_add(1, Release);
        }
    }
}

#[test]
fn every_thread_of_every_execution_has_data_of_its_own() {
    let report = explore(&Options { workers: 2, ..Options::default() }, || {
        let word = Arc::new(Atomic::new(0));
        let others = [(); 2].map(|()| {
            let word = Arc::clone(&word);
            spawn(move || {
                assert_eq!(COUNT.replace_with(1), 0, "another thread's or execution's data");
                word.fetch_add(1, Relaxed);
                assert_eq!(COUNT.replace_with(2), 1);
            })
        });
        assert_eq!(COUNT.replace_with(3), 0);
        others.into_iter().for_each(|other| other.join());
        assert_eq!(COUNT.replace_with(4), 3);
    });
    assert_eq!((report.verdict, report.executions), (Verdict::Exhausted, 2));
}

trait Replace {
    fn replace_with(&'static self, value: u64) -> u64;
}

impl Replace for weft_explorer::LocalKey<Cell<u64>> {
    fn replace_with(&'static self, value: u64) -> u64 {
        self.with(|count| count.replace(value))
    }
}

#[test]
fn a_threads_data_is_dropped_before_it_is_joined() {
    let report = explore(&Options::default(), || {
        let word = Arc::new(Atomic::new(0));
        let own = Arc::clone(&word);
        spawn(move || LEFT.with(|left| left.0.set(Some(own)))).join();
        assert_eq!(word.load(Relaxed), 1);
    });
    assert_eq!((report.verdict, report.executions), (Verdict::Exhausted, 1), "{report}");
}

#[test]
fn reports_call_objects_by_their_names() {
    let found = failure(|| {
        let shared = Arc::new((Plain::named("data", 0_u8), Mutex::named("owner", ())));
        let other = Arc::clone(&shared);
        let thread = spawn(move || {
            drop(other.1.lock());
            other.0.set(1);
        });
        shared.0.set(2);
        thread.join();
    });
    assert!(found.message.contains("a plain write to data at"), "{}", found.message);
    let text = found.to_string();
    for part in ["lock owner", "data = 0x2"] {
        assert!(text.contains(part), "`{part}` is missing in:\n{text}");
    }
}
