//! On x86-64 a page that is dirty stays dirty when it loses the right to write, and no entry says
//! what is a shadow stack to processors that have them: dirty, and not to be written.
//!
//! What an entry has to be is said here after the manual, with its bits.

use std::ops::Range;

use weft_core::address::{Level, Paddr, Vaddr};
use weft_core::cursor::Cursor;
use weft_core::entry::ChildRef;
use weft_core::format::{PageFlags, Property, X86_64};
use weft_core::node::NodeRef;

use crate::architecture::{Architecture, Table};
use crate::fixture::{READABLE, dump, lock, on_watched_table, pages, span};
use crate::support::{WRITABLE, untracked_at};
use crate::watched::{Machine, Seen, all_seen, hardware_writes};

on_every_geometry!(
    dirty_outlives_the_right_to_write,
    what_hardware_noted_in_the_middle_of_the_loss_is_kept,
    pages_are_mapped_dirty_without_the_right_to_write,
    parts_and_wholes_are_dirty_without_the_right_to_write,
    a_dirty_page_without_the_right_to_write_comes_out_dirty,
    a_page_is_cleaned_without_the_right_to_write,
);

const R_W: u64 = 1 << 1;
const D: u64 = 1 << 6;
/// Where the flag is kept that hardware must not see. Hardware ignores the bit.
const KEPT: u64 = 1 << 58;

const DIRTY: PageFlags = PageFlags::DIRTY;

type Root<'g, G> = NodeRef<'g, Table<G>>;

