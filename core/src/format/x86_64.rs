//! Entries of x86-64: Intel SDM, volume 3A, section 5.5, and AMD APM, volume 2, section 5.3.
//!
//! *Flushes* (Intel SDM, sections 5.10.2 to 5.10.4). No cache holds that an entry is absent, and a
//! fault removes the translation that caused it. So nothing is flushed for a new page, a new node
//! or a right that is added: at worst there is one fault more, whose handler finds that the page
//! allows the access. Pages of two sizes at one address, and entries that led to a node, may be
//! kept in caches of upper levels.
//!
//! *Withheld entries* have the present bit clear. Some processors go on with the address of such an
//! entry before they fault, and read what their caches have of it (L1 terminal fault,
//! CVE-2018-3620). So the bits of the address are inverted: they lead to where no memory is, as
//! long as the value of a mark is below half of what fits. After Linux's `protnone_mask`.

use super::{
    CachePolicy, Decoded, EntryFormat, Fence, Fences, PageFlags, Property, RawItem, corrupt,
};
use crate::address::{Level, Paddr};

/// Entries of x86-64's 4-level and 5-level paging.
///
/// *Dirty without the right to write.* Since shadow stacks (CET) an entry with R/W = 0 and D = 1 is
/// a page of one. So a dirty page that may not be written has its dirty flag in a bit that hardware
/// ignores, as in Linux (`_PAGE_SAVED_DIRTY`). The property reads the same.
#[derive(Clone, Copy, Debug)]
pub struct X86_64;

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const WRITE_THROUGH: u64 = 1 << 3;
const NO_CACHE: u64 = 1 << 4;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
/// Above the lowest level: the entry maps a page.
const HUGE: u64 = 1 << 7;
const GLOBAL: u64 = 1 << 8;
/// Ignored by hardware: flags that are software's alone, so many bits further up than ours.
const SOFTWARE_SHIFT: u32 = 46;
/// Those flags, which cost no more than one of them would.
const SOFTWARE: PageFlags = PageFlags::FIXED.union(PageFlags::SOFTWARE).union(PageFlags::WITHHELD);
/// One of them, only where the present bit is clear: the entry is withheld.
const WITHHELD: u64 = (PageFlags::WITHHELD.bits() as u64) << SOFTWARE_SHIFT;
/// Ignored by hardware: the page is dirty and may not be written.
const SAVED_DIRTY: u64 = 1 << 58;
const NO_EXECUTE: u64 = 1 << 63;

const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// Bit 2 of the index into the page attribute table, where a page of the lowest level has it.
const ATTRIBUTE_LEAF: u64 = 1 << 7;
/// The same bit where a huge page has it, bit 7 being taken there.
const ATTRIBUTE_HUGE: u64 = 1 << 12;

/// Flags of ours beside those of the format that say the same.
const FLAGS: [(PageFlags, u64); 4] = [
    (PageFlags::WRITE, WRITABLE),
    (PageFlags::USER, USER),
    (PageFlags::GLOBAL, GLOBAL),
    (PageFlags::ACCESSED, ACCESSED),
];

impl X86_64 {
    #[inline]
    const fn attribute_bit(level: Level) -> u64 {
        if level.as_u8() == 1 { ATTRIBUTE_LEAF } else { ATTRIBUTE_HUGE }
    }

    /// The bits of an address of a page of `level`.
    #[inline]
    const fn address_bits(level: Level) -> u64 {
        if level.as_u8() == 1 { ADDRESS } else { ADDRESS & !ATTRIBUTE_HUGE }
    }

    #[inline]
    fn property(entry: u64, level: Level) -> Property {
        let software = (entry >> SOFTWARE_SHIFT) as u16 & SOFTWARE.bits();
        let mut flags = PageFlags::from_bits_retain(software);
        for (ours, theirs) in FLAGS {
            flags.set(ours, entry & theirs != 0);
        }
        flags.set(PageFlags::DIRTY, entry & (DIRTY | SAVED_DIRTY) != 0);
        flags.set(PageFlags::EXECUTE, entry & NO_EXECUTE == 0);
        let index = u64::from(entry & WRITE_THROUGH != 0)
            | u64::from(entry & NO_CACHE != 0) << 1
            | u64::from(entry & Self::attribute_bit(level) != 0) << 2;
        Property { flags, cache: CachePolicy::of_index(index) }
    }
}

