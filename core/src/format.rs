//! What an entry says, and how an architecture writes it into 64 bits.
//!
//! [`EntryFormat`] is a parameter of a page table: [`X86_64`] is what the kernel boots on,
//! [`RiscV`] shows that no other module depends on it. An all-zero entry is absent in every format:
//! a node that has just been cleared has no children.
//!
//! *Withheld* entries are neither absent nor present: they say all that an entry of a page says,
//! and hardware does not use them. Whatever the core does with a page it does with these, too: they
//! are found, counted, moved, split, merged and given up. Only what is owed to caches differs.
//!
//! The format also says what each change leaves in caches of translations that has to be flushed:
//! [`FENCES`](EntryFormat::FENCES) for entries that lead elsewhere, and
//! [`must_flush`](EntryFormat::must_flush) for a page whose property is another one. The core asks
//! it at every change, and knows no architecture's rules itself.

mod risc_v;
mod x86_64;

use bitflags::bitflags;

pub use self::risc_v::{RiscV, RiscVEntries, RiscVSvade, RiscVSvvptc};
pub use self::x86_64::X86_64;
use crate::address::{Level, Paddr};

bitflags! {
    /// What a mapping allows, and what hardware and software note about it.
    ///
    /// Every mapping can be read, unless it is [withheld](Self::WITHHELD): no format here can say
    /// otherwise.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
    pub struct PageFlags: u16 {
        /// The page may be written.
        const WRITE = 1 << 0;
        /// Instructions may be fetched from the page.
        const EXECUTE = 1 << 1;
        /// User mode may access the page.
        const USER = 1 << 2;
        /// The translation survives a switch of address spaces.
        const GLOBAL = 1 << 3;
        /// Hardware has used the translation.
        const ACCESSED = 1 << 4;
        /// Hardware has written the page.
        const DIRTY = 1 << 5;
        /// The item owns the frame it maps. Software only: hardware ignores the bit.
        const TRACKED = 1 << 6;
        /// Left to the kernel. Hardware ignores the bit, and the core keeps it.
        const SOFTWARE = 1 << 7;
        /// Hardware does not use the entry: every access faults. Frame, rights and notes stay in
        /// it, for software to see. This is what `PROT_NONE` asks of a page table.
        const WITHHELD = 1 << 8;
        /// There is no frame: the entry says a value instead, in the place of a frame's number.
        /// Always with [`WITHHELD`](Self::WITHHELD), and never changed while it is there.
        const MARK = 1 << 9;
    }
}

impl PageFlags {
    /// What hardware notes of its own accord.
    pub const NOTED: Self = Self::ACCESSED.union(Self::DIRTY);

    /// What a change of a property cannot alter: what the item owns, and what it is.
    pub(crate) const FIXED: Self = Self::TRACKED.union(Self::MARK);
}

/// How accesses to a page are cached.
///
/// The values are indices into the page attribute table. The first four hold what the table
/// holds after reset; the last two are what a kernel programs, as Linux and FreeBSD do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
#[repr(u8)]
pub enum CachePolicy {
    /// Reads and writes are cached.
    #[default]
    WriteBack = 0,
    /// Reads are cached, writes go to memory as well.
    WriteThrough = 1,
    /// Not cached, unless a memory type range register says write-combining.
    UncachedMinus = 2,
    /// Not cached.
    Uncached = 3,
    /// Writes are gathered, reads are not cached.
    WriteCombining = 4,
    /// Reads are cached, writes are not.
    WriteProtected = 5,
}

impl CachePolicy {
    /// All of them, in the order of the page attribute table.
    pub const ALL: [Self; 6] = [
        Self::WriteBack,
        Self::WriteThrough,
        Self::UncachedMinus,
        Self::Uncached,
        Self::WriteCombining,
        Self::WriteProtected,
    ];

    /// The policy at `index` of the page attribute table. Entries 6 and 7 are unused: they keep
    /// their reset values, which equal those of 2 and 3.
    #[inline]
    const fn of_index(index: u64) -> Self {
        Self::ALL[if index < 6 { index } else { index - 4 } as usize]
    }
}

/// Everything an entry says about a page besides its frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct Property {
    /// Rights and notes.
    pub flags: PageFlags,
    /// How accesses are cached.
    pub cache: CachePolicy,
}

impl Property {
    /// A property with these flags, cached normally.
    pub const fn new(flags: PageFlags) -> Self {
        Self { flags, cache: CachePolicy::WriteBack }
    }

    /// Whether hardware does not use the entry.
    #[inline]
    pub const fn is_withheld(self) -> bool {
        self.flags.contains(PageFlags::WITHHELD)
    }
}

/// An item as an entry stores it: the frames it maps, the level, the property.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RawItem {
    /// The first frame, aligned to what an entry of `level` covers.
    pub frame: Paddr,
    /// The level of the entry: 1 for the smallest pages.
    pub level: Level,
    /// Rights, notes, cache policy.
    pub property: Property,
}

