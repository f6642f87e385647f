//! Nodes: one frame of entries, with a lock, a count of children and a stray flag beside it.
//!
//! * [`Node`] owns a counted reference. The last one dropped frees the node and, by the drop-walk,
//!   everything below it.
//! * [`NodeRef`] borrows a node for as long as a read-side section lasts. It can look at entries
//!   without locks and can take the lock.
//! * [`Guard`] holds the lock: see [`crate::guard`].
//!
//! *Stray.* A node is stray once the sub-tree it belongs to has been detached. The flag is set
//! under the node's own lock, while the parent is still locked. So a CPU that locks a node and
//! finds it not stray knows that the node is reachable, and stays so until the lock is given back.
//! A CPU that finds it stray lets go and starts over from the root.
//!
//! *Locks* are taken parents before children; the locks of the reclamation come after all of them.
//!
//! *Drop-walk.* No other CPU can reach a node without references, so it is torn down without locks:
//! nothing to do if it has no children, else child nodes give up the parent's reference and leaves
//! are turned back into items. Of a root only the managed indices are walked: the others are
//! shared with another table, which owns what they lead to.

use core::any::TypeId;
use core::fmt;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::Range;

use crate::address::{Level, Offset, Paddr};
use crate::config::{Config, Geo, Kind};
use crate::cpu::ReadSide;
use crate::entry::{ChildRef, ItemRef};
use crate::error::{NotARoot, OutOfMemory};
use crate::format::{Decoded, EntryFormat};
use crate::geometry::{Arithmetic, Geometry};
use crate::guard::Guard;
use crate::item::Item;
use crate::permanent::Permanent;
use crate::reclaim::Erased;
use crate::reference::{FrameRef, Reference};
use crate::sites::{Site, site};
use crate::space::{Space, free_words};
use crate::sync::{Backend, Count, Entries, FrameUse, PlainCell, RawLock, Word};

/// What the core keeps beside every frame: at most 32 bytes on metal, the same for every
/// configuration. The backend makes one for each frame when it starts, with [`Metadata::new`]; the
/// core sets it up again at each allocation.
#[repr(C)]
pub struct Metadata<B: Backend> {
    /// The node lock.
    pub(crate) lock: B::NodeLock,
    /// Owners: handles, the parent's entry, CPUs that run on the root, the reclamation.
    pub(crate) references: B::Count,
    /// The next frame of the batch that this frame waits in. Of two that never wait in one: of a
    /// root, the frame with the words of its address space, or 0; of that frame, the number of the
    /// space.
    pub(crate) link: B::Cell<u64>,
    /// Present entries among the managed ones. Guarded by the lock.
    pub(crate) children: B::Cell<u16>,
    /// Whether the node has been detached. Guarded by the lock.
    pub(crate) stray: B::Cell<bool>,
    /// Whether the node has ever had a parent. Guarded by the lock.
    pub(crate) attached: B::Cell<bool>,
    /// Of a root: whether it shares a table that CPUs stand on. Fixed before it is used.
    pub(crate) carries: B::Cell<bool>,
    /// The level, fixed by the allocation.
    pub(crate) level: B::Cell<u8>,
    /// The configuration, fixed by the allocation.
    pub(crate) kind: B::Cell<u8>,
}

impl<B: Backend> fmt::Debug for Metadata<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metadata").finish_non_exhaustive()
    }
}

impl<B: Backend> Metadata<B> {
    /// Metadata of a frame that is not allocated: whatever it says is wrong, as it is for a frame
    /// that was used before, so that an allocation that leaves something out is noticed.
    pub fn new() -> Self {
        Self {
            lock: B::NodeLock::new("lock"),
            references: B::Count::new("references", u64::MAX),
            link: B::Cell::new("link", 0),
            children: B::Cell::new("children", u16::MAX),
            stray: B::Cell::new("stray", true),
            attached: B::Cell::new("attached", true),
            carries: B::Cell::new("carries", true),
            level: B::Cell::new("level", 0),
            kind: B::Cell::new("kind", u8::MAX),
        }
    }

