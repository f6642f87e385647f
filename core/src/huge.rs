//! Huge pages under a cursor: one into its parts, and a full node of parts into one.
//!
//! *Split.* The parts are complete before one exchange puts them in the place of the huge page, so
//! at every instant there is a translation, and it is the same. A CPU may go on using the huge one
//! from its TLB, and have parts there too: harmless while they agree, so it is flushed before the
//! range is unlocked. (Except on CPUs that cannot bear both: erratum 383 of AMD's family 10h, and
//! fetches on Intel's with CVE-2018-12207. There a kernel unmaps, flushes and maps the parts.)
//!
//! *Merge.* Here hardware is a second writer: with an upper level of the walk in its caches it can
//! set dirty in an entry of the node that has been replaced, and the bit would be lost. So first
//! the node is taken out, then everything is flushed, on all CPUs; only then are the accessed and
//! dirty bits collected, and the huge page takes the place. In between, the addresses are not
//! mapped: a CPU that uses one faults, and finds the huge page when it has waited for the range.
//!
//! After Linux's `collapse_huge_page` (`mm/khugepaged.c`), which clears and flushes likewise.

use crate::address::Level;
use crate::config::Config;
use crate::cursor::Cursor;
use crate::entry::ChildRef;
use crate::error::{ChangeError, MergeError, Misfit};
use crate::format::{PageFlags, RawItem};
use crate::geometry::Geometry;
use crate::item::{Item, check_raw};
use crate::node::NodeRef;
use crate::stock::Stock;
use crate::subtree::Locked;
use crate::sync::Backend;

type Geo<C> = <<C as Config>::Backend as Backend>::Geometry;

impl<C: Config> Cursor<'_, C> {
    /// Splits the huge page around the position into pages of the level below.
    ///
    /// # Errors
    ///
    /// [`ChangeError::NoHugePage`] if there is none, [`ChangeError::OutOfMemory`], or
    /// [`ChangeError::Position`] at the end.
    pub fn split(&mut self) -> Result<(), ChangeError> {
        let vaddr = self.before_end()?;
        let mut node = self.seek(vaddr, Level::LEAF);
        let index = node.index(vaddr);
        let is_huge = matches!(node.child(index), ChildRef::Item(_)) && node.level() > Level::LEAF;
        if !is_huge {
            return Err(ChangeError::NoHugePage { vaddr });
        }
        let mut stock = Stock::of(node.backend(), 1)?;
        node.split(index, &mut stock);
        let (_, gather) = self.parts();
        gather.owe_everything();
        Ok(())
    }

    /// Merges the pages of the node around the position, of which the range has all, into one of
    /// the level above: they have to be all there, alike but for what hardware has noted, and to
    /// map consecutive frames from a multiple of the new length on. What hardware has noted of any
    /// of them is noted of the huge page.
    ///
    /// # Errors
    ///
    /// [`MergeError`]; the table is then as it was.
    pub fn merge(&mut self) -> Result<(), MergeError> {
        let vaddr = self.before_end()?;
        let range = self.range().clone();
        let level = self.seek(vaddr, Level::LEAF).level();
        if level == <Geo<C>>::ROOT {
            return Err(MergeError::NotANode);
        }
        let above = level.above();
        let (tree, gather) = self.parts();
        let mut parent = tree.seek(vaddr, above);
        let index = parent.index(vaddr);
        let slot = parent.slot(index);
        if parent.level() != above || slot.start < range.start || slot.end > range.end {
            return Err(MergeError::NotANode);
        }
        let page = uniform(&parent.descend(index))?;
        check_raw::<C>(page, above).map_err(MergeError::Misfit)?;
        if !parent.entry(index).is_removable() {
            return Err(MergeError::Misfit(Misfit::Permanent { index }));
        }
        parent.exchange_node(index, gather, |node| with_notes(page, node));
        Ok(())
    }
}

/// The huge page that a node's pages amount to.
fn uniform<C: Config>(node: &Locked<'_, '_, C>) -> Result<RawItem, MergeError> {
    let (level, span) = (node.level(), <Geo<C>>::entry_span(node.level()));
    let page = |index: usize| match node.child(index) {
        ChildRef::Item(item) => Ok(*item),
        _ => Err(MergeError::NotUniform { vaddr: node.slot(index).start }),
    };
    let mut first = page(0)?;
    if !C::Item::may_merge(first) {
        return Err(MergeError::Tracked);
    }
    first.property.flags.remove(PageFlags::NOTED);
    for index in 1..<Geo<C>>::ENTRIES {
        let mut next = page(index)?;
        next.property.flags.remove(PageFlags::NOTED);
        let frame = first.frame.plus(index as u64 * span);
        if next != (RawItem { frame, ..first }) {
            return Err(MergeError::NotUniform { vaddr: node.slot(index).start });
        }
    }
    Ok(RawItem { level: level.above(), ..first })
}

/// The page, with what hardware has noted in any entry of the node.
fn with_notes<C: Config>(mut page: RawItem, node: NodeRef<'_, C>) -> RawItem {
    for index in 0..<Geo<C>>::ENTRIES {
        if let ChildRef::Item(part) = node.child_under_lock(index) {
            page.property.flags |= part.property.flags & PageFlags::NOTED;
        }
    }
    page
}
