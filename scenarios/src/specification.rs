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
//! * A mapping may be [withheld](PageFlags::WITHHELD) from hardware, and is one for every
//!   operation. It may say a value instead of a frame, if it is a [`MARK`](PageFlags::MARK): then
//!   it is one as long as it is there, and withheld.
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
//!
//! A [replacement](Cursor::replace) is both at once: the change publishes the other mapping. There
//! the flush has to come before the operation is over, and before the new page may be written.

use core::cmp::Ordering;
use core::marker::PhantomData;
use core::ops::Range;

use weft_core::address::{FRAME_BITS, FRAME_SIZE, Level, Vaddr};
use weft_core::error::{LockError, OutOfMemory, Refusal};
use weft_core::format::{PageFlags, Property, RawItem};
use weft_core::geometry::{Dense, Geometry};

pub use self::addresses::{address, addresses, end_address, number};
use self::addresses::{end_place, place};
pub use self::cursor::Cursor;
pub use self::store::Store;

mod addresses;
mod cursor;
mod store;
#[cfg(test)]
mod tests;

/// What the machine decides.
pub trait Rules: Geometry {
    /// Entries of levels 1 up to this one may map pages.
    const PAGE_LEVELS: u8;
    /// Entries have room for physical addresses of so many bits.
    const PHYSICAL_BITS: u32;
    /// Caches may hold that nothing is mapped. So what is mapped anew is flushed, too.
    const CACHES_ABSENT: bool = false;
    /// A fault does not remove what caused it. So what is allowed anew is flushed, too.
    const CACHES_FAULTS: bool = false;
    /// Hardware notes accesses. If not, an access faults as long as software has not.
    const NOTES: bool = true;

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
    let used = |item: &&RawItem| !item.property.is_withheld();
    let (before, after) = (before.filter(used), after.filter(used));
    let (Some(before), Some(after)) = (before, after) else {
        return before.is_some() || after.is_some() && R::CACHES_ABSENT;
    };
    let (old, new) = (before.property, after.property);
    let rights = PageFlags::WRITE | PageFlags::EXECUTE | PageFlags::USER;
    let noted = PageFlags::ACCESSED | PageFlags::DIRTY;
    let refused_without = if R::NOTES { rights } else { rights | noted };
    (before.frame, before.level, old.cache) != (after.frame, after.level, new.cache)
        || (old.flags ^ new.flags).contains(PageFlags::GLOBAL)
        || !new.flags.contains(old.flags & (rights | noted))
        || R::CACHES_FAULTS && !old.flags.contains(new.flags & refused_without)
}

/// Why no entry of the item's own level can hold it, if so.
pub fn misfit<R: Rules>(item: RawItem) -> Option<Refusal> {
    let RawItem { frame, level, .. } = item;
    if level.as_u8() > R::PAGE_LEVELS {
        return Some(Refusal::NoPagesHere { entry: level });
    }
    let alignment = R::entry_span(level);
    let mark = PageFlags::MARK | PageFlags::WITHHELD;
    if item.property.flags.contains(PageFlags::GLOBAL) {
        Some(Refusal::Global)
    } else if item.property.flags & mark == PageFlags::MARK {
        Some(Refusal::PresentMark)
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

    /// Hardware notes something in the mapping of a page, if there is one that it uses.
    pub fn note(&mut self, page: u64, noted: PageFlags) {
        let used = self.at(page).filter(|found| !found.item.property.is_withheld());
        if let Some(Mapping { pages, mut item }) = used {
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

    /// Gives a mapping another property. Who owns the frame stays, so does a mark, and no page
    /// becomes global.
    fn change(&mut self, mapping: &Mapping, change: impl FnOnce(Property) -> Property) {
        let (mut item, was) = (mapping.item, mapping.item.property.flags);
        item.property = change(item.property);
        let kept = PageFlags::TRACKED | PageFlags::MARK;
        let flags = item.property.flags.difference(kept | PageFlags::GLOBAL) | was & kept;
        item.property.flags = flags;
        if flags.contains(PageFlags::MARK) {
            item.property.flags.insert(PageFlags::WITHHELD);
        }
        self.put(mapping.pages.start, item);
    }
}

/// The pages that the entry of `level` for page `at` covers.
pub fn slot<R: Rules>(at: u64, level: Level) -> Range<u64> {
    let count = R::entry_frames(level);
    let start = at / count * count;
    start..start + count
}
