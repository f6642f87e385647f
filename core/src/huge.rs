//! Huge pages under a cursor: one into its parts, and a full node of parts into one.
//!
//! *Split.* The parts are complete before one exchange puts them in the place of the huge page. So
//! at every instant there is a translation, and it is the same. A CPU may go on using the huge one
//! from its TLB, and have parts there too. That is harmless while they agree, so it is flushed
//! before the range is unlocked. Some CPUs cannot bear both: erratum 383 of AMD's family 10h, and
//! fetches on Intel's with CVE-2018-12207. There a kernel unmaps, flushes and maps the parts.
//!
//! *Merge.* Here hardware is a second writer. With an upper level of the walk in its caches it can
//! set dirty in an entry of the node that has been replaced, and the bit would be lost. So
//!
//! 1. the node is taken out;
//! 2. everything is flushed, on all CPUs;
//! 3. the accessed and dirty bits are collected, while the entries are cleared;
//! 4. the huge page takes the place.
//!
//! In between, the addresses are not mapped. A CPU that uses one faults, and finds the huge page
//! when it has waited for the range.
//!
//! After Linux's `collapse_huge_page` (`mm/khugepaged.c`), which clears and flushes likewise.

use crate::address::Level;
use crate::config::{Config, Geo};
use crate::cursor::Cursor;
use crate::entry::ChildRef;
use crate::error::{ChangeError, Refusal};
use crate::format::{PageFlags, RawItem};
use crate::geometry::Geometry;
use crate::item::{Item, check_raw};
use crate::range_lock::Locked;
use crate::stock::Stock;

impl<C: Config> Cursor<'_, C> {
    /// Splits the huge page around the position into pages of the level below. The old translation
    /// is flushed before the range is unlocked.
    ///
    /// # Errors
    ///
    /// [`ChangeError::NoHugePage`] if there is none, [`ChangeError::OutOfMemory`], or
    /// [`ChangeError::Position`] at the end.
    pub fn split(&mut self) -> Result<(), ChangeError> {
        self.began("Cursor::split");
        let position = self.before_end()?;
        let vaddr = self.vaddr();
        let (tree, owed) = self.parts();
        let mut node = tree.seek(position, Level::LEAF);
        let index = node.index(position);
        let is_huge = matches!(node.child(index), ChildRef::Item(_)) && node.level() > Level::LEAF;
        if !is_huge {
            return Err(ChangeError::NoHugePage { vaddr });
        }
        let mut stock = Stock::of(node.backend(), 1)?;
        node.split(index, &mut stock, owed);
        Ok(())
    }

    /// Replaces the leaf node at the position by one huge page; above the leaves likewise, where
    /// the pages around the position are huge already. The range must contain the whole node. Every
    /// entry of it must be present, with equal rights, and map consecutive frames that start at a
    /// multiple of the huge page's size. Accessed and dirty may differ: the huge page has what any
    /// of them had.
    ///
    /// # Errors
    ///
    /// [`ChangeError`]; the table is then as it was.
    pub fn merge(&mut self) -> Result<(), ChangeError> {
        self.began("Cursor::merge");
        let position = self.before_end()?;
        let (tree, owed) = self.parts();
        let range = tree.range().clone();
        let level = tree.seek(position, Level::LEAF).level();
        if level == <Geo<C>>::ROOT {
            return Err(ChangeError::NotANode);
        }
        let above = level.above();
        let mut parent = tree.seek(position, above);
        let index = parent.index(position);
        let slot = parent.slot(index);
        if parent.level() != above || slot.start < range.start || slot.end > range.end {
            return Err(ChangeError::NotANode);
        }
        let page = uniform(&parent.descend(index))?;
        check_raw::<C>(page, above)?;
        if !parent.is_removable(index) {
            return Err(ChangeError::Refused(Refusal::Permanent { index }));
        }
        parent.exchange_node(index, page, owed);
        Ok(())
    }
}

/// The huge page that a node's pages amount to.
fn uniform<C: Config>(node: &Locked<'_, '_, C>) -> Result<RawItem, ChangeError> {
    let (level, span) = (node.level(), <Geo<C>>::entry_span(node.level()));
    let page = |index: usize| match node.child(index) {
        ChildRef::Item(item) => Ok(*item),
        _ => Err(ChangeError::NotUniform { vaddr: node.addresses(index).start }),
    };
    let mut first = page(0)?;
    if !C::Item::may_merge(first) {
        return Err(ChangeError::Tracked);
    }
    first.property.flags.remove(PageFlags::NOTED);
    for index in 1..<Geo<C>>::ENTRIES {
        let mut next = page(index)?;
        next.property.flags.remove(PageFlags::NOTED);
        let frame = first.frame.plus(index as u64 * span);
        if next != (RawItem { frame, ..first }) {
            return Err(ChangeError::NotUniform { vaddr: node.addresses(index).start });
        }
    }
    Ok(RawItem { level: level.above(), ..first })
}
