//! Frames of data: one owner each, who frees them.

use core::mem::ManuallyDrop;

use crate::address::{Level, Paddr};
use crate::config::Kind;
use crate::error::OutOfMemory;
use crate::node::Metadata;
use crate::reclaim::Erased;
use crate::reference::Reference;
use crate::sync::{Backend, FrameUse};

/// A frame of data with one owner, who frees it.
#[derive(Debug)]
pub struct Frame<B: Backend> {
    reference: Reference<B>,
}

impl<B: Backend> Frame<B> {
    /// Allocates a frame. Its contents are unspecified.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`] if the backend has no frame left.
    #[track_caller]
    pub fn allocate(backend: &B) -> Result<Self, OutOfMemory> {
        let frame = backend.allocate(FrameUse::Data).ok_or(OutOfMemory)?;
        Metadata::prepare(backend, frame, Level::LEAF, Kind::FRAME);
        // SAFETY: `prepare` has just set the count to 1, for this reference.
        let reference = unsafe { Reference::from_raw(backend.clone(), frame) };
        Ok(Self { reference })
    }

    /// The address of the frame.
    pub fn paddr(&self) -> Paddr {
        self.reference.frame()
    }

    /// What the frame is of.
    pub fn backend(&self) -> &B {
        self.reference.backend()
    }

    /// Gives the handle up, but not what it owns: for an item of a kernel's own, whose entry owns
    /// the frame while it is mapped. The frame leaks unless [`from_raw`](Self::from_raw) takes it
    /// back.
    #[inline]
    pub fn into_raw(self) -> Paddr {
        self.into_reference().into_raw().1
    }

    /// Takes back a frame that [`into_raw`](Self::into_raw) gave up.
    ///
    /// # Safety
    ///
    /// 1. `into_raw` of a frame of `backend` gave this address.
    /// 2. Since then it has not been taken back.
    #[inline]
    pub unsafe fn from_raw(backend: &B, frame: Paddr) -> Self {
        // SAFETY: by the caller's contract `into_raw` gave up a reference for this one, and
        // `backend` allocated the frame.
        Self { reference: unsafe { Reference::from_raw(backend.clone(), frame) } }
    }

    /// The frame, its type remembered only by its metadata: how an item of a kernel's own hands
    /// its frame to a grace period.
    pub fn erase(self) -> Erased<B> {
        Erased::new(self.into_reference())
    }

    fn into_reference(self) -> Reference<B> {
        let this = ManuallyDrop::new(self);
        // SAFETY: `this` is not dropped and not used again, so the reference is moved out of it.
        unsafe { core::ptr::read(&raw const this.reference) }
    }

    /// Takes back what [`erase`](Self::erase) gave.
    pub(crate) fn from_erased(erased: Erased<B>) -> Self {
        Self { reference: erased.into_reference() }
    }
}

impl<B: Backend> Drop for Frame<B> {
    #[inline]
    fn drop(&mut self) {
        // weaker: a frame has one owner at a time, so its count orders nothing.
        if self.reference.count_down() {
            // SAFETY: the line above counted the last reference down, and `drop` runs once.
            unsafe { self.reference.free() }
        }
    }
}
