//! Histories under the explorer, in every execution, and on the host's threads.

mod histories;

use histories::{MapVsRemap, UnmapVsRemembered, caught, explore, good};
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
