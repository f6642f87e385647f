//! The cursor: a transaction over a range of addresses.
//!
//! A [`Cursor`] holds the [locks](crate::range_lock) of its range from [`lock`](Cursor::lock) to
//! drop. Cursors of ranges that overlap come one after the other; disjoint ones work in parallel,
//! each in its own part of the tree. Within the range there is a position, a multiple of the page
//! size from the start to the end, both included. What is done at the position moves it on.
//!
//! *Nothing is half done.* An operation counts the nodes it needs and sets them aside before it
//! changes anything; so it either fails, with the table as it was and the item given back, or it
//! cannot run out of memory any more.
//!
//! *What is taken out* does not come back to the caller: walkers may be looking at it. The cursor
//! [owes](crate::obligation) it, and when it is dropped
//!
//! 1. takes out nodes that were left empty,
//! 2. flushes, still under its locks, what was unmapped or tightened: when the next cursor has the
//!    range, no CPU translates through anything that was there before,
//! 3. unlocks, in reverse,
//! 4. takes out the covering node if that was left empty, and nodes above it,
//! 5. hands everything over to the grace period, as one batch.
//!
//! Where something is mapped in the place of what the same cursor has unmapped, the flush comes
//! before. In between the addresses are not mapped.
//!
//! *Withheld pages and marks* count as what they stand for. An address that is said to be mapped
//! has a page, or one that is [withheld](crate::format::PageFlags::WITHHELD) from hardware, or a
//! [mark](crate::format::PageFlags::MARK).
//!
//! *Addresses* are canonical. The end of a range is behind its last byte: at the top of the upper
//! half that is address 0. So all addresses are two ranges, a half each.
//!
//! *Accessed and dirty* bits that hardware sets meanwhile are never lost: see [`crate::entry`].
//!
//! Operations over many pages at once are in [`crate::bulk`]; readers that lock nothing are
//! [`SharedCursor`](crate::shared::SharedCursor)s. After CortenMM's transactional interface
//! (SOSP'25).

use core::fmt;
use core::ops::Range;

use crate::address::{FRAME_SIZE, Level, Offset, Vaddr};
use crate::config::{Config, Geo};
use crate::entry::{ChildRef, ItemRef};
use crate::error::{LockError, MapError, MapFault, OutOfMemory, PositionError, Refused};
use crate::format::{Property, RawItem};
use crate::geometry::{Arithmetic, Geometry};
use crate::guard::{trying, waiting};
use crate::item::Incoming;
use crate::node::{NodeRef, RootRef};
use crate::obligation::Obligation;
use crate::prune::prune;
use crate::range_lock::{SubTree, lock_range};
use crate::stock::Stock;
use crate::sync::Backend;

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
    position: Offset,
    /// Whether nodes below the covering one may have been left empty.
    may_leave_empty: bool,
    // Dropped in this order: first unlock, then what is left to do without the locks.
    tree: SubTree<'g, C>,
    afterwards: Afterwards<'g, C>,
}

/// What a cursor does after it has unlocked its range.
struct Afterwards<'g, C: Config> {
    root: RootRef<'g, C>,
    owed: Obligation<'g, C::Backend>,
    /// A place in the covering node, and its level, if it was left empty.
    emptied: Option<(Offset, Level)>,
    waits: bool,
}

impl<C: Config> Drop for Afterwards<'_, C> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.emptied.is_some() {
            self.prune();
        }
        // What is owed is paid when it is dropped, next.
    }
}

impl<C: Config> Afterwards<'_, C> {
    /// Takes out the covering node, which was left empty, and nodes above it.
    #[cold]
    fn prune(&mut self) {
        if let Some((offset, level)) = self.emptied {
            match self.waits {
                true => prune(self.root, offset, level, &mut self.owed, waiting),
                false => prune(self.root, offset, level, &mut self.owed, trying),
            }
        }
    }
}

