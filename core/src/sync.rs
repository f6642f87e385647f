//! The facade: everything the core needs from the world, as one family of traits.
//!
//! The core names no concrete atomic, lock, allocator or grace period. It is generic over a
//! [`Backend`], which supplies
//!
//! * *words* ([`Word`], [`LockWord`], [`Count`]): 64-bit shared atomics, split by what may be done
//!   with them, because a checker must know which words are ever loaded;
//! * *cells* ([`PlainCell`]): plain data that a protocol makes exclusive. On metal they are
//!   relaxed accesses, in a model an unordered pair of accesses is a failure;
//! * the *node lock* ([`RawLock`]), usually [`SpinLock`](crate::lock::SpinLock) of this crate;
//! * *frames*: allocate, free, and address metadata and entries;
//! * *reclamation* ([`Reclaim`]), usually
//!   [`Monitor`](crate::grace::Monitor) of this crate;
//! * *CPUs and their translation caches*: who am I, load a root, invalidate here, interrupt others
//!   (see [`crate::space`]);
//! * *observation*: events that vanish on metal and become the counterexample in a model.
//!
//! A backend is a cheap handle: clones refer to the same machine. Every access names a site of
//! [`crate::sites`] and the backend resolves its ordering, so that on metal it is a constant.
//! Methods are `#[track_caller]` so that a counterexample points into the core.
//!
//! # What runs under locks
//!
//! [`Backend::allocate`], [`Backend::free`] and [`Backend::interrupt`] are called while locks of
//! nodes are held, and so are the conversions of [`Item`](crate::item::Item) and the closures that
//! are given to cursors and entries. None of them may use the table that is being changed, or wait
//! for a CPU that does: it would wait for itself. An allocator that maps its own memory therefore
//! maps it in another table, or ahead of time.
//!
//! # While a failed execution unwinds
//!
//! A model cannot refuse what destructors do then. So every backend that unwinds makes its
//! operations inert: loads give 0, writes do nothing, and [`Count::fetch_sub`] returns a count
//! above 1, so that no destructor thinks it dropped the last reference.

use core::any::TypeId;
use core::fmt::Debug;

use crate::address::{CpuId, CpuSet, Paddr};
use crate::config::Tables;
use crate::format::EntryFormat;
use crate::geometry::Geometry;
use crate::node::Metadata;
use crate::reclaim::Reclaim;
use crate::sites::{FenceSite, Site};
pub use crate::space::{Flush, Noted, Request, TaggedRoot};

