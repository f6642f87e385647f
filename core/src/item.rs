//! What leaves map: items, owned by the table while they are mapped.
//!
//! An [`Item`] is turned into a [`RawItem`] when it is written into an entry and back when it is
//! taken out, exactly once each. [`MappedItem`] is the item for ordinary kernels: a *tracked* item
//! owns the frame it maps and frees it when dropped, an *untracked* one (device memory) owns
//! nothing. The difference is stored in the entry, as a bit that hardware ignores.

use core::fmt;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;

use crate::address::{FRAME_SIZE, Level, Paddr};
use crate::config::{Config, Kind};
use crate::error::{Misfit, OutOfMemory};
use crate::format::{EntryFormat, PageFlags, Property, RawItem};
use crate::geometry::Geometry;
use crate::node::Metadata;
use crate::reclaim::Erased;
use crate::reference::Reference;
use crate::sync::{Backend, FrameUse};

/// Something that a leaf maps and owns.
///
/// # Safety
///
/// The implementor promises that [`is_of`](Self::is_of) is right, that the raw form is what
/// hardware may map while the table owns the item, and that an item above the leaf level is
/// divisible: its raw form stands for the raw forms of the next lower level that cover the same
/// frames with the same property, since a huge page may be split into those.
pub unsafe trait Item<B: Backend>: Sized + Send + 'static {
    /// The item, borrowed from the entry that owns it, for a read-side section.
    type Ref<'g>: Copy;

    /// Whether a table on `backend` may own the item: what it owns is of that machine, if of any.
    fn is_of(&self, backend: &B) -> bool;

    /// The item as an entry stores it. Ownership moves into the entry.
    fn into_raw(self) -> RawItem;

    /// The item that an entry stores.
    ///
    /// # Safety
    ///
    /// [`into_raw`](Self::into_raw) of an item [of](Self::is_of) `backend` gave this value, or one
    /// of which this is a part, except for the accessed and dirty flags and for rights changed
    /// meanwhile; and it was not turned back before.
    unsafe fn from_raw(backend: &B, raw: RawItem) -> Self;

    /// Drops the item that an entry of a table that is torn down stores. To be overridden by types
    /// that see in the raw form whether there is anything to drop.
    ///
    /// # Safety
    ///
    /// As for [`from_raw`](Self::from_raw).
    #[inline]
    unsafe fn drop_raw(backend: &B, raw: RawItem) {
        // SAFETY: both contracts are the same.
        drop(unsafe { Self::from_raw(backend, raw) });
    }

    /// The item that an entry stores, or stored, while it is not given up.
    ///
    /// # Safety
    ///
    /// [`into_raw`](Self::into_raw) of an item of `backend` gave this value, with the exceptions of
    /// [`from_raw`](Self::from_raw), and the item is not dropped during `'g`.
    unsafe fn borrow<'g>(backend: &'g B, raw: RawItem) -> Self::Ref<'g>;

    /// Whether items that map consecutive frames alike, of which this is one, may be replaced by
    /// one of the next level that stands for all of them.
    fn may_merge(_raw: RawItem) -> bool {
        false
    }

    /// What of a detached item must wait for a grace period. `None` if nothing has to.
    fn retire(self) -> Option<Erased<B>>;
}

/// A frame of data with one owner, who frees it.
#[derive(Debug)]
pub struct Frame<B: Backend> {
    reference: Reference<B>,
}

impl<B: Backend> Frame<B> {
    /// Allocates a frame. Its contents are whatever they were.
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
    /// 2. Since then nobody has taken it back.
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

    /// Takes back a frame given up as [`Erased`].
    pub(crate) fn from_reference(reference: Reference<B>) -> Self {
        Self { reference }
    }
}

impl<B: Backend> Drop for Frame<B> {
    #[inline]
    fn drop(&mut self) {
        if self.reference.count_down() {
            // SAFETY: the line above counted the last reference down, and `drop` runs once.
            unsafe { self.reference.free() }
        }
    }
}

/// An item for kernels that know two kinds of memory.
#[derive(Debug)]
pub enum MappedItem<B: Backend> {
    /// A page that owns its frame.
    Tracked {
        /// The frame.
        frame: Frame<B>,
        /// Rights and cache policy.
        property: Property,
    },
    /// A page, possibly huge, of memory that nobody counts.
    Untracked {
        /// The first frame.
        frame: Paddr,
        /// The level of the entry that maps it.
        level: Level,
        /// Rights and cache policy.
        property: Property,
    },
}

/// A mapped page, looked at: as long as it exists, its frame is not freed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MappedRef<'g> {
    raw: RawItem,
    _section: PhantomData<&'g ()>,
}

impl MappedRef<'_> {
    /// The first frame.
    pub fn frame(self) -> Paddr {
        self.raw.frame
    }

    /// The level of the entry that maps it.
    pub fn level(self) -> Level {
        self.raw.level
    }

    /// Rights and cache policy, and what hardware had noted when the entry was read.
    pub fn property(self) -> Property {
        self.raw.property
    }

    /// Whether the page owns its frame.
    pub fn is_tracked(self) -> bool {
        self.raw.property.flags.contains(PageFlags::TRACKED)
    }
}

