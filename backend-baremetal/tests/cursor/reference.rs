//! What a table means: a sorted map from the first page of each mapping to the mapping.
//!
//! There are no nodes, no locks and no positions here, only pages. Addresses are numbers of pages
//! of the smallest size. A huge page is one mapping of many pages until something has to be done
//! with a part of it; then it is [split](Reference::split) into what the next level has.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::ops::Range;

use weft_core::address::Level;
use weft_core::format::{PageFlags, Property, RawItem};

use crate::architecture::Architecture;

/// The mappings of a table.
#[derive(Clone, Debug)]
pub(crate) struct Reference<G> {
    mappings: BTreeMap<u64, RawItem>,
    _geometry: PhantomData<G>,
}

/// A mapping, and the pages that it maps.
pub(crate) type Found = (Range<u64>, RawItem);

impl<G: Architecture> Reference<G> {
    pub(crate) fn new() -> Self {
        Self { mappings: BTreeMap::new(), _geometry: PhantomData }
    }

    /// All mappings, by the page where they begin.
    pub(crate) fn all(&self) -> impl Iterator<Item = (u64, RawItem)> + '_ {
        self.mappings.iter().map(|(&start, &item)| (start, item))
    }

    /// The mapping of a page.
    pub(crate) fn at(&self, number: u64) -> Option<Found> {
        let (&start, &item) = self.mappings.range(..=number).next_back()?;
        let pages = start..start + G::entry_frames(item.level);
        pages.contains(&number).then_some((pages, item))
    }

    /// The mappings that have a page in `range`, in order.
    pub(crate) fn within(&self, range: Range<u64>) -> Vec<Found> {
        if range.is_empty() {
            return Vec::new();
        }
        let before = self.at(range.start).filter(|(pages, _)| pages.start < range.start);
        let inside = self.mappings.range(range);
        let inside = inside.map(|(&at, &it)| (at..at + G::entry_frames(it.level), it));
        before.into_iter().chain(inside).collect()
    }

    /// The first mapping that has a page in `range`.
    pub(crate) fn first(&self, range: Range<u64>) -> Option<Found> {
        let at = self.at(range.start).filter(|_| !range.is_empty());
        at.or_else(|| {
            let (&start, &item) = self.mappings.range(range).next()?;
            Some((start..start + G::entry_frames(item.level), item))
        })
    }

    /// How many pages of `range` are mapped.
    pub(crate) fn frames(&self, range: Range<u64>) -> u64 {
        let part = |pages: Range<u64>| pages.end.min(range.end) - pages.start.max(range.start);
        self.within(range.clone()).into_iter().map(|(pages, _)| part(pages)).sum()
    }

    /// How many mappings own their frame.
    pub(crate) fn tracked(&self) -> u64 {
        let owns = |item: &&RawItem| item.property.flags.contains(PageFlags::TRACKED);
        self.mappings.values().filter(owns).count() as u64
    }

    /// Maps what nobody has mapped.
    pub(crate) fn map(&mut self, start: u64, item: RawItem) {
        let property = G::kept(item.property);
        self.mappings.insert(start, RawItem { property, ..item });
    }

    /// Unmaps `range`, which has no part of a mapping.
    pub(crate) fn unmap(&mut self, range: Range<u64>) {
        for (pages, _) in self.within(range) {
            self.mappings.remove(&pages.start);
        }
    }

    /// Changes the properties of `range`, which has no part of a mapping. Who owns a frame stays.
    pub(crate) fn protect(&mut self, range: Range<u64>, change: impl Fn(Property) -> Property) {
        for (pages, item) in self.within(range) {
            let mut property = change(item.property);
            let tracked = item.property.flags & PageFlags::TRACKED;
            property.flags = property.flags.difference(PageFlags::TRACKED) | tracked;
            property.flags &= PageFlags::all();
            property = G::kept(property);
            self.mappings.insert(pages.start, RawItem { property, ..item });
        }
    }

    /// What hardware notes of a page.
    pub(crate) fn note(&mut self, number: u64, flags: PageFlags) {
        if let Some((pages, mut item)) = self.at(number) {
            item.property.flags |= flags;
            self.mappings.insert(pages.start, item);
        }
    }

    /// Splits the mapping that begins at `start` into those of the next level.
    pub(crate) fn split(&mut self, start: u64) {
        let item = self.mappings[&start];
        let level = item.level.below().expect("small pages are not split");
        for index in 0..G::ENTRIES as u64 {
            let frame = item.frame.plus(index * G::entry_span(level));
            let start = start + index * G::entry_frames(level);
            self.mappings.insert(start, RawItem { frame, level, ..item });
        }
    }

    /// Splits what `range` has only a part of, until it has no part of a mapping.
    pub(crate) fn split_ends(&mut self, range: Range<u64>) {
        let ends = [range.start, range.end];
        for end in ends.into_iter().filter(|_| !range.is_empty()) {
            while let Some((pages, _)) = self.at(end).filter(|(pages, _)| pages.start < end) {
                self.split(pages.start);
            }
        }
    }

    /// Splits the mapping of page `at` until it begins there and `end` is not inside of it.
    pub(crate) fn split_around(&mut self, at: u64, end: u64) {
        while let Some((pages, _)) =
            self.at(at).filter(|(pages, _)| pages.start != at || pages.end > end)
        {
            self.split(pages.start);
        }
    }

    /// The largest piece of the table that begins not before `range`, ends not after it, and has
    /// page `at`, and is what one entry of a higher level than the mapping's covers.
    pub(crate) fn whole_node(&self, at: u64, range: Range<u64>) -> Option<Range<u64>> {
        let (_, item) = self.at(at)?;
        let levels = (item.level.as_u8() + 1..=G::LEVELS).rev();
        levels
            .map(|level| {
                let span = G::entry_frames(Level::new(level));
                at / span * span..(at / span + 1) * span
            })
            .find(|slot| range.start <= slot.start && slot.end <= range.end)
    }
}
