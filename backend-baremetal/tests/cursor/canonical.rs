//! Addresses are written as software and hardware write them: in the upper half with their sign
//! extended, also in answers, in errors and in flushes. A range up to the top ends with 0.

use std::ops::Range;

use weft_core::address::{FRAME_SIZE, Level, Vaddr};
use weft_core::cursor::{Cursor, Protected, Unmapped};
use weft_core::error::{ChangeError, MapFault, PositionError};
use weft_core::find::lock_covering;
use weft_core::geometry::{FiveLevels, FourLevels, Geometry};
use weft_core::shared::SharedCursor;
use weft_core::sync::Flush;

use crate::architecture::{Architecture, Sv39, Table};
use crate::fixture::{
    READABLE, Root, address, all_pages, clear, device, dump, fill, filled_with, huge_levels, lock,
    map_huge, on_table, on_watched_table, page, pages, physical, raw, span,
};
use crate::support::{WRITABLE, tracked_on};
use crate::watched::{Seen, seen};

on_every_architecture!(
    answers_in_the_upper_half_are_canonical,
    errors_in_the_upper_half_are_canonical,
    errors_of_huge_pages_in_the_upper_half_are_canonical,
    a_range_up_to_the_top_ends_with_0,
    the_end_of_the_lower_half_has_two_names,
    a_range_on_both_sides_of_the_gap_leaves_out_the_gap,
    what_is_flushed_in_the_upper_half_is_canonical,
    a_node_in_the_upper_half_is_found_by_its_canonical_address,
);

/// The upper half, by the bits that the manuals say.
#[test]
fn halves_are_where_the_manuals_have_them() {
    fn check<G: Architecture>(upper: u64) {
        let all = all_pages::<G>();
        let expected = [0, (1 << (G::ADDRESS_BITS - 1)) - FRAME_SIZE, upper, !(FRAME_SIZE - 1)];
        on_table::<G>(|_, root| {
            for number in [0, all / 2 - 1, all / 2, all - 1] {
                fill(root, number..number + 1, READABLE);
            }
            let starts: Vec<u64> = dump(root).pages.iter().map(|(at, _)| at.as_u64()).collect();
            assert_eq!(starts, expected, "the fixture counts in another way");
            let mut seen = Vec::new();
            for half in [Vaddr::new(0)..Vaddr::new(upper), Vaddr::new(upper)..Vaddr::new(0)] {
                let mut cursor = lock(root, half.clone());
                cursor.visit(half.end, |at, _| seen.push(at.as_u64())).expect("the end");
            }
            assert_eq!(seen, expected);
        });
    }
    check::<FourLevels>(0xffff_8000_0000_0000);
    check::<FiveLevels>(0xff00_0000_0000_0000);
    check::<Sv39>(0xffff_ffc0_0000_0000);
}

/// The first pages of the upper half.
fn upper<G: Architecture>(count: u64) -> Range<u64> {
    let middle = all_pages::<G>() / 2;
    middle..middle + count
}

#[track_caller]
fn assert_canonical<G: Geometry>(range: &Range<Vaddr>) {
    let sign = 0_u64.wrapping_sub(1 << (G::ADDRESS_BITS - 1));
    let is_upper = |vaddr: Vaddr| vaddr.as_u64() & sign == sign;
    let last = Vaddr::new(range.end.as_u64().wrapping_sub(1));
    assert!(is_upper(range.start) && is_upper(last), "{range:?} is not in the upper half");
}

fn answers_in_the_upper_half_are_canonical<G: Architecture>() {
    on_table::<G>(|_, root| {
        let numbers = upper::<G>(2);
        let range = pages::<G>(numbers.clone());
        assert_canonical::<G>(&range);
        let mut cursor = lock(root, range.clone());
        assert_eq!((cursor.range(), cursor.vaddr()), (range.clone(), range.start));
        let mut asked = Vec::new();
        let make = |vaddr| {
            asked.push(vaddr);
            device::<G>(1, filled_with(numbers.start), READABLE)
        };
        cursor.map_pages(range.end, make).expect("nothing is there");
        assert_eq!(asked, [range.start, range.start.plus(FRAME_SIZE)]);
        assert_eq!(cursor.vaddr(), range.end);
        cursor.jump(range.start).expect("the start");
        let first = pages::<G>(numbers.start..numbers.start + 1);
        assert_eq!(cursor.query().expect("before the end").range, first);
        assert_eq!(cursor.find_next().expect("it is mapped").range, first);
        let protected = Protected { range: first.clone(), before: READABLE };
        assert_eq!(cursor.protect_next(|_| WRITABLE), Ok(Some(protected)));
        let mut shared = SharedCursor::new(root, range.clone()).expect("a range");
        assert_eq!((shared.range(), shared.vaddr()), (range.clone(), range.start));
        assert_eq!(shared.query().expect("before the end").range, first);
        assert_eq!(shared.find_next().expect("it is mapped").range, first);
        let mut seen = Vec::new();
        shared.visit(range.end, |at, _| seen.push(at)).expect("the end");
        assert_eq!(seen, asked);
        cursor.jump(range.start).expect("the start");
        let taken = cursor.take_next().expect("no split").expect("it is mapped");
        let is_leaf = G::ENTRIES == 2;
        let expected = Unmapped {
            range: if is_leaf { range.clone() } else { first },
            frames: if is_leaf { 2 } else { 1 },
            page: (!is_leaf).then(|| raw::<G>(1, filled_with(numbers.start), WRITABLE)),
        };
        assert_eq!(taken, expected, "of two entries, both are the whole node");
    });
}

