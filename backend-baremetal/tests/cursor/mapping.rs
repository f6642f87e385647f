//! Mapping, one page or many: what goes in, what is refused, and that a refusal changes nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};

use weft_core::address::{FRAME_SIZE, Level, Paddr, Vaddr};
use weft_core::error::{MapError, MapFault, PositionError, Refusal};
use weft_core::format::{CachePolicy, PageFlags, Property, RawItem};
use weft_core::item::{Item, MappedItem};

use crate::architecture::Architecture;
use crate::fixture::{
    READABLE, Root, all_pages, assert_sound, device, dump, end, fill, huge_levels, lock, map_huge,
    nearly_all, offset, on_table, page, pages, physical, raw, span,
};
use crate::support::{Machine, WRITABLE, live, tracked, tracked_on, untracked_at};

on_every_architecture!(
    a_page_is_mapped_and_the_cursor_moves_behind_it,
    a_huge_page_is_mapped_at_every_level_of_the_format,
    nothing_is_mapped_over_what_is_mapped,
    a_huge_page_goes_where_only_empty_nodes_are,
    what_does_not_fit_is_refused,
    a_refused_item_says_what_it_said,
    items_that_no_entry_holds_are_refused,
    levels_that_no_table_has_are_refused,
    pages_are_mapped_up_to_the_end,
    many_pages_stop_at_what_is_mapped,
    the_first_page_in_the_way_is_named_before_a_huge_one,
    many_pages_stop_at_an_item_that_does_not_fit,
    many_pages_go_to_a_position_only,
    a_panic_of_the_callers_code_leaves_no_empty_node,
);

/// Maps an item at the position, and expects that it is refused and nothing changes.
#[track_caller]
fn assert_refused<G: Architecture>(
    root: Root<'_, G>,
    range: std::ops::Range<u64>,
    at: u64,
    item: MappedItem<Machine<G>>,
    expected: MapFault,
) {
    let before = dump(root);
    let mut cursor = lock(root, pages::<G>(range));
    cursor.jump(page::<G>(at)).expect("a position");
    let position = cursor.vaddr();
    let handed_in = shown(&item);
    let error = cursor.map(item).expect_err("the item is refused");
    assert_eq!(error.reason, expected);
    assert_eq!(shown(&error.back), handed_in, "the item comes back");
    assert_eq!(cursor.vaddr(), position, "the cursor has not moved");
    drop(error);
    drop(cursor);
    assert_eq!(dump(root), before, "a refused item changes nothing");
}

/// All that an item says, and whether it owns its frame.
fn shown<G: Architecture>(item: &MappedItem<Machine<G>>) -> (RawItem, bool) {
    let (frame, level, property, is_tracked) = match item {
        MappedItem::Tracked { frame, property } => (frame.paddr(), Level::LEAF, *property, true),
        MappedItem::Untracked(page) => (page.frame(), page.level(), page.property(), false),
        MappedItem::Mark(mark) => {
            (Paddr::of_frame(mark.value()), mark.level(), mark.property(), false)
        }
    };
    (RawItem { frame, level, property }, is_tracked)
}

fn a_page_is_mapped_and_the_cursor_moves_behind_it<G: Architecture>() {
    on_table::<G>(|machine, root| {
        let mut cursor = lock(root, pages::<G>(0..3));
        cursor.map(device::<G>(1, 5, READABLE)).expect("nothing is there");
        assert_eq!(cursor.vaddr(), page::<G>(1));
        let item = tracked(machine);
        let frame = shown(&item).0.frame;
        cursor.map(item).expect("nothing is there");
        assert_eq!(cursor.vaddr(), page::<G>(2));
        drop(cursor);
        let mut owned = raw::<G>(1, frame.frame_number(), WRITABLE);
        owned.property.flags.insert(PageFlags::TRACKED);
        let expected = [(page::<G>(0), raw::<G>(1, 5, READABLE)), (page::<G>(1), owned)];
        assert_eq!(dump(root).pages, expected);
    });
}

fn a_huge_page_is_mapped_at_every_level_of_the_format<G: Architecture>() {
    for level in huge_levels::<G>() {
        on_table::<G>(|_, root| {
            let (span, all) = (span::<G>(level), all_pages::<G>());
            for (start, range) in [(0, 0..all - 1), (all - span, 1..all)] {
                let mut cursor = lock(root, pages::<G>(range));
                cursor.jump(page::<G>(start)).expect("a position");
                cursor.map(device::<G>(level, 3, WRITABLE)).expect("nothing is there");
                assert_eq!(cursor.vaddr(), page::<G>(start + span));
            }
            let item = raw::<G>(level, 3, WRITABLE);
            assert_eq!(dump(root).pages, [(page::<G>(0), item), (page::<G>(all - span), item)]);
        });
    }
}

