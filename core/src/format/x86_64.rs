//! Entries of x86-64: Intel SDM, volume 3A, section 5.5, and AMD APM, volume 2, section 5.3.

use bitflags::bitflags;

use super::{CachePolicy, Decoded, EntryFormat, PageFlags, Property, RawItem, corrupt};
use crate::address::{Level, Paddr};

bitflags! {
    /// Bits of an entry.
    #[derive(Clone, Copy)]
    struct Bits: u64 {
        const PRESENT = 1 << 0;
        const WRITABLE = 1 << 1;
        const USER_ACCESSIBLE = 1 << 2;
        const WRITE_THROUGH = 1 << 3;
        const NO_CACHE = 1 << 4;
        const ACCESSED = 1 << 5;
        const DIRTY = 1 << 6;
        const HUGE_PAGE = 1 << 7;
        const GLOBAL = 1 << 8;
        /// Ignored by hardware: the item owns its frame.
        const BIT_9 = 1 << 9;
        const NO_EXECUTE = 1 << 63;
    }
}

/// Entries of x86-64's 4-level and 5-level paging.
#[derive(Clone, Copy, Debug)]
pub struct X86_64;

const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// Bit 2 of the index into the page attribute table, where a page of the lowest level has it.
const ATTRIBUTE_LEAF: u64 = Bits::HUGE_PAGE.bits();
/// The same bit where a huge page has it, bit 7 being taken there.
const ATTRIBUTE_HUGE: u64 = 1 << 12;

/// Flags of ours beside those of the format that say the same.
const FLAGS: [(PageFlags, Bits); 6] = [
    (PageFlags::WRITE, Bits::WRITABLE),
    (PageFlags::USER, Bits::USER_ACCESSIBLE),
    (PageFlags::GLOBAL, Bits::GLOBAL),
    (PageFlags::ACCESSED, Bits::ACCESSED),
    (PageFlags::DIRTY, Bits::DIRTY),
    (PageFlags::TRACKED, Bits::BIT_9),
];

impl X86_64 {
    #[inline]
    const fn attribute_bit(level: Level) -> u64 {
        if level.as_u8() == 1 { ATTRIBUTE_LEAF } else { ATTRIBUTE_HUGE }
    }

    #[inline]
    fn property(entry: u64, level: Level) -> Property {
        let mut flags = PageFlags::empty();
        for (ours, theirs) in FLAGS {
            flags.set(ours, entry & theirs.bits() != 0);
        }
        flags.set(PageFlags::EXECUTE, entry & Bits::NO_EXECUTE.bits() == 0);
        let index = u64::from(entry & Bits::WRITE_THROUGH.bits() != 0)
            | u64::from(entry & Bits::NO_CACHE.bits() != 0) << 1
            | u64::from(entry & Self::attribute_bit(level) != 0) << 2;
        Property { flags, cache: CachePolicy::of_index(index) }
    }
}

// SAFETY: node and item differ in the huge bit above the lowest level, where there are no nodes;
// every other field has bits of its own. A test goes through all of them.
unsafe impl EntryFormat for X86_64 {
    const HARDWARE_BITS: u64 = Bits::ACCESSED.bits() | Bits::DIRTY.bits();

    const LEAF_FRAME_BITS: u64 = ADDRESS;

    #[inline]
    fn frame(frame: Paddr) -> u64 {
        frame.as_u64()
    }

    #[inline]
    fn maps_pages_at(level: Level) -> bool {
        level.as_u8() <= 3
    }

    #[inline]
    fn holds(frame: Paddr) -> bool {
        frame.as_u64() & !ADDRESS == 0
    }

    #[inline]
    fn node(frame: Paddr) -> u64 {
        frame.as_u64() | (Bits::PRESENT | Bits::WRITABLE | Bits::USER_ACCESSIBLE).bits()
    }

    #[inline]
    fn item(item: RawItem) -> u64 {
        let RawItem { frame, level, property } = item;
        let mut entry = frame.as_u64() | Bits::PRESENT.bits();
        if level > Level::LEAF {
            entry |= Bits::HUGE_PAGE.bits();
        }
        for (ours, theirs) in FLAGS {
            if property.flags.contains(ours) {
                entry |= theirs.bits();
            }
        }
        if !property.flags.contains(PageFlags::EXECUTE) {
            entry |= Bits::NO_EXECUTE.bits();
        }
        let index = property.cache as u64;
        let bits = [Bits::WRITE_THROUGH.bits(), Bits::NO_CACHE.bits(), Self::attribute_bit(level)];
        for (position, bit) in bits.into_iter().enumerate() {
            if index >> position & 1 != 0 {
                entry |= bit;
            }
        }
        entry
    }

