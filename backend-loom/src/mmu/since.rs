//! Since when a CPU's hardware may remember what it has read under a tag.

use weft_core::address::Vaddr;
use weft_explorer::Window;

/// The windows of a tag.
#[derive(Clone, Debug, Default)]
pub(super) struct Since {
    /// Translations of pages that have no window of their own.
    everything: Window,
    /// Translations of pages that were invalidated later.
    pages: Vec<(Vaddr, Window)>,
    /// Entries above the pages.
    pub(super) upper: Window,
}

impl Since {
    pub(super) fn page(&self, page: Vaddr) -> Window {
        let own = self.pages.iter().find(|(other, _)| *other == page);
        own.map_or(self.everything, |(_, window)| *window)
    }

    pub(super) fn forget_page(&mut self, page: Vaddr, now: Window) {
        self.upper = now;
        self.pages.retain(|(other, _)| *other != page);
        self.pages.push((page, now));
    }

    pub(super) fn forget_everything(&mut self, now: Window) {
        (self.everything, self.upper) = (now, now);
        self.pages.clear();
    }
}
