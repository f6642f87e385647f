//! Which frames are in use: a bit for each, which its owner sets and clears.
//!
//! A harness wants to look at what a run has left. The region knows how many frames are in use, and
//! has no use for knowing which.

use core::iter::successors;
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

    /// The frames that are in use, and were not `then`. Looked up as the iterator goes.
    pub(crate) fn since<'a>(&'a self, then: &'a Moment) -> impl Iterator<Item = Paddr> + 'a {
        let words = self.words.iter().zip(&then.words).enumerate();
        words.flat_map(|(index, (now, then))| {
            let some = |bits: u64| (bits != 0).then_some(bits);
            let taken = now.load(Ordering::Relaxed) & !then;
            let rests = successors(some(taken), move |rest| some(rest & (rest - 1)));
            rests.map(move |rest| {
                Paddr::of_frame(64 * index as u64 + u64::from(rest.trailing_zeros()))
            })
        })
    }
}
