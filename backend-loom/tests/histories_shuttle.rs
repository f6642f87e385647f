//! Histories under shuttle, whose clocks know what happens before what.

mod histories;

use histories::{MapThenLook, MapVsRemap, UnmapVsRemembered, caught, good, marks};
use weft_backend_loom::chosen::EngineName;
use weft_backend_loom::model::Model;
use weft_backend_loom::report::{Report, Request};
use weft_backend_loom::shuttle::Shuttle;
use weft_scenarios::Scenario;

const EXECUTIONS: Option<u64> = Some(2_000);

fn explore<S: Scenario<Model>>() -> Report {
    histories::explore::<S>(
        EngineName::Shuttle,
        Request { executions: EXECUTIONS, ..Request::default() },
    )
}

#[test]
fn right_histories_pass() {
    good(&explore::<MapVsRemap<Model, true>>());
    good(&explore::<UnmapVsRemembered<Model, true>>());
    // Values are sequentially consistent here, so that walks without locks are enough.
    good(&explore::<MapThenLook<Model, true>>());
    good(&explore::<MapThenLook<Model, false>>());
}

#[test]
fn a_lost_update_is_not_linearizable() {
    let report = explore::<MapVsRemap<Model, false>>();
    assert!(caught(&report).contains("map 0 to #9 = "), "{report:?}");
}

#[test]
fn what_only_happens_before_forbids_is_found() {
    let report = explore::<UnmapVsRemembered<Model, false>>();
    assert!(
        caught(&report).contains("\"unmap 0..2 = 1 frame\" of CPU 0 before \"query 0 = #5\""),
        "{report:?}"
    );
}

#[test]
fn marks_follow_happens_before() {
    marks::follow_happens_before::<Shuttle>(EXECUTIONS);
}

#[test]
fn marks_cost_nothing() {
    marks::cost_nothing::<Shuttle>(EXECUTIONS);
}
