//! The loom engine: complete outcome sets, failures, and honest ends.

mod litmus;
mod unwinding;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::time::Duration;

use litmus::{failed, good, set};
use weft_backend_loom::chosen::EngineName;
use weft_backend_loom::engine::{
    Access, Body, Engine, EngineWord, Execution, Exploration, FailureKind, Program, Progress,
    Search, Verdict,
};
use weft_backend_loom::loom::Loom;
use weft_backend_loom::shuttle::Shuttle;

fn search(cpus: usize) -> Search {
    Search { time: Duration::from_secs(60), ..Search::new(cpus) }
}

fn exhausted(exploration: &Exploration) {
    good(exploration);
    assert_eq!(exploration.verdict, Verdict::Exhausted, "{exploration:?}");
}

#[test]
fn message_passing_needs_both_orderings() {
    let all = set(&[[0, 0], [0, 1], [1, 0], [1, 1]]);
    let ordered = set(&[[0, 0], [0, 1], [1, 1]]);
    for (write, read, expected) in [
        (Relaxed, Relaxed, &all),
        (Release, Relaxed, &all),
        (Relaxed, Acquire, &all),
        (Release, Acquire, &ordered),
    ] {
        let (exploration, outcomes) = litmus::message_passing::<Loom>(&search(2), write, read);
        exhausted(&exploration);
        assert_eq!(&outcomes, expected, "{write:?} {read:?}");
    }
    let (exploration, outcomes) = litmus::message_passing_with_fences::<Loom>(&search(2));
    exhausted(&exploration);
    assert_eq!(outcomes, ordered);
}

#[test]
fn store_buffering_needs_both_fences() {
    let all = set(&[[0, 0], [0, 1], [1, 0], [1, 1]]);
    let ordered = set(&[[0, 1], [1, 0], [1, 1]]);
    for (fences, expected) in [
        ([Relaxed, Relaxed], &all),
        ([SeqCst, Relaxed], &all),
        ([AcqRel, AcqRel], &all),
        ([SeqCst, SeqCst], &ordered),
    ] {
        let (exploration, outcomes) = litmus::store_buffering::<Loom>(&search(2), fences);
        exhausted(&exploration);
        assert_eq!(&outcomes, expected, "{fences:?}");
    }
}

#[test]
fn reads_of_one_word_do_not_go_back() {
    let (exploration, outcomes) = litmus::read_read_coherence::<Loom>(&search(2));
    exhausted(&exploration);
    assert_eq!(outcomes, set(&[[0, 0], [0, 1], [1, 1]]));
}

#[test]
fn causality_is_kept_over_three_cpus() {
    let (exploration, outcomes) = litmus::causality_over_three_cpus::<Loom>(&search(3));
    exhausted(&exploration);
    assert_eq!(outcomes.len(), 7, "{outcomes:?}");
    assert!(!outcomes.contains(&vec![1, 1, 0]));
}

#[test]
fn a_lock_counts() {
    for cpus in [2, 3] {
        let (exploration, outcomes) =
            litmus::counting_under_a_lock::<Loom>(&search(cpus), Acquire, Release);
        exhausted(&exploration);
        let orders = (1..=cpus).product::<usize>();
        assert_eq!(outcomes.len(), orders, "{outcomes:?}");
    }
}

#[test]
fn a_lock_without_orderings_races() {
    for (acquire, release) in [(Relaxed, Release), (Acquire, Relaxed)] {
        let (exploration, _) = litmus::counting_under_a_lock::<Loom>(&search(2), acquire, release);
        failed(&exploration, FailureKind::Violation, "data race: CPU ");
    }
}

#[test]
fn a_waiter_that_loads_is_woken() {
    let (exploration, outcomes) = litmus::waiting_for_a_flag::<Loom>(&search(2));
    exhausted(&exploration);
    assert_eq!(outcomes, set(&[[7]]));
    let (exploration, outcomes) = litmus::waiting_for_a_flag::<Loom>(&search(3));
    exhausted(&exploration);
    assert_eq!(outcomes, set(&[[7, 7]]));
}