fn already<G: Architecture>(number: u64) -> MapFault {
    MapFault::AlreadyMapped { vaddr: page::<G>(number) }
}

fn nothing_is_mapped_over_what_is_mapped<G: Architecture>() {
    on_table::<G>(|_, root| {
        fill(root, 1..2, READABLE);
        assert_refused(root, 0..3, 1, device::<G>(1, 9, READABLE), already::<G>(1));
        for level in huge_levels::<G>() {
            let span = span::<G>(level);
            // A huge page over small ones: the first of them is named.
            assert_refused(root, 0..span, 0, device::<G>(level, 9, READABLE), already::<G>(1));
        }
    });
    for level in huge_levels::<G>() {
        on_table::<G>(|_, root| {
            let span = span::<G>(level);
            let start = all_pages::<G>() - span;
            map_huge(root, level, start, READABLE);
            for below in 1..=level {
                let last = start + span - crate::fixture::span::<G>(below);
                for at in [start, last] {
                    let item = device::<G>(below, 9, READABLE);
                    assert_refused(root, start..start + span, at, item, already::<G>(at));
                }
            }
        });
    }
}

fn a_huge_page_goes_where_only_empty_nodes_are<G: Architecture>() {
    for level in huge_levels::<G>() {
        on_table::<G>(|_, root| {
            let span = span::<G>(level);
            let mut cursor = lock(root, nearly_all::<G>());
            cursor.map(device::<G>(1, 5, READABLE)).expect("nothing is there");
            cursor.jump(page::<G>(0)).expect("the start");
            cursor.unmap(page::<G>(1)).expect("nothing to split");
            cursor.jump(page::<G>(0)).expect("the start");
            // The leaf is still there, empty: it is in nobody's way.
            cursor.map(device::<G>(level, 0, READABLE)).expect("only an empty node is there");
            assert_eq!(cursor.vaddr(), page::<G>(span));
            drop(cursor);
            assert_eq!(dump(root).pages, [(page::<G>(0), raw::<G>(level, 0, READABLE))]);
        });
    }
}

fn what_does_not_fit_is_refused<G: Architecture>() {
    for level in huge_levels::<G>() {
        on_table::<G>(|_, root| {
            let (span, all) = (span::<G>(level), all_pages::<G>());
            let length = span * FRAME_SIZE;
            let too_long =
                MapFault::TooLong { vaddr: page::<G>(0), length, end: page::<G>(span - 1) };
            assert_refused(root, 0..span - 1, 0, device::<G>(level, 0, READABLE), too_long);
            let misaligned = |at| MapFault::Misaligned { vaddr: page::<G>(at), length };
            for at in [1, span / 2, span - 1] {
                let item = device::<G>(level, 0, READABLE);
                assert_refused(root, 0..all - 1, at, item, misaligned(at));
            }
        });
    }
    on_table::<G>(|machine, root| {
        let end = end::<G>(2);
        let at_end = MapFault::Position(PositionError::AtEnd { end });
        assert_refused(root, 0..2, 2, device::<G>(1, 0, READABLE), at_end.clone());
        assert_refused(root, 0..2, 2, tracked(machine), at_end);
    });
}

/// Also who owns the frame: that is a matter of the entry, and no entry has it.
fn a_refused_item_says_what_it_said<G: Architecture>() {
    on_table::<G>(|machine, root| {
        fill(root, 1..2, READABLE);
        let others = PageFlags::all() - PageFlags::GLOBAL - PageFlags::TRACKED - PageFlags::MARK;
        for flags in [PageFlags::empty(), PageFlags::WRITE | PageFlags::USER, others] {
            for cache in [CachePolicy::WriteBack, CachePolicy::WriteProtected] {
                let property = Property { flags, cache };
                let owned = tracked_on(machine, property);
                assert_eq!(shown(&owned).0.property, property);
                assert_refused(root, 0..3, 1, owned, already::<G>(1));
                let item = device::<G>(1, 9, property);
                assert_refused(root, 0..3, 1, item, already::<G>(1));
            }
        }
        let mut cursor = lock(root, pages::<G>(1..2));
        for item in [
            tracked_on(machine, Property::new(PageFlags::all() - PageFlags::GLOBAL)),
            device::<G>(1, 9, Property::new(PageFlags::all() - PageFlags::GLOBAL)),
        ] {
            let back = cursor.map(item).expect_err("it is mapped already").back;
            assert_eq!(shown(&back).0.property, Property::new(others), "an item is what it is");
        }
    });
}

