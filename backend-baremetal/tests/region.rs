//! A region that does not begin at address 0, as on the machine: the base is where address 0
//! would be, and what lies before the range is not touched.
#![expect(unsafe_code, reason = "gives memory to a region")]

use std::marker::PhantomData;

use weft_backend_baremetal::backend::{Machine, Parts, Processors, Tables};
use weft_backend_baremetal::frame::Region;
use weft_backend_baremetal::word::AtomicWord;
use weft_core::address::{CpuId, FRAME_SIZE, Paddr};
use weft_core::config::{Config, Kind};
use weft_core::format::X86_64;
use weft_core::geometry::{FourLevels, Geometry};
use weft_core::grace::Monitor;
use weft_core::item::MappedItem;
use weft_core::node::Node;
use weft_core::reclaim::Erased;
use weft_core::sync::Backend;

/// Frames of memory that each test has.
const PAGES: usize = 300;
/// The number of the first of them.
const FIRST: u64 = 0x1234;

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

#[derive(Debug)]
struct OneProcessor;

impl Processors for OneProcessor {
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

    unsafe fn load_root(&self, _root: Option<Paddr>) {}
}

type Four = Machine<FourLevels, OneKind, OneProcessor>;

/// A region of new memory, without its first `before` and its last `after` bytes.
fn region(before: u64, after: u64) -> Region<Four> {
    let pages = Box::leak(vec![Page([u64::MAX; 512]); PAGES].into_boxed_slice());
    let start = FIRST * FRAME_SIZE;
    let base = pages.as_mut_ptr().cast::<u8>().wrapping_sub(start as usize);
    let range = Paddr::new(start + before)..Paddr::new(start + PAGES as u64 * FRAME_SIZE - after);
    // SAFETY: (1) `base` reaches the pages, which are leaked, at the addresses from `start` on;
    // (2) they are used through it only.
    unsafe { Region::new(base, range) }
}

fn all_frames(region: &Region<Four>) -> Vec<Paddr> {
    std::iter::from_fn(|| region.allocate()).collect()
}

#[test]
fn frames_come_after_the_metadata() {
    // 300 times 32 bytes are three frames of metadata.
    let expected: Vec<_> = (FIRST + 3..FIRST + PAGES as u64).map(Paddr::of_frame).collect();
    assert_eq!(all_frames(&region(0, 0)), expected);
}

#[test]
fn frames_that_are_not_whole_are_left_out() {
    let region = region(1, 1);
    let expected: Vec<_> = (FIRST + 4..FIRST + PAGES as u64 - 1).map(Paddr::of_frame).collect();
    assert_eq!(region.capacity(), expected.len() as u64);
    assert_eq!(all_frames(&region), expected);
}

#[test]
fn metadata_of_different_frames_is_apart_and_in_the_range() {
    let region = region(0, 0);
    let first = all_frames(&region);
    let places: Vec<usize> = first
        .iter()
        // SAFETY: the region has just given out the frame, which is not freed.
        .map(|&frame| std::ptr::from_ref(unsafe { region.metadata(frame) }).addr())
        .collect();
    assert!(places.windows(2).all(|pair| pair[1] - pair[0] == 32));
    // SAFETY: the region has just given out the frame, which is not freed; the index is 0.
    let lowest = std::ptr::from_ref(unsafe { region.word(first[0], 0) }).addr();
    assert!(places[places.len() - 1] + 32 <= lowest, "metadata ends before the first frame");
}

#[test]
fn frames_given_back_are_given_out_again() {
    let region = region(0, 0);
    let first = all_frames(&region);
    assert_eq!((region.live(), region.allocate()), (first.len() as u64, None));
    for &frame in &first {
        // SAFETY: (1) `allocate` gave it and it is freed once; (2) nobody uses it.
        unsafe { region.free(frame) }
    }
    assert_eq!(region.live(), 0);
    let mut again = all_frames(&region);
    again.reverse();
    assert_eq!(again, first, "last in, first out");
}

#[test]
fn nodes_live_in_such_a_region() {
    let machine = Four::new(Box::leak(Box::new(Parts::new(region(0, 0), OneProcessor))));
    let node = Node::<Table<Four>>::allocate(&machine, FourLevels::ROOT).expect("memory is left");
    assert_eq!(node.paddr(), Paddr::of_frame(FIRST + 3));
    drop(node);
    assert_eq!(machine.region().live(), 0);
}

#[test]
#[should_panic(expected = "a region has room for its metadata and a frame")]
fn a_region_without_room_for_a_frame_is_refused() {
    let _ = region(0, (PAGES as u64 - 1) * FRAME_SIZE);
}
