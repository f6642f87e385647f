//! Histories under the explorer, in every execution, and on the host's threads.

mod histories;

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use histories::{
    MapThenLook, MapVsRemap, UnmapVsRemembered, caught, explore, explore_under, good, marks,
};
use weft_backend_loom::engine::MemoryModel;
use weft_backend_loom::explorer::Explorer;
use weft_backend_loom::model::Model;
use weft_backend_loom::report::VerdictWord;
use weft_backend_loom::threads::Threads;

type World = Model<Explorer>;

#[test]
fn right_histories_pass_in_every_execution() {
    for report in [
        explore::<MapVsRemap<World, true>, Explorer>(None),
        explore::<UnmapVsRemembered<World, true>, Explorer>(None),
        explore::<MapThenLook<World, true>, Explorer>(None),
    ] {
        good(&report);
        assert_eq!(report.verdict, VerdictWord::Exhausted, "{report:?}");
        assert!(report.observations.len() > 1, "{report:?}");
        println!("{} executions: {:?}", report.executions, report.observations);
    }
}

#[test]
fn a_lost_update_is_not_linearizable() {
    let report = explore::<MapVsRemap<World, false>, Explorer>(None);
    println!("{}", caught(&report));
    assert!(caught(&report).contains("map 0 to #9 = "), "{report:?}");
}

#[test]
fn what_only_happens_before_forbids_is_found() {
    let report = explore::<UnmapVsRemembered<World, false>, Explorer>(None);
    println!("{}", caught(&report));
    assert!(
        caught(&report).contains("\"unmap 0..2 = 1 frame\" of CPU 0 before \"query 0 = #5\""),
        "{report:?}"
    );
}

#[test]
fn right_histories_pass_on_threads() {
    type World = Model<Threads>;
    good(&explore::<MapVsRemap<World, true>, Threads>(Some(1_000)));
    good(&explore::<UnmapVsRemembered<World, true>, Threads>(Some(1_000)));
}

#[test]
fn marks_follow_happens_before() {
    let unseen = (false, false, false);
    let order = |store, load| marks::order::<Explorer>(None, store, load);
    // What came behind the store is not known, whenever it was done.
    assert_eq!(order(Release, Acquire), [unseen, (true, true, false)].into());
    for (store, load) in [(Relaxed, Acquire), (Release, Relaxed)] {
        assert_eq!(order(store, load), [unseen, (true, false, false)].into());
    }
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
    for memory_model in [MemoryModel::Rc11, MemoryModel::Tso] {
        let report = explore_under::<MapThenLook<World, false>, Explorer>(memory_model, None);
        assert_eq!(caught(&report).matches("= nothing").count(), 2, "{report:?}");
    }
    good(&explore_under::<MapThenLook<World, false>, Explorer>(MemoryModel::Sc, None));
}
