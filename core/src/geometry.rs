//! How addresses are cut into indices: entries per node, and number of levels.
//!
//! Geometry is data, not code: the same source serves 512 entries on 4 or 5 levels in production
//! and 2 entries on 2 or 3 levels in the models, and no path asks which one it is.

use core::fmt::Debug;
use core::ops::Range;

use crate::address::{FRAME_BITS, Level, Vaddr};

/// Entries per node and number of levels, with the address arithmetic that follows from them.
pub trait Geometry: Copy + Debug + Send + Sync + 'static {
    /// Binary logarithm of the number of entries of a node.
    const INDEX_BITS: u32;
    /// The level of the root.
    const LEVELS: u8;
    /// Entries of a node.
    const ENTRIES: usize = 1 << Self::INDEX_BITS;
    /// The level of the root, as a [`Level`].
    const ROOT: Level = Level::new(Self::LEVELS);

    /// Bytes that one entry of a node of `level` covers.
    #[inline]
    fn entry_span(level: Level) -> u64 {
        1 << (FRAME_BITS + Self::INDEX_BITS * level.height())
    }

    /// Bytes that a node of `level` covers.
    #[inline]
    fn node_span(level: Level) -> u64 {
        Self::entry_span(level) << Self::INDEX_BITS
    }

    /// Frames of the smallest size that an entry of `level` maps.
    fn entry_frames(level: Level) -> u64 {
        Self::entry_span(level) >> FRAME_BITS
    }

    /// The level of the lowest node with entries of its own for all of `range`, which is not
    /// empty: a range that is all of a node is held by the entry that leads to the node. So
    /// whatever is wholly inside the range hangs from an entry of that node, or of one below it.
    #[inline]
    fn covering_level(range: &Range<Vaddr>) -> Level {
        let (start, last) = (range.start.as_u64(), range.end.as_u64() - 1);
        let mut level = Level::LEAF;
        while level < Self::ROOT
            && (start / Self::node_span(level) != last / Self::node_span(level)
                || last - start + 1 == Self::node_span(level))
        {
            level = level.above();
        }
        level
    }

    /// The indices of the entries, in the node of `level` that begins at `start`, that `range`
    /// touches. None if the range is empty or beside the node.
    #[inline]
    fn indices(start: Vaddr, level: Level, range: &Range<Vaddr>) -> Range<usize> {
        let from = range.start.as_u64().max(start.as_u64());
        let to = range.end.as_u64().min(start.as_u64() + Self::node_span(level));
        if from >= to {
            return 0..0;
        }
        let span = Self::entry_span(level);
        let [first, last] = [from, to - 1].map(|at| ((at - start.as_u64()) / span) as usize);
        // The bound says nothing new, but the compiler to leave out a check for each entry.
        first..(last + 1).min(Self::ENTRIES)
    }

    /// The addresses that entry `index` translates, in the node of `level` that begins at `start`.
    #[inline]
    fn slot(start: Vaddr, level: Level, index: usize) -> Range<Vaddr> {
        let start = start.plus(index as u64 * Self::entry_span(level));
        start..start.plus(Self::entry_span(level))
    }

    /// How many nodes, of `level` and below, it takes to hold entries for all of `range`.
    fn nodes_for(level: Level, range: &Range<Vaddr>) -> usize {
        let (start, last) = (range.start.as_u64(), range.end.as_u64() - 1);
        (1..=level.as_u8())
            .map(|level| Self::node_span(Level::new(level)))
            .map(|span| (last / span - start / span + 1) as usize)
            .sum()
    }

    /// The index of the entry for `vaddr` in a node of `level`.
    #[inline]
    fn index(vaddr: Vaddr, level: Level) -> usize {
        (vaddr.as_u64() / Self::entry_span(level)) as usize & (Self::ENTRIES - 1)
    }

    /// The address whose indices are `path`, ordered from the leaf upwards; missing ones are 0.
    ///
    /// # Panics
    ///
    /// If the path is longer than the table is high, or an index is out of range.
    fn address(path: &[usize]) -> Vaddr {
        assert!(path.len() <= usize::from(Self::LEVELS), "the path has more indices than levels");
        let mut vaddr = 0;
        for (depth, &index) in path.iter().enumerate() {
            assert!(index < Self::ENTRIES, "the path has an index that no node has");
            vaddr |= index as u64 * Self::entry_span(Level::new(depth as u8 + 1));
        }
        Vaddr::new(vaddr)
    }

    /// Whether `vaddr` has no bits beyond those that the levels decode.
    ///
    /// Sign extension of the upper half, where an architecture asks for it, is not part of the
    /// geometry: addresses here are plain offsets into the table.
    fn covers(vaddr: Vaddr) -> bool {
        vaddr.as_u64() >> (FRAME_BITS + Self::INDEX_BITS * u32::from(Self::LEVELS)) == 0
    }

    /// The lower half of the root's entries.
    fn lower_half() -> Range<usize> {
        0..Self::ENTRIES / 2
    }

    /// The upper half of the root's entries.
    fn upper_half() -> Range<usize> {
        Self::ENTRIES / 2..Self::ENTRIES
    }
}

