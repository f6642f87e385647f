//! Random numbers that a seed decides: Steele, Lea and Flood's SplitMix64 (OOPSLA 2014).
//!
//! One addition and one chain of two multiplications for each number, and any seed is good.
//! Reproducible on every machine, and good enough to choose among what a test may do.

/// A generator of numbers.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The generator of a seed.
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// One of many generators of a seed, which have nothing to do with each other.
    pub fn stream(seed: u64, stream: u64) -> Self {
        Self::new(seed ^ Self::new(stream).next())
    }

    /// The next number.
    #[expect(clippy::should_implement_trait, reason = "it never ends, and yields no `Option`")]
    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `bound`, all equally likely but for a rest that no test is about.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// A number of at most so many bits, 32 at most; every order of magnitude is as likely as any
    /// other.
    pub fn up_to(&mut self, bits: u32) -> u64 {
        let magnitude = self.below(u64::from(bits) + 1);
        self.next() >> 32 & ((1 << magnitude) - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first numbers of the seed 1234567, as other implementations of SplitMix64 have them.
    #[test]
    fn numbers_are_those_of_split_mix() {
        let mut random = Random::new(1_234_567);
        let numbers = [(); 3].map(|()| random.next());
        let expected =
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!(numbers, expected);
    }

    #[test]
    fn streams_of_a_seed_differ() {
        let [mut one, mut other] = [0, 1].map(|stream| Random::stream(7, stream));
        assert_ne!(one.next(), other.next());
        assert_ne!(Random::stream(8, 1).next(), Random::stream(7, 1).next());
    }

    #[test]
    fn magnitudes_are_bounded() {
        let mut random = Random::new(3);
        let numbers: alloc::vec::Vec<u64> = (0..100).map(|_| random.up_to(5)).collect();
        assert!(numbers.iter().all(|number| *number < 32));
        assert!(numbers.contains(&0) && numbers.iter().any(|number| *number >= 16));
        assert!((0..100).all(|_| random.below(7) < 7));
    }
}
