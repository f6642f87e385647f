//! What a step changes of the page tables, for pictures of them.

use weft_core::sync::{Event, FrameUse};

use super::names::Names;
use crate::ghost::{Record, Step};
use crate::report::{Change, Life};

/// The changes of one step.
pub(super) fn of_step(record: &Record, names: &Names) -> Vec<Change> {
    match record.step {
        Step::Store(value) | Step::Set(value) | Step::Update(_, value) => {
            of_value(record, value, names).into_iter().collect()
        }
        Step::Allocate(frame, purpose) => {
            let frame = names.frame(frame.frame_number());
            let first = Change::Life { frame: frame.clone(), state: Life::Allocated };
            let is_counted = purpose != FrameUse::Data;
            let count = is_counted.then_some(Change::References { frame, count: 1 });
            [Some(first), count].into_iter().flatten().collect()
        }
        Step::Free(frame) => vec![life(names, frame.frame_number(), Life::Freed)],
        Step::Event(Event::Detached(frame)) => {
            vec![life(names, frame.frame_number(), Life::Detached)]
        }
        Step::Event(Event::MarkedStray(frame)) => {
            vec![life(names, frame.frame_number(), Life::Stray)]
        }
        Step::Event(Event::Retired(frame)) => {
            vec![life(names, frame.frame_number(), Life::Retired)]
        }
        Step::Event(Event::Activated { root, .. }) => {
            vec![Change::Runs { cpu: record.cpu, root: names.frame(root.frame_number()) }]
        }
        _ => Vec::new(),
    }
}

fn life(names: &Names, frame: u64, state: Life) -> Change {
    Change::Life { frame: names.frame(frame), state }
}

/// The change of a place that has a new value.
fn of_value(record: &Record, value: u64, names: &Names) -> Option<Change> {
    let label = record.label;
    let frame = names.frame(label.frame?);
    match (label.name, label.index) {
        ("entry", Some(index)) if names.is_entry(label) => Some(Change::Entry {
            node: frame,
            index,
            value: (value != 0).then(|| names.value(label, value)),
            target: names.target(label, value).map(|target| names.frame(target)),
        }),
        ("lock", None) => {
            Some(Change::Lock { node: frame, by: (value != 0).then_some(record.cpu) })
        }
        ("references", None) => Some(Change::References { frame, count: value }),
        ("contents", None) => Some(Change::Contents { frame, value }),
        _ => None,
    }
}

/// The tables after these records: for each thing, its latest change.
pub(super) fn before(records: &[Record], names: &Names) -> Vec<Change> {
    let mut changes: Vec<Change> = Vec::new();
    for change in records.iter().flat_map(|record| of_step(record, names)) {
        changes.retain(|earlier| !is_same(earlier, &change));
        changes.push(change);
    }
    changes
}

/// Whether two changes are about the same thing.
fn is_same(one: &Change, other: &Change) -> bool {
    match (one, other) {
        (Change::Entry { node, index, .. }, Change::Entry { node: of, index: at, .. }) => {
            (node, index) == (of, at)
        }
        (Change::Lock { node, .. }, Change::Lock { node: other, .. }) => node == other,
        (Change::References { frame, .. }, Change::References { frame: other, .. })
        | (Change::Contents { frame, .. }, Change::Contents { frame: other, .. })
        | (Change::Life { frame, .. }, Change::Life { frame: other, .. }) => frame == other,
        (Change::Runs { cpu, .. }, Change::Runs { cpu: other, .. }) => cpu == other,
        _ => false,
    }
}
