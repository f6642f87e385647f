//! Which locks a cursor holds: those of all nodes that its range touches, and no other.

use std::ops::Range;

use weft_core::address::{Level, Vaddr};
use weft_core::cursor::Cursor;
use weft_core::entry::ChildRef;
use weft_core::error::LockError;

use crate::architecture::Architecture;
use crate::fixture::{
    READABLE, Root, address, all_pages, assert_sound, dump, end_offset, fill, halves, huge_levels,
    lock, map_huge, nearly_all, offset, on_table, page, pages, span,
};
use crate::support::live;

on_every_architecture!(
    exactly_the_nodes_that_the_range_touches_are_locked,
    what_is_split_or_grown_is_locked_and_what_goes_is_not,
    who_would_wait_leaves_nothing_locked,
    disjoint_ranges_are_locked_at_once,
);

/// Every node that is locked: its level and where it begins.
fn locked<G: Architecture>(root: Root<'_, G>) -> Vec<(Level, Vaddr)> {
    fn collect<G: Architecture>(node: Root<'_, G>, start: u64, found: &mut Vec<(Level, Vaddr)>) {
        if node.try_lock().is_none() {
            found.push((node.level(), address::<G>(start)));
        }
        for index in 0..G::ENTRIES {
            if let ChildRef::Node(child) = node.walk(index) {
                let start = start + index as u64 * G::entry_span(node.level());
                collect(child, start, found);
            }
        }
    }
    let mut found = Vec::new();
    collect(root, 0, &mut found);
    found
}

/// The nodes that are to be locked for a range: the lowest with entries for all of it, and below
/// that all that touch it.
fn touched<G: Architecture>(root: Root<'_, G>, range: &Range<Vaddr>) -> Vec<(Level, Vaddr)> {
    let range = offset::<G>(range.start)..end_offset::<G>(range.end);
    let has_entries =
        |level: Level, start: u64| start <= range.start && range.end <= start + G::node_span(level);
    let is_all = |level: Level| range.end - range.start == G::node_span(level) && level < G::ROOT;
    let nodes: Vec<(Level, u64)> =
        dump(root).nodes.iter().map(|&(level, start, _)| (level, offset::<G>(start))).collect();
    let covers = |&&(level, start): &&(Level, u64)| has_entries(level, start) && !is_all(level);
    let top = nodes.iter().filter(covers).map(|it| it.0).min().expect("the root covers");
    let touches =
        |level: Level, start: u64| start < range.end && range.start < start + G::node_span(level);
    let wanted = nodes.iter().filter(|it| it.0 <= top && touches(it.0, it.1));
    wanted.map(|&(level, start)| (level, address::<G>(start))).collect()
}

/// Ranges around the borders of nodes of every level.
fn ranges<G: Architecture>() -> Vec<Range<Vaddr>> {
    let all = all_pages::<G>();
    let mut ranges = halves::<G>().collect::<Vec<_>>();
    ranges.extend([nearly_all::<G>(), pages::<G>(1..all), pages::<G>(all - 1..all)]);
    for level in 1..=G::LEVELS {
        let span = span::<G>(level);
        ranges.extend([
            pages::<G>(0..span),
            pages::<G>(span..2 * span),
            pages::<G>(all - span..all),
        ]);
        ranges.extend([
            pages::<G>(span - 1..span),
            pages::<G>(span - 1..span + 1),
            pages::<G>(span..span + 1),
        ]);
    }
    ranges
}

fn exactly_the_nodes_that_the_range_touches_are_locked<G: Architecture>() {
    on_table::<G>(|_, root| {
        let all = all_pages::<G>();
        for at in [0, all / 2, all - 1] {
            fill(root, at..at + 1, READABLE);
        }
        for range in ranges::<G>() {
            let cursor = lock(root, range.clone());
            assert_eq!(locked(root), touched(root, &range), "of the range {range:?}");
            drop(cursor);
            assert_eq!(locked(root), [], "of the range {range:?}");
            let cursor = Cursor::try_lock(root, range.clone()).expect("nobody else is there");
            assert_eq!(locked(root), touched(root, &range), "of the range {range:?}");
            drop(cursor);
            assert_eq!(locked(root), [], "of the range {range:?}");
        }
    });
}

fn what_is_split_or_grown_is_locked_and_what_goes_is_not<G: Architecture>() {
    for level in huge_levels::<G>() {
        on_table::<G>(|_, root| {
            let span = span::<G>(level);
            map_huge(root, level, 0, READABLE);
            let range = pages::<G>(1..span);
            let mut cursor = lock(root, range.clone());
            cursor.protect(page::<G>(2), |old| old).expect("frames enough");
            let covering = usize::from(G::LEVELS) - usize::from(level);
            let nodes = dump(root).nodes.len() - covering;
            assert_eq!(locked(root).len(), nodes, "the nodes of parts are locked");
            cursor.jump(page::<G>(1)).expect("the start");
            cursor.unmap(range.end).expect("frames enough");
            let nodes = dump(root).nodes.len() - covering;
            assert_eq!(locked(root).len(), nodes, "and those of them that are left");
        });
    }
    on_table::<G>(|_, root| {
        let mut cursor = lock(root, nearly_all::<G>());
        cursor.jump(page::<G>(1)).expect("a position");
        cursor.map(crate::fixture::device::<G>(1, 1, READABLE)).expect("nothing is there");
        assert_eq!(locked(root).len(), usize::from(G::LEVELS), "what is grown is locked");
        cursor.jump(page::<G>(0)).expect("the start");
        let gone: Vec<_> = dump(root).nodes;
        assert_eq!(cursor.unmap(nearly_all::<G>().end), Ok(1));
        assert_eq!((locked(root).len(), gone.len()), (1, usize::from(G::LEVELS)));
    });
}

fn who_would_wait_leaves_nothing_locked<G: Architecture>() {
    on_table::<G>(|_, root| {
        let all = all_pages::<G>();
        fill(root, 0..1, READABLE);
        fill(root, all - 1..all, READABLE);
        for (held, more) in [(0..1, 0..all - 1), (all - 1..all, 1..all)] {
            let cursor = lock(root, pages::<G>(held.clone()));
            let before = (locked(root), dump(root), live(root.backend()));
            for range in [held.clone(), more] {
                let error = Cursor::try_lock(root, pages::<G>(range)).expect_err("a part is held");
                assert_eq!(error, LockError::WouldWait);
                let after = (locked(root), dump(root), live(root.backend()));
                assert_eq!(after, before, "an attempt leaves traces");
            }
            drop(cursor);
            assert_sound(root);
            drop(
                Cursor::try_lock(root, nearly_all::<G>())
                    .expect("no other cursor is there any more"),
            );
        }
    });
}

fn disjoint_ranges_are_locked_at_once<G: Architecture>() {
    on_table::<G>(|_, root| {
        let all = all_pages::<G>();
        fill(root, 0..1, READABLE);
        fill(root, all - 1..all, READABLE);
        let mut low = lock(root, pages::<G>(0..1));
        let mut high = Cursor::try_lock(root, pages::<G>(all - 1..all)).expect("another leaf");
        assert_eq!(low.query().expect("before the end").range, pages::<G>(0..1));
        assert_eq!(high.query().expect("before the end").range, pages::<G>(all - 1..all));
        // Within one leaf they take turns: the leaf has one lock.
        let error = Cursor::try_lock(root, pages::<G>(1..2)).expect_err("the leaf is held");
        assert_eq!(error, LockError::WouldWait);
    });
}
