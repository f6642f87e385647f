//! Random programs, in families that stress different parts of the engine.
//!
//! A seed determines the program, so a failure is reproduced by family and seed.

use std::sync::atomic::Ordering;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};

use super::program::{Operation, Program};

/// What the compare-exchanges and words of a family are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flavour {
    /// Everything atomic; compare-exchanges may fail.
    Atomic,
    /// Every compare-exchange waits until it succeeds.
    Awaiting,
    /// Word `y` is plain memory, which may be raced for.
    Plain,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Family {
    pub(crate) name: &'static str,
    /// The operations drawn from, a letter each; a repeated letter is drawn more often.
    letters: &'static str,
    length_max: u64,
    threads: usize,
    words: u64,
    pub(crate) flavour: Flavour,
    /// How many programs an ordinary test run tries; the long run takes ten times as many.
    pub(crate) programs: u64,
}

const fn family(
    name: &'static str,
    letters: &'static str,
    threads: usize,
    length_max: u64,
    programs: u64,
) -> Family {
    Family { name, letters, length_max, threads, words: 2, flavour: Flavour::Atomic, programs }
}

const fn awaiting(family: Family) -> Family {
    Family { flavour: Flavour::Awaiting, ..family }
}

const fn plain(family: Family) -> Family {
    Family { flavour: Flavour::Plain, ..family }
}

const fn three_words(family: Family) -> Family {
    Family { words: 3, ..family }
}

/// Lower-case letters: no `SeqCst` accesses. `w` store, `r` load, `f` fence, `x` swap, `a` add, `c`
/// compare-exchange, `o` opens a window, `v` loads within it; upper case: the same with `SeqCst`
/// among the orders; `l` takes a lock (compare-exchange 0 to something, acquire), `u` releases it
/// (store 0).
pub(crate) const FAMILIES: &[Family] = &[
    family("two threads", "wrf", 2, 4, 3000),
    family("two threads, updates", "wrfxac", 2, 4, 3000),
    family("two threads, long", "wrfxac", 2, 5, 500),
    family("two threads, SeqCst", "WRF", 2, 4, 3000),
    family("two threads, SeqCst updates", "WRFXAC", 2, 4, 2000),
    awaiting(family("two threads, awaits", "wrfxacc", 2, 4, 2000)),
    awaiting(family("two threads, locks", "llwru", 2, 5, 2000)),
    plain(family("two threads, plain", "wrfxac", 2, 5, 3000)),
    plain(three_words(family("two threads, plain and SeqCst", "WRFXAC", 2, 5, 1000))),
    family("three threads", "wrfc", 3, 3, 600),
    family("three threads, updates", "wrfxac", 3, 2, 600),
    three_words(family("three threads, SeqCst", "WRFXAC", 3, 2, 600)),
    awaiting(family("three threads, locks", "lwruc", 3, 3, 400)),
    plain(family("three threads, plain", "wrfxac", 3, 2, 400)),
    family("windows", "wrfvvo", 2, 5, 2000),
    family("windows, updates", "wrfxacvvvo", 2, 5, 2000),
    family("windows, SeqCst", "WRFXACvvo", 2, 5, 1000),
    family("windows, three threads", "wrxfvvo", 3, 3, 300),
    three_words(family("windows, three words", "wxRFvvvo", 3, 3, 300)),
    family("four threads", "wrc", 4, 2, 200),
    three_words(family("four threads, SeqCst", "WRFC", 4, 2, 200)),
];

pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        (0..8).for_each(|_| {
            random.below(2);
        });
        random
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

/// Orders for a store, a load, a read-modify-write, and a fence.
fn orders(is_sequential: bool) -> [&'static [Ordering]; 4] {
    if is_sequential {
        [
            &[SeqCst, SeqCst, Release, Relaxed],
            &[SeqCst, SeqCst, Acquire, Relaxed],
            &[SeqCst, SeqCst, AcqRel, Acquire, Release, Relaxed],
            &[SeqCst, SeqCst, AcqRel, Acquire, Release],
        ]
    } else {
        [
            &[Relaxed, Release],
            &[Relaxed, Acquire],
            &[Relaxed, AcqRel, Acquire, Release],
            &[AcqRel, SeqCst, Acquire, Release],
        ]
    }
}

impl Family {
    pub(crate) fn generate(&self, seed: u64) -> Program {
        let mut random = Random::new(seed);
        let letters: Vec<char> = self.letters.chars().collect();
        let mut value = 0;
        let threads = (0..self.threads)
            .map(|_| {
                let length = 2 + random.below(self.length_max - 1);
                (0..length).map(|_| self.operation(&mut random, &letters, &mut value)).collect()
            })
            .collect();
        Program { threads }
    }

    fn operation(&self, random: &mut Random, letters: &[char], value: &mut u64) -> Operation {
        let word = random.below(self.words) as usize;
        let letter = random.pick(letters);
        let [stores, loads, updates, fences] = orders(letter.is_ascii_uppercase());
        *value += 1;
        let value = *value;
        let is_plain = self.flavour == Flavour::Plain && word == 1;
        match letter.to_ascii_lowercase() {
            // Plain memory is only read and written.
            'w' | 'x' | 'c' if is_plain => Operation::Store { word, value, order: Relaxed },
            'r' | 'a' if is_plain => Operation::Load { word, order: Relaxed },
            'w' => Operation::Store { word, value, order: random.pick(stores) },
            'r' => Operation::Load { word, order: random.pick(loads) },
            'f' => Operation::Fence { order: random.pick(fences) },
            'x' => Operation::Swap { word, value, order: random.pick(updates) },
            'a' => Operation::Add { word, value: 100, order: random.pick(updates) },
            'c' => {
                let expected = if random.below(4) == 0 { value - 1 } else { 0 };
                let (order, failure) = (random.pick(updates), random.pick(loads));
                Operation::Cas { word, expected, value, order, failure }
            }
            'o' => Operation::Open,
            'v' => Operation::Within { word },
            'l' => {
                let (order, failure) = (Acquire, Relaxed);
                Operation::Cas { word, expected: 0, value, order, failure }
            }
            'u' => Operation::Store { word, value: 0, order: random.pick(stores) },
            other => panic!("a family has no operation `{other}`"),
        }
    }
}
