//! What a page table promises. Every check of operations holds the core against this text.
//!
//! The histories of CPUs under the models, the random programs and the fuzzer on the production
//! backend, and the kernel's own test compare with it. It has no nodes, no locks and no CPUs.
//!
//! # A table
//!
//! A table is a map from pages to mappings. Pages have numbers: page `n` is the `n`-th
//! [`FRAME_SIZE`] bytes of the [addresses]. A mapping is a [`RawItem`]: a frame, a level and a
//! property. At level 1 it maps one page. At a higher level it is a *huge page*: it maps as many
//! pages as an entry of that level covers, and begins at a multiple of that number. Mappings do not
//! overlap.
//!
//! # Operations
//!
//! A [`Cursor`] has a range of pages and a position. Its operations have the names, the answers and
//! the errors of the core's cursor.
//!
//! * An operation that fails has changed no mapping. If more than one error applies, the answer is
//!   the one that the operation's code checks first.
//! * An operation that concerns a part of a huge page splits the page first, and no further than it
//!   takes until the range has all of each mapping that it touches.
//! * Who owns a frame ([`TRACKED`](PageFlags::TRACKED)) never changes while the frame is mapped.
//! * No page is [`GLOBAL`](PageFlags::GLOBAL): that is for tables whose root entries stay, and this
//!   one's need not.
//!
//! # Memory
//!
//! A real table needs memory for nodes, and the map does not say which nodes exist. So each
//! operation that may need memory is told whether it ran out ([`Memory`]), and says what happens
//! then.
//!
//! # Hardware
//!
//! Hardware notes accesses in mappings at any time ([`Specification::note`]). No operation loses
//! a note: an answer that shows a property, a split and a merge have all that was noted before.
//!
//! # Caches of translations
//!
//! When a mapping becomes another one, a CPU may go on using the old one until it is flushed.
//! [`must_flush`] says when that is wrong. The flush has to come after the change and before the
//! range is unlocked, and before another mapping of the page is published.

use core::cmp::Ordering;
use core::marker::PhantomData;
use core::ops::Range;

use weft_core::address::{FRAME_BITS, FRAME_SIZE, Level, Vaddr};
use weft_core::cursor::{Protected, Unmapped};
use weft_core::error::{
    ChangeError, LockError, MapError, MapFault, OutOfMemory, PositionError, Refusal,
};
use weft_core::format::{PageFlags, Property, RawItem};
use weft_core::geometry::{Dense, Geometry};

pub use self::addresses::{address, addresses, end_address, number};
use self::addresses::{end_place, place};
pub use self::store::Store;

mod addresses;
mod store;
#[cfg(test)]
mod tests;

/// What the machine decides.
pub trait Rules: Geometry {
    /// Entries of levels 1 up to this one may map pages.
    const PAGE_LEVELS: u8;
    /// Entries have room for physical addresses of so many bits.
    const PHYSICAL_BITS: u32;
    /// Caches may hold that nothing is mapped, and a fault does not remove what caused it. So what
    /// is mapped anew is flushed, too, and a right that is added.
    const CACHES_FAULTS: bool = false;

    /// The property of an entry that was asked to have this one.
    fn kept(asked: Property) -> Property {
        asked
    }
}

/// A geometry by itself is x86-64's: pages of 4 KiB, 2 MiB and 1 GiB.
impl<const INDEX_BITS: u32, const LEVELS: u8> Rules for Dense<INDEX_BITS, LEVELS> {
    const PAGE_LEVELS: u8 = if LEVELS < 3 { LEVELS } else { 3 };
    const PHYSICAL_BITS: u32 = 52;
}

/// Whether there is memory for the nodes that an operation needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Memory {
    /// There is.
    Suffices,
    /// There is not.
    RunsOut,
}

impl Memory {
    fn check(self) -> Result<(), OutOfMemory> {
        if self == Self::Suffices { Ok(()) } else { Err(OutOfMemory) }
    }
}

/// What is mapped somewhere.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mapping {
    /// The pages that it maps.
    pub pages: Range<u64>,
    /// To what.
    pub item: RawItem,
}

impl Mapping {
    fn new<R: Rules>(start: u64, item: RawItem) -> Self {
        Self { pages: start..start + R::entry_frames(item.level), item }
    }

