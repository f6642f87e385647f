//! What is owed to other CPUs' caches is paid: before frames are retired, and before the locks go.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use weft_core::address::{Level, Paddr, Vaddr};
use weft_core::cursor::Cursor;
use weft_core::entry::Child;
use weft_core::find::{lock_covering, try_lock_covering};
use weft_core::format::{CachePolicy, PageFlags, Property};
use weft_core::node::Node;
use weft_core::sync::Flush;

use crate::architecture::{Architecture, Table};
use crate::fixture::{
    NOTED, READABLE, flush_of, huge_levels, lock, on_watched_table, page, pages, span,
};
use crate::support::{WRITABLE, node, online, tracked_on, untracked_at};
use crate::watched::{Machine, Seen, at_flush, on_watched, seen};

on_every_architecture!(
    looking_flushes_nothing_and_mapping_what_caches_faults,
    a_page_where_nothing_was_is_flushed_by_its_address_if_faults_are_cached,
    a_node_where_nothing_was_is_flushed_with_everything_if_faults_are_cached,
    loosening_is_found_at_the_next_fault,
    tightening_flushes_the_page,
    one_page_is_flushed_by_its_address,
    several_pages_are_flushed_together,
    a_flush_comes_before_the_frames_are_retired,
    a_flush_comes_before_the_locks_go,
    a_cursor_flushes_when_it_is_asked_to,
    a_split_is_flushed,
    a_run_is_flushed_as_far_as_it_went,
    what_was_tightened_before_a_panic_is_flushed,
    what_is_detached_by_hand_is_flushed,
    what_is_protected_by_hand_is_flushed_at_once,
    what_is_split_by_hand_is_flushed_while_the_parts_are_locked,
);

