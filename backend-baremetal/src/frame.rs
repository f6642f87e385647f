//! Memory: a base address, a range of physical addresses, and the frames in it.
//!
//! A physical address becomes a pointer by adding the base, on the machine as on a host:
//!
//! ```text
//! base             first                                          end
//!   |  (not ours)    | metadata | free frames and allocated frames  |
//! ```
//!
//! The first frames of the range hold an array of [`Metadata`], 32 bytes for each frame of the
//! range: the metadata of a frame is a shift and an addition away from its address.
//!
//! *Free frames* are on shelves, each with an equal part of the range and a lock of its own. A
//! processor takes from the shelf that is near it, and from the others only when that is empty; a
//! frame goes back to the shelf that it came from. So processors do not wait for each other, and
//! what a frame holds stays in the cache of one of them.
//!
//! On a shelf there are frames that were never given out, from some number on, and those given
//! back: a list, last in, first out, each with the number of the next one in its last word. So
//! allocating allocates nothing, and a region that is started touches its metadata only. With debug
//! assertions the other words of a freed frame are [`POISON`], which is neither an absent nor a
//! present entry, and its metadata says that it is in order: who goes on using the frame is let in,
//! and meets the poison.
//!
//! A lock is held for a few instructions, and never by a handler of interrupts, since the core is
//! not called from those.

use core::array;
use core::fmt;
use core::ops::Range;

use spin::mutex::SpinMutex;
use weft_core::address::{FRAME_SIZE, Paddr};
use weft_core::node::Metadata;
use weft_core::sync::Backend;

use crate::word::AtomicWord;

/// What the metadata of a frame may cost.
const METADATA_BYTES_MAX: usize = 32;

/// What the words of a freed frame hold with debug assertions: no hardware walks through it, and
/// the core refuses to.
pub const POISON: u64 = 0xdead_f4ee_dead_0002;

/// The word of a free frame that leads to the next one.
const LINK: usize = FRAME_SIZE as usize / size_of::<u64>() - 1;

/// No frame: ends a list.
const NONE: u64 = u64::MAX;

/// How many shelves there are.
const SHELVES: usize = 8;

/// A range of physical memory and its frames.
pub struct Region<B: Backend> {
    /// Where physical address 0 is, or would be.
    base: *mut u8,
    /// Where the metadata of frame 0 is, or would be.
    metadata: *mut Metadata<B>,
    /// The numbers of the frames that are given out.
    frames: Range<u64>,
    /// Binary logarithm of the number of frames that belong to a shelf.
    shelf_bits: u32,
    shelves: [Shelf; SHELVES],
}

/// A part of the free frames, in cache lines of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Shelf {
    free: SpinMutex<FreeList>,
}

/// Which frames of a shelf are free.
#[derive(Debug)]
struct FreeList {
    /// The frame given back last, or `NONE`.
    head: u64,
    /// The first frame that was never given out.
    fresh: u64,
    /// Where the shelf ends.
    end: u64,
    /// How many frames are in use.
    live: u64,
}

// SAFETY: the pointers lead to memory that `new` got for good and that is accessed as atomics, or
// by the one owner of a frame; the list is behind a lock.
unsafe impl<B: Backend> Send for Region<B> {}
// SAFETY: as for `Send`.
unsafe impl<B: Backend> Sync for Region<B> {}

impl<B: Backend> fmt::Debug for Region<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region")
            .field("base", &self.base)
            .field("frames", &self.frames)
            .field("live", &self.live())
            .finish()
    }
}

impl<B: Backend> Region<B> {
    const METADATA_IS_SMALL: () = assert!(
        size_of::<Metadata<B>>() <= METADATA_BYTES_MAX,
        "the metadata of a frame exceeds its 32 bytes"
    );

    /// Takes over the memory of `range`, which begins `range.start` bytes after `base`.
    ///
    /// # Safety
    ///
    /// 1. The bytes of `range` can be read and written through `base`, from now on and for good.
    /// 2. Nothing else uses them.
    ///
    /// # Panics
    ///
    /// If the base is not aligned to a frame, or the range has no room for a single frame.
    pub unsafe fn new(base: *mut u8, range: Range<Paddr>) -> Self {
        const { Self::METADATA_IS_SMALL };
        assert!(
            base.addr().is_multiple_of(FRAME_SIZE as usize),
            "the base of a region is aligned to a frame"
        );
        let first = range.start.as_u64().div_ceil(FRAME_SIZE);
        let frames = first + Self::metadata_frames(first..range.end.frame_number())
            ..range.end.frame_number();
        assert!(!frames.is_empty(), "a region has room for its metadata and a frame");
        let array = base.wrapping_add((first * FRAME_SIZE) as usize).cast::<Metadata<B>>();
        for index in 0..(frames.end - first) as usize {
            // SAFETY: `metadata_frames` counted as many frames, at the start of the range, as the
            // array fills; the caller gave them to us, and they are aligned.
            unsafe { array.wrapping_add(index).write(Metadata::new()) }
        }
        let shelf_frames = (frames.end - frames.start).div_ceil(SHELVES as u64).next_power_of_two();
        let shelf = |number| {
            let [fresh, end] = [number, number + 1]
                .map(|number| (frames.start + number as u64 * shelf_frames).min(frames.end));
            Shelf { free: SpinMutex::new(FreeList { head: NONE, fresh, end, live: 0 }) }
        };
        Self {
            base,
            metadata: array.wrapping_sub(first as usize),
            shelf_bits: shelf_frames.trailing_zeros(),
            shelves: array::from_fn(shelf),
            frames,
        }
    }

