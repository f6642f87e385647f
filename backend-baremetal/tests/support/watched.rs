//! A machine that can be watched: what it writes, unlocks, flushes and retires, in order, and
//! hardware that comes in between.
//!
//! [`Watch`] is the [`Processors`] of a test, on one thread. Its words are the production
//! backend's, and write down what is done with them. When hardware [writes](hardware_writes), it
//! does so at the worst moment: just before each store and each read-modify-write it sets both of
//! its bits in that very entry, if the entry is present. A store loses them, whatever the format
//! says.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicU64, Ordering};

use weft_backend_baremetal::backend::{self, Processors};
use weft_backend_baremetal::frame::Region;
use weft_backend_baremetal::hosted;
use weft_backend_baremetal::word::AtomicWord;
use weft_core::address::{CpuId, FRAME_SIZE, Paddr};
use weft_core::config::Config;
use weft_core::format::EntryFormat;
use weft_core::geometry::Geometry;
use weft_core::grace::Monitor;
use weft_core::node::NodeRef;
use weft_core::reclaim::{Paid, Reclaim};
use weft_core::sites::{ENTRY_RETRY, PROTECT_ENTRY, Site};
use weft_core::sync::{self, Backend, Entries, Event, Flush, Hardware, TaggedRoot, Word};

use crate::support::AllKinds;
use crate::support::processors::Failing;

/// A machine that is watched.
pub(crate) type Machine<G> = backend::Machine<G, AllKinds, Watch>;

/// What was seen, in order. Words are known by where they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Seen {
    Wrote { word: usize, old: u64, new: u64 },
    Unlocked { word: usize },
    Flushed(Flush),
    Retired,
}

/// How entries were written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Writes {
    pub(crate) stores: usize,
    pub(crate) updates: usize,
}

type Hook = Box<dyn FnMut()>;
/// What hardware makes of an entry.
type Noting = fn(u64) -> u64;

thread_local! {
    static SEEN: RefCell<Vec<Seen>> = const { RefCell::new(Vec::new()) };
    static AT_FLUSH: RefCell<Option<Hook>> = const { RefCell::new(None) };
    static WRITES: Cell<Writes> = const { Cell::new(Writes { stores: 0, updates: 0 }) };
    static HARDWARE: Cell<Option<Noting>> = const { Cell::new(None) };
}

/// A new machine.
pub(crate) fn start<G: Geometry>(frames: u64) -> Machine<G> {
    hosted::start_with(frames, Watch::default()).expect("the host has this much memory")
}

/// Runs `body` on a new machine, and checks that it gave back every frame.
pub(crate) fn on_watched<G: Geometry>(body: impl FnOnce(&Machine<G>)) {
    let machine = start(1024);
    SEEN.take();
    body(&machine);
    assert_eq!(machine.region().live(), 0, "frames are still in use when everything is dropped");
}

/// What was seen since the last call.
pub(crate) fn all_seen() -> Vec<Seen> {
    SEEN.take()
}

/// What was flushed and retired since the last call.
pub(crate) fn seen() -> Vec<Seen> {
    let mut seen = all_seen();
    seen.retain(|it| matches!(it, Seen::Flushed(_) | Seen::Retired));
    seen
}

fn see(it: Seen) {
    SEEN.with_borrow_mut(|seen| seen.push(it));
}

/// Where the words of a machine's nodes are: they follow each other as frames do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    entries: usize,
    metadata: usize,
    metadata_size: usize,
}

impl Layout {
    /// The layout of a machine, one of whose nodes this is.
    pub(crate) fn of<C: Config>(node: NodeRef<'_, C>) -> Self {
        let (backend, frame) = (node.backend(), node.paddr());
        // SAFETY: a `NodeRef` is a node that is not freed while it is used.
        let metadata = unsafe { backend.metadata(frame) };
        // SAFETY: as above.
        let first = unsafe { backend.entries(frame) }.get(0);
        let metadata_size = size_of_val(metadata);
        let before = frame.frame_number() as usize * metadata_size;
        Self {
            entries: std::ptr::from_ref(first).addr() - frame.as_u64() as usize,
            metadata: std::ptr::from_ref(metadata).addr() - before,
            metadata_size,
        }
    }

