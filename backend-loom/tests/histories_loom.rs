//! Histories under loom, which does not say what happens before what.

#[expect(dead_code, reason = "marks follow happens-before under other engines")]
mod histories;

use std::sync::atomic::Ordering::{Acquire, Release};

use histories::{MapThenLook, MapVsRemap, UnmapVsRemembered, caught, good, marks};
use weft_backend_loom::chosen::EngineName;
use weft_backend_loom::engine::Verdict;
use weft_backend_loom::loom::Loom;
use weft_backend_loom::model::Model;
use weft_backend_loom::report::{Report, Request};
use weft_scenarios::Scenario;

fn explore<S: Scenario<Model>>() -> Report {
    histories::explore::<S>(EngineName::Loom, Request::default())
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
    }
}

#[test]
fn a_lost_update_is_not_linearizable() {
    let report = explore::<MapVsRemap<Model, false>>();
    assert!(caught(&report).contains("map 0 to #9 = "), "{report:?}");
}

/// The limit of this engine, as [`weft_scenarios::mark`] tells it: an answer that is merely too old
/// is taken for one that was given before.
#[test]
fn what_only_happens_before_forbids_is_not_found() {
    let report = explore::<UnmapVsRemembered<Model, false>>();
    good(&report);
    assert_eq!(report.verdict, Verdict::Exhausted, "{report:?}");
    assert!(
        report.observations.iter().any(|seen| seen.contains("= 1 frame], [query 0 = #5]")),
        "{report:?}"
    );
}

#[test]
fn marks_of_different_cpus_are_unordered() {
    let order = marks::order::<Loom>(None, Release, Acquire);
    assert_eq!(order, [(false, false, false), (true, false, false)].into());
}

#[test]
fn marks_cost_nothing() {
    marks::cost_nothing::<Loom>(None);
}

#[test]
fn walks_behind_own_maps_need_a_lock() {
    let report = explore::<MapThenLook<Model, false>>();
    assert_eq!(caught(&report).matches("= nothing").count(), 2, "{report:?}");
}
