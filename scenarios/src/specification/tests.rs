//! The corner cases of the specification, one by one.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use weft_core::address::Paddr;
use weft_core::cursor::Protected;
use weft_core::error::{ChangeError, MapFault, MoveError, PositionError};
use weft_core::format::CachePolicy;
use weft_core::geometry::{TinyThree, TinyTwo};

use super::*;
use Memory::{RunsOut, Suffices};

/// Nodes of two entries on four levels: 8 pages in each half, and huge ones of 2 and 4.
type Geo = Dense<1, 4>;
type Table = Specification<Geo, BTreeMap<u64, RawItem>>;

const READ: Property = Property::new(PageFlags::empty());
const WRITE: Property = Property::new(PageFlags::WRITE);

/// A mapping of `level`, of the frame with this number.
fn item(level: u8, frame: u64, property: Property) -> RawItem {
    RawItem { frame: Paddr::of_frame(frame), level: Level::new(level), property }
}

fn tracked(frame: u64) -> RawItem {
    item(1, frame, Property::new(PageFlags::TRACKED))
}

fn table_of(mappings: &[(u64, RawItem)]) -> Table {
    Table::new(mappings.iter().copied().collect())
}

fn locked(table: &mut Table, pages: Range<u64>) -> Cursor<'_, Geo, BTreeMap<u64, RawItem>> {
    table.cursor(addresses::<Geo>(&pages)).expect("a range")
}

/// Where mappings begin, of which frame and level.
fn summary(table: &Table) -> Vec<(u64, u64, u8)> {
    let all = table.within(0..8);
    all.map(|it| (it.pages.start, it.item.frame.frame_number(), it.item.level.as_u8())).collect()
}

/// The frame of a huge page of `level`.
const HUGE: u64 = 64;

#[test]
fn a_range_is_some_whole_pages_of_the_table() {
    let mut table = table_of(&[]);
    let mut error = |start, end| table.cursor(Vaddr::new(start)..Vaddr::new(end)).err();
    assert_eq!(error(0, 8 << 12), None);
    let range = |start, end| Vaddr::new(start)..Vaddr::new(end);
    assert_eq!(error(4096, 4096), Some(LockError::Empty { at: address::<Geo>(1) }));
    assert_eq!(error(4097, 4096), Some(LockError::Reversed { range: range(4097, 4096) }));
    assert_eq!(error(1, 4096), Some(LockError::Unaligned { vaddr: Vaddr::new(1) }));
    assert_eq!(error(0, 4097), Some(LockError::Unaligned { vaddr: Vaddr::new(4097) }));
    for (start, end, vaddr) in [(8 << 12, 9 << 12, 8 << 12), (0, 9 << 12, 9 << 12)] {
        let vaddr = Vaddr::new(vaddr);
        assert_eq!(error(start, end), Some(LockError::NotCanonical { vaddr }));
    }
}

#[test]
fn the_upper_half_has_its_sign_extended() {
    let mut table = table_of(&[(15, item(1, 9, READ))]);
    let start = address::<Geo>(8);
    assert_eq!(start, Vaddr::new(0xffff_ffff_ffff_8000));
    assert_eq!(addresses::<Geo>(&(0..8)), Vaddr::new(0)..Vaddr::new(0x8000));
    let mut cursor = table.cursor(start..Vaddr::new(0)).expect("up to the top");
    let found = cursor.find_next().map(|it| addresses::<Geo>(&it.pages));
    assert_eq!(found, Some(Vaddr::new(0xffff_ffff_ffff_f000)..Vaddr::new(0)));
    assert_eq!(cursor.unmap(Vaddr::new(0), Suffices), Ok(1));
    assert_eq!(cursor.vaddr(), Vaddr::new(0));
    // The lower half ends behind its last byte, or where the upper one begins.
    for end in [Vaddr::new(0x8000), start] {
        let mut cursor = table.cursor(address::<Geo>(7)..end).expect("the last page");
        assert_eq!((cursor.find_next(), cursor.vaddr()), (None, Vaddr::new(0x8000)));
    }
}