    /// The frame of the node that has this word as an entry, and its index.
    pub(crate) fn entry(&self, word: usize) -> (Paddr, usize) {
        let bytes = word.wrapping_sub(self.entries);
        let (frame, offset) = (bytes as u64 / FRAME_SIZE, bytes as u64 % FRAME_SIZE);
        (Paddr::of_frame(frame), offset as usize / size_of::<u64>())
    }

    /// The frame of the node that has this word as its lock. Other locks, the monitor's for one,
    /// are those of no frame.
    pub(crate) fn locked(&self, word: usize) -> Paddr {
        Paddr::of_frame((word.wrapping_sub(self.metadata) / self.metadata_size) as u64)
    }
}

/// How entries were written during `body`.
pub(crate) fn writes_of(body: impl FnOnce()) -> Writes {
    WRITES.take();
    body();
    WRITES.take()
}

/// Lets hardware write during `body`.
pub(crate) fn hardware_writes<F: EntryFormat, R>(body: impl FnOnce() -> R) -> R {
    HARDWARE.set(Some(noted::<F>));
    let result = body();
    HARDWARE.set(None);
    result
}

/// An entry after hardware has set what it may.
fn noted<F: EntryFormat>(entry: u64) -> u64 {
    if F::hardware_may_write(entry) { entry | F::HARDWARE_BITS } else { entry }
}

/// Runs `hook` at every flush from now on, until there is another one.
pub(crate) fn at_flush(hook: Option<Hook>) {
    AT_FLUSH.set(hook);
}

/// Processors of one thread.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// The allocation that is to fail.
    pub(crate) failing: Failing,
}

// SAFETY: (1) the region's frames are passed on; (2) an entry is the word, counted; (3) a test has
// one thread; (4) it translates nothing through these tables; (5) it is translated by the host's.
unsafe impl Processors for Watch {
    type Reclaim<B: Backend> = Watched<B>;
    type LockWord = LockWord;
    type Word = EntryWord;

    const HARDWARE: Option<Hardware> = None;

    fn entry(word: &AtomicWord) -> &EntryWord {
        // SAFETY: an `EntryWord` is an `AtomicWord` in layout.
        unsafe { &*std::ptr::from_ref(word).cast::<EntryWord>() }
    }

    fn cpu(&self) -> CpuId {
        CpuId::new(0)
    }

    unsafe fn load_root(&self, _root: Option<TaggedRoot>) {}

    fn allocate<B: Backend>(&self, region: &Region<B>) -> Option<Paddr> {
        if self.failing.is_now() { None } else { region.allocate() }
    }

    fn observe(&self, event: Event) {
        let Event::Flushed(what) = event else { return };
        see(Seen::Flushed(what));
        let mut hook = AT_FLUSH.take();
        hook.iter_mut().for_each(|hook| hook());
        AT_FLUSH.set(hook);
    }
}

/// The core's monitor, watched. The monitor does nothing when a section begins or ends; other
/// reclamations rely on being told, and this one checks that it is.
#[derive(Debug)]
pub(crate) struct Watched<B: Backend> {
    monitor: Monitor<B>,
    /// How many sections of each CPU have begun and not ended.
    sections: [AtomicU64; CpuId::MAX as usize + 1],
}

impl<B: Backend> Default for Watched<B> {
    fn default() -> Self {
        Self {
            monitor: Monitor::new(),
            sections: [const { AtomicU64::new(0) }; CpuId::MAX as usize + 1],
        }
    }
}

impl<B: Backend> Watched<B> {
    fn sections(&self, cpu: CpuId) -> &AtomicU64 {
        &self.sections[cpu.as_u32() as usize]
    }

    fn assert_outside(&self, cpu: CpuId) {
        let sections = self.sections(cpu).load(Ordering::Relaxed);
        assert_eq!(sections, 0, "a CPU says that it is in no section, and has not left all");
    }
}

// SAFETY: everything is passed on to the monitor, which keeps the promise.
unsafe impl<B: Backend> Reclaim<B> for Watched<B> {
    fn online(&self, cpu: CpuId) -> bool {
        self.monitor.online(cpu)
    }

