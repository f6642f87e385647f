//! In which order things happen: an entry changes, what caches hold of it is flushed, and only then
//! something else is put there, or a lock is given back, or a frame.

use std::ops::Range;

use weft_core::address::{FRAME_SIZE, Level, Paddr, Vaddr};
use weft_core::cursor::Cursor;
use weft_core::error::LockError;
use weft_core::find::lock_covering;
use weft_core::format::{Decoded, EntryFormat};
use weft_core::node::NodeRef;
use weft_core::sync::Flush;

use crate::architecture::{Architecture, Table};
use crate::fixture::{
    READABLE, all_pages, dump, flush_of, huge_levels, lock, on_watched_table, page, pages, span,
};
use crate::support::{child, tracked_on, untracked_at};
use crate::watched::{Layout, Machine, Seen, all_seen, seen};

on_every_architecture!(
    a_node_left_empty_is_flushed_before_its_parent_is_unlocked,
    a_node_that_memory_ran_out_below_is_flushed_before_its_parent_is_unlocked,
    what_was_unmapped_is_flushed_before_something_else_is_mapped_there,
    mapping_elsewhere_flushes_nothing_more,
    pages_that_are_owed_together_are_flushed_before_any_is_mapped,
    a_huge_page_comes_after_the_flush_of_the_node_before_it,
    small_pages_come_after_the_flush_of_the_huge_page_before_them,
    what_is_grown_by_hand_is_detached_in_order,
);

/// What matters of what was seen, with nodes known by their frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// An entry of this node led to a node, and leads nowhere now.
    Unlinked(Paddr),
    /// An entry of this node mapped a page, and does not any more.
    Unmapped(Paddr),
    /// An entry of this node that led nowhere leads somewhere.
    Put(Paddr),
    Flushed(Flush),
    Unlocked(Paddr),
    Retired,
}

/// What was seen since the last call of the nodes of a table that are in these frames.
fn steps<G: Architecture>(root: NodeRef<'_, Table<G>>, nodes: &[(Level, Paddr)]) -> Vec<Step> {
    let layout = Layout::of(root);
    let level_of = |frame| nodes.iter().find(|(_, at)| *at == frame).map(|(level, _)| *level);
    let step = |seen| match seen {
        Seen::Wrote { word, old, new } => {
            let frame = layout.entry(word).0;
            let level = level_of(frame)?;
            match (G::Format::decode(old, level), G::Format::decode(new, level)) {
                (Decoded::Absent, Decoded::Node(_) | Decoded::Item(_)) => Some(Step::Put(frame)),
                (Decoded::Node(_), Decoded::Absent) => Some(Step::Unlinked(frame)),
                (Decoded::Item(_), Decoded::Absent) => Some(Step::Unmapped(frame)),
                (Decoded::Absent, Decoded::Absent) => None,
                other => panic!("one thing is put in the place of another: {other:?}"),
            }
        }
        Seen::Unlocked { word } => {
            level_of(layout.locked(word)).map(|_| Step::Unlocked(layout.locked(word)))
        }
        Seen::Flushed(what) => Some(Step::Flushed(what)),
        Seen::Retired => Some(Step::Retired),
    };
    all_seen().into_iter().filter_map(step).collect()
}

fn nodes_of<G: Architecture>(root: NodeRef<'_, Table<G>>) -> Vec<(Level, Paddr)> {
    dump(root).nodes.into_iter().map(|(level, _, frame)| (level, frame)).collect()
}

/// Checks that everything is flushed between the moment when a node is taken out and the next one
/// when its parent is unlocked. Returns how many were taken out.
#[track_caller]
fn assert_flushed_in_time(steps: &[Step]) -> usize {
    let mut cached = Vec::new();
    let mut unlinked = 0;
    for step in steps {
        match step {
            Step::Unlinked(parent) => {
                cached.push(*parent);
                unlinked += 1;
            }
            Step::Flushed(Flush::Everything) => cached.clear(),
            Step::Unlocked(node) => {
                let is_cached = cached.contains(node);
                assert!(!is_cached, "caches lead to a node that was there before: {steps:?}");
            }
            _ => {}
        }
    }
    assert_eq!(cached, [], "a node is never flushed: {steps:?}");
    unlinked
}