impl RawItem {
    /// The value of a mark: the first one, if it is a huge mark. `None` for a page.
    ///
    /// ```
    /// # use weft_core::{address::{Level, Paddr}, format::{PageFlags, Property, RawItem}};
    /// let property = Property::new(PageFlags::MARK | PageFlags::WITHHELD);
    /// let swapped = RawItem { frame: Paddr::of_frame(17), level: Level::LEAF, property };
    /// assert_eq!(swapped.mark(), Some(17));
    /// ```
    #[inline]
    pub fn mark(&self) -> Option<u64> {
        self.property.flags.contains(PageFlags::MARK).then(|| self.frame.frame_number())
    }

    /// Notes what hardware has noted of `part`, of which this is the whole.
    pub(crate) fn note(&mut self, part: Property) {
        self.property.flags |= part.flags & PageFlags::NOTED;
    }
}

/// What caches of translations have to forget after a change of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fence {
    /// Nothing: no cache holds what the entry said before.
    Nothing,
    /// What they hold of the page.
    Page,
    /// Everything, the upper levels of walks among it.
    Everything,
}

/// What caches have to forget when an entry leads elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fences {
    /// A page is where nothing was that hardware could use.
    pub page_appears: Fence,
    /// A node is where nothing was.
    pub node_appears: Fence,
    /// Nothing is where a page was, or another page of the same size.
    pub page_goes: Fence,
    /// A node is where a page was: its parts, after a split.
    pub page_splits: Fence,
    /// Something else, or nothing, is where a node was. Its frame is used for something else when
    /// the fence is over; so CPUs that only walk ahead have to forget it, too.
    pub node_goes: Fence,
}

/// What an entry leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decoded {
    /// Nothing.
    Absent,
    /// The node of the level below.
    Node(Paddr),
    /// A page.
    Item(RawItem),
}

/// An architecture's entry format.
///
/// # Safety
///
/// The implementor promises that [`decode`](Self::decode) inverts [`node`](Self::node) and
/// [`item`](Self::item) for every address that the format [holds](Self::holds), up to what
/// [`nearest`](Self::nearest) does to the property, and takes 0 for absent: what is read from an
/// entry is taken for what was written there. That the entry of an item is that of the same item at
/// address 0, but for the bits of its [`frame`](Self::frame), which are turned around there; that
/// hardware uses no entry of an item that is [withheld](PageFlags::WITHHELD); and that
/// [`LEAF_FRAME_BITS`](Self::LEAF_FRAME_BITS), [`HARDWARE_BITS`](Self::HARDWARE_BITS),
/// [`hardware_may_write`](Self::hardware_may_write), [`FENCES`](Self::FENCES) and
/// [`must_flush`](Self::must_flush) are true of the hardware.
pub unsafe trait EntryFormat: Send + Sync + 'static {
    /// The accessed and dirty bits, which hardware sets at any time.
    const HARDWARE_BITS: u64;

    /// What caches of translations have to forget when an entry leads elsewhere.
    const FENCES: Fences;

    /// Whether a translation with the old property has to go from the caches once an entry says the
    /// new one: because it would do what is forbidden now, would not note what is asked for now,
    /// or would go on to refuse what is allowed now.
    fn must_flush(old: Property, new: Property) -> bool;

    /// Whether an entry of `level` may map a page.
    fn maps_pages_at(level: Level) -> bool;

    /// Whether an entry has room for this address.
    fn holds(frame: Paddr) -> bool;

    /// The property as an entry of this format says it: with the same flags, and cached as asked
    /// or, where the format has no word for that, less.
    fn nearest(property: Property) -> Property {
        property
    }

    /// The entry that leads to a node, with every right: leaves restrict.
    fn node(frame: Paddr) -> u64;

    /// The entry that maps an item.
    fn item(item: RawItem) -> u64;

    /// What differs in an entry from that of the same item at address 0: the exclusive or of the
    /// two.
    fn frame(frame: Paddr) -> u64;

    /// The bits of an entry of the lowest level that [`frame`](Self::frame) sets. The others say
    /// everything else.
    const LEAF_FRAME_BITS: u64;

    /// What `entry`, found in a node of `level`, leads to.
    ///
    /// # Panics
    ///
    /// If the entry is neither absent nor present. The core writes no such value, so memory that is
    /// not a node, or not yet or no longer one, was taken for one.
    fn decode(entry: u64, level: Level) -> Decoded;

    /// Whether hardware uses the entry: there is something, and it is not withheld.
    fn is_present(entry: u64) -> bool;

    /// Whether hardware may still change the entry, so that a plain store could lose a bit.
    #[inline]
    fn hardware_may_write(entry: u64) -> bool {
        Self::is_present(entry) && entry & Self::HARDWARE_BITS != Self::HARDWARE_BITS
    }
}

/// Refuses an entry that the core never writes.
// By value, and out of line: a reference would send every entry that is decoded through memory.
#[cold]
#[inline(never)]
#[track_caller]
fn corrupt(entry: u64, what: &str) -> ! {
    panic!("corrupt entry {entry:#x}: {what}")
}
