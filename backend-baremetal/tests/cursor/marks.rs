//! What hardware does not use: pages that are withheld from it, and marks in the place of pages.

use weft_backend_baremetal::hosted::hardware_sets;
use weft_core::address::{Level, Paddr};
use weft_core::entry::ChildRef;
use weft_core::error::{MapFault, Refusal};
use weft_core::format::{EntryFormat, PageFlags, Property, RawItem};
use weft_core::item::{MappedItem, Mark};
use weft_core::node::NodeRef;
use weft_core::shared::SharedCursor;
use weft_core::sync::{Backend, Flush};

use crate::architecture::Architecture;
use crate::failing::allocations_of;
use crate::fixture::{
    NOTED, READABLE, all_pages, dump, fill, huge_levels, lock, map_huge, on_table,
    on_watched_table, page, pages, span,
};
use crate::support::{WRITABLE, live, tracked, tracked_on};
use crate::watched::{Seen, seen};

on_every_architecture!(
    a_withheld_page_keeps_what_it_says_and_comes_back,
    hardware_does_not_see_what_is_withheld,
    what_is_withheld_is_flushed_once,
    a_run_is_withheld_and_given_back,
    a_huge_page_is_withheld_and_split,
    a_mark_is_found_as_a_page_is,
    a_mark_takes_the_place_of_a_page,
    a_page_takes_the_place_of_a_mark,
    no_change_of_rights_makes_a_mark_a_page,
    parts_of_a_huge_mark_have_consecutive_values,
    a_mark_moves_with_the_pages_around_it,
    a_mark_is_in_the_way_of_a_page,
    a_mark_that_does_not_fit_is_refused,
    splitting_a_huge_mark_fails_without_a_trace,
);

fn withheld(property: Property) -> Property {
    Property { flags: property.flags | PageFlags::WITHHELD, ..property }
}

fn given(property: Property) -> Property {
    Property { flags: property.flags - PageFlags::WITHHELD, ..property }
}

/// A mark for an entry of `level`.
fn mark<B: Backend>(level: u8, value: u64) -> MappedItem<B> {
    MappedItem::Mark(Mark::new(value, Level::new(level), WRITABLE).expect("a small value"))
}

/// As an entry has it.
fn raw_mark(level: u8, value: u64) -> RawItem {
    let flags = WRITABLE.flags | PageFlags::MARK | PageFlags::WITHHELD;
    let (frame, level) = (Paddr::of_frame(value), Level::new(level));
    RawItem { frame, level, property: Property::new(flags) }
}

fn a_withheld_page_keeps_what_it_says_and_comes_back<G: Architecture>() {
    on_table::<G>(|machine, root| {
        let mut cursor = lock(root, pages::<G>(0..2));
        let property = Property::new(WRITABLE.flags | NOTED | PageFlags::SOFTWARE);
        cursor.map(tracked_on(machine, property)).expect("nothing is there");
        let (before, frames) = (dump(root).pages[0].1, live(machine));
        for (change, expected) in [
            (withheld as fn(_) -> _, withheld(before.property)),
            (given as fn(_) -> _, before.property),
        ] {
            cursor.jump(page::<G>(0)).expect("the start");
            let was = dump(root).pages[0].1.property;
            let changed = cursor.protect_next(change).expect("no split").expect("it is there");
            assert_eq!((changed.range, changed.before), (pages::<G>(0..1), was));
            let found = dump(root).pages;
            assert_eq!(found, [(page::<G>(0), RawItem { property: expected, ..before })]);
            assert_eq!(live(machine), frames, "the frame is the table's all the time");
        }
    });
}

