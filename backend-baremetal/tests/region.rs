//! A region that does not begin at address 0, as on the machine: the base is where address 0
//! would be, and what lies before the range is not touched.
#![expect(unsafe_code, reason = "gives memory to a region, and frames back")]

use weft_backend_baremetal::frame::Region;
use weft_core::address::{CpuId, FRAME_SIZE, Paddr, Vaddr};
use weft_core::cpu::Cpu;
use weft_core::cursor::Cursor;
use weft_core::error::{MapFault, OutOfMemory, Refusal};
use weft_core::format::{PageFlags, Property};
use weft_core::frame::Frame;
use weft_core::geometry::{FourLevels, Geometry};
use weft_core::item::MappedItem;
use weft_core::node::Node;

use crate::one_processor::{OneMachine, Table, machine};

mod one_processor;

/// Frames of memory that each test has.
const PAGES: usize = 300;
/// The number of the first of them.
const FIRST: u64 = 0x1234;

type Four = OneMachine<FourLevels>;

/// A region of new memory, without its first `before` and its last `after` bytes.
fn region(before: u64, after: u64) -> Region<Four> {
    one_processor::region(FIRST, PAGES, before, after)
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
    assert!(again[0] > again[1], "last in, first out");
    again.sort();
    assert_eq!(again, first);
}

#[test]
fn frames_go_back_to_the_shelf_of_the_processor_that_took_them_first() {
    let region = region(0, 0);
    let near = |number| region.allocate_near(number).expect("nothing is in use yet");
    let (mine, other) = (near(0), near(1));
    // SAFETY: (1) `allocate_near` gave it and it is freed once; (2) nobody uses it.
    unsafe { region.free(mine) }
    assert_ne!(near(1), mine, "it is on another shelf");
    assert_eq!(near(0), mine);
    // SAFETY: as above.
    unsafe { region.free(other) }
    assert_eq!(near(1 + 8), other, "processors share shelves");
}

#[test]
fn no_processor_goes_without_as_long_as_there_is_a_frame() {
    let region = region(0, 0);
    let capacity = region.capacity();
    let taken = std::iter::from_fn(|| region.allocate_near(5)).count() as u64;
    assert_eq!((taken, region.live()), (capacity, capacity));
    assert_eq!(region.allocate_near(2), None);
}

#[test]
fn nodes_live_in_such_a_region() {
    let machine = machine(region(0, 0));
    let node = Node::<Table<Four>>::allocate(&machine, FourLevels::ROOT).expect("memory is left");
    assert_eq!(node.paddr(), Paddr::of_frame(FIRST + 3));
    drop(node);
    assert_eq!(machine.region().live(), 0);
}

/// Memory may go on where no entry leads: such a frame is no node, and no page.
#[test]
fn a_frame_beyond_what_an_entry_holds_is_not_used_by_a_table() {
    const BEYOND: Paddr = Paddr::of_frame(1 << 40);
    let machine = machine::<FourLevels>(one_processor::region((1 << 40) - 8, 16, 0, 0));
    let allocate = || Node::<Table<Four>>::allocate(&machine, FourLevels::ROOT);
    let mut nodes = vec![allocate().expect("memory is left")];
    let refused = loop {
        match allocate() {
            Ok(node) => nodes.push(node),
            Err(error) => break error,
        }
        assert!(nodes.iter().all(|node| node.paddr() < BEYOND), "no entry leads to a node");
    };
    assert_eq!((refused, nodes.len()), (OutOfMemory, 7), "the other frame is metadata");
    assert_eq!(machine.region().live(), 7, "a frame that is no node goes back");

    // The nodes of a page are there; what is left is data.
    nodes.truncate(4);
    let cpu = Cpu::online(&machine, CpuId::new(0)).expect("the CPU is offline");
    let section = cpu.read_side();
    let page = Vaddr::new(0)..Vaddr::new(FRAME_SIZE);
    let mut cursor = Cursor::lock(nodes[0].borrow(&section), page).expect("memory is left");
    let mut frames = std::iter::from_fn(|| Frame::allocate(&machine).ok());
    let frame = frames.find(|frame| frame.paddr() >= BEYOND).expect("memory goes on there");
    let place = frame.paddr();
    let item = MappedItem::Tracked { frame, property: Property::new(PageFlags::WRITE) };
    let refused = cursor.map(item).expect_err("no entry holds it");
    assert_eq!(refused.reason, MapFault::Refused(Refusal::OutOfRange { frame: place }));
}

#[test]
#[should_panic(expected = "a region has room for its metadata and a frame")]
fn a_region_without_room_for_a_frame_is_refused() {
    let _ = region(0, (PAGES as u64 - 1) * FRAME_SIZE);
}
