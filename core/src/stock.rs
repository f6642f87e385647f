//! Nodes set aside before anything is changed, so that a change cannot run out of memory half-way.
//!
//! An operation that may need nodes counts them first, under its locks, where the count cannot
//! change any more. It takes all of them into a stock, which either succeeds or leaves
//! everything as it was. The changes that follow take from the stock and cannot fail. What is
//! left over is freed at once when the stock is dropped, because no other CPU has seen it. While an
//! operation of a large range fills its stock, other CPUs find that much less memory.
//!
//! Nodes in stock have no level and no entries yet. `Stock::take` says what is in one: a split
//! writes the parts of a huge page, and nothing is written twice.

use crate::address::Level;
use crate::config::Config;
use crate::error::OutOfMemory;
use crate::node::Node;
use crate::reclaim::Batch;
use crate::sync::PlainCell;

/// Nodes without level and entries, linked through their metadata.
#[derive(Debug)]
pub(crate) struct Stock<C: Config> {
    nodes: Batch<C::Backend>,
}

impl<C: Config> Stock<C> {
    /// A stock of `count` nodes.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`] if the backend has fewer frames left; those go back.
    #[track_caller]
    pub(crate) fn of(backend: &C::Backend, count: usize) -> Result<Self, OutOfMemory> {
        let mut stock = Self { nodes: Batch::new(backend) };
        for _ in 0..count {
            stock.nodes.push(Node::<C>::allocate_blank(backend)?.erase());
        }
        Ok(stock)
    }

    /// A node of `level` with these entries, the child of an entry that is about to be written,
    /// `children` of them present.
    ///
    /// # Panics
    ///
    /// If fewer nodes were set aside than are taken.
    #[track_caller]
    pub(crate) fn take(
        &mut self,
        level: Level,
        children: usize,
        fill: impl FnMut(usize) -> u64,
    ) -> Node<C> {
        let reference = self.nodes.pop().expect("as many nodes were set aside as are needed");
        let node = Node::<C>::from_erased(reference);
        node.shape(level, fill);
        let metadata = node.frame_ref().metadata();
        metadata.children.set(children as u16);
        metadata.attached.set(true);
        node
    }
}

impl<C: Config> Drop for Stock<C> {
    fn drop(&mut self) {
        while let Some(reference) = self.nodes.pop() {
            drop(Node::<C>::from_erased(reference));
        }
    }
}