#[test]
fn a_position_is_a_page_of_the_range_or_its_end() {
    let mut table = table_of(&[]);
    let mut cursor = locked(&mut table, 1..3);
    let outside = |vaddr| PositionError::Outside { vaddr, range: addresses::<Geo>(&(1..3)) };
    assert_eq!(cursor.jump(address::<Geo>(0)), Err(outside(address::<Geo>(0))));
    assert_eq!(cursor.jump(address::<Geo>(4)), Err(outside(address::<Geo>(4))));
    assert_eq!(
        cursor.jump(Vaddr::new(4097)),
        Err(PositionError::Unaligned { vaddr: Vaddr::new(4097) })
    );
    assert_eq!((cursor.jump(address::<Geo>(3)), cursor.vaddr()), (Ok(()), address::<Geo>(3)));
    let at_end = PositionError::AtEnd { end: address::<Geo>(3) };
    assert_eq!(cursor.query(), Err(at_end.clone()));
    assert_eq!(cursor.split(Suffices), Err(at_end.clone().into()));
    assert_eq!(cursor.merge(Level::LEAF), Err(at_end.clone().into()));
    let refused = cursor.map(item(1, 7, READ), Suffices).expect_err("it is the end");
    assert_eq!((refused.reason, refused.back), (at_end.into(), item(1, 7, READ)));
    // What goes up to an end does nothing at the end, and does not go back.
    assert_eq!(cursor.unmap(address::<Geo>(3), Suffices), Ok(0));
    let back =
        PositionError::Outside { vaddr: address::<Geo>(2), range: addresses::<Geo>(&(3..3)) };
    assert_eq!(cursor.unmap(address::<Geo>(2), Suffices), Err(back.into()));
}

#[test]
fn a_page_is_mapped_where_nothing_is_and_where_it_fits() {
    let mut table = table_of(&[(1, item(1, 9, READ))]);
    let mut cursor = locked(&mut table, 0..7);
    let mut map = |at, item, memory| {
        cursor.jump(address::<Geo>(at)).expect("a position");
        let fault = cursor.map(item, memory).err().map(|error| error.reason);
        (fault, number::<Geo>(cursor.vaddr()))
    };
    let already = |at| Some(MapFault::AlreadyMapped { vaddr: address::<Geo>(at) });
    assert_eq!(map(1, item(1, 5, READ), Suffices), (already(1), 1));
    assert_eq!(map(0, item(2, HUGE, READ), Suffices), (already(1), 0), "the first page in the way");
    let (length, end) = (2 << 12, address::<Geo>(7));
    let misaligned = MapFault::Misaligned { vaddr: address::<Geo>(3), length };
    assert_eq!(map(3, item(2, HUGE, READ), Suffices), (Some(misaligned), 3));
    let too_long = MapFault::TooLong { vaddr: address::<Geo>(6), length, end };
    assert_eq!(map(6, item(2, HUGE, READ), RunsOut), (Some(too_long), 6));
    assert_eq!(map(2, item(2, HUGE, READ), RunsOut), (Some(MapFault::OutOfMemory), 2));
    assert_eq!(map(2, item(2, HUGE, READ), Suffices), (None, 4));
    assert_eq!(map(3, item(1, 5, READ), Suffices), (already(3), 3), "a huge page is all there");
    assert_eq!(map(6, item(1, 5, READ), Suffices), (None, 7));
    assert_eq!(summary(&table), [(1, 9, 1), (2, HUGE, 2), (6, 5, 1)]);
}

