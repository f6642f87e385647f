//! Addresses and levels as types of their own, so that a frame is never taken for a page.

use core::fmt;

/// Bytes in the smallest page, and in every node.
pub const FRAME_SIZE: u64 = 1 << FRAME_BITS;
/// Bits of an address that select a byte in a frame.
pub const FRAME_BITS: u32 = 12;

/// A physical address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Paddr(u64);

impl Paddr {
    /// The physical address `address`.
    pub const fn new(address: u64) -> Self {
        Self(address)
    }

    /// The first byte of frame number `number`.
    pub const fn of_frame(number: u64) -> Self {
        Self(number << FRAME_BITS)
    }

    /// The number of the frame that holds this address.
    pub const fn frame_number(self) -> u64 {
        self.0 >> FRAME_BITS
    }

    /// The address as a number.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The address `bytes` further on.
    pub const fn plus(self, bytes: u64) -> Self {
        Self(self.0 + bytes)
    }
}

impl fmt::Debug for Paddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Paddr({:#x})", self.0)
    }
}

/// A virtual address, as software and hardware write it: of the upper half the sign is extended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Vaddr(u64);

impl Vaddr {
    /// The virtual address `address`.
    pub const fn new(address: u64) -> Self {
        Self(address)
    }

    /// The address as a number.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The address `bytes` further on. Behind the last address comes 0, which therefore ends a
    /// range that goes up to the top.
    pub const fn plus(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }

    /// The last multiple of `alignment`, a power of 2, that is not above the address.
    pub const fn align_down(self, alignment: u64) -> Self {
        Self(self.0 & !(alignment - 1))
    }

    /// Whether the address is a multiple of `alignment`, a power of 2.
    pub const fn is_aligned(self, alignment: u64) -> bool {
        self.0 & (alignment - 1) == 0
    }
}

impl fmt::Debug for Vaddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vaddr({:#x})", self.0)
    }
}

/// A place among the addresses that a table translates, counted from its first entry: a virtual
/// address without its sign, and without the gap between the halves.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(transparent)]
pub(crate) struct Offset(pub(crate) u64);

impl Offset {
    /// The place `bytes` further on.
    #[inline]
    pub(crate) const fn plus(self, bytes: u64) -> Self {
        Self(self.0 + bytes)
    }

    /// The last multiple of `alignment`, a power of 2, that is not above the place.
    #[inline]
    pub(crate) const fn align_down(self, alignment: u64) -> Self {
        Self(self.0 & !(alignment - 1))
    }

    /// Whether the place is a multiple of `alignment`, a power of 2.
    #[inline]
    pub(crate) const fn is_aligned(self, alignment: u64) -> bool {
        self.0 & (alignment - 1) == 0
    }
}

/// The level of a node or entry: 1 holds the smallest pages, the root has the highest level.
// A whole word, although few values: next to addresses a byte would be masked out at every step.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Level(u64);

impl Level {
    /// The level of nodes whose entries are pages of [`FRAME_SIZE`] bytes.
    pub const LEAF: Self = Self(1);

    /// Level `level`, counted from 1 at the leaves.
    ///
    /// # Panics
    ///
    /// If `level` is 0: there is nothing below a leaf.
    pub const fn new(level: u8) -> Self {
        assert!(level > 0, "levels are counted from 1");
        Self(level as u64)
    }

    /// The level as a number.
    pub const fn as_u8(self) -> u8 {
        self.0 as u8
    }

    /// How many levels there are below.
    #[inline]
    pub(crate) const fn height(self) -> u32 {
        self.0 as u32 - 1
    }

    /// The level of the parent, of which a geometry may have none.
    #[inline]
    pub(crate) const fn above(self) -> Self {
        Self(self.0 + 1)
    }

    /// The level of the children, unless this is a leaf.
    #[inline]
    pub const fn below(self) -> Option<Self> {
        if self.0 > 1 { Some(Self(self.0 - 1)) } else { None }
    }
}

impl fmt::Debug for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Level({})", self.0)
    }
}

/// The number of a CPU, from 0 up to [`CpuId::MAX`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(transparent)]
pub struct CpuId(u32);

impl CpuId {
    /// The highest number: the monitor keeps its CPUs in one word.
    pub const MAX: u32 = 63;

