//! Entries of RISC-V's Sv39, Sv48 and Sv57: Privileged Architecture, "Supervisor-Level ISA", with
//! Svpbmt (memory types in the entry).
//!
//! The three differ in levels only: Sv39 is 512 entries on 3 levels, Sv48 on 4. Unlike on x86-64
//! an entry of any level may map a page, also of the root; what makes it one is a right, not a
//! bit of its own; and an entry that leads to a node has neither rights nor A and D bits.
//!
//! *Flushes* (section on SFENCE.VMA). Caches of translations may hold that an entry is absent, and
//! a fault does not remove what caused it. So a new page is flushed by its address, and a new node
//! with everything, as any entry that leads to a node is when it changes; and a right that is added
//! is flushed like one that is taken away. Nothing is left to faults.
//!
//! *Withheld entries* have the valid bit clear. All others are then left to software.
//!
//! *Svvptc.* Where it is implemented, an entry that was made valid is seen in bounded time without
//! a fence. Then nothing is flushed for what is new; a fault on a page that is mapped is possible
//! for a while, and its handler has to look and let the access be tried again. The extension says
//! nothing of rights.
//!
//! *A and D.* With Svadu hardware sets them, also through a translation that was cached without
//! them. With Svade it raises a page fault where one is missing, and software sets them under the
//! lock of the node. Caches may hold the entry without the bit, and refuse as before: so there the
//! bit is flushed like a right. A bit that is cleared is flushed in both modes, because hardware
//! notes nothing more through a translation that was cached with it.

use super::{
    CachePolicy, Decoded, EntryFormat, Fence, Fences, PageFlags, Property, RawItem, corrupt,
};
use crate::address::{FRAME_BITS, Level, Paddr};

/// Entries of RISC-V's page-based virtual memory, with 512 entries per node. `UPDATES` says whether
/// hardware sets accessed and dirty bits, `SEES_NEW` whether it sees in bounded time that an entry
/// was made valid.
#[derive(Clone, Copy, Debug)]
pub struct RiscVEntries<const UPDATES: bool, const SEES_NEW: bool>;

/// RISC-V with Svadu: hardware sets accessed and dirty bits.
pub type RiscV = RiscVEntries<true, false>;

/// RISC-V with Svade: a page whose accessed bit is clear faults, and so does a store to a page
/// whose dirty bit is clear. A kernel maps pages with these bits set, or sets them in its fault
/// handler.
pub type RiscVSvade = RiscVEntries<false, false>;

/// RISC-V with Svadu and Svvptc: what is new is seen without a fence. A fault on a page that is
/// mapped may come once in a while.
pub type RiscVSvvptc = RiscVEntries<true, true>;

const VALID: u64 = 1 << 0;
const READ: u64 = 1 << 1;
const RIGHTS: u64 = READ | 1 << 2 | 1 << 3;
const ACCESSED: u64 = 1 << 6;
const DIRTY: u64 = 1 << 7;
/// Of an entry that is not valid: it is withheld.
const WITHHELD: u64 = 1 << 54;
/// Where the number of the frame is.
const FRAME_SHIFT: u32 = 10;
/// Bits in the number of a frame: physical addresses have 56.
const FRAME_NUMBER: u64 = (1 << 44) - 1;
/// Where the memory type is.
const TYPE_SHIFT: u32 = 61;
/// Weakly ordered and not cached.
const TYPE_NON_CACHEABLE: u64 = 1;
/// Strongly ordered and not cached: a device.
const TYPE_DEVICE: u64 = 2;

