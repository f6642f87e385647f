//! Moving: pages go to other addresses, of the same table or of another one, with all that they
//! say.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;

use weft_backend_baremetal::hosted::hardware_sets;
use weft_core::address::{Level, Vaddr};
use weft_core::cursor::Cursor;
use weft_core::entry::ChildRef;
use weft_core::error::{LockError, MoveError, PositionError};
use weft_core::format::{EntryFormat, PageFlags, Property};
use weft_core::node::{Node, NodeRef};
use weft_core::sync::Flush;

use crate::architecture::{Architecture, Table, Whole};
use crate::fixture::{
    Dump, NOTED, READABLE, Root, all_pages, assert_sound, clear, dump, fill, huge_levels, lock,
    map_huge, nearly_all, on_table, on_watched_table, page, pages, span,
};
use crate::support::{WRITABLE, live, node, online, tracked, tracked_on};
use crate::watched::{Seen, at_flush, seen};

on_every_architecture!(
    pages_go_elsewhere_with_all_that_they_say,
    holes_stay_holes,
    pages_go_back_and_forth_over_many_leaves,
    a_huge_page_goes_whole_where_it_is_aligned,
    a_huge_page_goes_in_parts_where_it_is_not_aligned,
    a_part_of_a_huge_page_goes_alone,
    a_huge_page_goes_where_an_empty_node_is,
    pages_go_to_another_table,
    pages_go_to_another_range_of_the_table,
    what_owns_a_frame_goes_along,
    nothing_is_moved_onto_itself,
    nothing_is_moved_onto_what_is_mapped,
    nothing_is_moved_beyond_the_range,
    nodes_left_empty_go,
    a_page_is_at_neither_address_when_it_is_flushed,
    a_piece_is_flushed_once,
);
on_every_noting_architecture!(what_hardware_notes_up_to_the_last_moment_goes_along);

/// Whether pages 0 to 4 are not all in one half.
fn is_tiny<G: Architecture>() -> bool {
    all_pages::<G>() < 8
}

fn moved<C: weft_core::config::Config>(
    cursor: &mut Cursor<'_, C>,
    from: Range<Vaddr>,
    to: Vaddr,
) -> Result<u64, MoveError> {
    cursor.jump(from.start).expect("a position");
    cursor.move_pages(from.end, to)
}

/// The pages of `before`, those of `numbers` so many pages further on.
fn shifted<G: Architecture>(before: &Dump, numbers: Range<u64>, distance: u64) -> Dump {
    let range = pages::<G>(numbers);
    let mut after = before.clone();
    for (vaddr, _) in &mut after.pages {
        if range.start <= *vaddr && *vaddr < range.end {
            let number = crate::fixture::number::<G>(*vaddr).expect("canonical");
            *vaddr = page::<G>(number + distance);
        }
    }
    after.pages.sort_by_key(|(vaddr, _)| crate::fixture::offset::<G>(*vaddr));
    after
}

fn pages_go_elsewhere_with_all_that_they_say<G: Architecture>() {
    if is_tiny::<G>() {
        return;
    }
    on_table::<G>(|_, root| {
        let half = all_pages::<G>() / 2;
        fill(root, 0..1, Property::new(WRITABLE.flags | NOTED));
        fill(root, 1..2, READABLE);
        fill(root, half..half + 1, READABLE);
        let before = dump(root);
        let mut cursor = lock(root, nearly_all::<G>());
        assert_eq!(moved(&mut cursor, pages::<G>(0..2), page::<G>(half + 1)), Ok(2));
        assert_eq!(cursor.vaddr(), page::<G>(2), "the cursor is behind what was moved");
        drop(cursor);
        let expected = shifted::<G>(&before, 0..2, half + 1).pages;
        assert_eq!(dump(root).pages, expected);
        assert_eq!(expected[1].1.property.flags & NOTED, NOTED);
    });
}

