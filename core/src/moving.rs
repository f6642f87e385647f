//! Moving: pages from some addresses to others, of the same table or of another one.
//!
//! The pages keep their frames, their rights, and what hardware has noted of them; what owns them
//! goes along. This is what `mremap` asks of a page table.
//!
//! # The order of steps
//!
//! A piece at a time, consecutive entries of one node,
//!
//! 1. the pages are *taken out*, each with a read-modify-write that tells what hardware has noted;
//! 2. what CPUs may hold of the old addresses is *flushed*;
//! 3. the pages are *put* at the new addresses.
//!
//! So no CPU uses a page at both. That is more than memory needs, since both addresses would lead
//! to one frame. But nothing that happens at the new addresses, under locks of other CPUs later,
//! knows of the old ones: a page that is unmapped there is flushed there, and freed. Hence a
//! translation of the old address must be gone before the new one can be locked (CVE-2018-18281;
//! linux eb66ae030829). It is gone even before it can be used.
//!
//! In between, a page is at neither address. A CPU that uses it faults, and finds it when it has
//! waited for the range.
//!
//! *Nodes stay.* A leaf could be hung up elsewhere as a whole, with one store. But readers and
//! CPUs that wait for its lock have found it by its old addresses. It would have to be stray for
//! these, and not for those that find it by its new ones.
//!
//! *Nothing is half done.* The nodes that are missing at the new addresses, and those for the parts
//! of huge pages that do not go there as they are, are counted and [set aside](crate::stock) first.
//! A huge page stays one if the range has all of it and its new address is aligned to it.

use core::ops::Range;

use crate::address::{FRAME_SIZE, Level, Offset, Vaddr};
use crate::config::{Config, Geo};
use crate::cursor::{Cursor, check_position};
use crate::entry::ChildRef;
use crate::error::MoveError;
use crate::geometry::{Arithmetic, Geometry, LEVELS_MAX};
use crate::obligation::Obligation;
use crate::range_lock::Locked;
use crate::stock::Stock;

/// The most entries of a piece. They wait on the stack, for one flush.
const PIECE: usize = 128;

impl<'g, C: Config> Cursor<'g, C> {
    /// Moves all pages from the position up to `end` to the addresses from `to` on, which are in
    /// the range too, and the cursor to `end`. Returns how many frames of the smallest size were
    /// moved. Holes stay holes.
    ///
    /// When this returns, no CPU translates through the old addresses. See [`crate::moving`].
    ///
    /// # Errors
    ///
    /// [`MoveError`]: `end` or `to` is no such position, the pages would be where some of them are
    /// or where something is mapped, or memory for nodes ran out. Table and position are then as
    /// they were.
    pub fn move_pages(&mut self, end: Vaddr, to: Vaddr) -> Result<u64, MoveError> {
        self.began("Cursor::move_pages");
        let range = self.rest_until(end)?;
        let all = self.parts().0.range().clone();
        let to = check_position::<C>(to, &all).map_err(MoveError::Destination)?;
        let first = range.start.max(to);
        if first < range.end && first < to.plus(range.end.0 - range.start.0) {
            return Err(MoveError::Overlap { vaddr: <Geo<C>>::vaddr(first) });
        }
        Move { from: self, into: None, way: Way { range, to } }.carry_out()
    }

    /// Moves all pages from the position up to `end` to where the cursor `into` is: a cursor of
    /// another range of the table, or of another table of the same machine. Both move on. Returns
    /// how many frames of the smallest size were moved.
    ///
    /// A CPU takes the second cursor with [`try_lock`](Self::try_lock), or makes sure in another
    /// way that no two CPUs wait for each other.
    ///
    /// ```
    /// # use weft_core::{address::Vaddr, config::Config, cursor::Cursor, node::NodeRef};
    /// # use weft_core::error::{LockError, MoveError};
    /// # use core::ops::Range;
    /// /// Moves pages to another place of the same length. False if another CPU is at work there.
    /// fn relocate<C: Config>(
    ///     root: NodeRef<'_, C>,
    ///     old: Range<Vaddr>,
    ///     new: Range<Vaddr>,
    /// ) -> Result<bool, MoveError> {
    ///     let end = old.end;
    ///     let mut from = Cursor::lock(root, old).expect("a range of the table");
    ///     match Cursor::try_lock(root, new) {
    ///         Ok(mut into) => from.move_pages_into(end, &mut into).map(|_frames| true),
    ///         Err(LockError::WouldWait) => Ok(false),
    ///         Err(error) => panic!("{error}"),
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`MoveError`]; both tables and both positions are then as they were.
    ///
    /// # Panics
    ///
    /// If the two are on different machines.
    pub fn move_pages_into(&mut self, end: Vaddr, into: &mut Self) -> Result<u64, MoveError> {
        self.began("Cursor::move_pages_into");
        assert!(into.backend() == self.backend(), "the other table is one of another machine");
        let range = self.rest_until(end)?;
        let to = into.position();
        let behind = to.plus(range.end.0 - range.start.0);
        let moved = Move { from: self, into: Some(into), way: Way { range, to } }.carry_out()?;
        into.move_to(behind);
        Ok(moved)
    }
}