    /// Sets up the metadata of a frame that the caller has just allocated: one reference, no
    /// children, not stray.
    #[track_caller]
    pub(crate) fn prepare(backend: &B, frame: Paddr, level: Level, kind: Kind) {
        // SAFETY: the caller has just allocated the frame and owns it.
        let metadata = unsafe { backend.metadata(frame) };
        metadata.references.store(1, site!(REFERENCE_BORN));
        metadata.children.set(0);
        metadata.stray.set(false);
        metadata.attached.set(false);
        metadata.carries.set(false);
        metadata.level.set(level.as_u8());
        metadata.kind.set(kind.0);
    }

    /// For backends that help to find errors, when they free a frame: clears the stray flag, so
    /// that a use after free is not silently turned back by the stray check but runs into the
    /// poison.
    pub fn unmark_stray(&self) {
        self.stray.set(false);
    }
}

impl<B: Backend> Default for Metadata<B> {
    fn default() -> Self {
        Self::new()
    }
}

/// An owning, counted, read-only handle of a node.
pub struct Node<C: Config> {
    reference: Reference<C::Backend>,
    _config: PhantomData<C>,
}

impl<C: Config> fmt::Debug for Node<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Node({:?})", self.reference)
    }
}

impl<C: Config> Clone for Node<C> {
    #[track_caller]
    fn clone(&self) -> Self {
        Self { reference: self.reference.duplicate(), _config: PhantomData }
    }
}

impl<C: Config> Node<C> {
    /// A node of `level` with all entries absent, not reachable from anywhere, unlocked.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`] if the backend has no frame left, or gives one whose address fits no entry.
    ///
    /// # Panics
    ///
    /// If the geometry has no such level, or the backend does not list the configuration.
    #[track_caller]
    pub fn allocate(backend: &C::Backend, level: Level) -> Result<Self, OutOfMemory> {
        assert!(level <= <Geo<C>>::ROOT, "the geometry has no nodes of this level");
        let node = Self::allocate_blank(backend)?;
        node.shape(level, |_| 0);
        if level == <Geo<C>>::ROOT {
            node.frame_ref().metadata().link.set(0);
        }
        node.frame_ref().metadata().lock.make_free();
        Ok(node)
    }

    /// A frame that will be a node, once it has been given its [`shape`](Self::shape) and a lock
    /// that is free or held.
    #[track_caller]
    pub(crate) fn allocate_blank(backend: &C::Backend) -> Result<Self, OutOfMemory> {
        const {
            assert!(
                C::MANAGED.start <= C::MANAGED.end && C::MANAGED.end <= <Geo<C>>::ENTRIES,
                "a configuration manages indices that a root has"
            )
        };
        let kind = Kind::of::<C>();
        let frame = backend.allocate(FrameUse::Node).ok_or(OutOfMemory)?;
        Metadata::prepare(backend, frame, Level::LEAF, kind);
        // SAFETY: `prepare` has just set the count to 1, for this reference.
        let reference = unsafe { Reference::from_raw(backend.clone(), frame) };
        // A blank node has no children: what does not fit an entry goes back at once.
        let node = Self { reference, _config: PhantomData };
        if C::Format::holds(frame) { Ok(node) } else { Err(OutOfMemory) }
    }

    /// Makes a blank frame a node of `level` with these entries.
    #[track_caller]
    pub(crate) fn shape(&self, level: Level, mut fill: impl FnMut(usize) -> u64) {
        let frame = self.frame_ref();
        frame.metadata().level.set(level.as_u8());
        let entries = frame.entries();
        for index in 0..<Geo<C>>::ENTRIES {
            entries.get(index).store(fill(index), site!(ENTRY_INIT));
        }
    }

    /// The level, 1 for a node whose entries are the smallest pages.
    #[track_caller]
    pub fn level(&self) -> Level {
        Level::new(self.frame_ref().metadata().level.get())
    }

    /// Where the node is.
    pub fn paddr(&self) -> Paddr {
        self.reference.frame()
    }

    /// What the node lives on.
    pub fn backend(&self) -> &C::Backend {
        self.reference.backend()
    }

