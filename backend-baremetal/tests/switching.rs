//! A CPU gives the previous root back after it has loaded the next one, and not before: in
//! between it would translate through memory that is someone else's.
#![expect(unsafe_code, reason = "gives memory to a region, and plays a processor")]

use std::marker::PhantomData;
use std::sync::{Mutex, OnceLock};

use weft_backend_baremetal::backend::{Machine, Parts, Processors, Tables};
use weft_backend_baremetal::frame::Region;
use weft_backend_baremetal::word::AtomicWord;
use weft_core::address::{CpuId, FRAME_SIZE, Paddr};
use weft_core::config::{Config, Kind};
use weft_core::cpu::Cpu;
use weft_core::format::X86_64;
use weft_core::geometry::{Geometry, TinyTwo};
use weft_core::grace::Monitor;
use weft_core::item::MappedItem;
use weft_core::node::Node;
use weft_core::reclaim::Erased;
use weft_core::sync::Backend;

const PAGES: usize = 16;

#[repr(C, align(4096))]
#[derive(Clone)]
struct Page([u64; 512]);

#[derive(Debug)]
struct OneKind;

impl Tables for OneKind {
    fn drop_erased<B: Backend>(reference: Erased<B>) {
        reference.drop_as::<Table<B>>();
    }
}

#[derive(Debug)]
struct Table<B>(PhantomData<B>);

impl<B: Backend> Config for Table<B> {
    type Backend = B;
    type Item = MappedItem<B>;
    type Format = X86_64;
    const KIND: Kind = Kind(1);
}

type Watched = Machine<TinyTwo, OneKind, Watcher>;

/// A processor that notes how many frames are in use at the moment of each load.
#[derive(Default)]
struct Watcher {
    machine: OnceLock<Watched>,
    live_at_loads: Mutex<Vec<u64>>,
}

impl Processors for Watcher {
    type Reclaim<B: Backend> = Monitor<B>;
    type LockWord = AtomicWord;
    type Word = AtomicWord;

    #[inline]
    fn entry(word: &AtomicWord) -> &AtomicWord {
        word
    }

    fn cpu(&self) -> CpuId {
        CpuId::new(0)
    }

    unsafe fn load_root(&self, _root: Option<Paddr>) {
        let machine = self.machine.get().expect("the machine is set up before it runs");
        let mut live = self.live_at_loads.lock().expect("no load panics");
        live.push(machine.region().live());
    }
}

fn machine() -> Watched {
    let pages = Box::leak(vec![Page([0; 512]); PAGES].into_boxed_slice());
    let range = Paddr::new(0)..Paddr::new(PAGES as u64 * FRAME_SIZE);
    // SAFETY: (1) the pages are leaked and begin at the base; (2) they are used through it only.
    let region = unsafe { Region::new(pages.as_mut_ptr().cast(), range) };
    let machine = Machine::new(Box::leak(Box::new(Parts::new(region, Watcher::default()))));
    assert!(machine.processors().machine.set(machine).is_ok());
    machine
}

#[test]
fn the_previous_root_lives_until_the_next_one_is_loaded() {
    let machine = machine();
    let root = || Node::<Table<Watched>>::allocate(&machine, TinyTwo::ROOT).expect("frames enough");
    let mut cpu = Cpu::online(&machine, CpuId::new(0)).expect("the CPU is offline");
    for _ in 0..3 {
        // The handle is dropped at once, so the CPU's is the last one.
        cpu.activate(&root()).expect("the node is a root");
        assert_eq!(machine.region().live(), 1, "only the active root is left");
    }
    drop(cpu);
    assert_eq!(machine.region().live(), 0);
    let live = machine.processors().live_at_loads.lock().expect("no load panics");
    assert_eq!(*live, [1, 2, 2, 1], "a root is given back before another one is loaded");
}
