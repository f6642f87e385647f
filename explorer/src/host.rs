//! The memory of the process outside of programs: what may refer to memory of a program.
//!
//! A program that is explored may leave memory with its host: a set of outcomes grows. That memory
//! must not be used again, while what the program itself has leaked has to be, so that addresses
//! are the same in every run. So the arena keeps a list of what the system has given to the host,
//! and looks through it. Memory of the engine is not in the list: graphs hold addresses as values.
//!
//! Statics, and thread-locals of the standard library, are not looked through, but what they refer
//! to is.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Start and size of each block.
static BLOCKS: Mutex<BTreeMap<usize, usize>> = Mutex::new(BTreeMap::new());

thread_local! {
    /// The list itself allocates.
    static BUSY: Cell<bool> = const { Cell::new(false) };
}

fn with_blocks(action: impl FnOnce(&mut BTreeMap<usize, usize>)) {
    if !BUSY.replace(true) {
        action(&mut BLOCKS.lock().unwrap_or_else(PoisonError::into_inner));
        BUSY.set(false);
    }
}

/// The system has given a block to the host.
pub(crate) fn note(start: usize, size: usize) {
    with_blocks(|blocks| {
        blocks.insert(start, size);
    });
}

/// A block is about to be given back to the system; it may be one of the engine.
pub(crate) fn forget(start: usize) -> Option<usize> {
    let mut size = None;
    with_blocks(|blocks| size = blocks.remove(&start));
    size
}

/// Calls `action` with the bounds of each block. None is given back meanwhile.
pub(crate) fn for_each(mut action: impl FnMut(usize, usize)) {
    with_blocks(|blocks| blocks.iter().for_each(|(start, size)| action(*start, *size)));
}