    /// The node, borrowed for a read-side section.
    ///
    /// # Panics
    ///
    /// If the section is one of another machine.
    #[inline]
    #[track_caller]
    pub fn borrow<'g>(&'g self, section: &'g ReadSide<'_, C::Backend>) -> NodeRef<'g, C> {
        assert!(section.backend() == self.backend(), "the section is one of another machine");
        NodeRef { frame: self.frame_ref(), level: self.level(), _config: PhantomData }
    }

    /// A root whose entries outside the managed range are those of `owner`: a user table that
    /// shares the kernel's half.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`] if the backend has no frame left.
    ///
    /// # Panics
    ///
    /// If both configurations manage the same index: then neither could drop what it leads to. If
    /// they write their entries in different formats.
    #[track_caller]
    pub fn root_sharing<K>(owner: &Permanent<K>) -> Result<Self, OutOfMemory>
    where
        K: Config<Backend = C::Backend>,
    {
        let (ours, theirs) = (managed::<C>(<Geo<C>>::ROOT), managed::<K>(<Geo<C>>::ROOT));
        assert!(
            ours.end <= theirs.start || theirs.end <= ours.start,
            "two configurations manage the same index of the root"
        );
        assert!(
            TypeId::of::<C::Format>() == TypeId::of::<K::Format>(),
            "two configurations share entries that they write in different formats"
        );
        let shared = owner.root().frame_ref();
        let root = Self::allocate(shared.backend(), <Geo<C>>::ROOT)?;
        for index in theirs {
            // not raced: a permanent root has its entries before it can be named, and they stay.
            let entry = shared.entry(index).load(site!(WALK_ENTRY));
            // not raced: the root is made here.
            root.frame_ref().entry(index).store(entry, site!(ENTRY_INIT));
        }
        let carries = owner.carries();
        root.frame_ref().metadata().carries.set(carries);
        Ok(root)
    }

    #[inline]
    pub(crate) fn frame_ref(&self) -> FrameRef<'_, C::Backend> {
        self.reference.borrow()
    }

    /// Gives up the handle, keeping its reference in the entry that the result is written to.
    pub(crate) fn into_raw(self) -> Paddr {
        self.into_reference().into_raw().1
    }

    fn into_reference(self) -> Reference<C::Backend> {
        let this = ManuallyDrop::new(self);
        // SAFETY: `this` is not dropped and not used again, so the reference is moved out of it.
        unsafe { core::ptr::read(&raw const this.reference) }
    }

    /// # Safety
    ///
    /// One counted reference to `frame`, a node of this configuration, is given up for this one: by
    /// [`into_raw`](Self::into_raw), or it was just counted for that.
    pub(crate) unsafe fn from_raw(backend: &C::Backend, frame: Paddr) -> Self {
        // SAFETY: the caller's contract says that one reference is given up for this one.
        let reference = unsafe { Reference::from_raw(backend.clone(), frame) };
        Self { reference, _config: PhantomData }
    }

    /// The handle, its type remembered only by the metadata.
    pub(crate) fn erase(self) -> Erased<C::Backend> {
        Erased::new(self.into_reference())
    }

    /// Takes back what [`erase`](Self::erase) of this configuration gave.
    pub(crate) fn from_erased(erased: Erased<C::Backend>) -> Self {
        Self { reference: erased.into_reference(), _config: PhantomData }
    }

    #[track_caller]
    fn drop_walk(&self, level: Level) {
        let backend = self.backend();
        // SAFETY: the handle keeps the node for as long as this borrow is used.
        let node = unsafe { NodeRef::<C>::new(backend, self.paddr(), level) };
        node.for_each_child(site!(DROP_WALK_ENTRY), |child| match child {
            ChildRef::Absent | ChildRef::Shared => {}
            // SAFETY: the entry owned a reference, given up by `into_raw` when it was written; no
            // other CPU can reach the entry, and it is taken out once, here.
            ChildRef::Node(child) => drop(unsafe { Self::from_raw(backend, child.paddr()) }),
            // SAFETY: the entry owned the item, given up by `into_raw` when it was written, or as a
            // part of one by a split; it is taken out once, here.
            ChildRef::Item(item) => unsafe { C::Item::drop_raw(backend, *item) },
        });
    }
}