    /// Whether `pages` has all of it.
    fn is_within(&self, pages: &Range<u64>) -> bool {
        pages.start <= self.pages.start && self.pages.end <= pages.end
    }
}

/// Whether a CPU that goes on using `before` has to be stopped, now that the page is mapped as
/// `after`, or not at all: it would reach another frame, do what is forbidden now, use the cache
/// in another way, keep or lose the translation when spaces change, not note what has to be noted
/// again, or hold two translations of different sizes.
pub fn must_flush<R: Rules>(before: Option<&RawItem>, after: Option<&RawItem>) -> bool {
    let (Some(before), Some(after)) = (before, after) else {
        return before.is_some() || after.is_some() && R::CACHES_FAULTS;
    };
    let (old, new) = (before.property, after.property);
    let rights = PageFlags::WRITE | PageFlags::EXECUTE | PageFlags::USER;
    let noted = PageFlags::ACCESSED | PageFlags::DIRTY;
    (before.frame, before.level, old.cache) != (after.frame, after.level, new.cache)
        || (old.flags ^ new.flags).contains(PageFlags::GLOBAL)
        || !new.flags.contains(old.flags & (rights | noted))
        || R::CACHES_FAULTS && old != new
}

/// Why no entry of the item's own level can hold it, if so.
pub fn misfit<R: Rules>(item: RawItem) -> Option<Refusal> {
    let RawItem { frame, level, .. } = item;
    if level.as_u8() > R::PAGE_LEVELS {
        return Some(Refusal::NoPagesHere { entry: level });
    }
    let alignment = R::entry_span(level);
    if item.property.flags.contains(PageFlags::GLOBAL) {
        Some(Refusal::Global)
    } else if frame.as_u64() >> R::PHYSICAL_BITS != 0 {
        Some(Refusal::OutOfRange { frame })
    } else if !frame.as_u64().is_multiple_of(alignment) {
        Some(Refusal::Unaligned { frame, alignment })
    } else {
        None
    }
}

/// A table.
#[derive(Clone, Copy, Debug)]
pub struct Specification<R, S> {
    mappings: S,
    _rules: PhantomData<R>,
}

impl<R: Rules, S: Store> Specification<R, S> {
    /// The table with these mappings.
    pub const fn new(mappings: S) -> Self {
        Self { mappings, _rules: PhantomData }
    }

    /// The mappings, as they are kept.
    pub const fn mappings(&self) -> &S {
        &self.mappings
    }

    /// As [`mappings`](Self::mappings), for stores that take notes.
    pub const fn mappings_mut(&mut self) -> &mut S {
        &mut self.mappings
    }

    /// How many pages the addresses have.
    pub fn page_count() -> u64 {
        R::node_span(R::ROOT) >> FRAME_BITS
    }