/// What is seen when `body` has a table with pages of `property` at 0..3, from when its cursor of
/// pages 0..3 begins until that is gone. A page behind them keeps the nodes, so that only what
/// the body does is flushed.
fn seen_while<G: Architecture>(
    property: Property,
    body: impl FnOnce(&mut Cursor<'_, Table<G>>, &Machine<G>),
) -> Vec<Seen> {
    let mut found = Vec::new();
    on_watched_table::<G>(|machine, root| {
        for range in [pages::<G>(0..3), pages::<G>(3..4)] {
            let mut cursor = lock(root, range.clone());
            let make = |_| tracked_on(machine, property);
            cursor.map_pages(range.end, make).expect("nothing is there");
        }
        seen();
        let mut cursor = lock(root, pages::<G>(0..3));
        cursor.jump(page::<G>(1)).expect("a position");
        body(&mut cursor, machine);
        drop(cursor);
        found = seen();
    });
    found
}

fn flags(flags: PageFlags) -> impl Fn(Property) -> Property {
    move |old| Property { flags, ..old }
}

fn looking_flushes_nothing_and_mapping_what_caches_faults<G: Architecture>() {
    let found = seen_while::<G>(READABLE, |cursor, machine| {
        cursor.query().expect("before the end");
        cursor.visit(page::<G>(2), |_, _| ()).expect("a position");
        cursor.find_next().expect("a page is there");
        let refused = cursor.map(tracked_on(machine, READABLE)).expect_err("it is mapped");
        drop(refused);
    });
    assert_eq!(found, []);
    on_watched_table::<G>(|machine, root| {
        let range = pages::<G>(1..4);
        let mut cursor = lock(root, range.clone());
        let grown = if_cached::<G>(Flush::Everything);
        let expected = if G::LEVELS == 2 && G::ENTRIES == 2 { Vec::new() } else { grown };
        assert_eq!(seen(), expected, "grown");
        cursor.map(tracked_on(machine, READABLE)).expect("nothing is there");
        cursor.map_pages(range.end, |_| tracked_on(machine, READABLE)).expect("nothing is there");
        assert_eq!(seen(), [], "once for all of them is enough");
        drop(cursor);
        let expected = if_cached::<G>(flush_of::<G>(1..4));
        assert_eq!(seen(), expected, "what was absent is in no cache, or in some");
    });
}

/// What is seen where caches hold that nothing was there: this, or nothing.
fn if_cached<G: Architecture>(what: Flush) -> Vec<Seen> {
    if G::CACHES_ABSENT { vec![Seen::Flushed(what)] } else { Vec::new() }
}

fn a_page_where_nothing_was_is_flushed_by_its_address_if_faults_are_cached<G: Architecture>() {
    on_watched_table::<G>(|machine, root| {
        // The nodes are there.
        let mut cursor = lock(root, pages::<G>(0..1));
        cursor.map(tracked_on(machine, READABLE)).expect("nothing is there");
        drop(cursor);
        let range = pages::<G>(1..2);
        for bulk in [false, true] {
            let mut cursor = lock(root, range.clone());
            seen();
            if bulk {
                let make = |_| tracked_on(machine, READABLE);
                cursor.map_pages(range.end, make).expect("nothing is there");
            } else {
                cursor.map(tracked_on(machine, READABLE)).expect("nothing is there");
            }
            drop(cursor);
            assert_eq!(seen(), if_cached::<G>(Flush::Page(range.start)), "a fault stays cached");
            lock(root, range.clone()).unmap(range.end).expect("no split");
        }
        for level in huge_levels::<G>() {
            let range = pages::<G>(span::<G>(level)..2 * span::<G>(level));
            let mut cursor = lock(root, range.clone());
            seen();
            let huge = untracked_at(Paddr::new(0), Level::new(level), READABLE);
            cursor.map(huge).expect("nothing is there");
            drop(cursor);
            assert_eq!(seen(), if_cached::<G>(Flush::Page(range.start)), "at level {level}");
        }
    });
}

fn a_node_where_nothing_was_is_flushed_with_everything_if_faults_are_cached<G: Architecture>() {
    on_watched_table::<G>(|machine, root| {
        let cached = if_cached::<G>(Flush::Everything);
        // On the way down, all of it at once.
        drop(lock_covering(root, page::<G>(1), Level::LEAF).expect("enough"));
        assert_eq!(seen(), cached, "a way was grown");
        drop(lock_covering(root, page::<G>(1), Level::LEAF).expect("enough"));
        assert_eq!(seen(), [], "nothing was grown");
        drop(lock(root, pages::<G>(1..2)));
        seen();
        // By hand.
        let mut guard = root.lock();
        let mut entry = guard.entry(0).expect("the index is in range");
        let child = entry.allocate_if_absent().expect("frames enough");
        assert_eq!(seen(), cached, "a node was grown, and is locked");
        drop(child);
        entry.detach().expect("the entry is managed").retire();
        let below: Node<Table<G>> = node(machine, Level::new(G::LEVELS - 1));
        seen();
        entry.replace(Child::Node(below)).map(drop).expect("the node fits");
        assert_eq!(seen(), cached, "a node was put there");
    });
}

/// Where a fault removes the translation that caused it.
fn loosening_is_found_at_the_next_fault<G: Architecture>() {
    let rights = PageFlags::WRITE | PageFlags::EXECUTE | PageFlags::USER;
    for new in [PageFlags::empty(), PageFlags::WRITE, NOTED, rights, rights | NOTED] {
        let refused_without = if G::NOTES { rights } else { rights | NOTED };
        let is_flushed = G::CACHES_FAULTS && new.intersects(refused_without);
        let found = seen_while::<G>(READABLE, |cursor, _| {
            cursor.protect_next(flags(new)).expect("no split");
        });
        let one = [Seen::Flushed(Flush::Page(page::<G>(1)))];
        assert_eq!(found, one[..usize::from(is_flushed)], "{new:?} is added");
        let found = seen_while::<G>(READABLE, |cursor, _| {
            cursor.protect(page::<G>(3), flags(new)).expect("no split");
        });
        let both = [Seen::Flushed(flush_of::<G>(1..3))];
        assert_eq!(found, both[..usize::from(is_flushed)], "{new:?} is added");
    }
}

fn tightening_flushes_the_page<G: Architecture>() {
    let all = WRITABLE.flags | PageFlags::EXECUTE | PageFlags::USER | NOTED;
    for lost in all.iter() {
        let before = Property::new(all);
        let found = seen_while::<G>(before, |cursor, _| {
            cursor.protect_next(flags(all - lost)).expect("no split");
        });
        assert_eq!(found, [Seen::Flushed(Flush::Page(page::<G>(1)))], "{lost:?} is cached");
        let found = seen_while::<G>(before, |cursor, _| {
            assert_eq!(cursor.protect(page::<G>(2), flags(all - lost)), Ok(1));
        });
        assert_eq!(found.len(), 1, "{lost:?} is cached");
    }
    let caches_less = seen_while::<G>(READABLE, |cursor, _| {
        let change = |old| Property { cache: CachePolicy::Uncached, ..old };
        cursor.protect_next(change).expect("no split");
    });
    assert_eq!(caches_less, [Seen::Flushed(Flush::Page(page::<G>(1)))], "the old policy is cached");
}

fn one_page_is_flushed_by_its_address<G: Architecture>() {
    let one = [Seen::Flushed(Flush::Page(page::<G>(1))), Seen::Retired];
    let found = seen_while::<G>(READABLE, |cursor, _| {
        assert!(cursor.take_next().expect("no split").is_some());
    });
    assert_eq!(found, one, "one page is flushed by its address");
    let found =
        seen_while::<G>(READABLE, |cursor, _| assert_eq!(cursor.unmap(page::<G>(2)), Ok(1)));
    assert_eq!(found, one, "one page is flushed by its address");
}

fn several_pages_are_flushed_together<G: Architecture>() {
    let together = [Seen::Flushed(flush_of::<G>(1..3)), Seen::Retired];
    let found =
        seen_while::<G>(READABLE, |cursor, _| assert_eq!(cursor.unmap(page::<G>(3)), Ok(2)));
    assert_eq!(found, together, "several pages are flushed together");
    let found = seen_while::<G>(
        READABLE,
        |cursor, _| {
            while cursor.take_next().expect("no split").is_some() {}
        },
    );
    assert_eq!(found, together, "several pages are flushed together");
    let found = seen_while::<G>(READABLE, |cursor, _| {
        assert!(cursor.take_next().expect("no split").is_some());
        cursor.jump(page::<G>(0)).expect("the start");
        assert!(cursor.take_next().expect("no split").is_some());
    });
    // Two pages may be all of a leaf, which goes with them.
    let owed = if G::ENTRIES == 2 { Flush::Everything } else { flush_of::<G>(0..2) };
    assert_eq!(found, [Seen::Flushed(owed), Seen::Retired]);
}

fn a_flush_comes_before_the_frames_are_retired<G: Architecture>() {
    on_watched_table::<G>(|machine, root| {
        for range in [0..1, 1..3, 1..4] {
            let mut cursor = lock(root, pages::<G>(range.clone()));
            let make = |_| tracked_on(machine, READABLE);
            cursor.map_pages(cursor.range().end, make).expect("nothing is there");
            cursor.jump(page::<G>(range.start)).expect("the start");
            seen();
            cursor.unmap(cursor.range().end).expect("no split");
            assert_eq!(seen(), [], "nothing is retired under the caller's feet");
            drop(cursor);
            let found = seen();
            let retired = found.iter().position(|&it| it == Seen::Retired).expect("frames went");
            assert!(retired > 0, "frames are retired before anything was flushed");
            // Nodes above that become empty are unlinked later: they take a flush of their own.
            let last = found.iter().rposition(|&it| it != Seen::Retired);
            let retired = found.iter().rposition(|&it| it == Seen::Retired);
            assert!(last < retired, "something is flushed after it was retired: {found:?}");
        }
    });
}

fn a_flush_comes_before_the_locks_go<G: Architecture>() {
    on_watched_table::<G>(|machine, root| {
        let mut cursor = lock(root, pages::<G>(0..3));
        cursor
            .map_pages(page::<G>(3), |_| tracked_on(machine, WRITABLE))
            .expect("nothing is there");
        drop(cursor);
        let mut cursor = lock(root, pages::<G>(0..2));
        cursor.protect_next(|_| READABLE).expect("no split");
        cursor.take_next().expect("no split").expect("a page is there");
        let flushes = Rc::new(Cell::new(0));
        let (count, machine, owned) = (flushes.clone(), *machine, root.to_owned());
        at_flush(Some(Box::new(move || {
            count.set(count.get() + 1);
            let other = online(&machine, 1);
            let section = other.read_side();
            let way = try_lock_covering(owned.borrow(&section), page::<G>(1), Level::LEAF);
            assert!(way.is_err(), "the leaf is unlocked before the flush");
        })));
        drop(cursor);
        at_flush(None);
        assert_eq!(flushes.get(), 1);
    });
}

fn a_cursor_flushes_when_it_is_asked_to<G: Architecture>() {
    let found = seen_while::<G>(READABLE, |cursor, _| {
        cursor.flush();
        assert_eq!(seen(), [], "nothing is owed yet");
        assert_eq!(cursor.unmap(page::<G>(2)), Ok(1));
        cursor.flush();
        assert_eq!(seen(), [Seen::Flushed(Flush::Page(page::<G>(1))), Seen::Retired]);
        cursor.flush();
    });
    assert_eq!(found, [], "nothing is owed any more");
}

fn a_split_is_flushed<G: Architecture>() {
    for level in huge_levels::<G>() {
        on_watched_table::<G>(|_, root| {
            let mut cursor = lock(root, pages::<G>(0..span::<G>(level)));
            let huge = untracked_at(Paddr::new(0), Level::new(level), READABLE);
            cursor.map(huge).expect("nothing is there");
            drop(cursor);
            seen();
            let mut cursor = lock(root, pages::<G>(0..1));
            cursor.split().expect("it is huge");
            drop(cursor);
            assert_eq!(seen(), [Seen::Flushed(Flush::Everything)], "the huge page is cached");
            let mut cursor = lock(root, pages::<G>(0..1));
            assert_eq!(cursor.vaddr(), Vaddr::new(0));
            cursor.protect(page::<G>(1), |old| old).expect("frames enough");
        });
    }
}

/// A range may end far behind the last page that is mapped in it.
fn a_run_is_flushed_as_far_as_it_went<G: Architecture>() {
    let found = seen_while::<G>(WRITABLE, |cursor, _| {
        cursor.jump(page::<G>(2)).expect("a position");
        assert_eq!(cursor.unmap(page::<G>(3)), Ok(1));
        cursor.flush();
        assert_eq!(seen().last(), Some(&Seen::Retired));
        cursor.jump(page::<G>(0)).expect("the start");
        assert_eq!(cursor.protect(page::<G>(3), |_| READABLE), Ok(2));
    });
    let flushed = Seen::Flushed(flush_of::<G>(0..2));
    assert_eq!(found.first(), Some(&flushed), "no more than the pages that are alike");
}

/// The change is the caller's code. What it has decided so far is in the table.
fn what_was_tightened_before_a_panic_is_flushed<G: Architecture>() {
    let found = seen_while::<G>(WRITABLE, |cursor, _| {
        cursor.jump(page::<G>(1)).expect("a position");
        cursor.protect_next(|old| Property { cache: CachePolicy::Uncached, ..old }).expect("fits");
        cursor.flush();
        assert_eq!(seen().len(), 1);
        cursor.jump(page::<G>(0)).expect("the start");
        let stops = |old: Property| match old.cache {
            CachePolicy::WriteBack => READABLE,
            _ => panic!("the caller gives up"),
        };
        let protect = AssertUnwindSafe(|| cursor.protect(page::<G>(3), stops));
        catch_unwind(protect).expect_err("the closure has panicked");
    });
    assert_eq!(found, [Seen::Flushed(Flush::Page(page::<G>(0)))], "the first page is cached");
}

/// Also what owns nothing, and has nothing to wait for.
fn what_is_detached_by_hand_is_flushed<G: Architecture>() {
    on_watched::<G>(|machine| {
        let cpu = online(machine, 0);
        let leaf: Node<Table<G>> = node(machine, Level::LEAF);
        let section = cpu.read_side();
        let mut guard = leaf.borrow(&section).lock();
        let mut entry = guard.entry(0).expect("the index is in range");
        let page = || Child::Item(untracked_at(Paddr::of_frame(7), Level::LEAF, READABLE));
        entry.replace(page()).expect("a page fits a leaf").retire();
        let mapped = [Seen::Flushed(Flush::Everything)];
        assert_eq!(seen(), mapped[..usize::from(G::CACHES_ABSENT)], "nothing was there");
        entry.replace(page()).expect("a page fits a leaf").retire();
        assert_eq!(seen(), [Seen::Flushed(Flush::Everything)], "another page is there");
        entry.detach().expect("the entry is managed").retire();
        assert_eq!(seen(), [Seen::Flushed(Flush::Everything)], "the page is gone");
    });
}

fn what_is_protected_by_hand_is_flushed_at_once<G: Architecture>() {
    on_watched::<G>(|machine| {
        let cpu = online(machine, 0);
        let section = cpu.read_side();
        for level in (1..=G::PAGE_LEVELS).map(Level::new) {
            let holds: Node<Table<G>> = node(machine, level);
            let mut guard = holds.borrow(&section).lock();
            let page = untracked_at(Paddr::new(0), level, READABLE);
            let mut entry = guard.entry(0).expect("the index is in range");
            entry.replace(Child::Item(page)).expect("it fits").retire();
            seen();
            entry.protect(|_| READABLE).expect("a page is there");
            assert_eq!(seen(), [], "nothing is another");
            entry.protect(|_| WRITABLE).expect("a page is there");
            let added = [Seen::Flushed(Flush::Everything)];
            assert_eq!(seen(), added[..usize::from(G::CACHES_FAULTS)], "a right is added");
            entry.protect(|_| READABLE).expect("a page is there");
            assert_eq!(seen(), [Seen::Flushed(Flush::Everything)], "a right is taken away");
        }
    });
}

fn what_is_split_by_hand_is_flushed_while_the_parts_are_locked<G: Architecture>() {
    on_watched::<G>(|machine| {
        let cpu = online(machine, 0);
        let section = cpu.read_side();
        for level in huge_levels::<G>().map(Level::new) {
            let holds: Node<Table<G>> = node(machine, level);
            let mut guard = holds.borrow(&section).lock();
            let huge = untracked_at(Paddr::new(0), level, READABLE);
            let mut entry = guard.entry(1).expect("the index is in range");
            entry.replace(Child::Item(huge)).expect("it fits").retire();
            seen();
            let parts = entry.split().expect("frames enough");
            assert_eq!(seen(), [Seen::Flushed(Flush::Everything)], "the huge page is cached");
            drop(parts);
            assert_eq!(seen(), []);
        }
    });
}
