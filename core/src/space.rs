//! Address spaces: a root, and the CPUs that may hold translations of it.
//!
//! Hardware keeps translations, and upper levels of walks, in caches of its own. A change of a
//! table has to reach those caches before what it took away is used for something else, and other
//! CPUs have to be interrupted for that. An [`AddressSpace`] knows which ones: its *holders*.
//!
//! # Joining, flushing, leaving
//!
//! Each column is in order; the two meet at their fences.
//!
//! ```text
//! a CPU activates the space              a CPU flushes
//!   adds itself to the holders             changes the entry
//!   ACTIVATE_ORDER                         raises the generation
//!   reads the generation                   FLUSH_ORDER
//!   loads the root                         reads the holders, and interrupts them
//! ```
//!
//! Of the two fences one comes first. If it is the flusher's, the other CPU sees the change in
//! every walk that follows the load of the root. If it is the other's, the flusher finds it among
//! the holders. A CPU that leaves loads the next root first, which makes it use this one no more,
//! and then takes itself out with a release; the flusher's acquire of the holders is the other end.
//!
//! # Lazy CPUs
//!
//! A CPU that runs a thread of the kernel needs no user's table, but loading another root costs,
//! and the same user may be next. So it may stay, [lazy](crate::cpu::Cpu::lazy): it is not asked
//! for pages, because it uses none. It is asked when nodes go, because its hardware may walk ahead
//! through upper levels that it has cached. Before it uses a page again it catches up: if the
//! *generation* of the space, which counts flushes, has moved on, it forgets everything.
//!
//! Each CPU [notes](Noted) the generation up to which it holds nothing stale. It does so when it
//! joins and when it answers a request, but never on the way out: a flush may have raised the
//! generation while its request is still on the way. A request for a few pages moves the note by
//! one, from the generation just before its own; a request for everything moves it at once.
//!
//! A CPU that has switched away and comes back looks at the generation in the same way, if it has
//! kept what it had cached of the space: see [`tags`](crate::tags).
//!
//! # Tables without a space
//!
//! A table that others share (a kernel's), or a bare root, has no holders of its own; nor does the
//! owner of a bare [`Guard`](crate::guard::Guard) know which root is above it. What is changed
//! there is flushed on every CPU that runs on any root.
//!
//! Rules of the hardware: Intel SDM volume 3A, sections 5.10.2 to 5.10.5. Holders and fences as
//! in Linux (`mm_cpumask`, `switch_mm_irqs_off`), the generation after its `tlb_gen`.

use core::borrow::Borrow;
use core::fmt;
use core::num::NonZeroU64;
use core::ops::Deref;

use crate::address::{CpuId, CpuSet, Level, Paddr, Vaddr};
use crate::config::{Config, Geo, Kind};
use crate::error::OutOfMemory;
use crate::geometry::Geometry;
use crate::node::{Metadata, Node};
use crate::permanent::Permanent;
use crate::reference::{FrameRef, Reference};
use crate::sites::site;
use crate::sync::{Backend, Entries, FrameUse, PlainCell, Word};

/// How many CPUs a word of holders has: two bits each.
const HELD_BY: u32 = 32;
/// Of a CPU's two bits: it holds translations.
const HOLDS: u64 = 1;
/// Of a CPU's two bits: it uses no page for now.
const LAZY: u64 = 2;

/// Which translations are flushed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flush {
    /// That of one page, at any size, by its canonical address.
    Page(Vaddr),
    /// Those of several pages that follow each other, one by one.
    Pages {
        /// The address of the first one.
        first: Vaddr,
        /// The length of each, in bytes.
        length: u64,
        /// How many there are, at most [`Backend::FLUSH_PAGES_MAX`].
        count: u32,
    },
    /// All of them, and with them the upper levels of walks.
    Everything,
}

impl Flush {
    /// The addresses to invalidate one by one; `None` for everything.
    pub fn pages(self) -> Option<impl Iterator<Item = Vaddr>> {
        let (first, length, count) = match self {
            Self::Page(page) => (page, 0, 1),
            Self::Pages { first, length, count } => (first, length, count),
            Self::Everything => return None,
        };
        Some((0..u64::from(count)).map(move |number| first.plus(number * length)))
    }
}

/// The number of an address space. No other one of the same machine has it, or ever gets it, also
/// not one that takes the frames of a space that is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SpaceId(NonZeroU64);

