//! Which ranges are locked: all that are ranges, up to the very end, and no other.

use std::ops::Range;

use weft_core::address::{FRAME_SIZE, Level, Vaddr};
use weft_core::cursor::Cursor;
use weft_core::error::{LockError, NotARoot, PositionError};
use weft_core::node::Node;
use weft_core::shared::SharedCursor;

use crate::architecture::{Architecture, Whole};
use crate::fixture::{
    READABLE, Root, all_pages, assert_sound, device, dump, lock, on_table, page, pages, raw, span,
};
use crate::support::{live, node, on_machine, online};

on_every_architecture!(
    what_is_no_range_is_refused,
    addresses_in_the_gap_are_refused,
    a_range_begins_at_a_root,
    ranges_that_end_where_the_space_ends_work,
    the_last_page_of_the_space_is_a_page,
    positions_outside_are_refused,
    a_range_that_is_locked_and_let_go_leaves_nothing,
);

/// All three ways to a range refuse it alike, and nothing changes.
#[track_caller]
fn assert_refused<G: Architecture>(root: Root<'_, G>, range: Range<Vaddr>, expected: LockError) {
    let before = (dump(root), live(root.backend()));
    assert_eq!(
        Cursor::lock(root, range.clone()).err().as_ref(),
        Some(&expected),
        "this is no range"
    );
    assert_eq!(
        Cursor::try_lock(root, range.clone()).err().as_ref(),
        Some(&expected),
        "this is no range"
    );
    assert_eq!(SharedCursor::new(root, range).err().as_ref(), Some(&expected), "this is no range");
    assert_eq!((dump(root), live(root.backend())), before, "a refused range changes nothing");
    assert_sound(root);
}

/// The first byte that no table translates, and the first one behind the gap, as numbers.
fn gap<G: Architecture>() -> Range<u64> {
    let half = G::node_span(G::ROOT) / 2;
    half..half.wrapping_neg()
}

fn range(start: u64, end: u64) -> Range<Vaddr> {
    Vaddr::new(start)..Vaddr::new(end)
}

const LAST_PAGE: u64 = !(FRAME_SIZE - 1);

fn what_is_no_range_is_refused<G: Architecture>() {
    on_table::<G>(|_, root| {
        let Range { start: half, end: upper } = gap::<G>();
        for at in [0, 1, FRAME_SIZE, half, upper, LAST_PAGE, u64::MAX].map(Vaddr::new) {
            assert_refused(root, at..at, LockError::Empty { at });
        }
        // Where the lower half ends, in two ways to write it.
        assert_refused(root, range(upper, half), LockError::Empty { at: Vaddr::new(upper) });
        for (start, end) in [
            (LAST_PAGE, LAST_PAGE - FRAME_SIZE),
            (FRAME_SIZE + 1, FRAME_SIZE),
            (upper, FRAME_SIZE),
            (upper + FRAME_SIZE, upper),
            (upper + FRAME_SIZE, half),
            (u64::MAX, LAST_PAGE),
        ] {
            let range = range(start, end);
            assert_refused(root, range.clone(), LockError::Reversed { range });
        }
        let unaligned = [1, FRAME_SIZE - 1, FRAME_SIZE + 1, half - 1, upper + 1, u64::MAX];
        for vaddr in unaligned.map(Vaddr::new) {
            assert_refused(root, Vaddr::new(0)..vaddr, LockError::Unaligned { vaddr });
            // Up to the top, also from 1.
            assert_refused(root, vaddr..Vaddr::new(0), LockError::Unaligned { vaddr });
        }
    });
}

fn addresses_in_the_gap_are_refused<G: Architecture>() {
    on_table::<G>(|_, root| {
        let Range { start: half, end: upper } = gap::<G>();
        let inside = [half + FRAME_SIZE, 2 * half - FRAME_SIZE, 2 * half, upper - FRAME_SIZE];
        for vaddr in inside.into_iter().chain([half + 1, upper - 1]).map(Vaddr::new) {
            let expected = LockError::NotCanonical { vaddr };
            for end in [0, half, LAST_PAGE, FRAME_SIZE].map(Vaddr::new) {
                assert_refused(root, vaddr..end, expected.clone());
            }
            for start in [0, 1, half - FRAME_SIZE, upper, LAST_PAGE].map(Vaddr::new) {
                assert_refused(root, start..vaddr, expected.clone());
            }
        }
        // An end, but no beginning.
        let vaddr = Vaddr::new(half);
        for end in [0, upper, LAST_PAGE].map(Vaddr::new) {
            assert_refused(root, vaddr..end, LockError::NotCanonical { vaddr });
        }
    });
}

fn a_range_begins_at_a_root<G: Architecture>() {
    on_machine::<G>(|machine| {
        let cpu = online(machine, 0);
        let section = cpu.read_side();
        for level in (1..G::LEVELS).map(Level::new) {
            let below: Node<Whole<G>> = node(machine, level);
            let expected = LockError::NotARoot(NotARoot { level });
            let start = below.borrow(&section);
            for range in
                [page::<G>(0)..page::<G>(1), page::<G>(1)..page::<G>(0), page::<G>(0)..page::<G>(0)]
            {
                assert_eq!(Cursor::lock(start, range.clone()).err().as_ref(), Some(&expected));
                assert_eq!(Cursor::try_lock(start, range.clone()).err().as_ref(), Some(&expected));
                assert_eq!(SharedCursor::new(start, range).err().as_ref(), Some(&expected));
            }
        }
    });
}