/// The lowest node for the first page.
fn lowest<C: weft_core::config::Config>(root: NodeRef<'_, C>) -> NodeRef<'_, C> {
    let mut node = root;
    while let ChildRef::Node(child) = node.walk(0) {
        node = child;
    }
    node
}

fn hardware_does_not_see_what_is_withheld<G: Architecture>() {
    on_table::<G>(|_, root| {
        fill(root, 0..1, WRITABLE);
        let mut cursor = lock(root, pages::<G>(0..1));
        cursor.protect(page::<G>(1), withheld).expect("no split");
        drop(cursor);
        let entry = hardware_sets(lowest(root), 0, G::Format::HARDWARE_BITS);
        assert!(!G::Format::is_present(entry), "hardware would use the page");
        assert_eq!(dump(root).pages[0].1.property, withheld(WRITABLE), "it is noted as used");
    });
}

fn what_is_withheld_is_flushed_once<G: Architecture>() {
    on_watched_table::<G>(|machine, root| {
        // The second page stays, and with it the leaf.
        let mut cursor = lock(root, pages::<G>(0..2));
        for _ in 0..2 {
            cursor.map(tracked_on(machine, WRITABLE)).expect("nothing is there");
        }
        cursor.flush();
        let flush = Seen::Flushed(Flush::Page(page::<G>(0)));
        let where_absent = if G::CACHES_ABSENT { vec![flush] } else { Vec::new() };
        let mut change = |change: fn(Property) -> Property| {
            cursor.jump(page::<G>(0)).expect("the start");
            seen();
            cursor.protect(page::<G>(1), change).expect("no split");
            cursor.flush();
            seen()
        };
        assert_eq!(change(withheld), [flush], "a CPU would go on using it");
        assert_eq!(change(|_| withheld(READABLE)), [], "no cache has it");
        assert_eq!(change(given), where_absent, "what was absent may be cached, or not");
        change(withheld);
        cursor.jump(page::<G>(0)).expect("the start");
        assert_eq!(cursor.unmap(page::<G>(1)), Ok(1));
        drop(cursor);
        assert_eq!(seen(), [Seen::Retired], "no cache has it");
    });
}

fn a_run_is_withheld_and_given_back<G: Architecture>() {
    on_table::<G>(|_, root| {
        let count = all_pages::<G>().min(1030) / 2;
        fill(root, 0..count, WRITABLE);
        let before = dump(root);
        let mut cursor = lock(root, pages::<G>(0..count));
        let end = cursor.range().end;
        assert_eq!(cursor.protect(end, withheld), Ok(count));
        let found = dump(root).pages;
        for ((vaddr, page), (same, was)) in found.iter().zip(&before.pages) {
            assert_eq!((vaddr, page.frame), (same, was.frame), "the frames stay");
            assert_eq!(page.property, withheld(WRITABLE));
        }
        cursor.jump(page::<G>(0)).expect("the start");
        assert_eq!(cursor.protect(end, given), Ok(count));
        assert_eq!(dump(root), before);
    });
}

fn a_huge_page_is_withheld_and_split<G: Architecture>() {
    for level in huge_levels::<G>() {
        on_table::<G>(|_, root| {
            map_huge(root, level, 0, WRITABLE);
            let huge = dump(root).pages[0].1;
            let mut cursor = lock(root, pages::<G>(0..span::<G>(level)));
            cursor.protect_next(withheld).expect("no split").expect("the page is there");
            cursor.jump(page::<G>(0)).expect("the start");
            cursor.split().expect("memory for the parts");
            let found = dump(root).pages;
            assert_eq!(found.len(), G::ENTRIES);
            for (index, (_, part)) in found.into_iter().enumerate() {
                let length = G::entry_span(Level::new(level - 1));
                assert_eq!(part.frame, huge.frame.plus(index as u64 * length));
                assert_eq!(part.property, withheld(WRITABLE));
            }
        });
    }
}

fn a_mark_is_found_as_a_page_is<G: Architecture>() {
    on_table::<G>(|_, root| {
        let mut cursor = lock(root, pages::<G>(0..3));
        cursor.jump(page::<G>(1)).expect("a position");
        cursor.map(mark(1, 17)).expect("nothing is there");
        cursor.jump(page::<G>(0)).expect("the start");
        let found = cursor.find_next().expect("the mark is there");
        assert_eq!(found.range, pages::<G>(1..2));
        assert_eq!(found.item.map(|item| *item), Some(raw_mark(1, 17)));
        let mut all = Vec::new();
        cursor.visit(page::<G>(3), |vaddr, item| all.push((vaddr, item.mark()))).expect("the end");
        assert_eq!(all, [(page::<G>(1), Some(17))]);
        drop(cursor);
        let mut shared = SharedCursor::new(root, pages::<G>(0..3)).expect("a range");
        let found = shared.find_next().and_then(|slot| slot.item);
        assert_eq!(found.and_then(|item| item.mark()), Some(17), "walkers see it");
        let mut cursor = lock(root, pages::<G>(0..3));
        assert_eq!(cursor.unmap(page::<G>(3)), Ok(1), "it counts as a page");
    });
}

fn a_mark_takes_the_place_of_a_page<G: Architecture>() {
    on_watched_table::<G>(|machine, root| {
        let mut cursor = lock(root, pages::<G>(0..1));
        cursor.map(tracked_on(machine, WRITABLE)).expect("nothing is there");
        cursor.flush();
        cursor.jump(page::<G>(0)).expect("the start");
        seen();
        let old = cursor.replace(mark(1, 17)).expect("a page is there");
        assert!(old.mark().is_none() && old.property.flags.contains(PageFlags::TRACKED));
        drop(cursor);
        let flush = Seen::Flushed(Flush::Page(page::<G>(0)));
        assert_eq!(seen(), [flush, Seen::Retired], "the page is given up");
        assert_eq!(dump(root).pages, [(page::<G>(0), raw_mark(1, 17))]);
    });
}

fn a_page_takes_the_place_of_a_mark<G: Architecture>() {
    on_watched_table::<G>(|machine, root| {
        let mut cursor = lock(root, pages::<G>(0..1));
        cursor.map(mark(1, 17)).expect("nothing is there");
        cursor.flush();
        cursor.jump(page::<G>(0)).expect("the start");
        seen();
        let old = cursor.replace(tracked_on(machine, READABLE)).expect("a mark is there");
        assert_eq!(old.mark(), Some(17));
        drop(cursor);
        let flushes = usize::from(G::CACHES_ABSENT);
        assert_eq!(seen().len(), flushes, "hardware has not seen the mark");
        let found = dump(root).pages[0].1;
        assert_eq!(found.property.flags, READABLE.flags | PageFlags::TRACKED);
    });
}

fn no_change_of_rights_makes_a_mark_a_page<G: Architecture>() {
    on_table::<G>(|_, root| {
        let mut cursor = lock(root, pages::<G>(0..2));
        for value in [17, 18] {
            cursor.map(mark(1, value)).expect("nothing is there");
        }
        cursor.jump(page::<G>(0)).expect("the start");
        cursor.protect_next(|_| WRITABLE).expect("no split").expect("the mark is there");
        cursor.protect(page::<G>(2), |_| WRITABLE).expect("no split");
        let expected = [17, 18].map(|value| raw_mark(1, value));
        let found: Vec<RawItem> = dump(root).pages.into_iter().map(|(_, item)| item).collect();
        assert_eq!(found, expected, "hardware would take a value for a frame");
    });
}

fn parts_of_a_huge_mark_have_consecutive_values<G: Architecture>() {
    for level in huge_levels::<G>() {
        on_table::<G>(|_, root| {
            let (span, below) = (span::<G>(level), level - 1);
            let mut cursor = lock(root, pages::<G>(0..span));
            cursor.map(mark(level, 3 * span)).expect("nothing is there");
            cursor.jump(page::<G>(0)).expect("the start");
            cursor.split().expect("memory for the parts");
            let length = crate::fixture::span::<G>(below);
            for (index, (vaddr, item)) in dump(root).pages.into_iter().enumerate() {
                let first = index as u64 * length;
                assert_eq!((vaddr, item), (page::<G>(first), raw_mark(below, 3 * span + first)));
            }
            cursor.merge().expect("they are alike");
            assert_eq!(dump(root).pages, [(page::<G>(0), raw_mark(level, 3 * span))]);
        });
    }
}

fn a_mark_moves_with_the_pages_around_it<G: Architecture>() {
    if all_pages::<G>() < 8 {
        return;
    }
    on_table::<G>(|_, root| {
        let half = all_pages::<G>() / 2;
        fill(root, 0..1, WRITABLE);
        let mut cursor = lock(root, crate::fixture::nearly_all::<G>());
        cursor.jump(page::<G>(1)).expect("a position");
        cursor.map(mark(1, 17)).expect("nothing is there");
        cursor.jump(page::<G>(0)).expect("the start");
        assert_eq!(cursor.move_pages(page::<G>(2), page::<G>(half)), Ok(2));
        let found = dump(root).pages;
        assert_eq!(found[1], (page::<G>(half + 1), raw_mark(1, 17)), "a mark is lost in a move");
    });
}

fn a_mark_is_in_the_way_of_a_page<G: Architecture>() {
    on_table::<G>(|machine, root| {
        let mut cursor = lock(root, pages::<G>(0..1));
        cursor.map(mark(1, 17)).expect("nothing is there");
        cursor.jump(page::<G>(0)).expect("the start");
        let refused = cursor.map(tracked(machine)).expect_err("the mark is there");
        assert_eq!(refused.reason, MapFault::AlreadyMapped { vaddr: page::<G>(0) });
        assert_eq!(dump(root).pages, [(page::<G>(0), raw_mark(1, 17))]);
    });
}

fn a_mark_that_does_not_fit_is_refused<G: Architecture>() {
    let too_large = Mark::new(1 << 52, Level::LEAF, WRITABLE);
    assert_eq!(too_large, Err(Refusal::ValueTooLarge { value: 1 << 52 }));
    on_table::<G>(|_, root| {
        let mut cursor = lock(root, pages::<G>(0..1));
        let value = 1 << (G::PHYSICAL_BITS - 12);
        let refused = cursor.map(mark(1, value)).expect_err("no entry has room for it");
        let frame = Paddr::of_frame(value);
        assert_eq!(refused.reason, MapFault::Refused(Refusal::OutOfRange { frame }));
        let MappedItem::Mark(back) = refused.back else { panic!("another item comes back") };
        assert_eq!((back.value(), back.property()), (value, WRITABLE));
        cursor.map(mark(1, value - 1)).expect("the largest one fits");
        assert_eq!(dump(root).pages, [(page::<G>(0), raw_mark(1, value - 1))]);
    });
}

fn splitting_a_huge_mark_fails_without_a_trace<G: Architecture>() {
    for level in huge_levels::<G>() {
        on_table::<G>(|machine, root| {
            let span = span::<G>(level);
            let mut cursor = lock(root, pages::<G>(0..span));
            cursor.map(mark(level, span)).expect("nothing is there");
            cursor.jump(page::<G>(1)).expect("a position");
            let mut item = Some(tracked(machine));
            let allocations = allocations_of(root, || {
                match cursor.replace(item.take().expect("the item comes back")) {
                    Ok(old) => old.mark() == Some(span + 1),
                    Err(error) => {
                        assert_eq!(error.reason, MapFault::OutOfMemory);
                        item = Some(error.back);
                        false
                    }
                }
            });
            assert_eq!(allocations, u64::from(level) - 1);
        });
    }
}