    // Always: a caller rarely wants all of the result, and what it does not want is then not
    // computed. With the panic in it the function is too long for the compiler to choose so.
    #[inline(always)]
    fn decode(entry: u64, level: Level) -> Decoded {
        if entry == 0 {
            return Decoded::Absent;
        }
        if entry & Bits::PRESENT.bits() == 0 {
            corrupt(entry, "neither absent nor present");
        }
        let huge = entry & Bits::HUGE_PAGE.bits() != 0;
        if level > Level::LEAF && !huge {
            return Decoded::Node(Paddr::new(entry & ADDRESS));
        }
        let attribute = if level == Level::LEAF { 0 } else { ATTRIBUTE_HUGE };
        Decoded::Item(RawItem {
            frame: Paddr::new(entry & ADDRESS & !attribute),
            level,
            property: Self::property(entry, level),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICIES: [CachePolicy; 6] = [
        CachePolicy::WriteBack,
        CachePolicy::WriteThrough,
        CachePolicy::UncachedMinus,
        CachePolicy::Uncached,
        CachePolicy::WriteCombining,
        CachePolicy::WriteProtected,
    ];

    #[test]
    fn items_decode_to_what_was_encoded() {
        for level in [1, 2, 3].map(Level::new) {
            for bits in 0..=PageFlags::all().bits() {
                for cache in POLICIES {
                    let flags = PageFlags::from_bits_truncate(bits);
                    let frame = Paddr::new(0x000f_ffff_c000_0000);
                    let item = RawItem { frame, level, property: Property { flags, cache } };
                    assert_eq!(X86_64::decode(X86_64::item(item), level), Decoded::Item(item));
                    let elsewhere = RawItem { frame: Paddr::new(0), ..item };
                    assert_eq!(X86_64::item(elsewhere) | X86_64::frame(frame), X86_64::item(item));
                    let attributes = X86_64::item(elsewhere);
                    assert!(level > Level::LEAF || attributes & X86_64::LEAF_FRAME_BITS == 0);
                }
            }
        }
    }

    #[test]
    fn nodes_decode_to_what_was_encoded() {
        let frame = Paddr::of_frame(0x12345);
        for level in [2, 3, 4, 5].map(Level::new) {
            assert_eq!(X86_64::decode(X86_64::node(frame), level), Decoded::Node(frame));
        }
    }

    #[test]
    fn an_all_zero_entry_is_absent() {
        for level in [1, 2, 3, 4, 5].map(Level::new) {
            assert_eq!(X86_64::decode(0, level), Decoded::Absent);
        }
    }

    #[test]
    #[should_panic(expected = "corrupt entry 0xdead0002: neither absent nor present")]
    fn a_poisoned_entry_is_corrupt() {
        X86_64::decode(0xdead_0002, Level::LEAF);
    }

    #[test]
    fn bits_are_where_the_manual_has_them() {
        let item = |level, flags, cache| {
            X86_64::item(RawItem {
                frame: Paddr::new(0),
                level: Level::new(level),
                property: Property { flags, cache },
            })
        };
        let executable = PageFlags::EXECUTE;
        assert_eq!(item(1, executable, CachePolicy::WriteBack), 0x1);
        assert_eq!(item(1, PageFlags::empty(), CachePolicy::WriteBack), 1 | 1 << 63);
        assert_eq!(item(1, executable | PageFlags::WRITE, CachePolicy::WriteBack), 0x3);
        assert_eq!(item(1, executable | PageFlags::USER, CachePolicy::WriteBack), 0x5);
        assert_eq!(item(1, executable | PageFlags::ACCESSED, CachePolicy::WriteBack), 0x21);
        assert_eq!(item(1, executable | PageFlags::DIRTY, CachePolicy::WriteBack), 0x41);
        assert_eq!(item(1, executable | PageFlags::GLOBAL, CachePolicy::WriteBack), 0x101);
        assert_eq!(item(1, executable, CachePolicy::Uncached), 0x19);
        assert_eq!(item(1, executable, CachePolicy::WriteCombining), 0x81);
        assert_eq!(item(2, executable, CachePolicy::WriteBack), 0x81);
        assert_eq!(item(2, executable, CachePolicy::WriteCombining), 0x1081);
    }

    #[test]
    fn hardware_writes_only_present_entries_with_a_bit_clear() {
        let accessed = Bits::ACCESSED.bits();
        let dirty = Bits::DIRTY.bits();
        assert!(!X86_64::hardware_may_write(0));
        assert!(X86_64::hardware_may_write(1));
        assert!(X86_64::hardware_may_write(1 | accessed));
        assert!(X86_64::hardware_may_write(1 | dirty));
        assert!(!X86_64::hardware_may_write(1 | accessed | dirty));
    }
}
