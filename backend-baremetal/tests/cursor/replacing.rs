//! Replacing: another page in the place of one, which is there at every instant.

use std::cell::Cell;
use std::rc::Rc;

use weft_backend_baremetal::hosted::hardware_sets;
use weft_core::address::{Level, Paddr};
use weft_core::entry::ChildRef;
use weft_core::error::{MapFault, PositionError, Refusal};
use weft_core::format::{EntryFormat, PageFlags, RawItem};
use weft_core::item::MappedItem;
use weft_core::node::NodeRef;
use weft_core::shared::SharedCursor;
use weft_core::sync::Flush;

use crate::architecture::{Architecture, Table, Whole};
use crate::fixture::{
    NOTED, READABLE, all_pages, device, dump, end, fill, huge_levels, lock, map_huge, on_table,
    on_watched_table, page, pages, raw, span,
};
use crate::support::{Machine, WRITABLE, live, online, tracked, tracked_on, untracked_at};
use crate::watched::{Seen, at_flush, seen};

on_every_architecture!(
    a_page_takes_the_place_of_one_and_the_cursor_moves_behind_it,
    a_page_of_every_size_takes_the_place_of_one,
    a_part_of_a_huge_page_is_replaced_alone,
    the_old_frame_outlives_the_section,
    only_a_page_that_is_large_enough_is_replaced,
    a_replacement_that_does_not_fit_is_refused,
    the_new_page_may_be_written_only_after_the_flush,
    what_was_tightened_before_is_flushed_first,
    a_page_that_is_only_read_is_put_in_place_at_once,
);

on_every_noting_architecture!(
    what_hardware_noted_of_the_old_page_is_told,
    what_hardware_notes_of_the_new_page_is_kept,
);

fn frame_of<B: weft_core::sync::Backend>(item: &MappedItem<B>) -> Paddr {
    match item {
        MappedItem::Tracked { frame, .. } => frame.paddr(),
        MappedItem::Untracked(page) => page.frame(),
        MappedItem::Mark(_) => unreachable!("no mark is put here"),
    }
}

fn a_page_takes_the_place_of_one_and_the_cursor_moves_behind_it<G: Architecture>() {
    on_table::<G>(|machine, root| {
        fill(root, 0..3, READABLE);
        let before = dump(root);
        let item = tracked(machine);
        let frame = frame_of(&item);
        let mut cursor = lock(root, pages::<G>(0..3));
        cursor.jump(page::<G>(1)).expect("a position");
        let old = cursor.replace(item).expect("a page is there");
        assert_eq!(*old, before.pages[1].1, "the old page is told");
        assert_eq!(cursor.vaddr(), page::<G>(2));
        drop(cursor);
        let mut expected = before;
        let mut property = WRITABLE;
        property.flags.insert(PageFlags::TRACKED);
        expected.pages[1].1 = RawItem { frame, level: Level::LEAF, property };
        assert_eq!(dump(root), expected, "the neighbours stay");
    });
}

fn a_page_of_every_size_takes_the_place_of_one<G: Architecture>() {
    for level in huge_levels::<G>() {
        on_table::<G>(|_, root| {
            let span = span::<G>(level);
            let start = all_pages::<G>() - span;
            map_huge(root, level, start, READABLE);
            let mut cursor = lock(root, pages::<G>(start..start + span));
            let old = cursor.replace(device::<G>(level, 3, WRITABLE)).expect("a page is there");
            assert_eq!(old.level, Level::new(level));
            assert_eq!(cursor.vaddr(), cursor.range().end);
            drop(cursor);
            assert_eq!(dump(root).pages, [(page::<G>(start), raw::<G>(level, 3, WRITABLE))]);
        });
    }
}

fn a_part_of_a_huge_page_is_replaced_alone<G: Architecture>() {
    for level in huge_levels::<G>() {
        on_table::<G>(|machine, root| {
            let span = span::<G>(level);
            map_huge(root, level, 0, READABLE);
            let whole = dump(root).pages[0].1.frame;
            let mut cursor = lock(root, pages::<G>(span - 1..span));
            let item = tracked(machine);
            let frame = frame_of(&item);
            let old = cursor.replace(item).expect("a larger page is there");
            let part = whole.plus((span - 1) * weft_core::address::FRAME_SIZE);
            assert_eq!((old.frame, old.level), (part, Level::LEAF));
            drop(cursor);
            let found = dump(root).pages;
            let (last, rest) = found.split_last().expect("pages are there");
            assert_eq!((last.0, last.1.frame), (page::<G>(span - 1), frame));
            let frames: u64 = rest.iter().map(|(_, it)| G::entry_frames(it.level)).sum();
            assert_eq!(frames, span - 1, "the other parts stay");
        });
    }
}

