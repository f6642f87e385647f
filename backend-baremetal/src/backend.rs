//! The machine: a region, grace periods and processors, put together as a backend.
//!
//! A [`Machine`] is a reference to [`Parts`] that live for good, so a handle is one word and
//! cloning it is free: handles of nodes carry one each. A kernel keeps the parts in a static, a
//! host leaks them.
//!
//! Three parameters say what differs from machine to machine. The geometry, as the core defines
//! it. The [`Tables`]: which configurations there are. And the [`Processors`]: the instructions
//! that no arithmetic replaces.

use core::array;
use core::fmt;
use core::marker::PhantomData;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use weft_core::address::{CpuId, CpuSet, FRAME_SIZE, Paddr};
use weft_core::config;
use weft_core::geometry::Geometry;
use weft_core::lock::SpinLock;
use weft_core::node::Metadata;
use weft_core::reclaim::Reclaim;
use weft_core::sites::FenceSite;
use weft_core::space::SpaceId;
use weft_core::sync::{
    Backend, CellValue, Entries, Event, FrameUse, Hardware, LockWord, Noted, Request, TaggedRoot,
    Word,
};

use crate::frame::Region;
use crate::word::{AtomicCell, AtomicWord, fence};

/// The configurations of a machine's page tables.
pub trait Tables: Send + Sync + 'static {
    /// Their list: a tuple.
    type On<B: Backend>: config::Tables<B>;
}

/// The instructions of a machine's processors, each run on the processor itself, and where its
/// frames come from.
///
/// What is left out costs nothing: the methods here are inlined, and those with a default do what a
/// machine without translation caches needs, or nothing.
///
/// # Safety
///
/// The implementor promises that
///
/// 1. [`allocate`](Self::allocate) returns what [`Region::allocate`] or [`Region::allocate_near`]
///    of that region returned to it, and each frame once, until [`free`](Self::free) gives it back
///    there;
/// 2. [`entry`](Self::entry) returns the word that it is given, seen as a type that accesses it as
///    an atomic, as [`Backend`] demands of words and of the orderings of sites;
/// 3. [`cpu`](Self::cpu) is never the same on two processors at the same time;
/// 4. [`load_root`](Self::load_root), [`masked`](Self::masked), [`invalidate`](Self::invalidate)
///    and [`interrupt`](Self::interrupt) do what [`Backend`] says of them;
/// 5. [`HARDWARE`](Self::HARDWARE) is what [`Backend::HARDWARE`] says.
pub unsafe trait Processors: Send + Sync + Sized + 'static {
    /// The grace periods that detached frames wait for: the core's
    /// [`Monitor`](weft_core::grace::Monitor), or one that flushes processors' caches of
    /// translations before it.
    type Reclaim<B: Backend>: Reclaim<B> + Default + fmt::Debug;

    /// The word of a lock: [`AtomicWord`], or one that tells when it is waited for.
    type LockWord: LockWord + fmt::Debug;

    /// An entry, as the core sees it: [`AtomicWord`], or one that a kernel breaks on purpose.
    type Word: Word + fmt::Debug;

    /// The word as an entry.
    fn entry(word: &AtomicWord) -> &Self::Word;

    /// The number of the processor that runs the caller: a different one on each.
    fn cpu(&self) -> CpuId;

    /// How the processors walk the roots that are loaded, if this code is translated by them, as
    /// [`Backend::HARDWARE`] says.
    const HARDWARE: Option<Hardware>;

    /// For how many address spaces the processors keep translations apart, as [`Backend::TAGS`]
    /// says. A kernel for processors with and without tags says what those with tags have, and
    /// forgets everything at each load on the others.
    const TAGS: usize = 1;

    /// Makes the calling processor translate through a root, or through no user table, as
    /// [`Backend::load_root`] says.
    ///
    /// # Safety
    ///
    /// The caller owns a reference to the root until another one has been loaded on this
    /// processor.
    unsafe fn load_root(&self, root: Option<TaggedRoot>);

    /// Takes a frame for the calling processor, or `None` if it gets none. With more than a few
    /// processors, override it with [`Region::allocate_near`] and the processor's number.
    #[inline]
    fn allocate<B: Backend>(&self, region: &Region<B>) -> Option<Paddr> {
        region.allocate()
    }

    /// Gives a frame back.
    ///
    /// # Safety
    ///
    /// 1. [`allocate`](Self::allocate) gave the frame and it has not been freed since.
    /// 2. Nothing uses the frame, its metadata or its words any more.
    #[inline]
    unsafe fn free<B: Backend>(&self, region: &Region<B>, frame: Paddr) {
        // SAFETY: (1) `allocate` passes on what the region gave, by the first promise of this
        // trait; the rest is the caller's contract.
        unsafe { region.free(frame) }
    }

    /// Hears what happens in the core, as [`Backend::observe`] says.
    #[inline]
    fn observe(&self, _event: Event) {}

    /// Calls `body` with the interrupts of the calling processor masked. Just calls it where none
    /// makes a processor [serve](Machine::serve) a request.
    fn masked<R>(&self, body: impl FnOnce() -> R) -> R {
        body()
    }

    /// Makes the calling processor forget translations, as [`Backend::invalidate`] says. Nothing
    /// where there are no translation caches.
    fn invalidate(&self, _what: &Request) {}

    /// Makes processors serve a request, as [`Backend::interrupt`] says. Nothing where there are no
    /// translation caches.
    fn interrupt<G: Geometry, T: Tables>(
        &self,
        _machine: Machine<G, T, Self>,
        _cpus: &CpuSet,
        _request: &Request,
    ) {
    }
}

