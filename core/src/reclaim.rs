//! From an entry to the free list: detach, mark stray, wait, drop.
//!
//! 1. *Detach*: under the lock of the parent an entry is cleared or replaced. From here on nobody
//!    new finds the way down, but walkers may be below already.
//! 2. *Mark stray*, every node of the sub-tree under its own lock, parents first and while the
//!    parent is still locked. Whoever locks one of them later sees the mark and starts over, so
//!    nothing is added to a sub-tree that is going to be dropped.
//! 3. *Flush*: hardware keeps translations, and the upper levels of walks, in caches of its own,
//!    which no grace period ends. They are flushed on every CPU that may have them.
//! 4. *Wait*: [`Detached`] hands the sub-tree to the [`Reclaim`] of the backend, when it is dropped
//!    at the latest. There it stays until every read-side section that may have seen it has ended.
//! 5. *Drop*: the last reference goes, and with it, by the drop-walk, everything below.
//!
//! What is detached by hand is flushed in the bluntest way, everything everywhere, and rights that
//! are tightened by hand ([`Entry::protect`](crate::entry::Entry::protect)) are the caller's to
//! flush. A [cursor](crate::cursor) knows what it has done, and sees to all of it.
//!
//! Handing over allocates nothing: a [`Batch`] is a list linked through the metadata of the frames
//! themselves. What waits is remembered without its type ([`Erased`]); the metadata knows which
//! configuration it belongs to.

use core::fmt;

use crate::address::{CpuId, Level, Paddr};
use crate::config::{Config, Kind};
use crate::entry::{Child, ChildRef};
use crate::gather::Gather;
use crate::geometry::Geometry;
use crate::item::{Frame, Item};
use crate::node::{Node, NodeRef};
use crate::reference::Reference;
use crate::sync::{Backend, PlainCell};

/// One reference to a frame whose type only its metadata knows.
///
/// Dropping it would leak the frame: it is given up with [`drop_as`](Self::drop_as).
#[must_use = "the reference leaks unless it is given up with `drop_as`"]
pub struct Erased<B: Backend> {
    reference: Reference<B>,
}

impl<B: Backend> fmt::Debug for Erased<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Erased({:?})", self.reference)
    }
}

impl<B: Backend> Erased<B> {
    pub(crate) fn new(reference: Reference<B>) -> Self {
        Self { reference }
    }

    pub(crate) fn into_reference(self) -> Reference<B> {
        self.reference
    }

    /// What the frame is used as: [`Kind::FRAME`], or the kind of a configuration.
    pub fn kind(&self) -> Kind {
        Kind(self.reference.borrow().metadata().kind.get())
    }

    /// Where the frame is.
    pub fn paddr(&self) -> Paddr {
        self.reference.frame()
    }

    /// Gives the reference up: as a frame, or as a node of configuration `C`.
    ///
    /// # Panics
    ///
    /// If the frame is of another kind.
    pub fn drop_as<C: Config<Backend = B>>(self) {
        let kind = self.kind();
        if kind == Kind::FRAME {
            drop(Frame::from_reference(self.reference));
        } else {
            assert!(kind == C::KIND, "a reference was given up as one of another kind");
            drop(Node::<C>::from_reference(self.reference));
        }
    }
}

/// Frames on their way out, linked through their own metadata.
#[derive(Debug)]
#[must_use = "the frames leak unless the batch is retired or emptied"]
pub struct Batch<B: Backend> {
    ends: Option<(Paddr, Paddr)>,
    backend: B,
}

impl<B: Backend> Batch<B> {
    /// A batch without frames.
    pub fn new(backend: &B) -> Self {
        Self { ends: None, backend: backend.clone() }
    }

    /// What the frames are of.
    pub(crate) fn backend(&self) -> &B {
        &self.backend
    }

