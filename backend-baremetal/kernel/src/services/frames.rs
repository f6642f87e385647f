//! Which frames are in use: a bit for each, which its owner sets and clears.
//!
//! A harness wants to look at what a run has left. The region knows how many frames are in use, and
//! has no use for knowing which.

use core::sync::atomic::{AtomicU64, Ordering};

use alloc::boxed::Box;
use weft_core::address::Paddr;

/// Which frames are in use.
#[derive(Debug)]
pub(crate) struct InUse {
    words: Box<[AtomicU64]>,
}

/// Which frames were in use at some moment.
#[derive(Debug)]
pub(crate) struct Moment {
    words: Box<[u64]>,
}

impl InUse {
    /// For the frames below `end`, none of them in use.
    pub(crate) fn up_to(end: Paddr) -> Self {
        let words = end.frame_number().div_ceil(u64::from(u64::BITS));
        Self { words: (0..words).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Notes that a frame is in use, or no longer.
    pub(crate) fn note(&self, frame: Paddr, is_used: bool) {
        let (word, bit) = (frame.frame_number() / 64, 1 << (frame.frame_number() % 64));
        let word = &self.words[word as usize];
        let before = if is_used {
            word.fetch_or(bit, Ordering::Relaxed)
        } else {
            word.fetch_and(!bit, Ordering::Relaxed)
        };
        let was_used = before & bit != 0;
        assert!(was_used != is_used, "{frame:?} was given out, or given back, twice");
    }

    /// Which are in use at this moment.
    pub(crate) fn now(&self) -> Moment {
        Moment { words: self.words.iter().map(|word| word.load(Ordering::Relaxed)).collect() }
    }

    /// The frames that are in use at this moment, and were not `then`.
    pub(crate) fn since(&self, then: &Moment) -> impl Iterator<Item = Paddr> + use<> {
        let now = self.now().words;
        let taken: Box<[u64]> =
            now.iter().zip(&then.words).map(|(now, then)| now & !then).collect();
        (0..taken.len() as u64 * 64)
            .filter(move |number| taken[(number / 64) as usize] >> (number % 64) & 1 != 0)
            .map(Paddr::of_frame)
    }
}
