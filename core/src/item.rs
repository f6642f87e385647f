//! What leaves map: items, owned by the table while they are mapped.
//!
//! An [`Item`] is turned into a [`RawItem`] when it is written into an entry and back when it is
//! taken out, exactly once each. [`MappedItem`] is the item for ordinary kernels: a *tracked* item
//! owns the frame it maps and frees it when dropped, an *untracked* one (device memory) owns
//! nothing. The difference is stored in the entry, as a bit that hardware ignores.
//!
//! A *mark* maps nothing: it is a value that an entry keeps for the kernel, in the place of a page.
//! It says where a page is that was swapped out, that a page is on its way, or that an access is an
//! error. It is put, found, counted, moved and taken out as a page is, and hardware does not see
//! it. A mark of a kernel's own item may own what its value names, as a page owns a frame.
//!
//! Safe code can map only memory that it owns, or that [`UntrackedMemory`] vouches for:
//!
//! ```compile_fail,E0451
//! use core::marker::PhantomData;
//! use weft_core::{format::RawItem, item::Untracked};
//!
//! fn any_memory<B>(raw: RawItem) -> Untracked<B> {
//!     Untracked { raw, _backend: PhantomData }
//! }
//! ```

use core::fmt;
use core::marker::PhantomData;
use core::ops::Range;

use crate::address::{FRAME_BITS, FRAME_SIZE, Level, Paddr};
use crate::config::{Config, Geo};
use crate::error::Refusal;
use crate::format::{EntryFormat, PageFlags, Property, RawItem};
use crate::frame::Frame;
use crate::geometry::Geometry;
use crate::reclaim::Erased;
use crate::sync::Backend;

/// Something that a leaf maps and owns.
///
/// Its methods are called under locks of nodes, as [`crate::sync`] says.
///
/// # Safety
///
/// The implementor promises that
///
/// 1. [`is_of`](Self::is_of) is right;
/// 2. the raw form is what hardware may map, on any CPU, while the table owns the item, or is a
///    [`MARK`](PageFlags::MARK);
/// 3. an item above the leaf level is divisible: its raw form stands for the raw forms of the next
///    lower level that cover the same frames with the same property, since a huge page may be split
///    into those; of a mark, for those of consecutive values;
/// 4. where [`may_merge`](Self::may_merge) says yes, the raw form of the next higher level stands
///    for all of those that it is made of;
/// 5. [`retire`](Self::retire) frees nothing that readers or hardware could still use, also if it
///    panics.
pub unsafe trait Item<B: Backend>: Sized + Send + Sync + 'static {
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
    /// of which this is a part, or those of which it is the whole, except for the accessed and
    /// dirty flags and for rights changed meanwhile; and it was not turned back before.
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

    /// The item that an entry stores, or stored, while it is not given up. Readers call it without
    /// locks.
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

    /// Gives up the item that an entry stored: the part of it that must wait for a flush and a
    /// grace period. `None` if nothing has to.
    ///
    /// # Safety
    ///
    /// As for [`from_raw`](Self::from_raw).
    unsafe fn retire(backend: &B, raw: RawItem) -> Option<Erased<B>>;
}

/// An item for kernels that know two kinds of memory.
#[derive(Debug)]
pub enum MappedItem<B: Backend> {
    /// A page that owns its frame.
    Tracked {
        /// The frame.
        frame: Frame<B>,
        /// Rights and cache policy. [`PageFlags::TRACKED`] and [`PageFlags::MARK`] in it are
        /// ignored.
        property: Property,
    },
    /// A page, possibly huge, of memory that is not counted.
    Untracked(Untracked<B>),
    /// No page, but a value in its place.
    Mark(Mark),
}

/// A value in the place of a page, possibly of a huge one.
///
/// ```
/// # use weft_core::{config::Config, cursor::Cursor, format::{PageFlags, Property}, frame::Frame};
/// # use weft_core::{address::Level, error::PositionError, item::{MappedItem, Mark},
/// sync::Backend}; /// Swaps the page at the position out, to a slot of the store.
/// fn swap_out<B: Backend, C>(cursor: &mut Cursor<'_, C>, slot: u64) -> Result<(), PositionError>
/// where
///     C: Config<Backend = B, Item = MappedItem<B>>,
/// {
///     let start = cursor.vaddr();
///     // No CPU uses the page from here on, so that its contents stand still.
///     cursor.protect_next(|mut property| {
///         property.flags.insert(PageFlags::WITHHELD);
///         property
///     });
///     cursor.flush();
///     // .. copies the contents to the slot.
///     cursor.jump(start)?;
///     let mark = Mark::new(slot, Level::LEAF, Property::default()).expect("slots are small");
///     // The page is given up, and freed after a grace period.
///     cursor.replace(MappedItem::Mark(mark)).expect("the page is there");
///     Ok(())
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark {
    raw: RawItem,
}