/// The lowest node for an address.
fn leaf<C: weft_core::config::Config>(root: NodeRef<'_, C>, vaddr: Vaddr) -> NodeRef<'_, C> {
    use weft_core::geometry::Geometry;
    use weft_core::sync::Backend;
    let mut node = root;
    let index = |level| <C::Backend as Backend>::Geometry::index(vaddr, level);
    while let ChildRef::Node(child) = node.walk(index(node.level())) {
        node = child;
    }
    node
}

fn holes_stay_holes<G: Architecture>() {
    on_table::<G>(|_, root| {
        let half = all_pages::<G>() / 2;
        for number in [0, half - 1] {
            fill(root, number..number + 1, READABLE);
        }
        let before = dump(root);
        let mut cursor = lock(root, nearly_all::<G>());
        let frames = if half == 1 { 1 } else { 2 };
        let behind = half + half - 1;
        let to = page::<G>(half);
        let end = page::<G>((half - 1).max(1));
        assert_eq!(moved(&mut cursor, page::<G>(0)..end, to), Ok(1));
        assert_eq!(cursor.unmap(page::<G>(half)), Ok(frames - 1), "the end is not moved");
        drop(cursor);
        assert_eq!(dump(root).pages, [(to, before.pages[0].1)]);
        assert!(behind < all_pages::<G>());
    });
}

fn pages_go_back_and_forth_over_many_leaves<G: Architecture>() {
    on_table::<G>(|_, root| {
        let all = all_pages::<G>();
        let (count, half) = ((all / 2 - 1).min(1100), all / 2);
        fill(root, 0..count, READABLE);
        let before = dump(root);
        let mut cursor = lock(root, nearly_all::<G>());
        let far = pages::<G>(half..half + count);
        assert_eq!(moved(&mut cursor, pages::<G>(0..count), far.start), Ok(count));
        assert_eq!(moved(&mut cursor, far, page::<G>(1)), Ok(count));
        drop(cursor);
        assert_eq!(dump(root).pages, shifted::<G>(&before, 0..count, 1).pages);
    });
}

fn a_huge_page_goes_whole_where_it_is_aligned<G: Architecture>() {
    for level in huge_levels::<G>() {
        on_table::<G>(|_, root| {
            let (span, start) = (span::<G>(level), all_pages::<G>() - 2 * span::<G>(level));
            map_huge(root, level, 0, WRITABLE);
            let item = dump(root).pages[0].1;
            let mut cursor = lock(root, nearly_all::<G>());
            let to = page::<G>(start);
            if start == 0 {
                return;
            }
            assert_eq!(moved(&mut cursor, pages::<G>(0..span), to), Ok(span));
            drop(cursor);
            assert_eq!(dump(root).pages, [(to, item)]);
        });
    }
}

fn a_huge_page_goes_in_parts_where_it_is_not_aligned<G: Architecture>() {
    for level in huge_levels::<G>() {
        on_table::<G>(|_, root| {
            let (span, half) = (span::<G>(level), all_pages::<G>() / 2);
            if span > 1 << 9 || half + 1 + span > all_pages::<G>() - 1 {
                return;
            }
            map_huge(root, level, 0, WRITABLE);
            let frame = dump(root).pages[0].1.frame;
            let mut cursor = lock(root, nearly_all::<G>());
            assert_eq!(moved(&mut cursor, pages::<G>(0..span), page::<G>(half + 1)), Ok(span));
            drop(cursor);
            let found = dump(root).pages;
            assert_eq!(found.len() as u64, span, "a huge page is where none can begin");
            for (number, (vaddr, item)) in found.into_iter().enumerate() {
                let number = number as u64;
                assert_eq!(vaddr, page::<G>(half + 1 + number));
                assert_eq!((item.frame, item.level), (frame.plus(number << 12), Level::LEAF));
            }
        });
    }
}

fn a_part_of_a_huge_page_goes_alone<G: Architecture>() {
    for level in huge_levels::<G>() {
        on_table::<G>(|_, root| {
            let (span, half) = (span::<G>(level), all_pages::<G>() / 2);
            if span > half || is_tiny::<G>() {
                return;
            }
            map_huge(root, level, 0, WRITABLE);
            let frame = dump(root).pages[0].1.frame;
            let mut cursor = lock(root, nearly_all::<G>());
            assert_eq!(moved(&mut cursor, pages::<G>(1..2), page::<G>(half)), Ok(1));
            drop(cursor);
            let found = dump(root).pages;
            let (vaddr, item) = found.last().expect("a page is there");
            assert_eq!((*vaddr, item.frame), (page::<G>(half), frame.plus(1 << 12)));
            let rest: u64 = found.iter().map(|(_, it)| G::entry_frames(it.level)).sum();
            assert_eq!(rest, span, "the other parts stay");
        });
    }
}

fn a_huge_page_goes_where_an_empty_node_is<G: Architecture>() {
    for level in huge_levels::<G>() {
        on_table::<G>(|_, root| {
            let (span, half) = (span::<G>(level), all_pages::<G>() / 2);
            if span > half || half + span > all_pages::<G>() - 1 {
                return;
            }
            map_huge(root, level, 0, WRITABLE);
            let mut cursor = lock(root, nearly_all::<G>());
            cursor.jump(page::<G>(half)).expect("a position");
            cursor.map(crate::fixture::device::<G>(1, 5, READABLE)).expect("nothing is there");
            cursor.jump(page::<G>(half)).expect("a position");
            assert_eq!(cursor.unmap(page::<G>(half + 1)), Ok(1));
            assert_eq!(moved(&mut cursor, pages::<G>(0..span), page::<G>(half)), Ok(span));
            drop(cursor);
            assert_eq!(dump(root).pages.len(), 1);
        });
    }
}

fn pages_go_to_another_table<G: Architecture>() {
    if is_tiny::<G>() {
        return;
    }
    on_table::<G>(|machine, root| {
        let other: Node<Whole<G>> = node(machine, G::ROOT);
        let cpu = online(machine, 1);
        let section = cpu.read_side();
        let other = other.borrow(&section);
        fill(root, 0..2, WRITABLE);
        let before = dump(root).pages;
        let mut from = lock(root, pages::<G>(0..2));
        let mut into = Cursor::try_lock(other, nearly_all::<G>()).expect("it is free");
        into.jump(page::<G>(1)).expect("a position");
        assert_eq!(from.move_pages_into(page::<G>(2), &mut into), Ok(2));
        assert_eq!((from.vaddr(), into.vaddr()), (page::<G>(2), page::<G>(3)));
        drop((from, into));
        assert_eq!(dump(root).pages, []);
        let expected = [(page::<G>(1), before[0].1), (page::<G>(2), before[1].1)];
        assert_eq!(dump(other).pages, expected);
        assert_sound(other);
        clear(other, 0..3);
    });
}

fn pages_go_to_another_range_of_the_table<G: Architecture>() {
    on_table::<G>(|_, root| {
        let last = all_pages::<G>() - 1;
        fill(root, 0..1, WRITABLE);
        let item = dump(root).pages[0].1;
        let mut from = lock(root, pages::<G>(0..1));
        match Cursor::try_lock(root, pages::<G>(last..last + 1)) {
            Ok(mut into) => {
                assert_eq!(from.move_pages_into(page::<G>(1), &mut into), Ok(1));
                assert_eq!(into.vaddr(), into.range().end);
            }
            Err(error) => panic!("ranges with a root between them are apart: {error}"),
        }
        drop(from);
        assert_eq!(dump(root).pages, [(page::<G>(last), item)]);
        let from = lock(root, pages::<G>(last..last + 1));
        let same = Cursor::try_lock(root, pages::<G>(last..last + 1)).err();
        assert_eq!(same, Some(LockError::WouldWait), "a range is not moved onto itself");
        drop(from);
    });
}

fn what_owns_a_frame_goes_along<G: Architecture>() {
    on_table::<G>(|machine, root| {
        let mut cursor = lock(root, pages::<G>(0..3));
        cursor.map(tracked(machine)).expect("nothing is there");
        let frames = || live(machine) - dump(root).nodes.len() as u64;
        assert_eq!(moved(&mut cursor, pages::<G>(0..1), page::<G>(2)), Ok(1));
        cursor.flush();
        assert_eq!(frames(), 1, "its frame is in use");
        drop(cursor);
        assert!(dump(root).pages[0].1.property.flags.contains(PageFlags::TRACKED));
    });
}

const ITSELF: &str = "a page is moved onto itself";

/// Moves, and expects that it is refused and nothing changes.
#[track_caller]
fn assert_refused<G: Architecture>(
    root: Root<'_, G>,
    range: Range<u64>,
    from: Range<u64>,
    to: Vaddr,
    expected: MoveError,
    why: &str,
) {
    let before = (dump(root), live(root.backend()));
    let mut cursor = lock(root, pages::<G>(range));
    let refused = moved(&mut cursor, pages::<G>(from.clone()), to).err();
    assert_eq!(refused, Some(expected), "{why}");
    assert_eq!(cursor.vaddr(), page::<G>(from.start), "the cursor has not moved");
    drop(cursor);
    assert_eq!((dump(root), live(root.backend())), before, "a refusal changes nothing");
}

fn nothing_is_moved_onto_itself<G: Architecture>() {
    if is_tiny::<G>() {
        return;
    }
    on_table::<G>(|_, root| {
        fill(root, 0..2, READABLE);
        for (to, first) in [(0, 0), (1, 1)] {
            let overlap = MoveError::Overlap { vaddr: page::<G>(first) };
            assert_refused(root, 0..3, 0..2, page::<G>(to), overlap, ITSELF);
        }
        let overlap = MoveError::Overlap { vaddr: page::<G>(1) };
        assert_refused(root, 0..3, 1..3, page::<G>(0), overlap, ITSELF);
    });
}

fn nothing_is_moved_onto_what_is_mapped<G: Architecture>() {
    on_table::<G>(|_, root| {
        fill(root, 0..1, READABLE);
        fill(root, 2..3, READABLE);
        let mapped = MoveError::AlreadyMapped { vaddr: page::<G>(2) };
        assert_refused(root, 0..3, 0..1, page::<G>(2), mapped, "something is there");
    });
}

fn nothing_is_moved_beyond_the_range<G: Architecture>() {
    if is_tiny::<G>() {
        return;
    }
    on_table::<G>(|_, root| {
        fill(root, 0..3, READABLE);
        let (vaddr, end) = (page::<G>(2), crate::fixture::end::<G>(3));
        let too_long = MoveError::TooLong { vaddr, length: 2 << 12, end };
        assert_refused(root, 0..3, 0..2, vaddr, too_long, "there is no room");
        let vaddr = page::<G>(2).plus(1);
        let unaligned = MoveError::Destination(PositionError::Unaligned { vaddr });
        assert_refused(root, 0..3, 0..1, vaddr, unaligned, "no page begins there");
        let mut cursor = lock(root, pages::<G>(1..3));
        let outside = |vaddr| PositionError::Outside { vaddr, range: pages::<G>(1..3) };
        let low = page::<G>(0);
        assert_eq!(
            moved(&mut cursor, pages::<G>(1..2), low),
            Err(MoveError::Destination(outside(low)))
        );
        let far = page::<G>(3).plus(4096);
        cursor.jump(page::<G>(1)).expect("a position");
        assert_eq!(cursor.move_pages(far, page::<G>(2)), Err(MoveError::Position(outside(far))));
        assert_eq!(cursor.move_pages(page::<G>(1), page::<G>(2)), Ok(0), "up to here is nothing");
    });
}

fn nodes_left_empty_go<G: Architecture>() {
    on_table::<G>(|_, root| {
        let last = all_pages::<G>() - 2;
        fill(root, 0..1, READABLE);
        let nodes = dump(root).nodes.len();
        let mut cursor = lock(root, nearly_all::<G>());
        assert_eq!(moved(&mut cursor, pages::<G>(0..1), page::<G>(last)), Ok(1));
        drop(cursor);
        assert_eq!(dump(root).nodes.len(), nodes, "as many as before, and none is empty");
    });
}

/// What is mapped of pages 0 and 2 at each flush while page 0 is moved to page 2, and what was
/// seen. `notes` is what hardware does at the beginning of each.
fn at_each_flush<G: Architecture>(
    note: impl Fn(NodeRef<'_, Table<G>>) + 'static,
) -> (Vec<Vec<Vaddr>>, Vec<Seen>, PageFlags) {
    let (found, mut after) = (Rc::new(RefCell::new(Vec::new())), Vec::new());
    let flags = Cell::new(PageFlags::empty());
    on_watched_table::<G>(|machine, root| {
        let mut cursor = lock(root, pages::<G>(0..3));
        cursor.map(tracked_on(machine, WRITABLE)).expect("nothing is there");
        cursor.flush();
        seen();
        note(root);
        let (machine, owned, noted) = (*machine, root.to_owned(), found.clone());
        at_flush(Some(Box::new(move || {
            let other = online(&machine, 1);
            let section = other.read_side();
            let root: NodeRef<'_, Table<G>> = owned.borrow(&section);
            let pages = dump(root).pages;
            noted.borrow_mut().push(pages.into_iter().map(|(vaddr, _)| vaddr).collect());
        })));
        assert_eq!(moved(&mut cursor, pages::<G>(0..1), page::<G>(2)), Ok(1));
        at_flush(None);
        after = seen();
        drop(cursor);
        let (vaddr, item) = dump(root).pages[0];
        assert_eq!(vaddr, page::<G>(2));
        flags.set(item.property.flags);
    });
    (found.take(), after, flags.get())
}

fn a_page_is_at_neither_address_when_it_is_flushed<G: Architecture>() {
    let (found, seen, _) = at_each_flush::<G>(|_| ());
    let flush = Seen::Flushed(Flush::Page(page::<G>(0)));
    // Where nodes are grown that caches may hold as absent, that is flushed at the end.
    let why = "the old address is flushed before anything else happens";
    assert_eq!(seen.first(), Some(&flush), "{why}");
    assert_eq!(found[0], [], "the page is at one of its addresses when the old one is flushed");
}

fn what_hardware_notes_up_to_the_last_moment_goes_along<G: Architecture>() {
    let (_, _, flags) = at_each_flush::<G>(|root| {
        hardware_sets(leaf(root, page::<G>(0)), 0, G::Format::HARDWARE_BITS);
    });
    assert_eq!(flags & NOTED, NOTED, "a note is lost");
}

fn a_piece_is_flushed_once<G: Architecture>() {
    if G::ENTRIES < 512 {
        return;
    }
    on_watched_table::<G>(|machine, root| {
        let mut cursor = lock(root, pages::<G>(0..1024));
        cursor.map_pages(page::<G>(300), |_| tracked_on(machine, WRITABLE)).expect("enough");
        cursor.flush();
        cursor.jump(page::<G>(0)).expect("the start");
        seen();
        assert_eq!(cursor.move_pages(page::<G>(300), page::<G>(600)), Ok(300));
        assert_eq!(seen(), vec![Seen::Flushed(Flush::Everything); 3], "128 pages are a piece");
    });
}