    /// How many frames the metadata of these frames fills.
    fn metadata_frames(frames: Range<u64>) -> u64 {
        let count = frames.end.saturating_sub(frames.start);
        (count * size_of::<Metadata<B>>() as u64).div_ceil(FRAME_SIZE)
    }

    /// How many bytes a region of at least `frames` frames takes, its metadata included. `None` if
    /// there are not so many addresses.
    pub fn bytes_for(frames: u64) -> Option<u64> {
        // Each frame of metadata serves this many frames beside itself.
        let served = FRAME_SIZE / size_of::<Metadata<B>>() as u64 - 1;
        frames.checked_add(frames.div_ceil(served))?.checked_mul(FRAME_SIZE)
    }

    /// A frame that the caller owns, or `None` if there is none left.
    pub fn allocate(&self) -> Option<Paddr> {
        self.allocate_near(0)
    }

    /// As [`allocate`](Self::allocate), from the shelf that is near processor `number` as long as
    /// there are frames on it.
    pub fn allocate_near(&self, number: usize) -> Option<Paddr> {
        (number..number + SHELVES).find_map(|shelf| self.take(&self.shelves[shelf % SHELVES]))
    }

    /// Takes a frame from a shelf.
    fn take(&self, shelf: &Shelf) -> Option<Paddr> {
        let mut free = shelf.free.lock();
        let mut frame = free.head;
        if frame != NONE {
            // SAFETY: a frame on the list is one of ours, and its words are the list's.
            free.head = unsafe { self.word(Paddr::of_frame(frame), LINK) }.load_link();
        } else if free.fresh < free.end {
            frame = free.fresh;
            free.fresh += 1;
        } else {
            return None;
        }
        free.live += 1;
        Some(Paddr::of_frame(frame))
    }

    /// The shelf that a frame belongs to.
    fn home(&self, frame: u64) -> &Shelf {
        &self.shelves[((frame - self.frames.start) >> self.shelf_bits) as usize]
    }

    /// Takes a frame back.
    ///
    /// # Safety
    ///
    /// 1. [`allocate`](Self::allocate) gave the frame and it has not been freed since.
    /// 2. Nothing uses the frame, its metadata or its words any more.
    pub unsafe fn free(&self, frame: Paddr) {
        let number = frame.frame_number();
        assert!(self.frames.contains(&number), "a frame that is freed belongs to the region");
        if cfg!(debug_assertions) {
            for index in 0..LINK {
                // SAFETY: the frame is one of ours, by the line above, and no longer the caller's.
                unsafe { self.word(frame, index) }.store_link(POISON);
            }
            // SAFETY: as above; the frame is given out again only below.
            unsafe { self.metadata(frame) }.unmark_stray();
        }
        let mut free = self.home(number).free.lock();
        // SAFETY: as above.
        unsafe { self.word(frame, LINK) }.store_link(free.head);
        free.head = number;
        free.live -= 1;
    }

    /// The metadata of a frame.
    ///
    /// # Safety
    ///
    /// [`allocate`](Self::allocate) gave the frame, and it is not freed while the result is used.
    #[inline]
    pub unsafe fn metadata(&self, frame: Paddr) -> &Metadata<B> {
        // SAFETY: the frame is one of ours, by the caller's contract, so `new` has written its
        // element of the array, which is never moved or borrowed mutably.
        unsafe { &*self.metadata.wrapping_add(frame.frame_number() as usize) }
    }

    /// Where the words of a frame are, if it is one of this region: 512, to be accessed as atomics
    /// as long as the frame is not freed.
    #[inline]
    pub fn words(&self, frame: Paddr) -> *const AtomicWord {
        self.base.wrapping_add(frame.as_u64() as usize).cast::<AtomicWord>()
    }

    /// Word `index` of a frame.
    ///
    /// # Safety
    ///
    /// 1. The frame is one of this region, and it is not freed while the result is used.
    /// 2. `index` is less than 512.
    /// 3. Others access the word as an atomic only.
    #[inline]
    pub unsafe fn word(&self, frame: Paddr, index: usize) -> &AtomicWord {
        let frame = self.words(frame);
        // SAFETY: (1) the frame is memory that the region has got for good; (2) the index is
        // within it; both, and that others access it as an atomic, by the caller's contract.
        unsafe { &*frame.wrapping_add(index) }
    }

    /// How many frames are in use.
    pub fn live(&self) -> u64 {
        self.shelves.iter().map(|shelf| shelf.free.lock().live).sum()
    }

    /// How many frames there are, in use or not.
    pub fn capacity(&self) -> u64 {
        self.frames.end - self.frames.start
    }
}