#[test]
fn plain_cells_need_ordered_accesses() {
    let (exploration, outcomes) =
        litmus::plain_message_passing::<Loom>(&search(2), Release, Acquire);
    exhausted(&exploration);
    assert_eq!(outcomes, set(&[[0], [2]]));
    for (write, read) in [(Relaxed, Acquire), (Release, Relaxed)] {
        let (exploration, _) = litmus::plain_message_passing::<Loom>(&search(2), write, read);
        failed(&exploration, FailureKind::Violation, "data race: CPU 1 reads a plain cell at ");
        let failure = exploration.failure.expect("it failed");
        assert!(failure.message.contains("CPU 0 wrote at "), "{failure:?}");
        let place = failure.location.expect("a race has a place");
        assert!(place.contains("litmus/mod.rs"), "{place}");
        assert_eq!(failure.cpu, Some(1));
    }
    let fenced = litmus::plain_message_passing_with_fences::<Loom>;
    exhausted(&fenced(&search(2), Release, Acquire).0);
    failed(&fenced(&search(2), Relaxed, Acquire).0, FailureKind::Violation, "data race");
    failed(&fenced(&search(2), Release, Relaxed).0, FailureKind::Violation, "data race");
    let behind = litmus::plain_write_behind_its_fence::<Loom>(&search(2));
    failed(&behind.0, FailureKind::Violation, "data race");
}

#[test]
fn deadlocks_are_told_from_violations() {
    let (exploration, _) = litmus::opposite_lock_orders::<Loom>(&search(2));
    failed(&exploration, FailureKind::Deadlock, "deadlock: CPU 0 waits at ");
    failed(&exploration, FailureKind::Deadlock, "; CPU 1 waits at ");
    let (exploration, _) = litmus::forgotten_unlock::<Loom>(&search(2));
    failed(&exploration, FailureKind::Deadlock, "deadlock: CPU ");
}

#[test]
fn a_failure_tells_place_and_token_and_replays() {
    let [exploration, again] = litmus::a_failure_replays::<Loom>(&search(2));
    assert_eq!(again.executions, exploration.executions);

    let bounded = Search { preemptions: Some(1), ..search(2) };
    let (exploration, _) = litmus::opposite_lock_orders::<Loom>(&bounded);
    let failure = exploration.failure.expect("one preemption is enough");
    let replay = Search { replay: failure.token.clone(), ..search(2) };
    assert_eq!(litmus::opposite_lock_orders::<Loom>(&replay).0.failure, Some(failure));
}

#[test]
fn a_search_that_is_cut_short_says_so() {
    let long = |search: &Search| litmus::counting_under_a_lock::<Loom>(search, Acquire, Release).0;
    let whole = long(&search(3));
    let by_count = long(&Search { executions: Some(40), ..search(3) });
    good(&by_count);
    assert_eq!(by_count.verdict, Verdict::CutShort { executions: 40, preemptions: None });
    assert_eq!(by_count.verdict.to_string(), "BOUNDED (cut at 40)");
    let by_time = long(&Search { time: Duration::ZERO, preemptions: Some(2), ..search(3) });
    assert_eq!(by_time.verdict.to_string(), "BOUNDED 2 (cut at 0)");
    // A budget of exactly the whole search is enough; one execution less is not.
    let exactly = long(&Search { executions: Some(whole.executions), ..search(3) });
    assert_eq!(exactly.verdict, Verdict::Exhausted);
    let one_less = Search { executions: Some(whole.executions - 1), ..search(3) };
    assert_ne!(long(&one_less).verdict, Verdict::Exhausted);
}

#[test]
fn a_slow_search_is_not_called_exhausted() {
    // Each execution takes some milliseconds, so the time is up long before the search ends and
    // long before a checker that looks at the clock every few thousand executions would notice.
    let slow: Program = Arc::new(|| {
        let word = Arc::new(<Loom as Engine>::Word::new(0, Access::Loaded));
        let cpus = [0, 1, 2].map(|_| {
            let word = Arc::clone(&word);
            Box::new(move || {
                for _ in 0..3 {
                    word.fetch_add(1, Relaxed);
                    std::hint::black_box((0..100_000_u64).fold(0, |a, b| a ^ b));
                }
            }) as Body
        });
        Execution { cpus: cpus.into(), finish: Box::new(|| {}) }
    });
    let exploration =
        Loom::explore(&Search { time: Duration::from_millis(200), ..search(3) }, slow);
    good(&exploration);
    let executions = exploration.executions;
    assert_eq!(exploration.verdict, Verdict::CutShort { executions, preemptions: None });
    assert!(exploration.elapsed < Duration::from_secs(30), "{exploration:?}");
}

