//! The operations that change a table, beside what they do to the reference.
//!
//! Each says what is to come out before it happens, from the reference alone. Only a merge needs to
//! know how high the node around the position is: the reference has no nodes.

use std::ops::Range;

use weft_core::address::{FRAME_SIZE, Level, Paddr, Vaddr};
use weft_core::cursor::{Cursor, Protected, Unmapped};
use weft_core::error::{
    ChangeError, MapError, MapFault, MergeError, Misfit, OutOfMemory, PositionError,
};
use weft_core::format::{PageFlags, Property, RawItem};
use weft_core::item::{Frame, MappedItem};

use crate::architecture::{Architecture, Whole};
use crate::fixture::{NOTED, page, pages};
use crate::interpreter::{Run, number, position_error, reach, slot};
use crate::program::{Change, Operation, Place, Rights, Step};
use crate::support::Machine;

/// How many pages one step maps at most, if they own their frames and if not.
const TRACKED_MAX: u64 = 40;
const PAGES_MAX: u64 = 600;

type Table<'g, G> = Cursor<'g, Whole<G>>;

impl<'g, G: Architecture> Run<'_, 'g, G> {
    pub(crate) fn change(&mut self, cursor: &mut Table<'g, G>, step: &Step) {
        let (range, position) = (cursor.range().clone(), cursor.vaddr());
        let place = |place: Place| place.resolve::<G>(&range, position);
        let failure = step.failure;
        match step.operation {
            Operation::Map { level, frame, rights } => {
                let level = if level < 240 { 1 + level % G::PAGE_LEVELS } else { level };
                let level = Level::new(level);
                let at = place(frame);
                let frame = match frame {
                    Place::Raw(_) => Paddr::new(at.as_u64()),
                    _ => {
                        let alignment = G::entry_span(Level::new(G::PAGE_LEVELS)).max(1 << 30);
                        Paddr::new(at.align_down(alignment).as_u64() % (1 << 50))
                    }
                };
                self.map(cursor, untracked(frame, level, rights), failure);
            }
            Operation::MapTracked(rights) => {
                let frame = Frame::allocate(self.machine).expect("frames enough");
                self.map(
                    cursor,
                    MappedItem::Tracked { frame, property: rights.property() },
                    failure,
                );
            }
            Operation::MapPages { end, frame, rights, misfit } => {
                let end = nearer(place(end), &range, position, PAGES_MAX);
                let first = u64::from(frame);
                let make = |index: u64| {
                    let is_misfit = misfit.is_some_and(|at| u64::from(at) == index);
                    let level = Level::new(if is_misfit { 2 } else { 1 });
                    untracked(Paddr::of_frame((first + index) * 512), level, rights)
                };
                self.map_pages(cursor, end, failure, make);
            }
            Operation::MapTrackedPages { end, rights } => {
                let end = nearer(place(end), &range, position, TRACKED_MAX);
                let length = end.as_u64().wrapping_sub(position.as_u64()) / FRAME_SIZE;
                let frames: Vec<Frame<Machine<G>>> = (0..length.min(TRACKED_MAX))
                    .map(|_| Frame::allocate(self.machine).expect("frames enough"))
                    .collect();
                let mut frames = frames.into_iter();
                let make = |_| {
                    let frame = frames.next().expect("each page is asked for once");
                    MappedItem::Tracked { frame, property: rights.property() }
                };
                self.map_pages(cursor, end, failure, make);
            }
            Operation::TakeNext => self.take_next(cursor, failure),
            Operation::Unmap(end) => {
                let expected = |run: &mut Self, asked: Range<u64>| {
                    run.reference.unmap(asked);
                };
                let end = place(end);
                self.bulk(cursor, end, failure, |cursor| cursor.unmap(end), expected);
            }
            Operation::Protect(end, change) => {
                let expected = |run: &mut Self, asked: Range<u64>| {
                    run.reference.protect(asked, |old| change.of(old));
                };
                let end = place(end);
                let protect = |cursor: &mut Table<'g, G>| cursor.protect(end, |old| change.of(old));
                self.bulk(cursor, end, failure, protect, expected);
            }
            Operation::ProtectNext(change) => self.protect_next(cursor, change, failure),
            Operation::Split => self.split(cursor, failure),
            Operation::Merge => self.merge(cursor),
            _ => unreachable!("the others only look"),
        }
    }

    fn map(
        &mut self,
        cursor: &mut Table<'g, G>,
        item: MappedItem<Machine<G>>,
        failure: Option<u8>,
    ) {
        let (at, end, handed_in) = (cursor.vaddr(), cursor.range().end, as_written(&item));
        let (mapped, failed) = self.failing(failure, || cursor.map(item));
        let expected = match self.map_fault(at, end, handed_in) {
            None if failed => Some(MapFault::OutOfMemory),
            other => other,
        };
        match (mapped, expected) {
            (Ok(()), None) => {
                reach(if handed_in.level > Level::LEAF { "huge mapped" } else { "page mapped" });
                self.reference.map(number(at), handed_in);
                assert_eq!(cursor.vaddr(), at.plus(G::entry_span(handed_in.level)));
            }
            (Err(MapError { fault, item }), Some(expected)) => {
                reach(match fault {
                    MapFault::Position(_) => "mapped at the end",
                    MapFault::AlreadyMapped { .. } => "mapped over",
                    MapFault::TooLong { .. } => "mapped too long",
                    MapFault::Misaligned { .. } => "mapped misaligned",
                    MapFault::Misfit(_) => "mapped a misfit",
                    MapFault::OutOfMemory => "no memory to map",
                });
                assert_eq!(fault, expected);
                assert_eq!(as_written(&item), handed_in, "another item comes back");
                assert_eq!(cursor.vaddr(), at, "a refused item moves the cursor");
            }
            (Ok(()), Some(expected)) => panic!("mapped, although {expected}"),
            (Err(error), None) => panic!("not mapped: {error}"),
        }
    }

    /// Why an item is not mapped, if so and if memory does not run out.
    fn map_fault(&self, at: Vaddr, end: Vaddr, item: RawItem) -> Option<MapFault> {
        if at == end {
            return Some(PositionError::AtEnd { end }.into());
        }
        if let Some(misfit) = misfit::<G>(item) {
            return Some(MapFault::Misfit(misfit));
        }
        let length = G::entry_span(item.level);
        let mapped = self.reference.first(slot::<G>(number(at), item.level));
        if !at.as_u64().is_multiple_of(length) {
            Some(MapFault::Misaligned { vaddr: at, length })
        } else if end.as_u64() - at.as_u64() < length {
            Some(MapFault::TooLong { vaddr: at, length, end })
        } else {
            mapped.map(|(there, _)| MapFault::AlreadyMapped { vaddr: page(there.start).max(at) })
        }
    }

    fn map_pages(
        &mut self,
        cursor: &mut Table<'g, G>,
        end: Vaddr,
        failure: Option<u8>,
        mut make: impl FnMut(u64) -> MappedItem<Machine<G>>,
    ) {
        let at = cursor.vaddr();
        let rest = at..cursor.range().end;
        let mut made = Vec::new();
        let keep = |vaddr: Vaddr| {
            let item = make(number(vaddr) - number(at));
            made.push((number(vaddr), as_written(&item)));
            item
        };
        let (mapped, failed) = self.failing(failure, || cursor.map_pages(end, keep));
        let asked = number(at)..number(end);
        let mut expected = position_error(end, &rest).map(MapFault::from);
        if expected.is_none() {
            let there = self.reference.first(asked.clone());
            let there = there.map(|(there, _)| there.start.max(asked.start));
            let is_huge = |(_, item): &(_, RawItem)| item.level > Level::LEAF;
            let already = there.map(|there| MapFault::AlreadyMapped { vaddr: page(there) });
            let wrong = made.iter().find_map(|(_, item)| misfit_in_leaf::<G>(*item));
            expected = match () {
                () if self.reference.within(asked.clone()).iter().any(is_huge) => already,
                () if failed => Some(MapFault::OutOfMemory),
                () => wrong.map(MapFault::Misfit).or(already),
            };
        }
        match (mapped, expected) {
            (Ok(()), None) => {
                reach("many mapped");
                assert!(made.iter().map(|(at, _)| *at).eq(asked), "each page is asked for once");
                made.into_iter().for_each(|(at, item)| self.reference.map(at, item));
                assert_eq!(cursor.vaddr(), end);
            }
            (Err(MapError { fault, item }), Some(expected)) => {
                assert_eq!(fault, expected);
                let is_misfit = matches!(fault, MapFault::Misfit(_));
                reach(match fault {
                    MapFault::OutOfMemory => "no memory to map many",
                    _ if made.len() > usize::from(is_misfit) => "many rolled back",
                    _ => "many refused",
                });
                let last = made.last().filter(|_| is_misfit).map(|(_, item)| *item);
                assert_eq!(item.as_ref().map(as_written), last, "another item comes back");
                assert_eq!(cursor.vaddr(), at, "a refusal moves the cursor");
            }
            (Ok(()), Some(expected)) => panic!("mapped, although {expected}"),
            (Err(error), None) => panic!("not mapped: {error}"),
        }
    }

    fn take_next(&mut self, cursor: &mut Table<'g, G>, failure: Option<u8>) {
        let (position, end) = (cursor.vaddr(), cursor.range().end);
        let (taken, failed) = self.failing(failure, || cursor.take_next());
        let Some((at, _)) = self.next(position, end) else {
            assert_eq!((taken, cursor.vaddr()), (Ok(None), end));
            return;
        };
        if failed {
            reach("no memory to take");
            assert_eq!((taken, cursor.vaddr()), (Err(OutOfMemory), page(at)));
            return;
        }
        let rest = number(position)..number(end);
        let expected = match self.reference.whole_node(at, rest.clone()) {
            Some(node) => {
                reach("a node taken");
                let frames = self.reference.frames(node.clone());
                Unmapped { range: pages(node), frames, page: None }
            }
            None => {
                reach(if self.is_partial(at, &rest) { "a part taken" } else { "a page taken" });
                self.reference.split_around(at, number(end));
                let (mapped, item) = self.reference.at(at).expect("it was found there");
                let frames = mapped.end - mapped.start;
                Unmapped { range: pages(mapped), frames, page: Some(item) }
            }
        };
        self.reference.unmap(number(expected.range.start)..number(expected.range.end));
        assert_eq!(cursor.vaddr(), expected.range.end);
        assert_eq!(taken, Ok(Some(expected)));
    }

    fn protect_next(&mut self, cursor: &mut Table<'g, G>, change: Change, failure: Option<u8>) {
        let (position, end) = (cursor.vaddr(), cursor.range().end);
        let (changed, failed) = self.failing(failure, || cursor.protect_next(|old| change.of(old)));
        let Some((at, _)) = self.next(position, end) else {
            assert_eq!((changed, cursor.vaddr()), (Ok(None), end));
            return;
        };
        if failed {
            reach("no memory to protect the next");
            assert_eq!((changed, cursor.vaddr()), (Err(OutOfMemory), page(at)));
            return;
        }
        let rest = number(position)..number(end);
        reach(if self.is_partial(at, &rest) { "a part protected" } else { "a page protected" });
        self.reference.split_around(at, number(end));
        let (mapped, item) = self.reference.at(at).expect("it was found there");
        self.reference.protect(mapped.clone(), |old| change.of(old));
        assert_eq!(cursor.vaddr(), page(mapped.end));
        let expected = Protected { range: pages(mapped), before: item.property };
        assert_eq!(changed, Ok(Some(expected)));
    }

    /// Whether the mapping of a page begins before a range or goes on behind it.
    fn is_partial(&self, at: u64, range: &Range<u64>) -> bool {
        let mapping = self.reference.at(at);
        mapping.is_some_and(|(mapped, _)| mapped.start < range.start || mapped.end > range.end)
    }

    /// An operation on all pages up to an end that counts what was mapped there.
    fn bulk(
        &mut self,
        cursor: &mut Table<'g, G>,
        end: Vaddr,
        failure: Option<u8>,
        body: impl FnOnce(&mut Table<'g, G>) -> Result<u64, ChangeError>,
        change: impl FnOnce(&mut Self, Range<u64>),
    ) {
        let at = cursor.vaddr();
        let rest = at..cursor.range().end;
        let (counted, failed) = self.failing(failure, || body(cursor));
        let expected = match position_error(end, &rest) {
            Some(error) => Err(ChangeError::Position(error)),
            None if failed => Err(ChangeError::OutOfMemory),
            None => Ok(self.reference.frames(number(at)..number(end))),
        };
        assert_eq!(counted, expected);
        match expected {
            Ok(0) => reach("a range of nothing"),
            Ok(_) => reach("a range changed"),
            Err(ChangeError::OutOfMemory) => reach("no memory for a range of parts"),
            Err(_) => reach("a range to nowhere"),
        }
        assert_eq!(cursor.vaddr(), if counted.is_ok() { end } else { at });
        if counted.is_ok() {
            let asked = number(at)..number(end);
            self.reference.split_ends(asked.clone());
            change(self, asked);
        }
    }

    fn split(&mut self, cursor: &mut Table<'g, G>, failure: Option<u8>) {
        let (at, end) = (cursor.vaddr(), cursor.range().end);
        let (split, failed) = self.failing(failure, || cursor.split());
        let huge = self.reference.at(number(at)).filter(|(_, item)| item.level > Level::LEAF);
        let expected = match huge {
            _ if at == end => Err(PositionError::AtEnd { end }.into()),
            None => Err(ChangeError::NoHugePage { vaddr: at }),
            Some(_) if failed => Err(ChangeError::OutOfMemory),
            Some((mapped, _)) => {
                self.reference.split(mapped.start);
                Ok(())
            }
        };
        reach(match expected {
            Ok(()) => "split",
            Err(ChangeError::OutOfMemory) => "no memory to split",
            Err(_) => "not split",
        });
        assert_eq!((split, cursor.vaddr()), (expected, at));
    }

    fn merge(&mut self, cursor: &mut Table<'g, G>) {
        let (at, range) = (cursor.vaddr(), cursor.range().clone());
        let expected = match at == range.end {
            true => Err(PositionError::AtEnd { end: range.end }.into()),
            false => self.merged(at, &range),
        };
        reach(match expected {
            Ok(_) => "merged",
            Err(MergeError::Position(_)) => "merged at the end",
            Err(MergeError::NotANode) => "merged no node",
            Err(MergeError::NotUniform { .. }) => "merged unlike pages",
            Err(MergeError::Tracked) => "merged owners",
            Err(MergeError::Misfit(_)) => "merged misfits",
        });
        assert_eq!(cursor.merge(), expected.clone().map(drop));
        assert_eq!(cursor.vaddr(), at);
        if let Ok((node, page)) = expected {
            self.reference.unmap(node.clone());
            self.reference.map(node.start, page);
        }
    }

    /// What merging around an address makes of which pages.
    fn merged(&self, at: Vaddr, range: &Range<Vaddr>) -> Result<(Range<u64>, RawItem), MergeError> {
        let level = self.lowest(at).level();
        if level == G::ROOT {
            return Err(MergeError::NotANode);
        }
        let above = Level::new(level.as_u8() + 1);
        let node = slot::<G>(number(at), above);
        if page(node.start) < range.start || page(node.end) > range.end {
            return Err(MergeError::NotANode);
        }
        let plain = |item: RawItem| {
            let flags = item.property.flags - NOTED;
            RawItem { property: Property { flags, ..item.property }, ..item }
        };
        let mut merged = None;
        let mut noted = PageFlags::empty();
        for (index, at) in node.clone().step_by(G::entry_frames(level) as usize).enumerate() {
            let differs = MergeError::NotUniform { vaddr: page(at) };
            let found = self.reference.at(at).filter(|(_, item)| item.level == level);
            let Some((_, item)) = found else { return Err(differs) };
            let first = *merged.get_or_insert(plain(item));
            if first.property.flags.contains(PageFlags::TRACKED) {
                return Err(MergeError::Tracked);
            }
            let frame = first.frame.plus(index as u64 * G::entry_span(level));
            if plain(item) != (RawItem { frame, ..first }) {
                return Err(differs);
            }
            noted |= item.property.flags & NOTED;
        }
        let mut merged = merged.expect("a node has entries");
        merged.level = above;
        if let Some(misfit) = misfit::<G>(merged) {
            return Err(MergeError::Misfit(misfit));
        }
        merged.property.flags |= noted;
        Ok((node, merged))
    }
}