impl<C: Config> Drop for Node<C> {
    fn drop(&mut self) {
        if self.reference.count_down() {
            let level = self.level();
            self.drop_walk(level);
            if level == <Geo<C>>::ROOT {
                // weaker: the words have one owner, so their count orders nothing.
                free_words(self.frame_ref());
            }
            // SAFETY: `count_down` returned true, the drop-walk is over, and `drop` runs once.
            unsafe { self.reference.free() }
        }
    }
}

/// The indices of a node of `level` that belong to its table.
pub(crate) fn managed<C: Config>(level: Level) -> Range<usize> {
    if level == <Geo<C>>::ROOT { C::MANAGED } else { 0..<Geo<C>>::ENTRIES }
}

/// A root, borrowed for a read-side section.
///
/// Two words are passed in registers, where a [`NodeRef`] would be written to memory for the rare
/// functions that want it.
pub(crate) struct RootRef<'g, C: Config> {
    frame: FrameRef<'g, C::Backend>,
    _config: PhantomData<C>,
}

copied!(RootRef<C: Config>);

impl<'g, C: Config> RootRef<'g, C> {
    /// The node, if it is a root.
    #[inline]
    pub(crate) fn of(node: NodeRef<'g, C>) -> Result<Self, NotARoot> {
        let NodeRef { frame, level, _config } = node;
        if level == <Geo<C>>::ROOT { Ok(Self { frame, _config }) } else { Err(NotARoot { level }) }
    }

    /// The root, as a node.
    #[inline]
    pub(crate) fn node(self) -> NodeRef<'g, C> {
        NodeRef { frame: self.frame, level: <Geo<C>>::ROOT, _config: PhantomData }
    }

    /// What the root lives on.
    #[inline]
    pub(crate) fn backend(self) -> &'g C::Backend {
        self.frame.backend()
    }

    /// Which CPUs have to be told of changes to the table.
    #[inline]
    pub(crate) fn space(self) -> Space<'g, C::Backend> {
        Space::of(self.frame)
    }

    /// Follows present entries without any lock, down to the node of `target` for a place, or as
    /// far as they lead.
    #[inline(always)]
    pub(crate) fn walk_down(self, offset: Offset, target: Level) -> NodeRef<'g, C> {
        let mut node = self.node();
        while node.level > target {
            let index = <Geo<C>>::index_of(offset, node.level);
            let ChildRef::Node(child) = node.walk(index) else { break };
            node = child;
        }
        node
    }
}

/// A node, borrowed for a read-side section.
pub struct NodeRef<'g, C: Config> {
    frame: FrameRef<'g, C::Backend>,
    level: Level,
    _config: PhantomData<C>,
}

copied!(NodeRef<C: Config>);

impl<C: Config> fmt::Debug for NodeRef<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeRef({:?})", self.frame)
    }
}

impl<'g, C: Config> NodeRef<'g, C> {
    /// The child that an entry led to.
    ///
    /// # Safety
    ///
    /// The node was reachable at some time within the read-side section that `'g` belongs to, so
    /// that it is freed only after the section has ended; or it is owned for as long. It is a node
    /// of `level`, one below that of the entry.
    pub(crate) unsafe fn new(backend: &'g C::Backend, frame: Paddr, level: Level) -> Self {
        // SAFETY: (1) the backend allocated whatever an entry leads to, and frees it after a grace
        // period, which `'g` does not outlive by the caller's contract; (2) it is a node, likewise.
        let frame = unsafe { FrameRef::new(backend, frame) };
        Self { frame, level, _config: PhantomData }
    }

    /// The level, 1 for a node whose entries are the smallest pages.
    pub fn level(self) -> Level {
        self.level
    }

    /// Where the node is.
    pub fn paddr(self) -> Paddr {
        self.frame.frame()
    }

