//! A table to try cursors on, pages for it, and what is looked at afterwards.
//!
//! [`dump`] reads a table entry by entry, without locks and without any cursor: what cursors say
//! is compared with it, and what an error leaves behind.

use std::ops::Range;

use weft_core::address::{FRAME_SIZE, Level, Paddr, Vaddr};
use weft_core::config::Config;
use weft_core::cursor::Cursor;
use weft_core::entry::ChildRef;
use weft_core::format::{PageFlags, Property, RawItem};
use weft_core::geometry::Geometry;
use weft_core::item::MappedItem;
use weft_core::node::{Node, NodeRef};
use weft_core::sync::{Backend, Flush};
use weft_scenarios::specification::{self, addresses};
pub(crate) use weft_scenarios::specification::{address as page, end_address as end};

use crate::architecture::{Architecture, Table, Whole};
use crate::support::{Machine, live, node, on_machine, online, untracked_at};
use crate::watched::{self, on_watched};

pub(crate) type Root<'g, G> = NodeRef<'g, Whole<G>>;

type Geo<C> = <<C as Config>::Backend as Backend>::Geometry;

/// Runs `body` on a new table. What it leaves there has to be sound and is unmapped; then every
/// frame but the root's has to come back.
pub(crate) fn on_table<G: Architecture>(body: impl FnOnce(&Machine<G>, Root<'_, G>)) {
    on_machine::<G>(|machine| {
        let mut cpu = online(machine, 0);
        let root: Node<Whole<G>> = node(machine, G::ROOT);
        {
            let section = cpu.read_side();
            let root = root.borrow(&section);
            body(machine, root);
            assert_sound(root);
            clear(root, 0..all_pages::<G>());
            assert_sound(root);
            assert_eq!(dump(root).nodes.len(), 1, "only the root is left");
        }
        cpu.quiescent();
        cpu.quiescent();
        assert_eq!(live(machine), 1, "unmapping gives back every frame but the root's");
    });
}

/// Runs `body` on a new, watched table, which it leaves as it likes.
pub(crate) fn on_watched_table<G: Architecture>(
    body: impl FnOnce(&watched::Machine<G>, NodeRef<'_, Table<G>>),
) {
    on_watched::<G>(|machine| {
        let cpu = online(machine, 0);
        let root: Node<Table<G>> = node(machine, G::ROOT);
        let section = cpu.read_side();
        body(machine, root.borrow(&section));
    });
}

/// All addresses, half by half.
pub(crate) fn halves<G: Geometry>() -> impl Iterator<Item = Range<Vaddr>> {
    in_halves::<G>(0..all_pages::<G>())
}

/// These pages: those of the lower half, and those of the upper one.
fn in_halves<G: Geometry>(numbers: Range<u64>) -> impl Iterator<Item = Range<Vaddr>> {
    let middle = all_pages::<G>() / 2;
    let parts = [numbers.start..numbers.end.min(middle), numbers.start.max(middle)..numbers.end];
    parts.into_iter().filter(|part| part.start < part.end).map(pages::<G>)
}

/// All addresses but those of the last page. No range has all: it would end where it begins, at 0.
pub(crate) fn nearly_all<G: Geometry>() -> Range<Vaddr> {
    pages::<G>(0..all_pages::<G>() - 1)
}

/// How many addresses come before this one, of those that a table translates.
pub(crate) fn offset<G: Geometry>(vaddr: Vaddr) -> u64 {
    vaddr.as_u64() & (G::node_span(G::ROOT) - 1)
}

/// As [`offset`], of the end of a range.
pub(crate) fn end_offset<G: Geometry>(end: Vaddr) -> u64 {
    offset::<G>(Vaddr::new(end.as_u64().wrapping_sub(1))) + 1
}

/// The address that so many others come before. Behind the last one comes 0.
pub(crate) fn address<G: Geometry>(offset: u64) -> Vaddr {
    let all = G::node_span(G::ROOT);
    Vaddr::new(if offset < all / 2 { offset } else { offset.wrapping_sub(all) })
}

/// The page that an address is in, if a table translates it.
pub(crate) fn number<G: Geometry>(vaddr: Vaddr) -> Option<u64> {
    G::is_canonical(vaddr).then(|| specification::number::<G>(vaddr))
}

/// As [`number`], of a position of a range, which may be its end.
pub(crate) fn number_in<G: Geometry>(position: Vaddr, range: &Range<Vaddr>) -> Option<u64> {
    match position == range.end {
        true => Some(end_offset::<G>(position) / FRAME_SIZE),
        false => number::<G>(position),
    }
}

/// These pages of the smallest size.
pub(crate) fn pages<G: Geometry>(numbers: Range<u64>) -> Range<Vaddr> {
    addresses::<G>(&numbers)
}

/// The flush of these pages and of no others. It is of everything if the pages are on both sides
/// of the gap between the halves, because what lies between two pages is flushed with them.
pub(crate) fn flush_of<G: Geometry>(numbers: Range<u64>) -> Flush {
    let first = page::<G>(numbers.start);
    match numbers.end - numbers.start {
        1 => Flush::Page(first),
        _ if in_halves::<G>(numbers.clone()).count() > 1 => Flush::Everything,
        count => Flush::Pages { first, length: FRAME_SIZE, count: count as u32 },
    }
}

/// How many pages of the smallest size an entry of `level` covers.
pub(crate) fn span<G: Geometry>(level: u8) -> u64 {
    G::entry_frames(Level::new(level))
}

/// How many pages there are.
pub(crate) fn all_pages<G: Geometry>() -> u64 {
    G::node_span(G::ROOT) / FRAME_SIZE
}

#[track_caller]
pub(crate) fn lock<C: Config>(root: NodeRef<'_, C>, range: Range<Vaddr>) -> Cursor<'_, C> {
    Cursor::lock(root, range).expect("the range is one, and a test has frames enough")
}

pub(crate) const READABLE: Property = Property::new(PageFlags::empty());
pub(crate) const NOTED: PageFlags = PageFlags::ACCESSED.union(PageFlags::DIRTY);

/// A page of device memory: `frame` counts pages of the level's size.
pub(crate) fn device<G: Architecture>(
    level: u8,
    frame: u64,
    property: Property,
) -> MappedItem<Machine<G>> {
    let level = Level::new(level);
    untracked_at(Paddr::new(frame * G::entry_span(level)), level, property)
}

/// As an entry has it.
pub(crate) fn raw<G: Architecture>(level: u8, frame: u64, property: Property) -> RawItem {
    let level = Level::new(level);
    RawItem { frame: Paddr::new(frame * G::entry_span(level)), level, property }
}

/// The page of memory that [`map_huge`] has at a page: physical addresses are shorter than virtual
/// ones may be.
pub(crate) fn physical(number: u64) -> u64 {
    number % (1 << 38)
}

/// The page of memory that [`fill`] has at a page.
pub(crate) fn filled_with(number: u64) -> u64 {
    4096 + physical(number)
}

/// Maps device memory of consecutive frames, from number 4096 on, at these pages.
#[track_caller]
pub(crate) fn fill<G: Architecture>(root: Root<'_, G>, numbers: Range<u64>, property: Property) {
    let number = |vaddr| offset::<G>(vaddr) / FRAME_SIZE;
    for range in in_halves::<G>(numbers) {
        let mut cursor = lock(root, range.clone());
        let make = |vaddr| device::<G>(1, filled_with(number(vaddr)), property);
        cursor.map_pages(range.end, make).expect("nothing is there");
    }
}

/// Unmaps these pages. Returns how many were mapped.
#[track_caller]
pub(crate) fn clear<C: Config>(root: NodeRef<'_, C>, numbers: Range<u64>) -> u64 {
    let unmap =
        |range: Range<Vaddr>| lock(root, range.clone()).unmap(range.end).expect("whole pages");
    in_halves::<Geo<C>>(numbers).map(unmap).sum()
}

/// Maps a huge page of device memory at the page with this number. Its frame has the number of
/// the address.
#[track_caller]
pub(crate) fn map_huge<G: Architecture>(
    root: Root<'_, G>,
    level: u8,
    number: u64,
    property: Property,
) {
    let span = span::<G>(level);
    let mut cursor = lock(root, pages::<G>(number..number + span));
    let item = device::<G>(level, physical(number) / span, property);
    cursor.map(item).expect("nothing is there");
}

/// The levels of huge pages.
pub(crate) fn huge_levels<G: Architecture>() -> impl Iterator<Item = u8> {
    2..=G::PAGE_LEVELS
}

/// All of a table.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Dump {
    /// Every page, in order.
    pub(crate) pages: Vec<(Vaddr, RawItem)>,
    /// Every node: its level, where it begins, and where it is.
    pub(crate) nodes: Vec<(Level, Vaddr, Paddr)>,
}

/// Reads a table entry by entry.
pub(crate) fn dump<C: Config>(root: NodeRef<'_, C>) -> Dump {
    let mut dump = Dump::default();
    read(root, 0, &mut dump);
    dump
}

fn read<C: Config>(node: NodeRef<'_, C>, start: u64, dump: &mut Dump) {
    let address = address::<Geo<C>>;
    dump.nodes.push((node.level(), address(start), node.paddr()));
    for index in 0..Geo::<C>::ENTRIES {
        let start = start + index as u64 * Geo::<C>::entry_span(node.level());
        match node.walk(index) {
            ChildRef::Absent | ChildRef::Shared => {}
            ChildRef::Node(child) => read(child, start, dump),
            ChildRef::Item(item) => dump.pages.push((address(start), *item)),
        }
    }
}

/// Checks that every node is unlocked, not stray, counts its children and, unless it is the root or
/// leads from one whose entries stay, has some.
#[track_caller]
pub(crate) fn assert_sound<C: Config>(root: NodeRef<'_, C>) {
    assert_sound_below(root, true);
}

#[track_caller]
fn assert_sound_below<C: Config>(node: NodeRef<'_, C>, may_be_empty: bool) {
    let guard = node.try_lock().expect("a node is locked after the cursor is gone");
    assert!(!guard.is_stray(), "a stray node is reachable");
    let children = usize::from(guard.children());
    drop(guard);
    let is_root = node.level() == Geo::<C>::ROOT;
    let managed = if is_root { C::MANAGED } else { 0..Geo::<C>::ENTRIES };
    let is_present = |index: &usize| !matches!(node.walk(*index), ChildRef::Absent);
    assert_eq!(managed.clone().filter(is_present).count(), children, "a node miscounts");
    assert!(may_be_empty || children > 0, "an empty node is left at level {:?}", node.level());
    for index in managed {
        if let ChildRef::Node(child) = node.walk(index) {
            assert_sound_below(child, is_root && C::ROOT_ENTRIES_STAY);
        }
    }
}