// SAFETY: a tracked item owns the frame that it maps, and is no huge page; an untracked one maps
// what whoever made it vouches for.
unsafe impl<B: Backend> Item<B> for MappedItem<B> {
    type Ref<'g> = MappedRef<'g>;

    #[inline]
    fn is_of(&self, backend: &B) -> bool {
        match self {
            Self::Tracked { frame, .. } => frame.reference.backend() == backend,
            Self::Untracked { .. } => true,
        }
    }

    #[inline]
    fn into_raw(self) -> RawItem {
        match self {
            Self::Tracked { frame, mut property } => {
                property.flags.insert(PageFlags::TRACKED);
                RawItem { frame: frame.into_raw(), level: Level::LEAF, property }
            }
            Self::Untracked { frame, level, mut property } => {
                property.flags.remove(PageFlags::TRACKED);
                RawItem { frame, level, property }
            }
        }
    }

    #[inline]
    unsafe fn from_raw(backend: &B, raw: RawItem) -> Self {
        let RawItem { frame, level, property } = raw;
        if property.flags.contains(PageFlags::TRACKED) {
            // SAFETY: (1) by the caller's contract `into_raw` of an item gave this value, of a
            // tracked one by its flags, and so `into_raw` of its frame gave the address; a tracked
            // item is no huge page, so the value is no part of another. (2) It was not turned back
            // before.
            let frame = unsafe { Frame::from_raw(backend, frame) };
            Self::Tracked { frame, property }
        } else {
            Self::Untracked { frame, level, property }
        }
    }

    #[inline]
    unsafe fn drop_raw(backend: &B, raw: RawItem) {
        if raw.property.flags.contains(PageFlags::TRACKED) {
            // SAFETY: the raw form is that of a tracked item, which gave up a frame for it.
            drop(unsafe { Frame::from_raw(backend, raw.frame) });
        }
    }

    fn may_merge(raw: RawItem) -> bool {
        // A tracked one has a frame of its own to free.
        !raw.property.flags.contains(PageFlags::TRACKED)
    }

    unsafe fn borrow<'g>(_backend: &'g B, raw: RawItem) -> MappedRef<'g> {
        MappedRef { raw, _section: PhantomData }
    }

    #[inline]
    fn retire(self) -> Option<Erased<B>> {
        match self {
            Self::Tracked { frame, .. } => Some(frame.erase()),
            Self::Untracked { .. } => None,
        }
    }
}

/// An item on its way into an entry: raw already, and checked before it is written.
///
/// It ends in an entry or goes back. It has no destructor, which would keep it in memory.
#[must_use = "the item leaks unless it is written or given back"]
pub(crate) struct Incoming<'b, C: Config> {
    raw: RawItem,
    backend: &'b C::Backend,
}

impl<C: Config> fmt::Debug for Incoming<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Incoming({:?})", self.raw)
    }
}

impl<'b, C: Config> Incoming<'b, C> {
    /// # Panics
    ///
    /// If it is one of another machine.
    #[inline]
    pub(crate) fn new(backend: &'b C::Backend, item: C::Item) -> Self {
        assert!(item.is_of(backend), "the item is one of another machine");
        Self { raw: item.into_raw(), backend }
    }

    /// The level of the entry that it is for.
    #[inline]
    pub(crate) fn level(&self) -> Level {
        self.raw.level
    }

    /// Whether an entry of `level` can hold it.
    #[inline]
    pub(crate) fn check(&self, level: Level) -> Result<(), Misfit> {
        check_raw::<C>(self.raw, level)
    }

    /// What goes into the entry that owns it from now on.
    #[inline]
    pub(crate) fn into_raw(self) -> RawItem {
        self.raw
    }

    /// The item again.
    pub(crate) fn give_back(self) -> C::Item {
        // SAFETY: `into_raw` gave the value in `new`; it went into no entry, since `self` is used
        // up here.
        unsafe { C::Item::from_raw(self.backend, self.raw) }
    }
}

/// Whether an entry of `level` can hold an item.
#[inline]
pub(crate) fn check_raw<C: Config>(raw: RawItem, level: Level) -> Result<(), Misfit> {
    let RawItem { frame, level: found, .. } = raw;
    if found != level {
        return Err(Misfit::WrongLevel { entry: level, child: found });
    }
    // Before anything is computed with a level that may be a caller's invention. A root whose
    // entries stay leads to nodes only: other roots have copies, which would not see a page change.
    let root = <<C::Backend as Backend>::Geometry>::ROOT;
    let highest_stays = C::ROOT_ENTRIES_STAY && level == root;
    if level > root || highest_stays || !C::Format::maps_pages_at(level) {
        return Err(Misfit::NoPagesHere { entry: level });
    }
    let alignment = <<C::Backend as Backend>::Geometry>::entry_span(level);
    if !C::Format::holds(Paddr::new(frame.as_u64() & !(FRAME_SIZE - 1))) {
        Err(Misfit::OutOfRange { frame })
    } else if frame.as_u64() & (alignment - 1) != 0 {
        Err(Misfit::Unaligned { frame, alignment })
    } else {
        Ok(())
    }
}