/// Runs `body` on a new, watched table. No entry that was written is a shadow stack's.
fn on_table<G: Architecture<Format = X86_64>>(body: impl FnOnce(&Machine<G>, Root<'_, G>)) {
    on_watched_table::<G>(|machine, root| {
        body(machine, root);
        for seen in all_seen() {
            let Seen::Wrote { new, .. } = seen else { continue };
            let is_shadow_stack = new & 1 != 0 && new & (R_W | D) == D;
            assert!(!is_shadow_stack, "{new:#x} maps a shadow stack");
        }
    });
}

/// The levels of pages, and the pages that one of them at the start is.
fn sizes<G: Architecture>() -> impl Iterator<Item = (Level, Range<Vaddr>)> {
    (1..=G::PAGE_LEVELS).map(|level| (Level::new(level), pages::<G>(0..span::<G>(level))))
}

fn map<G: Architecture>(root: Root<'_, G>, level: Level, range: Range<Vaddr>, property: Property) {
    let item = untracked_at(Paddr::new(0), level, property);
    lock(root, range).map(item).expect("nothing is there");
}

/// The bits of the entry of the first page.
fn bits<G: Architecture>(root: Root<'_, G>) -> u64 {
    let mut node = root;
    while let ChildRef::Node(child) = node.walk(0) {
        node = child;
    }
    node.try_lock().expect("the cursor is gone").read_raw(0)
}

fn flags<G: Architecture>(root: Root<'_, G>) -> Vec<PageFlags> {
    dump(root).pages.into_iter().map(|(_, item)| item.property.flags).collect()
}

fn without(flags: PageFlags) -> impl Fn(Property) -> Property {
    move |old| Property { flags: old.flags - flags, ..old }
}

fn with(flags: PageFlags) -> impl Fn(Property) -> Property {
    move |old| Property { flags: old.flags | flags, ..old }
}

/// Both ways of a cursor to change a page.
fn change<G: Architecture>(
    root: Root<'_, G>,
    range: &Range<Vaddr>,
    steps: bool,
    change: impl Fn(Property) -> Property,
) {
    let mut cursor = lock(root, range.clone());
    if steps {
        cursor.protect_next(change).expect("no split").expect("a page is there");
    } else {
        cursor.protect(range.end, change).expect("no split");
    }
}

fn dirty_outlives_the_right_to_write<G: Architecture<Format = X86_64>>() {
    let both = sizes::<G>().flat_map(|at| [(false, at.clone()), (true, at)]);
    for (steps, (level, range)) in both {
        on_table::<G>(|_, root| {
            map(root, level, range.clone(), Property::new(PageFlags::WRITE | DIRTY));
            assert_eq!(bits(root) & (R_W | D | KEPT), R_W | D);
            for _ in 0..2 {
                change(root, &range, steps, without(PageFlags::WRITE));
                assert_eq!(bits(root) & (R_W | D | KEPT), KEPT, "hardware would see it");
                assert_eq!(flags(root), [DIRTY], "the page is dirty, and is not");
                change(root, &range, steps, with(PageFlags::WRITE));
                assert_eq!(bits(root) & (R_W | D | KEPT), R_W | D);
                assert_eq!(
                    flags(root),
                    [PageFlags::WRITE | DIRTY],
                    "the page is dirty, and is not"
                );
            }
        });
    }
    // By hand.
    on_table::<G>(|_, root| {
        let (level, range) = sizes::<G>().next().expect("leaves map pages");
        map(root, level, range, Property::new(PageFlags::WRITE | DIRTY));
        let mut leaf = root;
        while let ChildRef::Node(child) = leaf.walk(0) {
            leaf = child;
        }
        let mut guard = leaf.lock();
        let mut entry = guard.entry(0).expect("the index is in range");
        entry.protect(without(PageFlags::WRITE)).expect("a page is there");
        drop(guard);
        assert_eq!((bits(root) & (R_W | D | KEPT), flags(root)), (KEPT, vec![DIRTY]));
    });
}

fn what_hardware_noted_in_the_middle_of_the_loss_is_kept<G: Architecture<Format = X86_64>>() {
    for (level, range) in sizes::<G>() {
        on_table::<G>(|_, root| {
            map(root, level, range.clone(), WRITABLE);
            hardware_writes::<X86_64, _>(|| {
                change(root, &range, false, without(PageFlags::WRITE));
            });
            assert_eq!(flags(root), [PageFlags::ACCESSED | DIRTY], "hardware's bits are lost");
            assert_eq!(bits(root) & (R_W | D | KEPT), KEPT, "hardware would see it");
        });
    }
}

fn pages_are_mapped_dirty_without_the_right_to_write<G: Architecture<Format = X86_64>>() {
    for (level, range) in sizes::<G>() {
        on_table::<G>(|_, root| {
            map(root, level, range, Property::new(DIRTY));
            assert_eq!((bits(root) & (R_W | D | KEPT), flags(root)), (KEPT, vec![DIRTY]));
        });
    }
    on_table::<G>(|_, root| {
        let range = pages::<G>(0..2);
        let property = Property::new(DIRTY);
        let make = |_| untracked_at(Paddr::new(0), Level::LEAF, property);
        lock(root, range.clone()).map_pages(range.end, make).expect("nothing is there");
        assert_eq!((bits(root) & (R_W | D | KEPT), flags(root)), (KEPT, vec![DIRTY; 2]));
    });
}

fn parts_and_wholes_are_dirty_without_the_right_to_write<G: Architecture<Format = X86_64>>() {
    for (level, range) in sizes::<G>().skip(1) {
        for property in [READABLE, Property::new(DIRTY)] {
            on_table::<G>(|_, root| {
                map(root, level, range.clone(), property);
                let mut cursor = lock(root, range.clone());
                cursor.split().expect("it is huge");
                drop(cursor);
                assert_eq!(flags(root), vec![property.flags; G::ENTRIES]);
                // One of them is enough for the whole.
                let mut cursor = lock(root, range.clone());
                cursor.protect_next(with(DIRTY)).expect("no split").expect("a part is there");
                cursor.jump(range.start).expect("the start");
                cursor.merge().expect("the pages are alike");
                drop(cursor);
                assert_eq!((bits(root) & (R_W | D | KEPT), flags(root)), (KEPT, vec![DIRTY]));
            });
        }
    }
}

fn a_dirty_page_without_the_right_to_write_comes_out_dirty<G: Architecture<Format = X86_64>>() {
    for (level, range) in sizes::<G>() {
        on_table::<G>(|_, root| {
            map(root, level, range.clone(), Property::new(PageFlags::WRITE | DIRTY));
            change(root, &range, false, without(PageFlags::WRITE));
            let mut cursor: Cursor<'_, _> = lock(root, range.clone());
            let taken = cursor.take_next().expect("no split").expect("a page is there");
            let page = taken.page.expect("it is no node");
            assert_eq!(page.property.flags, DIRTY, "who writes the page back does not know");
        });
    }
}

fn a_page_is_cleaned_without_the_right_to_write<G: Architecture<Format = X86_64>>() {
    for (level, range) in sizes::<G>() {
        on_table::<G>(|_, root| {
            map(root, level, range.clone(), Property::new(DIRTY));
            change(root, &range, false, without(DIRTY));
            assert_eq!((bits(root) & (R_W | D | KEPT), flags(root)), (0, vec![PageFlags::empty()]));
            change(root, &range, false, with(PageFlags::WRITE));
            assert_eq!(bits(root) & (R_W | D | KEPT), R_W, "it is dirty again");
        });
    }
}