fn the_old_frame_outlives_the_section<G: Architecture>() {
    on_table::<G>(|machine, root| {
        let mut cursor = lock(root, pages::<G>(0..1));
        let item = tracked(machine);
        let frame = frame_of(&item);
        cursor.map(item).expect("nothing is there");
        cursor.jump(page::<G>(0)).expect("the start");
        let before = live(machine);
        let old = cursor.replace(device::<G>(1, 7, READABLE)).expect("a page is there");
        drop(cursor);
        assert_eq!(live(machine), before, "the frame is in use while the section lasts");
        assert_eq!(old.frame, frame, "another frame is told");
    });
}

fn what_hardware_noted_of_the_old_page_is_told<G: Architecture>() {
    on_table::<G>(|_, root| {
        fill(root, 0..1, WRITABLE);
        let mut cursor = lock(root, pages::<G>(0..1));
        hardware_sets(leaf(root), 0, G::Format::HARDWARE_BITS);
        let old = cursor.replace(device::<G>(1, 7, READABLE)).expect("a page is there");
        assert_eq!(old.property.flags & NOTED, NOTED);
        drop(cursor);
        assert_eq!(dump(root).pages[0].1.property, READABLE, "the new page is another one");
    });
}

/// The lowest node for the first address.
fn leaf<C: weft_core::config::Config>(root: NodeRef<'_, C>) -> NodeRef<'_, C> {
    let mut node = root;
    while let ChildRef::Node(child) = node.walk(0) {
        node = child;
    }
    node
}

/// Replaces at a page, and expects that the item is refused and nothing changes.
#[track_caller]
fn assert_refused<G: Architecture>(
    root: NodeRef<'_, Whole<G>>,
    range: std::ops::Range<u64>,
    at: u64,
    item: MappedItem<Machine<G>>,
    expected: MapFault,
) {
    let before = (dump(root), live(root.backend()));
    let mut cursor = lock(root, pages::<G>(range));
    cursor.jump(page::<G>(at)).expect("a position");
    let (position, frame) = (cursor.vaddr(), frame_of(&item));
    let error = cursor.replace(item).expect_err("the item is refused");
    assert_eq!(error.reason, expected);
    assert_eq!(frame_of(&error.back), frame, "the item comes back");
    assert_eq!(cursor.vaddr(), position, "the cursor has not moved");
    drop(cursor);
    assert_eq!((dump(root), live(root.backend())), before, "a refused item changes nothing");
}

fn only_a_page_that_is_large_enough_is_replaced<G: Architecture>() {
    let none = |at, level| {
        let length = G::entry_span(Level::new(level));
        MapFault::NoPage { vaddr: page::<G>(at), length }
    };
    on_table::<G>(|machine, root| {
        fill(root, 1..2, READABLE);
        assert_refused(root, 0..3, 0, tracked(machine), none(0, 1));
        assert_refused(root, 0..3, 2, tracked(machine), none(2, 1));
        for level in huge_levels::<G>() {
            let item = device::<G>(level, 9, READABLE);
            assert_refused(root, 0..span::<G>(level), 0, item, none(0, level));
        }
    });
}

fn a_replacement_that_does_not_fit_is_refused<G: Architecture>() {
    on_table::<G>(|machine, root| {
        fill(root, 0..2, READABLE);
        let at_end = MapFault::Position(PositionError::AtEnd { end: end::<G>(2) });
        assert_refused(root, 0..2, 2, tracked(machine), at_end);
        let frame = Paddr::new(1 << G::PHYSICAL_BITS);
        let item = untracked_at(frame, Level::LEAF, READABLE);
        assert_refused(root, 0..2, 0, item, MapFault::Refused(Refusal::OutOfRange { frame }));
        for level in huge_levels::<G>() {
            let (span, item) = (span::<G>(level), || device::<G>(level, 9, READABLE));
            let (length, end) = (G::entry_span(Level::new(level)), page::<G>(span - 1));
            let too_long = MapFault::TooLong { vaddr: page::<G>(0), length, end };
            assert_refused(root, 0..span - 1, 0, item(), too_long);
            let misaligned = MapFault::Misaligned { vaddr: page::<G>(1), length };
            assert_refused(root, 0..span, 1, item(), misaligned);
        }
    });
}

/// What a query without locks finds at the first page at each flush of a replacement by a page
/// that owns its frame and has `new`, and what was seen. The page that was there can be written.
fn at_each_flush<G: Architecture>(
    new: weft_core::format::Property,
    notes: bool,
) -> (Vec<RawItem>, Vec<Seen>, RawItem) {
    let (found, mut after, mut then) = (Rc::new(Cell::new(Vec::new())), Vec::new(), None);
    on_watched_table::<G>(|machine, root| {
        let mut cursor = lock(root, pages::<G>(0..2));
        for _ in 0..2 {
            cursor.map(tracked_on(machine, WRITABLE)).expect("nothing is there");
        }
        drop(cursor);
        let mut cursor = lock(root, pages::<G>(0..1));
        seen();
        let (machine, owned, noted) = (*machine, root.to_owned(), found.clone());
        at_flush(Some(Box::new(move || {
            let other = online(&machine, 1);
            let section = other.read_side();
            let root: NodeRef<'_, Table<G>> = owned.borrow(&section);
            let shared = SharedCursor::new(root, pages::<G>(0..1)).expect("a range");
            let there = shared.query().expect("the start").item.expect("a page is always there");
            let mut all = noted.take();
            all.push(*there);
            noted.set(all);
            if notes {
                let both = G::Format::HARDWARE_BITS;
                hardware_sets(leaf(root), 0, both & both.wrapping_neg());
            }
        })));
        cursor.replace(tracked_on(root.backend(), new)).expect("a page is there");
        drop(cursor);
        at_flush(None);
        after = seen();
        then = Some(dump(root).pages[0].1);
    });
    (found.take(), after, then.expect("a page is there"))
}

fn the_new_page_may_be_written_only_after_the_flush<G: Architecture>() {
    let (found, seen, then) = at_each_flush::<G>(WRITABLE, false);
    let flush = Seen::Flushed(Flush::Page(page::<G>(0)));
    // Where faults stay cached, the right that is added is flushed, too.
    let again = if G::CACHES_FAULTS { vec![flush] } else { Vec::new() };
    assert_eq!(seen, [vec![flush], again, vec![Seen::Retired]].concat());
    assert_eq!(found[0].frame, then.frame, "the exchange comes before the flush");
    assert!(!found[0].property.flags.contains(PageFlags::WRITE), "it is written too early");
    assert_eq!(then.property.flags, WRITABLE.flags | PageFlags::TRACKED);
}

fn what_hardware_notes_of_the_new_page_is_kept<G: Architecture>() {
    let (_, _, then) = at_each_flush::<G>(WRITABLE, true);
    assert!(then.property.flags.contains(PageFlags::ACCESSED), "a note is lost");
}

fn a_page_that_is_only_read_is_put_in_place_at_once<G: Architecture>() {
    let (found, seen, then) = at_each_flush::<G>(READABLE, false);
    assert_eq!(seen, [Seen::Flushed(Flush::Page(page::<G>(0))), Seen::Retired]);
    assert_eq!(found, [then]);
}

fn what_was_tightened_before_is_flushed_first<G: Architecture>() {
    on_watched_table::<G>(|machine, root| {
        let mut cursor = lock(root, pages::<G>(0..1));
        cursor.map(tracked_on(machine, WRITABLE)).expect("nothing is there");
        cursor.flush();
        cursor.jump(page::<G>(0)).expect("the start");
        cursor.protect_next(|_| READABLE).expect("no split").expect("a page is there");
        cursor.jump(page::<G>(0)).expect("the start");
        seen();
        cursor.replace(tracked_on(machine, READABLE)).expect("a page is there");
        let flush = Seen::Flushed(Flush::Page(page::<G>(0)));
        assert_eq!(seen(), [flush, flush], "the old page might be written beside the new one");
    });
}
