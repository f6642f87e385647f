//! What each operation of a cursor does, and when it does not.

use core::ops::Range;

use weft_core::address::{FRAME_BITS, FRAME_SIZE, Level, Vaddr};
use weft_core::cursor::{Protected, Unmapped};
use weft_core::error::{
    ChangeError, MapError, MapFault, MoveError, OutOfMemory, PositionError, Refusal,
};
use weft_core::format::{PageFlags, Property, RawItem};

use super::addresses::place;
use super::{
    Mapping, Memory, Rules, Specification, Store, address, addresses, end_address, misfit, slot,
};

/// A range of a table, and a position in it.
#[derive(Debug)]
pub struct Cursor<'s, R, S> {
    pub(super) table: &'s mut Specification<R, S>,
    pub(super) range: Range<u64>,
    pub(super) position: u64,
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

    /// Puts an item in the place of the page at the position, and moves behind it. Says what was
    /// there. Of a larger page the part is replaced that has the item's size.
    ///
    /// # Errors
    ///
    /// The item comes back as it was handed in. There is no page that is large enough, or no memory
    /// for the parts of one that is larger.
    pub fn replace(&mut self, item: RawItem, memory: Memory) -> Result<RawItem, MapError<RawItem>> {
        let refused = |fault| MapError { reason: fault, back: item };
        let pages = self.check_fits(item).map_err(refused)?;
        let length = R::entry_span(item.level);
        let none = MapFault::NoPage { vaddr: address::<R>(pages.start), length };
        let found = self.table.at(pages.start).filter(|found| found.item.level >= item.level);
        let mut found = found.ok_or_else(|| refused(none))?;
        memory.check().map_err(|error| refused(error.into()))?;
        while found.item.level > item.level {
            self.table.split(found);
            found = self.table.at(pages.start).expect("it is still mapped");
        }
        self.table.put(pages.start, item);
        self.position = pages.end;
        Ok(found.item)
    }

    fn check_place(&self, item: RawItem, memory: Memory) -> Result<(), MapFault> {
        let pages = self.check_fits(item)?;
        self.check_absent(pages)?;
        Ok(memory.check()?)
    }

    /// The pages that an item maps at the position.
    fn check_fits(&self, item: RawItem) -> Result<Range<u64>, MapFault> {
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
        Ok(at..at + count)
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

    /// Moves all mappings up to `end` to the addresses from `to` on, and the cursor to `end`. Of a
    /// huge page only the parts are moved that are in the range, and that are aligned at their new
    /// addresses. Says how many pages were mapped.
    ///
    /// # Errors
    ///
    /// `end` or `to` is no position; the new pages go beyond the range, overlap the old ones, or
    /// are mapped; memory for nodes ran out.
    pub fn move_pages(&mut self, end: Vaddr, to: Vaddr, memory: Memory) -> Result<u64, MoveError> {
        let old = self.until(end)?;
        let start = Self::check(to, &self.range).map_err(MoveError::Destination)?;
        let new = start..start + (old.end - old.start);
        let first = old.start.max(new.start);
        if first < old.end.min(new.end) {
            return Err(MoveError::Overlap { vaddr: address::<R>(first) });
        }
        if new.end > self.range.end {
            let (length, end) = ((new.end - new.start) << FRAME_BITS, self.range.end);
            let (vaddr, end) = (address::<R>(new.start), end_address::<R>(end));
            return Err(MoveError::TooLong { vaddr, length, end });
        }
        if let Some(found) = self.table.first(new.clone()) {
            let vaddr = address::<R>(found.pages.start.max(new.start));
            return Err(MoveError::AlreadyMapped { vaddr });
        }
        memory.check()?;
        if !old.is_empty() {
            self.table.split_ends(&old);
        }
        let frames = self.table.frames(old.clone());
        let mut rest = old.clone();
        while let Some(found) = self.table.first(rest.clone()) {
            let place = found.pages.start - old.start + new.start;
            if place.is_multiple_of(found.pages.end - found.pages.start) {
                rest.start = found.pages.end;
                self.table.mappings.remove(found.pages.start);
                self.table.mappings.insert(place, found.item);
            } else {
                self.table.split(found);
            }
        }
        self.position = old.end;
        Ok(frames)
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
