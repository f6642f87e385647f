//! The cursor: a transaction over a range of addresses.
//!
//! A [`Cursor`] holds the [locks](crate::subtree) of its range from [`lock`](Cursor::lock) to drop.
//! Cursors of ranges that overlap come one after the other; disjoint ones work in parallel, each in
//! its own part of the tree. Within the range there is a position, a multiple of the page size
//! from the start to the end, both included. What is done at the position moves it on.
//!
//! *Nothing is half done.* An operation counts the nodes it needs and sets them aside before it
//! changes anything; so it either fails, with the table as it was and the item given back, or it
//! cannot run out of memory any more.
//!
//! *What is taken out* does not come back to the caller: walkers may be looking at it. The cursor
//! gathers it, and when it is dropped
//!
//! 1. takes out nodes that were left empty,
//! 2. flushes, still under its locks, what was unmapped or tightened: when the next cursor has the
//!    range, no CPU translates through anything that was there before,
//! 3. unlocks, in reverse,
//! 4. takes out the covering node if that was left empty, and nodes above it,
//! 5. hands everything over to the grace period, as one batch.
//!
//! *Accessed and dirty* bits that hardware sets meanwhile are never lost: see [`crate::entry`].
//!
//! Operations over many pages at once are in [`crate::bulk`]; readers that lock nothing are
//! [`SharedCursor`](crate::shared::SharedCursor)s. After CortenMM's transactional interface
//! (SOSP'25).

use core::fmt;
use core::ops::Range;

use crate::address::{FRAME_SIZE, Level, Vaddr};
use crate::config::Config;
use crate::entry::{ChildRef, ItemRef};
use crate::error::{MapError, MapFault, OutOfMemory, PositionError, RangeError};
use crate::format::{Property, RawItem};
use crate::gather::Gather;
use crate::geometry::Geometry;
use crate::item::Incoming;
use crate::node::NodeRef;
use crate::range_lock::{lock_range, prune_upwards, try_lock_range};
use crate::run::must_flush;
use crate::stock::Stock;
use crate::subtree::{Locked, SubTree};
use crate::sync::Backend;

type Geo<C> = <<C as Config>::Backend as Backend>::Geometry;

/// What is at an address: the addresses that one entry translates, and the page there.
pub struct Slot<'g, C: Config> {
    /// The addresses. Around an absent entry, none of them is mapped.
    pub range: Range<Vaddr>,
    /// The page, if there is one.
    pub item: Option<ItemRef<'g, C>>,
}

impl<C: Config> fmt::Debug for Slot<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("range", &self.range).field("item", &self.item).finish()
    }
}

/// What a cursor has unmapped in one step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unmapped {
    /// The addresses: a page's, or all that a node translated.
    pub range: Range<Vaddr>,
    /// How many frames of the smallest size were mapped there.
    pub frames: u64,
    /// The page, with what hardware had noted. `None` for a node, and all below it.
    pub page: Option<RawItem>,
}

/// A page whose property a cursor has changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Protected {
    /// The addresses of the page.
    pub range: Range<Vaddr>,
    /// The property before, with what hardware had noted at the instant of the change.
    pub before: Property,
}

/// A range of a page table, locked, and a position in it.
pub struct Cursor<'g, C: Config> {
    vaddr: Vaddr,
    /// Whether nodes below the covering one may have been left empty.
    may_leave_empty: bool,
    // Dropped in this order: first unlock, then what is left to do without the locks.
    tree: SubTree<'g, C>,
    afterwards: Afterwards<'g, C>,
}

/// What a cursor does after it has unlocked its range.
struct Afterwards<'g, C: Config> {
    root: NodeRef<'g, C>,
    gather: Gather<C::Backend>,
    /// An address of the covering node, and its level, if it was left empty.
    emptied: Option<(Vaddr, Level)>,
    waits: bool,
}

impl<C: Config> Drop for Afterwards<'_, C> {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some((vaddr, level)) = self.emptied {
            prune_upwards(self.root, vaddr, level, &mut self.gather, self.waits);
        }
        // What is gathered is paid when it is dropped, next.
    }
}

impl<C: Config> fmt::Debug for Cursor<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cursor({:?} in {:?})", self.vaddr, self.tree)
    }
}

impl<'g, C: Config> Cursor<'g, C> {
    /// Locks `range`, waiting for whoever holds a part of it, and stands at its start.
    ///
    /// Whoever holds a cursor of the same table, or the lock of a node, may be who is waited for:
    /// disjoint ranges too meet in the nodes above, here and when an emptied node is taken out. So
    /// a CPU that holds one uses [`try_lock`](Self::try_lock) for another.
    ///
    /// # Errors
    ///
    /// A range that is empty, reversed, unaligned or not managed by the table;
    /// [`RangeError::NotARoot`], or [`RangeError::OutOfMemory`] if nodes are missing above the
    /// range. The table is then as it was.
    #[inline(always)]
    pub fn lock(root: NodeRef<'g, C>, range: Range<Vaddr>) -> Result<Self, RangeError> {
        match lock_range(root, range) {
            Ok(tree) => Ok(Self::new(root, tree, true)),
            Err(error) => Err(error),
        }
    }

