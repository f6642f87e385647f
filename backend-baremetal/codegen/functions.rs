//! Functions whose machine code is a promise, and some that break it.
//!
//! `qemu-runner/tests/code_generation` compiles this file and counts instructions. Functions named
//! `weft_*` are what a kernel would have inlined; those named `control_*` are each wrong in
//! one way, so that the test can show that it would notice.
#![expect(unsafe_code, reason = "the test finds the functions by their symbols")]

use std::marker::PhantomData;

use weft_backend_baremetal::backend::Tables;
use weft_backend_baremetal::hosted::{self, HostedMachine};
use weft_backend_baremetal::word::AtomicWord;
use weft_core::address::{FRAME_SIZE, Level, Paddr, Vaddr};
use weft_core::config::Config;
use weft_core::cursor::Cursor;
use weft_core::entry::ChildRef;
use weft_core::format::{Decoded, EntryFormat, PageFlags, Property, X86_64};
use weft_core::geometry::{FourLevels, Geometry};
use weft_core::guard::Guard;
use weft_core::item::MappedItem;
use weft_core::lock::SpinLock;
use weft_core::node::NodeRef;
use weft_core::sites::{LOCK_ACQUIRE, LOCK_CONTENDED, WALK_ENTRY};
use weft_core::sync::{Backend, RawLock, Word};

/// The tables of this machine: one kind.
#[derive(Debug)]
pub struct OneKind;

impl Tables for OneKind {
    type On<B: Backend> = (Table<B>,);
}

/// The configuration of that kind.
#[derive(Debug)]
pub struct Table<B>(PhantomData<B>);

impl<B: Backend> Config for Table<B> {
    type Backend = B;
    type Item = MappedItem<B>;
    type Format = X86_64;
}

type Four = Table<HostedMachine<FourLevels, OneKind>>;

/// Takes the lock of a node and gives it back.
#[unsafe(no_mangle)]
pub extern "C" fn weft_lock_unlock(node: &NodeRef<'_, Four>) {
    drop(node.lock());
}

/// Takes the lock of a node if it is free, and gives it back.
#[unsafe(no_mangle)]
pub extern "C" fn weft_try_lock_unlock(node: &NodeRef<'_, Four>) -> bool {
    node.try_lock().is_some()
}

/// Loads an entry, given its place.
#[unsafe(no_mangle)]
pub extern "C" fn weft_entry_load(entry: &AtomicWord) -> u64 {
    entry.load(&WALK_ENTRY)
}

/// Loads an entry, given a locked node and an index.
#[unsafe(no_mangle)]
pub extern "C" fn weft_guard_read(guard: &Guard<'_, Four>, index: usize) -> u64 {
    guard.read_raw(index % FourLevels::ENTRIES)
}

/// Whether the node of a locked node is stray.
#[unsafe(no_mangle)]
pub extern "C" fn weft_guard_is_stray(guard: &Guard<'_, Four>) -> bool {
    guard.is_stray()
}

/// Looks at an entry of a node as a walker does, and says where it leads.
#[unsafe(no_mangle)]
pub extern "C" fn weft_walk(node: &NodeRef<'_, Four>, index: usize) -> u64 {
    match node.walk(index % FourLevels::ENTRIES) {
        ChildRef::Absent | ChildRef::Shared => 0,
        ChildRef::Node(child) => child.paddr().as_u64(),
        ChildRef::Item(raw) => raw.frame.as_u64(),
    }
}

/// As [`weft_walk`], for the rights of a page. A function that is called twice is inlined less
/// readily, and kernels walk in more than one place.
#[unsafe(no_mangle)]
pub extern "C" fn weft_walk_flags(node: &NodeRef<'_, Four>, index: usize) -> u16 {
    match node.walk(index % FourLevels::ENTRIES) {
        ChildRef::Absent | ChildRef::Shared | ChildRef::Node(_) => 0,
        ChildRef::Item(raw) => raw.property.flags.bits(),
    }
}

/// Locks a page, maps it and unlocks it.
#[unsafe(no_mangle)]
pub extern "C" fn weft_map_page(root: &NodeRef<'_, Four>, vaddr: u64, frame: u64) {
    let range = Vaddr::new(vaddr)..Vaddr::new(vaddr).plus(FRAME_SIZE);
    let mut cursor = Cursor::lock(*root, range).expect("the page can be locked");
    map(&mut cursor, frame);
}

/// As [`weft_map_page`], through one call more.
#[unsafe(no_mangle)]
pub extern "C" fn control_map_page_out_of_line(root: &NodeRef<'_, Four>, vaddr: u64, frame: u64) {
    #[inline(never)]
    fn out_of_line(cursor: &mut Cursor<'_, Four>, frame: u64) {
        map(cursor, frame);
    }
    let range = Vaddr::new(vaddr)..Vaddr::new(vaddr).plus(FRAME_SIZE);
    let mut cursor = Cursor::lock(*root, range).expect("the page can be locked");
    out_of_line(&mut cursor, frame);
}

#[inline(always)]
fn map(cursor: &mut Cursor<'_, Four>, frame: u64) {
    let property = Property::new(PageFlags::WRITE);
    let page = hosted::untracked_memory().page(Paddr::new(frame), Level::LEAF, property);
    let page = MappedItem::Untracked(page.expect("all memory is untracked"));
    cursor.map(page).expect("nothing is mapped there");
}

/// Unlocks with an exchange where a store does.
#[unsafe(no_mangle)]
pub extern "C" fn control_unlock_by_swap(lock: &SpinLock<AtomicWord>, word: &AtomicWord) {
    if lock.try_acquire() {
        Word::swap(word, 0, &LOCK_ACQUIRE);
    }
}

/// Takes the lock with two exchanges where one does.
#[unsafe(no_mangle)]
pub extern "C" fn control_two_exchanges(word: &AtomicWord, lock: &SpinLock<AtomicWord>) {
    if Word::compare_exchange(word, 0, 2, &LOCK_ACQUIRE, &LOCK_CONTENDED).is_ok()
        && lock.try_acquire()
    {
        lock.release();
    }
}

/// Locks through a call.
#[unsafe(no_mangle)]
pub extern "C" fn control_call(lock: &SpinLock<AtomicWord>) {
    #[inline(never)]
    fn acquire(lock: &SpinLock<AtomicWord>) -> bool {
        lock.try_acquire()
    }
    if acquire(lock) {
        lock.release();
    }
}

/// Decodes an entry through a call, but only where it is present.
#[unsafe(no_mangle)]
pub extern "C" fn control_call_on_one_path(entry: &AtomicWord, level: u8) -> u64 {
    #[inline(never)]
    fn decode(entry: u64, level: u8) -> Decoded {
        X86_64::decode(entry, Level::new(level))
    }
    match entry.load(&WALK_ENTRY) {
        0 => 0,
        present => match decode(present, level) {
            Decoded::Absent => 0,
            Decoded::Node(frame) => frame.as_u64(),
            Decoded::Item(raw) => raw.frame.as_u64(),
        },
    }
}

/// Unlocks behind a fence that x86 does not need.
#[unsafe(no_mangle)]
pub extern "C" fn control_fence(lock: &SpinLock<AtomicWord>) {
    if lock.try_acquire() {
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        lock.release();
    }
}

/// Loads an entry twice.
#[unsafe(no_mangle)]
pub extern "C" fn control_load_twice(entry: &AtomicWord) -> u64 {
    entry.load(&WALK_ENTRY) ^ entry.load(&WALK_ENTRY)
}