    /// CPU number `number`.
    ///
    /// # Panics
    ///
    /// If `number` exceeds [`CpuId::MAX`].
    pub const fn new(number: u32) -> Self {
        assert!(number <= Self::MAX, "there are at most 64 CPUs");
        Self(number)
    }

    /// The number.
    pub const fn as_u32(self) -> u32 {
        self.0
    }

    /// The set that holds only this CPU.
    pub const fn bit(self) -> u64 {
        1 << self.0
    }
}

/// How many words a set of CPUs takes.
const SET_WORDS: usize = CpuId::MAX as usize / 64 + 1;

/// A set of CPUs.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct CpuSet([u64; SET_WORDS]);

impl CpuSet {
    /// The set without CPUs.
    pub const EMPTY: Self = Self([0; SET_WORDS]);

    /// Whether there is no CPU in the set.
    pub fn is_empty(&self) -> bool {
        *self == Self::EMPTY
    }

    /// Whether the set has this CPU.
    pub const fn contains(&self, cpu: CpuId) -> bool {
        self.0[cpu.0 as usize / 64] >> (cpu.0 % 64) & 1 != 0
    }

    /// Adds a CPU.
    pub const fn insert(&mut self, cpu: CpuId) {
        self.0[cpu.0 as usize / 64] |= 1 << (cpu.0 % 64);
    }

    /// Takes a CPU out. False if it was not there.
    pub const fn remove(&mut self, cpu: CpuId) -> bool {
        let is_there = self.contains(cpu);
        self.0[cpu.0 as usize / 64] &= !(1 << (cpu.0 % 64));
        is_there
    }

    /// The CPUs, the lowest number first.
    pub fn iter(&self) -> impl Iterator<Item = CpuId> + use<> {
        let set = *self;
        (0..=CpuId::MAX).map(CpuId).filter(move |cpu| set.contains(*cpu))
    }
}

impl fmt::Debug for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(CpuId::as_u32)).finish()
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::format;
    use std::vec::Vec;

    use super::*;

    fn set(numbers: &[u32]) -> CpuSet {
        let mut set = CpuSet::EMPTY;
        numbers.iter().for_each(|number| set.insert(CpuId::new(*number)));
        set
    }

    fn numbers(set: &CpuSet) -> Vec<u32> {
        set.iter().map(CpuId::as_u32).collect()
    }

    #[test]
    fn a_set_has_what_was_inserted_and_nothing_else() {
        let inserted = [63, 0, 31, 32, 0];
        let set = set(&inserted);
        for number in 0..=CpuId::MAX {
            assert_eq!(set.contains(CpuId::new(number)), inserted.contains(&number), "{number}");
        }
        assert_eq!(numbers(&set), [0, 31, 32, 63], "the lowest number first, and each once");
        assert_eq!(format!("{set:?}"), "{0, 31, 32, 63}");
    }

    #[test]
    fn removing_says_whether_the_cpu_was_there() {
        let mut some = set(&[0, 1, 63]);
        assert!(some.remove(CpuId::new(63)));
        assert!(!some.remove(CpuId::new(63)), "it was removed before");
        assert!(!some.remove(CpuId::new(2)), "it was never there");
        assert_eq!(some, set(&[0, 1]), "the others stay");
        assert!(some.remove(CpuId::new(0)) && some.remove(CpuId::new(1)));
        assert!(some.is_empty());
    }

    #[test]
    fn only_a_set_without_cpus_is_empty() {
        assert!(CpuSet::EMPTY.is_empty() && CpuSet::default().is_empty());
        assert_eq!(numbers(&CpuSet::EMPTY), []);
        for number in 0..=CpuId::MAX {
            assert!(!set(&[number]).is_empty(), "{number}");
        }
    }

    #[test]
    fn a_set_has_room_for_every_cpu() {
        let all: Vec<u32> = (0..=CpuId::MAX).collect();
        assert_eq!(numbers(&set(&all)), all);
    }

    #[test]
    #[should_panic(expected = "there are at most 64 CPUs")]
    fn beyond_the_last_cpu_there_is_none() {
        CpuId::new(CpuId::MAX + 1);
    }
}