/// What a machine consists of.
#[derive(Debug)]
pub struct Parts<G: Geometry, T: Tables, P: Processors> {
    region: Region<Machine<G, T, P>>,
    reclaim: P::Reclaim<Machine<G, T, P>>,
    processors: P,
    running: [P::Word; CPUS.div_ceil(64)],
    spaces: P::Word,
    noted: [OwnNotes; CPUS],
}

/// What a processor notes of its own caches: touched by itself only, with its interrupts masked.
#[derive(Debug, Default)]
struct OwnNotes {
    /// The number of the space; 0 for none.
    space: AtomicU64,
    clean: AtomicU64,
    others_stale: AtomicBool,
}

impl OwnNotes {
    fn change<R>(&self, body: impl FnOnce(&mut Noted) -> R) -> R {
        let mut noted = Noted {
            space: SpaceId::new(self.space.load(Ordering::Relaxed)),
            clean: self.clean.load(Ordering::Relaxed),
            others_stale: self.others_stale.load(Ordering::Relaxed),
        };
        let result = body(&mut noted);
        self.space.store(noted.space.map_or(0, SpaceId::as_u64), Ordering::Relaxed);
        self.clean.store(noted.clean, Ordering::Relaxed);
        self.others_stale.store(noted.others_stale, Ordering::Relaxed);
        result
    }
}

/// How many processors there can be.
const CPUS: usize = CpuId::MAX as usize + 1;

impl<G: Geometry, T: Tables, P: Processors> Parts<G, T, P> {
    const NODE_FITS_A_FRAME: () = assert!(
        G::ENTRIES * size_of::<AtomicWord>() <= FRAME_SIZE as usize,
        "the entries of a node exceed a frame"
    );

    /// A machine with this memory and these processors, none of them online.
    pub fn new(region: Region<Machine<G, T, P>>, processors: P) -> Self {
        const { Self::NODE_FITS_A_FRAME };
        Self {
            region,
            reclaim: Default::default(),
            processors,
            running: array::from_fn(|_| Word::new("running", 0)),
            spaces: Word::new("spaces", 0),
            noted: array::from_fn(|_| OwnNotes::default()),
        }
    }
}

/// The entries of a node.
pub struct NodeEntries<'a, G, P> {
    first: *const AtomicWord,
    _words: PhantomData<&'a AtomicWord>,
    _machine: PhantomData<fn(G, P)>,
}

impl<G, P> fmt::Debug for NodeEntries<'_, G, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NodeEntries").field(&self.first).finish()
    }
}

impl<G, P> Clone for NodeEntries<'_, G, P> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl<G, P> Copy for NodeEntries<'_, G, P> {}

impl<'a, G: Geometry, P: Processors> Entries<'a, P::Word> for NodeEntries<'a, G, P> {
    #[inline]
    fn get(self, index: usize) -> &'a P::Word {
        assert!(index < G::ENTRIES, "entry index out of range");
        // SAFETY: `Machine::entries` made this of a node that is not freed during 'a, and the
        // index was checked in the line above.
        P::entry(unsafe { &*self.first.wrapping_add(index) })
    }
}

/// A handle of a machine: the production backend.
pub struct Machine<G: Geometry, T: Tables, P: Processors> {
    parts: &'static Parts<G, T, P>,
    _tables: PhantomData<fn() -> T>,
}

impl<G: Geometry, T: Tables, P: Processors> Machine<G, T, P> {
    /// The handle of these parts.
    pub const fn new(parts: &'static Parts<G, T, P>) -> Self {
        Self { parts, _tables: PhantomData }
    }

