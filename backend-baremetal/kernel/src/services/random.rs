//! Random numbers: Marsaglia's xorshift, seeded. Reproducible, and good enough for delays.

/// A generator of 64-bit numbers.
#[derive(Clone, Debug)]
pub(crate) struct Random {
    state: u64,
}

impl Random {
    /// A generator for `seed`; `stream` tells generators of one seed apart.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        let mut mixed = seed ^ stream.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        // The state must not be 0.
        Self { state: (mixed ^ mixed >> 31) | 1 }
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`, all equally likely but for a rest that no test is about.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 32) % bound
    }

    /// A number of at most so many bits; every order of magnitude is as likely as any other.
    pub(crate) fn up_to(&mut self, bits: u32) -> u64 {
        let magnitude = self.next() % u64::from(bits + 1);
        self.next() >> 32 & ((1 << magnitude) - 1)
    }
}
