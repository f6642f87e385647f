//! Unmapping, one step or a range: what comes out, how much it was, and what is split for it.

use std::ops::Range;

use weft_core::address::{Level, Vaddr};
use weft_core::cursor::Unmapped;
use weft_core::error::{ChangeError, PositionError};
use weft_core::format::RawItem;

use crate::architecture::Architecture;
use crate::fixture::{
    READABLE, all_pages, clear, device, dump, end, fill, filled_with, halves, huge_levels, lock,
    map_huge, nearly_all, on_table, page, pages, physical, raw, span,
};
use crate::support::{WRITABLE, tracked};

on_every_architecture!(
    unmapping_nothing_finds_nothing,
    a_page_is_taken_out_as_it_was,
    a_node_is_taken_out_whole_where_the_range_has_all_of_it,
    a_node_that_sticks_out_is_taken_page_by_page,
    a_range_is_counted_in_frames_of_the_smallest_size,
    neighbours_of_a_range_stay,
    a_huge_page_is_taken_whole_where_the_range_has_all_of_it,
    of_a_huge_page_only_what_is_in_the_range_goes,
    take_next_splits_as_far_as_it_must,
    an_end_that_is_no_position_is_refused,
);

fn unmapping_nothing_finds_nothing<G: Architecture>() {
    on_table::<G>(|_, root| {
        let ranges = [pages::<G>(0..1), pages::<G>(1..3), nearly_all::<G>()];
        for range in ranges.into_iter().chain(halves::<G>()) {
            let mut cursor = lock(root, range.clone());
            assert_eq!(cursor.unmap(range.end), Ok(0));
            assert_eq!(cursor.vaddr(), range.end);
            cursor.jump(range.start).expect("the start");
            assert_eq!((cursor.take_next(), cursor.vaddr()), (Ok(None), range.end));
            cursor.jump(range.start).expect("the start");
            assert_eq!(cursor.unmap(range.start), Ok(0), "up to here is nothing");
            assert_eq!(cursor.vaddr(), range.start);
        }
    });
}

fn a_page_is_taken_out_as_it_was<G: Architecture>() {
    on_table::<G>(|_, root| {
        fill(root, 1..2, WRITABLE);
        fill(root, 2..3, READABLE);
        let mut cursor = lock(root, pages::<G>(1..3));
        for (number, property) in [(1, WRITABLE), (2, READABLE)] {
            let page = Some(raw::<G>(1, filled_with(number), property));
            let expected = Unmapped { range: pages::<G>(number..number + 1), frames: 1, page };
            assert_eq!(cursor.take_next(), Ok(Some(expected)));
        }
        assert_eq!(cursor.take_next(), Ok(None));
    });
}

fn a_node_is_taken_out_whole_where_the_range_has_all_of_it<G: Architecture>() {
    for level in 2..=G::LEVELS {
        on_table::<G>(|machine, root| {
            let span = span::<G>(level);
            let start = all_pages::<G>() - span;
            let mut cursor = lock(root, pages::<G>(start..start + span));
            for number in [start, start + 1, start + span - 1] {
                cursor.jump(page::<G>(number)).expect("a position");
                if cursor.query().expect("before the end").item.is_none() {
                    cursor.map(tracked(machine)).expect("nothing is there");
                }
            }
            let frames = if span == 2 { 2 } else { 3 };
            cursor.jump(page::<G>(start)).expect("the start");
            let taken = cursor.take_next().expect("no split");
            let range = pages::<G>(start..start + span);
            assert_eq!(taken, Some(Unmapped { range, frames, page: None }));
            assert_eq!(cursor.vaddr(), page::<G>(start + span));
        });
    }
}

fn a_node_that_sticks_out_is_taken_page_by_page<G: Architecture>() {
    on_table::<G>(|_, root| {
        let leaf = G::ENTRIES as u64;
        fill(root, 0..leaf, READABLE);
        let mut cursor = lock(root, pages::<G>(1..leaf));
        for number in 1..leaf {
            let page = Some(raw::<G>(1, filled_with(number), READABLE));
            let expected = Unmapped { range: pages::<G>(number..number + 1), frames: 1, page };
            assert_eq!(cursor.take_next(), Ok(Some(expected)));
        }
        assert_eq!(cursor.take_next(), Ok(None));
        drop(cursor);
        assert_eq!(dump(root).pages, [(page::<G>(0), raw::<G>(1, 4096, READABLE))]);
    });
}