impl<C: Config> fmt::Debug for Cursor<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cursor({:?} in {:?})", self.vaddr(), self.tree)
    }
}

impl<'g, C: Config> Cursor<'g, C> {
    /// Locks `range`, waits for the CPUs that hold a part of it, and stands at its start.
    ///
    /// A CPU that holds a cursor of the same table, or the lock of a node, might wait for itself:
    /// disjoint ranges too meet in the nodes above, here and when an emptied node is taken out. It
    /// uses [`try_lock`](Self::try_lock) for another one.
    ///
    /// # Errors
    ///
    /// A range that is empty, reversed, unaligned or not managed by the table;
    /// [`LockError::NotARoot`], or [`LockError::OutOfMemory`] if nodes are missing above the
    /// range. The table is then as it was.
    ///
    /// A table that manages all of its root cannot be locked as one range: the end of the upper
    /// half is address 0, so `0..0`, which is empty. Each half can.
    #[inline(always)]
    pub fn lock(root: NodeRef<'g, C>, range: Range<Vaddr>) -> Result<Self, LockError> {
        root.backend().began("Cursor::lock");
        let root = RootRef::of(root)?;
        Ok(Self::new(root, lock_range(root, range, waiting)?, true))
    }

    /// As [`lock`](Self::lock), but gives up where it would wait for another CPU. When it is
    /// dropped, a node that it leaves empty stays if it would have to wait for the parent.
    ///
    /// # Errors
    ///
    /// [`LockError::WouldWait`], or those of [`lock`](Self::lock).
    #[inline]
    pub fn try_lock(root: NodeRef<'g, C>, range: Range<Vaddr>) -> Result<Self, LockError> {
        root.backend().began("Cursor::try_lock");
        let root = RootRef::of(root)?;
        Ok(Self::new(root, lock_range(root, range, trying)?, false))
    }

    #[inline(always)]
    fn new(root: RootRef<'g, C>, tree: SubTree<'g, C>, waits: bool) -> Self {
        let position = tree.range().start;
        let owed = Obligation::new(root.space());
        let afterwards = Afterwards { root, owed, emptied: None, waits };
        Self { position, may_leave_empty: false, tree, afterwards }
    }

    /// The range.
    #[inline]
    pub fn range(&self) -> Range<Vaddr> {
        <Geo<C>>::vaddrs(self.tree.range())
    }

    /// The position: an address of the range, or its end.
    #[inline]
    pub fn vaddr(&self) -> Vaddr {
        position_vaddr::<C>(self.position, self.tree.range())
    }

    /// Moves to `vaddr`, forward or back.
    ///
    /// # Errors
    ///
    /// [`PositionError::Outside`] or [`PositionError::Unaligned`]; the cursor then stays.
    pub fn jump(&mut self, vaddr: Vaddr) -> Result<(), PositionError> {
        self.position = check_position::<C>(vaddr, self.tree.range())?;
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
        self.began("Cursor::query");
        let position = self.before_end()?;
        let node = self.tree.seek(position, Level::LEAF);
        let index = node.index(position);
        let item = match node.child(index) {
            ChildRef::Item(item) => Some(item),
            _ => None,
        };
        Ok(Slot { range: node.addresses(index), item })
    }

