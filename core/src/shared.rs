//! Readers that lock nothing: any number of them in one range, beside each other and a writer.
//!
//! A [`SharedCursor`] looks at entries without locks, inside a read-side section: it excludes
//! nobody and nobody makes it wait. In return it sees a range while others change it.
//!
//! *What it says of one slot is true of one instant during the call.* It follows entries from the
//! root with acquire loads. If the way stays in place, the instant is that of the last load. If
//! a node on the way has been detached meanwhile, its entries stand still from then on (the cursor
//! that detaches it holds the locks of all that is below), so what is read there was true just
//! before the detachment, which lies within the call, because the way was still in place when it
//! began. Or they have been cleared by a [merge](crate::huge), while their addresses were mapped by
//! nothing: that, too, lies within the call, and may be what it says.
//! A search or a visit of many pages is one such query for each of its slots, not a snapshot, as a
//! cursor's operation on many pages is one change after the other. Who needs a snapshot locks the
//! range, with a [`Cursor`](crate::cursor::Cursor).
//!
//! *All of them agree on one order.* A CPU's own change may still be in its store buffer when it
//! goes on to ask for somebody else's; two CPUs could then both miss the other's, as if each had
//! asked first. So every call begins with a full fence, [`QUERY_ORDER`]: of two such calls one
//! comes first in the order of fences. If it is ours, whoever asks second sees what we changed
//! before; if it is theirs, we see what they did. With that, queries are linearizable with the
//! changes that cursors make: each of them, also a clear, releases what was done before it. (A
//! cursor of its own needs no fence: it asks under the lock that the change was made under.) A
//! visit has one fence for all of its slots: where two CPUs' changes may reach two others in
//! different orders, which x86-64, Arm and RISC-V exclude, it may disagree with another reader.
//!
//! For the same reason nothing is remembered from one call to the next: a node that was on the way
//! then may have been detached before this call began.

use core::fmt;
use core::ops::Range;

use crate::address::Vaddr;
use crate::config::Config;
use crate::cursor::{Slot, check_position};
use crate::entry::{ChildRef, ItemRef};
use crate::error::{PositionError, RangeError};
use crate::geometry::Geometry;
use crate::node::NodeRef;
use crate::range_lock::check_range;
use crate::sites::{QUERY_ORDER, WALK_ENTRY};
use crate::sync::Backend;

type Geo<C> = <<C as Config>::Backend as Backend>::Geometry;

/// A range of a page table, looked at without locks, and a position in it.
pub struct SharedCursor<'g, C: Config> {
    root: NodeRef<'g, C>,
    range: Range<Vaddr>,
    vaddr: Vaddr,
}

impl<C: Config> fmt::Debug for SharedCursor<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedCursor({:?} in {:?})", self.vaddr, self.range)
    }
}

impl<'g, C: Config> SharedCursor<'g, C> {
    /// Stands at the start of `range`.
    ///
    /// # Errors
    ///
    /// A range that is empty, reversed, unaligned or not managed by the table, or
    /// [`RangeError::NotARoot`].
    #[inline]
    pub fn new(root: NodeRef<'g, C>, range: Range<Vaddr>) -> Result<Self, RangeError> {
        check_range::<C>(root, &range)?;
        let vaddr = range.start;
        Ok(Self { root, range, vaddr })
    }

    /// The range.
    pub fn range(&self) -> &Range<Vaddr> {
        &self.range
    }

    /// The position: an address of the range, or its end.
    pub fn vaddr(&self) -> Vaddr {
        self.vaddr
    }

    /// Moves to `vaddr`, forward or back.
    ///
    /// # Errors
    ///
    /// [`PositionError::Outside`] or [`PositionError::Unaligned`]; the cursor then stays.
    pub fn jump(&mut self, vaddr: Vaddr) -> Result<(), PositionError> {
        self.vaddr = check_position(vaddr, self.range.clone())?;
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
        let end = self.range.end;
        if self.vaddr == end {
            return Err(PositionError::AtEnd { end });
        }
        let mut node = self.root;
        node.backend().fence(&QUERY_ORDER);
        loop {
            let index = <Geo<C>>::index(self.vaddr, node.level());
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
            let start = self.vaddr.align_down(<Geo<C>>::node_span(node.level()));
            return Ok(Slot { range: slot(node, start, index), item });
        }
    }

    /// Moves to the next mapped address, which may be the position itself, and says what is
    /// there. `None` if there is none; the cursor is then at the end.
    pub fn find_next(&mut self) -> Option<Slot<'g, C>> {
        while self.vaddr < self.range.end {
            let slot = self.query().ok()?;
            if slot.item.is_some() {
                return Some(slot);
            }
            self.vaddr = slot.range.end.min(self.range.end);
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
        check_position(end, self.vaddr..self.range.end)?;
        self.root.backend().fence(&QUERY_ORDER);
        while self.vaddr < end {
            let (node, start) = self.lowest_node();
            let rest = self.vaddr..end;
            self.vaddr = start.plus(<Geo<C>>::node_span(node.level())).min(end);
            let indices = <Geo<C>>::indices(start, node.level(), &rest);
            for (index, child) in node.children_at(indices, &WALK_ENTRY) {
                match child {
                    ChildRef::Item(item) => look(slot(node, start, index).start, item),
                    ChildRef::Absent | ChildRef::Shared => {}
                    ChildRef::Node(_) => {
                        // Its leaf is descended to in its turn.
                        self.vaddr = slot(node, start, index).start.max(rest.start);
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// The lowest node for the position, and where it begins.
    #[inline]
    fn lowest_node(&self) -> (NodeRef<'g, C>, Vaddr) {
        let (mut node, vaddr) = (self.root, self.vaddr);
        while let ChildRef::Node(child) = node.walk(<Geo<C>>::index(vaddr, node.level())) {
            node = child;
        }
        (node, vaddr.align_down(<Geo<C>>::node_span(node.level())))
    }
}

/// The addresses that entry `index` of a node translates.
#[inline]
fn slot<C: Config>(node: NodeRef<'_, C>, start: Vaddr, index: usize) -> Range<Vaddr> {
    <Geo<C>>::slot(start, node.level(), index)
}
