//! Programs: what random tests do with cursors.
//!
//! A program is plain data, made by proptest or out of a fuzzer's bytes. It can ask for anything
//! that safe callers can: any address, level, frame and property. So that operations meet, most
//! addresses are made of few indices, or are relative to the range and the position.

use std::ops::Range;

use arbitrary::Arbitrary;
use weft_core::address::{FRAME_SIZE, Level, Vaddr};
use weft_core::format::{CachePolicy, PageFlags, Property};
use weft_core::geometry::Geometry;

use crate::fixture::{address, end_offset, offset};

/// A sequence of transactions.
#[derive(Clone, Debug, Arbitrary)]
pub(crate) struct Program {
    pub(crate) transactions: Vec<Transaction>,
}

/// A range, and what is done in it.
#[derive(Clone, Debug, Arbitrary)]
pub(crate) struct Transaction {
    pub(crate) range: Span,
    pub(crate) way: Way,
    /// Which of the allocations while locking fails.
    pub(crate) failure: Option<u8>,
    pub(crate) steps: Vec<Step>,
    /// Whether a grace period passes after it.
    pub(crate) quiesces: bool,
}

/// How a range is entered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Arbitrary)]
pub(crate) enum Way {
    Lock,
    TryLock,
    /// Without locks.
    Shared,
    /// Not at all: the node of this level for the start is locked alone.
    Covering(u8),
}

/// A range of addresses.
#[derive(Clone, Copy, Debug, Arbitrary)]
pub(crate) enum Span {
    /// Between two addresses, in any order.
    Between(Place, Place),
    /// So many entries of a level, from one of that level on.
    Entries { start: Place, level: u8, count: u8 },
    /// These addresses, as they are.
    Raw(u64, u64),
}

/// An address.
#[derive(Clone, Copy, Debug, Arbitrary)]
pub(crate) enum Place {
    /// Made of one of four indices for each level, and some pages further on or back.
    Indices([u8; 5], i8),
    /// Some 256th of the range away from its start.
    Within(u8),
    /// So many pages behind the position.
    Ahead(u8),
    /// So many pages before the position.
    Back(u8),
    /// The position, or the next one after it where a page of this level can begin.
    Aligned(u8),
    /// So many pages of a level behind the position, or before it.
    Entries(u8, i8),
    /// Where the range begins.
    Start,
    /// Where the range ends.
    End,
    Raw(u64),
}

/// One operation, and which of its allocations fails.
#[derive(Clone, Debug, Arbitrary)]
pub(crate) struct Step {
    pub(crate) operation: Operation,
    pub(crate) failure: Option<u8>,
}

#[derive(Clone, Copy, Debug, Arbitrary)]
pub(crate) enum Operation {
    Query,
    FindNext,
    Jump(Place),
    Visit(Place),
    Map {
        level: u8,
        frame: Place,
        rights: Rights,
    },
    MapTracked(Rights),
    /// A page of `level`, or one that owns its frame, takes the place of the page that is there.
    Replace {
        level: Option<u8>,
        frame: Place,
        rights: Rights,
    },
    /// Some pages of the run have `others`. `misfit` is the number of an item that fits no entry.
    MapPages {
        end: Place,
        frame: u16,
        rights: Rights,
        others: Option<Rights>,
        misfit: Option<u8>,
    },
    MapTrackedPages {
        end: Place,
        rights: Rights,
        others: Option<Rights>,
    },
    TakeNext,
    Unmap(Place),
    ProtectNext(Change),
    Protect(Place, Change),
    Split,
    /// Up to `end`, to the addresses from `to` on.
    Move {
        end: Place,
        to: Place,
    },
    /// Up to the flush, hardware uses this part of the node, or writes it.
    Merge {
        part: u8,
        writes: bool,
    },
    Flush,
    /// Hardware uses a page, or writes it.
    Hardware {
        at: Place,
        writes: bool,
    },
}

/// A property, of any bits. Of what is mapped or replaces something, a mark is made if it says so.
#[derive(Clone, Copy, Debug, Arbitrary)]
pub(crate) struct Rights {
    pub(crate) flags: u16,
    pub(crate) cache: u8,
}

impl Rights {
    pub(crate) fn property(self) -> Property {
        let policies = [
            CachePolicy::WriteBack,
            CachePolicy::WriteThrough,
            CachePolicy::UncachedMinus,
            CachePolicy::Uncached,
            CachePolicy::WriteCombining,
            CachePolicy::WriteProtected,
        ];
        let cache = policies[usize::from(self.cache) % policies.len()];
        let mut flags = PageFlags::from_bits_retain(self.flags);
        // Rarely: the table refuses it.
        flags.set(PageFlags::GLOBAL, flags.contains(PageFlags::GLOBAL) && self.cache >= 240);
        Property { flags, cache }
    }
}

