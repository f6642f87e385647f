//! A machine on a host: memory from the allocator, threads as processors.
//!
//! Physical addresses are offsets into that memory. A thread says which processor it is with
//! [`on_cpu`]; a root that is loaded is remembered, so that tests can ask for it, and translates
//! nothing. What the MMU would write into entries is written by [`hardware_sets`].
//!
//! The memory is never given back: handles of the machine are good for as long as the process
//! lives, so nothing can tell when the last one is gone. It is asked for zeroed, which an operating
//! system does page by page when they are first touched, and a test that makes thousands of tables
//! makes them on one machine.

extern crate std;

use std::alloc::{Layout, alloc_zeroed};
use std::boxed::Box;
use std::cell::Cell;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::thread_local;

use weft_core::address::{CpuId, FRAME_SIZE, Paddr};
use weft_core::config::Config;
use weft_core::format::EntryFormat;
use weft_core::geometry::Geometry;
use weft_core::grace::Monitor;
use weft_core::item::UntrackedMemory;
use weft_core::node::NodeRef;
use weft_core::sites::{ENTRY_RETRY, PROTECT_ENTRY};
use weft_core::sync::{Backend, Entries, Hardware, TaggedRoot, Word};

use crate::backend::{Machine, Parts, Processors, Tables};
use crate::frame::Region;
use crate::word::AtomicWord;

/// A machine whose processors are threads.
pub type HostedMachine<G, T> = Machine<G, T, Threads>;

/// Starts a machine with at least `frames` frames.
///
/// # Errors
///
/// [`io::ErrorKind::OutOfMemory`] if there is not so much memory.
pub fn start<G: Geometry, T: Tables>(frames: u64) -> io::Result<HostedMachine<G, T>> {
    start_with(frames, Threads::default())
}

/// As [`start`], with processors of the caller's own.
///
/// # Errors
///
/// [`io::ErrorKind::OutOfMemory`] if there is not so much memory.
pub fn start_with<G: Geometry, T: Tables, P: Processors>(
    frames: u64,
    processors: P,
) -> io::Result<Machine<G, T, P>> {
    let bytes = Region::<Machine<G, T, P>>::bytes_for(frames);
    let bytes = bytes.ok_or(io::ErrorKind::OutOfMemory)?;
    // An allocator clears what it has to align to a page by touching it: align by hand.
    let room = bytes.checked_add(FRAME_SIZE).and_then(|room| usize::try_from(room).ok());
    let layout = room.and_then(|room| Layout::from_size_align(room, align_of::<u64>()).ok());
    let layout = layout.ok_or(io::ErrorKind::OutOfMemory)?;
    // SAFETY: the layout has a size: a frame's at least.
    let memory = unsafe { alloc_zeroed(layout) };
    if memory.is_null() {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    let base = memory.wrapping_add(memory.align_offset(FRAME_SIZE as usize));
    // SAFETY: (1) the memory can be written, is never given back, and has room for `bytes` bytes
    // behind the less than a frame that `base` skips; (2) it is used through this pointer only.
    let region = unsafe { Region::new(base, Paddr::new(0)..Paddr::new(bytes)) };
    Ok(Machine::new(Box::leak(Box::new(Parts::new(region, processors)))))
}

thread_local! {
    static CPU: Cell<Option<CpuId>> = const { Cell::new(None) };
}

/// Runs `body` as processor `cpu`: the calling thread is that processor until `body` is over.
pub fn on_cpu<R>(cpu: CpuId, body: impl FnOnce() -> R) -> R {
    struct Restore(Option<CpuId>);
    impl Drop for Restore {
        fn drop(&mut self) {
            CPU.set(self.0);
        }
    }
    let _before = Restore(CPU.replace(Some(cpu)));
    body()
}

/// What a processor has loaded, and how often it has loaded something.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Loaded {
    /// The root of the last load, if it was one.
    pub root: Option<Paddr>,
    /// How many loads there were.
    pub times: u64,
}

/// Processors that are threads.
#[derive(Debug)]
pub struct Threads {
    loaded: Mutex<[Loaded; CpuId::MAX as usize + 1]>,
}

impl Default for Threads {
    fn default() -> Self {
        Self { loaded: Mutex::new([Loaded::default(); CpuId::MAX as usize + 1]) }
    }
}

impl Threads {
    /// What `cpu` has loaded.
    pub fn loaded(&self, cpu: CpuId) -> Loaded {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)[cpu.as_u32() as usize]
    }
}

// SAFETY: (1) the region's frames are passed on; (2) an entry is the word itself; (3) is the
// contract of `on_cpu`, and the core refuses to put a CPU online twice; (4) threads translate
// nothing through these tables; (5) they are translated by the host's.
unsafe impl Processors for Threads {
    type Reclaim<B: Backend> = Monitor<B>;
    type LockWord = AtomicWord;
    type Word = AtomicWord;

    const HARDWARE: Option<Hardware> = None;

    #[inline]
    fn entry(word: &AtomicWord) -> &AtomicWord {
        word
    }

    fn cpu(&self) -> CpuId {
        CPU.get().expect("a thread that acts as a processor is inside `on_cpu`")
    }

    fn allocate<B: Backend>(&self, region: &Region<B>) -> Option<Paddr> {
        region.allocate_near(CPU.get().map_or(0, |cpu| cpu.as_u32() as usize))
    }

    unsafe fn load_root(&self, root: Option<TaggedRoot>) {
        let cpu = self.cpu().as_u32() as usize;
        let loaded = &mut self.loaded.lock().unwrap_or_else(PoisonError::into_inner)[cpu];
        *loaded = Loaded { root: root.map(|tagged| tagged.root), times: loaded.times + 1 };
    }
}

/// Physical memory for pages that own nothing. No thread can access what is mapped.
pub fn untracked_memory<G: Geometry, T: Tables>() -> UntrackedMemory<HostedMachine<G, T>> {
    // SAFETY: the tables of such a machine translate for no thread, so mapping any memory in them
    // gives access to none.
    unsafe { UntrackedMemory::new(Paddr::new(0)..Paddr::new(u64::MAX)) }
}

/// Sets bits of an entry if it is present, as the MMU does with its accessed and dirty bits: at
/// any time, without any lock. Returns what the entry was before.
///
/// # Panics
///
/// If the node has no such entry, or other bits are to be set than those that hardware sets.
pub fn hardware_sets<C: Config>(node: NodeRef<'_, C>, index: usize, bits: u64) -> u64 {
    assert!(bits & !C::Format::HARDWARE_BITS == 0, "hardware sets its own bits only");
    // SAFETY: a `NodeRef` is a node that is not freed while it is used.
    let entry = unsafe { node.backend().entries(node.paddr()) }.get(index);
    let mut before = entry.load(&ENTRY_RETRY);
    while C::Format::hardware_may_write(before) {
        match entry.compare_exchange(before, before | bits, &PROTECT_ENTRY, &ENTRY_RETRY) {
            Ok(_) => break,
            Err(found) => before = found,
        }
    }
    before
}
