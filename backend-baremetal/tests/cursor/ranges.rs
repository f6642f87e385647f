//! Which ranges are locked: all that are ranges, up to the very end, and no other.

use std::ops::Range;

use weft_core::address::{FRAME_SIZE, Level, Vaddr};
use weft_core::cursor::Cursor;
use weft_core::error::{NotARoot, PositionError, RangeError};
use weft_core::node::Node;
use weft_core::shared::SharedCursor;

use crate::architecture::{Architecture, Whole};
use crate::fixture::{
    READABLE, Root, all_pages, assert_sound, device, dump, everything, lock, on_table, page, pages,
    raw, span,
};
use crate::support::{live, node, on_machine, online};

on_every_architecture!(
    what_is_no_range_is_refused,
    a_range_begins_at_a_root,
    ranges_that_end_where_the_space_ends_work,
    the_last_page_of_the_space_is_a_page,
    positions_outside_are_refused,
    a_range_that_is_locked_and_let_go_leaves_nothing,
);

/// All three ways to a range refuse it alike, and nothing changes.
#[track_caller]
fn assert_refused<G: Architecture>(root: Root<'_, G>, range: Range<Vaddr>, expected: RangeError) {
    let before = (dump(root), live(root.backend()));
    assert_eq!(Cursor::lock(root, range.clone()).err().as_ref(), Some(&expected));
    assert_eq!(Cursor::try_lock(root, range.clone()).err().as_ref(), Some(&expected));
    assert_eq!(SharedCursor::new(root, range).err().as_ref(), Some(&expected));
    assert_eq!((dump(root), live(root.backend())), before, "a refused range changes nothing");
    assert_sound(root);
}

fn what_is_no_range_is_refused<G: Architecture>() {
    on_table::<G>(|_, root| {
        let end = everything::<G>().end;
        let last = !(FRAME_SIZE - 1);
        for at in [0, 1, FRAME_SIZE, end.as_u64(), last, u64::MAX].map(Vaddr::new) {
            assert_refused(root, at..at, RangeError::Empty { at });
        }
        for (start, end) in [(1, 0), (FRAME_SIZE, 0), (u64::MAX, 0), (u64::MAX, last)] {
            let range = Vaddr::new(start)..Vaddr::new(end);
            assert_refused(root, range.clone(), RangeError::Reversed { range });
        }
        let unaligned = [1, FRAME_SIZE - 1, FRAME_SIZE + 1, end.as_u64() - 1, u64::MAX];
        for vaddr in unaligned.map(Vaddr::new) {
            assert_refused(root, Vaddr::new(0)..vaddr, RangeError::Unaligned { vaddr });
            if vaddr < end {
                assert_refused(root, vaddr..end, RangeError::Unaligned { vaddr });
            }
        }
        let beyond = [(0, end.as_u64() + FRAME_SIZE), (0, last), (end.as_u64(), last)];
        for (start, end) in beyond.into_iter().chain([(last - FRAME_SIZE, last)]) {
            let range = Vaddr::new(start)..Vaddr::new(end);
            assert_refused(root, range.clone(), RangeError::NotManaged { range });
        }
    });
}