    /// A cursor with this range, at its start. A range of all addresses would end where it begins:
    /// no cursor has all.
    ///
    /// # Errors
    ///
    /// A range that is empty or reversed, or has an end that is no address of the table, or is
    /// within a page.
    pub fn cursor(&mut self, range: Range<Vaddr>) -> Result<Cursor<'_, R, S>, LockError> {
        let Range { start, end } = range;
        if start == end {
            return Err(LockError::Empty { at: start });
        }
        let not_canonical = |vaddr| LockError::NotCanonical { vaddr };
        let first = place::<R>(start).ok_or(not_canonical(start))?;
        let behind = end_place::<R>(end).ok_or(not_canonical(end))?;
        match first.cmp(&behind) {
            Ordering::Equal => return Err(LockError::Empty { at: start }),
            Ordering::Greater => return Err(LockError::Reversed { range }),
            Ordering::Less => {}
        }
        if let Some(vaddr) = [start, end].into_iter().find(|vaddr| !vaddr.is_aligned(FRAME_SIZE)) {
            return Err(LockError::Unaligned { vaddr });
        }
        let range = first >> FRAME_BITS..behind >> FRAME_BITS;
        Ok(Cursor { position: range.start, table: self, range })
    }

    /// The mapping of a page.
    pub fn at(&self, page: u64) -> Option<Mapping> {
        let (start, item) = self.mappings.last_until(page)?;
        Some(Mapping::new::<R>(start, item)).filter(|found| found.pages.contains(&page))
    }

    /// The first mapping that has one of these pages.
    pub fn first(&self, pages: Range<u64>) -> Option<Mapping> {
        if pages.is_empty() {
            return None;
        }
        let inside = || self.mappings.first_from(pages.start).filter(|(at, _)| *at < pages.end);
        let inside = || inside().map(|(start, item)| Mapping::new::<R>(start, item));
        self.at(pages.start).or_else(inside)
    }

    /// The mappings that have one of these pages, in order.
    pub fn within(&self, pages: Range<u64>) -> impl Iterator<Item = Mapping> + '_ {
        let mut rest = pages;
        core::iter::from_fn(move || {
            let found = self.first(rest.clone())?;
            rest.start = found.pages.end;
            Some(found)
        })
    }

    /// How many of these pages are mapped.
    pub fn frames(&self, pages: Range<u64>) -> u64 {
        let part = |it: Mapping| it.pages.end.min(pages.end) - it.pages.start.max(pages.start);
        self.within(pages.clone()).map(part).sum()
    }

    /// Hardware notes something in the mapping of a page, if there is one.
    pub fn note(&mut self, page: u64, noted: PageFlags) {
        if let Some(Mapping { pages, mut item }) = self.at(page) {
            item.property.flags |= noted;
            self.mappings.insert(pages.start, item);
        }
    }

    fn put(&mut self, start: u64, item: RawItem) {
        let mut property = R::kept(item.property);
        property.flags &= PageFlags::all();
        self.mappings.insert(start, RawItem { property, ..item });
    }

    /// Removes the mappings that begin in these pages.
    fn remove(&mut self, pages: Range<u64>) {
        while let Some(found) = self.first(pages.clone()) {
            self.mappings.remove(found.pages.start);
        }
    }

    /// Replaces a huge page by its parts: pages of the level below, with consecutive frames and the
    /// same property.
    fn split(&mut self, huge: Mapping) {
        let level = huge.item.level.below().expect("a page of the smallest size has no parts");
        for index in 0..R::ENTRIES as u64 {
            let frame = huge.item.frame.plus(index * R::entry_span(level));
            let start = huge.pages.start + index * R::entry_frames(level);
            self.mappings.insert(start, RawItem { frame, level, ..huge.item });
        }
    }

    /// Splits what `pages` has only a part of, until it has all of each mapping that it touches.
    fn split_ends(&mut self, pages: &Range<u64>) {
        for end in [pages.start, pages.end] {
            while let Some(huge) = self.at(end).filter(|found| found.pages.start < end) {
                self.split(huge);
            }
        }
    }

    /// Splits the mapping of page `at` until the one that begins there is within `pages`.
    fn split_around(&mut self, at: u64, pages: &Range<u64>) -> Option<Mapping> {
        let is_whole = |it: &Mapping| it.pages.start == at && it.is_within(pages);
        loop {
            let found = self.at(at)?;
            if is_whole(&found) {
                return Some(found);
            }
            self.split(found);
        }
    }

    /// Gives a mapping another property. Who owns the frame stays, and no page becomes global.
    fn change(&mut self, mapping: &Mapping, change: impl FnOnce(Property) -> Property) {
        let (mut item, owns) = (mapping.item, mapping.item.property.flags & PageFlags::TRACKED);
        item.property = change(item.property);
        let kept = PageFlags::TRACKED | PageFlags::GLOBAL;
        item.property.flags = item.property.flags.difference(kept) | owns;
        self.put(mapping.pages.start, item);
    }
}

/// A range of a table, and a position in it.
#[derive(Debug)]
pub struct Cursor<'s, R, S> {
    table: &'s mut Specification<R, S>,
    range: Range<u64>,
    position: u64,
}