impl SpaceId {
    /// The space with this number, which [`as_u64`](Self::as_u64) gave; `None` for 0.
    pub fn new(number: u64) -> Option<Self> {
        NonZeroU64::new(number).map(Self)
    }

    /// The number, which is not 0.
    pub fn as_u64(self) -> u64 {
        self.0.get()
    }
}

/// A root that a CPU is about to translate through, and the tag of its translations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TaggedRoot {
    /// The root.
    pub root: Paddr,
    /// The tag, below [`Backend::TAGS`].
    pub tag: u32,
    /// Whether the CPU may use what it has cached under the tag. Otherwise that is another space's,
    /// or stale.
    pub keeps: bool,
}

/// What CPUs are asked to forget.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    space: Option<SpaceId>,
    generation: u64,
    flush: Flush,
    nodes: bool,
}

impl Request {
    /// The translations.
    pub fn flush(&self) -> Flush {
        self.flush
    }

    /// Whether nodes were taken out. Then upper levels of walks that have been cached go, too;
    /// hardware that drops those with each page that is invalidated needs to do no more.
    pub fn nodes(&self) -> bool {
        self.nodes
    }

    /// Which space the translations are of. `None` if they may be of any, and may be shared by all.
    pub fn space(&self) -> Option<SpaceId> {
        self.space
    }

    /// Serves the request on the calling CPU: called by its interrupt handler, and by the CPU that
    /// flushes if it is among the [targets](Backend::interrupt), with its interrupts masked.
    #[track_caller]
    pub fn serve<B: Backend>(&self, backend: &B, noted: &mut Noted) {
        backend.invalidate(self);
        if self.space.is_none() {
            noted.others_stale = true;
        }
        if self.space.is_none() || self.space != noted.space {
            return;
        }
        let follows = match self.flush {
            Flush::Everything => noted.clean < self.generation,
            // What lies between was asked for, too, but not yet of this CPU.
            Flush::Page(_) | Flush::Pages { .. } => noted.clean + 1 == self.generation,
        };
        if follows {
            noted.clean = self.generation;
        }
    }
}

/// What a CPU knows of its own translation caches. Nothing but the CPU and its interrupt handlers
/// uses it; see [`Backend::masked`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Noted {
    /// The space that the CPU runs on.
    pub space: Option<SpaceId>,
    /// The generation of that space up to which the CPU holds nothing stale.
    pub clean: u64,
    /// Whether what is cached under other [tags](crate::tags) may be stale: since it runs on the
    /// space, the CPU was asked to flush what may be of any.
    pub others_stale: bool,
}

impl Noted {
    /// The CPU uses pages of its space again: if there were flushes that it was not asked for, it
    /// forgets everything.
    pub(crate) fn catch_up<B: Backend>(&mut self, backend: &B, generation: u64) {
        if self.clean < generation {
            let (space, flush) = (self.space, Flush::Everything);
            Request { space, generation, flush, nodes: true }.serve(backend, self);
        }
    }
}

/// A root that CPUs can run on, with the words that say which ones do. Dereferences to the root.
///
/// Clones are handles of the same space; the last one dropped frees it.
pub struct AddressSpace<C: Config> {
    root: Node<C>,
}

impl<C: Config> fmt::Debug for AddressSpace<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AddressSpace({:?})", self.root)
    }
}

impl<C: Config> Clone for AddressSpace<C> {
    #[track_caller]
    fn clone(&self) -> Self {
        Self { root: self.root.clone() }
    }
}

impl<C: Config> Deref for AddressSpace<C> {
    type Target = Node<C>;

    fn deref(&self) -> &Node<C> {
        &self.root
    }
}

impl<C: Config> Borrow<Node<C>> for AddressSpace<C> {
    fn borrow(&self) -> &Node<C> {
        &self.root
    }
}

impl<C: Config> AddressSpace<C> {
    /// A space that maps nothing. It takes two frames: the root, and one for its words.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`] if the backend has no frames left.
    #[track_caller]
    pub fn allocate(backend: &C::Backend) -> Result<Self, OutOfMemory> {
        Self::with_root(Node::allocate(backend, <Geo<C>>::ROOT)?)
    }

