//! The host engine: right programs run through, failing ones are caught, deadlocks end.

#[expect(dead_code, reason = "some programs need a checker: races, and loops that never end")]
mod litmus;
mod unwinding;

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::time::Duration;

use litmus::{failed, good, set};
use weft_backend_loom::chosen::EngineName;
use weft_backend_loom::engine::{Exploration, FailureKind, Search, Verdict};
use weft_backend_loom::threads::Threads;

const EXECUTIONS: u64 = 500;

fn search(cpus: usize) -> Search {
    Search {
        time: Duration::from_secs(60),
        wait_max: Duration::from_secs(60),
        executions: Some(EXECUTIONS),
        ..Search::new(cpus)
    }
}

fn sampled(exploration: &Exploration) {
    good(exploration);
    assert_eq!(exploration.verdict, Verdict::Sampled(EXECUTIONS), "{exploration:?}");
}

#[test]
fn forbidden_outcomes_do_not_appear() {
    let (exploration, outcomes) = litmus::message_passing::<Threads>(&search(2), Release, Acquire);
    sampled(&exploration);
    assert!(outcomes.is_subset(&set(&[[0, 0], [0, 1], [1, 1]])), "{outcomes:?}");
    let (exploration, outcomes) = litmus::store_buffering::<Threads>(&search(2), [SeqCst; 2]);
    sampled(&exploration);
    assert!(outcomes.is_subset(&set(&[[0, 1], [1, 0], [1, 1]])), "{outcomes:?}");
}

#[test]
fn a_lock_counts() {
    for cpus in [1, 2, 3] {
        let (exploration, outcomes) =
            litmus::counting_under_a_lock::<Threads>(&search(cpus), Acquire, Release);
        sampled(&exploration);
        for outcome in outcomes {
            let mut found = outcome.clone();
            found.sort_unstable();
            assert_eq!(found, (0..cpus as u64).collect::<Vec<_>>(), "{outcome:?}");
        }
    }
}

#[test]
fn a_waiter_that_loads_goes_on() {
    let (exploration, outcomes) = litmus::waiting_for_a_flag::<Threads>(&search(3));
    sampled(&exploration);
    assert_eq!(outcomes, set(&[[7, 7]]));
}

#[test]
fn a_failure_is_caught_and_has_a_place() {
    // Which execution fails is up to the host, but with the CPUs in step one soon does.
    let patient = Search { executions: Some(1_000_000), ..search(2) };
    let (exploration, _) = litmus::seeing_the_flag_fails::<Threads>(&patient);
    failed(&exploration, FailureKind::Violation, "the flag was seen");
    let failure = exploration.failure.expect("it failed");
    assert_eq!((failure.cpu, failure.token), (Some(1), None));
    assert!(failure.location.is_some_and(|place| place.contains("litmus/mod.rs")));
}

#[test]
fn a_deadlock_ends() {
    let impatient = Search { wait_max: Duration::from_millis(200), ..search(2) };
    let (exploration, _) = litmus::forgotten_unlock::<Threads>(&impatient);
    failed(&exploration, FailureKind::Deadlock, "waits at ");
    assert_eq!(exploration.executions, 1);
}

#[test]
fn misuses_are_refused() {
    let violation = FailureKind::Violation;
    failed(&litmus::misuse::<Threads>(&search(1), Relaxed).0, violation, "UpdatedOnly");
    failed(&litmus::misuse::<Threads>(&search(1), SeqCst).0, violation, "SeqCst access");
    let exploration = litmus::numbers_of_cpus::<Threads>(&search(9));
    failed(&exploration, FailureKind::Internal, "1 to 8 CPUs");
    let replay = Search { replay: Some("a2".to_owned()), ..search(2) };
    let exploration = litmus::numbers_of_cpus::<Threads>(&replay);
    failed(&exploration, FailureKind::Internal, "cannot be replayed");
}

#[test]
fn operations_of_a_destructor_are_inert() {
    unwinding::destructors_are_inert(EngineName::Threads);
}

#[test]
fn every_cpu_knows_its_number() {
    for cpus in 1..=8 {
        sampled(&litmus::numbers_of_cpus::<Threads>(&search(cpus)));
    }
}