    /// Moves to the next mapped address, which may be the position itself, and says what is
    /// there. `None` if there is none; the cursor is then at the end.
    pub fn find_next(&mut self) -> Option<Slot<'g, C>> {
        self.began("Cursor::find_next");
        self.next_slot()
    }

    /// As [`find_next`](Self::find_next).
    // Always: what the caller does not want of the slot is then not computed.
    #[inline(always)]
    fn next_slot(&mut self) -> Option<Slot<'g, C>> {
        let end = self.tree.range().end;
        while self.position < end {
            let node = self.tree.seek(self.position, Level::LEAF);
            let index = node.index(self.position);
            if let ChildRef::Item(item) = node.child(index) {
                return Some(Slot { range: node.addresses(index), item: Some(item) });
            }
            self.position = node.slot(index).end.min(end);
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
        self.began("Cursor::map");
        let item = Incoming::<C>::new(self.afterwards.root.backend(), item);
        let (position, level) = (self.position, item.level());
        if let Err(reason) = self.check_place(&item) {
            return Err(Refused { reason, back: item.give_back() });
        }
        let mut node = self.tree.seek(position, level);
        let index = node.index(position);
        if node.level() == level && matches!(node.child(index), ChildRef::Absent) {
            node.put(index, item.into_raw(), &mut self.afterwards.owed);
        } else {
            self.map_with_place(item)?;
        }
        self.position = position.plus(<Geo<C>>::entry_span(level));
        Ok(())
    }

    /// Maps `item` where there is no absent entry for it yet.
    #[cold]
    fn map_with_place(&mut self, item: Incoming<'_, C>) -> Result<(), MapError<C::Item>> {
        if let Err(reason) = self.make_place(item.level()) {
            return Err(Refused { reason, back: item.give_back() });
        }
        let mut node = self.tree.seek(self.position, item.level());
        let index = node.index(self.position);
        node.put(index, item.into_raw(), &mut self.afterwards.owed);
        Ok(())
    }

    /// Whether an item could be at the position.
    #[inline]
    pub(crate) fn check_place(&self, item: &Incoming<'_, C>) -> Result<(), MapFault> {
        let position = self.before_end()?;
        let (level, end) = (item.level(), self.tree.range().end);
        item.check(level)?;
        let length = <Geo<C>>::entry_span(level);
        if !position.is_aligned(length) {
            return Err(MapFault::Misaligned { vaddr: self.vaddr(), length });
        }
        if end.0 - position.0 < length {
            let end = <Geo<C>>::end_vaddr(end);
            return Err(MapFault::TooLong { vaddr: self.vaddr(), length, end });
        }
        Ok(())
    }

    /// Makes an absent entry of `level` at the position, which has none: grows what is missing,
    /// takes out nodes that map nothing.
    fn make_place(&mut self, level: Level) -> Result<(), MapFault> {
        let (position, owed) = (self.position, &mut self.afterwards.owed);
        let mut node = self.tree.seek(position, level);
        let (above, index) = (node.level(), node.index(position));
        match node.child(index) {
            ChildRef::Absent => self.grow(above, level)?,
            // Not one that stays: those are the root's, and a page of that level was refused.
            ChildRef::Node(_) if node.is_vacant(index) => {
                node.detach(index, owed);
            }
            _ => {
                let slot = position..position.plus(<Geo<C>>::entry_span(level));
                return Err(MapFault::AlreadyMapped { vaddr: self.first_mapped(&slot) });
            }
        }
        Ok(())
    }

    /// Grows the nodes at the position from below level `above` down to `level`.
    fn grow(&mut self, above: Level, level: Level) -> Result<(), OutOfMemory> {
        let missing = usize::from(above.as_u8() - level.as_u8());
        let mut stock = Stock::of(self.afterwards.root.backend(), missing)?;
        for _ in 0..missing {
            let mut node = self.tree.seek(self.position, level);
            let index = node.index(self.position);
            node.grow(index, &mut stock, &mut self.afterwards.owed);
        }
        Ok(())
    }

    /// The first mapped address of `slot`, for an error; its start if none is.
    pub(crate) fn first_mapped(&mut self, slot: &Range<Offset>) -> Vaddr {
        <Geo<C>>::vaddr(self.next_mapped(slot).unwrap_or(slot.start))
    }

    /// The first mapped place of `slot`.
    pub(crate) fn next_mapped(&mut self, slot: &Range<Offset>) -> Option<Offset> {
        let position = core::mem::replace(&mut self.position, slot.start);
        let found = self.next_slot().map(|_| self.position);
        self.position = position;
        found.filter(|found| *found < slot.end)
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
        self.began("Cursor::take_next");
        let end = self.tree.range().end;
        let mut floor = <Geo<C>>::ROOT;
        while self.position < end {
            let (position, owed) = (self.position, &mut self.afterwards.owed);
            let mut node = self.tree.seek(position, floor);
            let index = node.index(position);
            let slot = node.slot(index);
            let whole = position == slot.start && slot.end <= end;
            // Before it is taken out: code of the item's may panic.
            self.may_leave_empty |= whole;
            let (frames, page) = match node.child(index) {
                ChildRef::Item(_) if whole => {
                    let page = node.take_page(index, owed);
                    (<Geo<C>>::entry_frames(page.level), Some(page))
                }
                ChildRef::Item(_) => {
                    self.split_around()?;
                    floor = <Geo<C>>::ROOT;
                    continue;
                }
                ChildRef::Node(_)
                    if whole && !node.is_vacant(index) && node.is_removable(index) =>
                {
                    (node.detach(index, owed), None)
                }
                ChildRef::Node(_) => {
                    floor = lower(node.level());
                    continue;
                }
                ChildRef::Absent | ChildRef::Shared => {
                    self.position = slot.end.min(end);
                    floor = <Geo<C>>::ROOT;
                    continue;
                }
            };
            self.position = slot.end;
            return Ok(Some(Unmapped { range: <Geo<C>>::vaddrs(&slot), frames, page }));
        }
        Ok(None)
    }

    /// Changes the property of the next page that is mapped at or after the position, and moves
    /// behind it. Of a huge page that begins before the position or goes beyond the range, only
    /// what is in the range. `None` if nothing is mapped any more; the cursor is then at the end.
    ///
    /// `change` may run more than once, with a newer property each time, as hardware notes
    /// something. It runs under the locks, as [`crate::sync`] says. It cannot alter
    /// [`PageFlags::TRACKED`](crate::format::PageFlags::TRACKED) or
    /// [`PageFlags::MARK`](crate::format::PageFlags::MARK): the old value is kept.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`] if a huge page has to be split and there is no memory for the parts. The
    /// cursor is then at the page, which is as it was.
    pub fn protect_next(
        &mut self,
        mut change: impl FnMut(Property) -> Property,
    ) -> Result<Option<Protected>, OutOfMemory> {
        self.began("Cursor::protect_next");
        if self.next_slot().is_none() {
            return Ok(None);
        }
        self.split_around()?;
        let mut node = self.tree.seek(self.position, Level::LEAF);
        let index = node.index(self.position);
        let (range, flush) = (node.addresses(index), node.flush_of(index));
        self.position = node.slot(index).end;
        let owed = &mut self.afterwards.owed;
        let before = node.entry(index).protect_page(&mut change, flush, owed);
        Ok(Some(Protected { range, before }))
    }

    /// Splits the page at the position, until there is one that begins there and that the rest of
    /// the range has all of.
    #[inline]
    fn split_around(&mut self) -> Result<(), OutOfMemory> {
        let (position, end) = (self.position, self.tree.range().end);
        let huge = self.tree.seek(position, Level::LEAF).level();
        let fits = |level: Level| {
            let span = <Geo<C>>::entry_span(level);
            position.is_aligned(span) && position.plus(span) <= end
        };
        let mut level = huge;
        while !fits(level) {
            level = level.below().expect("the smallest pages fit every range");
        }
        if level < huge { self.split_down(huge, level) } else { Ok(()) }
    }

    /// Splits the page at the position, of level `huge`, down to one of `level`.
    #[inline(never)]
    pub(crate) fn split_down(&mut self, huge: Level, level: Level) -> Result<(), OutOfMemory> {
        let position = self.position;
        let splits = usize::from(huge.as_u8() - level.as_u8());
        let mut stock = Stock::of(self.afterwards.root.backend(), splits)?;
        for _ in 0..splits {
            let mut node = self.tree.seek(position, Level::LEAF);
            let index = node.index(position);
            node.split(index, &mut stock, &mut self.afterwards.owed);
        }
        Ok(())
    }

    /// Flushes what was unmapped or tightened so far, and hands over what was taken out. Dropping
    /// the cursor does the same.
    pub fn flush(&mut self) {
        self.began("Cursor::flush");
        self.afterwards.owed.pay();
    }

    /// What the table lives on.
    pub(crate) fn backend(&self) -> &'g C::Backend {
        self.afterwards.root.backend()
    }

    /// Tells a model that an operation begins.
    #[inline]
    pub(crate) fn began(&self, operation: &'static str) {
        self.afterwards.root.backend().began(operation);
    }

    /// The position, unless it is the end.
    #[inline]
    pub(crate) fn before_end(&self) -> Result<Offset, PositionError> {
        let end = self.tree.range().end;
        if self.position == end {
            return Err(PositionError::AtEnd { end: <Geo<C>>::end_vaddr(end) });
        }
        Ok(self.position)
    }

    /// From the position up to `end`, which may be the position.
    pub(crate) fn rest_until(&self, end: Vaddr) -> Result<Range<Offset>, PositionError> {
        let rest = self.position..self.tree.range().end;
        Ok(self.position..check_position::<C>(end, &rest)?)
    }

    /// The sub-tree and what is owed, to work on both.
    pub(crate) fn parts(&mut self) -> (&mut SubTree<'g, C>, &mut Obligation<'g, C::Backend>) {
        (&mut self.tree, &mut self.afterwards.owed)
    }

    /// Something below the covering node may be empty from now on.
    pub(crate) fn leaves_empty(&mut self) {
        self.may_leave_empty = true;
    }

    /// The position, which may be the end.
    pub(crate) fn position(&self) -> Offset {
        self.position
    }

    pub(crate) fn move_to(&mut self, position: Offset) {
        self.position = position;
    }
}

