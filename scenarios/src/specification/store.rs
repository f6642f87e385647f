//! Where a specification keeps its mappings.
//!
//! Which store it is decides what a table costs: a sorted map for tests, a few numbers for the
//! histories of model CPUs, which have small stacks and no allocator.

use alloc::collections::BTreeMap;

use weft_core::format::RawItem;

/// Mappings by the number of the page where they begin.
pub trait Store {
    /// The last mapping that begins at `page` or before it.
    fn last_until(&self, page: u64) -> Option<(u64, RawItem)>;

    /// The first mapping that begins at `page` or behind it.
    fn first_from(&self, page: u64) -> Option<(u64, RawItem)>;

    /// Puts a mapping at `page`, also in the place of another one.
    fn insert(&mut self, page: u64, item: RawItem);

    /// Takes away the mapping that begins at `page`.
    fn remove(&mut self, page: u64);
}

impl Store for BTreeMap<u64, RawItem> {
    fn last_until(&self, page: u64) -> Option<(u64, RawItem)> {
        self.range(..=page).next_back().map(|(&start, &item)| (start, item))
    }

    fn first_from(&self, page: u64) -> Option<(u64, RawItem)> {
        self.range(page..).next().map(|(&start, &item)| (start, item))
    }

    fn insert(&mut self, page: u64, item: RawItem) {
        BTreeMap::insert(self, page, item);
    }

    fn remove(&mut self, page: u64) {
        BTreeMap::remove(self, &page);
    }
}