fn a_range_is_counted_in_frames_of_the_smallest_size<G: Architecture>() {
    on_table::<G>(|_, root| {
        let all = all_pages::<G>();
        let mut frames = 2;
        fill(root, 0..2, READABLE);
        for level in huge_levels::<G>().filter(|&level| level < G::LEVELS) {
            let span = span::<G>(level);
            map_huge(root, level, span, READABLE);
            frames += span;
        }
        fill(root, all - 2..all - 1, READABLE);
        let end = nearly_all::<G>().end;
        let mut cursor = lock(root, nearly_all::<G>());
        assert_eq!(cursor.protect(end, |old| old), Ok(frames + 1));
        cursor.jump(page::<G>(0)).expect("the start");
        assert_eq!(cursor.unmap(end), Ok(frames + 1), "every frame of a huge page is counted");
        assert_eq!(cursor.vaddr(), end);
        cursor.jump(page::<G>(0)).expect("the start");
        assert_eq!(cursor.unmap(end), Ok(0), "it is all gone");
    });
}

fn neighbours_of_a_range_stay<G: Architecture>() {
    on_table::<G>(|_, root| {
        let all = all_pages::<G>();
        let borders = (1..=G::LEVELS).map(|level| span::<G>(level)).filter(|&at| at + 1 < all);
        for border in borders {
            let filled = border.saturating_sub(3)..(border + 3).min(all);
            for start in filled.clone() {
                for end in start + 1..=filled.end.min(all - u64::from(start == 0)) {
                    fill(root, filled.clone(), READABLE);
                    let range = pages::<G>(start..end);
                    assert_eq!(lock(root, range.clone()).unmap(range.end), Ok(end - start));
                    let left: Vec<Vaddr> = dump(root).pages.iter().map(|it| it.0).collect();
                    let stays = |number: &u64| !(start..end).contains(number);
                    let expected: Vec<Vaddr> =
                        filled.clone().filter(stays).map(page::<G>).collect();
                    assert_eq!(left, expected);
                    let left = filled.end - filled.start - (end - start);
                    assert_eq!(clear(root, filled.clone()), left);
                }
            }
        }
    });
}

fn a_huge_page_is_taken_whole_where_the_range_has_all_of_it<G: Architecture>() {
    for level in huge_levels::<G>() {
        on_table::<G>(|_, root| {
            let span = span::<G>(level);
            let expected = Unmapped {
                range: pages::<G>(0..span),
                frames: span,
                page: Some(raw::<G>(level, 0, WRITABLE)),
            };
            map_huge(root, level, 0, WRITABLE);
            let taken = lock(root, pages::<G>(0..span)).take_next();
            assert_eq!(taken, Ok(Some(expected)));
            map_huge(root, level, 0, WRITABLE);
            assert_eq!(lock(root, pages::<G>(0..span)).unmap(page::<G>(span)), Ok(span));
            assert_eq!(dump(root).pages, []);
        });
    }
}

/// The parts of a range: the largest aligned ones, in order.
fn parts<G: Architecture>(mut range: Range<u64>, below: u8) -> Vec<Range<u64>> {
    let mut parts = Vec::new();
    while range.start < range.end {
        let fits = |&level: &u8| {
            let span = span::<G>(level);
            range.start.is_multiple_of(span) && range.start + span <= range.end
        };
        let level = (1..below).rev().find(fits).expect("a page fits");
        let end = range.start + span::<G>(level);
        parts.push(range.start..end);
        range.start = end;
    }
    parts
}

/// Ranges that have a part of a huge page of this many pages, at one end or at both.
fn partial(span: u64) -> Vec<Range<u64>> {
    let middle = span / 2;
    let ranges = [0..1, 0..span - 1, 1..span, span - 1..span, 1..span - 1, 0..middle];
    let more = [middle..span, middle..middle + 1, middle - 1..middle + 1];
    let mut all: Vec<Range<u64>> = ranges.into_iter().chain(more).collect();
    all.retain(|range| range.start < range.end && range.end - range.start < span);
    all.dedup();
    all
}

