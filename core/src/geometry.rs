//! How addresses are cut into indices: entries per node, and number of levels.
//!
//! Geometry is data, not code: the same source serves 512 entries on 4 or 5 levels in production
//! and 2 entries on 2 or 3 levels in the models, and no path asks which one it is. A [`Shape`] is
//! the two numbers. [`Geometry`] is the arithmetic that follows from them; every shape has it, and
//! none can replace it, because `unsafe` code relies on its results.
//!
//! Addresses are *canonical* at the interface: the bits above those that the levels decode repeat
//! the highest decoded one. Inside, a table counts from its first entry to its last.

use core::fmt::Debug;
use core::ops::Range;

use crate::address::{FRAME_BITS, Level, Offset, Vaddr};

/// More levels than any table has.
pub(crate) const LEVELS_MAX: usize = 8;

/// Entries per node and number of levels.
pub trait Shape: Copy + Debug + Send + Sync + 'static {
    /// Binary logarithm of the number of entries of a node: from 1 to 9.
    const INDEX_BITS: u32;
    /// The level of the root: from 1 to 8. The levels decode at most 63 bits.
    const LEVELS: u8;
}

/// The arithmetic of a [`Shape`].
///
/// Every shape has exactly this arithmetic:
///
/// ```compile_fail,E0119
/// use weft_core::geometry::{Geometry, Shape};
///
/// #[derive(Clone, Copy, Debug)]
/// struct Liar;
/// impl Shape for Liar {
///     const INDEX_BITS: u32 = 9;
///     const LEVELS: u8 = 4;
/// }
/// impl Geometry for Liar {
///     const ENTRIES: usize = 1024;
/// }
/// ```
pub trait Geometry: Shape {
    /// Bits that the levels decode, the offset in a page included.
    const ADDRESS_BITS: u32 = {
        let bits = FRAME_BITS + Self::INDEX_BITS * Self::LEVELS as u32;
        assert!(Self::INDEX_BITS >= 1 && Self::INDEX_BITS <= 9, "a node has 2 to 512 entries");
        assert!(
            Self::LEVELS >= 1 && Self::LEVELS as usize <= LEVELS_MAX && bits < 64,
            "a table has 1 to 8 levels, which decode at most 63 bits"
        );
        bits
    };
    /// Entries of a node.
    const ENTRIES: usize = {
        let _checked = Self::ADDRESS_BITS;
        1 << Self::INDEX_BITS
    };
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

    /// The index of the entry for `vaddr` in a node of `level`.
    #[inline]
    fn index(vaddr: Vaddr, level: Level) -> usize {
        (vaddr.as_u64() / Self::entry_span(level)) as usize & (Self::ENTRIES - 1)
    }

    /// The canonical address whose indices are `path`, ordered from the leaf upwards; missing ones
    /// are 0.
    ///
    /// # Panics
    ///
    /// If the path is longer than the table is high, or an index is out of range.
    fn address(path: &[usize]) -> Vaddr {
        assert!(path.len() <= usize::from(Self::LEVELS), "the path has more indices than levels");
        let mut offset = 0;
        for (depth, &index) in path.iter().enumerate() {
            assert!(index < Self::ENTRIES, "the path has an index that no node has");
            offset |= index as u64 * Self::entry_span(Level::new(depth as u8 + 1));
        }
        Self::vaddr(Offset(offset))
    }

