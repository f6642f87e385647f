//! The arena: addresses that are the same in every run, and what is done wrong with memory.

use std::sync::Arc as StdArc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicUsize};

use weft_explorer::{
    Arena, Atomic, Failure, FailureKind, Options, Report, Verdict, assume, choose, explore, replay,
    spawn,
};

#[global_allocator]
static ARENA: Arena = Arena;

fn explore_all(program: impl Fn() + Send + Sync) -> Report {
    let options = Options { arena: true, find_duplicates: true, ..Options::default() };
    explore(&options, program)
}

#[track_caller]
fn failure(program: impl Fn() + Send + Sync) -> Failure {
    let failure = explore_all(&program).failure.expect("it fails");
    let options = Options { arena: true, ..Options::default() };
    let again = replay(&options, &failure.token, &program).failure.expect("it fails again");
    assert_eq!((&again.message, again.token), (&failure.message, failure.token.clone()));
    failure
}

#[track_caller]
fn expect(failure: &Failure, parts: &[&str]) {
    assert_eq!(failure.kind, FailureKind::Violation, "{}", failure.message);
    for part in parts {
        assert!(failure.message.contains(part), "`{part}` is missing in: {}", failure.message);
    }
}

/// A node of a stack, in memory of its own.
struct Node {
    value: u64,
    next: u64,
}

impl Node {
    fn at(address: u64) -> Option<Box<Node>> {
        let node = std::ptr::with_exposed_provenance_mut::<Node>(address as usize);
        (!node.is_null()).then(|| take(node))
    }
}

#[expect(unsafe_code, reason = "the stack owns its nodes by their addresses")]
fn take(node: *mut Node) -> Box<Node> {
    // SAFETY: `push` has leaked the box, and only the last thread takes the stack apart.
    unsafe { Box::from_raw(node) }
}

/// A stack whose words are addresses.
struct Stack(Atomic);

fn address(node: Box<Node>) -> u64 {
    std::ptr::from_mut(Box::leak(node)).expose_provenance() as u64
}

impl Stack {
    fn push(&self, value: u64) {
        let mut next = self.0.load(Relaxed);
        loop {
            let node = address(Box::new(Node { value, next }));
            match self.0.compare_exchange(next, node, AcqRel, Relaxed) {
                Ok(_) => return,
                Err(newer) => next = newer,
            }
        }
    }
}

#[test]
fn an_address_is_the_same_in_every_run() {
    let report = explore_all(|| {
        let stack = StdArc::new(Stack(Atomic::new(0)));
        let others = [1, 2].map(|value| {
            let stack = StdArc::clone(&stack);
            spawn(move || stack.push(value))
        });
        others.into_iter().for_each(|other| other.join());
        let mut values = Vec::new();
        let mut next = stack.0.load(Acquire);
        while let Some(node) = Node::at(next) {
            values.push(node.value);
            next = node.next;
        }
        values.sort_unstable();
        assert_eq!(values, [1, 2]);
    });
    assert_eq!((report.verdict, report.duplicates), (Verdict::Exhausted, 0), "{report}");
    assert_eq!(report.executions, 4, "who comes first, and whether the other saw it at once");
}

#[test]
fn what_threads_that_wait_own_is_forgotten_with_them() {
    struct Counts(StdArc<AtomicUsize>);
    impl Drop for Counts {
        fn drop(&mut self) {
            self.0.fetch_add(1, Relaxed);
        }
    }
    let dropped = StdArc::new(AtomicUsize::new(0));
    let report = explore_all(|| {
        let counts = Counts(StdArc::clone(&dropped));
        let thread = spawn(move || {
            let _counts = counts;
            assume(choose(2) == 0);
        });
        thread.join();
    });
    assert_eq!((report.executions, report.blocked), (1, 1), "{report}");
    assert_eq!(dropped.load(Relaxed), 1, "in the complete execution only");
}

#[test]
fn freeing_twice_is_reported_with_all_places() {
    let found = failure(|| {
        let word = StdArc::new(Atomic::new(0));
        word.store(1, Relaxed);
        let boxed = std::ptr::from_mut(Box::leak(Box::new(7_u64))).expose_provenance();
        free(boxed);
        word.store(2, Relaxed);
        free(boxed);
    });
    let bytes = "8 bytes that were allocated by thread 0 behind";
    expect(&found, &["freed twice", bytes, "were freed by thread 0", "and again", "arena.rs:"]);
}

/// Frees a box of eight bytes as code that has no owner does.
#[expect(unsafe_code, reason = "what is wrong here is what is tested")]
fn free(address: usize) {
    // SAFETY: none, the second time; the arena does not give the memory out again.
    drop(unsafe { Box::from_raw(std::ptr::with_exposed_provenance_mut::<u64>(address)) });
}

