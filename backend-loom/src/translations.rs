//! What a CPU's paging hardware keeps, in an execution that draws what it does with it.
//!
//! Two caches: of pages' entries, and of the entries above them, each with the addresses that it
//! covers. An entry is kept as it was read. The caller sees to it that only entries are kept that
//! are present and accessed, and that what they lead to is what they led to when they were read.
//!
//! *Draws.* Half of the time hardware uses the lowest of what covers an address, as processors do;
//! otherwise an entry above it, or it walks from the root. Now and then something is dropped, and
//! now and then hardware walks ahead to an address that the CPU has used. So each of the following
//! has a chance at each access: an old translation is used, an old upper entry is, a fresh walk
//! replaces what is kept, what is kept is not there any more.

use weft_core::address::{Level, Paddr, Vaddr};

/// One in so many accesses drops something.
const DROPS: u64 = 16;
/// One in so many chances to walk ahead is taken.
const AHEAD: u64 = 4;

/// An entry as hardware has read it, and where it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Kept {
    pub(crate) node: Paddr,
    pub(crate) index: usize,
    pub(crate) bits: u64,
}

/// Where the translation of an address begins, if not at the root.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Start {
    /// With the entry of a page, at this level: nothing is read.
    Page(Level, Kept),
    /// Below this entry, of this level.
    Upper(Level, Kept),
}

/// A line of a cache.
#[derive(Clone, Copy, Debug)]
struct Line {
    first: Vaddr,
    span: u64,
    start: Start,
}

impl Line {
    fn covers(&self, vaddr: Vaddr) -> bool {
        vaddr.align_down(self.span) == self.first
    }
}

/// Both caches of a CPU.
#[derive(Debug, Default)]
pub(crate) struct Translations {
    lines: Vec<Line>,
    /// The addresses that the CPU has accessed.
    accessed: Vec<Vaddr>,
}

impl Translations {
    /// Keeps the entry of the page that begins at `first`.
    pub(crate) fn keep_page(&mut self, first: Vaddr, span: u64, level: Level, entry: Kept) {
        self.keep(Line { first, span, start: Start::Page(level, entry) });
    }

    /// Keeps an entry above pages, that covers what begins at `first`.
    pub(crate) fn keep_upper(&mut self, first: Vaddr, span: u64, level: Level, entry: Kept) {
        self.keep(Line { first, span, start: Start::Upper(level, entry) });
    }

    /// A line takes the place of what its own cache has for the same addresses.
    fn keep(&mut self, line: Line) {
        let is_page = matches!(line.start, Start::Page(..));
        self.lines.retain(|old| {
            let same = old.first == line.first && old.span == line.span;
            !same || matches!(old.start, Start::Page(..)) != is_page
        });
        self.lines.push(line);
    }

    /// The CPU accesses an address: something may be dropped before.
    pub(crate) fn access(&mut self, vaddr: Vaddr, draw: fn(u64) -> u64) {
        if !self.accessed.contains(&vaddr) {
            self.accessed.push(vaddr);
        }
        if !self.lines.is_empty() && draw(DROPS) == 0 {
            self.lines.swap_remove(draw(self.lines.len() as u64) as usize);
        }
    }

    /// An address to walk to, of those that the CPU has accessed; or none.
    pub(crate) fn ahead(&self, draw: fn(u64) -> u64) -> Option<Vaddr> {
        let count = self.accessed.len() as u64;
        (count > 0 && draw(AHEAD) == 0).then(|| self.accessed[draw(count) as usize])
    }

    /// What the translation of an address begins with; `None` for the root.
    pub(crate) fn start(&self, vaddr: Vaddr, draw: fn(u64) -> u64) -> Option<Start> {
        let mut lines: Vec<&Line> = self.lines.iter().filter(|line| line.covers(vaddr)).collect();
        lines.sort_by_key(|line| (line.span, matches!(line.start, Start::Upper(..))));
        let (lowest, above) = lines.split_first()?;
        if draw(2) == 0 {
            return Some(lowest.start);
        }
        above.get(draw(above.len() as u64 + 1) as usize).map(|line| line.start)
    }

    /// A page is invalidated, of whatever size, and with it all upper entries (SDM 5.10.4.1).
    pub(crate) fn forget_page(&mut self, page: Vaddr) {
        self.lines.retain(|line| matches!(line.start, Start::Page(..)) && !line.covers(page));
    }

