//! Accessed and dirty bits: nothing that hardware sets is lost, and nothing is paid where it
//! cannot.
//!
//! Hardware sets its bits just before every write of an entry: see [`crate::watched`].

use std::ops::Range;

use weft_core::address::{Level, Vaddr};
use weft_core::cursor::Cursor;
use weft_core::format::{PageFlags, Property, RiscVSvade};
use weft_core::node::NodeRef;

use crate::architecture::{Architecture, Svade, Table};
use crate::fixture::{
    NOTED, READABLE, dump, huge_levels, lock, on_watched_table, page, pages, span,
};
use crate::support::{tracked_on, untracked_at};
use crate::watched::{Writes, hardware_writes, writes_of};

on_every_noting_architecture!(
    protecting_a_range_keeps_what_hardware_notes,
    protecting_one_page_tells_what_hardware_noted,
    what_is_taken_out_has_what_hardware_noted,
    every_part_has_what_hardware_noted_of_the_whole,
    a_merged_page_has_what_hardware_noted_of_any_part,
    entries_that_hardware_may_write_are_updated,
    entries_that_hardware_has_done_with_are_stored,
);

type Root<'g, G> = NodeRef<'g, Table<G>>;

/// Maps pages of device memory of a level at every page of `range`, frames by address.
fn fill<G: Architecture>(root: Root<'_, G>, level: u8, range: Range<u64>, property: Property) {
    if range.is_empty() {
        return;
    }
    let mut cursor = lock(root, pages::<G>(range.clone()));
    for start in range.step_by(span::<G>(level) as usize) {
        let frame = weft_core::address::Paddr::of_frame(start);
        let item = untracked_at(frame, Level::new(level), property);
        cursor.map(item).expect("nothing is there");
    }
}

fn flags<G: Architecture>(root: Root<'_, G>) -> Vec<PageFlags> {
    dump(root).pages.into_iter().map(|(_, item)| item.property.flags).collect()
}

fn with(property: Property, flags: PageFlags) -> Property {
    Property { flags: property.flags | flags, ..property }
}

fn protecting_a_range_keeps_what_hardware_notes<G: Architecture>() {
    on_watched_table::<G>(|_, root| {
        fill(root, 1, 0..3, READABLE);
        let mut cursor = lock(root, pages::<G>(0..3));
        let writable = |old: Property| with(old, PageFlags::WRITE);
        hardware_writes::<G::Format, _>(|| {
            assert_eq!(cursor.protect(page::<G>(3), writable), Ok(3))
        });
        drop(cursor);
        assert_eq!(flags(root), [NOTED | PageFlags::WRITE; 3], "hardware's bits are lost");
    });
    for level in huge_levels::<G>() {
        on_watched_table::<G>(|_, root| {
            let all = span::<G>(level);
            fill(root, level, 0..all, READABLE);
            let mut cursor = lock(root, pages::<G>(0..all));
            let writable = |old: Property| with(old, PageFlags::WRITE);
            hardware_writes::<G::Format, _>(|| {
                assert_eq!(cursor.protect(page::<G>(all), writable), Ok(all))
            });
            drop(cursor);
            assert_eq!(flags(root), [NOTED | PageFlags::WRITE], "hardware's bits are lost");
        });
    }
}

fn protecting_one_page_tells_what_hardware_noted<G: Architecture>() {
    on_watched_table::<G>(|_, root| {
        fill(root, 1, 0..2, READABLE);
        let mut cursor = lock(root, pages::<G>(0..2));
        for _ in 0..2 {
            let clean = |old: Property| Property { flags: old.flags - NOTED, ..old };
            let changed =
                hardware_writes::<G::Format, _>(|| cursor.protect_next(clean)).expect("no split");
            let before = changed.expect("a page is there").before;
            assert_eq!(before, with(READABLE, NOTED), "hardware's bits are lost");
        }
        drop(cursor);
        assert_eq!(flags(root), [PageFlags::empty(); 2]);
    });
}

fn what_is_taken_out_has_what_hardware_noted<G: Architecture>() {
    let levels = std::iter::once(1).chain(huge_levels::<G>());
    for level in levels {
        on_watched_table::<G>(|_, root| {
            let start = if level == 1 { 1 } else { 0 };
            let range = start..start + span::<G>(level);
            fill(root, level, range.clone(), READABLE);
            let mut cursor = lock(root, pages::<G>(range));
            let taken = hardware_writes::<G::Format, _>(|| cursor.take_next()).expect("no split");
            let item = taken.and_then(|taken| taken.page).expect("a page is there");
            assert_eq!(item.property, with(READABLE, NOTED), "hardware's bits are lost");
        });
    }
}