    /// Whether there are no frames in the batch.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.ends.is_none()
    }

    /// Adds a reference at the front.
    ///
    /// # Panics
    ///
    /// If it is one of another machine.
    pub fn push(&mut self, reference: Erased<B>) {
        assert!(*reference.reference.backend() == self.backend, "a batch is of one machine");
        let frame = reference.paddr();
        let next = self.ends.map_or(frame, |(first, _)| first);
        // A frame that links to itself is the last one.
        reference.reference.borrow().metadata().link.set(next.as_u64());
        let last = self.ends.map_or(frame, |(_, last)| last);
        self.ends = Some((frame, last));
        drop(reference.reference.into_raw());
    }

    /// Adds all of `other` at the front.
    ///
    /// # Panics
    ///
    /// If it is a batch of another machine.
    pub fn append(&mut self, other: Self) {
        assert!(other.backend == self.backend, "a batch is of one machine");
        self.ends = match (other.ends, self.ends) {
            (Some((first, middle)), Some((next, last))) => {
                // SAFETY: the batch owns a reference to every frame in it.
                unsafe { self.backend.metadata(middle) }.link.set(next.as_u64());
                Some((first, last))
            }
            (other, own) => other.or(own),
        };
    }

    /// Takes the reference at the front.
    pub fn pop(&mut self) -> Option<Erased<B>> {
        let (first, last) = self.ends?;
        // SAFETY: `push` gave this reference up to the batch, and it is taken out once, here.
        let reference = unsafe { Reference::from_raw(self.backend.clone(), first) };
        let next = Paddr::new(reference.borrow().metadata().link.get());
        self.ends = (first != last).then_some((next, last));
        Some(Erased { reference })
    }

    /// Gives up every reference in the batch.
    pub fn drop_all(mut self) {
        while let Some(reference) = self.pop() {
            self.backend.drop_erased(reference);
        }
    }

    /// First and last frame, to keep in cells; see [`Batch::from_ends`].
    pub(crate) fn into_ends(self) -> Option<(Paddr, Paddr)> {
        self.ends
    }

    /// # Safety
    ///
    /// [`into_ends`](Self::into_ends) of a batch of `backend` gave these ends, and no other batch
    /// was made of them.
    pub(crate) unsafe fn from_ends(backend: &B, ends: Option<(Paddr, Paddr)>) -> Self {
        Self { ends, backend: backend.clone() }
    }
}

/// Grace periods: what detached frames wait for.
///
/// The core ships [`Monitor`](crate::grace::Monitor); a kernel that has an RCU of its own plugs
/// it in here.
///
/// # Safety
///
/// The implementor promises that a batch given to [`retire`](Self::retire) is not dropped before
/// every read-side section that had begun when `retire` was called has ended, on every CPU that
/// is online; and that whatever happened in those sections, and before the retirement, happens
/// before the drop.
pub unsafe trait Reclaim<B: Backend>: Send + Sync {
    /// `cpu` may enter read-side sections from now on. False, and no change, if it could already.
    fn online(&self, cpu: CpuId) -> bool;

    /// `cpu` is in no section and enters none until it is online again.
    ///
    /// # Safety
    ///
    /// That is so: the caller has the CPU to itself.
    unsafe fn offline(&self, backend: &B, cpu: CpuId);

    /// A section begins on the calling CPU.
    fn enter(&self, _cpu: CpuId) {}

    /// A section ends on the calling CPU.
    fn leave(&self, _cpu: CpuId) {}

    /// `cpu` is in no section at this moment.
    ///
    /// # Safety
    ///
    /// That is so: the caller has the CPU to itself.
    unsafe fn quiescent(&self, backend: &B, cpu: CpuId);

    /// Drops `batch` after a grace period.
    ///
    /// # Safety
    ///
    /// This is the reclamation of `backend`, and the batch is one of `backend`.
    unsafe fn retire(&self, backend: &B, batch: Batch<B>);
}

/// What an entry owned before it was changed. It is given to the reclamation, not to the caller:
/// walkers may still be looking at it.
#[derive(Debug)]
pub struct Detached<C: Config> {
    child: Child<C>,
    backend: C::Backend,
}

impl<C: Config> Detached<C> {
    pub(crate) fn new(backend: &C::Backend, child: Child<C>) -> Self {
        Self { child, backend: backend.clone() }
    }

    /// What it is.
    pub fn child(&self) -> &Child<C> {
        &self.child
    }

    /// Whether there was something.
    pub fn is_present(&self) -> bool {
        !matches!(self.child, Child::Absent)
    }

    /// Hands it to the reclamation now. Dropping it does the same.
    pub fn retire(self) {}
}

impl<C: Config> Drop for Detached<C> {
    fn drop(&mut self) {
        if !self.is_present() {
            return;
        }
        let mut gather = Gather::new(&self.backend);
        // Nobody knows here which addresses these were, and who used them. Also what owns nothing
        // has been translated.
        gather.owe_everything();
        let erased = match core::mem::replace(&mut self.child, Child::Absent) {
            Child::Absent => None,
            Child::Node(node) => Some(node.erase()),
            Child::Item(item) => item.retire(),
        };
        if let Some(erased) = erased {
            gather.push(erased);
        }
    }
}

/// Marks a node, and all nodes below it, stray. The caller has detached it and still holds the
/// lock of its former parent, so nobody who follows the protocol waits for us from above.
pub(crate) fn mark_stray_below<C: Config>(node: NodeRef<'_, C>) {
    let mut guard = node.lock();
    guard.mark_stray();
    if guard.level() == Level::LEAF {
        return;
    }
    let mut left = guard.children();
    let mut indices = 0..<<C::Backend as Backend>::Geometry as Geometry>::ENTRIES;
    while left > 0 {
        let index = indices.next().expect("a node counts more children than it has");
        match guard.child(index) {
            ChildRef::Absent => continue,
            ChildRef::Node(child) => mark_stray_below(child),
            ChildRef::Item(_) | ChildRef::Shared => {}
        }
        left -= 1;
    }
}
