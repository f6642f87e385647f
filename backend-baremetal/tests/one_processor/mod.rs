//! A machine for tests: memory of the host's, one processor, one kind of table.

use std::marker::PhantomData;
use std::sync::OnceLock;

use weft_backend_baremetal::backend::{Machine, Parts, Processors, Tables};
use weft_backend_baremetal::frame::Region;
use weft_backend_baremetal::word::AtomicWord;
use weft_core::address::{CpuId, FRAME_SIZE, Paddr};
use weft_core::config::Config;
use weft_core::format::X86_64;
use weft_core::geometry::Geometry;
use weft_core::grace::Monitor;
use weft_core::item::MappedItem;
use weft_core::sync::{Backend, Hardware, TaggedRoot};

/// The machine.
pub(crate) type OneMachine<G> = Machine<G, OneKind, OneProcessor>;

#[derive(Debug)]
pub(crate) struct OneKind;

impl Tables for OneKind {
    type On<B: Backend> = (Table<B>,);
}

/// The tables of that kind.
#[derive(Debug)]
pub(crate) struct Table<B>(PhantomData<B>);

impl<B: Backend> Config for Table<B> {
    type Backend = B;
    type Item = MappedItem<B>;
    type Format = X86_64;
}

type Hook = Box<dyn Fn() + Send + Sync>;

/// The processor. It translates nothing.
#[derive(Default)]
pub(crate) struct OneProcessor {
    /// What is done at each load of a root, if anything.
    pub(crate) at_load: OnceLock<Hook>,
}

// SAFETY: (1) the region's frames are passed on; (2) an entry is the word itself; (3) there is one
// processor; (4) it translates nothing through these tables; (5) it is translated by the host's.
unsafe impl Processors for OneProcessor {
    type Reclaim<B: Backend> = Monitor<B>;
    type LockWord = AtomicWord;
    type Word = AtomicWord;

    const HARDWARE: Option<Hardware> = None;

    #[inline]
    fn entry(word: &AtomicWord) -> &AtomicWord {
        word
    }

    fn cpu(&self) -> CpuId {
        CpuId::new(0)
    }

    unsafe fn load_root(&self, _root: Option<TaggedRoot>) {
        if let Some(hook) = self.at_load.get() {
            hook();
        }
    }
}

#[repr(C, align(4096))]
#[derive(Clone)]
struct Page([u64; 512]);

/// A region of `pages` pages of new memory, from frame number `first` on, without its first
/// `before` and its last `after` bytes.
pub(crate) fn region<G: Geometry>(
    first: u64,
    pages: usize,
    before: u64,
    after: u64,
) -> Region<OneMachine<G>> {
    let memory = Box::leak(vec![Page([u64::MAX; 512]); pages].into_boxed_slice());
    let start = first * FRAME_SIZE;
    let base = memory.as_mut_ptr().cast::<u8>().wrapping_sub(start as usize);
    let range = Paddr::new(start + before)..Paddr::new(start + pages as u64 * FRAME_SIZE - after);
    // SAFETY: (1) `base` reaches the pages, which are leaked, at the addresses from `start` on;
    // (2) they are used through it only.
    unsafe { Region::new(base, range) }
}

/// A machine with this memory.
pub(crate) fn machine<G: Geometry>(region: Region<OneMachine<G>>) -> OneMachine<G> {
    Machine::new(Box::leak(Box::new(Parts::new(region, OneProcessor::default()))))
}
