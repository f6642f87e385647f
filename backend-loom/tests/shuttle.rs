//! The shuttle engine: sequentially consistent outcomes, races found by clocks, and replay.

mod litmus;
mod unwinding;

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use litmus::{failed, good, set};
use weft_backend_loom::chosen::EngineName;
use weft_backend_loom::engine::{
    Body, Engine, EnginePlain, Execution, Exploration, FailureKind, Program, Search, Verdict,
};
use weft_backend_loom::loom::Loom;
use weft_backend_loom::shuttle::Shuttle;

const EXECUTIONS: u64 = 600;

fn search(cpus: usize) -> Search {
    Search {
        time: Duration::from_secs(60),
        executions: Some(EXECUTIONS),
        seed: 1,
        ..Search::new(cpus)
    }
}

fn sampled(exploration: &Exploration) {
    good(exploration);
    assert_eq!(exploration.verdict, Verdict::Sampled(EXECUTIONS), "{exploration:?}");
    assert_eq!(exploration.executions, EXECUTIONS);
}

#[test]
fn outcomes_are_those_of_sequential_consistency() {
    let ordered = set(&[[0, 0], [0, 1], [1, 1]]);
    let (exploration, outcomes) = litmus::message_passing::<Shuttle>(&search(2), Relaxed, Relaxed);
    sampled(&exploration);
    assert_eq!(outcomes, ordered);
    let (exploration, outcomes) = litmus::message_passing_with_fences::<Shuttle>(&search(2));
    sampled(&exploration);
    assert_eq!(outcomes, ordered);
    let (exploration, outcomes) = litmus::read_read_coherence::<Shuttle>(&search(2));
    sampled(&exploration);
    assert_eq!(outcomes, ordered);
    for fences in [[Relaxed, Relaxed], [AcqRel, Relaxed], [SeqCst, SeqCst]] {
        let (exploration, outcomes) = litmus::store_buffering::<Shuttle>(&search(2), fences);
        sampled(&exploration);
        assert_eq!(outcomes, set(&[[0, 1], [1, 0], [1, 1]]));
    }
    let (exploration, outcomes) = litmus::causality_over_three_cpus::<Shuttle>(&search(3));
    sampled(&exploration);
    assert_eq!(outcomes.len(), 7, "{outcomes:?}");
}

#[test]
fn a_lock_counts() {
    for cpus in [2, 3] {
        let (exploration, outcomes) =
            litmus::counting_under_a_lock::<Shuttle>(&search(cpus), Acquire, Release);
        sampled(&exploration);
        assert_eq!(outcomes.len(), (1..=cpus).product::<usize>(), "{outcomes:?}");
    }
}

#[test]
fn a_lock_without_orderings_races_at_once() {
    for (acquire, release) in [(Relaxed, Release), (Acquire, Relaxed)] {
        let (exploration, _) =
            litmus::counting_under_a_lock::<Shuttle>(&search(2), acquire, release);
        failed(&exploration, FailureKind::Violation, "data race: CPU ");
        // The clocks see it whichever CPU is first.
        assert_eq!(exploration.executions, 1, "{exploration:?}");
    }
}

#[test]
fn plain_cells_need_ordered_accesses() {
    let (exploration, outcomes) =
        litmus::plain_message_passing::<Shuttle>(&search(2), Release, Acquire);
    sampled(&exploration);
    assert_eq!(outcomes, set(&[[0], [2]]));
    for (write, read) in [(Relaxed, Acquire), (Release, Relaxed), (Relaxed, Relaxed)] {
        let (exploration, _) = litmus::plain_message_passing::<Shuttle>(&search(2), write, read);
        failed(&exploration, FailureKind::Violation, "data race: CPU 1 reads a plain cell at ");
        failed(&exploration, FailureKind::Violation, " that CPU 0 wrote at ");
        failed(&exploration, FailureKind::Violation, "CPU 1 last read a word of CPU 0 at ");
        let failure = exploration.failure.expect("it failed");
        assert_eq!(failure.message.matches("litmus/mod.rs").count(), 4, "{failure:?}");
        assert_eq!(failure.cpu, Some(1));
    }
}

