//! Frames by reference: borrowed for a while, or owned and counted.
//!
//! This module is where an address becomes a place. Everything above it holds a [`FrameRef`] (the
//! frame lives at least as long as the lifetime says) or a [`Reference`] (the frame lives because
//! it is counted), and neither can be made up without `unsafe`.
//!
//! Counting follows Rust's `Arc`. An owner that adds a reference holds one, so the increment needs
//! no ordering. A decrement releases what its owner did. The owner that takes the last one acquires
//! all of that with a fence, and then has the frame to itself.

use core::fmt;

use crate::address::Paddr;
use crate::node::Metadata;
use crate::sites::site;
use crate::sync::{Backend, Count, Entries, Event};

/// A frame that is not freed during `'a`.
pub(crate) struct FrameRef<'a, B: Backend> {
    backend: &'a B,
    frame: Paddr,
}

copied!(FrameRef<B: Backend>);

impl<B: Backend> fmt::Debug for FrameRef<'_, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.frame.fmt(f)
    }
}

impl<'a, B: Backend> FrameRef<'a, B> {
    /// # Safety
    ///
    /// 1. `backend` allocated `frame`, and frees it not before `'a` ends.
    /// 2. If [`entries`](Self::entries) will be called, it was allocated as a node.
    pub(crate) unsafe fn new(backend: &'a B, frame: Paddr) -> Self {
        Self { backend, frame }
    }

    pub(crate) fn backend(self) -> &'a B {
        self.backend
    }

    pub(crate) fn frame(self) -> Paddr {
        self.frame
    }

    #[track_caller]
    #[inline]
    pub(crate) fn metadata(self) -> &'a Metadata<B> {
        // SAFETY: the frame is allocated and lives for 'a, by the contract of `new`.
        unsafe { self.backend.metadata(self.frame) }
    }

    /// The entries of the node.
    #[track_caller]
    #[inline]
    pub(crate) fn entries(self) -> B::Entries<'a> {
        // SAFETY: the frame is a node that lives for 'a, by the contract of `new`.
        unsafe { self.backend.entries(self.frame) }
    }

    /// Entry `index` of the node.
    ///
    /// # Panics
    ///
    /// If `index` is out of range.
    #[track_caller]
    #[inline]
    pub(crate) fn entry(self, index: usize) -> &'a B::Word {
        self.entries().get(index)
    }
}

/// One counted reference to a frame. It does not count itself down: its owner does, because only
/// the owner knows what a last reference takes with it.
pub(crate) struct Reference<B: Backend> {
    backend: B,
    frame: Paddr,
}

impl<B: Backend> fmt::Debug for Reference<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.frame.fmt(f)
    }
}

impl<B: Backend> Reference<B> {
    /// # Safety
    ///
    /// One reference to `frame`, which `backend` allocated, is given up for this one: by
    /// [`into_raw`](Self::into_raw), or the initial one by the allocation of the frame.
    pub(crate) unsafe fn from_raw(backend: B, frame: Paddr) -> Self {
        Self { backend, frame }
    }

    pub(crate) fn into_raw(self) -> (B, Paddr) {
        (self.backend, self.frame)
    }

    pub(crate) fn backend(&self) -> &B {
        &self.backend
    }

    pub(crate) fn frame(&self) -> Paddr {
        self.frame
    }

    #[inline]
    pub(crate) fn borrow(&self) -> FrameRef<'_, B> {
        // SAFETY: the frame is not freed while this reference is counted, and it is counted as
        // long as it is borrowed.
        unsafe { FrameRef::new(&self.backend, self.frame) }
    }

    #[track_caller]
    pub(crate) fn duplicate(&self) -> Self {
        self.borrow().metadata().references.fetch_add(1, site!(REFERENCE_INCREMENT));
        Self { backend: self.backend.clone(), frame: self.frame }
    }

    /// Counts down. True if this was the last reference: the caller then has the frame to itself,
    /// sees everything that earlier owners did, and owes [`free`](Self::free). Otherwise the
    /// frame must not be touched any more.
    #[track_caller]
    pub(crate) fn count_down(&mut self) -> bool {
        let before = self.borrow().metadata().references.fetch_sub(1, site!(REFERENCE_DECREMENT));
        if before != 1 {
            return false;
        }
        self.backend.fence(site!(REFERENCE_LAST));
        self.backend.observe(Event::LastReference(self.frame));
        true
    }

    /// Gives the frame back to the backend.
    ///
    /// # Safety
    ///
    /// [`count_down`](Self::count_down) of this reference returned true, the frame is not used
    /// after this call, and it is called once.
    #[track_caller]
    pub(crate) unsafe fn free(&mut self) {
        // SAFETY: (1) `from_raw` says that the backend allocated the frame; (2) the count is
        // zero, so by the caller's contract no other reference exists.
        unsafe { self.backend.free(self.frame) }
    }
}