/// Flags of ours beside the bits that say the same.
const FLAGS: [(PageFlags, u64); 10] = [
    (PageFlags::WRITE, 1 << 2),
    (PageFlags::EXECUTE, 1 << 3),
    (PageFlags::USER, 1 << 4),
    (PageFlags::GLOBAL, 1 << 5),
    (PageFlags::ACCESSED, ACCESSED),
    (PageFlags::DIRTY, DIRTY),
    // Left to software.
    (PageFlags::TRACKED, 1 << 8),
    (PageFlags::SOFTWARE, 1 << 9),
    // Reserved where the entry is valid: only of entries that are not.
    (PageFlags::WITHHELD, WITHHELD),
    (PageFlags::MARK, 1 << 55),
];

impl<const UPDATES: bool, const SEES_NEW: bool> RiscVEntries<UPDATES, SEES_NEW> {
    #[inline]
    const fn memory_type(policy: CachePolicy) -> u64 {
        match policy {
            CachePolicy::WriteBack => 0,
            CachePolicy::WriteThrough
            | CachePolicy::WriteProtected
            | CachePolicy::WriteCombining => TYPE_NON_CACHEABLE,
            CachePolicy::UncachedMinus | CachePolicy::Uncached => TYPE_DEVICE,
        }
    }

    #[inline]
    const fn cache_policy(memory_type: u64) -> CachePolicy {
        match memory_type {
            0 => CachePolicy::WriteBack,
            TYPE_NON_CACHEABLE => CachePolicy::WriteCombining,
            _ => CachePolicy::Uncached,
        }
    }
}