fn of_a_huge_page_only_what_is_in_the_range_goes<G: Architecture>() {
    for level in huge_levels::<G>() {
        let (span, all) = (span::<G>(level), all_pages::<G>());
        for range in partial(span) {
            on_table::<G>(|_, root| {
                let start = all - span;
                map_huge(root, level, start, WRITABLE);
                let gone = start + range.start..start + range.end;
                let length = range.end - range.start;
                let mut cursor = lock(root, pages::<G>(gone.clone()));
                assert_eq!(cursor.unmap(page::<G>(gone.end)), Ok(length));
                drop(cursor);
                let left = dump(root).pages;
                let expected = parts::<G>(start..gone.start, level)
                    .into_iter()
                    .chain(parts::<G>(gone.end..all, level))
                    .map(|part| {
                        let frames = part.end - part.start;
                        let level = (1..=level).find(|&it| crate::fixture::span::<G>(it) == frames);
                        let level = level.expect("a part is as long as a page");
                        (
                            page::<G>(part.start),
                            raw::<G>(level, physical(part.start) / frames, WRITABLE),
                        )
                    });
                assert_eq!(left, expected.collect::<Vec<(Vaddr, RawItem)>>());
            });
        }
    }
}

fn take_next_splits_as_far_as_it_must<G: Architecture>() {
    for level in huge_levels::<G>() {
        let span = span::<G>(level);
        for range in partial(span) {
            if range.end - range.start > 4096 {
                continue;
            }
            on_table::<G>(|_, root| {
                map_huge(root, level, 0, WRITABLE);
                let mut cursor = lock(root, pages::<G>(range.clone()));
                for part in parts::<G>(range.clone(), level) {
                    let taken = cursor.take_next().expect("frames enough").expect("it is there");
                    assert_eq!(taken.range, pages::<G>(part.clone()));
                    assert_eq!(taken.frames, part.end - part.start);
                    let item = taken.page.expect("a page of the huge page's");
                    assert_eq!(item.frame.frame_number(), part.start);
                    let is_last = part.end == range.end;
                    let behind = if is_last { end::<G>(part.end) } else { page::<G>(part.end) };
                    assert_eq!(cursor.vaddr(), behind);
                }
                assert_eq!(cursor.take_next(), Ok(None));
                drop(cursor);
                let left: u64 =
                    dump(root).pages.iter().map(|(_, it)| G::entry_frames(it.level)).sum();
                assert_eq!(left, span - (range.end - range.start));
            });
        }
    }
}

fn an_end_that_is_no_position_is_refused<G: Architecture>() {
    on_table::<G>(|_, root| {
        fill(root, 0..4, READABLE);
        let before = dump(root);
        let mut cursor = lock(root, pages::<G>(0..3));
        cursor.jump(page::<G>(1)).expect("a position");
        for vaddr in [page::<G>(0), page::<G>(4), page::<G>(3).plus(1), Vaddr::new(u64::MAX)] {
            let outside = PositionError::Outside { vaddr, range: pages::<G>(1..3) };
            let outside = Err(ChangeError::Position(outside));
            assert_eq!(cursor.unmap(vaddr), outside);
            assert_eq!(cursor.protect(vaddr, |_| panic!("nothing is changed")), outside);
        }
        for vaddr in [page::<G>(1).plus(1), page::<G>(2).plus(4095)] {
            let unaligned = Err(ChangeError::Position(PositionError::Unaligned { vaddr }));
            assert_eq!(cursor.unmap(vaddr), unaligned);
            assert_eq!(cursor.protect(vaddr, |_| panic!("nothing is changed")), unaligned);
        }
        assert_eq!(cursor.vaddr(), page::<G>(1), "the cursor has not moved");
        drop(cursor);
        assert_eq!(dump(root), before);
        let mut cursor = lock(root, pages::<G>(3..4));
        cursor.map(device::<G>(1, 1, READABLE)).expect_err("it is mapped already");
        assert_eq!(
            cursor.query().expect("before the end").item.map(|it| it.level),
            Some(Level::LEAF)
        );
    });
}