    /// As [`lock`](Self::lock), but gives up where it would wait for another CPU. When it is
    /// dropped, a node that it leaves empty stays if it would have to wait for the parent.
    ///
    /// # Errors
    ///
    /// [`RangeError::WouldWait`], or those of [`lock`](Self::lock).
    #[inline]
    pub fn try_lock(root: NodeRef<'g, C>, range: Range<Vaddr>) -> Result<Self, RangeError> {
        match try_lock_range(root, range) {
            Ok(tree) => Ok(Self::new(root, tree, false)),
            Err(error) => Err(error),
        }
    }

    #[inline(always)]
    fn new(root: NodeRef<'g, C>, tree: SubTree<'g, C>, waits: bool) -> Self {
        let vaddr = tree.range().start;
        let gather = Gather::new(root.backend());
        let afterwards = Afterwards { root, gather, emptied: None, waits };
        Self { vaddr, may_leave_empty: false, tree, afterwards }
    }

    /// The range.
    #[inline]
    pub fn range(&self) -> &Range<Vaddr> {
        self.tree.range()
    }

    /// The position: an address of the range, or its end.
    #[inline]
    pub fn vaddr(&self) -> Vaddr {
        self.vaddr
    }

    /// Moves to `vaddr`, forward or back.
    ///
    /// # Errors
    ///
    /// [`PositionError::Outside`] or [`PositionError::Unaligned`]; the cursor then stays.
    pub fn jump(&mut self, vaddr: Vaddr) -> Result<(), PositionError> {
        let range = self.range().clone();
        self.vaddr = check_position(vaddr, range)?;
        Ok(())
    }