fn items_that_no_entry_holds_are_refused<G: Architecture>() {
    on_table::<G>(|_, root| {
        for frame in [1 << G::PHYSICAL_BITS, 1 << 63, !(2 * FRAME_SIZE - 1)].map(Paddr::new) {
            let item = untracked_at(frame, Level::LEAF, READABLE);
            let expected = MapFault::Refused(Refusal::OutOfRange { frame });
            assert_refused(root, 0..1, 0, item, expected);
        }
        for level in (1..=G::PAGE_LEVELS).map(Level::new) {
            let alignment = G::entry_span(level);
            for bit in [0, FRAME_SIZE.ilog2() - 1, alignment.ilog2() - 1] {
                let frame = Paddr::new(1 << bit);
                let item = untracked_at(frame, level, READABLE);
                let expected = MapFault::Refused(Refusal::Unaligned { frame, alignment });
                assert_refused(root, 0..all_pages::<G>() / 2, 0, item, expected);
            }
        }
    });
}

fn levels_that_no_table_has_are_refused<G: Architecture>() {
    on_table::<G>(|_, root| {
        let none = G::PAGE_LEVELS + 1..=G::LEVELS;
        for entry in none.map(Level::new) {
            let item = untracked_at(Paddr::new(0), entry, READABLE);
            let expected = MapFault::Refused(Refusal::NoPagesHere { entry });
            assert_refused(root, 0..all_pages::<G>() / 2, 0, item, expected);
        }
    });
}

fn pages_are_mapped_up_to_the_end<G: Architecture>() {
    on_table::<G>(|_, root| {
        let all = all_pages::<G>();
        let around = |border: u64| {
            let start = border.saturating_sub(2);
            start..(border + 2).min(all - u64::from(start == 0))
        };
        for range in [around(all / 2), around(span::<G>(2)), around(all), around(0)] {
            let first = u64::from(range.start > 0);
            let mut cursor = lock(root, pages::<G>(first..all - 1 + first));
            cursor.jump(page::<G>(range.start)).expect("a position");
            let mut asked = Vec::new();
            let make = |vaddr: Vaddr| {
                asked.push(vaddr);
                device::<G>(1, physical(offset::<G>(vaddr) / FRAME_SIZE), READABLE)
            };
            cursor.map_pages(page::<G>(range.end), make).expect("nothing is there");
            assert_eq!(cursor.vaddr(), page::<G>(range.end));
            assert_eq!(
                asked,
                range.clone().map(page::<G>).collect::<Vec<_>>(),
                "each once, in order"
            );
            drop(cursor);
            let expected = |number| (page::<G>(number), raw::<G>(1, physical(number), READABLE));
            assert_eq!(dump(root).pages, range.clone().map(expected).collect::<Vec<_>>());
            let mut cursor = lock(root, pages::<G>(range.clone()));
            assert_eq!(cursor.unmap(page::<G>(range.end)), Ok(range.end - range.start));
        }
    });
}

/// What a failed bulk mapping says.
fn said<T>(result: Result<(), MapError<Option<T>>>) -> (MapFault, Option<T>) {
    let error = result.expect_err("not all of it can be mapped");
    (error.reason, error.back)
}

fn many_pages_stop_at_what_is_mapped<G: Architecture>() {
    on_table::<G>(|machine, root| {
        let all = all_pages::<G>();
        for there in [0, 1, all / 2, all - 1] {
            let start = there.saturating_sub(2);
            let range = start..(there + 2).min(all - u64::from(start == 0));
            fill(root, there..there + 1, READABLE);
            let before = dump(root);
            let mut cursor = lock(root, pages::<G>(range.clone()));
            let (fault, item) = said(cursor.map_pages(page::<G>(range.end), |_| tracked(machine)));
            assert_eq!(fault, MapFault::AlreadyMapped { vaddr: page::<G>(there) });
            assert!(item.is_none(), "no item was made for it");
            assert_eq!(cursor.vaddr(), page::<G>(range.start), "the cursor has not moved");
            drop(cursor);
            assert_eq!(dump(root), before, "what had been mapped is unmapped again");
            assert_eq!(lock(root, pages::<G>(there..there + 1)).unmap(page::<G>(there + 1)), Ok(1));
        }
    });
    for level in huge_levels::<G>() {
        on_table::<G>(|_, root| {
            let (span, all) = (span::<G>(level), all_pages::<G>());
            map_huge(root, level, all - span, READABLE);
            let before = dump(root);
            for start in [all - span, all - span + 1, all - 1, (all - span).saturating_sub(1)] {
                let mut cursor = lock(root, pages::<G>(start..all));
                let before_it = live(root.backend());
                let none = |_| -> MappedItem<Machine<G>> { panic!("no item is asked for") };
                let (fault, _) = said(cursor.map_pages(page::<G>(all), none));
                let vaddr = page::<G>(start.max(all - span));
                assert_eq!(fault, MapFault::AlreadyMapped { vaddr });
                assert_eq!(live(root.backend()), before_it);
                drop(cursor);
                assert_eq!(dump(root), before);
            }
        });
    }
}