/// A shared word that may be loaded: an entry, or a word of an address space.
pub trait Word: Send + Sync {
    /// A word that holds `value`; `name` is what reports call it.
    #[track_caller]
    fn new(name: &'static str, value: u64) -> Self;
    /// Loads the word.
    #[track_caller]
    fn load(&self, site: &'static Site) -> u64;
    /// Stores `value`.
    #[track_caller]
    fn store(&self, value: u64, site: &'static Site);
    /// Stores `value` and returns what was there.
    #[track_caller]
    fn swap(&self, value: u64, site: &'static Site) -> u64;
    /// Stores `new` if the word holds `current`, which is then returned.
    ///
    /// # Errors
    ///
    /// The value found, if it was not `current`.
    #[track_caller]
    fn compare_exchange(
        &self,
        current: u64,
        new: u64,
        success: &'static Site,
        failure: &'static Site,
    ) -> Result<u64, u64>;
    /// Adds `value`, wrapping around, and returns what was there.
    #[track_caller]
    fn fetch_add(&self, value: u64, site: &'static Site) -> u64;
}

/// The word of a lock: taken by compare-exchange, given back by a store, never merely loaded.
pub trait LockWord: Send + Sync {
    /// A word that holds `value`, 0 being a free lock; `name` is what reports call it.
    #[track_caller]
    fn new(name: &'static str, value: u64) -> Self;
    /// Stores `new` if the word holds `current`.
    ///
    /// # Errors
    ///
    /// The value found, if it was not `current`.
    #[track_caller]
    fn compare_exchange(
        &self,
        current: u64,
        new: u64,
        success: &'static Site,
        failure: &'static Site,
    ) -> Result<u64, u64>;
    /// Stores `value`.
    #[track_caller]
    fn store(&self, value: u64, site: &'static Site);
    /// Called by a loop that has just seen this word in a state it cannot go on from. Returns when
    /// the word may have changed: on metal after a pause, in a model once another CPU wrote it.
    #[track_caller]
    fn relax(&self);
}

/// A reference count.
pub trait Count: Send + Sync {
    /// A count of `value`; `name` is what reports call it.
    #[track_caller]
    fn new(name: &'static str, value: u64) -> Self;
    /// Sets the count of a frame that no other CPU can reach.
    #[track_caller]
    fn store(&self, value: u64, site: &'static Site);
    /// Adds `value` and returns the count before.
    #[track_caller]
    fn fetch_add(&self, value: u64, site: &'static Site) -> u64;
    /// Subtracts `value` and returns the count before.
    #[track_caller]
    fn fetch_sub(&self, value: u64, site: &'static Site) -> u64;
}

/// A value that a cell can hold: an integer, or a `bool`. The trait cannot be implemented
/// elsewhere.
pub trait CellValue: Copy + Debug + Send + Sync + 'static + sealed::Integer {
    /// The value as bits.
    fn to_bits(self) -> u64;
    /// The value whose bits these are.
    fn from_bits(bits: u64) -> Self;
}

mod sealed {
    /// Keeps [`CellValue`](super::CellValue) to integers, which have no padding.
    pub trait Integer {}
}

impl sealed::Integer for bool {}

impl CellValue for bool {
    fn to_bits(self) -> u64 {
        u64::from(self)
    }
    fn from_bits(bits: u64) -> Self {
        bits != 0
    }
}

macro_rules! integer_cell_values {
    ($($integer:ty),+) => {
        $(impl sealed::Integer for $integer {}

        impl CellValue for $integer {
            fn to_bits(self) -> u64 {
                u64::from(self)
            }
            fn from_bits(bits: u64) -> Self {
                bits as Self
            }
        })+
    };
}

integer_cell_values!(u8, u16, u64);

/// Plain data, shared, that a protocol makes exclusive: there is never a write concurrent with
/// another access.
pub trait PlainCell<T: CellValue>: Send + Sync {
    /// A cell that holds `value`; `name` is what reports call it.
    #[track_caller]
    fn new(name: &'static str, value: T) -> Self;
    /// Reads the cell.
    #[track_caller]
    fn get(&self) -> T;
    /// Writes the cell.
    #[track_caller]
    fn set(&self, value: T);
}

/// A lock without data, in the metadata of every node.
///
/// A kernel may plug in its own (ticket, MCS). Its holder gives it back through a shared reference,
/// on the CPU that took it. Like any lock it is not for taking twice: a CPU that asks for a lock
/// that it holds waits for ever.
///
/// # Safety
///
/// The implementor promises exclusion: between an `acquire`, or a `try_acquire` that succeeded, and
/// the `release` that follows, no other attempt on the same lock succeeds; and that what was done
/// before a `release` happens before the attempt that succeeds next.
pub unsafe trait RawLock: Send + Sync {
    /// A free lock; `name` is what reports call it.
    #[track_caller]
    fn new(name: &'static str) -> Self;
    /// Waits for the lock and takes it.
    #[track_caller]
    fn acquire(&self);
    /// Takes the lock if it is free. False only if another CPU holds it: an empty node is left to
    /// that holder then.
    #[track_caller]
    fn try_acquire(&self) -> bool;
    /// Makes the lock of an unpublished node held by the caller.
    #[track_caller]
    fn make_held(&self);
    /// Makes the lock of an unpublished node free.
    #[track_caller]
    fn make_free(&self);
    /// Gives the lock back. The caller holds it.
    #[track_caller]
    fn release(&self);
}

/// The entries of a node: where they are is found once, for as many accesses as there are.
pub trait Entries<'a, W: Word>: Copy {
    /// Entry `index`. A model looks here whether the node is still in use.
    ///
    /// # Panics
    ///
    /// If the node has no such entry.
    #[track_caller]
    fn get(self, index: usize) -> &'a W;
}

/// What a frame is allocated for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameUse {
    /// A node of a page table.
    Node,
    /// The words of an [address space](crate::space).
    Space,
    /// Memory that pages map.
    Data,
}

/// Something that happened in the core and that no single access shows.
///
/// On metal observing is a no-op. In a model the events appear in counterexamples, and scenarios
/// demand that some were met.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// A lock attempt failed and the CPU waits.
    LockContended,
    /// A CPU locked a node and found that it is stray.
    StrayMet(Paddr),
    /// A descent starts over at the root.
    StartedOver,
    /// A growing CPU found, under the lock, that another one had grown the entry meanwhile.
    GrowthLost,
    /// Translations were flushed, on every CPU that may have held them.
    Flushed(Flush),
    /// A node was detached from its parent.
    Detached(Paddr),
    /// A node was marked stray.
    MarkedStray(Paddr),
    /// A frame was handed over to wait for a grace period.
    Retired(Paddr),
    /// A batch joined while a grace period was running, and waits for the next one.
    RetiredDuringGracePeriod,
    /// A grace period ended and its frames are given up.
    GracePeriodEnded,
    /// The last reference to a frame is gone.
    LastReference(Paddr),
    /// A CPU now runs on this root.
    Activated {
        /// The root.
        root: Paddr,
        /// Whether with translations that it has kept since it ran on it before.
        keeps: bool,
    },
}

/// How hardware walks a table: the format of its entries, and how it cuts addresses into indices.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hardware {
    format: TypeId,
    index_bits: u32,
    levels: u8,
}

impl Hardware {
    /// Hardware that walks tables with entries of format `F` and the geometry `G`.
    pub const fn of<F: EntryFormat, G: Geometry>() -> Self {
        Self { format: TypeId::of::<F>(), index_bits: G::INDEX_BITS, levels: G::LEVELS }
    }
}

/// What a page table runs on: words, frames, locks, CPUs and reclamation.
///
/// Equal handles refer to the same machine. What belongs to different machines is never mixed.
///
/// # Safety
///
/// The implementor promises that
///
/// 1. [`allocate`](Self::allocate) gives frames that nothing else uses until they are freed, and
///    [`Reclaim`]'s contract is kept by the reclamation it names;
/// 2. [`metadata`](Self::metadata) and [`entries`](Self::entries) address the same word for the
///    same frame and index, at any time and on any CPU, and different words for different ones;
/// 3. an accessor of a cell or word is atomic in hardware, so that even a protocol error is not a
///    data race in the language's sense; each word behaves as one coherent word, each count counts,
///    and [`Entries::get`] panics beyond the last entry;
/// 4. [`load_root`](Self::load_root), [`invalidate`](Self::invalidate) and
///    [`interrupt`](Self::interrupt) do what they say before they return, unless the backend exists
///    in order to show that this is caught;
/// 5. orderings are at least those of the site that an access names, with the same exception;
/// 6. [`HARDWARE`](Self::HARDWARE) says how CPUs walk the roots that they load, if the code that
///    runs on a CPU is itself translated by them;
/// 7. equal handles are of the same machine, and [`cpu`](Self::cpu) is the CPU of the caller.
pub unsafe trait Backend: Clone + Eq + Debug + Send + Sync + Sized + 'static {
    /// Entries.
    type Word: Word;
    /// Lock words.
    type LockWord: LockWord;
    /// Reference counts.
    type Count: Count;
    /// Plain data.
    type Cell<T: CellValue>: PlainCell<T>;
    /// The entries of a node.
    type Entries<'a>: Entries<'a, Self::Word>;
    /// The lock of a node.
    type NodeLock: RawLock;
    /// The grace periods that detached frames wait for.
    type Reclaim: Reclaim<Self>;
    /// Entries per node and number of levels.
    type Geometry: Geometry;
    /// The configurations of its page tables: a tuple.
    type Tables: Tables<Self>;

    /// Up to how many pages a flush names one by one. Beyond it flushes everything: invalidating
    /// page after page takes longer then than filling the caches again. (Linux: 33 on x86,
    /// `tlb_single_page_flush_ceiling`.)
    const FLUSH_PAGES_MAX: u32 = 32;

    /// For how many address spaces hardware keeps translations apart, by tags; up to
    /// [`TAGS_MAX`](crate::tags::TAGS_MAX). 1 is for hardware without tags, which forgets what it
    /// has cached of a table when it loads the next one. (Linux: 6, `TLB_NR_DYN_ASIDS`.)
    const TAGS: usize = 1;

    /// How CPUs walk the roots that they load, if they stand on them, as on a machine: the code
    /// that calls this crate, its stack and its data are translated too. Only roots in this format
    /// that share a kernel's table are activated then; see
    /// [`Permanent::carry`](crate::permanent::Permanent::carry). `None` where loading a root
    /// changes nothing for that code.
    const HARDWARE: Option<Hardware>;

    /// A frame that the caller owns, or `None` if there is none left. Its entries hold anything.
    /// Called under locks of nodes, as the [module](self) says.
    #[track_caller]
    fn allocate(&self, purpose: FrameUse) -> Option<Paddr>;

    /// Takes a frame back. Called under locks of nodes, as the [module](self) says.
    ///
    /// # Safety
    ///
    /// 1. [`allocate`](Self::allocate) gave the frame and it has not been freed since.
    /// 2. Nothing uses the frame, its metadata or its entries any more.
    #[track_caller]
    unsafe fn free(&self, frame: Paddr);

    /// The metadata of a frame. Never kept across an operation that could free the frame.
    ///
    /// # Safety
    ///
    /// [`allocate`](Self::allocate) gave the frame, and it is not freed while the result is used.
    #[track_caller]
    unsafe fn metadata(&self, frame: Paddr) -> &Metadata<Self>;

    /// The entries of a node, or the words of an address space. Never kept across an operation that
    /// could free the frame.
    ///
    /// # Safety
    ///
    /// [`allocate`](Self::allocate) gave the frame for a [`FrameUse::Node`] or a
    /// [`FrameUse::Space`], and it is not freed while the result is used.
    #[track_caller]
    unsafe fn entries(&self, frame: Paddr) -> Self::Entries<'_>;

    /// The reclamation that detached frames go to.
    fn reclaim(&self) -> &Self::Reclaim;

    /// The CPU that runs the caller.
    fn cpu(&self) -> CpuId;

    /// Which CPUs run on a root: a bit for each, 64 to a word, for as many CPUs as there can be.
    /// Born 0, and touched by [`crate::space`] only.
    fn running(&self) -> &[Self::Word];

    /// How many address spaces there have been. Born 0, and touched by [`crate::space`] only.
    fn spaces(&self) -> &Self::Word;

    /// Calls `body` with the interrupts of the calling CPU masked, on what the CPU notes of its own
    /// caches; that is [`Noted::default`] before the CPU runs on anything.
    #[track_caller]
    fn masked<R>(&self, body: impl FnOnce(&mut Noted) -> R) -> R;

    /// Makes the calling CPU translate through a root from now on, or through no user table.
    ///
    /// It goes on with what it has cached under the tag of the root if that [says](TaggedRoot) so,
    /// and otherwise forgets that, upper levels of walks included. What it has cached under other
    /// tags stays unused. A backend may forget more than it is told to.
    ///
    /// # Safety
    ///
    /// The caller owns a reference to the root until another one has been loaded on this CPU.
    #[track_caller]
    unsafe fn load_root(&self, root: Option<TaggedRoot>);

    /// Makes the calling CPU, whose interrupts are masked, forget translations: those under the tag
    /// of the root that it runs on, and those that are shared by all tags. For one page alone, too,
    /// it forgets all that it has cached of upper levels.
    #[track_caller]
    fn invalidate(&self, what: &Request);

    /// Makes each of these CPUs [serve](Request::serve) the request, in a handler that interrupts
    /// whatever it does, and returns once all of them have. The caller may be one of them: it
    /// serves the request itself. A request of [no space](Request::space) is for every CPU that
    /// stands on the backend's tables, whether it runs on a root of the core's or not.
    ///
    /// Called under locks of nodes, as the [module](self) says: a CPU that waits for such a lock
    /// must be able to answer, and so must one that waits for an answer.
    #[track_caller]
    fn interrupt(&self, cpus: &CpuSet, request: &Request);

    /// A fence.
    #[track_caller]
    fn fence(&self, site: &'static FenceSite);

    /// Tells a model what happened. Does nothing on metal.
    #[track_caller]
    fn observe(&self, event: Event);

    /// Tells a model that a public operation of this name begins, `Cursor::map` for example.
    #[inline]
    fn began(&self, _operation: &'static str) {}
}