fn ranges_that_end_where_the_space_ends_work<G: Architecture>() {
    on_table::<G>(|_, root| {
        let all = all_pages::<G>();
        let mut starts: Vec<u64> = (1..=G::LEVELS).map(|level| all - span::<G>(level)).collect();
        starts.extend([1, all - 2]);
        for start in starts {
            let mut cursor = lock(root, pages::<G>(start..all));
            assert_eq!((cursor.vaddr(), cursor.find_next().map(drop)), (page::<G>(start), None));
            assert_eq!(cursor.vaddr(), page::<G>(all));
            cursor.jump(page::<G>(all - 1)).expect("the last page is in the range");
            cursor.map(device::<G>(1, 7, READABLE)).expect("nothing is there");
            assert_eq!(cursor.vaddr(), page::<G>(all));
            assert_eq!(cursor.query().err(), Some(PositionError::AtEnd { end: page::<G>(all) }));
            cursor.jump(page::<G>(start)).expect("the start is in the range");
            let (before, owned) = (cursor.vaddr(), READABLE);
            assert_eq!(cursor.protect(page::<G>(all), |_| owned), Ok(1));
            cursor.jump(before).expect("the start is in the range");
            let mut seen = Vec::new();
            cursor.visit(page::<G>(all), |vaddr, item| seen.push((vaddr, *item))).expect("the end");
            assert_eq!(seen, [(page::<G>(all - 1), raw::<G>(1, 7, READABLE))]);
            cursor.jump(before).expect("the start is in the range");
            assert_eq!(cursor.unmap(page::<G>(all)), Ok(1));
            cursor.jump(page::<G>(all - 1)).expect("the last page is in the range");
            assert!(cursor.query().expect("before the end").item.is_none());
            drop(cursor);
            let mut shared = SharedCursor::new(root, pages::<G>(start..all)).expect("a range");
            assert!(shared.find_next().is_none());
            assert_eq!(shared.query().err(), Some(PositionError::AtEnd { end: page::<G>(all) }));
        }
    });
}

fn the_last_page_of_the_space_is_a_page<G: Architecture>() {
    on_table::<G>(|_, root| {
        let all = all_pages::<G>();
        let mut cursor = lock(root, pages::<G>(all - 1..all));
        let make = |_| device::<G>(1, 7, READABLE);
        cursor.map_pages(page::<G>(all), make).expect("nothing is there");
        assert_eq!(cursor.take_next(), Ok(None), "the cursor is at the end");
        assert_eq!(cursor.protect_next(|old| old), Ok(None), "the cursor is at the end");
        cursor.jump(page::<G>(all - 1)).expect("the page is in the range");
        let slot = cursor.query().expect("the page is there");
        assert_eq!(slot.range, pages::<G>(all - 1..all));
        assert_eq!(slot.item.map(|item| *item), Some(raw::<G>(1, 7, READABLE)));
        let gone = cursor.take_next().expect("no split").expect("the page is there");
        assert_eq!((gone.range, gone.frames), (pages::<G>(all - 1..all), 1));
        assert_eq!(gone.page, Some(raw::<G>(1, 7, READABLE)));
        assert_eq!(cursor.vaddr(), page::<G>(all));
    });
}

fn positions_outside_are_refused<G: Architecture>() {
    on_table::<G>(|_, root| {
        let range = pages::<G>(1..3);
        let mut cursor = lock(root, range.clone());
        let mut shared = SharedCursor::new(root, range.clone()).expect("a range");
        let gap = gap::<G>();
        let in_the_gap = [gap.start + 1, gap.start + FRAME_SIZE, gap.end - 1].map(Vaddr::new);
        let beyond = [page::<G>(3).plus(1), page::<G>(4), Vaddr::new(u64::MAX)];
        let before = [0, 1, FRAME_SIZE - 1].map(Vaddr::new);
        for vaddr in [before, beyond, in_the_gap].concat() {
            let expected = PositionError::Outside { vaddr, range: range.clone() };
            assert_eq!(
                cursor.jump(vaddr),
                Err(expected.clone()),
                "an address outside is no position"
            );
            assert_eq!(shared.jump(vaddr), Err(expected), "an address outside is no position");
        }
        for vaddr in [page::<G>(1).plus(1), page::<G>(2).plus(8), page::<G>(2).plus(FRAME_SIZE - 1)]
        {
            assert_eq!(cursor.jump(vaddr), Err(PositionError::Unaligned { vaddr }));
            assert_eq!(shared.jump(vaddr), Err(PositionError::Unaligned { vaddr }));
        }
        assert_eq!(
            (cursor.vaddr(), shared.vaddr()),
            (page::<G>(1), page::<G>(1)),
            "neither has moved"
        );
        for number in [3, 1, 2] {
            cursor.jump(page::<G>(number)).expect("a position");
            shared.jump(page::<G>(number)).expect("a position");
            assert_eq!((cursor.vaddr(), shared.vaddr()), (page::<G>(number), page::<G>(number)));
        }
    });
}

fn a_range_that_is_locked_and_let_go_leaves_nothing<G: Architecture>() {
    on_machine::<G>(|machine| {
        let mut cpu = online(machine, 0);
        let root: Node<Whole<G>> = node(machine, G::ROOT);
        let all = all_pages::<G>();
        for start in [0, 1, all / 2, all - 1] {
            for length in [1, 2, all - start] {
                let range = pages::<G>(start..(start + length).min(all - u64::from(start == 0)));
                let section = cpu.read_side();
                drop(lock(root.borrow(&section), range));
                assert_eq!(dump(root.borrow(&section)).nodes.len(), 1, "no node is left");
                drop(section);
                cpu.quiescent();
                cpu.quiescent();
                assert_eq!(live(machine), 1);
            }
        }
    });
}