fn the_first_page_in_the_way_is_named_before_a_huge_one<G: Architecture>() {
    on_table::<G>(|_, root| {
        let huge = span::<G>(2);
        fill(root, 1..2, READABLE);
        map_huge(root, 2, huge, READABLE);
        let mut cursor = lock(root, pages::<G>(0..huge + 1));
        let none = |_| -> MappedItem<Machine<G>> { panic!("no item is asked for") };
        assert_eq!(said(cursor.map_pages(page::<G>(huge + 1), none)).0, already::<G>(1));
    });
}

fn many_pages_stop_at_an_item_that_does_not_fit<G: Architecture>() {
    on_table::<G>(|machine, root| {
        for (wrong, misfit) in [
            (device::<G>(2, 1, READABLE), {
                Refusal::WrongLevel { entry: Level::LEAF, child: Level::new(2) }
            }),
            (
                untracked_at(Paddr::new(1 << 60), Level::LEAF, READABLE),
                Refusal::OutOfRange { frame: Paddr::new(1 << 60) },
            ),
        ] {
            let before = dump(root);
            let handed_in = shown(&wrong);
            let mut wrong = Some(wrong);
            let mut cursor = lock(root, pages::<G>(1..4));
            let make = |vaddr| match vaddr == page::<G>(3) {
                true => wrong.take().expect("asked for once"),
                false => tracked(machine),
            };
            let (fault, item) = said(cursor.map_pages(page::<G>(4), make));
            assert_eq!(fault, MapFault::Refused(misfit));
            assert_eq!(item.as_ref().map(shown), Some(handed_in), "the item comes back");
            assert_eq!(cursor.vaddr(), page::<G>(1));
            drop(cursor);
            assert_eq!(dump(root), before, "what had been mapped is unmapped again");
        }
    });
}

fn many_pages_go_to_a_position_only<G: Architecture>() {
    on_table::<G>(|_, root| {
        let mut cursor = lock(root, pages::<G>(1..3));
        cursor.jump(page::<G>(2)).expect("a position");
        let mut none = |_| -> MappedItem<Machine<G>> { panic!("no item is asked for") };
        for vaddr in [page::<G>(1), page::<G>(0), page::<G>(4), Vaddr::new(u64::MAX), Vaddr::new(0)]
        {
            let outside = PositionError::Outside { vaddr, range: pages::<G>(2..3) };
            assert_eq!(said(cursor.map_pages(vaddr, &mut none)).0, MapFault::Position(outside));
        }
        let vaddr = page::<G>(2).plus(1);
        let unaligned = MapFault::Position(PositionError::Unaligned { vaddr });
        assert_eq!(said(cursor.map_pages(vaddr, &mut none)).0, unaligned);
        cursor.map_pages(page::<G>(2), &mut none).expect("up to here is nothing");
        assert_eq!(cursor.vaddr(), page::<G>(2));
    });
}

/// The item is made by the caller's code, when nodes for it have been grown already.
fn a_panic_of_the_callers_code_leaves_no_empty_node<G: Architecture>() {
    on_table::<G>(|_, root| {
        // Either side has a branch of its own.
        let middle = all_pages::<G>() / 2;
        let range = middle - 1..middle + 1;
        for stop in range.clone() {
            let mut cursor = lock(root, nearly_all::<G>());
            cursor.jump(page::<G>(range.start)).expect("a position");
            let make = |vaddr| match vaddr == page::<G>(stop) {
                true => panic!("the caller gives up"),
                false => device::<G>(1, 1, READABLE),
            };
            let map = AssertUnwindSafe(|| cursor.map_pages(page::<G>(range.end), make));
            catch_unwind(map).expect_err("the closure has panicked");
            assert_eq!(cursor.vaddr(), page::<G>(range.start), "the cursor has moved");
            drop(cursor);
            assert_sound(root);
            let mapped = stop - range.start;
            assert_eq!(dump(root).pages.len() as u64, mapped, "what was made before is mapped");
            let mut cursor = lock(root, pages::<G>(range.clone()));
            assert_eq!(cursor.unmap(page::<G>(range.end)), Ok(mapped));
        }
    });
}

/// An item as it is written, for comparisons that have no table.
#[test]
fn what_is_mapped_reads_as_the_item() {
    type G = weft_core::geometry::FourLevels;
    let item = device::<G>(2, 9, WRITABLE);
    let RawItem { frame, level, property } = item.into_raw();
    assert_eq!((frame.as_u64(), level.as_u8(), property), (9 << 21, 2, WRITABLE));
}