fn errors_in_the_upper_half_are_canonical<G: Architecture>() {
    on_table::<G>(|_, root| {
        let numbers = upper::<G>(2);
        let range = pages::<G>(numbers.clone());
        let [first, second] = [numbers.start, numbers.start + 1].map(page::<G>);
        fill(root, numbers.start + 1..numbers.start + 2, READABLE);
        let mut cursor = lock(root, range.clone());
        let none = |_| device::<G>(1, 1, READABLE);
        let error = cursor.map_pages(range.end, none).expect_err("the second page is mapped");
        assert_eq!(error.reason, MapFault::AlreadyMapped { vaddr: second });
        cursor.jump(second).expect("a position");
        let error = cursor.map(device::<G>(1, 1, READABLE)).expect_err("it is mapped");
        assert_eq!(error.reason, MapFault::AlreadyMapped { vaddr: second });
        assert_eq!(cursor.split(), Err(ChangeError::NoHugePage { vaddr: second }));
        let in_the_gap = Vaddr::new(numbers.start * FRAME_SIZE);
        for vaddr in [page::<G>(1), in_the_gap] {
            let outside = PositionError::Outside { vaddr, range: range.clone() };
            assert_eq!(cursor.jump(vaddr), Err(outside));
            let outside = PositionError::Outside { vaddr, range: second..range.end };
            assert_eq!(cursor.unmap(vaddr), Err(ChangeError::Position(outside)));
        }
        let vaddr = first.plus(1);
        assert_eq!(cursor.jump(vaddr), Err(PositionError::Unaligned { vaddr }));
        cursor.jump(range.end).expect("the end");
        let at_end = PositionError::AtEnd { end: range.end };
        assert_eq!(cursor.query().err(), Some(at_end));
    });
}

fn errors_of_huge_pages_in_the_upper_half_are_canonical<G: Architecture>() {
    for level in huge_levels::<G>() {
        on_table::<G>(|_, root: Root<'_, G>| {
            let start = all_pages::<G>() / 2;
            let end = start + span::<G>(level);
            let (length, at) = (span::<G>(level) * FRAME_SIZE, page::<G>(start));
            let huge = || device::<G>(level, 0, READABLE);
            let mut cursor = lock(root, pages::<G>(start..end - 1));
            let error = cursor.map(huge()).expect_err("it is too long").reason;
            let expected = MapFault::TooLong { vaddr: at, length, end: cursor.range().end };
            assert_eq!(error, expected);
            drop(cursor);
            let mut cursor = lock(root, pages::<G>(start..end));
            cursor.jump(page::<G>(start + 1)).expect("a position");
            let error = cursor.map(huge()).expect_err("it is misaligned").reason;
            assert_eq!(error, MapFault::Misaligned { vaddr: page::<G>(start + 1), length });
            drop(cursor);

            map_huge(root, level, start, READABLE);
            let mut cursor = lock(root, pages::<G>(start..end));
            cursor.split().expect("it is huge");
            let part = span::<G>(level - 1);
            cursor.jump(page::<G>(start + part)).expect("a position");
            cursor.protect_next(|_| WRITABLE).expect("no split").expect("a part is there");
            cursor.jump(at).expect("the start");
            let vaddr = page::<G>(start + part);
            assert_eq!(cursor.merge(), Err(ChangeError::NotUniform { vaddr }));
            drop(cursor);
            let found = dump(root).pages;
            let frames = physical(start) / part;
            assert_eq!(found[0], (at, raw::<G>(level - 1, frames, READABLE)));
        });
    }
}

fn a_range_up_to_the_top_ends_with_0<G: Architecture>() {
    on_table::<G>(|_, root| {
        let (all, top) = (all_pages::<G>(), Vaddr::new(0));
        for start in [all - 1, all - 2, all / 2, 1] {
            let range = page::<G>(start)..top;
            let mut cursor = lock(root, range.clone());
            assert_eq!(cursor.range(), range);
            cursor.jump(Vaddr::new(!(FRAME_SIZE - 1))).expect("the last page");
            cursor.map(device::<G>(1, 7, READABLE)).expect("nothing is there");
            assert_eq!(cursor.vaddr(), top, "behind the last page");
            assert_eq!(cursor.query().err(), Some(PositionError::AtEnd { end: top }));
            cursor.jump(range.start).expect("the start");
            cursor.jump(top).expect("the end");
            cursor.jump(range.start).expect("the start");
            assert_eq!(cursor.protect(top, |_| WRITABLE), Ok(1));
            cursor.jump(range.start).expect("the start");
            assert_eq!(cursor.unmap(top), Ok(1));
            let mut shared = SharedCursor::new(root, range.clone()).expect("a range");
            assert!(shared.find_next().is_none());
            assert_eq!((shared.vaddr(), shared.range()), (top, range));
        }
    });
}

