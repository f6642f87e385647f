//! Huge pages into their parts, and pages into a huge one.

use weft_core::address::{Level, Vaddr};
use weft_core::error::{ChangeError, PositionError, Refusal};

use crate::architecture::Architecture;
use crate::fixture::{
    READABLE, Root, all_pages, device, dump, end, fill, huge_levels, lock, map_huge, nearly_all,
    on_table, page, pages, physical, raw, span,
};
use crate::support::{WRITABLE, live, tracked};

on_every_architecture!(
    a_huge_page_is_split_into_parts_that_map_the_same,
    where_no_huge_page_is_nothing_is_split,
    parts_are_merged_into_the_page_that_they_were,
    merging_gives_back_the_node,
    pages_that_are_not_alike_are_not_merged,
    pages_that_own_their_frames_are_not_merged,
    pages_that_no_entry_holds_as_one_are_not_merged,
    a_node_that_sticks_out_is_not_merged,
);

fn a_huge_page_is_split_into_parts_that_map_the_same<G: Architecture>() {
    for level in huge_levels::<G>() {
        on_table::<G>(|_, root| {
            let (all, part) = (span::<G>(level), span::<G>(level - 1));
            let start = all_pages::<G>() - all;
            map_huge(root, level, start, WRITABLE);
            let mut cursor = lock(root, pages::<G>(start + 1..start + 2));
            assert_eq!(cursor.split(), Ok(()));
            assert_eq!(cursor.vaddr(), page::<G>(start + 1), "a split does not move");
            drop(cursor);
            let parts = (start..start + all).step_by(part as usize);
            let expected = parts.map(|number| {
                (page::<G>(number), raw::<G>(level - 1, physical(number) / part, WRITABLE))
            });
            assert_eq!(dump(root).pages, expected.collect::<Vec<_>>());
        });
    }
}

fn where_no_huge_page_is_nothing_is_split<G: Architecture>() {
    on_table::<G>(|_, root| {
        fill(root, 0..1, READABLE);
        let mut cursor = lock(root, pages::<G>(0..2));
        for number in 0..2 {
            let vaddr = page::<G>(number);
            cursor.jump(vaddr).expect("a position");
            assert_eq!(cursor.split(), Err(ChangeError::NoHugePage { vaddr }));
        }
        cursor.jump(page::<G>(2)).expect("the end");
        let at_end = PositionError::AtEnd { end: end::<G>(2) };
        assert_eq!(cursor.split(), Err(ChangeError::Position(at_end.clone())));
        assert_eq!(cursor.merge(), Err(ChangeError::Position(at_end)));
    });
}

fn parts_are_merged_into_the_page_that_they_were<G: Architecture>() {
    for level in huge_levels::<G>() {
        on_table::<G>(|_, root| {
            let all = span::<G>(level);
            map_huge(root, level, 0, WRITABLE);
            let before = dump(root);
            let mut cursor = lock(root, pages::<G>(0..all));
            cursor.jump(page::<G>(all - 1)).expect("a position");
            for _ in 1..level {
                cursor.split().expect("it is huge");
            }
            for _ in 1..level {
                assert_eq!(cursor.merge(), Ok(()), "the parts are those of one page");
                assert_eq!(cursor.vaddr(), page::<G>(all - 1), "a merge does not move");
            }
            drop(cursor);
            assert_eq!(dump(root), before);
        });
    }
}

fn merging_gives_back_the_node<G: Architecture>() {
    let Some(level) = huge_levels::<G>().next() else { return };
    on_table::<G>(|_, root| {
        let all = span::<G>(level);
        let before = live(root.backend());
        map_huge(root, level, 0, READABLE);
        let with_page = live(root.backend());
        let mut cursor = lock(root, pages::<G>(0..all));
        cursor.split().expect("it is huge");
        cursor.merge().expect("the parts are alike");
        drop(cursor);
        assert_eq!(dump(root).nodes.len() as u64, 1 + with_page - before);
        // The node of parts waits for a grace period; that it comes back is checked by `on_table`.
        assert_eq!(live(root.backend()), with_page + 1);
    });
}