/// From where to where pages are moved.
struct Way {
    range: Range<Offset>,
    to: Offset,
}

impl Way {
    /// The new place of an old one.
    fn new_place(&self, old: Offset) -> Offset {
        self.to.plus(old.0 - self.range.start.0)
    }

    /// Whether a page at `slot` goes to its new place as it is, and is not split.
    fn keeps(&self, slot: &Range<Offset>) -> bool {
        self.has_all(slot) && self.new_place(slot.start).is_aligned(slot.end.0 - slot.start.0)
    }

    /// Whether all of `slot` is moved.
    fn has_all(&self, slot: &Range<Offset>) -> bool {
        self.range.start <= slot.start && slot.end <= self.range.end
    }
}

/// Pages that are moved: from a range of one cursor, to a range of the same or another one.
struct Move<'a, 'g, C: Config> {
    from: &'a mut Cursor<'g, C>,
    into: Option<&'a mut Cursor<'g, C>>,
    way: Way,
}

/// What is counted before anything is moved.
struct Needed {
    nodes: usize,
    frames: u64,
    /// Of each level, the node at the new addresses that was counted, or found, last.
    last: [Option<u64>; LEVELS_MAX],
}

/// Entries that were taken out, as they follow each other from a place on.
struct Piece {
    start: Offset,
    level: Level,
    entries: [u64; PIECE],
    count: usize,
    /// How much of an address space an entry has.
    span: u64,
}

impl Piece {
    fn end(&self) -> Offset {
        self.start.plus(self.count as u64 * self.span)
    }
}

