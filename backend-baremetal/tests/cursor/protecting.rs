//! Changing properties, one page or a range.

use weft_core::cursor::Protected;
use weft_core::format::{CachePolicy, PageFlags, Property};

use crate::architecture::Architecture;
use crate::fixture::{
    READABLE, all_pages, dump, fill, filled_with, huge_levels, lock, map_huge, nearly_all,
    on_table, page, pages, raw, span,
};
use crate::support::{WRITABLE, tracked};

on_every_architecture!(
    a_range_gets_another_property_and_its_neighbours_do_not,
    one_page_gets_another_property_and_the_one_before_comes_back,
    every_flag_and_policy_is_set_as_asked,
    who_owns_the_frame_stays,
    protecting_nothing_asks_nothing,
    of_a_huge_page_only_what_is_in_the_range_changes,
    protect_next_splits_as_far_as_it_must,
    protect_next_changes_nothing_before_the_position_or_behind_the_range,
);

fn a_range_gets_another_property_and_its_neighbours_do_not<G: Architecture>() {
    on_table::<G>(|_, root| {
        let border = span::<G>(2);
        let filled = border - 2..(border + 2).min(all_pages::<G>());
        fill(root, filled.clone(), READABLE);
        for start in filled.clone() {
            let last = filled.end.min(all_pages::<G>() - u64::from(start == 0));
            for end in start + 1..=last {
                let range = pages::<G>(start..end);
                let mut cursor = lock(root, range.clone());
                assert_eq!(cursor.protect(range.end, |_| WRITABLE), Ok(end - start));
                assert_eq!(cursor.vaddr(), range.end);
                cursor.jump(page::<G>(start)).expect("the start");
                for (number, (_, item)) in filled.clone().zip(dump(root).pages) {
                    let inside = (start..end).contains(&number);
                    let property = if inside { WRITABLE } else { READABLE };
                    assert_eq!(item, raw::<G>(1, filled_with(number), property));
                }
                assert_eq!(cursor.protect(range.end, |_| READABLE), Ok(end - start));
            }
        }
    });
}

fn one_page_gets_another_property_and_the_one_before_comes_back<G: Architecture>() {
    on_table::<G>(|_, root| {
        let last = all_pages::<G>() - 1;
        fill(root, 1..2, READABLE);
        fill(root, last..last + 1, READABLE);
        let mut cursor = lock(root, pages::<G>(1..last + 1));
        for number in [1, last] {
            let changed = cursor.protect_next(|old| {
                assert_eq!(old, READABLE);
                WRITABLE
            });
            let range = pages::<G>(number..number + 1);
            assert_eq!(changed, Ok(Some(Protected { range, before: READABLE })));
            assert_eq!(cursor.vaddr(), page::<G>(number + 1));
        }
        assert_eq!(cursor.protect_next(|_| panic!("nothing is left")), Ok(None));
        assert_eq!(cursor.vaddr(), page::<G>(last + 1));
        drop(cursor);
        assert!(dump(root).pages.iter().all(|(_, item)| item.property == WRITABLE));
    });
}

fn every_flag_and_policy_is_set_as_asked<G: Architecture>() {
    on_table::<G>(|_, root| {
        fill(root, 0..1, READABLE);
        let mut cursor = lock(root, pages::<G>(0..1));
        let policies = [CachePolicy::WriteBack, CachePolicy::Uncached, CachePolicy::WriteCombining];
        for bits in 0..=PageFlags::all().bits() {
            for cache in policies {
                let flags = PageFlags::from_bits_truncate(bits);
                cursor.jump(page::<G>(0)).expect("the start");
                cursor.protect(page::<G>(1), |_| Property { flags, cache }).expect("no split");
                let kept = PageFlags::TRACKED | PageFlags::MARK | PageFlags::GLOBAL;
                let expected = Property { flags: flags - kept, cache };
                assert_eq!(
                    dump(root).pages,
                    [(page::<G>(0), raw::<G>(1, 4096, G::kept(expected)))]
                );
            }
        }
    });
}

fn who_owns_the_frame_stays<G: Architecture>() {
    on_table::<G>(|machine, root| {
        let mut cursor = lock(root, pages::<G>(0..2));
        cursor.map(tracked(machine)).expect("nothing is there");
        drop(cursor);
        fill(root, 1..2, READABLE);
        for flags in [PageFlags::empty(), PageFlags::all()] {
            let mut cursor = lock(root, pages::<G>(0..2));
            assert_eq!(cursor.protect(page::<G>(2), |_| Property::new(flags)), Ok(2));
            cursor.jump(page::<G>(0)).expect("the start");
            while cursor.protect_next(|_| Property::new(flags)).expect("no split").is_some() {}
            drop(cursor);
            let is_tracked = |at: usize| dump(root).pages[at].1.property.flags & PageFlags::TRACKED;
            assert_eq!(
                (is_tracked(0), is_tracked(1)),
                (PageFlags::TRACKED, PageFlags::empty()),
                "protecting has changed the frame's owner"
            );
        }
    });
}