#[test]
fn an_entry_holds_what_fits() {
    assert_eq!(misfit::<TinyThree>(item(3, HUGE, READ)), None);
    let none = Some(Refusal::NoPagesHere { entry: Level::new(4) });
    assert_eq!(misfit::<TinyThree>(item(4, HUGE, READ)), none);
    assert_eq!(
        misfit::<TinyTwo>(item(3, HUGE, READ)),
        Some(Refusal::NoPagesHere { entry: Level::new(3) })
    );
    let frame = Paddr::of_frame(3);
    assert_eq!(
        misfit::<TinyThree>(item(2, 3, READ)),
        Some(Refusal::Unaligned { frame, alignment: 2 << 12 })
    );
    let frame = Paddr::new(1 << 52);
    let high = RawItem { frame, ..item(1, 0, READ) };
    assert_eq!(misfit::<TinyThree>(high), Some(Refusal::OutOfRange { frame }));
}

#[test]
fn many_pages_are_mapped_all_or_none() {
    let mut table = table_of(&[(4, item(1, 9, READ))]);
    let mut cursor = locked(&mut table, 1..8);
    let mut made = 0;
    let mut make = |vaddr| {
        made += 1;
        item(if vaddr == address::<Geo>(3) { 2 } else { 1 }, number::<Geo>(vaddr), READ)
    };
    let refused = cursor.map_pages(address::<Geo>(6), &mut make, Suffices).expect_err("a misfit");
    let misfit = Refusal::WrongLevel { entry: Level::LEAF, child: Level::new(2) };
    assert_eq!(refused.reason, MapFault::Refused(misfit));
    assert_eq!(refused.back, Some(item(2, 3, READ)), "the item that fits no entry comes back");
    assert_eq!((made, cursor.vaddr()), (3, address::<Geo>(1)));
    let make = |vaddr| item(1, number::<Geo>(vaddr), READ);
    let refused = cursor.map_pages(address::<Geo>(6), make, Suffices).expect_err("a page is there");
    assert_eq!(refused.reason, MapFault::AlreadyMapped { vaddr: address::<Geo>(4) });
    assert_eq!(refused.back, None, "no item is made for a page that is mapped");
    let refused = cursor.map_pages(address::<Geo>(4), make, RunsOut).expect_err("no memory");
    assert_eq!(refused.reason, MapFault::OutOfMemory);
    cursor.map_pages(address::<Geo>(4), make, Suffices).expect("nothing is there");
    assert_eq!(cursor.vaddr(), address::<Geo>(4));
    assert_eq!(summary(&table), [(1, 1, 1), (2, 2, 1), (3, 3, 1), (4, 9, 1)]);
}

#[test]
fn a_huge_page_is_in_the_way_before_anything_is_made() {
    let mut table = table_of(&[(2, item(1, 9, READ)), (4, item(3, HUGE, READ))]);
    let mut cursor = locked(&mut table, 0..8);
    let make = |_| panic!("nothing is made");
    let refused = cursor.map_pages(address::<Geo>(6), make, RunsOut).expect_err("a huge page");
    assert_eq!(
        refused.reason,
        MapFault::AlreadyMapped { vaddr: address::<Geo>(2) },
        "the first page"
    );
}

#[test]
fn a_search_shows_whole_mappings_and_stays_in_the_range() {
    let mut table = table_of(&[(0, item(2, HUGE, READ)), (6, item(2, HUGE, WRITE))]);
    let mut cursor = locked(&mut table, 1..7);
    let huge = Mapping { pages: 0..2, item: item(2, HUGE, READ) };
    assert_eq!(cursor.query(), Ok(Some(huge.clone())));
    assert_eq!((cursor.find_next(), cursor.vaddr()), (Some(huge), address::<Geo>(1)));
    cursor.jump(address::<Geo>(2)).expect("a position");
    assert_eq!(cursor.query(), Ok(None));
    let next = Mapping { pages: 6..8, item: item(2, HUGE, WRITE) };
    assert_eq!((cursor.find_next(), cursor.vaddr()), (Some(next), address::<Geo>(6)));
    cursor.jump(address::<Geo>(1)).expect("a position");
    let mut seen = Vec::new();
    cursor.visit(address::<Geo>(6), |it| seen.push(it.pages.start)).expect("a position");
    assert_eq!((seen, cursor.vaddr()), (Vec::from([0]), address::<Geo>(6)));
    let mut cursor = locked(&mut table, 2..6);
    assert_eq!((cursor.find_next(), cursor.vaddr()), (None, address::<Geo>(6)));
}