// SAFETY: an item has the right to read and a node has no right, so they differ; every other field
// has bits of its own. A test goes through all of them.
unsafe impl<const UPDATES: bool, const SEES_NEW: bool> EntryFormat
    for RiscVEntries<UPDATES, SEES_NEW>
{
    const HARDWARE_BITS: u64 = ACCESSED | DIRTY;

    const LEAF_FRAME_BITS: u64 = FRAME_NUMBER << FRAME_SHIFT;

    const FENCES: Fences = Fences {
        page_appears: if SEES_NEW { Fence::Nothing } else { Fence::Page },
        node_appears: if SEES_NEW { Fence::Nothing } else { Fence::Everything },
        page_goes: Fence::Page,
        page_splits: Fence::Everything,
        node_goes: Fence::Everything,
    };

    #[inline]
    fn frame(frame: Paddr) -> u64 {
        frame.frame_number() << FRAME_SHIFT
    }

    #[inline]
    fn maps_pages_at(_level: Level) -> bool {
        true
    }

    #[inline]
    fn holds(frame: Paddr) -> bool {
        frame.frame_number() <= FRAME_NUMBER && frame.as_u64() & ((1 << FRAME_BITS) - 1) == 0
    }

    #[inline]
    fn nearest(property: Property) -> Property {
        let cache = Self::cache_policy(Self::memory_type(property.cache));
        Property { cache, ..property }
    }

    #[inline]
    fn node(frame: Paddr) -> u64 {
        Self::frame(frame) | VALID
    }

    #[inline]
    fn item(item: RawItem) -> u64 {
        let RawItem { frame, property, .. } = item;
        let valid = if property.is_withheld() { 0 } else { VALID };
        let mut entry = Self::frame(frame) | valid | READ;
        for (ours, theirs) in FLAGS {
            if property.flags.contains(ours) {
                entry |= theirs;
            }
        }
        entry | Self::memory_type(property.cache) << TYPE_SHIFT
    }

    #[inline(always)]
    fn decode(entry: u64, level: Level) -> Decoded {
        if entry == 0 {
            return Decoded::Absent;
        }
        if entry & (VALID | WITHHELD) == 0 {
            corrupt(entry, "neither absent nor present");
        }
        let frame = Paddr::of_frame(entry >> FRAME_SHIFT & FRAME_NUMBER);
        if entry & RIGHTS == 0 {
            if level == Level::LEAF {
                corrupt(entry, "a node below the leaves");
            }
            return Decoded::Node(frame);
        }
        let mut flags = PageFlags::empty();
        for (ours, theirs) in FLAGS {
            flags.set(ours, entry & theirs != 0);
        }
        let cache = Self::cache_policy(entry >> TYPE_SHIFT & 3);
        Decoded::Item(RawItem { frame, level, property: Property { flags, cache } })
    }

    #[inline]
    fn is_present(entry: u64) -> bool {
        entry & VALID != 0
    }

    #[inline]
    fn hardware_may_write(entry: u64) -> bool {
        // Hardware leaves entries alone that lead to nodes.
        let is_page = entry & VALID != 0 && entry & RIGHTS != 0;
        UPDATES && is_page && entry & Self::HARDWARE_BITS != Self::HARDWARE_BITS
    }

    #[inline]
    fn must_flush(old: Property, new: Property) -> bool {
        match (old.is_withheld(), new.is_withheld()) {
            (true, true) => return false,
            (true, false) => return !SEES_NEW,
            (false, true) => return true,
            (false, false) => {}
        }
        let (mut old, new) = (Self::nearest(old), Self::nearest(new));
        if UPDATES {
            // Hardware sets these through what is cached without them.
            old.flags |= new.flags & PageFlags::NOTED;
        }
        // Also what allows more: a fault does not remove the translation that caused it.
        old != new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_decode_to_the_nearest_of_what_was_encoded() {
        for level in [1, 2, 3, 4, 5].map(Level::new) {
            for bits in 0..=PageFlags::all().bits() {
                for cache in CachePolicy::ALL {
                    let flags = PageFlags::from_bits_truncate(bits);
                    let frame = Paddr::of_frame(FRAME_NUMBER);
                    let item = RawItem { frame, level, property: Property { flags, cache } };
                    let property = RiscV::nearest(item.property);
                    assert_eq!(property.flags, flags);
                    let nearest = Decoded::Item(RawItem { property, ..item });
                    assert_eq!(RiscV::decode(RiscV::item(item), level), nearest);
                    let elsewhere = RawItem { frame: Paddr::new(0), ..item };
                    assert_eq!(RiscV::item(elsewhere) ^ RiscV::frame(frame), RiscV::item(item));
                    let is_withheld = flags.contains(PageFlags::WITHHELD);
                    assert_eq!(RiscV::is_present(RiscV::item(item)), !is_withheld);
                    assert_eq!(RiscV::item(elsewhere) & RiscV::LEAF_FRAME_BITS, 0);
                }
            }
        }
    }

    #[test]
    fn no_page_is_cached_more_than_was_asked_for() {
        for cache in CachePolicy::ALL {
            let nearest = RiscV::nearest(Property { flags: PageFlags::empty(), cache }).cache;
            assert_eq!(nearest == CachePolicy::WriteBack, cache == CachePolicy::WriteBack);
            let again = RiscV::nearest(Property { flags: PageFlags::empty(), cache: nearest });
            assert_eq!(again.cache, nearest);
        }
    }

    #[test]
    fn nodes_decode_to_what_was_encoded() {
        let frame = Paddr::of_frame(0x12345);
        for level in [2, 3, 4, 5].map(Level::new) {
            assert_eq!(RiscV::decode(RiscV::node(frame), level), Decoded::Node(frame));
            assert!(!RiscV::hardware_may_write(RiscV::node(frame)));
        }
    }

    #[test]
    fn hardware_without_svadu_writes_nothing() {
        let property = Property::new(PageFlags::WRITE);
        let item = RawItem { frame: Paddr::of_frame(1), level: Level::LEAF, property };
        assert!(RiscV::hardware_may_write(RiscV::item(item)));
        assert!(!RiscVSvade::hardware_may_write(RiscVSvade::item(item)));
        assert_eq!(RiscV::item(item), RiscVSvade::item(item));
    }

    #[test]
    fn what_is_withheld_is_as_good_as_absent() {
        let [given, withheld] = [PageFlags::WRITE, PageFlags::WRITE | PageFlags::WITHHELD];
        let [given, withheld] = [given, withheld].map(Property::new);
        let less = Property::new(PageFlags::WITHHELD);
        for must_flush in [RiscV::must_flush, RiscVSvade::must_flush, RiscVSvvptc::must_flush] {
            assert!(must_flush(given, withheld));
            assert!(!must_flush(withheld, less));
        }
        assert!(RiscV::must_flush(withheld, given), "caches may hold that it was absent");
        assert!(!RiscVSvvptc::must_flush(withheld, given), "it is seen before long");
        let frame = Paddr::of_frame(1);
        let entry = RiscV::item(RawItem { frame, level: Level::LEAF, property: withheld });
        assert!(!RiscV::hardware_may_write(entry));
    }

    #[test]
    fn every_change_of_a_right_is_flushed() {
        let [reading, writing] = [PageFlags::empty(), PageFlags::WRITE].map(Property::new);
        for must_flush in [RiscV::must_flush, RiscVSvade::must_flush, RiscVSvvptc::must_flush] {
            assert!(must_flush(reading, writing), "no fault heals");
            assert!(must_flush(writing, reading));
            assert!(!must_flush(writing, writing));
        }
    }

    #[test]
    fn a_note_is_flushed_where_caches_refuse_without_it() {
        for note in PageFlags::NOTED.iter() {
            let [without, with] = [PageFlags::empty(), note].map(Property::new);
            assert!(RiscVSvade::must_flush(without, with), "{note:?}: the fault would come again");
            assert!(!RiscV::must_flush(without, with), "{note:?}: hardware sets it");
            assert!(RiscVSvade::must_flush(with, without), "{note:?}: it would not be noted again");
            assert!(RiscV::must_flush(with, without), "{note:?}: it would not be noted again");
        }
        let cleaner = Property::new(PageFlags::ACCESSED);
        let dirtied = Property::new(PageFlags::DIRTY);
        assert!(RiscV::must_flush(cleaner, dirtied), "one note does not stand for the other");
    }

    #[test]
    fn an_all_zero_entry_is_absent() {
        assert_eq!(RiscV::decode(0, Level::LEAF), Decoded::Absent);
    }

    #[test]
    #[should_panic(expected = "corrupt entry 0xdead0002: neither absent nor present")]
    fn a_poisoned_entry_is_corrupt() {
        RiscV::decode(0xdead_0002, Level::LEAF);
    }

    #[test]
    #[should_panic(expected = "corrupt entry 0x401: a node below the leaves")]
    fn a_leaf_leads_to_no_node() {
        RiscV::decode(RiscV::node(Paddr::of_frame(1)), Level::LEAF);
    }

    #[test]
    fn bits_are_where_the_manual_has_them() {
        let item = |flags, cache| {
            let property = Property { flags, cache };
            RiscV::item(RawItem { frame: Paddr::of_frame(1), level: Level::LEAF, property })
        };
        let plain = 1 << 10 | 0b11;
        assert_eq!(item(PageFlags::empty(), CachePolicy::WriteBack), plain);
        assert_eq!(item(PageFlags::WRITE, CachePolicy::WriteBack), plain | 0x4);
        assert_eq!(item(PageFlags::EXECUTE, CachePolicy::WriteBack), plain | 0x8);
        assert_eq!(item(PageFlags::USER, CachePolicy::WriteBack), plain | 0x10);
        assert_eq!(item(PageFlags::GLOBAL, CachePolicy::WriteBack), plain | 0x20);
        assert_eq!(item(PageFlags::ACCESSED, CachePolicy::WriteBack), plain | 0x40);
        assert_eq!(item(PageFlags::DIRTY, CachePolicy::WriteBack), plain | 0x80);
        assert_eq!(item(PageFlags::empty(), CachePolicy::WriteCombining), plain | 1 << 61);
        assert_eq!(item(PageFlags::empty(), CachePolicy::Uncached), plain | 1 << 62);
    }
}