#[test]
fn fences_order_relaxed_accesses() {
    let fenced = litmus::plain_message_passing_with_fences::<Shuttle>;
    for (write, read) in [(Release, Acquire), (SeqCst, SeqCst), (AcqRel, AcqRel)] {
        sampled(&fenced(&search(2), write, read).0);
    }
    for (write, read) in [(Relaxed, Acquire), (Release, Relaxed), (Acquire, Release)] {
        failed(&fenced(&search(2), write, read).0, FailureKind::Violation, "data race");
    }
    let behind = litmus::plain_write_behind_its_fence::<Shuttle>(&search(2));
    failed(&behind.0, FailureKind::Violation, "data race");
}

#[test]
fn unordered_accesses_race_even_if_they_never_meet() {
    // Both CPUs write and end; no interleaving shows more than the last value.
    let program: Program = Arc::new(|| {
        let plain = Arc::new(<Shuttle as Engine>::Plain::new(0));
        let cpus = [1, 2].map(|value| {
            let plain = Arc::clone(&plain);
            Box::new(move || plain.set(value)) as Body
        });
        Execution { cpus: cpus.into(), finish: Box::new(|| {}) }
    });
    let exploration = Shuttle::explore(&search(2), program);
    failed(&exploration, FailureKind::Violation, "writes a plain cell at ");
    failed(&exploration, FailureKind::Violation, "has read no word that CPU ");
}

#[test]
fn set_up_and_finish_are_ordered_with_all_cpus() {
    let sums = Arc::new(Mutex::new(Vec::new()));
    let collected = Arc::clone(&sums);
    let program: Program = Arc::new(move || {
        let cells: Arc<[_; 3]> = Arc::new([0, 1, 2].map(<Shuttle as Engine>::Plain::new));
        let cpus = (0..3)
            .map(|cpu: usize| {
                let cells = Arc::clone(&cells);
                Box::new(move || cells[cpu].set(cells[cpu].get() + 10)) as Body
            })
            .collect();
        let collected = Arc::clone(&collected);
        let finish = Box::new(move || {
            let sum = cells.iter().map(EnginePlain::get).sum::<u64>();
            collected.lock().expect("no test panics here").push(sum);
        });
        Execution { cpus, finish }
    });
    sampled(&Shuttle::explore(&search(3), program));
    let sums = sums.lock().expect("no test panics here");
    assert!(sums.len() == EXECUTIONS as usize && sums.iter().all(|sum| *sum == 33));
}

#[test]
fn a_waiter_that_loads_is_woken() {
    for cpus in [2, 3, 4] {
        let (exploration, outcomes) = litmus::waiting_for_a_flag::<Shuttle>(&search(cpus));
        sampled(&exploration);
        assert_eq!(outcomes.into_iter().collect::<Vec<_>>(), [vec![7; cpus - 1]]);
    }
}

#[test]
fn deadlocks_are_told_from_violations() {
    let (exploration, _) = litmus::opposite_lock_orders::<Shuttle>(&search(2));
    failed(&exploration, FailureKind::Deadlock, "deadlock: CPU 0 waits at ");
    failed(&exploration, FailureKind::Deadlock, "; CPU 1 waits at ");
    let replay = Search {
        replay: exploration.failure.as_ref().and_then(|failure| failure.token.clone()),
        ..search(2)
    };
    assert_eq!(litmus::opposite_lock_orders::<Shuttle>(&replay).0.failure, exploration.failure);
    let (exploration, _) = litmus::forgotten_unlock::<Shuttle>(&search(2));
    failed(&exploration, FailureKind::Deadlock, "deadlock: CPU ");
}

#[test]
fn a_failure_tells_place_and_token_and_replays() {
    let [_, again] = litmus::a_failure_replays::<Shuttle>(&search(2));
    assert_eq!(again.executions, 1);
}