#[test]
fn an_unmap_counts_pages_and_splits_what_it_has_a_part_of() {
    let mut table = table_of(&[(0, item(3, HUGE, WRITE)), (5, item(1, 9, READ))]);
    let mut cursor = locked(&mut table, 1..8);
    assert_eq!(cursor.unmap(address::<Geo>(6), RunsOut), Err(ChangeError::OutOfMemory));
    assert_eq!(cursor.vaddr(), address::<Geo>(1));
    assert_eq!(cursor.unmap(address::<Geo>(6), Suffices), Ok(4));
    assert_eq!(cursor.vaddr(), address::<Geo>(6));
    assert_eq!(summary(&table), [(0, HUGE, 1)]);
    assert_eq!(table.at(0).expect("it was left").item.property, WRITE);
}

#[test]
fn what_is_taken_is_a_node_where_the_range_has_all_of_one() {
    let mut table = table_of(&[(1, item(1, 9, READ)), (2, item(2, HUGE, READ)), (6, tracked(5))]);
    let mut taken = |pages: Range<u64>| {
        let mut cursor = locked(&mut table, pages);
        let taken = cursor.take_next(Suffices).expect("memory suffices");
        let shown = taken.map(|it| {
            (number::<Geo>(it.range.start)..number::<Geo>(it.range.end), it.frames, it.page)
        });
        (shown, number::<Geo>(cursor.vaddr()))
    };
    assert_eq!(taken(0..1), (None, 1));
    assert_eq!(taken(1..8), (Some((1..2, 1, Some(item(1, 9, READ)))), 2), "the node begins before");
    assert_eq!(taken(0..5), (Some((0..4, 2, None)), 4), "the node above the huge page");
    assert_eq!(taken(4..7), (Some((6..7, 1, Some(tracked(5)))), 7));
    assert_eq!(taken(0..8), (None, 8));
}

#[test]
fn a_part_of_a_huge_page_is_taken_in_the_largest_pieces() {
    let mut table = table_of(&[(0, item(3, HUGE, READ))]);
    let mut cursor = locked(&mut table, 1..4);
    assert_eq!((cursor.take_next(RunsOut), cursor.vaddr()), (Err(OutOfMemory), address::<Geo>(1)));
    for (start, frame, level) in [(1, HUGE + 1, 1), (2, HUGE + 2, 2)] {
        let page = cursor.take_next(Suffices).expect("memory suffices").and_then(|it| it.page);
        assert_eq!(page, Some(item(level, frame, READ)), "at {start}");
    }
    assert_eq!(cursor.take_next(RunsOut), Ok(None));
    assert_eq!(summary(&table), [(0, HUGE, 1)]);
}

#[test]
fn a_page_is_replaced_by_one_of_its_size_or_in_part() {
    let mut table = table_of(&[(1, item(1, 9, READ)), (4, item(3, HUGE, READ))]);
    let mut cursor = locked(&mut table, 0..8);
    let mut replace = |at, item, memory| {
        cursor.jump(address::<Geo>(at)).expect("a position");
        let replaced = cursor.replace(item, memory).map_err(|error| error.reason);
        (replaced, number::<Geo>(cursor.vaddr()))
    };
    let none =
        |at, pages: u64| Err(MapFault::NoPage { vaddr: address::<Geo>(at), length: pages << 12 });
    assert_eq!(replace(0, item(1, 5, WRITE), Suffices), (none(0, 1), 0), "nothing is there");
    assert_eq!(replace(0, item(2, HUGE, WRITE), Suffices), (none(0, 2), 0), "a smaller page is");
    let length = 2 << 12;
    let misaligned = MapFault::Misaligned { vaddr: address::<Geo>(1), length };
    assert_eq!(replace(1, item(2, HUGE, WRITE), Suffices), (Err(misaligned), 1));
    assert_eq!(replace(1, tracked(5), Suffices), (Ok(item(1, 9, READ)), 2));
    assert_eq!(replace(6, item(1, 7, WRITE), RunsOut), (Err(MapFault::OutOfMemory), 6));
    assert_eq!(replace(6, item(1, 7, WRITE), Suffices), (Ok(item(1, HUGE + 2, READ)), 7));
    assert_eq!(
        summary(&table),
        [(1, 5, 1), (4, HUGE, 2), (6, 7, 1), (7, HUGE + 3, 1)],
        "what is beside it stays"
    );
}

