//! Roots that are never freed, so that other roots may share their entries: a kernel's.
//!
//! A [`Permanent`] root leads to a node at every managed index, and those entries stay. So a user's
//! root copies them once and sees all that the kernel maps later.
//!
//! *What CPUs stand on.* On a machine the code that calls this crate is itself translated. A root
//! without the kernel's half would take the ground away, and so would unmapping the wrong page of
//! the kernel. Neither can be done with safe code:
//!
//! * [`Permanent::carry`] vouches once for what the table maps;
//! * activation demands a root that shares such a table, in the format that hardware walks;
//! * [`Permanent::borrow`], through which the table can be changed, is `unsafe`.

use core::fmt;
use core::mem::ManuallyDrop;
use core::ops::Range;

use crate::address::Vaddr;
use crate::config::{Config, Geo};
use crate::cpu::ReadSide;
use crate::entry::ChildRef;
use crate::error::{LockError, OutOfMemory, Refusal};
use crate::geometry::Geometry;
use crate::node::{Node, NodeRef};
use crate::shared::SharedCursor;

/// A root that is never freed, so that other roots may share its entries: the kernel's.
pub struct Permanent<C: Config> {
    root: ManuallyDrop<Node<C>>,
    carries: bool,
}

impl<C: Config> fmt::Debug for Permanent<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Permanent({:?})", *self.root)
    }
}

impl<C: Config> Permanent<C> {
    /// Makes a root permanent. Its managed entries are grown first, since a root that shares them
    /// would not see one that appears later.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`] if the backend has no frame left; the root is then dropped.
    ///
    /// # Panics
    ///
    /// If the node is not a root.
    #[track_caller]
    pub fn new(root: Node<C>, section: &ReadSide<'_, C::Backend>) -> Result<Self, OutOfMemory> {
        const { assert!(C::ROOT_ENTRIES_STAY, "shared entries of a root must stay") };
        assert!(root.level() == <Geo<C>>::ROOT, "only a root is shared");
        let mut guard = root.borrow(section).lock();
        for index in C::MANAGED {
            let mut entry = guard.entry(index).expect("managed indices are indices");
            match entry.allocate_if_absent().map(drop) {
                Ok(()) => {}
                Err(Refusal::OutOfMemory) => return Err(OutOfMemory),
                Err(_) => assert!(
                    matches!(entry.child(), ChildRef::Node(_)),
                    "a root whose entries stay leads to nodes"
                ),
            }
        }
        drop(guard);
        Ok(Self { root: ManuallyDrop::new(root), carries: false })
    }

    /// Makes this the table that CPUs stand on: a root that shares its entries from now on can be
    /// activated.
    ///
    /// # Safety
    ///
    /// 1. The table maps what CPUs need while they run on a root that shares it: the code that
    ///    calls this crate, its stacks and its data, and the memory of the backend.
    /// 2. It goes on doing so. Besides [`borrow`](Self::borrow), no handle of any of its nodes is
    ///    left, owned or borrowed, that safe code could change it through.
    #[must_use = "the table carries from now on, under this name"]
    pub unsafe fn carry(self) -> Self {
        Self { carries: true, ..self }
    }

    /// The root, borrowed for a read-side section, to change what it maps.
    ///
    /// # Safety
    ///
    /// If the table [carries](Self::carry) CPUs, what is done through the result leaves what they
    /// stand on in its place.
    pub unsafe fn borrow<'g>(&'g self, section: &'g ReadSide<'_, C::Backend>) -> NodeRef<'g, C> {
        self.root.borrow(section)
    }

    /// A range of the table, to look at without locks.
    ///
    /// # Errors
    ///
    /// As for [`SharedCursor::new`].
    pub fn look<'g>(
        &'g self,
        section: &'g ReadSide<'_, C::Backend>,
        range: Range<Vaddr>,
    ) -> Result<SharedCursor<'g, C>, LockError> {
        SharedCursor::new(self.root.borrow(section), range)
    }

    /// Ends the permanence, for harnesses that account for every frame.
    ///
    /// # Safety
    ///
    /// No root that shares entries with this one exists any more.
    pub unsafe fn dismantle(self) -> Node<C> {
        ManuallyDrop::into_inner(self.root)
    }

    pub(crate) fn root(&self) -> &Node<C> {
        &self.root
    }

    /// Whether CPUs stand on it.
    pub(crate) fn carries(&self) -> bool {
        self.carries
    }
}
