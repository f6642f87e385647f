//! Cursor operations over many pages: each node is descended to once, each leaf is one run.
//!
//! They go from the position to an end that the caller names, and leave the cursor there. The nodes
//! that they need, for missing levels or for the parts of huge pages that stick out at either end,
//! are counted first and [set aside](crate::stock). If memory runs out, nothing has changed, and no
//! frame is missing, not even for a grace period.
//!
//! Two things can go wrong later, when pages are mapped: the caller's closure makes an item that no
//! entry can hold, or an address turns out to be mapped. Then what this call has mapped is unmapped
//! again, like anything that is unmapped; that cannot fail.

use core::ops::Range;

use crate::address::{Level, Offset, Vaddr};
use crate::config::{Config, Geo};
use crate::cursor::{Cursor, lower};
use crate::entry::{ChildRef, ItemRef};
use crate::error::{ChangeError, MapError, MapFault, PositionError, Refused};
use crate::format::Property;
use crate::geometry::{Arithmetic, Geometry};
use crate::obligation::Obligation;
use crate::range_lock::Locked;
use crate::run::Stopped;
use crate::stock::Stock;

impl<'g, C: Config> Cursor<'g, C> {
    /// Maps a page of the smallest size, made by `make`, at every address from the position up to
    /// `end`, and moves there. `make` runs under the locks, as [`crate::sync`] says.
    ///
    /// # Errors
    ///
    /// [`MapError`], with the item if one had been made: `end` is no position behind this one,
    /// something is mapped already, an item fits no entry, or memory for missing nodes ran out.
    /// The table and the position are then as they were; items that had been mapped by this call
    /// are given to the reclamation.
    ///
    /// # Panics
    ///
    /// If `make` does. What it had made until then is mapped, and the position is as it was.
    pub fn map_pages(
        &mut self,
        end: Vaddr,
        mut make: impl FnMut(Vaddr) -> C::Item,
    ) -> Result<(), MapError<Option<C::Item>>> {
        self.began("Cursor::map_pages");
        let refused = |reason| Refused { reason, back: None };
        let range = self.rest_until(end).map_err(|error| refused(error.into()))?;
        if range.is_empty() {
            return Ok(());
        }
        let (tree, _) = self.parts();
        let Some(missing) = missing_below(&mut tree.top(), &range) else {
            let vaddr = self.first_mapped(&range);
            return Err(refused(MapFault::AlreadyMapped { vaddr }));
        };
        let stock = Stock::of(self.parts().0.top().backend(), missing);
        let mut stock = stock.map_err(|error| refused(error.into()))?;
        let mut growing = Growing { cursor: self, is_done: false };
        let (tree, owed) = growing.cursor.parts();
        let mut work = Mapping { range: &range, stock: &mut stock, make: &mut make };
        if let Err((stopped, error)) = work.below(tree.top(), owed) {
            if range.start < stopped {
                take_below(&mut tree.top(), &(range.start..stopped), owed);
            }
            return Err(error);
        }
        growing.is_done = true;
        growing.cursor.move_to(range.end);
        Ok(())
    }

    /// Unmaps everything from the position up to `end`, and moves there. Returns how many frames
    /// of the smallest size were mapped: a huge page counts as all of its parts.
    ///
    /// # Errors
    ///
    /// [`ChangeError`]: `end` is no position behind this one, or memory for the parts of a huge
    /// page, of which the range has only some, ran out. Table and position are then as they were.
    pub fn unmap(&mut self, end: Vaddr) -> Result<u64, ChangeError> {
        self.began("Cursor::unmap");
        let range = self.rest_until(end)?;
        if range.is_empty() {
            return Ok(0);
        }
        self.split_ends(&range)?;
        self.leaves_empty();
        let (tree, owed) = self.parts();
        let frames = take_below(&mut tree.top(), &range, owed);
        self.move_to(range.end);
        Ok(frames)
    }