fn a_range_begins_at_a_root<G: Architecture>() {
    on_machine::<G>(|machine| {
        let cpu = online(machine, 0);
        let section = cpu.read_side();
        for level in (1..G::LEVELS).map(Level::new) {
            let below: Node<Whole<G>> = node(machine, level);
            let expected = RangeError::NotARoot(NotARoot { level });
            let start = below.borrow(&section);
            for range in [page(0)..page(1), page(1)..page(0), page(0)..page(0)] {
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
        starts.extend([0, 1, all - 2]);
        for start in starts {
            let mut cursor = lock(root, pages(start..all));
            assert_eq!((cursor.vaddr(), cursor.find_next().map(drop)), (page(start), None));
            assert_eq!(cursor.vaddr(), page(all));
            cursor.jump(page(all - 1)).expect("the last page is in the range");
            cursor.map(device::<G>(1, 7, READABLE)).expect("nothing is there");
            assert_eq!(cursor.vaddr(), page(all));
            assert_eq!(cursor.query().err(), Some(PositionError::AtEnd { end: page(all) }));
            cursor.jump(page(start)).expect("the start is in the range");
            let (before, owned) = (cursor.vaddr(), READABLE);
            assert_eq!(cursor.protect(page(all), |_| owned), Ok(1));
            cursor.jump(before).expect("the start is in the range");
            let mut seen = Vec::new();
            cursor.visit(page(all), |vaddr, item| seen.push((vaddr, *item))).expect("the end");
            assert_eq!(seen, [(page(all - 1), raw::<G>(1, 7, READABLE))]);
            cursor.jump(before).expect("the start is in the range");
            assert_eq!(cursor.unmap(page(all)), Ok(1));
            cursor.jump(page(all - 1)).expect("the last page is in the range");
            assert!(cursor.query().expect("before the end").item.is_none());
            drop(cursor);
            let mut shared = SharedCursor::new(root, pages(start..all)).expect("a range");
            assert!(shared.find_next().is_none());
            assert_eq!(shared.query().err(), Some(PositionError::AtEnd { end: page(all) }));
        }
    });
}

fn the_last_page_of_the_space_is_a_page<G: Architecture>() {
    on_table::<G>(|_, root| {
        let all = all_pages::<G>();
        let mut cursor = lock(root, pages(all - 1..all));
        let make = |_| device::<G>(1, 7, READABLE);
        cursor.map_pages(page(all), make).expect("nothing is there");
        assert_eq!(cursor.take_next(), Ok(None), "the cursor is at the end");
        assert_eq!(cursor.protect_next(|old| old), Ok(None), "the cursor is at the end");
        cursor.jump(page(all - 1)).expect("the page is in the range");
        let slot = cursor.query().expect("the page is there");
        assert_eq!(slot.range, pages(all - 1..all));
        assert_eq!(slot.item.map(|item| *item), Some(raw::<G>(1, 7, READABLE)));
        let gone = cursor.take_next().expect("no split").expect("the page is there");
        assert_eq!((gone.range, gone.frames), (pages(all - 1..all), 1));
        assert_eq!(gone.page, Some(raw::<G>(1, 7, READABLE)));
        assert_eq!(cursor.vaddr(), page(all));
    });
}

fn positions_outside_are_refused<G: Architecture>() {
    on_table::<G>(|_, root| {
        let range = pages(1..3);
        let mut cursor = lock(root, range.clone());
        let mut shared = SharedCursor::new(root, range.clone()).expect("a range");
        let outside = [0, 1, FRAME_SIZE - 1, 3 * FRAME_SIZE + 1, 4 * FRAME_SIZE, u64::MAX];
        for vaddr in outside.map(Vaddr::new) {
            let expected = PositionError::Outside { vaddr, range: range.clone() };
            assert_eq!(cursor.jump(vaddr), Err(expected.clone()));
            assert_eq!(shared.jump(vaddr), Err(expected));
        }
        for vaddr in [FRAME_SIZE + 1, 2 * FRAME_SIZE + 8, 3 * FRAME_SIZE - 1].map(Vaddr::new) {
            assert_eq!(cursor.jump(vaddr), Err(PositionError::Unaligned { vaddr }));
            assert_eq!(shared.jump(vaddr), Err(PositionError::Unaligned { vaddr }));
        }
        assert_eq!((cursor.vaddr(), shared.vaddr()), (page(1), page(1)), "neither has moved");
        for number in [3, 1, 2] {
            cursor.jump(page(number)).expect("a position");
            shared.jump(page(number)).expect("a position");
            assert_eq!((cursor.vaddr(), shared.vaddr()), (page(number), page(number)));
        }
    });
}

fn a_range_that_is_locked_and_let_go_leaves_nothing<G: Architecture>() {
    on_machine::<G>(|machine| {
        let mut cpu = online(machine, 0);
        let root: Node<Whole<G>> = node(machine, G::ROOT);
        for start in [0, 1, all_pages::<G>() / 2, all_pages::<G>() - 1] {
            for length in [1, 2, all_pages::<G>() - start] {
                let range = pages(start..(start + length).min(all_pages::<G>()));
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