impl<C: Config> Drop for Cursor<'_, C> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.may_leave_empty || self.afterwards.owed.has_flush() || self.tree.top().is_empty() {
            self.settle();
        }
    }
}

impl<C: Config> Cursor<'_, C> {
    /// What is done before the locks are given back.
    // Out of line: a cursor that only maps or looks has nothing of the kind to do.
    #[inline(never)]
    fn settle(&mut self) {
        let mut top = self.tree.top();
        if self.may_leave_empty {
            top.prune(&mut self.afterwards.owed);
        }
        self.afterwards.owed.flush();
        let (is_empty, level) = (top.is_empty(), top.level());
        if is_empty && level < <Geo<C>>::ROOT {
            self.afterwards.emptied = Some((self.tree.range().start, level));
        }
    }
}

/// The level below, which exists.
pub(crate) fn lower(level: Level) -> Level {
    level.below().expect("leaves have no nodes below them")
}

/// The place of an address that a cursor of `range` may stand at.
pub(crate) fn check_position<C: Config>(
    vaddr: Vaddr,
    range: &Range<Offset>,
) -> Result<Offset, PositionError> {
    // The end is a position, too, also as the address behind the last one of a half.
    let is_end = vaddr == <Geo<C>>::end_vaddr(range.end);
    let place = if is_end { Some(range.end) } else { <Geo<C>>::offset(vaddr) };
    match place {
        Some(place) if range.start <= place && place <= range.end => {
            if place.is_aligned(FRAME_SIZE) {
                Ok(place)
            } else {
                Err(PositionError::Unaligned { vaddr })
            }
        }
        _ => {
            let start = position_vaddr::<C>(range.start, range);
            Err(PositionError::Outside { vaddr, range: start..<Geo<C>>::end_vaddr(range.end) })
        }
    }
}

/// A position in `range`, as an address.
#[inline]
pub(crate) fn position_vaddr<C: Config>(position: Offset, range: &Range<Offset>) -> Vaddr {
    if position == range.end { <Geo<C>>::end_vaddr(position) } else { <Geo<C>>::vaddr(position) }
}
