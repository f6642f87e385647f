//! Architectures: how many entries and levels, and what an entry looks like.
//!
//! The core knows no format: it is a parameter of a table, as the geometry is. So the tests of
//! cursors run on entries of x86-64 and of RISC-V. In the latter's tables every level may map
//! pages, the root's too; fewer cache policies have a word; and hardware's bits are elsewhere. What
//! a test expects of a format is said here once more, after the manuals and not after the format.

use std::marker::PhantomData;

use weft_core::format::{CachePolicy, Property, RiscV, X86_64};
use weft_core::geometry::{Dense, FourLevels, Geometry, ThreeLevels};

use crate::support::{Machine, WholeFormat, WholeOn};

/// A geometry, with the format of its tables.
pub(crate) trait Architecture: Geometry {
    /// How entries are written.
    type Format: WholeFormat;
    /// So many levels, from the leaves up, have entries that may map pages.
    const PAGE_LEVELS: u8;
    /// Bits of the physical addresses that entries have room for.
    const PHYSICAL_BITS: u32;

    /// The cache policy of an entry that was asked to have this one.
    fn cached(asked: CachePolicy) -> CachePolicy;

    /// The property of an entry that was asked to have this one.
    fn kept(asked: Property) -> Property {
        Property { cache: Self::cached(asked.cache), ..asked }
    }
}

/// A table that manages all of its root, in the format of its architecture.
pub(crate) type Whole<G> = WholeOn<Machine<G>, <G as Architecture>::Format>;

/// A geometry by itself is x86-64's: pages of 4 KiB, 2 MiB and 1 GiB.
impl<const INDEX_BITS: u32, const LEVELS: u8> Architecture for Dense<INDEX_BITS, LEVELS> {
    type Format = X86_64;
    const PAGE_LEVELS: u8 = if LEVELS < 3 { LEVELS } else { 3 };
    const PHYSICAL_BITS: u32 = 52;

    fn cached(asked: CachePolicy) -> CachePolicy {
        asked
    }
}

/// The geometry `G`, with RISC-V's entries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RiscVOf<G>(PhantomData<G>);

/// Three levels of RISC-V's entries.
pub(crate) type Sv39 = RiscVOf<ThreeLevels>;
/// Four levels of RISC-V's entries.
pub(crate) type Sv48 = RiscVOf<FourLevels>;

impl<G: Geometry> Geometry for RiscVOf<G> {
    const INDEX_BITS: u32 = G::INDEX_BITS;
    const LEVELS: u8 = G::LEVELS;
}

impl<G: Geometry> Architecture for RiscVOf<G> {
    type Format = RiscV;
    const PAGE_LEVELS: u8 = G::LEVELS;
    const PHYSICAL_BITS: u32 = 56;

    fn cached(asked: CachePolicy) -> CachePolicy {
        match asked {
            CachePolicy::WriteBack => CachePolicy::WriteBack,
            CachePolicy::UncachedMinus | CachePolicy::Uncached => CachePolicy::Uncached,
            // Weaker than asked, and not cached.
            _ => CachePolicy::WriteCombining,
        }
    }
}

/// Makes a test of each generic function, for each architecture.
macro_rules! on_every_architecture {
    ($($body:ident),+ $(,)?) => {
        $(
            mod $body {
                use weft_core::geometry::{FiveLevels, FourLevels, TinyThree, TinyTwo};

                use crate::architecture::{Sv39, Sv48};

                #[test]
                fn on_four_levels() {
                    super::$body::<FourLevels>();
                }
                #[test]
                fn on_five_levels() {
                    super::$body::<FiveLevels>();
                }
                #[test]
                fn on_tiny_two() {
                    super::$body::<TinyTwo>();
                }
                #[test]
                fn on_tiny_three() {
                    super::$body::<TinyThree>();
                }
                #[test]
                fn on_sv39() {
                    super::$body::<Sv39>();
                }
                #[test]
                fn on_sv48() {
                    super::$body::<Sv48>();
                }
            }
        )+
    };
}