#[test]
fn use_after_free_is_reported_with_both_places() {
    let found = failure(|| {
        let word = StdArc::new(Atomic::new(0));
        let boxed = std::ptr::from_mut(Box::leak(Box::new(7_u64)));
        let (address, writer) = (boxed.expose_provenance(), StdArc::clone(&word));
        let thread = spawn(move || {
            free(address);
            writer.store(1, Relaxed);
        });
        if word.load(Relaxed) == 1 {
            Arena::check("the box", std::ptr::with_exposed_provenance::<u64>(address));
        }
        thread.join();
    });
    let parts = ["use after free: the box at", "allocated by thread 0", "freed by thread 1 before"];
    expect(&found, &parts);
}

#[test]
fn freeing_is_a_write_that_uses_are_ordered_with() {
    let program = |order| {
        move || {
            let word = StdArc::new(Atomic::new(0));
            let boxed = std::ptr::from_mut(Box::leak(Box::new(7_u64)));
            let (address, user) = (boxed.expose_provenance(), StdArc::clone(&word));
            let thread = spawn(move || {
                Arena::check("the box", std::ptr::with_exposed_provenance::<u64>(address));
                user.store(1, order);
            });
            if word.load(Acquire) == 1 {
                free(address);
            }
            thread.join();
        }
    };
    assert_eq!(explore_all(program(Release)).verdict, Verdict::Exhausted);
    let found = failure(program(Relaxed));
    let parts = ["freed in use: 8 bytes", "freed by thread 0 behind", "their use by thread 1 at"];
    expect(&found, &parts);
}

#[test]
fn freed_memory_is_overwritten_and_not_given_out_again() {
    let report = explore_all(|| {
        choose(2);
        let boxed = Box::new([7_u64; 4]);
        let first = std::ptr::from_ref(&*boxed).addr();
        drop(boxed);
        let second = Box::new([8_u64; 4]);
        assert_ne!(first, std::ptr::from_ref(&*second).addr());
        let freed = std::ptr::with_exposed_provenance::<u64>(first);
        assert_eq!(read(freed), 0xdddd_dddd_dddd_dddd);
    });
    assert_eq!((report.verdict, report.executions), (Verdict::Exhausted, 2), "{report}");
}

#[expect(unsafe_code, reason = "what is freed is looked at")]
fn read(freed: *const u64) -> u64 {
    // SAFETY: the memory is mapped and was written by the arena, though it is no object any more.
    unsafe { freed.read_volatile() }
}

#[test]
fn what_has_to_be_freed_and_is_not_is_a_leak() {
    let program = |leaks: bool| {
        move || {
            let boxed = Box::new(1);
            Arena::owes(&*boxed);
            if leaks && choose(2) == 1 {
                Box::leak(boxed);
            }
        }
    };
    assert_eq!(explore_all(program(false)).verdict, Verdict::Exhausted);
    let found = failure(program(true));
    expect(&found, &["leak: what was made at", "arena.rs:", "is never freed"]);
}

#[test]
fn an_arena_that_runs_out_says_so() {
    let found = failure(|| {
        let boxes: Vec<Vec<u8>> = (0..40).map(|_| vec![1; 1 << 20]).collect();
        assert_eq!(boxes.len(), 40);
    });
    expect(&found, &["the arena of thread 0 has run out", "give it less to do"]);
}

#[test]
fn an_arena_is_refused_to_several_workers() {
    let options = Options { arena: true, workers: 2, ..Options::default() };
    let found = explore(&options, || ()).failure.expect("it is refused");
    assert_eq!(found.message, "an arena serves one worker: explore with one");
}

#[test]
fn memory_of_the_host_stays_what_it_was() {
    // Grown by the program, and dropped after the exploration.
    let kept = std::sync::Mutex::new(Vec::with_capacity(1));
    let is_first = AtomicBool::new(true);
    let report = explore_all(|| {
        let value = choose(3);
        if is_first.swap(false, Relaxed) {
            kept.lock().expect("no panic holds it").extend(0..100 + value);
        }
    });
    assert_eq!(report.executions, 3, "{report}");
    assert_eq!(kept.into_inner().expect("no panic holds it").len(), 100);
}

#[test]
fn what_the_host_keeps_of_a_program_is_left_alone() {
    // Sets of lists: their memory is the program's, and each run makes one more list.
    let kept = StdArc::new(std::sync::Mutex::new(std::collections::BTreeSet::new()));
    let inside = StdArc::clone(&kept);
    let report = explore_all(move || {
        let head = StdArc::new(Atomic::new(0));
        let others = [1, 2].map(|value| {
            let head = StdArc::clone(&head);
            // What is leaked has the same address in every run, or the runs would differ.
            spawn(move || {
                head.compare_exchange(
                    0,
                    address(Box::new(Node { value, next: 0 })),
                    AcqRel,
                    Acquire,
                )
            })
        });
        let won = others.map(|other| u64::from(other.join().is_ok()));
        inside.lock().expect("no panic holds it").insert(won.to_vec());
    });
    assert_eq!((report.verdict, report.executions), (Verdict::Exhausted, 2), "{report}");
    let kept = kept.lock().expect("no panic holds it");
    assert_eq!(*kept, [vec![0, 1], vec![1, 0]].into());
}