fn protecting_nothing_asks_nothing<G: Architecture>() {
    on_table::<G>(|_, root| {
        let end = nearly_all::<G>().end;
        let mut cursor = lock(root, nearly_all::<G>());
        assert_eq!(cursor.protect(page::<G>(0), |_| panic!("nothing is there")), Ok(0));
        assert_eq!(cursor.protect_next(|_| panic!("nothing is there")), Ok(None));
        assert_eq!(cursor.vaddr(), end);
        cursor.jump(page::<G>(0)).expect("the start");
        assert_eq!(cursor.protect(end, |_| panic!("nothing is there")), Ok(0));
        assert_eq!(cursor.vaddr(), end);
    });
}

fn of_a_huge_page_only_what_is_in_the_range_changes<G: Architecture>() {
    for level in huge_levels::<G>() {
        let span = span::<G>(level);
        for range in [0..1, 1..span, span - 1..span, 0..span - 1, 0..span] {
            on_table::<G>(|_, root| {
                map_huge(root, level, 0, READABLE);
                let mut cursor = lock(root, pages::<G>(range.clone()));
                let length = range.end - range.start;
                assert_eq!(cursor.protect(page::<G>(range.end), |_| WRITABLE), Ok(length));
                drop(cursor);
                let mut next = 0;
                for (vaddr, item) in dump(root).pages {
                    assert_eq!(vaddr, page::<G>(next), "the huge page is still mapped everywhere");
                    assert_eq!(item.frame.frame_number(), next, "by the same frames");
                    let inside = range.contains(&next);
                    assert_eq!(item.property, if inside { WRITABLE } else { READABLE });
                    next += G::entry_frames(item.level);
                }
                assert_eq!(next, span);
            });
        }
    }
}

fn protect_next_splits_as_far_as_it_must<G: Architecture>() {
    for level in huge_levels::<G>() {
        on_table::<G>(|_, root| {
            let span = span::<G>(level);
            map_huge(root, level, 0, READABLE);
            let mut cursor = lock(root, pages::<G>(span - 1..span));
            let range = pages::<G>(span - 1..span);
            let expected = Protected { range, before: READABLE };
            assert_eq!(cursor.protect_next(|_| WRITABLE), Ok(Some(expected)));
            assert_eq!(cursor.protect_next(|_| WRITABLE), Ok(None));
            drop(cursor);
            let writable: Vec<_> =
                dump(root).pages.into_iter().filter(|(_, it)| it.property == WRITABLE).collect();
            assert_eq!(writable, [(page::<G>(span - 1), raw::<G>(1, span - 1, WRITABLE))]);
            // Of the rest, the largest pages that do not have that one stay whole.
            let nodes = dump(root).nodes.len() - usize::from(G::LEVELS - level) - 1;
            assert_eq!(nodes, usize::from(level) - 1, "one split for each level");
        });
    }
}

fn protect_next_changes_nothing_before_the_position_or_behind_the_range<G: Architecture>() {
    for level in huge_levels::<G>() {
        let whole = span::<G>(level);
        let starts = [0, 1, whole / 2, whole - 1];
        let behind = [whole - 1, whole, (whole + 1).min(all_pages::<G>() - 1)];
        let parts = starts.into_iter().flat_map(|start| behind.map(|end| start..end));
        for part in parts.filter(|part| !part.is_empty()) {
            // The range begins there, or long before.
            for first in [part.start, 0] {
                on_table::<G>(|_, root| {
                    map_huge(root, level, 0, READABLE);
                    let mut cursor = lock(root, pages::<G>(first..part.end));
                    cursor.jump(page::<G>(part.start)).expect("a position");
                    let changed = cursor.protect_next(|_| WRITABLE).expect("frames enough");
                    let sizes = (1..=level).rev().map(span::<G>);
                    let fits = |size: &u64| {
                        part.start % size == 0 && part.start + size <= part.end.min(whole)
                    };
                    let size = { sizes }.find(fits).expect("the smallest page fits");
                    let range = pages::<G>(part.start..part.start + size);
                    assert_eq!(
                        changed.expect("it is mapped").range,
                        range,
                        "not the largest page from the position that the range has all of"
                    );
                    drop(cursor);
                    for (vaddr, item) in dump(root).pages {
                        let inside = vaddr == range.start;
                        let property = if inside { WRITABLE } else { READABLE };
                        assert_eq!(item.property, property, "of the page at {vaddr:?}");
                    }
                });
            }
        }
    }
}