    /// The memory.
    pub fn region(self) -> &'static Region<Self> {
        &self.parts.region
    }

    /// Serves a request on the calling processor: for interrupt handlers, and for
    /// [`Processors::interrupt`] where it is among the targets. Interrupts are masked.
    pub fn serve(self, request: &Request) {
        self.with_notes(|noted| request.serve(&self, noted));
    }

    fn with_notes<R>(self, body: impl FnOnce(&mut Noted) -> R) -> R {
        self.parts.noted[self.cpu().as_u32() as usize].change(body)
    }

    /// The processors.
    pub fn processors(self) -> &'static P {
        &self.parts.processors
    }
}

impl<G: Geometry, T: Tables, P: Processors> Clone for Machine<G, T, P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<G: Geometry, T: Tables, P: Processors> Copy for Machine<G, T, P> {}

impl<G: Geometry, T: Tables, P: Processors> PartialEq for Machine<G, T, P> {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        ptr::eq(self.parts, other.parts)
    }
}

impl<G: Geometry, T: Tables, P: Processors> Eq for Machine<G, T, P> {}

impl<G: Geometry, T: Tables, P: Processors> fmt::Debug for Machine<G, T, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Machine").field(&self.parts.region).finish()
    }
}

// SAFETY: (1) the region gives a frame out once until it is freed, and the processors pass it on,
// by their promise 1; (2) metadata and words are found by arithmetic on the frame's address, which
// is one-to-one and always the same; (3) words and cells are atomics, by their promise 2; (4) and
// (6) are their promises 4 and 5; (5) every access takes the ordering of its site as it is.
unsafe impl<G: Geometry, T: Tables, P: Processors> Backend for Machine<G, T, P> {
    type Word = P::Word;
    type LockWord = P::LockWord;
    type Count = AtomicWord;
    type Cell<V: CellValue> = AtomicCell<V>;
    type Entries<'a> = NodeEntries<'a, G, P>;
    type NodeLock = SpinLock<P::LockWord>;
    type Reclaim = P::Reclaim<Self>;
    type Geometry = G;
    type Tables = T::On<Self>;

    const TAGS: usize = P::TAGS;

    const HARDWARE: Option<Hardware> = P::HARDWARE;

    fn allocate(&self, _purpose: FrameUse) -> Option<Paddr> {
        self.parts.processors.allocate(&self.parts.region)
    }

    unsafe fn free(&self, frame: Paddr) {
        // SAFETY: (1) `allocate` passes on what the processors gave, and the caller promises that
        // the frame was not freed since; (2) the caller promises that nothing uses it.
        unsafe { self.parts.processors.free(&self.parts.region, frame) }
    }

    #[inline]
    unsafe fn metadata(&self, frame: Paddr) -> &Metadata<Self> {
        // SAFETY: `allocate` passes on what the region gave, by the first promise of the
        // processors; the caller promises that the frame is not freed while the result is used.
        unsafe { self.parts.region.metadata(frame) }
    }

    #[inline]
    unsafe fn entries(&self, frame: Paddr) -> NodeEntries<'_, G, P> {
        // The caller promises an allocated node, whose words are accessed through here only, and
        // by the MMU.
        NodeEntries {
            first: self.parts.region.words(frame),
            _words: PhantomData,
            _machine: PhantomData,
        }
    }

    #[inline]
    fn reclaim(&self) -> &P::Reclaim<Self> {
        &self.parts.reclaim
    }

    fn cpu(&self) -> CpuId {
        self.parts.processors.cpu()
    }

    unsafe fn load_root(&self, root: Option<TaggedRoot>) {
        // SAFETY: both contracts say the same, word for word.
        unsafe { self.parts.processors.load_root(root) }
    }

    #[inline]
    fn fence(&self, site: &'static FenceSite) {
        fence(site);
    }

    fn running(&self) -> &[P::Word] {
        &self.parts.running
    }

    fn spaces(&self) -> &P::Word {
        &self.parts.spaces
    }

    fn masked<R>(&self, body: impl FnOnce(&mut Noted) -> R) -> R {
        self.parts.processors.masked(|| self.with_notes(body))
    }

    fn invalidate(&self, what: &Request) {
        self.parts.processors.invalidate(what);
    }

    #[inline]
    fn interrupt(&self, cpus: &CpuSet, request: &Request) {
        self.parts.processors.interrupt(*self, cpus, request);
    }

    fn observe(&self, event: Event) {
        self.parts.processors.observe(event);
    }
}
