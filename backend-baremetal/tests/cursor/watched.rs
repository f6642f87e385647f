//! A machine that can be watched: what it flushes and retires, how entries are written, and
//! hardware that comes in between.
//!
//! [`Watch`] is the [`Processors`] of a test, on one thread. Its words are the production
//! backend's, counted. When hardware [writes](hardware_writes), it does so at the worst moment:
//! just before each store and each read-modify-write it sets both of its bits in that very entry,
//! if the entry is present. A store loses them, whatever the format says.

use std::cell::{Cell, RefCell};

use weft_backend_baremetal::backend::{self, Processors};
use weft_backend_baremetal::hosted;
use weft_backend_baremetal::word::AtomicWord;
use weft_core::address::{CpuId, CpuSet, Paddr};
use weft_core::format::EntryFormat;
use weft_core::grace::Monitor;
use weft_core::reclaim::{Batch, Reclaim};
use weft_core::sites::{ENTRY_RETRY, PROTECT_ENTRY, Site};
use weft_core::sync::{Backend, Flush, Word};

use crate::architecture::Architecture;
use crate::support::{AllKinds, WholeOn};

/// A machine that is watched.
pub(crate) type Machine<G> = backend::Machine<G, AllKinds, Watch>;
/// A table on it that manages all of its root.
pub(crate) type Table<G> = WholeOn<Machine<G>, <G as Architecture>::Format>;

/// What was seen, in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Seen {
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

/// Runs `body` on a new machine, and checks that it gave back every frame.
pub(crate) fn on_watched<G: Architecture>(body: impl FnOnce(&Machine<G>)) {
    let machine = hosted::start_with::<G, AllKinds, _>(1024, Watch).expect("a few megabytes");
    SEEN.take();
    body(&machine);
    assert_eq!(machine.region().live(), 0, "frames are still in use when everything is dropped");
}

/// What was seen since the last call.
pub(crate) fn seen() -> Vec<Seen> {
    SEEN.take()
}

/// How entries were written during `body`.
pub(crate) fn writes_of(body: impl FnOnce()) -> Writes {
    WRITES.take();
    body();
    WRITES.take()
}

/// Lets hardware of an architecture write during `body`.
pub(crate) fn hardware_writes<G: Architecture, R>(body: impl FnOnce() -> R) -> R {
    HARDWARE.set(Some(noted::<G::Format>));
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
#[derive(Debug)]
pub(crate) struct Watch;

// SAFETY: (1) the region's frames are passed on; (2) an entry is the word, counted; (3) a test has
// one thread.
unsafe impl Processors for Watch {
    type Reclaim<B: Backend> = Watched<B>;
    type LockWord = AtomicWord;
    type Word = EntryWord;

    fn entry(word: &AtomicWord) -> &EntryWord {
        // SAFETY: an `EntryWord` is an `AtomicWord` in layout.
        unsafe { &*std::ptr::from_ref(word).cast::<EntryWord>() }
    }

    fn cpu(&self) -> CpuId {
        CpuId::new(0)
    }

    unsafe fn load_root(&self, _root: Option<Paddr>) {}

    fn flush(&self, what: Flush, cpus: CpuSet) {
        assert_eq!(cpus, CpuSet::ALL, "nobody is known to have no translation");
        SEEN.with_borrow_mut(|seen| seen.push(Seen::Flushed(what)));
        let mut hook = AT_FLUSH.take();
        hook.iter_mut().for_each(|hook| hook());
        AT_FLUSH.set(hook);
    }
}

/// The core's monitor, watched.
#[derive(Debug)]
pub(crate) struct Watched<B: Backend>(Monitor<B>);

impl<B: Backend> Default for Watched<B> {
    fn default() -> Self {
        Self(Monitor::new())
    }
}

// SAFETY: everything is passed on to the monitor, which keeps the promise.
unsafe impl<B: Backend> Reclaim<B> for Watched<B> {
    fn online(&self, cpu: CpuId) -> bool {
        self.0.online(cpu)
    }

    unsafe fn offline(&self, backend: &B, cpu: CpuId) {
        // SAFETY: both contracts say the same, word for word.
        unsafe { self.0.offline(backend, cpu) }
    }

    unsafe fn quiescent(&self, backend: &B, cpu: CpuId) {
        // SAFETY: both contracts say the same, word for word.
        unsafe { self.0.quiescent(backend, cpu) }
    }

    unsafe fn retire(&self, backend: &B, batch: Batch<B>) {
        SEEN.with_borrow_mut(|seen| seen.push(Seen::Retired));
        // SAFETY: both contracts say the same, word for word.
        unsafe { self.0.retire(backend, batch) }
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
        Word::store(&self.0, value, site);
    }

    fn swap(&self, value: u64, site: &'static Site) -> u64 {
        self.count(0, 1);
        Word::swap(&self.0, value, site)
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
    }
}