    /// What is at the position: of a huge page all of it, of an absent entry all that it would
    /// translate, also where that goes beyond the range.
    ///
    /// # Errors
    ///
    /// [`PositionError::AtEnd`].
    #[inline]
    pub fn query(&mut self) -> Result<Slot<'g, C>, PositionError> {
        let vaddr = self.before_end()?;
        let node = self.seek(vaddr, Level::LEAF);
        let index = node.index(vaddr);
        let item = match node.child(index) {
            ChildRef::Item(item) => Some(item),
            _ => None,
        };
        Ok(Slot { range: node.slot(index), item })
    }

    /// Moves to the next mapped address, which may be the position itself, and says what is
    /// there. `None` if there is none; the cursor is then at the end.
    pub fn find_next(&mut self) -> Option<Slot<'g, C>> {
        let end = self.range().end;
        while self.vaddr < end {
            let vaddr = self.vaddr;
            let node = self.seek(vaddr, Level::LEAF);
            let index = node.index(vaddr);
            let slot = node.slot(index);
            if let ChildRef::Item(item) = node.child(index) {
                return Some(Slot { range: slot, item: Some(item) });
            }
            self.vaddr = self.skip(slot.end);
        }
        None
    }

    /// Maps `item` at the position and moves behind it.
    ///
    /// # Errors
    ///
    /// [`MapError`], with the item: it is mapped already, the item is too long for the rest of the
    /// range or not aligned, no entry can hold it, or memory for a missing node ran out.
    // Always: what the caller knows of the item, its level first, is then computed beforehand.
    #[inline(always)]
    pub fn map(&mut self, item: C::Item) -> Result<(), MapError<C::Item>> {
        let item = Incoming::<C>::new(self.afterwards.root.backend(), item);
        let (vaddr, level) = (self.vaddr, item.level());
        if let Err(fault) = self.check_place(&item) {
            return Err(MapError { fault, item: item.give_back() });
        }
        let mut node = self.tree.seek(vaddr, level);
        let index = node.index(vaddr);
        if node.level() == level && matches!(node.child(index), ChildRef::Absent) {
            node.entry(index).put(item);
        } else {
            self.map_with_place(item)?;
        }
        self.vaddr = vaddr.plus(<Geo<C>>::entry_span(level));
        Ok(())
    }

    /// Maps `item` where there is no absent entry for it yet.
    #[cold]
    fn map_with_place(&mut self, item: Incoming<'_, C>) -> Result<(), MapError<C::Item>> {
        if let Err(fault) = self.make_place(item.level()) {
            return Err(MapError { fault, item: item.give_back() });
        }
        let mut node = self.tree.seek(self.vaddr, item.level());
        let index = node.index(self.vaddr);
        node.entry(index).put(item);
        Ok(())
    }

    /// Whether an item could be at the position.
    #[inline]
    fn check_place(&self, item: &Incoming<'_, C>) -> Result<(), MapFault> {
        let vaddr = self.before_end()?;
        let (level, end) = (item.level(), self.range().end);
        item.check(level).map_err(MapFault::Misfit)?;
        let length = <Geo<C>>::entry_span(level);
        if !vaddr.is_aligned(length) {
            return Err(MapFault::Misaligned { vaddr, length });
        }
        if end.as_u64() - vaddr.as_u64() < length {
            return Err(MapFault::TooLong { vaddr, length, end });
        }
        Ok(())
    }

    /// Makes an absent entry of `level` at the position, which has none: grows what is missing,
    /// takes out nodes that map nothing.
    fn make_place(&mut self, level: Level) -> Result<(), MapFault> {
        let vaddr = self.vaddr;
        let node = self.seek(vaddr, level);
        let (above, index) = (node.level(), node.index(vaddr));
        match node.child(index) {
            ChildRef::Absent => self.grow(vaddr, above, level),
            ChildRef::Node(_) if node.is_vacant(index) && self.is_removable(vaddr, level) => {
                self.tree.seek(vaddr, level).detach(index, &mut self.afterwards.gather);
                Ok(())
            }
            ChildRef::Node(_) => {
                let length = <Geo<C>>::entry_span(level);
                Err(MapFault::AlreadyMapped { vaddr: self.first_mapped(vaddr, length) })
            }
            _ => Err(MapFault::AlreadyMapped { vaddr }),
        }
    }

    /// Grows the nodes at `vaddr` from below level `above` down to `level`.
    fn grow(&mut self, vaddr: Vaddr, above: Level, level: Level) -> Result<(), MapFault> {
        let missing = usize::from(above.as_u8() - level.as_u8());
        let mut stock = Stock::of(self.afterwards.root.backend(), missing)?;
        for _ in 0..missing {
            let mut node = self.seek(vaddr, level);
            let index = node.index(vaddr);
            node.grow(index, &mut stock);
        }
        Ok(())
    }

    fn is_removable(&mut self, vaddr: Vaddr, level: Level) -> bool {
        let mut node = self.seek(vaddr, level);
        let index = node.index(vaddr);
        node.entry(index).is_removable()
    }

    /// The first mapped address of `length` bytes at `vaddr`, for an error; `vaddr` if none is.
    pub(crate) fn first_mapped(&mut self, vaddr: Vaddr, length: u64) -> Vaddr {
        let position = self.vaddr;
        self.vaddr = vaddr;
        let found = self.find_next().map(|_| self.vaddr);
        self.vaddr = position;
        found.filter(|found| found.as_u64() - vaddr.as_u64() < length).unwrap_or(vaddr)
    }

    /// Unmaps the next thing that is mapped at or after the position, and moves behind it: a page,
    /// or a node with all that is mapped below it where the range has all of it. Of a huge page
    /// that begins before the position or goes beyond the range, only what is in the range.
    /// `None` if nothing is mapped any more; the cursor is then at the end.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`] if a huge page has to be split and there is no memory for the parts. The
    /// cursor is then at the page, which stays.
    pub fn take_next(&mut self) -> Result<Option<Unmapped>, OutOfMemory> {
        let end = self.range().end;
        let mut floor = <Geo<C>>::ROOT;
        while self.vaddr < end {
            let vaddr = self.vaddr;
            let gather = &mut self.afterwards.gather;
            let mut node = self.tree.seek(vaddr, floor);
            let index = node.index(vaddr);
            let slot = node.slot(index);
            let whole = vaddr == slot.start && slot.end <= end;
            match node.child(index) {
                ChildRef::Item(_) if whole => {
                    let page = node.take_page(index, gather);
                    (self.vaddr, self.may_leave_empty) = (slot.end, true);
                    let frames = <Geo<C>>::entry_frames(page.level);
                    return Ok(Some(Unmapped { range: slot, frames, page: Some(page) }));
                }
                ChildRef::Item(_) => {
                    self.split_around(vaddr)?;
                    floor = <Geo<C>>::ROOT;
                }
                ChildRef::Node(_)
                    if whole && !node.is_vacant(index) && node.entry(index).is_removable() =>
                {
                    let frames = node.detach(index, gather);
                    (self.vaddr, self.may_leave_empty) = (slot.end, true);
                    return Ok(Some(Unmapped { range: slot, frames, page: None }));
                }
                ChildRef::Node(_) => floor = lower(node.level()),
                ChildRef::Absent | ChildRef::Shared => {
                    self.vaddr = self.skip(slot.end);
                    floor = <Geo<C>>::ROOT;
                }
            }
        }
        Ok(None)
    }

    /// Changes the property of the next page that is mapped at or after the position, and moves
    /// behind it. Of a huge page that begins before the position or goes beyond the range, only
    /// what is in the range. `None` if nothing is mapped any more; the cursor is then at the end.
    ///
    /// `change` may run more than once, with a newer property each time, as hardware notes
    /// something. Whether the item owns its frame is not its to change.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`] if a huge page has to be split and there is no memory for the parts. The
    /// cursor is then at the page, which is as it was.
    pub fn protect_next(
        &mut self,
        mut change: impl FnMut(Property) -> Property,
    ) -> Result<Option<Protected>, OutOfMemory> {
        let Some(mut slot) = self.find_next() else { return Ok(None) };
        let vaddr = self.vaddr;
        if vaddr != slot.range.start || slot.range.end > self.range().end {
            self.split_around(vaddr)?;
            slot = self.query().expect("the position has not moved");
        }
        let mut node = self.tree.seek(vaddr, Level::LEAF);
        let index = node.index(vaddr);
        let mut owes = false;
        let before = node.entry(index).protect(|old| {
            let new = change(old);
            owes |= must_flush(old, new);
            new
        });
        if owes {
            self.afterwards.gather.owe_page(vaddr);
        }
        self.vaddr = slot.range.end;
        let before = before.expect("a page was found there");
        Ok(Some(Protected { range: slot.range, before }))
    }

    /// Splits the huge page at `vaddr`, of which the rest of the range has only a part, until there
    /// is a page at `vaddr` that the rest of the range has all of.
    fn split_around(&mut self, vaddr: Vaddr) -> Result<(), OutOfMemory> {
        let end = self.range().end;
        let huge = self.tree.seek(vaddr, Level::LEAF).level();
        let fits = |level: Level| {
            let span = <Geo<C>>::entry_span(level);
            vaddr.is_aligned(span) && vaddr.plus(span) <= end
        };
        let mut level = huge;
        while !fits(level) {
            level = level.below().expect("the smallest pages fit every range");
        }
        let splits = usize::from(huge.as_u8() - level.as_u8());
        let mut stock = Stock::of(self.afterwards.root.backend(), splits)?;
        for _ in 0..splits {
            let mut node = self.tree.seek(vaddr, Level::LEAF);
            let index = node.index(vaddr);
            node.split(index, &mut stock);
        }
        self.afterwards.gather.owe_everything();
        Ok(())
    }

    /// Flushes what was unmapped or tightened so far, and hands over what was taken out. Dropping
    /// the cursor does the same.
    pub fn flush(&mut self) {
        self.afterwards.gather.pay();
    }

    /// The position, unless it is the end.
    #[inline]
    pub(crate) fn before_end(&self) -> Result<Vaddr, PositionError> {
        let end = self.range().end;
        if self.vaddr == end { Err(PositionError::AtEnd { end }) } else { Ok(self.vaddr) }
    }

    #[inline]
    pub(crate) fn seek(&mut self, vaddr: Vaddr, floor: Level) -> Locked<'_, 'g, C> {
        self.tree.seek(vaddr, floor)
    }

    /// The sub-tree and what is gathered, to work on both.
    pub(crate) fn parts(&mut self) -> (&mut SubTree<'g, C>, &mut Gather<C::Backend>) {
        (&mut self.tree, &mut self.afterwards.gather)
    }

    /// Something below the covering node may be empty from now on.
    pub(crate) fn leaves_empty(&mut self) {
        self.may_leave_empty = true;
    }

    pub(crate) fn set_vaddr(&mut self, vaddr: Vaddr) {
        self.vaddr = vaddr;
    }

    /// Takes out what was left empty below the covering node.
    #[inline(never)]
    fn prune(&mut self) {
        self.tree.prune(&mut self.afterwards.gather);
    }

    /// `vaddr`, or the end if that comes before.
    fn skip(&self, vaddr: Vaddr) -> Vaddr {
        vaddr.min(self.range().end)
    }
}

impl<C: Config> Drop for Cursor<'_, C> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.may_leave_empty {
            self.prune();
        }
        self.afterwards.gather.flush();
        let top = self.tree.top();
        if top.is_empty() && top.level() < <Geo<C>>::ROOT {
            let level = top.level();
            self.afterwards.emptied = Some((self.tree.range().start, level));
        }
    }
}

/// The level below, which exists.
pub(crate) fn lower(level: Level) -> Level {
    level.below().expect("leaves have no nodes below them")
}

/// An address that a cursor may stand at.
pub(crate) fn check_position(vaddr: Vaddr, range: Range<Vaddr>) -> Result<Vaddr, PositionError> {
    if vaddr < range.start || vaddr > range.end {
        Err(PositionError::Outside { vaddr, range })
    } else if !vaddr.is_aligned(FRAME_SIZE) {
        Err(PositionError::Unaligned { vaddr })
    } else {
        Ok(vaddr)
    }
}