impl Mark {
    /// What is not the kernel's to say.
    const OWN: PageFlags = PageFlags::FIXED.union(PageFlags::WITHHELD);

    /// The mark of `value` at an entry of `level`. The parts of a huge one, if it is split, have
    /// consecutive values, from `value` on: as slots of a store that a huge page was written to.
    /// Flags and cache policy are kept, for the kernel to find; [`PageFlags::WITHHELD`] and
    /// [`PageFlags::TRACKED`] in them are ignored.
    ///
    /// # Errors
    ///
    /// [`Refusal::ValueTooLarge`] for a value that no format has room for. Formats have less room
    /// than that, and a huge mark's value is to be a multiple of its parts: an operation that is
    /// given another one refuses it, as it does a frame.
    pub const fn new(value: u64, level: Level, mut property: Property) -> Result<Self, Refusal> {
        if value > u64::MAX >> FRAME_BITS {
            return Err(Refusal::ValueTooLarge { value });
        }
        property.flags = property.flags.difference(Self::OWN);
        Ok(Self { raw: RawItem { frame: Paddr::of_frame(value), level, property } })
    }

    /// The value.
    pub const fn value(&self) -> u64 {
        self.raw.frame.frame_number()
    }

    /// The level of the entry that it is for.
    pub const fn level(&self) -> Level {
        self.raw.level
    }

    /// What is kept beside the value.
    pub const fn property(&self) -> Property {
        self.raw.property
    }
}

/// A page, possibly huge, of memory that is not counted: some [`UntrackedMemory`] vouches for it.
pub struct Untracked<B> {
    raw: RawItem,
    _backend: PhantomData<fn() -> B>,
}

impl<B> fmt::Debug for Untracked<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Untracked({:?})", self.raw)
    }
}

impl<B> Untracked<B> {
    /// The first frame.
    pub fn frame(&self) -> Paddr {
        self.raw.frame
    }

    /// The level of the entry that maps it.
    pub fn level(&self) -> Level {
        self.raw.level
    }

    /// Rights and cache policy, and what hardware has noted.
    pub fn property(&self) -> Property {
        self.raw.property
    }
}

/// Physical memory that may be mapped without being owned: device registers, a frame buffer, memory
/// that a kernel keeps for good.
pub struct UntrackedMemory<B> {
    range: Range<Paddr>,
    _backend: PhantomData<fn() -> B>,
}

impl<B> fmt::Debug for UntrackedMemory<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UntrackedMemory({:?})", self.range)
    }
}

impl<B: Backend> UntrackedMemory<B> {
    /// The memory in `range`, for tables on backends of this type.
    ///
    /// # Safety
    ///
    /// Safe code that has this value can map any part of the range, with any rights, in any table
    /// on any backend of this type, for as long as the tables exist. The caller vouches that no use
    /// of such a mapping, by hardware or by the code that runs on it, breaks memory safety. In
    /// particular no [`allocate`](Backend::allocate) gives a frame of the range, unless all tables
    /// that map it are as trustworthy as the caller.
    pub const unsafe fn new(range: Range<Paddr>) -> Self {
        Self { range, _backend: PhantomData }
    }

    /// The page of `level` that begins at `frame`.
    ///
    /// # Errors
    ///
    /// [`Refusal::OutOfRange`] if the page is not wholly in this memory, [`Refusal::NoPagesHere`]
    /// if the geometry has no such level.
    #[inline]
    pub fn page(
        &self,
        frame: Paddr,
        level: Level,
        property: Property,
    ) -> Result<Untracked<B>, Refusal> {
        if level > B::Geometry::ROOT {
            return Err(Refusal::NoPagesHere { entry: level });
        }
        let fits = |start: Paddr| {
            let end = start.as_u64().checked_add(B::Geometry::entry_span(level));
            self.range.start <= start && end.is_some_and(|end| end <= self.range.end.as_u64())
        };
        if !fits(frame) {
            return Err(Refusal::OutOfRange { frame });
        }
        Ok(Untracked { raw: RawItem { frame, level, property }, _backend: PhantomData })
    }
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
}

