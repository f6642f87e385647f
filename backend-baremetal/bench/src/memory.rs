//! Memory for tables that are not ours: an anonymous mapping, cut into frames.
//!
//! The bounds and the peers get the same kind of memory as a hosted machine: pages of one private
//! mapping, physical addresses being offsets into it, and 32 bytes of metadata for each frame in
//! an array of their own. Frames are given out one after the other, and all come back at once:
//! [`Arena::reset`]. So an allocation costs a bound two instructions, less than it costs anybody.
//!
//! An arena is never given back, so that references into it are good for as long as the process
//! lives; there are a few per run.

use std::io;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU64, Ordering};

use memmap2::MmapMut;

/// Bytes of a frame.
pub const FRAME_SIZE: u64 = 4096;
/// Entries of a node.
pub const ENTRIES: usize = 512;

/// What a bound keeps beside a frame: the same fields, in the same 32 bytes, as the core.
#[derive(Debug)]
#[repr(C)]
pub struct Beside {
    /// 0 free, 1 held.
    pub lock: AtomicU64,
    /// How many owners there are.
    pub references: AtomicU64,
    /// The next frame in a list.
    pub link: AtomicU64,
    /// How many entries are present.
    pub children: AtomicU16,
    /// 1 if the node is detached.
    pub stray: AtomicU8,
}

const _: () = assert!(size_of::<Beside>() == 32, "metadata is as large as the core's");

/// A mapping, and which of its frames are in use.
#[derive(Debug)]
pub struct Arena {
    base: *mut u8,
    beside: *const Beside,
    frames: u64,
    next: AtomicU64,
}

// SAFETY: the pointers lead to a mapping that is leaked, and all that is done through them from
// shared references is atomic; peers write nodes that they own.
unsafe impl Send for Arena {}
// SAFETY: as for `Send`.
unsafe impl Sync for Arena {}

impl Arena {
    /// An arena of this many frames.
    ///
    /// # Errors
    ///
    /// What the operating system says when it does not give the memory.
    pub fn new(frames: u64) -> io::Result<Self> {
        let bytes = frames * (FRAME_SIZE + size_of::<Beside>() as u64);
        let mapping = Box::leak(Box::new(MmapMut::map_anon(bytes as usize)?));
        let base = mapping.as_mut_ptr();
        let beside = base.wrapping_add((frames * FRAME_SIZE) as usize).cast::<Beside>();
        // Frame 0 is never given out: some peers take an address of 0 for no node.
        Ok(Self { base, beside, frames, next: AtomicU64::new(1) })
    }

    /// Where physical address 0 is.
    pub fn base(&self) -> *mut u8 {
        self.base
    }

    /// A frame with all entries absent and free metadata, or `None` if there is none left.
    #[inline]
    pub fn allocate(&self) -> Option<u64> {
        let frame = self.allocate_raw()?;
        for word in self.node(frame) {
            word.store(0, Ordering::Relaxed);
        }
        Some(frame)
    }

    /// As [`allocate`](Self::allocate), with whatever entries were there.
    #[inline]
    pub fn allocate_raw(&self) -> Option<u64> {
        let number = self.next.load(Ordering::Relaxed);
        if number >= self.frames {
            return None;
        }
        self.next.store(number + 1, Ordering::Relaxed);
        let frame = number * FRAME_SIZE;
        let beside = self.beside(frame);
        beside.lock.store(0, Ordering::Relaxed);
        beside.references.store(1, Ordering::Relaxed);
        beside.children.store(0, Ordering::Relaxed);
        beside.stray.store(0, Ordering::Relaxed);
        Some(frame)
    }

    /// Takes every frame back.
    pub fn reset(&self) {
        self.next.store(1, Ordering::Relaxed);
    }

    /// How many frames are in use.
    pub fn live(&self) -> u64 {
        self.next.load(Ordering::Relaxed) - 1
    }

    /// Word `index` of a frame.
    #[inline]
    pub fn word(&self, frame: u64, index: usize) -> &AtomicU64 {
        &self.node(frame)[index]
    }

    /// The words of a frame.
    ///
    /// # Panics
    ///
    /// If there is no such frame, with debug assertions.
    #[inline]
    pub fn node(&self, frame: u64) -> &[AtomicU64; ENTRIES] {
        debug_assert!(frame / FRAME_SIZE < self.frames, "outside of the arena");
        let node = self.base.wrapping_add(frame as usize).cast::<[AtomicU64; ENTRIES]>();
        // SAFETY: frames come from `allocate` or from entries that lead to such frames, so this is
        // within the mapping, which is leaked; every other access is atomic, or a peer's that
        // owns the node and is not running now.
        unsafe { &*node }
    }

    /// The metadata of a frame.
    ///
    /// # Panics
    ///
    /// If there is no such frame, with debug assertions.
    #[inline]
    pub fn beside(&self, frame: u64) -> &Beside {
        debug_assert!(frame / FRAME_SIZE < self.frames, "outside of the arena");
        // SAFETY: as in `node`; the array has an element for each frame, and all zeroes, which is
        // what a mapping begins as, is a value of each field.
        unsafe { &*self.beside.wrapping_add((frame / FRAME_SIZE) as usize) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_distinct_and_empty() {
        let arena = Arena::new(4).expect("the host has a few pages");
        let [first, second] = [0, 1].map(|_| arena.allocate().expect("there are three frames"));
        arena.word(first, ENTRIES - 1).store(7, Ordering::Relaxed);
        assert_eq!(arena.word(second, 0).load(Ordering::Relaxed), 0);
        assert_ne!(first, 0);
        arena.reset();
        assert_eq!(arena.allocate(), Some(first));
        assert_eq!(arena.word(first, ENTRIES - 1).load(Ordering::Relaxed), 0);
    }

    #[test]
    fn an_arena_ends() {
        let arena = Arena::new(2).expect("the host has a few pages");
        assert!(arena.allocate().is_some());
        assert_eq!(arena.allocate(), None);
        assert_eq!(arena.live(), 1);
    }
}