#[test]
fn a_bounded_search_is_called_bounded() {
    let bounded = Search { preemptions: Some(1), ..search(3) };
    let (exploration, _) = litmus::counting_under_a_lock::<Loom>(&bounded, Acquire, Release);
    good(&exploration);
    assert_eq!(exploration.verdict.to_string(), "BOUNDED 1");
}

#[test]
fn an_endless_loop_passes_the_limit() {
    let small = Search { steps_max: 500, ..search(1) };
    let (exploration, _) = litmus::endless_loop::<Loom>(&small);
    failed(&exploration, FailureKind::Limit, "maximum number of branches");
}

#[test]
fn a_deep_recursion_passes_the_limit() {
    fn descend(levels: u64) -> u64 {
        let frame = std::hint::black_box([levels; 64]);
        if levels == 0 { frame[0] } else { descend(levels - 1) + std::hint::black_box(frame)[1] }
    }
    let deep: Program = Arc::new(|| {
        let only = Box::new(|| drop(std::hint::black_box(descend(1_000).to_string())));
        Execution { cpus: vec![only], finish: Box::new(|| {}) }
    });
    let exploration = Loom::explore(&search(1), deep);
    failed(&exploration, FailureKind::Limit, "32 KiB of stack");
}

#[test]
fn misuses_are_refused() {
    failed(&litmus::misuse::<Loom>(&search(1), Relaxed).0, FailureKind::Violation, "UpdatedOnly");
    failed(&litmus::misuse::<Loom>(&search(1), SeqCst).0, FailureKind::Violation, "SeqCst access");
    let (exploration, _) = litmus::endless_loop::<Loom>(&search(2));
    failed(&exploration, FailureKind::Internal, "the program has 1 CPUs, the search 2");
    let (exploration, _) = litmus::endless_loop::<Loom>(&search(5));
    failed(&exploration, FailureKind::Internal, "1 to 4 CPUs");
    let garbled = Search { replay: Some("p1e".to_owned()), ..search(2) };
    let (exploration, _) = litmus::seeing_the_flag_fails::<Loom>(&garbled);
    failed(&exploration, FailureKind::Internal, "malformed loom token");
}

#[test]
fn operations_of_a_destructor_are_inert() {
    unwinding::destructors_are_inert(EngineName::Loom);
}

#[test]
fn every_cpu_knows_its_number() {
    for cpus in 1..=4 {
        exhausted(&litmus::numbers_of_cpus::<Loom>(&search(cpus)));
    }
}

#[test]
fn a_word_with_too_many_values_is_mentioned() {
    let many: Program = Arc::new(|| {
        let word = <Loom as Engine>::Word::new(0, Access::Loaded);
        let only = Box::new(move || (1..=7).for_each(|value| word.store(value, Relaxed)));
        Execution { cpus: vec![only], finish: Box::new(|| {}) }
    });
    let exploration = Loom::explore(&search(1), many);
    exhausted(&exploration);
    assert!(exploration.caveats[0].starts_with("a loaded word took 8 values"), "{exploration:?}");
}

#[test]
fn progress_is_reported_and_counts_agree() {
    let seen = Arc::new(AtomicU64::new(0));
    let sink = Arc::clone(&seen);
    let counted = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&counted);
    let program: Program = Arc::new(move || {
        counter.fetch_add(1, Relaxed);
        let word = Arc::new(<Loom as Engine>::Word::new(0, Access::Loaded));
        let cpus = [0, 1].map(|_| {
            let word = Arc::clone(&word);
            Box::new(move || {
                for _ in 0..20 {
                    word.fetch_add(1, Relaxed);
                }
            }) as Body
        });
        Execution { cpus: cpus.into(), finish: Box::new(|| {}) }
    });
    let progress: Progress = Arc::new(move |executions| sink.store(executions, Relaxed));
    let reported =
        Search { time: Duration::from_millis(300), progress: Some(progress), ..search(2) };
    let exploration = Loom::explore(&reported, program);
    good(&exploration);
    assert_eq!(exploration.executions, counted.load(Relaxed));
    let seen = seen.load(Relaxed);
    assert!(seen > 0 && seen <= exploration.executions, "{seen} of {exploration:?}");
}

#[test]
fn the_other_checker_is_refused_in_this_process() {
    exhausted(&litmus::numbers_of_cpus::<Loom>(&search(1)));
    let exploration = litmus::numbers_of_cpus::<Shuttle>(&search(1));
    failed(&exploration, FailureKind::Internal, "has run a search under loom and cannot run one");
}