    /// A space whose root shares the entries of `owner`: a user's, with the kernel's half.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`] if the backend has no frames left.
    ///
    /// # Panics
    ///
    /// As for [`Node::root_sharing`].
    #[track_caller]
    pub fn sharing<K>(owner: &Permanent<K>) -> Result<Self, OutOfMemory>
    where
        K: Config<Backend = C::Backend>,
    {
        Self::with_root(Node::root_sharing(owner)?)
    }

    /// Gives a root that was made just now its words.
    #[track_caller]
    fn with_root(root: Node<C>) -> Result<Self, OutOfMemory> {
        const { assert!(!C::ROOT_ENTRIES_STAY, "a table that others share has no space") };
        let backend = root.backend();
        let frame = backend.allocate(FrameUse::Space).ok_or(OutOfMemory)?;
        Metadata::prepare(backend, frame, Level::LEAF, Kind::SPACE);
        // SAFETY: `prepare` has just set the count to 1, for this reference; and it was allocated
        // with entries.
        let words = unsafe { Reference::from_raw(backend.clone(), frame) };
        let entries = words.borrow().entries();
        for index in 0..<Geo<C>>::ENTRIES {
            entries.get(index).store(0, site!(SPACE_INIT));
        }
        let number = backend.spaces().fetch_add(1, site!(SPACE_NUMBERED)) + 1;
        words.borrow().metadata().link.set(number);
        root.frame_ref().metadata().link.set(words.into_raw().1.as_u64());
        Ok(Self { root })
    }
}

/// Gives up the words of a root that no CPU can reach any more, if it has any.
#[track_caller]
pub(crate) fn free_words<B: Backend>(root: FrameRef<'_, B>) {
    if let Some(frame) = words_of(root) {
        // SAFETY: `with_root` gave up this reference to the link of the root, which goes now.
        let mut words = unsafe { Reference::from_raw(root.backend().clone(), frame) };
        if words.count_down() {
            // SAFETY: the line above counted the last reference down; it is used no more.
            unsafe { words.free() }
        }
    }
}

/// Where the words of a root are.
#[track_caller]
fn words_of<B: Backend>(root: FrameRef<'_, B>) -> Option<Paddr> {
    let link = root.metadata().link.get();
    (link != 0).then(|| Paddr::new(link))
}

/// Which CPUs have to be told of changes to a table.
pub(crate) struct Space<'g, B: Backend> {
    backend: &'g B,
    /// The root of the table; without one, changes concern every CPU that runs on any.
    root: Option<FrameRef<'g, B>>,
}

copied!(Space<B: Backend>);

impl<B: Backend> fmt::Debug for Space<'_, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Space({:?})", self.root)
    }
}

impl<'g, B: Backend> Space<'g, B> {
    /// That of a root.
    #[inline]
    pub(crate) fn of(root: FrameRef<'g, B>) -> Self {
        Self { backend: root.backend(), root: Some(root) }
    }

    /// Any: the root is not known, or shared.
    #[inline]
    pub(crate) fn any(backend: &'g B) -> Self {
        Self { backend, root: None }
    }

    #[inline]
    pub(crate) fn backend(self) -> &'g B {
        self.backend
    }

    /// The words of the space, if the root has one.
    #[track_caller]
    pub(crate) fn words(self) -> Option<SpaceWords<'g, B>> {
        let frame = words_of(self.root?)?;
        // SAFETY: (1) the words go with the root, which lives for 'g; (2) `with_root` allocated
        // them with entries.
        Some(SpaceWords(unsafe { FrameRef::new(self.backend, frame) }))
    }

    /// Makes every CPU forget translations that may hold them, and returns once all have. What was
    /// changed in the table before does not come back.
    #[track_caller]
    pub(crate) fn shoot_down(self, flush: Flush, nodes: bool) {
        let words = self.words();
        let space = words.map(SpaceWords::id);
        // A call, so that the change is told at the line that asks for it.
        let generation = if let Some(words) = words { words.raise() } else { 0 };
        self.backend.fence(site!(FLUSH_ORDER));
        let targets = match words {
            Some(words) => words.holders(nodes),
            None => running(self.backend),
        };
        if !targets.is_empty() || space.is_none() && B::HARDWARE.is_some() {
            self.backend.interrupt(&targets, &Request { space, generation, flush, nodes });
        }
    }
}

