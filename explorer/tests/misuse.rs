//! Mistakes in programs and calls: each gets one sentence that says what to do, and no abort.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Arc, Mutex as StdMutex};

use weft_explorer::{
    Atomic, Failure, FailureKind, Mutex, Options, Plain, Token, TokenError, Verdict, choose,
    explore, fence, replay, spawn,
};

fn failure(program: impl Fn() + Send + Sync) -> Failure {
    let report = explore(&Options::default(), program);
    assert_eq!(report.verdict, Verdict::Failed);
    report.failure.expect("a failed report has a failure")
}

#[track_caller]
fn expect(failure: &Failure, kind: FailureKind, parts: &[&str]) {
    assert_eq!(failure.kind, kind, "{}", failure.message);
    for part in parts {
        assert!(failure.message.contains(part), "`{part}` is missing in: {}", failure.message);
    }
    assert!(!failure.message.contains('\n'), "one sentence: {}", failure.message);
}

#[test]
fn an_unbounded_loop_is_named_with_its_operation() {
    let found = failure(|| {
        let word = Atomic::new(0);
        while word.load(Relaxed) != 1 {}
    });
    let parts = ["thread 0", "a load of x0 (Relaxed)", "misuse.rs:", "wait_for_change"];
    expect(&found, FailureKind::UnboundedLoop, &parts);
    assert!(found.at.is_some_and(|place| place.file.ends_with("misuse.rs")));
}

#[test]
fn more_than_eight_threads_are_refused() {
    let found = failure(|| {
        for _ in 0..8 {
            spawn(|| ());
        }
    });
    expect(&found, FailureKind::Misuse, &["at most 8 threads", "misuse.rs:"]);
    fn nest() {
        spawn(nest).join();
    }
    expect(&failure(nest), FailureKind::Misuse, &["at most 8 threads", "misuse.rs:"]);
}

#[test]
fn objects_of_another_exploration_are_refused() {
    let kept = StdMutex::new(None);
    explore(&Options::default(), || {
        *kept.lock().expect("no panic holds it") = Some(Arc::new(Atomic::new(0)));
    });
    let kept = kept.into_inner().expect("no panic holds it").expect("it was kept");
    let found = failure(|| {
        kept.load(Relaxed);
    });
    expect(&found, FailureKind::Misuse, &["object of another exploration", "inside the program"]);
}

#[test]
#[should_panic(expected = "create and use them in the closure that is given to `explore`")]
fn use_outside_a_program_panics_with_advice() {
    Atomic::new(0);
}

#[test]
fn nested_explorations_are_refused() {
    let inner = StdMutex::new(None);
    let report = explore(&Options::default(), || {
        let report = explore(&Options::default(), || ());
        *inner.lock().expect("no panic holds it") = report.failure;
    });
    assert_eq!(report.verdict, Verdict::Exhausted);
    let inner = inner.into_inner().expect("no panic holds it").expect("refused");
    expect(&inner, FailureKind::Misuse, &["inside a program that is being explored"]);
}

#[test]
fn impossible_orders_are_refused() {
    let refuse = |program: fn(&Atomic) -> u64| {
        failure(move || {
            program(&Atomic::new(0));
        })
    };
    let cases: [(Failure, &str); 5] = [
        (refuse(|word| word.load(Release)), "use Acquire or Relaxed"),
        (
            refuse(|word| {
                word.store(0, Acquire);
                0
            }),
            "use Release or Relaxed",
        ),
        (
            refuse(|word| word.compare_exchange(0, 1, Relaxed, Release).unwrap_or(0)),
            "use Acquire or Relaxed",
        ),
        (
            refuse(|_| {
                fence(Relaxed);
                0
            }),
            "leave it out",
        ),
        (refuse(|_| choose(0)), "give at least 1"),
    ];
    for (found, advice) in &cases {
        expect(found, FailureKind::Misuse, &[advice, "misuse.rs:"]);
    }
}

#[test]
fn waiting_for_a_change_of_something_that_was_not_read_is_refused() {
    let found = failure(|| {
        let word = Atomic::new(0);
        word.store(1, Relaxed);
        word.wait_for_change();
    });
    expect(&found, FailureKind::Misuse, &["wait_for_change must directly follow a load"]);
}

