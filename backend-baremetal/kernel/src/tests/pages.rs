//! What a user's table should be: a map from addresses to pages, as plain as can be.
//!
//! Every method says what the core promises of a range, with none of its means: no nodes, no
//! levels but those of the pages themselves.

use alloc::collections::BTreeMap;
use core::ops::Range;

use weft_core::address::{Level, Vaddr};
use weft_core::format::{PageFlags, RawItem};
use weft_core::geometry::{FourLevels, Geometry};

/// What hardware notes of its own accord.
pub(crate) const NOTED: PageFlags = PageFlags::ACCESSED.union(PageFlags::DIRTY);

/// Pages by address.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Pages(pub(crate) BTreeMap<u64, RawItem>);

/// The addresses of a page at `vaddr`.
pub(crate) fn slot(vaddr: u64, page: &RawItem) -> Range<Vaddr> {
    Vaddr::new(vaddr)..Vaddr::new(vaddr + FourLevels::entry_span(page.level))
}

fn numbers(range: &Range<Vaddr>) -> Range<u64> {
    range.start.as_u64()..range.end.as_u64()
}

impl Pages {
    /// Notes a page.
    pub(crate) fn add(&mut self, vaddr: Vaddr, page: RawItem) {
        self.0.insert(vaddr.as_u64(), page);
    }

    /// The page around an address, and where it begins.
    pub(crate) fn around(&self, vaddr: Vaddr) -> Option<(u64, RawItem)> {
        let (&start, page) = self.0.range(..=vaddr.as_u64()).next_back()?;
        slot(start, page).contains(&vaddr).then_some((start, *page))
    }

    /// The first page that `range` touches, and where it begins.
    pub(crate) fn first(&self, range: &Range<Vaddr>) -> Option<(u64, RawItem)> {
        let inside = || self.0.range(numbers(range)).next().map(|(&at, page)| (at, *page));
        self.around(range.start).or_else(inside)
    }

    /// How many frames of the smallest size are mapped by pages that begin in `range`.
    pub(crate) fn frames(&self, range: &Range<Vaddr>) -> u64 {
        let pages = self.0.range(numbers(range));
        pages.map(|(_, page)| FourLevels::entry_frames(page.level)).sum()
    }

    /// At least as many as there will be splits when `range` is changed.
    pub(crate) fn splits_max(&self, range: &Range<Vaddr>) -> u64 {
        [range.start, range.end].into_iter().map(|edge| self.splits_at(edge)).sum()
    }

    fn splits_at(&self, edge: Vaddr) -> u64 {
        let Some((_, page)) = self.around(edge) else { return 0 };
        let spans = (1..=page.level.as_u8()).map(|level| FourLevels::entry_span(Level::new(level)));
        spans.filter(|span| !edge.is_aligned(*span)).count() as u64
    }

    /// Splits huge pages until `range` has all of every page that it touches. Says how many.
    pub(crate) fn split_edges(&mut self, range: &Range<Vaddr>) -> u64 {
        let mut splits = 0;
        for edge in [range.start, range.end] {
            while let Some((start, _)) = self.around(edge).filter(|(at, _)| *at != edge.as_u64()) {
                self.split(start);
                splits += 1;
            }
        }
        splits
    }

    /// Splits the huge page that begins at `start`.
    pub(crate) fn split(&mut self, start: u64) {
        let huge = self.0.remove(&start).expect("the huge page is known");
        let level = huge.level.below().expect("the smallest pages are not split");
        let span = FourLevels::entry_span(level);
        for index in 0..FourLevels::ENTRIES as u64 {
            let part = RawItem { frame: huge.frame.plus(index * span), level, ..huge };
            self.0.insert(start + index * span, part);
        }
    }

    /// The huge page that the pages of `slot` amount to, if they do.
    pub(crate) fn merged(&self, slot: &Range<Vaddr>, level: Level) -> Option<RawItem> {
        let first = *self.0.get(&slot.start.as_u64())?;
        let fits = level.below() == Some(first.level)
            && !first.property.flags.contains(PageFlags::TRACKED)
            && first.frame.as_u64().is_multiple_of(FourLevels::entry_span(level));
        if !fits || self.0.range(numbers(slot)).count() != FourLevels::ENTRIES {
            return None;
        }
        let mut whole = RawItem { level, ..first };
        for (&vaddr, page) in self.0.range(numbers(slot)) {
            let mut like_first = *page;
            like_first.property.flags.remove(NOTED);
            like_first.property.flags.insert(first.property.flags & NOTED);
            let frame = first.frame.plus(vaddr - slot.start.as_u64());
            if like_first != (RawItem { frame, ..first }) {
                return None;
            }
            whole.property.flags |= page.property.flags & NOTED;
        }
        Some(whole)
    }

    /// Forgets every page that begins in `range`.
    pub(crate) fn remove(&mut self, range: &Range<Vaddr>) {
        while let Some((&page, _)) = self.0.range(numbers(range)).next() {
            self.0.remove(&page);
        }
    }
}