fn every_part_has_what_hardware_noted_of_the_whole<G: Architecture>() {
    type Change<G> = fn(&mut Cursor<'_, Table<G>>, Vaddr);
    let changes: [Change<G>; 5] = [
        |cursor, _| cursor.split().expect("it is huge"),
        |cursor, end| assert!(cursor.unmap(end).is_ok()),
        |cursor, end| assert!(cursor.protect(end, |old| old).is_ok()),
        |cursor, _| assert!(cursor.take_next().is_ok_and(|taken| taken.is_some())),
        |cursor, _| assert!(cursor.protect_next(|old| old).is_ok_and(|it| it.is_some())),
    ];
    for level in huge_levels::<G>() {
        for change in changes {
            on_watched_table::<G>(|_, root| {
                let all = span::<G>(level);
                fill(root, level, 0..all, READABLE);
                let mut cursor = lock(root, pages::<G>(1..2));
                hardware_writes::<G::Format, _>(|| change(&mut cursor, page::<G>(2)));
                drop(cursor);
                let flags = flags(root);
                assert!(flags.len() >= G::ENTRIES - 1);
                assert!(flags.iter().all(|&it| it == NOTED), "hardware's bits are lost");
            });
        }
    }
}

fn a_merged_page_has_what_hardware_noted_of_any_part<G: Architecture>() {
    for level in huge_levels::<G>() {
        for which in [0, G::ENTRIES - 1] {
            on_watched_table::<G>(|_, root| {
                let part = span::<G>(level - 1);
                let all = span::<G>(level);
                let noted = which as u64 * part;
                fill(root, level - 1, 0..noted, READABLE);
                fill(root, level - 1, noted..noted + part, with(READABLE, PageFlags::DIRTY));
                fill(root, level - 1, noted + part..all, READABLE);
                let mut cursor = lock(root, pages::<G>(0..all));
                cursor.merge().expect("the pages are alike");
                drop(cursor);
                assert_eq!(flags(root), [PageFlags::DIRTY], "hardware's bits are lost");
            });
        }
    }
}

/// What a bulk change of two pages with this property costs.
fn cost<G: Architecture>(
    property: Property,
    change: fn(&mut Cursor<'_, Table<G>>, Vaddr),
) -> Writes {
    let mut writes = Writes::default();
    on_watched_table::<G>(|machine, root| {
        fill(root, 1, 0..1, property);
        let mut cursor = lock(root, pages::<G>(0..2));
        cursor.jump(page::<G>(1)).expect("a position");
        cursor.map(tracked_on(machine, property)).expect("nothing is there");
        // One of each leaf, so that no node goes as a whole.
        drop(cursor);
        let mut cursor = lock(root, pages::<G>(1..2));
        writes = writes_of(|| change(&mut cursor, page::<G>(2)));
    });
    writes
}

fn entries_that_hardware_may_write_are_updated<G: Architecture>() {
    for noted in [PageFlags::empty(), PageFlags::ACCESSED, PageFlags::DIRTY] {
        let property = with(READABLE, noted);
        assert_eq!(
            each_cost::<G>(property),
            [Writes { stores: 0, updates: 1 }; 4],
            "a store loses what hardware sets"
        );
    }
}

fn entries_that_hardware_has_done_with_are_stored<G: Architecture>() {
    let property = with(READABLE, NOTED);
    assert_eq!(
        each_cost::<G>(property),
        [Writes { stores: 1, updates: 0 }; 4],
        "a store is enough"
    );
}

/// Where hardware sets no bits, whatever an entry says. What software has noted stays.
#[test]
fn entries_that_only_software_notes_in_are_stored() {
    type G = Svade;
    for noted in [PageFlags::empty(), PageFlags::ACCESSED, PageFlags::DIRTY, NOTED] {
        let property = with(READABLE, noted);
        assert_eq!(
            each_cost::<G>(property),
            [Writes { stores: 1, updates: 0 }; 4],
            "a store is enough"
        );
        on_watched_table::<G>(|_, root| {
            fill(root, 1, 0..2, property);
            let writable = |old: Property| with(old, PageFlags::WRITE);
            let mut cursor = lock(root, pages::<G>(0..2));
            hardware_writes::<RiscVSvade, _>(|| {
                let changed = cursor.protect_next(writable).expect("no split");
                assert_eq!(changed.expect("a page is there").before, property);
                assert_eq!(cursor.protect(page::<G>(2), writable), Ok(1));
            });
            cursor.jump(page::<G>(0)).expect("the start");
            // A page fault's handler notes what hardware does not.
            cursor.protect_next(|old| with(old, NOTED)).expect("no split");
            drop(cursor);
            let expected = [NOTED, noted].map(|noted| noted | PageFlags::WRITE);
            assert_eq!(flags(root), expected, "what software has noted is lost");
        });
        on_watched_table::<G>(|_, root| {
            let all = span::<G>(2);
            fill(root, 2, 0..all, property);
            let mut cursor = lock(root, pages::<G>(0..all));
            hardware_writes::<RiscVSvade, _>(|| cursor.split().expect("it is huge"));
            drop(cursor);
            assert!(flags(root).iter().all(|&it| it == noted), "a part has lost a note");
            let mut cursor = lock(root, pages::<G>(0..all));
            hardware_writes::<RiscVSvade, _>(|| cursor.merge().expect("the parts are alike"));
            drop(cursor);
            assert_eq!(flags(root), [noted], "the whole has lost a note");
        });
    }
}

/// What each way to change one page costs, of which only the entry is written.
fn each_cost<G: Architecture>(property: Property) -> [Writes; 4] {
    [
        cost::<G>(property, |cursor, end| assert_eq!(cursor.unmap(end), Ok(1))),
        cost::<G>(property, |cursor, end| assert_eq!(cursor.protect(end, |old| old), Ok(1))),
        cost::<G>(property, |cursor, _| assert!(cursor.take_next().is_ok_and(|it| it.is_some()))),
        cost::<G>(property, |cursor, _| {
            assert!(cursor.protect_next(|old| old).is_ok_and(|it| it.is_some()));
        }),
    ]
}