    /// Changes the property of every page from the position up to `end`, and moves there. Returns
    /// how many frames of the smallest size are mapped there.
    ///
    /// `change` is a function of the property: it may run once for many pages that have the same,
    /// and again for a page of which hardware noted something meanwhile. It runs under the locks,
    /// as [`crate::sync`] says. It cannot alter
    /// [`PageFlags::TRACKED`](crate::format::PageFlags::TRACKED) or
    /// [`PageFlags::MARK`](crate::format::PageFlags::MARK): the old value is kept.
    ///
    /// # Errors
    ///
    /// As for [`unmap`](Self::unmap).
    pub fn protect(
        &mut self,
        end: Vaddr,
        mut change: impl FnMut(Property) -> Property,
    ) -> Result<u64, ChangeError> {
        self.began("Cursor::protect");
        let range = self.rest_until(end)?;
        if range.is_empty() {
            return Ok(0);
        }
        self.split_ends(&range)?;
        let (tree, owed) = self.parts();
        let frames = protect_below(&mut tree.top(), &range, &mut change, owed);
        self.move_to(range.end);
        Ok(frames)
    }

    /// Shows every page from the position up to `end` to `look`, in order, with the address where
    /// it begins, which may be before the position. Moves to `end`. `look` runs under the locks, as
    /// [`crate::sync`] says.
    ///
    /// # Errors
    ///
    /// [`PositionError`] if `end` is no position behind this one.
    pub fn visit(
        &mut self,
        end: Vaddr,
        mut look: impl FnMut(Vaddr, ItemRef<'g, C>),
    ) -> Result<(), PositionError> {
        self.began("Cursor::visit");
        let range = self.rest_until(end)?;
        if !range.is_empty() {
            let (tree, _) = self.parts();
            visit_below(&mut tree.top(), &range, &mut look);
        }
        self.move_to(range.end);
        Ok(())
    }

    /// Splits the huge pages of which `range` has only a part, until it has all of its pages.
    fn split_ends(&mut self, range: &Range<Offset>) -> Result<(), ChangeError> {
        let (tree, owed) = self.parts();
        let splits = splits_below(&mut tree.top(), range);
        if splits == 0 {
            return Ok(());
        }
        let top = tree.top();
        let mut stock = Stock::of(top.backend(), splits)?;
        split_below(top, range, &mut stock, owed);
        Ok(())
    }
}

/// Whether `range` has all of `slot`.
fn has_all(range: &Range<Offset>, slot: &Range<Offset>) -> bool {
    range.start <= slot.start && slot.end <= range.end
}

/// The part of `range` in `slot`.
fn part(range: &Range<Offset>, slot: &Range<Offset>) -> Range<Offset> {
    range.start.max(slot.start)..range.end.min(slot.end)
}

/// How many nodes are missing for pages everywhere in `range`. `None` if a huge page is there.
fn missing_below<C: Config>(node: &mut Locked<'_, '_, C>, range: &Range<Offset>) -> Option<usize> {
    if node.level() == Level::LEAF {
        return Some(0);
    }
    let mut missing = 0;
    for index in node.indices(range) {
        let slot = node.slot(index);
        missing += match node.child(index) {
            ChildRef::Absent => <Geo<C>>::nodes_for(lower(node.level()), &part(range, &slot)),
            ChildRef::Node(_) => missing_below(&mut node.descend(index), range)?,
            ChildRef::Item(_) | ChildRef::Shared => return None,
        };
    }
    Some(missing)
}

/// A cursor that grows nodes for what comes next. If that does not come, because of an error or
/// because the caller's closure panics, some of them are empty.
struct Growing<'a, 'g, C: Config> {
    cursor: &'a mut Cursor<'g, C>,
    is_done: bool,
}

impl<C: Config> Drop for Growing<'_, '_, C> {
    fn drop(&mut self) {
        if !self.is_done {
            self.cursor.leaves_empty();
        }
    }
}

/// A range that is being mapped.
struct Mapping<'a, C: Config, F> {
    range: &'a Range<Offset>,
    stock: &'a mut Stock<C>,
    make: &'a mut F,
}

impl<C: Config, F: FnMut(Vaddr) -> C::Item> Mapping<'_, C, F> {
    /// Maps the part of the range that lies in `node`. An error says where it stopped.
    fn below(
        &mut self,
        mut node: Locked<'_, '_, C>,
        owed: &mut Obligation<'_, C::Backend>,
    ) -> Result<(), Stopped<C>> {
        if node.level() == Level::LEAF {
            return node.map_run(self.range, self.make, owed);
        }
        for index in node.indices(self.range) {
            if let ChildRef::Absent = node.child(index) {
                node.grow(index, self.stock, owed);
            }
            self.below(node.descend(index), owed)?;
        }
        Ok(())
    }
}

