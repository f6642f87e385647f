//! Readers that lock nothing: any number of them in one range, beside each other and a writer.
//!
//! A [`SharedCursor`] looks at entries without locks, inside a read-side section. It excludes no
//! other CPU and waits for none. In return it sees a range while others change it.
//!
//! # One slot: one instant
//!
//! What it says of one slot is true of one instant during the call. It follows entries from the
//! root with acquire loads.
//!
//! * If the way stays in place, the instant is that of the last load.
//! * If a node on the way is detached meanwhile, its entries stand still from then on, because the
//!   cursor that detaches it holds the locks of everything below. What is read there was true just
//!   before the detachment. The detachment lies within the call, because the way was still in place
//!   when the call began.
//! * If the node is detached by a [merge](crate::huge), its entries are cleared while their
//!   addresses are mapped by nothing. That, too, lies within the call, and may be what the call
//!   says.
//!
//! A search or a visit of many pages is one such query for each of its slots. It is no snapshot, as
//! a cursor's operation on many pages is one change after the other. A caller that needs a snapshot
//! locks the range, with a [`Cursor`](crate::cursor::Cursor).
//!
//! # All of them agree on one order
//!
//! Without a fence, two CPUs that each change a page and then query the other's could both read the
//! old value (store buffering). So every call begins with a full fence, [`QUERY_ORDER`]. Of two
//! such calls one comes first in the order of fences: if it is ours, the other CPU sees what we
//! changed before; if it is theirs, we see what they changed. With that, queries are linearizable
//! with the changes that cursors make, because each change, also a clear, releases what was done
//! before it. A cursor of its own needs no fence: it queries under the lock that the change was
//! made under.
//!
//! A visit fences once, not per slot. On a machine without multi-copy atomicity (none of x86-64,
//! Arm, RISC-V) two visits could see two changes in opposite orders.
//!
//! Nothing is remembered from one call to the next: a node that was on the way then may have been
//! detached before this call began.
//!
//! [`QUERY_ORDER`]: crate::sites::QUERY_ORDER

use core::fmt;
use core::ops::Range;

use crate::address::{Level, Offset, Vaddr};
use crate::config::{Config, Geo};
use crate::cursor::{Slot, check_position, position_vaddr};
use crate::entry::{ChildRef, ItemRef};
use crate::error::{LockError, PositionError};
use crate::geometry::{Arithmetic, Geometry};
use crate::node::{NodeRef, RootRef};
use crate::range_lock::check_range;
use crate::sites::site;
use crate::sync::Backend;

/// A range of a page table, looked at without locks, and a position in it.
pub struct SharedCursor<'g, C: Config> {
    root: RootRef<'g, C>,
    range: Range<Offset>,
    position: Offset,
}

impl<C: Config> fmt::Debug for SharedCursor<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedCursor({:?} in {:?})", self.vaddr(), self.range())
    }
}

impl<'g, C: Config> SharedCursor<'g, C> {
    /// Stands at the start of `range`.
    ///
    /// # Errors
    ///
    /// A range that is empty, reversed, unaligned or not managed by the table, or
    /// [`LockError::NotARoot`].
    #[inline]
    pub fn new(root: NodeRef<'g, C>, range: Range<Vaddr>) -> Result<Self, LockError> {
        let root = RootRef::of(root)?;
        let range = check_range::<C>(range)?;
        let position = range.start;
        Ok(Self { root, range, position })
    }

    /// The range.
    pub fn range(&self) -> Range<Vaddr> {
        <Geo<C>>::vaddrs(&self.range)
    }

    /// The position: an address of the range, or its end.
    pub fn vaddr(&self) -> Vaddr {
        position_vaddr::<C>(self.position, &self.range)
    }

    /// Moves to `vaddr`, forward or back.
    ///
    /// # Errors
    ///
    /// [`PositionError::Outside`] or [`PositionError::Unaligned`]; the cursor then stays.
    pub fn jump(&mut self, vaddr: Vaddr) -> Result<(), PositionError> {
        self.position = check_position::<C>(vaddr, &self.range)?;
        Ok(())
    }

    /// What is at the position: of a huge page all of it, of an absent entry all that it would
    /// translate, also where that goes beyond the range.
    ///
    /// # Errors
    ///
    /// [`PositionError::AtEnd`].
    #[inline]
    pub fn query(&self) -> Result<Slot<'g, C>, PositionError> {
        self.root.backend().began("SharedCursor::query");
        let (slot, item) = self.look()?;
        Ok(Slot { range: <Geo<C>>::vaddrs(&slot), item })
    }

    /// As [`query`](Self::query), with the places that the entry translates.
    #[inline]
    fn look(&self) -> Result<(Range<Offset>, Option<ItemRef<'g, C>>), PositionError> {
        if self.position == self.range.end {
            return Err(PositionError::AtEnd { end: <Geo<C>>::end_vaddr(self.range.end) });
        }
        let mut node = self.root.node();
        node.backend().fence(site!(QUERY_ORDER));
        loop {
            let index = <Geo<C>>::index_of(self.position, node.level());
            // One load decides: a second one could find the parts of a page that is there all the
            // time, and take it for absent.
            let item = match node.walk(index) {
                ChildRef::Node(child) => {
                    node = child;
                    continue;
                }
                ChildRef::Item(item) => Some(item),
                ChildRef::Absent | ChildRef::Shared => None,
            };
            let start = self.position.align_down(<Geo<C>>::node_span(node.level()));
            return Ok((<Geo<C>>::slot(start, node.level(), index), item));
        }
    }

    /// Moves to the next mapped address, which may be the position itself, and says what is
    /// there. `None` if there is none; the cursor is then at the end.
    pub fn find_next(&mut self) -> Option<Slot<'g, C>> {
        self.root.backend().began("SharedCursor::find_next");
        while let Ok((slot, item)) = self.look() {
            if item.is_some() {
                return Some(Slot { range: <Geo<C>>::vaddrs(&slot), item });
            }
            self.position = slot.end.min(self.range.end);
        }
        None
    }

    /// Shows every page from the position up to `end` to `look`, in order, with the address where
    /// it begins, which may be before the position. Moves to `end`.
    ///
    /// # Errors
    ///
    /// [`PositionError`] if `end` is no position behind this one.
    #[inline]
    pub fn visit(
        &mut self,
        end: Vaddr,
        mut look: impl FnMut(Vaddr, ItemRef<'g, C>),
    ) -> Result<(), PositionError> {
        self.root.backend().began("SharedCursor::visit");
        let end = check_position::<C>(end, &(self.position..self.range.end))?;
        self.root.backend().fence(site!(QUERY_ORDER));
        while self.position < end {
            let (node, start) = self.lowest_node();
            let rest = self.position..end;
            self.position = start.plus(<Geo<C>>::node_span(node.level())).min(end);
            let indices = <Geo<C>>::indices(start, node.level(), &rest);
            let slot = |index| <Geo<C>>::slot(start, node.level(), index);
            for (index, child) in node.children_at(indices, site!(WALK_ENTRY)) {
                match child {
                    ChildRef::Item(item) => look(<Geo<C>>::vaddr(slot(index).start), item),
                    ChildRef::Absent | ChildRef::Shared => {}
                    ChildRef::Node(_) => {
                        // Its leaf is descended to in its turn.
                        self.position = slot(index).start.max(rest.start);
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// The lowest node for the position, and where it begins.
    #[inline]
    fn lowest_node(&self) -> (NodeRef<'g, C>, Offset) {
        let node = self.root.walk_down(self.position, Level::LEAF);
        (node, self.position.align_down(<Geo<C>>::node_span(node.level())))
    }
}