impl<R: Rules, S: Store> Cursor<'_, R, S> {
    /// The position.
    pub fn vaddr(&self) -> Vaddr {
        addresses::<R>(&self.rest()).start
    }

    /// What is left of the range.
    fn rest(&self) -> Range<u64> {
        self.position..self.range.end
    }

    /// The position, which has to be before the end.
    fn before_end(&self) -> Result<u64, PositionError> {
        let end = addresses::<R>(&self.range).end;
        if self.position == self.range.end {
            Err(PositionError::AtEnd { end })
        } else {
            Ok(self.position)
        }
    }

    /// The page that begins at `vaddr`, which has to be one of `pages`, or their end.
    fn check(vaddr: Vaddr, pages: &Range<u64>) -> Result<u64, PositionError> {
        let range = addresses::<R>(pages);
        let end = pages.end << FRAME_BITS;
        let place = if vaddr == range.end { Some(end) } else { place::<R>(vaddr) };
        match place.filter(|place| (pages.start << FRAME_BITS..=end).contains(place)) {
            None => Err(PositionError::Outside { vaddr, range }),
            Some(_) if !vaddr.is_aligned(FRAME_SIZE) => Err(PositionError::Unaligned { vaddr }),
            Some(place) => Ok(place >> FRAME_BITS),
        }
    }

    /// The pages from the position up to `end`.
    fn until(&self, end: Vaddr) -> Result<Range<u64>, PositionError> {
        Ok(self.position..Self::check(end, &self.rest())?)
    }

    /// Moves to `vaddr`.
    ///
    /// # Errors
    ///
    /// No position of the range.
    pub fn jump(&mut self, vaddr: Vaddr) -> Result<(), PositionError> {
        self.position = Self::check(vaddr, &self.range)?;
        Ok(())
    }

    /// What is mapped at the position: of a huge page all of it, also beyond the range.
    ///
    /// # Errors
    ///
    /// The position is the end.
    pub fn query(&self) -> Result<Option<Mapping>, PositionError> {
        Ok(self.table.at(self.before_end()?))
    }

    /// Moves to the next page that is mapped, from the position on, and says what is there. `None`
    /// if there is none; the cursor is then at the end.
    pub fn find_next(&mut self) -> Option<Mapping> {
        let found = self.table.first(self.rest());
        let next = found.as_ref().map_or(self.range.end, |found| found.pages.start);
        self.position = next.max(self.position);
        found
    }

    /// Moves to `end`. Shows every mapping on the way, in order, also one that begins before the
    /// position or goes on behind `end`.
    ///
    /// # Errors
    ///
    /// `end` is no position of the rest of the range.
    pub fn visit(&mut self, end: Vaddr, look: impl FnMut(Mapping)) -> Result<(), PositionError> {
        let pages = self.until(end)?;
        self.position = pages.end;
        self.table.within(pages).for_each(look);
        Ok(())
    }

    /// Maps an item at the position and moves behind it.
    ///
    /// # Errors
    ///
    /// The item comes back as it was handed in. The first mapped page in the way is named.
    pub fn map(&mut self, item: RawItem, memory: Memory) -> Result<(), MapError<RawItem>> {
        self.check_place(item, memory).map_err(|fault| MapError { reason: fault, back: item })?;
        self.table.put(self.position, item);
        self.position += R::entry_frames(item.level);
        Ok(())
    }

    fn check_place(&self, item: RawItem, memory: Memory) -> Result<(), MapFault> {
        let at = self.before_end()?;
        misfit::<R>(item).map_or(Ok(()), |misfit| Err(MapFault::Refused(misfit)))?;
        let (vaddr, end) = (address::<R>(at), end_address::<R>(self.range.end));
        let (count, length) = (R::entry_frames(item.level), R::entry_span(item.level));
        if !at.is_multiple_of(count) {
            return Err(MapFault::Misaligned { vaddr, length });
        }
        if self.range.end - at < count {
            return Err(MapFault::TooLong { vaddr, length, end });
        }
        self.check_absent(at..at + count)?;
        Ok(memory.check()?)
    }

    /// None of these pages may be mapped.
    fn check_absent(&self, pages: Range<u64>) -> Result<(), MapFault> {
        self.table.first(pages.clone()).map_or(Ok(()), |found| {
            Err(MapFault::AlreadyMapped { vaddr: address::<R>(found.pages.start.max(pages.start)) })
        })
    }

    /// Maps an item of level 1, made by `make`, at each page up to `end`, and moves there.
    ///
    /// # Errors
    ///
    /// If a huge page is in the way or memory runs out, no item was made. Otherwise items are made
    /// up to the page where it cannot go on; the item that fits no entry comes back, the ones
    /// before it have been mapped and are unmapped again.
    pub fn map_pages(
        &mut self,
        end: Vaddr,
        mut make: impl FnMut(Vaddr) -> RawItem,
        memory: Memory,
    ) -> Result<(), MapError<Option<RawItem>>> {
        let refused = |fault| MapError { reason: fault, back: None };
        let pages = self.until(end).map_err(|error| refused(error.into()))?;
        if self.table.within(pages.clone()).any(|found| found.item.level > Level::LEAF) {
            self.check_absent(pages.clone()).map_err(refused)?;
        }
        memory.check().map_err(|error| refused(error.into()))?;
        for page in pages.clone() {
            let mapped = self.check_absent(page..page + 1).map_err(refused).and_then(|()| {
                let item = make(address::<R>(page));
                let fault = match item.level {
                    Level::LEAF => misfit::<R>(item),
                    child => Some(Refusal::WrongLevel { entry: Level::LEAF, child }),
                };
                match fault {
                    None => {
                        self.table.put(page, item);
                        Ok(())
                    }
                    Some(fault) => {
                        Err(MapError { reason: MapFault::Refused(fault), back: Some(item) })
                    }
                }
            });
            if mapped.is_err() {
                self.table.remove(pages.start..page);
                return mapped;
            }
        }
        self.position = pages.end;
        Ok(())
    }

    /// The pages up to `end`, whose mappings are split where that takes it.
    fn whole_until(&mut self, end: Vaddr, memory: Memory) -> Result<Range<u64>, ChangeError> {
        let pages = self.until(end)?;
        memory.check()?;
        if !pages.is_empty() {
            self.table.split_ends(&pages);
        }
        self.position = pages.end;
        Ok(pages)
    }

    /// Unmaps all pages up to `end`, and moves there. Says how many were mapped.
    ///
    /// # Errors
    ///
    /// `end` is no position of the rest of the range, or memory for parts of huge pages ran out.
    pub fn unmap(&mut self, end: Vaddr, memory: Memory) -> Result<u64, ChangeError> {
        let pages = self.whole_until(end, memory)?;
        let frames = self.table.frames(pages.clone());
        self.table.remove(pages);
        Ok(frames)
    }

    /// Changes the property of every mapping up to `end`, and moves there. Says how many pages are
    /// mapped.
    ///
    /// # Errors
    ///
    /// As for [`unmap`](Self::unmap).
    pub fn protect(
        &mut self,
        end: Vaddr,
        mut change: impl FnMut(Property) -> Property,
        memory: Memory,
    ) -> Result<u64, ChangeError> {
        let pages = self.whole_until(end, memory)?;
        let mut rest = pages.clone();
        while let Some(found) = self.table.first(rest.clone()) {
            self.table.change(&found, &mut change);
            rest.start = found.pages.end;
        }
        Ok(self.table.frames(pages))
    }

    /// Moves to the next page that is mapped. The mapping that begins there is then within the
    /// rest of the range.
    fn whole_next(&mut self, memory: Memory) -> Result<Option<Mapping>, OutOfMemory> {
        if self.find_next().is_none() {
            return Ok(None);
        }
        memory.check()?;
        Ok(self.table.split_around(self.position, &self.rest()))
    }

    /// Unmaps the next thing that is mapped, and moves behind it. That is the largest node that the
    /// rest of the range has all of, with every mapping in it, if there is one: what an entry
    /// covers of a higher level than the mapping's. Otherwise it is the mapping. `None` if nothing
    /// is mapped; the cursor is then at the end.
    ///
    /// # Errors
    ///
    /// There is no memory for parts of a huge page. The cursor is then at the page.
    pub fn take_next(&mut self, memory: Memory) -> Result<Option<Unmapped>, OutOfMemory> {
        let rest = self.rest();
        let Some(next) = self.find_next() else { return Ok(None) };
        let above = (next.item.level.as_u8() + 1..=R::LEVELS).rev();
        let nodes = above.map(|level| slot::<R>(self.position, Level::new(level)));
        let node = nodes.into_iter().find(|it| rest.start <= it.start && it.end <= rest.end);
        let (pages, page) = match node {
            Some(node) => (node, None),
            None => match self.whole_next(memory)? {
                Some(Mapping { pages, item }) => (pages, Some(item)),
                None => return Ok(None),
            },
        };
        let frames = self.table.frames(pages.clone());
        self.table.remove(pages.clone());
        self.position = pages.end;
        Ok(Some(Unmapped { range: addresses::<R>(&pages), frames, page }))
    }

    /// Changes the property of the next mapping, and moves behind it. `None` if nothing is mapped;
    /// the cursor is then at the end.
    ///
    /// # Errors
    ///
    /// As for [`take_next`](Self::take_next).
    pub fn protect_next(
        &mut self,
        change: impl FnOnce(Property) -> Property,
        memory: Memory,
    ) -> Result<Option<Protected>, OutOfMemory> {
        let Some(next) = self.whole_next(memory)? else { return Ok(None) };
        self.table.change(&next, change);
        self.position = next.pages.end;
        let (range, before) = (addresses::<R>(&next.pages), next.item.property);
        Ok(Some(Protected { range, before }))
    }

    /// Splits the huge page at the position, of which all is split, also beyond the range.
    ///
    /// # Errors
    ///
    /// There is no huge page, or no memory for its parts.
    pub fn split(&mut self, memory: Memory) -> Result<(), ChangeError> {
        let at = self.before_end()?;
        let huge = self.table.at(at).filter(|found| found.item.level > Level::LEAF);
        let huge = huge.ok_or(ChangeError::NoHugePage { vaddr: address::<R>(at) })?;
        memory.check()?;
        self.table.split(huge);
        Ok(())
    }

    /// Merges the mappings of the node around the position into one of the level above. The range
    /// has to have all of the node. All of its entries have to map pages with consecutive frames
    /// and one property, but for what hardware noted: what it noted in any of them, it noted in
    /// the huge page.
    ///
    /// `level` is the node's: of the mapping at the position, if there is one. If there is none,
    /// the map does not say how low the table's nodes go, and the caller does.
    ///
    /// # Errors
    ///
    /// There is no such node, its mappings differ or own their frames, or the huge page fits no
    /// entry.
    pub fn merge(&mut self, level: Level) -> Result<(), ChangeError> {
        let at = self.before_end()?;
        let found = self.table.at(at).map_or(level, |found| found.item.level);
        assert!(found == level, "a node has the level of what its entries map");
        if level >= R::ROOT {
            return Err(ChangeError::NotANode);
        }
        let above = Level::new(level.as_u8() + 1);
        let node = slot::<R>(at, above);
        if node.start < self.range.start || node.end > self.range.end {
            return Err(ChangeError::NotANode);
        }
        let huge = RawItem { level: above, ..self.uniform(node.clone(), level)? };
        misfit::<R>(huge).map_or(Ok(()), |misfit| Err(ChangeError::Refused(misfit)))?;
        self.table.remove(node.clone());
        self.table.put(node.start, huge);
        Ok(())
    }

    /// What the mappings of a node have in common: the first, with all that hardware noted.
    fn uniform(&self, node: Range<u64>, level: Level) -> Result<RawItem, ChangeError> {
        let noted = PageFlags::ACCESSED | PageFlags::DIRTY;
        let mut merged: Option<RawItem> = None;
        for (index, page) in node.step_by(R::entry_frames(level) as usize).enumerate() {
            let differs = ChangeError::NotUniform { vaddr: address::<R>(page) };
            let found = self.table.at(page).filter(|found| found.item.level == level);
            let Some(Mapping { mut item, .. }) = found else { return Err(differs) };
            let notes = item.property.flags & noted;
            let first = merged.get_or_insert(item);
            if first.property.flags.contains(PageFlags::TRACKED) {
                return Err(ChangeError::Tracked);
            }
            first.property.flags |= notes;
            item.property.flags |= first.property.flags & noted;
            let frame = first.frame.plus(index as u64 * R::entry_span(level));
            if item != (RawItem { frame, ..*first }) {
                return Err(differs);
            }
        }
        Ok(merged.expect("a node has entries"))
    }
}

/// The pages that the entry of `level` for page `at` covers.
pub fn slot<R: Rules>(at: u64, level: Level) -> Range<u64> {
    let count = R::entry_frames(level);
    let start = at / count * count;
    start..start + count
}