fn a_node_left_empty_is_flushed_before_its_parent_is_unlocked<G: Architecture>() {
    type Enter<'g, G> =
        fn(NodeRef<'g, Table<G>>, Range<Vaddr>) -> Result<Cursor<'g, Table<G>>, LockError>;
    on_watched_table::<G>(|machine, root| {
        let ways: [Enter<'_, G>; 2] = [Cursor::lock, Cursor::try_lock];
        for enter in ways {
            lock(root, pages::<G>(1..2)).map(tracked_on(machine, READABLE)).expect("it is free");
            let nodes = nodes_of(root);
            let mut cursor = enter(root, pages::<G>(1..2)).expect("no CPU has it");
            all_seen();
            assert_eq!(cursor.unmap(pages::<G>(1..2).end), Ok(1));
            drop(cursor);
            let unlinked = assert_flushed_in_time(&steps(root, &nodes));
            assert_eq!(unlinked, usize::from(G::LEVELS) - 1, "all that became empty are gone");
        }
    });
}

fn a_node_that_memory_ran_out_below_is_flushed_before_its_parent_is_unlocked<G: Architecture>() {
    let Some(above) = (G::LEVELS > 2).then(|| Level::new(2)) else { return };
    on_watched_table::<G>(|machine, root| {
        drop(lock_covering(root, page::<G>(1), above).expect("frames enough"));
        let nodes = nodes_of(root);
        all_seen();
        machine.processors().failing.after(0);
        let error = lock_covering(root, page::<G>(1), Level::LEAF).err();
        assert_eq!(error, Some(LockError::OutOfMemory));
        let unlinked = assert_flushed_in_time(&steps(root, &nodes));
        assert_eq!(unlinked, usize::from(G::LEVELS) - 2, "all that were empty are gone");
    });
}

fn what_was_unmapped_is_flushed_before_something_else_is_mapped_there<G: Architecture>() {
    type Map<G> = fn(&mut Cursor<'_, Table<G>>, &Machine<G>, Vaddr);
    let ways: [Map<G>; 2] = [
        |cursor, machine, _| cursor.map(tracked_on(machine, READABLE)).expect("it is free"),
        |cursor, machine, end| {
            cursor.map_pages(end, |_| tracked_on(machine, READABLE)).expect("it is free");
        },
    ];
    // The last page of all, too: where its range ends is address 0.
    for at in [1, all_pages::<G>() - 1] {
        for map in ways {
            on_watched_table::<G>(|machine, root| {
                let range = pages::<G>(at..at + 1);
                lock(root, range.clone()).map(tracked_on(machine, READABLE)).expect("it is free");
                let nodes = nodes_of(root);
                let leaf = nodes.last().expect("a leaf").1;
                let mut cursor = lock(root, range.clone());
                all_seen();
                assert_eq!(cursor.unmap(range.end), Ok(1));
                cursor.jump(range.start).expect("the start");
                map(&mut cursor, machine, range.end);
                let page = Step::Flushed(Flush::Page(range.start));
                assert_eq!(
                    steps(root, &nodes),
                    [Step::Unmapped(leaf), page, Step::Put(leaf)],
                    "caches lead to the page that was there before"
                );
                drop(cursor);
                let after = steps(root, &nodes);
                let flushed = after.iter().filter(|step| matches!(step, Step::Flushed(_)));
                assert_eq!(flushed.count(), usize::from(G::CACHES_ABSENT), "it is flushed again");
            });
        }
    }
}

fn mapping_elsewhere_flushes_nothing_more<G: Architecture>() {
    on_watched_table::<G>(|machine, root| {
        let range = pages::<G>(0..3);
        let mut cursor = lock(root, pages::<G>(0..1));
        cursor.map(tracked_on(machine, READABLE)).expect("nothing is there");
        drop(cursor);
        // Keeps the node.
        lock(root, pages::<G>(1..2)).map(tracked_on(machine, READABLE)).expect("nothing is there");
        let mut cursor = lock(root, range.clone());
        assert_eq!(cursor.unmap(page::<G>(1)), Ok(1));
        cursor.jump(page::<G>(2)).expect("a position");
        seen();
        cursor.map(tracked_on(machine, READABLE)).expect("nothing is there");
        assert_eq!(seen(), [], "the page that is owed is another one");
        drop(cursor);
        // Page 1 lies between what was unmapped and what was absent.
        let what = flush_of::<G>(if G::CACHES_ABSENT { 0..3 } else { 0..1 });
        assert_eq!(seen(), [Seen::Flushed(what), Seen::Retired]);
    });
}

fn pages_that_are_owed_together_are_flushed_before_any_is_mapped<G: Architecture>() {
    if G::ENTRIES < 8 {
        return;
    }
    for (at, is_owed) in [(0, false), (1, true), (2, true), (3, true), (4, false)] {
        on_watched_table::<G>(|machine, root| {
            let mut cursor = lock(root, pages::<G>(1..4));
            let make = |_| tracked_on(machine, READABLE);
            cursor.map_pages(cursor.range().end, make).expect("nothing is there");
            drop(cursor);
            // Keeps the node.
            lock(root, pages::<G>(7..8)).map(make(page::<G>(7))).expect("nothing is there");
            let mut cursor = lock(root, pages::<G>(0..5));
            assert_eq!(cursor.unmap(page::<G>(4)), Ok(3));
            cursor.jump(page::<G>(at)).expect("a position");
            seen();
            cursor.map(make(page::<G>(at))).expect("nothing is there");
            let found = seen();
            if is_owed {
                assert_eq!(found, [Seen::Flushed(flush_of::<G>(1..4))], "page {at} is owed");
            } else {
                assert_eq!(found, [], "the page before them, or the page behind them is not owed");
            }
        });
    }
}

fn a_huge_page_comes_after_the_flush_of_the_node_before_it<G: Architecture>() {
    for level in huge_levels::<G>() {
        on_watched_table::<G>(|machine, root| {
            let range = pages::<G>(0..span::<G>(level));
            lock(root, pages::<G>(1..2)).map(tracked_on(machine, READABLE)).expect("it is free");
            let nodes = nodes_of(root);
            let holds = nodes.iter().find(|(at, _)| at.as_u8() == level).expect("a node").1;
            let mut cursor = lock(root, range.clone());
            cursor.jump(page::<G>(1)).expect("a position");
            // Not the node as a whole, which stays, empty.
            assert_eq!(cursor.unmap(page::<G>(1).plus(FRAME_SIZE)), Ok(1));
            cursor.flush();
            cursor.jump(range.start).expect("the start");
            all_seen();
            let huge = untracked_at(Paddr::new(0), Level::new(level), READABLE);
            cursor.map(huge).expect("only empty nodes are there");
            let mut found = steps(root, &nodes);
            found.retain(|step| !matches!(step, Step::Unlocked(_)));
            let flushed = Step::Flushed(Flush::Everything);
            assert_eq!(found, [Step::Unlinked(holds), flushed, Step::Put(holds)]);
        });
    }
}

fn small_pages_come_after_the_flush_of_the_huge_page_before_them<G: Architecture>() {
    for level in huge_levels::<G>() {
        on_watched_table::<G>(|machine, root| {
            let range = pages::<G>(0..span::<G>(level));
            let huge = untracked_at(Paddr::new(0), Level::new(level), READABLE);
            lock(root, range.clone()).map(huge).expect("nothing is there");
            let nodes = nodes_of(root);
            let holds = nodes.last().expect("a node").1;
            let mut cursor = lock(root, range.clone());
            all_seen();
            assert!(cursor.take_next().expect("no split").is_some());
            cursor.jump(page::<G>(1)).expect("a position");
            cursor.map(tracked_on(machine, READABLE)).expect("nothing is there");
            let flushed = Step::Flushed(Flush::Page(range.start));
            assert_eq!(
                steps(root, &nodes),
                [Step::Unmapped(holds), flushed, Step::Put(holds)],
                "caches lead to the huge page that was there before"
            );
        });
    }
}

/// As long as the guard of the child is there, the parent cannot be changed: so nothing is left to
/// do for the child's lock when the parent's entry is.
fn what_is_grown_by_hand_is_detached_in_order<G: Architecture>() {
    on_watched_table::<G>(|_, root| {
        let mut guard = root.lock();
        all_seen();
        let mut entry = guard.entry(1).expect("the index is in range");
        drop(entry.allocate_if_absent().expect("frames enough"));
        let grown = child(root, 1).paddr();
        let nodes = [(G::ROOT, root.paddr()), (Level::new(G::LEVELS - 1), grown)];
        entry.detach().expect("the entry is managed").retire();
        drop(guard);
        let flushed = Step::Flushed(Flush::Everything);
        let mut expected = vec![Step::Put(root.paddr()), Step::Unlocked(grown)];
        if G::CACHES_ABSENT {
            // Growing is over when the child is unlocked: what it owes is paid before.
            expected.insert(1, flushed);
        }
        // Set adrift, which takes the lock and gives it back.
        expected.extend([Step::Unlinked(root.paddr()), Step::Unlocked(grown)]);
        expected.extend([flushed, Step::Retired, Step::Unlocked(root.paddr())]);
        assert_eq!(steps(root, &nodes), expected);
    });
}