// SAFETY: node and item differ in the huge bit above the lowest level, where there are no nodes;
// every other field has bits of its own. A test goes through all of them.
unsafe impl EntryFormat for X86_64 {
    const HARDWARE_BITS: u64 = ACCESSED | DIRTY;

    const LEAF_FRAME_BITS: u64 = ADDRESS;

    const FENCES: Fences = Fences {
        page_appears: Fence::Nothing,
        node_appears: Fence::Nothing,
        page_goes: Fence::Page,
        page_splits: Fence::Everything,
        node_goes: Fence::Everything,
    };

    #[inline]
    fn must_flush(old: Property, new: Property) -> bool {
        if old.is_withheld() || new.is_withheld() {
            return !old.is_withheld();
        }
        let rights = PageFlags::WRITE | PageFlags::EXECUTE | PageFlags::USER | PageFlags::NOTED;
        let loses_a_right = !new.flags.contains(old.flags & rights);
        let differs = old.flags ^ new.flags;
        loses_a_right || differs.contains(PageFlags::GLOBAL) || old.cache != new.cache
    }

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
        frame.as_u64() | PRESENT | WRITABLE | USER
    }

    #[inline]
    fn item(item: RawItem) -> u64 {
        let RawItem { frame, level, property } = item;
        let mut entry = frame.as_u64() | PRESENT;
        if property.is_withheld() {
            entry ^= PRESENT | Self::address_bits(level);
        }
        if level > Level::LEAF {
            entry |= HUGE;
        }
        entry |= u64::from(property.flags.bits() & SOFTWARE.bits()) << SOFTWARE_SHIFT;
        for (ours, theirs) in FLAGS {
            if property.flags.contains(ours) {
                entry |= theirs;
            }
        }
        if property.flags.contains(PageFlags::DIRTY) {
            let may_write = property.flags.contains(PageFlags::WRITE);
            entry |= if may_write { DIRTY } else { SAVED_DIRTY };
        }
        if !property.flags.contains(PageFlags::EXECUTE) {
            entry |= NO_EXECUTE;
        }
        let index = property.cache as u64;
        let bits = [WRITE_THROUGH, NO_CACHE, Self::attribute_bit(level)];
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
        // First: of a walk all entries but the last one are nodes.
        if level > Level::LEAF && entry & (PRESENT | HUGE) == PRESENT {
            return Decoded::Node(Paddr::new(entry & ADDRESS));
        }
        if entry == 0 {
            return Decoded::Absent;
        }
        if entry & (PRESENT | WITHHELD) == 0 {
            corrupt(entry, "neither absent nor present");
        }
        // All ones if it is withheld.
        let inverted = (entry & PRESENT).wrapping_sub(1);
        Decoded::Item(RawItem {
            frame: Paddr::new((entry ^ inverted) & Self::address_bits(level)),
            level,
            property: Self::property(entry, level),
        })
    }

    #[inline]
    fn is_present(entry: u64) -> bool {
        entry & PRESENT != 0
    }

    #[inline]
    fn hardware_may_write(entry: u64) -> bool {
        let is_dirty = entry & (DIRTY | SAVED_DIRTY) != 0;
        entry & PRESENT != 0 && !(entry & ACCESSED != 0 && is_dirty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_decode_to_what_was_encoded() {
        for level in [1, 2, 3].map(Level::new) {
            for bits in 0..=PageFlags::all().bits() {
                for cache in CachePolicy::ALL {
                    let flags = PageFlags::from_bits_truncate(bits);
                    let frame = Paddr::new(0x000f_ffff_c000_0000);
                    let item = RawItem { frame, level, property: Property { flags, cache } };
                    assert_eq!(
                        X86_64::decode(X86_64::item(item), level),
                        Decoded::Item(item),
                        "an item is read as written"
                    );
                    let elsewhere = RawItem { frame: Paddr::new(0), ..item };
                    assert_eq!(X86_64::item(elsewhere) ^ X86_64::frame(frame), X86_64::item(item));
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
        let written = executable | PageFlags::WRITE | PageFlags::DIRTY;
        assert_eq!(item(1, written, CachePolicy::WriteBack), 0x43);
        assert_eq!(item(1, executable | PageFlags::DIRTY, CachePolicy::WriteBack), 1 | 1 << 58);
        assert_eq!(item(1, executable | PageFlags::GLOBAL, CachePolicy::WriteBack), 0x101);
        assert_eq!(item(1, executable, CachePolicy::Uncached), 0x19);
        assert_eq!(item(1, executable, CachePolicy::WriteCombining), 0x81);
        assert_eq!(item(2, executable, CachePolicy::WriteBack), 0x81);
        assert_eq!(item(2, executable, CachePolicy::WriteCombining), 0x1081);
    }

    #[test]
    fn hardware_writes_only_present_entries_with_a_bit_clear() {
        assert!(!X86_64::hardware_may_write(0));
        assert!(!X86_64::hardware_may_write(WITHHELD));
        assert!(X86_64::hardware_may_write(1));
        for dirty in [DIRTY, SAVED_DIRTY] {
            assert!(X86_64::hardware_may_write(1 | ACCESSED));
            assert!(X86_64::hardware_may_write(1 | dirty));
            assert!(!X86_64::hardware_may_write(1 | ACCESSED | dirty));
        }
    }

    #[test]
    fn hardware_finds_nothing_behind_what_is_withheld() {
        let withheld = Property::new(PageFlags::WITHHELD | PageFlags::WRITE);
        for (level, frame) in [(1, 0x1234_5000), (2, 0x1220_0000), (3, 0x4000_0000)] {
            let (level, frame) = (Level::new(level), Paddr::new(frame));
            for cache in CachePolicy::ALL {
                let property = Property { cache, ..withheld };
                let entry = X86_64::item(RawItem { frame, level, property });
                assert!(!X86_64::is_present(entry) && !X86_64::hardware_may_write(entry));
                let address = entry & X86_64::address_bits(level);
                assert!(address >= 1 << 51, "memory could be at {address:#x}");
                assert_eq!(address, !frame.as_u64() & X86_64::address_bits(level));
            }
        }
    }

    #[test]
    fn what_is_withheld_is_in_no_cache() {
        let [given, withheld] = [PageFlags::WRITE, PageFlags::WRITE | PageFlags::WITHHELD];
        let [given, withheld] = [given, withheld].map(Property::new);
        let less = Property::new(PageFlags::WITHHELD);
        assert!(X86_64::must_flush(given, withheld));
        assert!(!X86_64::must_flush(withheld, given), "no cache holds that it was absent");
        assert!(!X86_64::must_flush(withheld, less));
    }

    #[test]
    fn pages_have_three_sizes() {
        let sizes = [1, 2, 3, 4, 5].map(|level| X86_64::maps_pages_at(Level::new(level)));
        assert_eq!(sizes, [true, true, true, false, false], "4 KiB, 2 MiB and 1 GiB");
    }

    #[test]
    fn what_outlives_a_switch_is_flushed() {
        let [global, local] = [PageFlags::GLOBAL, PageFlags::empty()].map(Property::new);
        assert!(X86_64::must_flush(global, local), "no switch ends a global translation");
    }

    #[test]
    fn a_dirty_page_without_the_right_to_write_is_no_shadow_stack() {
        for level in [1, 2, 3].map(Level::new) {
            for bits in 0..=PageFlags::all().bits() {
                let property = Property::new(PageFlags::from_bits_truncate(bits));
                let entry = X86_64::item(RawItem { frame: Paddr::new(0), level, property });
                let is_shadow_stack = entry & WRITABLE == 0 && entry & DIRTY != 0;
                assert!(!is_shadow_stack, "{property:?} is written as {entry:#x}");
            }
        }
    }
}