#[test]
fn pages_are_moved_where_nothing_is() {
    let mut table = table_of(&[(0, tracked(5)), (2, item(1, 9, WRITE)), (6, item(1, 7, READ))]);
    table.note(2, PageFlags::DIRTY);
    let mut cursor = locked(&mut table, 0..7);
    let at = address::<Geo>;
    let outside = |vaddr| PositionError::Outside { vaddr, range: addresses::<Geo>(&(0..7)) };
    assert_eq!(cursor.move_pages(at(8), at(3), Suffices), Err(outside(at(8)).into()));
    let nowhere = MoveError::Destination(outside(at(9)));
    assert_eq!(cursor.move_pages(at(3), at(9), Suffices), Err(nowhere));
    let overlap = MoveError::Overlap { vaddr: at(2) };
    assert_eq!(cursor.move_pages(at(3), at(2), Suffices), Err(overlap));
    let overlap = MoveError::Overlap { vaddr: at(0) };
    assert_eq!(cursor.move_pages(at(3), at(0), Suffices), Err(overlap), "onto itself");
    let too_long = MoveError::TooLong { vaddr: at(5), length: 3 << 12, end: at(7) };
    assert_eq!(cursor.move_pages(at(3), at(5), Suffices), Err(too_long));
    let mapped = MoveError::AlreadyMapped { vaddr: at(6) };
    assert_eq!(cursor.move_pages(at(3), at(4), Suffices), Err(mapped));
    assert_eq!(cursor.move_pages(at(3), at(3), RunsOut), Err(MoveError::OutOfMemory));
    assert_eq!(cursor.vaddr(), at(0), "an error moves nothing");
    assert_eq!(cursor.move_pages(at(3), at(3), Suffices), Ok(2));
    assert_eq!(cursor.vaddr(), at(3));
    assert_eq!(summary(&table), [(3, 5, 1), (5, 9, 1), (6, 7, 1)]);
    let moved = table.at(5).expect("it was moved").item.property;
    assert_eq!(moved, Property::new(PageFlags::WRITE | PageFlags::DIRTY));
}

#[test]
fn a_huge_page_is_moved_whole_where_it_fits() {
    let moved = |pages: Range<u64>, to| {
        let mut table = table_of(&[(0, item(3, HUGE, READ))]);
        let mut cursor = locked(&mut table, 0..8);
        cursor.jump(address::<Geo>(pages.start)).expect("a position");
        let moved = cursor.move_pages(address::<Geo>(pages.end), address::<Geo>(to), Suffices);
        assert_eq!(moved, Ok(pages.end - pages.start));
        summary(&table)
    };
    assert_eq!(moved(0..4, 4), [(4, HUGE, 3)]);
    assert_eq!(moved(0..2, 4), [(2, HUGE + 2, 2), (4, HUGE, 2)], "a part");
    let odd = [(0, HUGE, 1), (1, HUGE + 1, 1), (4, HUGE + 2, 1), (5, HUGE + 3, 1)];
    assert_eq!(moved(2..4, 4)[..], [(0, HUGE, 2), (4, HUGE + 2, 2)], "a part at the end");
    let parts = [(0, HUGE, 2), (2, HUGE + 2, 1), (5, HUGE + 3, 1)];
    assert_eq!(moved(3..4, 5)[..], parts, "the smallest part");
    assert_ne!(moved(2..4, 5)[..], odd[..]);
    let parts = [(0, HUGE, 2), (5, HUGE + 2, 1), (6, HUGE + 3, 1)];
    assert_eq!(moved(2..4, 5)[..], parts, "not aligned at its new address");
}

