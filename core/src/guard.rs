//! A node's lock, held.
//!
//! [`Guard`] is what a locked node is worked on through: it gives entries to change, the count of
//! children and the stray flag, and unlocks when dropped. A range owns the locks of many nodes and
//! works on one at a time: the others have no guard then, and belong to its
//! [sub-tree](crate::range_lock). For each held lock there is one of either, never both.
//!
//! A lock is taken by waiting for it or by trying it.

use core::fmt;
use core::marker::PhantomData;

use crate::address::Level;
use crate::config::{Config, Geo};
use crate::entry::{ChildRef, Entry};
use crate::error::{IndexOutOfRange, LockError};
use crate::geometry::Geometry;
use crate::node::{Metadata, NodeRef};
use crate::sites::{Site, site};
use crate::sync::{Backend, Event, PlainCell, RawLock, Word};

/// One way of taking a lock: [`waiting`] for it, or [`trying`] it.
pub(crate) trait Take<'g, C: Config>:
    Fn(NodeRef<'g, C>) -> Result<Guard<'g, C>, LockError> + Copy
{
}

impl<'g, C: Config, F> Take<'g, C> for F where
    F: Fn(NodeRef<'g, C>) -> Result<Guard<'g, C>, LockError> + Copy
{
}

/// Waits.
#[inline]
pub(crate) fn waiting<'g, C: Config>(node: NodeRef<'g, C>) -> Result<Guard<'g, C>, LockError> {
    Ok(node.lock())
}

/// Gives up.
#[inline]
pub(crate) fn trying<'g, C: Config>(node: NodeRef<'g, C>) -> Result<Guard<'g, C>, LockError> {
    node.try_lock().ok_or(LockError::WouldWait)
}

/// The lock of a node, held. Dropping it unlocks, on the CPU that locked: it does not travel.
pub struct Guard<'g, C: Config> {
    node: NodeRef<'g, C>,
    _stays_on_its_cpu: PhantomData<*const ()>,
}

impl<C: Config> fmt::Debug for Guard<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guard({:?})", self.node)
    }
}

impl<'g, C: Config> Guard<'g, C> {
    /// A guard for a lock that is held.
    ///
    /// # Safety
    ///
    /// The lock is held on behalf of the caller and no guard for it exists: it was just taken, or
    /// made held before the node was published, or its guard was kept from being dropped.
    pub(crate) unsafe fn of(node: NodeRef<'g, C>) -> Self {
        Self { node, _stays_on_its_cpu: PhantomData }
    }

    /// The node.
    pub fn node(&self) -> NodeRef<'g, C> {
        self.node
    }

    /// The level of the node.
    pub fn level(&self) -> Level {
        self.node.level()
    }

    /// How many managed entries are present.
    #[track_caller]
    pub fn children(&self) -> u16 {
        self.node.backend().began("Guard::children");
        self.metadata().children.get()
    }

    /// Whether the node has been detached: then let go and start over.
    #[track_caller]
    pub fn is_stray(&self) -> bool {
        self.node.backend().began("Guard::is_stray");
        self.metadata().stray.get()
    }

    /// Entry `index`, to look at and to change.
    ///
    /// # Errors
    ///
    /// [`IndexOutOfRange`] if the node has no such entry.
    pub fn entry(&mut self, index: usize) -> Result<Entry<'_, 'g, C>, IndexOutOfRange> {
        let entries = <Geo<C>>::ENTRIES;
        if index >= entries {
            return Err(IndexOutOfRange { index, entries });
        }
        Ok(Entry::new(self, index))
    }

    /// The bits of entry `index`.
    ///
    /// # Panics
    ///
    /// If `index` is out of range.
    #[track_caller]
    pub fn read_raw(&self, index: usize) -> u64 {
        self.node.backend().began("Guard::read_raw");
        self.node.frame_ref().entry(index).load(site!(ENTRY_UNDER_LOCK))
    }

    /// Stores the bits of entry `index`, publishing with `site`.
    ///
    /// # Safety
    ///
    /// 1. The caller keeps the count of children, and the ownership of what the entry led and
    ///    leads to.
    /// 2. Hardware cannot be writing the entry, or the caller does not need what it writes.
    /// 3. What the entry leads to is complete, and `site` publishes it.
    /// 4. What the entry led to is flushed before it is freed, or before the lock is given back if
    ///    another translation may be put there.
    #[track_caller]
    pub unsafe fn write_raw(&mut self, index: usize, bits: u64, site: &'static Site) {
        self.node.frame_ref().entry(index).store(bits, site);
    }

    #[track_caller]
    pub(crate) fn mark_stray(&mut self) {
        self.metadata().stray.set(true);
        self.node.backend().observe(Event::MarkedStray(self.node.paddr()));
    }

    #[track_caller]
    pub(crate) fn set_children(&mut self, children: u16) {
        self.metadata().children.set(children);
    }

    /// The child at `index`, looked at under the lock.
    #[track_caller]
    pub(crate) fn child(&self, index: usize) -> ChildRef<'g, C> {
        self.node.child_under_lock(index)
    }

    /// Makes this the child of an entry that is about to lead here. False if it is, or was, the
    /// child of one already.
    #[track_caller]
    pub(crate) fn attach(&mut self) -> bool {
        let attached = &self.metadata().attached;
        let fresh = !attached.get();
        attached.set(true);
        fresh
    }

    #[track_caller]
    fn metadata(&self) -> &'g Metadata<C::Backend> {
        self.node.frame_ref().metadata()
    }
}

impl<C: Config> Drop for Guard<'_, C> {
    fn drop(&mut self) {
        self.metadata().lock.release();
    }
}