impl<'g, C: Config> Move<'_, 'g, C> {
    /// The cursor at the new addresses.
    fn into(&mut self) -> &mut Cursor<'g, C> {
        match &mut self.into {
            Some(into) => into,
            None => self.from,
        }
    }

    fn carry_out(&mut self) -> Result<u64, MoveError> {
        let new = self.way.to..self.way.new_place(self.way.range.end);
        let end = self.into().parts().0.range().end;
        if new.end > end {
            let (vaddr, length) = (<Geo<C>>::vaddr(new.start), new.end.0 - new.start.0);
            return Err(MoveError::TooLong { vaddr, length, end: <Geo<C>>::end_vaddr(end) });
        }
        if self.way.range.is_empty() {
            return Ok(0);
        }
        if let Some(found) = self.into().next_mapped(&new) {
            return Err(MoveError::AlreadyMapped { vaddr: <Geo<C>>::vaddr(found) });
        }
        let needed = self.count();
        let mut stock = Stock::of(self.from.backend(), needed.nodes)?;
        let mut position = self.way.range.start;
        while let Some(piece) = self.take_piece(&mut position, &mut stock) {
            self.put_piece(&piece, &mut stock);
        }
        let end = self.way.range.end;
        self.from.move_to(end);
        Ok(needed.frames)
    }

    /// Counts the nodes that it takes, and the frames.
    fn count(&mut self) -> Needed {
        let mut needed = Needed { nodes: 0, frames: 0, last: [None; LEVELS_MAX] };
        let mut position = self.way.range.start;
        while position < self.way.range.end {
            let node = self.from.parts().0.seek(position, Level::LEAF);
            let rest = position..self.way.range.end;
            let (level, indices) = (node.level(), node.indices(&rest));
            let start = node.slot(0).start;
            position = start.plus(<Geo<C>>::node_span(level));
            for (index, child) in node.children(indices) {
                let slot = <Geo<C>>::slot(start, level, index);
                match child {
                    ChildRef::Item(_) => self.count_page(level, &slot, &mut needed),
                    ChildRef::Absent | ChildRef::Shared => {}
                    ChildRef::Node(_) => {
                        // Its leaf is sought in its turn.
                        position = slot.start.max(rest.start);
                        break;
                    }
                }
            }
        }
        needed
    }

    /// Counts a page of `level` at `slot`, or the parts that it is moved in.
    fn count_page(&mut self, level: Level, slot: &Range<Offset>, needed: &mut Needed) {
        if self.way.keeps(slot) {
            needed.frames += <Geo<C>>::entry_frames(level);
            let place = self.way.new_place(slot.start);
            self.count_way(level, place, needed);
            return;
        }
        let below = level.below().expect("the smallest pages stay whole");
        if self.way.has_all(slot) {
            self.count_parts(below, slot, needed);
            return;
        }
        needed.nodes += 1;
        for index in <Geo<C>>::indices(slot.start, below, &self.way.range) {
            self.count_page(below, &<Geo<C>>::slot(slot.start, below, index), needed);
        }
    }

    /// Counts the parts that a page at `slot` is moved in, which goes where it is not aligned: all
    /// of one level, `below` or lower. They may be too many to be counted one by one.
    fn count_parts(&mut self, below: Level, slot: &Range<Offset>, needed: &mut Needed) {
        let (mut place, length) = (self.way.new_place(slot.start), slot.end.0 - slot.start.0);
        let end = place.plus(length);
        let (mut level, mut splits) = (below, 1);
        while !place.is_aligned(<Geo<C>>::entry_span(level)) {
            splits += length / <Geo<C>>::entry_span(level);
            level = level.below().expect("the smallest pages are aligned everywhere");
        }
        needed.nodes += splits as usize;
        needed.frames += length / FRAME_SIZE;
        while place < end {
            self.count_way(level, place, needed);
            let span = <Geo<C>>::node_span(level);
            place = place.align_down(span).plus(span);
        }
    }

    /// Counts the nodes that are missing for an entry of `level` at a new place.
    fn count_way(&mut self, level: Level, place: Offset, needed: &mut Needed) {
        let number = |level| place.0 / <Geo<C>>::node_span(level);
        let last = |level: Level| usize::from(level.as_u8()) - 1;
        if needed.last[last(level)] == Some(number(level)) {
            return;
        }
        let found = self.into().parts().0.seek(place, level).level();
        let mut missing = level;
        while missing < found {
            if needed.last[last(missing)] != Some(number(missing)) {
                needed.nodes += 1;
                needed.last[last(missing)] = Some(number(missing));
            }
            missing = missing.above();
        }
        needed.last[last(level)] = Some(number(level));
    }

    /// Takes out the next piece, from `position` on, and flushes it. `None` if there is none.
    fn take_piece(&mut self, position: &mut Offset, stock: &mut Stock<C>) -> Option<Piece> {
        let end = self.way.range.end;
        while *position < end {
            let (tree, owed) = self.from.parts();
            let mut node = tree.seek(*position, Level::LEAF);
            let index = node.index(*position);
            let slot = node.slot(index);
            match node.child(index) {
                ChildRef::Item(_) if self.way.keeps(&slot) => {
                    let piece = node.take_piece(&(*position..end), owed);
                    self.from.leaves_empty();
                    self.from.parts().1.flush();
                    *position = piece.end().min(end);
                    return Some(piece);
                }
                ChildRef::Item(_) => node.split(index, stock, owed),
                _ => *position = slot.end.min(end),
            }
        }
        None
    }

    /// Puts a piece at its new place.
    fn put_piece(&mut self, piece: &Piece, stock: &mut Stock<C>) {
        let (level, mut place) = (piece.level, self.way.new_place(piece.start));
        let (tree, owed) = self.into().parts();
        for &bits in &piece.entries[..piece.count] {
            if bits != 0 {
                loop {
                    let mut node = tree.seek(place, level);
                    let index = node.index(place);
                    if node.level() > level {
                        node.grow(index, stock, owed);
                        continue;
                    }
                    if node.is_vacant(index) {
                        node.detach(index, owed);
                    }
                    node.put_down(index, bits, owed);
                    break;
                }
            }
            place = place.plus(piece.span);
        }
    }
}

impl<C: Config> Locked<'_, '_, C> {
    /// Takes out the pages of this node in `range`, as many as a piece has room for.
    fn take_piece(
        &mut self,
        range: &Range<Offset>,
        owed: &mut Obligation<'_, C::Backend>,
    ) -> Piece {
        let indices = self.indices(range);
        let (start, level) = (self.slot(indices.start).start, self.level());
        let span = <Geo<C>>::entry_span(level);
        let mut piece = Piece { start, level, entries: [0; PIECE], count: 0, span };
        for (entry, index) in piece.entries.iter_mut().zip(indices) {
            let slot = self.slot(index);
            let whole = range.start <= slot.start && slot.end <= range.end;
            match self.child(index) {
                ChildRef::Item(_) if whole => {
                    let flush = self.flush_of(index);
                    *entry = self.entry(index).carry_away(flush, owed);
                }
                ChildRef::Absent => {}
                _ => break,
            }
            piece.count += 1;
        }
        piece
    }

    /// Puts a page that was taken out elsewhere at an absent entry of the range.
    fn put_down(&mut self, index: usize, bits: u64, owed: &mut Obligation<'_, C::Backend>) {
        owed.settle(&self.addresses(index));
        let flush = self.flush_of(index);
        self.entry(index).put_down(bits, flush, owed);
    }
}