#[test]
fn a_mark_stays_one_and_is_withheld() {
    let flags = PageFlags::MARK | PageFlags::WITHHELD;
    let mark = item(2, 6, Property::new(flags));
    let mut table = table_of(&[(0, mark), (4, item(1, 7, WRITE))]);
    table.note(0, PageFlags::DIRTY);
    let mut cursor = locked(&mut table, 0..8);
    let present = item(1, 6, Property::new(PageFlags::MARK));
    let refused = cursor.map(present, Suffices).expect_err("hardware could use it");
    let reason = MapFault::Refused(Refusal::PresentMark);
    assert_eq!((refused.reason, refused.back), (reason, present));
    assert_eq!(cursor.protect(address::<Geo>(1), |_| WRITE, Suffices), Ok(1), "a part of it");
    assert_eq!(summary(&table), [(0, 6, 1), (1, 7, 1), (4, 7, 1)]);
    let property = |page| table.at(page).expect("it is there").item.property;
    assert_eq!(property(0), Property::new(flags | PageFlags::WRITE));
    assert_eq!(property(1), Property::new(flags), "hardware notes nothing in it");
    assert_eq!(property(4), WRITE);
}

#[test]
fn who_owns_a_frame_stays() {
    let mut table = table_of(&[(0, tracked(5)), (1, item(1, 6, READ))]);
    let mut cursor = locked(&mut table, 0..2);
    let owned = |_| Property::new(PageFlags::TRACKED | PageFlags::WRITE);
    let before = cursor.protect_next(|_| WRITE, Suffices).expect("memory suffices");
    let range = addresses::<Geo>(&(0..1));
    assert_eq!(before, Some(Protected { range, before: tracked(5).property }));
    assert_eq!(cursor.protect(address::<Geo>(2), owned, Suffices), Ok(1));
    let flags = |page| table.at(page).expect("a page").item.property.flags;
    assert_eq!(flags(0), PageFlags::TRACKED | PageFlags::WRITE);
    assert_eq!(flags(1), PageFlags::WRITE);
}

#[test]
fn a_part_of_a_huge_page_is_protected_alone() {
    let mut table = table_of(&[(4, item(3, HUGE, READ))]);
    let mut cursor = locked(&mut table, 5..7);
    assert_eq!(
        cursor.protect(address::<Geo>(6), |_| WRITE, RunsOut),
        Err(ChangeError::OutOfMemory)
    );
    assert_eq!(cursor.protect_next(|_| WRITE, RunsOut), Err(OutOfMemory));
    assert_eq!(cursor.protect(address::<Geo>(6), |_| WRITE, Suffices), Ok(1));
    assert_eq!(summary(&table), [(4, HUGE, 1), (5, HUGE + 1, 1), (6, HUGE + 2, 2)]);
    let written: Vec<_> = table.within(0..8).map(|it| it.item.property == WRITE).collect();
    assert_eq!(written, [false, true, false]);
}

#[test]
fn a_split_and_a_merge_keep_what_hardware_noted() {
    let noted = PageFlags::ACCESSED | PageFlags::DIRTY;
    let mut table = table_of(&[(2, item(2, HUGE, WRITE))]);
    table.note(3, PageFlags::ACCESSED);
    table.note(0, PageFlags::ACCESSED);
    let mut cursor = locked(&mut table, 2..4);
    assert_eq!(cursor.split(RunsOut), Err(ChangeError::OutOfMemory));
    assert_eq!(cursor.split(Suffices), Ok(()));
    assert_eq!(cursor.split(Suffices), Err(ChangeError::NoHugePage { vaddr: address::<Geo>(2) }));
    assert_eq!(summary(&table), [(2, HUGE, 1), (3, HUGE + 1, 1)]);
    table.note(3, noted);
    assert_eq!(locked(&mut table, 2..4).merge(Level::LEAF), Ok(()));
    let merged = Property::new(PageFlags::WRITE | noted);
    assert_eq!(table.at(3), Some(Mapping { pages: 2..4, item: item(2, HUGE, merged) }));
}