/// An end, or one not so far away if it is a position.
fn nearer(end: Vaddr, range: &Range<Vaddr>, position: Vaddr, pages: u64) -> Vaddr {
    match position_error(end, &(position..range.end)) {
        Some(_) => end,
        None => end.min(position.plus(pages * FRAME_SIZE)),
    }
}

fn untracked<G: Architecture>(
    frame: Paddr,
    level: Level,
    rights: Rights,
) -> MappedItem<Machine<G>> {
    MappedItem::Untracked { frame, level, property: rights.property() }
}

/// An item as an entry has it.
fn as_written<G: Architecture>(item: &MappedItem<Machine<G>>) -> RawItem {
    let (frame, level, mut property, tracked) = match item {
        MappedItem::Tracked { frame, property } => (frame.paddr(), Level::LEAF, *property, true),
        MappedItem::Untracked { frame, level, property } => (*frame, *level, *property, false),
    };
    property.flags &= PageFlags::all();
    property.flags.set(PageFlags::TRACKED, tracked);
    RawItem { frame, level, property }
}

/// Why no entry of the item's own level holds it, if so.
fn misfit<G: Architecture>(item: RawItem) -> Option<Misfit> {
    let RawItem { frame, level, .. } = item;
    if level.as_u8() > G::PAGE_LEVELS {
        return Some(Misfit::NoPagesHere { entry: level });
    }
    let alignment = G::entry_span(level);
    if frame.as_u64() >= 1 << G::PHYSICAL_BITS {
        Some(Misfit::OutOfRange { frame })
    } else if !frame.as_u64().is_multiple_of(alignment) {
        Some(Misfit::Unaligned { frame, alignment })
    } else {
        None
    }
}

fn misfit_in_leaf<G: Architecture>(item: RawItem) -> Option<Misfit> {
    match item.level == Level::LEAF {
        true => misfit::<G>(item),
        false => Some(Misfit::WrongLevel { entry: Level::LEAF, child: item.level }),
    }
}