/// Nodes of 2 to the power `INDEX_BITS` entries, on `LEVELS` levels.
#[derive(Clone, Copy, Debug)]
pub struct Dense<const INDEX_BITS: u32, const LEVELS: u8>;

impl<const INDEX_BITS: u32, const LEVELS: u8> Geometry for Dense<INDEX_BITS, LEVELS> {
    const INDEX_BITS: u32 = INDEX_BITS;
    const LEVELS: u8 = LEVELS;
}

/// 512 entries on 3 levels: RISC-V's Sv39.
pub type ThreeLevels = Dense<9, 3>;
/// 512 entries on 4 levels: x86-64 with 48-bit addresses.
pub type FourLevels = Dense<9, 4>;
/// 512 entries on 5 levels: x86-64 with 57-bit addresses.
pub type FiveLevels = Dense<9, 5>;
/// 2 entries on 2 levels: the smallest table with a parent and a child.
pub type TinyTwo = Dense<1, 2>;
/// 2 entries on 3 levels: the smallest table with a node between root and leaf.
pub type TinyThree = Dense<1, 3>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_of_an_address_are_its_path() {
        fn check<G: Geometry>() {
            let path: [usize; 2] = [G::ENTRIES - 1, 1];
            let vaddr = G::address(&path);
            assert_eq!(G::index(vaddr, Level::new(1)), path[0]);
            assert_eq!(G::index(vaddr, Level::new(2)), path[1]);
            assert!(G::covers(vaddr));
        }
        check::<TinyTwo>();
        check::<TinyThree>();
        check::<FourLevels>();
        check::<FiveLevels>();
    }

    #[test]
    fn a_range_is_covered_by_the_lowest_node_with_entries_for_it() {
        let level =
            |start, end| FourLevels::covering_level(&(Vaddr::new(start)..Vaddr::new(end))).as_u8();
        let (page, table, directory) = (1 << 12, 1 << 21, 1 << 30);
        assert_eq!(level(0, page), 1);
        assert_eq!(level(page, table), 1);
        assert_eq!(level(0, table), 2, "the entry that leads to the whole leaf is one up");
        assert_eq!(level(table - page, table + page), 2);
        assert_eq!(level(0, directory), 3);
        assert_eq!(level(directory - page, directory + page), 3);
        assert_eq!(level(0, 1 << 48), 4);
        assert_eq!(level((1 << 48) - page, 1 << 48), 1, "the last page of the space");
    }

    #[test]
    fn indices_are_those_that_a_range_touches() {
        let node = Vaddr::new(1 << 21);
        let indices = |start: u64, end: u64| {
            FourLevels::indices(node, Level::LEAF, &(Vaddr::new(start)..Vaddr::new(end)))
        };
        let (page, table) = (1 << 12, 1 << 21);
        assert_eq!(indices(0, u64::MAX), 0..512);
        assert_eq!(indices(table + page, table + 2 * page), 1..2);
        assert_eq!(indices(table, table + 1), 0..1);
        assert!(indices(0, table).is_empty(), "beside it on the left");
        assert!(indices(2 * table, 3 * table).is_empty(), "beside it on the right");
        assert!(indices(table + page, table + page).is_empty());
    }

    #[test]
    fn nodes_are_counted_on_every_level() {
        let nodes = |level: u8, start: u64, end: u64| {
            FourLevels::nodes_for(Level::new(level), &(Vaddr::new(start)..Vaddr::new(end)))
        };
        let (page, table) = (1 << 12, 1 << 21);
        assert_eq!(nodes(1, 0, page), 1);
        assert_eq!(nodes(3, 0, page), 3);
        assert_eq!(nodes(2, table - page, table + page), 3, "two leaves and their parent");
        assert_eq!(nodes(2, 0, 1 << 30), 513);
    }

    #[test]
    fn four_levels_decode_48_bits() {
        assert_eq!(FourLevels::entry_span(Level::new(4)), 1 << 39);
        assert!(FourLevels::covers(Vaddr::new((1 << 48) - 1)));
        assert!(!FourLevels::covers(Vaddr::new(1 << 48)));
        assert!(FiveLevels::covers(Vaddr::new((1 << 57) - 1)));
    }

    #[test]
    fn halves_cover_the_root() {
        assert_eq!(FourLevels::lower_half(), 0..256);
        assert_eq!(FourLevels::upper_half(), 256..512);
        assert_eq!(TinyTwo::upper_half(), 1..2);
    }
}