#[test]
fn only_a_uniform_node_that_the_range_has_is_merged() {
    let merged = |mappings: &[(u64, RawItem)], pages, level| {
        let mut table = table_of(mappings);
        let result = locked(&mut table, pages).merge(Level::new(level));
        assert!(result.is_ok() || table.mappings() == table_of(mappings).mappings());
        result.err()
    };
    let pair = |second| [(0, item(1, HUGE, READ)), (1, second)];
    assert_eq!(merged(&pair(item(1, HUGE + 1, READ)), 0..2, 1), None);
    assert_eq!(merged(&pair(item(1, HUGE + 1, READ)), 0..1, 1), Some(ChangeError::NotANode));
    let differs = Some(ChangeError::NotUniform { vaddr: address::<Geo>(1) });
    assert_eq!(merged(&pair(item(1, HUGE + 2, READ)), 0..2, 1), differs);
    assert_eq!(merged(&pair(item(1, HUGE + 1, WRITE)), 0..2, 1), differs);
    assert_eq!(merged(&pair(item(1, HUGE + 1, READ))[..1], 0..2, 1), differs);
    assert_eq!(merged(&[(0, tracked(4)), (1, tracked(5))], 0..2, 1), Some(ChangeError::Tracked));
    let frame = Paddr::of_frame(1);
    let misfit = Refusal::Unaligned { frame, alignment: 2 << 12 };
    let odd = [(0, item(1, 1, READ)), (1, item(1, 2, READ))];
    assert_eq!(merged(&odd, 0..2, 1), Some(ChangeError::Refused(misfit)));
    assert_eq!(merged(&[(0, item(3, HUGE, READ))], 0..4, 3), Some(ChangeError::NotANode));
    assert_eq!(merged(&[], 0..8, 4), Some(ChangeError::NotANode), "the root has no entry above");
    assert_eq!(merged(&[], 0..8, 1), Some(ChangeError::NotUniform { vaddr: address::<Geo>(0) }));
}

#[test]
fn a_translation_that_forbids_less_or_leads_elsewhere_is_flushed() {
    let kept = PageFlags::TRACKED | PageFlags::SOFTWARE | PageFlags::WITHHELD | PageFlags::MARK;
    let all = PageFlags::all() - kept;
    let with = |flags| item(1, 5, Property::new(flags));
    let old = with(all);
    let must_flush = |old: &RawItem, new: &RawItem| must_flush::<Geo>(Some(old), Some(new));
    assert!(super::must_flush::<Geo>(Some(&old), None), "the page is gone");
    assert!(!super::must_flush::<Geo>(None, Some(&old)), "a fault finds what is new");
    assert!(!must_flush(&old, &old));
    for lost in all.iter() {
        assert!(must_flush(&old, &with(all - lost)), "{lost:?} is lost");
        let gained = must_flush(&with(all - lost), &old);
        assert_eq!(gained, lost == PageFlags::GLOBAL, "{lost:?} is gained");
    }
    let uncached = Property { cache: CachePolicy::Uncached, ..old.property };
    for new in [item(1, 6, old.property), item(2, 5, old.property), item(1, 5, uncached)] {
        assert!(must_flush(&old, &new), "{new:?}");
    }
    let withheld = with(all | PageFlags::WITHHELD);
    assert!(must_flush(&old, &withheld), "a CPU would go on using it");
    assert!(!must_flush(&withheld, &old), "a fault finds what is given back");
    assert!(!super::must_flush::<Geo>(Some(&withheld), None), "no cache has it");
}