/// Takes out everything that is mapped in `range`, which ends where pages end.
fn take_below<C: Config>(
    node: &mut Locked<'_, '_, C>,
    range: &Range<Offset>,
    owed: &mut Obligation<'_, C::Backend>,
) -> u64 {
    if node.level() == Level::LEAF {
        return node.take_run(range, owed);
    }
    let mut frames = 0;
    for index in node.indices(range) {
        let whole = has_all(range, &node.slot(index));
        frames += match node.child(index) {
            ChildRef::Node(_) if whole && node.is_removable(index) => node.detach(index, owed),
            ChildRef::Node(_) => take_below(&mut node.descend(index), range, owed),
            ChildRef::Item(_) => <Geo<C>>::entry_frames(node.take_page(index, owed).level),
            ChildRef::Absent | ChildRef::Shared => 0,
        };
    }
    frames
}

/// Changes the property of everything that is mapped in `range`, which ends where pages end.
fn protect_below<C: Config>(
    node: &mut Locked<'_, '_, C>,
    range: &Range<Offset>,
    change: &mut impl FnMut(Property) -> Property,
    owed: &mut Obligation<'_, C::Backend>,
) -> u64 {
    if node.level() == Level::LEAF {
        return node.protect_run(range, change, owed);
    }
    let mut frames = 0;
    for index in node.indices(range) {
        frames += match node.child(index) {
            ChildRef::Node(_) => protect_below(&mut node.descend(index), range, change, owed),
            ChildRef::Item(page) => {
                let flush = node.flush_of(index);
                node.entry(index).protect_page(change, flush, owed);
                <Geo<C>>::entry_frames(page.level)
            }
            ChildRef::Absent | ChildRef::Shared => 0,
        };
    }
    frames
}

/// Shows every page that `range` touches.
fn visit_below<'g, C: Config>(
    node: &mut Locked<'_, 'g, C>,
    range: &Range<Offset>,
    look: &mut impl FnMut(Vaddr, ItemRef<'g, C>),
) {
    for (index, child) in node.children(node.indices(range)) {
        match child {
            ChildRef::Item(item) => look(node.addresses(index).start, item),
            ChildRef::Node(_) => visit_below(&mut node.descend(index), range, look),
            ChildRef::Absent | ChildRef::Shared => {}
        }
    }
}

/// How many splits it takes until `range` has all of every page that it touches.
fn splits_below<C: Config>(node: &mut Locked<'_, '_, C>, range: &Range<Offset>) -> usize {
    if node.level() == Level::LEAF {
        return 0;
    }
    let mut splits = 0;
    for index in ends_of(node.indices(range)) {
        splits += match node.child(index) {
            ChildRef::Node(_) => splits_below(&mut node.descend(index), range),
            ChildRef::Item(_) => splits_of::<C>(node.level(), &node.slot(index), range),
            ChildRef::Absent | ChildRef::Shared => 0,
        };
    }
    splits
}

/// How many splits it takes, of a page of `level` at `slot` that `range` touches.
fn splits_of<C: Config>(level: Level, slot: &Range<Offset>, range: &Range<Offset>) -> usize {
    if has_all(range, slot) {
        return 0;
    }
    let below = lower(level);
    let parts = ends_of(<Geo<C>>::indices(slot.start, below, range));
    let of_part = |index| splits_of::<C>(below, &<Geo<C>>::slot(slot.start, below, index), range);
    1 + parts.map(of_part).sum::<usize>()
}

/// Makes the splits that [`splits_below`] counted.
fn split_below<C: Config>(
    mut node: Locked<'_, '_, C>,
    range: &Range<Offset>,
    stock: &mut Stock<C>,
    owed: &mut Obligation<'_, C::Backend>,
) {
    if node.level() == Level::LEAF {
        return;
    }
    for index in ends_of(node.indices(range)) {
        if let ChildRef::Item(_) = node.child(index)
            && !has_all(range, &node.slot(index))
        {
            node.split(index, stock, owed);
        }
        if let ChildRef::Node(_) = node.child(index) {
            split_below(node.descend(index), range, stock, owed);
        }
    }
}

/// The first index and the last one: only there can a range have a part of a page.
fn ends_of(indices: Range<usize>) -> impl Iterator<Item = usize> {
    let last = indices.clone().last();
    let first = indices.clone().next();
    first.into_iter().chain(last.filter(|&last| first != Some(last)))
}