    /// A fault makes hardware forget what would be used for an address (SDM 5.10.4.1).
    pub(crate) fn forget_used(&mut self, vaddr: Vaddr) {
        self.lines.retain(|line| !line.covers(vaddr));
    }

    /// Everything is invalidated.
    pub(crate) fn forget_everything(&mut self) {
        self.lines.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const PAGE: u64 = 0x1000;

    thread_local! {
        /// Heads at first, then tails.
        static COIN: Cell<bool> = const { Cell::new(true) };
    }

    fn entry(bits: u64) -> Kept {
        Kept { node: Paddr::of_frame(1), index: 0, bits }
    }

    /// Two small pages, a huge page over other addresses, and an upper entry above the small ones.
    fn filled() -> Translations {
        let mut kept = Translations::default();
        kept.keep_page(Vaddr::new(0), PAGE, Level::LEAF, entry(1));
        kept.keep_page(Vaddr::new(PAGE), PAGE, Level::LEAF, entry(2));
        kept.keep_upper(Vaddr::new(0), 2 * PAGE, Level::new(2), entry(3));
        kept.keep_page(Vaddr::new(2 * PAGE), 2 * PAGE, Level::new(2), entry(4));
        kept
    }

    /// What is kept for an address: its bits, in the order in which it was kept.
    fn bits(kept: &Translations, vaddr: u64) -> Vec<u64> {
        let lines = kept.lines.iter().filter(|line| line.covers(Vaddr::new(vaddr)));
        lines
            .map(|line| match line.start {
                Start::Page(_, entry) | Start::Upper(_, entry) => entry.bits,
            })
            .collect()
    }

    #[test]
    fn lines_cover_their_addresses() {
        let kept = filled();
        assert_eq!(bits(&kept, 0), [1, 3]);
        assert_eq!(bits(&kept, PAGE + 8), [2, 3]);
        assert_eq!(bits(&kept, 3 * PAGE), [4]);
    }

    #[test]
    fn a_line_replaces_the_one_before_it_in_its_own_cache() {
        let mut kept = filled();
        kept.keep_page(Vaddr::new(0), PAGE, Level::LEAF, entry(5));
        kept.keep_page(Vaddr::new(0), 2 * PAGE, Level::new(2), entry(6));
        assert_eq!(bits(&kept, 0), [3, 5, 6], "an upper entry and a huge page are two things");
    }

    #[test]
    fn an_invalidated_page_takes_all_upper_entries_along() {
        let mut kept = filled();
        kept.forget_page(Vaddr::new(3 * PAGE));
        assert!(bits(&kept, 2 * PAGE).is_empty(), "any address of a huge page will do");
        assert_eq!((bits(&kept, 0), bits(&kept, PAGE)), (vec![1], vec![2]));
    }

    #[test]
    fn a_fault_forgets_what_would_be_used() {
        let mut kept = filled();
        kept.forget_used(Vaddr::new(PAGE));
        assert_eq!((bits(&kept, 0), bits(&kept, PAGE)), (vec![1], vec![]));
        assert_eq!(bits(&kept, 2 * PAGE), [4]);
    }

    #[test]
    fn everything_is_forgotten() {
        let mut kept = filled();
        kept.forget_everything();
        assert_eq!(kept.start(Vaddr::new(0), |_| 0), None);
    }

    #[test]
    fn draws_say_where_a_translation_begins() {
        let kept = filled();
        let page = Start::Page(Level::LEAF, entry(1));
        assert_eq!(kept.start(Vaddr::new(0), |_| 0), Some(page), "the lowest");
        let upper = Start::Upper(Level::new(2), entry(3));
        let above = |bound| u64::from(bound == 2 && COIN.replace(!COIN.get()));
        assert_eq!(kept.start(Vaddr::new(0), above), Some(upper), "one above it");
        assert_eq!(kept.start(Vaddr::new(0), |bound| bound - 1), None, "a fresh walk");
        assert_eq!(kept.start(Vaddr::new(8 * PAGE), |_| 0), None, "nothing is kept");
    }

    #[test]
    fn an_access_may_drop_one_line() {
        let mut kept = filled();
        kept.access(Vaddr::new(0), |bound| bound - 1);
        assert_eq!((kept.lines.len(), kept.ahead(|_| 0)), (4, Some(Vaddr::new(0))));
        kept.access(Vaddr::new(0), |_| 0);
        assert_eq!(kept.lines.len(), 3);
        assert_eq!(bits(&kept, 0), [3]);
    }
}