// SAFETY: (1) a frame knows its backend, and untracked memory is for all of a type; (2) a tracked
// item owns the frame that it maps, and `UntrackedMemory::new` vouches for an untracked one; (3) a
// tracked item is no huge page, and the parts of an untracked one are in the same memory; (4) only
// untracked ones merge, whose memory is vouched for, each; (5) a frame is given up as a whole. A
// mark says so, in every raw form, and owns nothing.
unsafe impl<B: Backend> Item<B> for MappedItem<B> {
    type Ref<'g> = MappedRef<'g>;

    #[inline]
    fn is_of(&self, backend: &B) -> bool {
        match self {
            Self::Tracked { frame, .. } => frame.backend() == backend,
            Self::Untracked(_) | Self::Mark(_) => true,
        }
    }

    #[inline]
    fn into_raw(self) -> RawItem {
        match self {
            Self::Tracked { frame, mut property } => {
                property.flags = property.flags.difference(PageFlags::FIXED) | PageFlags::TRACKED;
                RawItem { frame: frame.into_raw(), level: Level::LEAF, property }
            }
            Self::Untracked(Untracked { mut raw, .. }) => {
                raw.property.flags.remove(PageFlags::FIXED);
                raw
            }
            Self::Mark(Mark { mut raw }) => {
                raw.property.flags |= PageFlags::MARK | PageFlags::WITHHELD;
                raw
            }
        }
    }

    #[inline]
    unsafe fn from_raw(backend: &B, raw: RawItem) -> Self {
        let RawItem { frame, mut property, .. } = raw;
        if property.flags.contains(PageFlags::TRACKED) {
            property.flags.remove(PageFlags::TRACKED);
            // SAFETY: (1) by the caller's contract `into_raw` of an item gave this value, of a
            // tracked one by its flags, and so `into_raw` of its frame gave the address; a tracked
            // item is no huge page, so the value is no part of another. (2) It was not turned back
            // before.
            let frame = unsafe { Frame::from_raw(backend, frame) };
            Self::Tracked { frame, property }
        } else if property.flags.contains(PageFlags::MARK) {
            property.flags.remove(Mark::OWN);
            Self::Mark(Mark { raw: RawItem { property, ..raw } })
        } else {
            Self::Untracked(Untracked { raw, _backend: PhantomData })
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
    unsafe fn retire(backend: &B, raw: RawItem) -> Option<Erased<B>> {
        raw.property.flags.contains(PageFlags::TRACKED).then(|| {
            // SAFETY: the raw form is that of a tracked item, which gave up a frame for it.
            unsafe { Frame::from_raw(backend, raw.frame) }.erase()
        })
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
    pub(crate) fn check(&self, level: Level) -> Result<(), Refusal> {
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
pub(crate) fn check_raw<C: Config>(raw: RawItem, level: Level) -> Result<(), Refusal> {
    let RawItem { frame, level: found, .. } = raw;
    if found != level {
        return Err(Refusal::WrongLevel { entry: level, child: found });
    }
    // Before anything is computed with a level that may be any number. A root whose
    // entries stay leads to nodes only: other roots have copies, which would not see a page change.
    let root = <Geo<C>>::ROOT;
    let highest_stays = C::ROOT_ENTRIES_STAY && level == root;
    if level > root || highest_stays || !C::Format::maps_pages_at(level) {
        return Err(Refusal::NoPagesHere { entry: level });
    }
    let alignment = <Geo<C>>::entry_span(level);
    if raw.property.flags.contains(PageFlags::GLOBAL) && !C::ROOT_ENTRIES_STAY {
        return Err(Refusal::Global);
    }
    let mark = PageFlags::MARK | PageFlags::WITHHELD;
    if raw.property.flags & mark == PageFlags::MARK {
        return Err(Refusal::PresentMark);
    }
    if !C::Format::holds(Paddr::new(frame.as_u64() & !(FRAME_SIZE - 1))) {
        Err(Refusal::OutOfRange { frame })
    } else if frame.as_u64() & (alignment - 1) != 0 {
        Err(Refusal::Unaligned { frame, alignment })
    } else {
        Ok(())
    }
}
