//! Histories under the explorer, in every execution, and marks on the host's threads.

mod histories;
mod unwinding;

use std::sync::atomic::Ordering::{Acquire, Release};

use histories::{MapThenLook, MapVsRemap, UnmapVsRemembered, caught, good, marks};
use weft_backend_loom::chosen::EngineName;
use weft_backend_loom::engine::{MemoryModel, Verdict};
use weft_backend_loom::explorer::Explorer;
use weft_backend_loom::model::Model;
use weft_backend_loom::report::{Report, Request};
use weft_backend_loom::threads::Threads;
use weft_scenarios::Scenario;

fn explore<S: Scenario<Model>>() -> Report {
    histories::explore::<S>(EngineName::Explorer, Request::default())
}

#[test]
fn right_histories_pass_in_every_execution() {
    for report in [
        explore::<MapVsRemap<Model, true>>(),
        explore::<UnmapVsRemembered<Model, true>>(),
        explore::<MapThenLook<Model, true>>(),
    ] {
        good(&report);
        assert_eq!(report.verdict, Verdict::Exhausted, "{report:?}");
        assert!(report.observations.len() > 1, "{report:?}");
        println!("{} executions: {:?}", report.executions, report.observations);
    }
}

#[test]
fn a_lost_update_is_not_linearizable() {
    let report = explore::<MapVsRemap<Model, false>>();
    println!("{}", caught(&report));
    assert!(caught(&report).contains("map 0 to #9 = "), "{report:?}");
}

#[test]
fn what_only_happens_before_forbids_is_found() {
    let report = explore::<UnmapVsRemembered<Model, false>>();
    println!("{}", caught(&report));
    assert!(
        caught(&report).contains("\"unmap 0..2 = 1 frame\" of CPU 0 before \"query 0 = #5\""),
        "{report:?}"
    );
}

#[test]
fn marks_follow_happens_before() {
    marks::follow_happens_before::<Explorer>(None);
}

#[test]
fn marks_cost_nothing() {
    marks::cost_nothing::<Explorer>(None);
}

#[test]
fn marks_on_threads_follow_time() {
    let order = marks::order::<Threads>(Some(1_000), Release, Acquire);
    assert!(order.iter().any(|(_, stored, loaded)| *stored && *loaded), "{order:?}");
    assert!(!order.contains(&(true, false, true)) && !order.contains(&(false, false, true)));
}

#[test]
fn walks_behind_own_maps_need_a_lock() {
    let under = |memory_model| {
        let request = Request { memory_model, ..Request::default() };
        histories::explore::<MapThenLook<Model, false>>(EngineName::Explorer, request)
    };
    for memory_model in [MemoryModel::Rc11, MemoryModel::Tso] {
        let report = under(memory_model);
        assert_eq!(caught(&report).matches("= nothing").count(), 2, "{report:?}");
    }
    good(&under(MemoryModel::Sc));
}

#[test]
fn operations_of_a_destructor_are_inert() {
    unwinding::destructors_are_inert(EngineName::Explorer);
}