    unsafe fn offline(&self, backend: &B, cpu: CpuId) {
        self.assert_outside(cpu);
        // SAFETY: both contracts say the same, word for word.
        unsafe { self.monitor.offline(backend, cpu) }
    }

    unsafe fn enter(&self, cpu: CpuId) {
        self.sections(cpu).fetch_add(1, Ordering::Relaxed);
        // SAFETY: both contracts say the same, word for word.
        unsafe { self.monitor.enter(cpu) }
    }

    unsafe fn leave(&self, cpu: CpuId) {
        let sections = self.sections(cpu).fetch_sub(1, Ordering::Relaxed);
        assert_ne!(sections, 0, "a CPU leaves a section that it has not entered");
        // SAFETY: both contracts say the same, word for word.
        unsafe { self.monitor.leave(cpu) }
    }

    unsafe fn quiescent(&self, backend: &B, cpu: CpuId) {
        self.assert_outside(cpu);
        // SAFETY: both contracts say the same, word for word.
        unsafe { self.monitor.quiescent(backend, cpu) }
    }

    unsafe fn retire(&self, backend: &B, batch: Paid<B>) {
        see(Seen::Retired);
        // SAFETY: both contracts say the same, word for word.
        unsafe { self.monitor.retire(backend, batch) }
    }
}

/// A word of a node, watched.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct EntryWord(AtomicWord);

impl EntryWord {
    /// Hardware gets there first.
    fn hardware(&self) {
        let Some(noted) = HARDWARE.get() else { return };
        let found = Word::load(&self.0, &ENTRY_RETRY);
        // Bit 0 says in every format of ours that an entry is present.
        if found & 1 != 0 {
            Word::store(&self.0, noted(found), &PROTECT_ENTRY);
        }
    }

    fn count(&self, stores: usize, updates: usize) {
        let before = WRITES.get();
        let (stores, updates) = (before.stores + stores, before.updates + updates);
        WRITES.set(Writes { stores, updates });
        self.hardware();
    }

    fn wrote(&self, old: u64, new: u64) {
        see(Seen::Wrote { word: std::ptr::from_ref(self).addr(), old, new });
    }
}

impl Word for EntryWord {
    fn new(name: &'static str, value: u64) -> Self {
        Self(Word::new(name, value))
    }

    fn load(&self, site: &'static Site) -> u64 {
        Word::load(&self.0, site)
    }

    fn store(&self, value: u64, site: &'static Site) {
        self.count(1, 0);
        self.wrote(Word::load(&self.0, &ENTRY_RETRY), value);
        Word::store(&self.0, value, site);
    }

    fn swap(&self, value: u64, site: &'static Site) -> u64 {
        self.count(0, 1);
        let old = Word::swap(&self.0, value, site);
        self.wrote(old, value);
        old
    }

    fn compare_exchange(
        &self,
        current: u64,
        new: u64,
        success: &'static Site,
        failure: &'static Site,
    ) -> Result<u64, u64> {
        self.count(0, 1);
        Word::compare_exchange(&self.0, current, new, success, failure)
            .inspect(|old| self.wrote(*old, new))
    }

    fn fetch_add(&self, value: u64, site: &'static Site) -> u64 {
        Word::fetch_add(&self.0, value, site)
    }
}

/// The word of a node's lock, watched.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct LockWord(AtomicWord);

impl sync::LockWord for LockWord {
    fn new(name: &'static str, value: u64) -> Self {
        Self(sync::LockWord::new(name, value))
    }

    fn compare_exchange(
        &self,
        current: u64,
        new: u64,
        success: &'static Site,
        failure: &'static Site,
    ) -> Result<u64, u64> {
        sync::LockWord::compare_exchange(&self.0, current, new, success, failure)
    }

    fn store(&self, value: u64, site: &'static Site) {
        if value == 0 {
            see(Seen::Unlocked { word: std::ptr::from_ref(self).addr() });
        }
        sync::LockWord::store(&self.0, value, site);
    }

    fn relax(&self) {
        panic!("a test of one thread waits for itself");
    }
}
