//! From an entry to the free list: detach, mark stray, wait, drop.
//!
//! 1. *Detach*: under the lock of the parent an entry is cleared or replaced. From here on no new
//!    walker finds the way down, but some may be below already.
//! 2. *Mark stray*, every node of the sub-tree under its own lock, parents first and while the
//!    parent is still locked. A CPU that locks one of them later sees the mark and starts over, so
//!    nothing is added to a sub-tree that is going to be dropped.
//! 3. *Flush*: hardware keeps translations, and the upper levels of walks, in caches of its own,
//!    which no grace period ends. They are flushed on every CPU that may have them.
//! 4. *Wait*: the sub-tree goes to the [`Reclaim`] of the backend. There it stays until every
//!    read-side section that may have seen it has ended.
//! 5. *Drop*: the last reference goes, and with it, by the drop-walk, everything below.
//!
//! Steps 3 and 4 are an [obligation](crate::obligation), of a cursor or of a [`Detached`].
//!
//! Handing over allocates nothing: a [`Batch`] is a list linked through the metadata of the frames
//! themselves. What waits is remembered without its type ([`Erased`]); the metadata knows which
//! configuration it belongs to.

use core::fmt;

use crate::address::{CpuId, Paddr};
use crate::config::{Config, Kind, Tables};
use crate::entry::ChildRef;
use crate::obligation::Obligation;
use crate::reference::{FrameRef, Reference};
use crate::sync::{Backend, PlainCell};

/// One reference to a frame whose type only its metadata knows.
///
/// Dropping it would leak the frame: it is given up with [`give_up`](Self::give_up).
#[must_use = "the reference leaks unless it is given up"]
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

    /// The frame, borrowed.
    pub(crate) fn frame_ref(&self) -> FrameRef<'_, B> {
        self.reference.borrow()
    }

    /// What the frame is used as.
    pub(crate) fn kind(&self) -> Kind {
        Kind(self.reference.borrow().metadata().kind.get())
    }

    /// Where the frame is.
    pub fn paddr(&self) -> Paddr {
        self.reference.frame()
    }

    /// Gives the reference up: as a frame, or as a node of the configuration that it is of.
    pub fn give_up(self) {
        B::Tables::give_up(self);
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
            reference.give_up();
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

/// A batch to which nothing is owed any more: no CPU has a translation that leads to its frames.
/// Nothing else waits for a grace period. An [obligation](crate::obligation) becomes one by being
/// paid; for frames that were in no table the caller vouches.
#[derive(Debug)]
#[must_use = "the frames leak unless they are retired or dropped"]
pub struct Paid<B: Backend>(Batch<B>);

impl<B: Backend> Paid<B> {
    /// The batch, of which that is known.
    ///
    /// # Safety
    ///
    /// No CPU has a translation that leads to a frame of the batch, or finds one in a table.
    pub unsafe fn new(batch: Batch<B>) -> Self {
        Self(batch)
    }

    /// The frames.
    pub fn into_batch(self) -> Batch<B> {
        self.0
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

    /// A section of `cpu` begins. Safe code has a [`Cpu`](crate::cpu::Cpu) for that:
    ///
    /// ```compile_fail,E0133
    /// # use weft_core::{address::CpuId, reclaim::Reclaim, sync::Backend};
    /// fn end_a_section<B: Backend>(backend: &B, cpu: CpuId) {
    ///     backend.reclaim().leave(cpu);
    /// }
    /// ```
    ///
    /// # Safety
    ///
    /// `cpu` is online, and the caller has its value to itself.
    unsafe fn enter(&self, _cpu: CpuId) {}

    /// A section of `cpu` ends.
    ///
    /// # Safety
    ///
    /// [`enter`](Self::enter) began the section, and it ends once.
    unsafe fn leave(&self, _cpu: CpuId) {}

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
    unsafe fn retire(&self, backend: &B, batch: Paid<B>);
}

/// What an entry led to before it was changed. It is flushed and given to the reclamation, not to
/// the caller: walkers may still be looking at it.
pub struct Detached<'g, C: Config> {
    was: ChildRef<'g, C>,
    _owed: Obligation<'g, C::Backend>,
}

impl<C: Config> fmt::Debug for Detached<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Detached({:?})", self.was)
    }
}

impl<'g, C: Config> Detached<'g, C> {
    pub(crate) fn new(was: ChildRef<'g, C>, owed: Obligation<'g, C::Backend>) -> Self {
        Self { was, _owed: owed }
    }

    /// What it is, with what hardware had noted until the change.
    pub fn child(&self) -> ChildRef<'g, C> {
        self.was
    }

    /// Whether there was something.
    pub fn is_present(&self) -> bool {
        !matches!(self.was, ChildRef::Absent)
    }

    /// Flushes it and hands it to the reclamation now. Dropping it does the same.
    pub fn retire(self) {}
}