#[test]
fn what_an_execution_draws_is_replayed() {
    let program: Program = Arc::new(|| {
        let cpu = || {
            Box::new(|| {
                let drawn = [100, 100, 100].map(Shuttle::draw);
                assert!(drawn[0] < 90, "drawn: {drawn:?}");
            }) as Body
        };
        Execution { cpus: vec![cpu(), cpu()], finish: Box::new(|| {}) }
    });
    let first = Shuttle::explore(&search(2), Arc::clone(&program)).failure;
    let first = first.expect("one draw in ten fails");
    let token = first.token.clone().expect("it can be replayed");
    let replay = |token| Search { replay: Some(token), ..search(2) };
    let again = Shuttle::explore(&replay(token.clone()), Arc::clone(&program));
    assert_eq!((again.executions, again.failure), (1, Some(first)));
    // The seed of the draws stands behind the choices: another one draws other numbers.
    let (choices, _) = token.split_once('-').expect("the execution has drawn");
    let others = (0..20).map(|seed| {
        let other = Shuttle::explore(&replay(format!("{choices}-{seed:x}")), Arc::clone(&program));
        other.failure.map(|failure| failure.message)
    });
    assert!(others.collect::<std::collections::BTreeSet<_>>().len() > 1);
}

#[test]
fn equal_seeds_make_equal_searches() {
    let tokens = [3, 3, 4, 5].map(|seed| {
        let (exploration, _) =
            litmus::opposite_lock_orders::<Shuttle>(&Search { seed, ..search(2) });
        (exploration.executions, exploration.failure.and_then(|failure| failure.token))
    });
    assert_eq!(tokens[0], tokens[1]);
    assert!(tokens.iter().any(|token| *token != tokens[0]), "{tokens:?}");
}

#[test]
fn a_search_that_runs_out_of_time_counts_what_it_ran() {
    let short = Search { time: Duration::from_millis(50), executions: None, ..search(3) };
    let (exploration, _) = litmus::counting_under_a_lock::<Shuttle>(&short, Acquire, Release);
    good(&exploration);
    assert_eq!(exploration.verdict, Verdict::Sampled(exploration.executions));
    assert_eq!(exploration.verdict.to_string(), format!("SAMPLED {}", exploration.executions));
    assert!(exploration.executions > 0 && exploration.depth > 0);
}

#[test]
fn an_endless_loop_passes_the_limit() {
    let small = Search { steps_max: 500, ..search(1) };
    let (exploration, _) = litmus::endless_loop::<Shuttle>(&small);
    failed(
        &exploration,
        FailureKind::Limit,
        "passed 500 scheduling points: a loop that does not wait?",
    );
}

#[test]
fn misuses_are_refused() {
    let violation = FailureKind::Violation;
    failed(&litmus::misuse::<Shuttle>(&search(1), Relaxed).0, violation, "UpdatedOnly");
    failed(&litmus::misuse::<Shuttle>(&search(1), SeqCst).0, violation, "SeqCst access");
    let (exploration, _) = litmus::endless_loop::<Shuttle>(&search(2));
    failed(&exploration, FailureKind::Internal, "the program has 1 CPUs, the search 2");
    let (exploration, _) = litmus::endless_loop::<Shuttle>(&search(9));
    failed(&exploration, FailureKind::Internal, "1 to 8 CPUs");
    for (token, part) in [("a2z", "malformed shuttle token"), ("b3", "did not follow")] {
        let replay = Search { replay: Some(token.to_owned()), ..search(2) };
        let (exploration, _) = litmus::seeing_the_flag_fails::<Shuttle>(&replay);
        failed(&exploration, FailureKind::Internal, part);
    }
}

#[test]
fn operations_of_a_destructor_are_inert() {
    unwinding::destructors_are_inert(EngineName::Shuttle);
}

#[test]
fn every_cpu_knows_its_number() {
    for cpus in 1..=8 {
        sampled(&litmus::numbers_of_cpus::<Shuttle>(&search(cpus)));
    }
}

#[test]
fn the_other_checker_is_refused_in_this_process() {
    sampled(&litmus::numbers_of_cpus::<Shuttle>(&search(1)));
    let exploration = litmus::numbers_of_cpus::<Loom>(&search(1));
    failed(&exploration, FailureKind::Internal, "has run a search under shuttle and cannot");
}