    /// What the node lives on.
    pub fn backend(self) -> &'g C::Backend {
        self.frame.backend()
    }

    /// Looks at an entry without any lock.
    ///
    /// # Panics
    ///
    /// If `index` is out of range.
    #[track_caller]
    #[inline(always)]
    pub fn walk(self, index: usize) -> ChildRef<'g, C> {
        self.child_at(index, site!(WALK_ENTRY))
    }

    /// Looks at an entry of a node whose lock the caller holds.
    #[track_caller]
    #[inline(always)]
    pub(crate) fn child_under_lock(self, index: usize) -> ChildRef<'g, C> {
        self.child_at(index, site!(ENTRY_UNDER_LOCK))
    }

    // Always, as the decoding in it: out of line, the result would go through memory.
    #[track_caller]
    #[inline(always)]
    pub(crate) fn child_at(self, index: usize, site: &'static Site) -> ChildRef<'g, C> {
        self.decode(index, self.frame.entry(index).load(site))
    }

    /// What each of these entries leads to, with its index.
    #[inline(always)]
    pub(crate) fn children_at(
        self,
        indices: Range<usize>,
        site: &'static Site,
    ) -> impl DoubleEndedIterator<Item = (usize, ChildRef<'g, C>)> + use<'g, C> {
        let entries = self.frame.entries();
        indices.map(move |index| (index, self.decode(index, entries.get(index).load(site))))
    }

    /// Shows `visit` each child of the node, as many as it counts, and looks no further. The caller
    /// has the node to itself, or holds its lock.
    #[track_caller]
    pub(crate) fn for_each_child(
        self,
        site: &'static Site,
        mut visit: impl FnMut(ChildRef<'g, C>),
    ) {
        let mut left = self.frame.metadata().children.get();
        let mut indices = managed::<C>(self.level);
        let entries = self.frame.entries();
        while left > 0 {
            let index = indices.next().expect("a node counts more children than it has");
            let child = self.decode(index, entries.get(index).load(site));
            if !matches!(child, ChildRef::Absent) {
                visit(child);
                left -= 1;
            }
        }
    }

    /// What entry `index` of this node leads to, once `bits` were loaded from it.
    #[inline(always)]
    pub(crate) fn decode(self, index: usize, bits: u64) -> ChildRef<'g, C> {
        let decoded = C::Format::decode(bits, self.level);
        if self.level == <Geo<C>>::ROOT && !C::MANAGED.contains(&index) {
            // Nodes and items there are those of another configuration.
            return if decoded == Decoded::Absent { ChildRef::Absent } else { ChildRef::Shared };
        }
        match decoded {
            Decoded::Absent => ChildRef::Absent,
            Decoded::Node(child) => {
                let level = self.level.below().expect("entries of leaves decode to items");
                // SAFETY: the entry of a node that 'g keeps led to the child at the time of the
                // load, which is within the section; what is detached later waits for the
                // section's end. It is managed, so the child is a node of this configuration.
                ChildRef::Node(unsafe { Self::new(self.backend(), child, level) })
            }
            // SAFETY: as for the node; and by the same argument the item is this configuration's.
            Decoded::Item(raw) => ChildRef::Item(unsafe { ItemRef::new(self.backend(), raw) }),
        }
    }

    /// A counted handle: keeps the node beyond the section, reachable or not.
    #[track_caller]
    pub fn to_owned(self) -> Node<C> {
        self.frame.metadata().references.fetch_add(1, site!(REFERENCE_INCREMENT));
        // SAFETY: the line above counted the reference that is made here.
        unsafe { Node::from_raw(self.backend(), self.frame.frame()) }
    }

    /// Waits for the lock and takes it.
    #[track_caller]
    #[inline]
    pub fn lock(self) -> Guard<'g, C> {
        self.frame.metadata().lock.acquire();
        // SAFETY: the line above took the lock.
        unsafe { Guard::of(self) }
    }

    /// Takes the lock if it is free.
    #[track_caller]
    #[inline]
    pub fn try_lock(self) -> Option<Guard<'g, C>> {
        // SAFETY: the guard is made only if the lock was just taken.
        self.frame.metadata().lock.try_acquire().then(|| unsafe { Guard::of(self) })
    }

    #[inline]
    pub(crate) fn frame_ref(self) -> FrameRef<'g, C::Backend> {
        self.frame
    }
}
