//! Architectures: how many entries and levels, and what an entry looks like.
//!
//! The core knows no format: it is a parameter of a table, as the geometry is. So the tests of
//! cursors run on entries of x86-64 and of RISC-V. In the latter's tables every level may map
//! pages, the root's too; fewer cache policies have a word; and hardware's bits are elsewhere. What
//! a test expects of a format are the specification's [`Rules`], written after the manuals and not
//! after the format.

use std::marker::PhantomData;

use weft_core::format::{CachePolicy, EntryFormat, Property, RiscVEntries, X86_64};
use weft_core::geometry::{Dense, FourLevels, Geometry, Shape, ThreeLevels};
use weft_scenarios::specification::Rules;

use crate::support::{Machine, WholeOn};
use crate::watched;

/// The rules of a machine, with the format that follows them.
pub(crate) trait Architecture: Rules {
    /// How entries are written.
    type Format: EntryFormat;
}

/// A table that manages all of its root, in the format of its architecture.
pub(crate) type Whole<G> = WholeOn<Machine<G>, <G as Architecture>::Format>;
/// As [`Whole`], on a machine that is watched.
pub(crate) type Table<G> = WholeOn<watched::Machine<G>, <G as Architecture>::Format>;

impl<const INDEX_BITS: u32, const LEVELS: u8> Architecture for Dense<INDEX_BITS, LEVELS> {
    type Format = X86_64;
}

/// The geometry `G`, with RISC-V's entries. `NOTES`: with Svadu, else Svade. `SEES_NEW`: with
/// Svvptc.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RiscVOf<G, const NOTES: bool = true, const SEES_NEW: bool = false>(
    PhantomData<G>,
);

/// Three levels of RISC-V's entries.
pub(crate) type Sv39 = RiscVOf<ThreeLevels>;
/// Four levels of RISC-V's entries.
pub(crate) type Sv48 = RiscVOf<FourLevels>;
/// Three levels, and hardware that faults where an access is not noted.
pub(crate) type Svade = RiscVOf<ThreeLevels, false>;
/// Three levels, and hardware that sees before long that an entry was made valid.
pub(crate) type Svvptc = RiscVOf<ThreeLevels, true, true>;

impl<G: Geometry, const NOTES: bool, const SEES_NEW: bool> Shape for RiscVOf<G, NOTES, SEES_NEW> {
    const INDEX_BITS: u32 = G::INDEX_BITS;
    const LEVELS: u8 = G::LEVELS;
}

impl<G: Geometry, const NOTES: bool, const SEES_NEW: bool> Architecture
    for RiscVOf<G, NOTES, SEES_NEW>
{
    type Format = RiscVEntries<NOTES, SEES_NEW>;
}

impl<G: Geometry, const NOTES: bool, const SEES_NEW: bool> Rules for RiscVOf<G, NOTES, SEES_NEW> {
    const PAGE_LEVELS: u8 = G::LEVELS;
    const PHYSICAL_BITS: u32 = 56;
    const CACHES_ABSENT: bool = !SEES_NEW;
    const CACHES_FAULTS: bool = true;
    const NOTES: bool = NOTES;

    fn kept(asked: Property) -> Property {
        let cache = match asked.cache {
            CachePolicy::WriteBack => CachePolicy::WriteBack,
            CachePolicy::UncachedMinus | CachePolicy::Uncached => CachePolicy::Uncached,
            // Weaker than asked, and not cached.
            _ => CachePolicy::WriteCombining,
        };
        Property { cache, ..asked }
    }
}

/// Makes a test of each generic function, for each architecture.
macro_rules! on_every_architecture {
    ($($body:ident),+ $(,)?) => {
        on_every_architecture!(@ [on_svade: crate::architecture::Svade,] $($body)+);
    };
    (@ [$($more:tt)*] $($body:ident)+) => {
        on_each!([
            on_four_levels: weft_core::geometry::FourLevels,
            on_five_levels: weft_core::geometry::FiveLevels,
            on_tiny_two: weft_core::geometry::TinyTwo,
            on_tiny_three: weft_core::geometry::TinyThree,
            on_sv39: crate::architecture::Sv39,
            on_sv48: crate::architecture::Sv48,
            on_svvptc: crate::architecture::Svvptc,
            $($more)*
        ] $($body)+);
    };
}

/// As [`on_every_architecture`], where hardware notes accesses.
macro_rules! on_every_noting_architecture {
    ($($body:ident),+ $(,)?) => {
        on_every_architecture!(@ [] $($body)+);
    };
}