fn the_end_of_the_lower_half_has_two_names<G: Architecture>() {
    on_table::<G>(|_, root| {
        let middle = all_pages::<G>() / 2;
        let behind = Vaddr::new(middle * FRAME_SIZE);
        let next = address::<G>(middle * FRAME_SIZE);
        assert!(!G::is_canonical(behind) && G::is_canonical(next));
        let start = page::<G>(middle - 1);
        for end in [behind, next] {
            let mut cursor = lock(root, start..end);
            assert_eq!(cursor.range(), start..behind, "it is told in one way");
            cursor.map(device::<G>(1, 7, READABLE)).expect("nothing is there");
            assert_eq!(cursor.vaddr(), behind);
            for name in [behind, next] {
                cursor.jump(start).expect("the start");
                assert_eq!(cursor.protect(name, |old| old), Ok(1));
                assert_eq!(cursor.vaddr(), behind);
                cursor.jump(name).expect("the end");
                assert_eq!(cursor.vaddr(), behind);
            }
            cursor.jump(start).expect("the start");
            let taken = cursor.take_next().expect("no split").expect("a page is there");
            assert_eq!(taken.range, start..behind);
        }
    });
}

fn a_range_on_both_sides_of_the_gap_leaves_out_the_gap<G: Architecture>() {
    on_table::<G>(|_, root| {
        let middle = all_pages::<G>() / 2;
        let (below, above) = (page::<G>(middle - 1), page::<G>(middle));
        let range = below..above.plus(FRAME_SIZE);
        let mut cursor = lock(root, range.clone());
        let mut asked = Vec::new();
        let make = |vaddr| {
            asked.push(vaddr);
            device::<G>(1, 7, READABLE)
        };
        cursor.map_pages(range.end, make).expect("nothing is there");
        assert_eq!(asked, [below, above]);
        cursor.jump(below).expect("the start");
        let before = |cursor: &mut Cursor<'_, _>| {
            cursor.protect_next(|_| WRITABLE).expect("no split").map(|it| it.range)
        };
        assert_eq!(before(&mut cursor), Some(below..below.plus(FRAME_SIZE)));
        assert_eq!(cursor.vaddr(), above, "the position skips the gap");
        assert_eq!(before(&mut cursor), Some(above..above.plus(FRAME_SIZE)));
        assert_eq!(cursor.vaddr(), range.end);
        let in_the_gap = Vaddr::new(middle * FRAME_SIZE);
        let outside = PositionError::Outside { vaddr: in_the_gap, range: range.clone() };
        assert_eq!(cursor.jump(in_the_gap), Err(outside));
        drop(cursor);
        assert_eq!(clear(root, middle - 1..middle + 1), 2);
    });
}

fn what_is_flushed_in_the_upper_half_is_canonical<G: Architecture>() {
    let all = all_pages::<G>();
    for number in [all / 2, all - 1] {
        on_watched_table::<G>(|machine, root| {
            let range = pages::<G>(number..number + 1);
            let at = Seen::Flushed(Flush::Page(range.start));
            assert_canonical::<G>(&range);
            type Change<G> = fn(&mut Cursor<'_, Table<G>>, Vaddr);
            let changes: [Change<G>; 3] = [
                |cursor, _| assert!(cursor.protect_next(|_| READABLE).is_ok_and(|it| it.is_some())),
                |cursor, end| assert_eq!(cursor.unmap(end), Ok(1)),
                |cursor, _| assert!(cursor.take_next().is_ok_and(|it| it.is_some())),
            ];
            for change in changes {
                let mut cursor = lock(root, range.clone());
                if cursor.query().expect("before the end").item.is_none() {
                    cursor.map(tracked_on(machine, WRITABLE)).expect("nothing is there");
                    cursor.jump(range.start).expect("the start");
                }
                cursor.flush();
                seen();
                change(&mut cursor, range.end);
                cursor.flush();
                assert_eq!(seen().first(), Some(&at));
            }
        });
    }
}

fn a_node_in_the_upper_half_is_found_by_its_canonical_address<G: Architecture>() {
    on_table::<G>(|_, root| {
        for number in [all_pages::<G>() / 2, all_pages::<G>() - 1] {
            for vaddr in [page::<G>(number), page::<G>(number).plus(FRAME_SIZE - 1)] {
                let guard = lock_covering(root, vaddr, Level::LEAF).expect("frames enough");
                let leaf = guard.node().paddr();
                drop(guard);
                let nodes = dump(root).nodes;
                let start = page::<G>(number / G::ENTRIES as u64 * G::ENTRIES as u64);
                assert!(nodes.contains(&(Level::LEAF, start, leaf)), "another leaf was found");
            }
            drop(lock(root, pages::<G>(number..number + 1)));
        }
    });
}