#[test]
fn hidden_shared_state_is_named_by_the_first_event_that_differs() {
    let found = failure(|| {
        let words = Arc::new((Atomic::new(0), Atomic::new(0)));
        let hidden = Arc::new(AtomicU64::new(0));
        let (shared, leak) = (Arc::clone(&words), Arc::clone(&hidden));
        let thread = spawn(move || {
            let word = if leak.load(Relaxed) == 1 { &shared.1 } else { &shared.0 };
            word.store(1, Relaxed);
        });
        if words.0.load(Relaxed) == 0 && words.1.load(Relaxed) == 0 {
            hidden.store(1, Relaxed);
        }
        thread.join();
    });
    let parts = ["event 0 of thread 1 was a store of 1 to x", "and now is a store of 1 to x"];
    expect(&found, FailureKind::Nondeterminism, &parts);
}

#[test]
fn a_thread_that_ends_early_the_second_time_is_noticed() {
    let runs = Arc::new(AtomicU64::new(0));
    let found = failure(move || {
        let first = runs.fetch_add(1, Relaxed) == 0;
        let word = Arc::new(Atomic::new(0));
        let writer = Arc::clone(&word);
        let thread = spawn(move || {
            writer.store(1, Relaxed);
            if first {
                writer.store(2, Relaxed);
            }
        });
        word.load(Relaxed);
        thread.join();
        choose(2);
    });
    expect(&found, FailureKind::Nondeterminism, &["the end of the thread", "a store of 2"]);
}

#[test]
fn a_data_race_names_both_accesses() {
    let found = failure(|| {
        let cell = Arc::new(Plain::new(0u8));
        let writer = Arc::clone(&cell);
        let thread = spawn(move || writer.set(1));
        cell.get();
        thread.join();
    });
    let parts = ["a plain write to x0", "by thread 1", "a plain read of x0", "by thread 0"];
    expect(&found, FailureKind::DataRace, &parts);
    assert_eq!(found.message.matches("misuse.rs:").count(), 2, "{}", found.message);
}

/// Acts when it is dropped, as guards and reference counts do.
struct Guard(Arc<Atomic>, Arc<Plain<u32>>);

impl Drop for Guard {
    fn drop(&mut self) {
        while self.0.compare_exchange(0, 1, Acquire, Relaxed).is_err() {
            self.0.wait_for_change();
        }
        self.1.set(self.1.get() + 1);
        assert_ne!(self.0.fetch_sub(1, Release), 0, "the guard held the lock");
    }
}

#[test]
fn destructors_are_inert_while_a_stopped_thread_unwinds() {
    let report = explore(&Options::default(), || {
        let (word, cell) = (Arc::new(Atomic::new(0)), Arc::new(Plain::new(0)));
        let flag = Arc::new(Atomic::new(0));
        let guard = Guard(Arc::clone(&word), Arc::clone(&cell));
        let waits = Arc::clone(&flag);
        let thread = spawn(move || {
            let guard = guard;
            waits.await_eq(1, Acquire);
            drop(guard);
        });
        let own = Guard(word, cell);
        flag.store(1, Release);
        drop(own);
        thread.join();
    });
    assert_eq!((report.verdict, report.executions), (Verdict::Exhausted, 2));
    let found = failure(|| {
        let _guard = Guard(Arc::new(Atomic::new(0)), Arc::new(Plain::new(0)));
        let mutex = Mutex::new(0);
        let _locked = mutex.lock();
        panic!("the program fails with guards alive");
    });
    assert_eq!(found.message, "the program fails with guards alive");
}

/// Counts its copies in an engine word.
struct Counted(Arc<Atomic>);