/// The CPUs that run on any root.
#[track_caller]
fn running<B: Backend>(backend: &B) -> CpuSet {
    let mut cpus = CpuSet::EMPTY;
    for (group, word) in backend.running().iter().enumerate() {
        let bits = word.load(site!(HOLDERS_SEEN));
        (0..64).filter(|bit| bits >> bit & 1 != 0).for_each(|bit| {
            cpus.insert(CpuId::new(64 * group as u32 + bit));
        });
    }
    cpus
}

/// Notes that `cpu` runs on a root, or on none any more.
#[track_caller]
pub(crate) fn note_running<B: Backend>(backend: &B, cpu: CpuId, runs: bool) {
    let word = &backend.running()[cpu.as_u32() as usize / 64];
    let bit = 1 << (cpu.as_u32() % 64);
    if runs {
        word.fetch_add(bit, site!(HOLDER_JOINS));
    } else {
        word.fetch_add(0u64.wrapping_sub(bit), site!(HOLDER_LEAVES));
    }
}

/// How many words of holders a space has, beside its generation.
fn groups<B: Backend>() -> u32 {
    let fits = B::Geometry::ENTRIES as u32 - 1;
    (CpuId::MAX / HELD_BY + 1).min(fits)
}

/// Whether a space has a place for this CPU.
pub(crate) fn has_place<B: Backend>(cpu: CpuId) -> bool {
    cpu.as_u32() / HELD_BY < groups::<B>()
}

/// The words of a space: its generation, then the holders.
pub(crate) struct SpaceWords<'g, B: Backend>(FrameRef<'g, B>);

copied!(SpaceWords<B: Backend>);

impl<'g, B: Backend> SpaceWords<'g, B> {
    /// The number of the space: in the metadata, because the entries of a small geometry are full.
    #[track_caller]
    pub(crate) fn id(self) -> SpaceId {
        SpaceId::new(self.0.metadata().link.get()).expect("`with_root` counts from 1")
    }

    /// How many flushes there have been.
    #[track_caller]
    pub(crate) fn generation(self) -> u64 {
        self.0.entry(0).load(site!(GENERATION_SEEN))
    }

    /// Counts a flush, and gives its number.
    #[track_caller]
    fn raise(self) -> u64 {
        self.0.entry(0).fetch_add(1, site!(GENERATION_RAISED)) + 1
    }

    /// `cpu` holds translations from now on. A fence follows.
    #[track_caller]
    pub(crate) fn join(self, cpu: CpuId) {
        let (word, bits) = self.bits_of(cpu, HOLDS);
        word.fetch_add(bits, site!(HOLDER_JOINS));
    }

    /// `cpu` uses its translations no more.
    #[track_caller]
    pub(crate) fn leave(self, cpu: CpuId, lazy: bool) {
        let (word, bits) = self.bits_of(cpu, if lazy { HOLDS | LAZY } else { HOLDS });
        word.fetch_add(0u64.wrapping_sub(bits), site!(HOLDER_LEAVES));
    }

    /// `cpu` uses no page from now on.
    #[track_caller]
    pub(crate) fn go_lazy(self, cpu: CpuId) {
        let (word, bits) = self.bits_of(cpu, LAZY);
        word.fetch_add(bits, site!(HOLDER_LEAVES));
    }

    /// `cpu`, which was lazy, is asked for pages again. A fence follows.
    #[track_caller]
    pub(crate) fn come_back(self, cpu: CpuId) {
        let (word, bits) = self.bits_of(cpu, LAZY);
        word.fetch_add(0u64.wrapping_sub(bits), site!(HOLDER_JOINS));
    }

    /// The CPUs to ask; lazy ones only if nodes go.
    #[track_caller]
    fn holders(self, nodes: bool) -> CpuSet {
        let mut cpus = CpuSet::EMPTY;
        let asked = |bits: u64| bits & HOLDS != 0 && (nodes || bits & LAZY == 0);
        for group in 0..groups::<B>() {
            let bits = self.0.entry(1 + group as usize).load(site!(HOLDERS_SEEN));
            (0..HELD_BY).filter(|place| asked(bits >> (2 * place))).for_each(|place| {
                cpus.insert(CpuId::new(HELD_BY * group + place));
            });
        }
        cpus
    }

    /// The word with the bits of a CPU, and these bits in their place.
    fn bits_of(self, cpu: CpuId, bits: u64) -> (&'g B::Word, u64) {
        let (group, place) = (cpu.as_u32() / HELD_BY, cpu.as_u32() % HELD_BY);
        (self.0.entry(1 + group as usize), bits << (2 * place))
    }
}