    /// Whether the bits of `vaddr` beyond those that the levels decode repeat the highest of them.
    #[inline]
    fn is_canonical(vaddr: Vaddr) -> bool {
        Self::vaddr(Offset(vaddr.as_u64())) == vaddr
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

impl<S: Shape> Geometry for S {}

/// The arithmetic inside of a table: places are [`Offset`]s, ranges of them are contiguous.
///
/// The end of a range is behind its last byte. Written as an address it may be canonical (the
/// beginning of what comes next) or not (the end of the lower half, as a number), and at the top
/// it is 0.
pub(crate) trait Arithmetic: Geometry {
    /// The canonical address of a place.
    #[inline]
    fn vaddr(offset: Offset) -> Vaddr {
        let unused = 64 - Self::ADDRESS_BITS;
        Vaddr::new((offset.0 << unused).cast_signed().wrapping_shr(unused).cast_unsigned())
    }

    /// The place of a canonical address.
    #[inline]
    fn offset(vaddr: Vaddr) -> Option<Offset> {
        let decoded = (1 << Self::ADDRESS_BITS) - 1;
        Self::is_canonical(vaddr).then_some(Offset(vaddr.as_u64() & decoded))
    }

    /// The end of a range, as an address.
    #[inline]
    fn end_vaddr(end: Offset) -> Vaddr {
        Self::vaddr(Offset(end.0 - 1)).plus(1)
    }

    /// The end of a range that does not begin at `end`.
    #[inline]
    fn end_offset(end: Vaddr) -> Option<Offset> {
        let last = Vaddr::new(end.as_u64().wrapping_sub(1));
        match Self::offset(last) {
            Some(last) => Some(last.plus(1)),
            None => Self::offset(end),
        }
    }

    /// A range that is not empty, as addresses.
    #[inline]
    fn vaddrs(range: &Range<Offset>) -> Range<Vaddr> {
        Self::vaddr(range.start)..Self::end_vaddr(range.end)
    }

    /// The level of the lowest node with entries of its own for all of `range`, which is not
    /// empty. A range equal to a whole node is covered by the node *above* it, because that node
    /// holds the entry that leads there. So everything inside the range can be detached by
    /// changing an entry of the covering node or of a node below it.
    #[inline]
    fn covering_level(range: &Range<Offset>) -> Level {
        let (start, last) = (range.start.0, range.end.0 - 1);
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
    fn indices(start: Offset, level: Level, range: &Range<Offset>) -> Range<usize> {
        let from = range.start.0.max(start.0);
        let to = range.end.0.min(start.0 + Self::node_span(level));
        if from >= to {
            return 0..0;
        }
        let span = Self::entry_span(level);
        let [first, last] = [from, to - 1].map(|at| ((at - start.0) / span) as usize);
        // The bound never bites; it lets the compiler drop the bounds check of each entry.
        first..(last + 1).min(Self::ENTRIES)
    }

    /// The places that entry `index` translates, in the node of `level` that begins at `start`.
    #[inline]
    fn slot(start: Offset, level: Level, index: usize) -> Range<Offset> {
        let start = start.plus(index as u64 * Self::entry_span(level));
        start..start.plus(Self::entry_span(level))
    }

    /// How many nodes, of `level` and below, it takes to hold entries for all of `range`.
    fn nodes_for(level: Level, range: &Range<Offset>) -> usize {
        let (start, last) = (range.start.0, range.end.0 - 1);
        (1..=level.as_u8())
            .map(|level| Self::node_span(Level::new(level)))
            .map(|span| (last / span - start / span + 1) as usize)
            .sum()
    }

    /// The index of the entry for a place in a node of `level`.
    #[inline]
    fn index_of(offset: Offset, level: Level) -> usize {
        (offset.0 / Self::entry_span(level)) as usize & (Self::ENTRIES - 1)
    }
}

impl<G: Geometry> Arithmetic for G {}

/// Nodes of 2 to the power `INDEX_BITS` entries, on `LEVELS` levels.
#[derive(Clone, Copy, Debug)]
pub struct Dense<const INDEX_BITS: u32, const LEVELS: u8>;

impl<const INDEX_BITS: u32, const LEVELS: u8> Shape for Dense<INDEX_BITS, LEVELS> {
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

    fn range(start: u64, end: u64) -> Range<Offset> {
        Offset(start)..Offset(end)
    }

    #[test]
    fn indices_of_an_address_are_its_path() {
        fn check<G: Geometry>() {
            let path: [usize; 2] = [G::ENTRIES - 1, 1];
            let vaddr = G::address(&path);
            assert_eq!(G::index(vaddr, Level::new(1)), path[0]);
            assert_eq!(G::index(vaddr, Level::new(2)), path[1]);
            assert!(G::is_canonical(vaddr));
        }
        check::<TinyTwo>();
        check::<TinyThree>();
        check::<FourLevels>();
        check::<FiveLevels>();
    }

    #[test]
    fn addresses_of_the_upper_half_have_their_sign_extended() {
        let top = FourLevels::address(&[511, 511, 511, 511]);
        assert_eq!(top, Vaddr::new(0xffff_ffff_ffff_f000));
        assert_eq!(FourLevels::address(&[0, 0, 0, 256]), Vaddr::new(0xffff_8000_0000_0000));
        assert_eq!(FourLevels::offset(top), Some(Offset((1 << 48) - 0x1000)));
        for vaddr in [1 << 47, 1 << 48, 0xffff_7fff_ffff_ffff].map(Vaddr::new) {
            assert_eq!(FourLevels::offset(vaddr), None, "{vaddr:?}");
        }
        assert!(FourLevels::is_canonical(Vaddr::new((1 << 47) - 1)));
        assert!(FiveLevels::is_canonical(Vaddr::new(1 << 47)));
    }

    #[test]
    fn ends_of_ranges_are_behind_their_last_byte() {
        for (offset, vaddr) in [
            (1 << 12, 1 << 12),
            (1 << 47, 1 << 47),
            ((1 << 47) + 0x1000, 0xffff_8000_0000_1000),
            (1 << 48, 0),
        ] {
            assert_eq!(
                FourLevels::end_vaddr(Offset(offset)),
                Vaddr::new(vaddr),
                "an end is behind its last byte"
            );
            assert_eq!(
                FourLevels::end_offset(Vaddr::new(vaddr)),
                Some(Offset(offset)),
                "an end is behind its last byte"
            );
        }
        let upper = Vaddr::new(0xffff_8000_0000_0000);
        assert_eq!(FourLevels::end_offset(upper), Some(Offset(1 << 47)), "a beginning is an end");
        assert_eq!(FourLevels::end_offset(Vaddr::new(0xffff_7fff_ffff_f000)), None);
    }

    #[test]
    fn a_range_is_covered_by_the_lowest_node_with_entries_for_it() {
        let level = |start, end| FourLevels::covering_level(&range(start, end)).as_u8();
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
        let node = Offset(1 << 21);
        let indices = |start, end| FourLevels::indices(node, Level::LEAF, &range(start, end));
        let (page, table) = (1 << 12, 1 << 21);
        assert_eq!(indices(0, u64::MAX), 0..512);
        assert_eq!(
            indices(table + page, table + 2 * page),
            1..2,
            "what is behind the end is not touched"
        );
        assert_eq!(indices(table, table + 1), 0..1);
        assert!(indices(0, table).is_empty(), "beside it on the left");
        assert!(indices(2 * table, 3 * table).is_empty(), "beside it on the right");
        assert!(indices(table + page, table + page).is_empty());
    }

    #[test]
    fn nodes_are_counted_on_every_level() {
        let nodes =
            |level, start, end| FourLevels::nodes_for(Level::new(level), &range(start, end));
        let (page, table) = (1 << 12, 1 << 21);
        assert_eq!(nodes(1, 0, page), 1);
        assert_eq!(nodes(3, 0, page), 3);
        assert_eq!(nodes(2, table - page, table + page), 3, "two leaves and their parent");
        assert_eq!(nodes(2, 0, 1 << 30), 513);
    }

    #[test]
    fn halves_cover_the_root() {
        assert_eq!(FourLevels::lower_half(), 0..256);
        assert_eq!(FourLevels::upper_half(), 256..512);
        assert_eq!(TinyTwo::upper_half(), 1..2);
    }
}