impl Clone for Counted {
    fn clone(&self) -> Counted {
        self.0.fetch_add(1, Relaxed);
        Counted(Arc::clone(&self.0))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[test]
fn data_of_a_mutex_may_use_the_engine_itself() {
    let report = explore(&Options::default(), || {
        let count = Arc::new(Atomic::new(1));
        let mutex = Arc::new(Mutex::new(vec![Counted(count)]));
        let other = Arc::clone(&mutex);
        let thread = spawn(move || other.with(|data| data.len()));
        mutex.with(Vec::clear);
        assert!(thread.join() <= 1, "the data is there or not");
    });
    assert_eq!(report.verdict, Verdict::Exhausted, "{report}");
    let found = failure(|| {
        let mutex = Mutex::new(vec![Counted(Arc::new(Atomic::new(1)))]);
        let _locked = mutex.lock();
        panic!("the program fails while data is locked");
    });
    assert_eq!(found.message, "the program fails while data is locked");
}

/// Explores when it is dropped.
struct Explorer(Arc<StdMutex<Option<Failure>>>);

impl Drop for Explorer {
    fn drop(&mut self) {
        let failure = explore(&Options::default(), || ()).failure;
        *self.0.lock().expect("no panic holds it") = failure;
    }
}

#[test]
fn exploring_while_panicking_is_refused() {
    let found = Arc::new(StdMutex::new(None));
    let explorer = Explorer(Arc::clone(&found));
    let panicking = std::thread::spawn(move || {
        let _explorer = explorer;
        std::panic::resume_unwind(Box::new("unwinds"));
    });
    assert!(panicking.join().is_err());
    let found = found.lock().expect("no panic holds it").take().expect("refused");
    expect(&found, FailureKind::Misuse, &["by a destructor of a panicking thread"]);
}

/// Locks a mutex when it is dropped.
struct Locker(Arc<Mutex<u32>>);

impl Drop for Locker {
    fn drop(&mut self) {
        *self.0.lock() += 1;
    }
}

#[test]
fn a_mutex_may_be_locked_by_destructors_of_a_stopped_thread() {
    let report = explore(&Options::default(), || {
        let (mutex, word) = (Arc::new(Mutex::new(0)), Arc::new(Atomic::new(0)));
        let (locker, waits) = (Locker(Arc::clone(&mutex)), Arc::clone(&word));
        let thread = spawn(move || {
            let _locker = locker;
            waits.await_ne(0, Acquire);
        });
        word.store(1, Release);
        thread.join();
        assert_eq!(*mutex.lock(), 1, "the thread that unwound has not counted");
    });
    assert_eq!((report.verdict, report.executions), (Verdict::Exhausted, 1));
}

fn racing() {
    let word = Arc::new(Atomic::new(0));
    let writer = Arc::clone(&word);
    let thread = spawn(move || writer.store(1, Relaxed));
    assert_eq!(word.load(Relaxed), 0, "the store was seen");
    thread.join();
}

#[test]
fn tokens_of_other_programs_are_refused() {
    let token = failure(racing).token;
    let other = replay(&Options::default(), &token, || {
        let word = Arc::new(Atomic::new(0));
        let writer = Arc::clone(&word);
        let thread = spawn(move || writer.store(2, Relaxed));
        assert_eq!(word.load(Relaxed), 0, "the store was seen");
        thread.join();
    });
    let failure = other.failure.expect("a refusal is a failure");
    expect(&failure, FailureKind::Misuse, &["the token belongs to another program"]);
    let fixed = replay(&Options::default(), &token, || {
        let word = Arc::new(Atomic::new(0));
        let writer = Arc::clone(&word);
        let thread = spawn(move || writer.store(1, Relaxed));
        word.load(Relaxed);
        thread.join();
    });
    let failure = fixed.failure.expect("a refusal is a failure");
    expect(&failure, FailureKind::Misuse, &["does not fail"]);
    let nothing = replay(&Options::default(), &token, || ());
    let failure = nothing.failure.expect("a refusal is a failure");
    expect(&failure, FailureKind::Misuse, &["the token belongs to another program"]);
}

#[test]
fn malformed_tokens_are_errors() {
    let token = failure(racing).token.to_string();
    assert_eq!(token.parse::<Token>().map(|token| token.to_string()), Ok(token.clone()));
    let part = |text: &str| Err(TokenError::Part(text.to_owned()));
    let cases = [
        ("", Err(TokenError::Model(String::new()))),
        ("x86-00000000-0:1", Err(TokenError::Model("x86-00000000-0:1".to_owned()))),
        ("rc11-12-0:1", Err(TokenError::Fingerprint("12".to_owned()))),
        ("rc11-0000000g-0:1", Err(TokenError::Fingerprint("0000000g".to_owned()))),
        ("rc11-00000000-9:1", part("9:1")),
        ("rc11-00000000-0.1<9.0", part("0.1<9.0")),
        ("rc11-00000000-0.1<", part("0.1<")),
        ("rc11-00000000-0:1,", part("")),
        ("rc11-00000000-0.70000@1", part("0.70000@1")),
        ("rc11-00000000-nonsense", part("nonsense")),
    ];
    for (text, expected) in cases {
        let error = text.parse::<Token>().map(|_| ());
        assert_eq!(error, expected, "{text}");
        let sentence = error.expect_err("malformed").to_string();
        assert!(sentence.contains("copy it whole from the report"), "{sentence}");
    }
}

#[test]
fn an_arena_that_is_not_the_allocator_is_refused() {
    let options = Options { arena: true, ..Options::default() };
    let found = explore(&options, || ()).failure.expect("it is refused");
    expect(&found, FailureKind::Misuse, &["declare `#[global_allocator] static ARENA"]);
}