/// A change of a property: some flags are cleared, then some set.
#[derive(Clone, Copy, Debug, Arbitrary)]
pub(crate) struct Change {
    pub(crate) clears: u16,
    pub(crate) sets: u16,
    pub(crate) cache: Option<u8>,
}

impl Change {
    pub(crate) fn of(self, old: Property) -> Property {
        let kept = old.flags.difference(PageFlags::from_bits_retain(self.clears));
        let flags = kept.union(PageFlags::from_bits_retain(self.sets));
        let policy = |cache| Rights { flags: 0, cache }.property().cache;
        Property { flags, cache: self.cache.map_or(old.cache, policy) }
    }
}

impl Place {
    /// The address, for a cursor with this range that stands at `position`.
    pub(crate) fn resolve<G: Geometry>(self, range: &Range<Vaddr>, position: Vaddr) -> Vaddr {
        let end = end_offset::<G>(range.end);
        let start = if range.start == range.end { end } else { offset::<G>(range.start) };
        let position = if position == range.end { end } else { offset::<G>(position) };
        match self.resolve_in::<G>(&(start..end), position) {
            Ok(place) if place == end => range.end,
            Ok(place) => address::<G>(place),
            Err(vaddr) => vaddr,
        }
    }

    /// How many addresses come before it; or the address, if it is one by itself.
    fn resolve_in<G: Geometry>(self, range: &Range<u64>, position: u64) -> Result<u64, Vaddr> {
        let Range { start, end } = *range;
        Ok(match self {
            Self::Indices(indices, pages) => {
                let low = [0, 1, G::ENTRIES / 2, G::ENTRIES - 1];
                // Further up most go the same way.
                let high = [0, 0, 0, G::ENTRIES - 1];
                let choose = |(level, index): (usize, u8)| {
                    let choices = if level < 2 { low } else { high };
                    choices[usize::from(index) % 4]
                };
                let path = indices.into_iter().take(G::LEVELS.into()).enumerate().map(choose);
                let path: Vec<usize> = path.collect();
                let vaddr = G::address(&path).as_u64();
                return Err(Vaddr::new(vaddr.wrapping_add_signed(i64::from(pages) * 4096)));
            }
            Self::Within(part) => {
                let pages = end.saturating_sub(start) / FRAME_SIZE;
                start + (u128::from(pages) * u128::from(part) / 255) as u64 * FRAME_SIZE
            }
            Self::Ahead(pages) => position + u64::from(pages) * FRAME_SIZE,
            Self::Back(pages) => position.wrapping_sub(u64::from(pages) * FRAME_SIZE),
            Self::Aligned(level) => {
                let span = G::entry_span(Level::new(1 + level % G::LEVELS));
                position.div_ceil(span) * span
            }
            Self::Entries(level, count) => {
                let span = G::entry_span(Level::new(1 + level % G::LEVELS));
                position.wrapping_add_signed(span as i64 * i64::from(count))
            }
            Self::Start => start,
            Self::End => end,
            Self::Raw(address) => return Err(Vaddr::new(address)),
        })
    }
}

impl Span {
    /// The range.
    pub(crate) fn resolve<G: Geometry>(self) -> Range<Vaddr> {
        let all = G::node_span(G::ROOT);
        let vaddr = |place: Place| {
            // No range has all: it would end where it begins.
            let nearly_all = 0..all - FRAME_SIZE;
            place.resolve_in::<G>(&nearly_all, 0).map_or_else(|vaddr| vaddr, address::<G>)
        };
        match self {
            Self::Between(one, other) => {
                let (one, other) = (vaddr(one), vaddr(other));
                // Up to 0 is up to the top.
                if one <= other || other == Vaddr::new(0) { one..other } else { other..one }
            }
            Self::Entries { start, level, count } => {
                let span = G::entry_span(Level::new(1 + level % G::LEVELS));
                let start = vaddr(start).align_down(span);
                let place = offset::<G>(start);
                let length = span * (1 + u64::from(count % 4));
                let room = if place == 0 { all - FRAME_SIZE } else { all - place };
                start..start.plus(length.min(room))
            }
            Self::Raw(start, end) => Vaddr::new(start)..Vaddr::new(end),
        }
    }
}