/// Merges around page 0, which is refused, and changes nothing.
#[track_caller]
fn assert_refused<G: Architecture>(root: Root<'_, G>, expected: ChangeError) {
    let before = (dump(root), live(root.backend()));
    let mut cursor = lock(root, nearly_all::<G>());
    assert_eq!(cursor.merge(), Err(expected), "a merge is not refused for what is in its way");
    assert_eq!(cursor.vaddr(), page::<G>(0));
    drop(cursor);
    assert_eq!((dump(root), live(root.backend())), before, "a refused merge changes nothing");
}

fn pages_that_are_not_alike_are_not_merged<G: Architecture>() {
    let leaf = G::ENTRIES as u64;
    for odd in [0, 1, leaf / 2, leaf - 1] {
        on_table::<G>(|_, root| {
            fill(root, 0..leaf, READABLE);
            // Another right, another frame, nothing at all. The first page is the measure.
            let vaddr = page::<G>(if odd == 0 { 1 } else { odd });
            let mut cursor = lock(root, pages::<G>(odd..odd + 1));
            cursor.protect_next(|_| WRITABLE).expect("no split").expect("a page is there");
            drop(cursor);
            assert_refused(root, ChangeError::NotUniform { vaddr });
            let mut cursor = lock(root, pages::<G>(odd..odd + 1));
            cursor.unmap(page::<G>(odd + 1)).expect("no split");
            drop(cursor);
            assert_refused(root, ChangeError::NotUniform { vaddr: page::<G>(odd) });
            let mut cursor = lock(root, pages::<G>(odd..odd + 1));
            cursor.map(device::<G>(1, 77, READABLE)).expect("it was unmapped");
            drop(cursor);
            assert_refused(root, ChangeError::NotUniform { vaddr });
        });
    }
}

fn pages_that_own_their_frames_are_not_merged<G: Architecture>() {
    on_table::<G>(|machine, root| {
        let leaf = G::ENTRIES as u64;
        let mut cursor = lock(root, pages::<G>(0..leaf));
        cursor.map_pages(page::<G>(leaf), |_| tracked(machine)).expect("nothing is there");
        drop(cursor);
        assert_refused(root, ChangeError::Tracked);
    });
}

fn pages_that_no_entry_holds_as_one_are_not_merged<G: Architecture>() {
    on_table::<G>(|_, root| {
        let leaf = G::ENTRIES as u64;
        let mut cursor = lock(root, pages::<G>(0..leaf));
        let make = |vaddr: Vaddr| device::<G>(1, 1 + vaddr.as_u64() / 4096, READABLE);
        cursor.map_pages(page::<G>(leaf), make).expect("nothing is there");
        drop(cursor);
        let alignment = G::entry_span(Level::new(2));
        let frame = raw::<G>(1, 1, READABLE).frame;
        assert_refused(root, ChangeError::Refused(Refusal::Unaligned { frame, alignment }));
    });
}

fn a_node_that_sticks_out_is_not_merged<G: Architecture>() {
    on_table::<G>(|_, root| {
        let leaf = G::ENTRIES as u64;
        fill(root, 0..leaf, READABLE);
        for range in [0..leaf - 1, 1..leaf, 1..leaf + 1] {
            let mut cursor = lock(root, pages::<G>(range.clone()));
            assert_eq!(cursor.merge(), Err(ChangeError::NotANode));
        }
        let mut cursor = lock(root, pages::<G>(0..leaf));
        assert_eq!(cursor.merge(), Ok(()));
        assert_eq!(dump(root).pages.len(), 1);
    });
    // Of the root there is no level above.
    let Some(level) = huge_levels::<G>().find(|&level| level == G::LEVELS) else { return };
    on_table::<G>(|_, root| {
        map_huge(root, level, 0, READABLE);
        map_huge(root, level, span::<G>(level), READABLE);
        assert_refused(root, ChangeError::NotANode);
    });
}
