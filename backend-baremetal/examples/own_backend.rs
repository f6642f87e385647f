//! A backend of one's own: no region, frames in an array, one processor that translates nothing.

use std::sync::{Mutex, atomic::AtomicU64};

use weft_backend_baremetal::word::{AtomicCell, AtomicWord, Words, fence};
use weft_core::address::{CpuId, CpuSet, FRAME_SIZE, Paddr, Vaddr};
use weft_core::config::Config;
use weft_core::format::{Property, X86_64};
use weft_core::frame::Frame;
use weft_core::geometry::{FourLevels, Geometry};
use weft_core::item::MappedItem;
use weft_core::sites::FenceSite;
use weft_core::sync::{Backend, CellValue, Event, FrameUse, Hardware, Noted, Request};
use weft_core::sync::{TaggedRoot, Word};
use weft_core::{cpu::Cpu, cursor::Cursor, grace::Monitor, lock::SpinLock};
use weft_core::{node::Metadata, node::Node};

#[derive(Debug)]
struct Memory {
    /// The backend makes the metadata, once for each frame, before it gives the frame out.
    frames: Vec<(Metadata<Own>, Vec<AtomicU64>)>,
    free: Mutex<Vec<u64>>,
    reclaim: Monitor<Own>,
    running: [AtomicWord; 1],
    spaces: AtomicWord,
}

#[derive(Clone, Copy, Debug)]
struct Own(&'static Memory);
impl PartialEq for Own {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.0, other.0)
    }
}
impl Eq for Own {}

// SAFETY: (1) a frame leaves the list when it is given out; (2) words and metadata stay where they
// are in the array; (3) and (5) hold of `AtomicWord` and `AtomicCell`; (4) and (6) nothing
// translates through these tables.
#[expect(unsafe_code, reason = "a backend is a contract")]
unsafe impl Backend for Own {
    type Word = AtomicWord;
    type LockWord = AtomicWord;
    type Count = AtomicWord;
    type Cell<V: CellValue> = AtomicCell<V>;
    type Entries<'a> = Words<'a>;
    type NodeLock = SpinLock<AtomicWord>;
    type Reclaim = Monitor<Self>;
    type Geometry = FourLevels;
    type Tables = (User,);
    const HARDWARE: Option<Hardware> = None;

    fn allocate(&self, _: FrameUse) -> Option<Paddr> {
        self.0.free.lock().ok()?.pop().map(Paddr::of_frame)
    }
    unsafe fn free(&self, frame: Paddr) {
        self.0.free.lock().expect("no holder panics").push(frame.frame_number());
    }
    unsafe fn metadata(&self, frame: Paddr) -> &Metadata<Self> {
        &self.0.frames[frame.frame_number() as usize].0
    }
    unsafe fn entries(&self, frame: Paddr) -> Words<'_> {
        Words(&self.0.frames[frame.frame_number() as usize].1)
    }
    fn reclaim(&self) -> &Monitor<Self> {
        &self.0.reclaim
    }
    fn cpu(&self) -> CpuId {
        CpuId::new(0)
    }
    unsafe fn load_root(&self, _root: Option<TaggedRoot>) {}
    fn running(&self) -> &[AtomicWord] {
        &self.0.running
    }
    fn spaces(&self) -> &AtomicWord {
        &self.0.spaces
    }
    fn masked<R>(&self, body: impl FnOnce(&mut Noted) -> R) -> R {
        body(&mut Noted::default())
    }
    fn invalidate(&self, _what: &Request) {}
    fn interrupt(&self, _cpus: &CpuSet, _request: &Request) {}
    fn fence(&self, site: &'static FenceSite) {
        fence(site);
    }
    fn observe(&self, _event: Event) {}
}

struct User;
impl Config for User {
    type Backend = Own;
    type Item = MappedItem<Own>;
    type Format = X86_64;
}

fn main() {
    let frame = || (Metadata::new(), (0..FourLevels::ENTRIES).map(|_| AtomicU64::new(0)).collect());
    let frames = (0..16).map(|_| frame()).collect();
    let memory = Memory {
        frames,
        free: Mutex::new((1..16).collect()),
        reclaim: Monitor::new(),
        running: [Word::new("running", 0)],
        spaces: Word::new("spaces", 0),
    };
    let own = Own(Box::leak(Box::new(memory)));
    let cpu = Cpu::online(&own, CpuId::new(0)).expect("it is offline");
    let section = cpu.read_side();
    let root = Node::<User>::allocate(&own, FourLevels::ROOT).expect("there are 15 frames");
    let page = Vaddr::new(0)..Vaddr::new(FRAME_SIZE);
    let mut cursor = Cursor::lock(root.borrow(&section), page.clone()).expect("a range");
    let frame = Frame::allocate(&own).expect("there are 15 frames");
    cursor.map(MappedItem::Tracked { frame, property: Property::default() }).expect("it is free");
    cursor.jump(page.start).expect("it is in the range");
    assert_eq!(cursor.unmap(page.end), Ok(1));
    println!("mapped and unmapped on a backend of its own");
}
