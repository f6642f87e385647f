//! Errors are values: they name the offending values and give back what the caller handed in.

use core::fmt;
use core::ops::Range;

use crate::address::{CpuId, Level, Paddr, Vaddr};

/// The backend has no frame left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutOfMemory;

impl fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no frame is left")
    }
}

impl core::error::Error for OutOfMemory {}

/// An index beyond the entries of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IndexOutOfRange {
    /// The index asked for.
    pub index: usize,
    /// How many entries the node has.
    pub entries: usize,
}

impl fmt::Display for IndexOutOfRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "entry {} of a node of {} entries", self.index, self.entries)
    }
}

impl core::error::Error for IndexOutOfRange {}

/// Only a root can be activated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotARoot {
    /// The level of the node.
    pub level: Level,
}

impl fmt::Display for NotARoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a node of level {} is not a root", self.level.as_u8())
    }
}

impl core::error::Error for NotARoot {}

/// Why an entry did not take a child.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Misfit {
    /// A node goes one level below its parent, an item into an entry of its own level.
    WrongLevel {
        /// The level of the entry.
        entry: Level,
        /// The level of the child.
        child: Level,
    },
    /// There are no pages of this level: the format maps none, the table is not that high, or
    /// other tables share the entries of this root.
    NoPagesHere {
        /// The level of the entry.
        entry: Level,
    },
    /// The item's frame is not aligned to what the entry covers.
    Unaligned {
        /// The frame.
        frame: Paddr,
        /// The alignment in bytes.
        alignment: u64,
    },
    /// The root's entry belongs to another table.
    NotManaged {
        /// The index in the root.
        index: usize,
    },
    /// Other tables share what the root's entry leads to, so it stays.
    Permanent {
        /// The index in the root.
        index: usize,
    },
    /// The address does not fit an entry.
    OutOfRange {
        /// The frame.
        frame: Paddr,
    },
    /// The node is, or was, below another entry already, or it is locked.
    InUse {
        /// Where the node is.
        node: Paddr,
    },
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongLevel { entry, child } => write!(
                f,
                "a child of level {} does not go into an entry of level {}",
                child.as_u8(),
                entry.as_u8()
            ),
            Self::NoPagesHere { entry } => {
                write!(f, "entries of level {} map no pages", entry.as_u8())
            }
            Self::Unaligned { frame, alignment } => {
                write!(f, "{frame:?} is not aligned to {alignment:#x} bytes")
            }
            Self::NotManaged { index } => {
                write!(f, "entry {index} of the root belongs to another table")
            }
            Self::Permanent { index } => {
                write!(f, "entry {index} of the root is shared with other tables and stays")
            }
            Self::OutOfRange { frame } => write!(f, "{frame:?} does not fit an entry"),
            Self::InUse { node } => write!(f, "the node at {node:?} has a parent already"),
        }
    }
}

impl core::error::Error for Misfit {}

/// A child that an entry did not take, given back with the reason.
#[derive(Debug)]
pub struct Refused<T> {
    /// Why.
    pub reason: Misfit,
    /// What the caller handed in.
    pub child: T,
}

impl<T> fmt::Display for Refused<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)
    }
}

impl<T: fmt::Debug> core::error::Error for Refused<T> {}

/// The CPU is online already: there is one handle per CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AlreadyOnline {
    /// The CPU.
    pub cpu: CpuId,
}

impl fmt::Display for AlreadyOnline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CPU {} is online already", self.cpu.as_u32())
    }
}

impl core::error::Error for AlreadyOnline {}

/// Why an entry was not grown or split.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GrowError {
    /// The entry already leads somewhere.
    Present,
    /// There is no huge page to split.
    NoHugePage,
    /// Entries of the lowest level have no nodes below them.
    Leaf,
    /// The root's entry belongs to another table.
    NotManaged {
        /// The index in the root.
        index: usize,
    },
    /// The backend has no frame left.
    OutOfMemory,
}

impl From<OutOfMemory> for GrowError {
    fn from(_: OutOfMemory) -> Self {
        Self::OutOfMemory
    }
}

impl fmt::Display for GrowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Present => f.write_str("the entry already leads somewhere"),
            Self::NoHugePage => f.write_str("the entry maps no huge page"),
            Self::Leaf => f.write_str("there are no nodes below the lowest level"),
            Self::NotManaged { index } => {
                write!(f, "entry {index} of the root belongs to another table")
            }
            Self::OutOfMemory => OutOfMemory.fmt(f),
        }
    }
}

impl core::error::Error for GrowError {}

/// The entry maps no page, so there is no property to change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotAnItem;

impl fmt::Display for NotAnItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the entry maps no page")
    }
}

impl core::error::Error for NotAnItem {}

/// Why no node could be locked for an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FindError {
    /// The table does not manage the address.
    NotManaged {
        /// The address.
        vaddr: Vaddr,
    },
    /// The descent has to begin at a root.
    NotARoot(NotARoot),
    /// The table has no nodes of this level.
    NoSuchLevel {
        /// The level.
        level: Level,
    },
    /// A missing node could not be allocated.
    OutOfMemory,
    /// A lock is held by another CPU, and the caller did not want to wait.
    WouldWait,
}

impl From<OutOfMemory> for FindError {
    fn from(_: OutOfMemory) -> Self {
        Self::OutOfMemory
    }
}

impl fmt::Display for FindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotManaged { vaddr } => write!(f, "{vaddr:?} is not managed by this table"),
            Self::NotARoot(error) => error.fmt(f),
            Self::NoSuchLevel { level } => {
                write!(f, "the table has no nodes of level {}", level.as_u8())
            }
            Self::OutOfMemory => OutOfMemory.fmt(f),
            Self::WouldWait => f.write_str("another CPU holds a lock on the path"),
        }
    }
}

impl core::error::Error for FindError {}

/// Why a range was not locked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RangeError {
    /// There is nothing in the range.
    Empty {
        /// Where it begins and ends.
        at: Vaddr,
    },
    /// The range ends before it begins.
    Reversed {
        /// The range.
        range: Range<Vaddr>,
    },
    /// An end of the range is in the middle of a page.
    Unaligned {
        /// That end.
        vaddr: Vaddr,
    },
    /// The table does not manage all of the range.
    NotManaged {
        /// The range.
        range: Range<Vaddr>,
    },
    /// A range is locked from the root.
    NotARoot(NotARoot),
    /// A missing node could not be allocated.
    OutOfMemory,
    /// A lock is held by another CPU, and the caller did not want to wait.
    WouldWait,
}

impl fmt::Display for RangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty { at } => write!(f, "the range at {at:?} is empty"),
            Self::Reversed { range } => write!(f, "the range {range:?} ends before it begins"),
            Self::Unaligned { vaddr } => write!(f, "{vaddr:?} is in the middle of a page"),
            Self::NotManaged { range } => {
                write!(f, "the range {range:?} is not wholly managed by this table")
            }
            Self::NotARoot(error) => error.fmt(f),
            Self::OutOfMemory => OutOfMemory.fmt(f),
            Self::WouldWait => FindError::WouldWait.fmt(f),
        }
    }
}

impl core::error::Error for RangeError {}

/// A position that a cursor does not have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PositionError {
    /// The cursor is at the end of its range: there is nothing to look at.
    AtEnd {
        /// The end.
        end: Vaddr,
    },
    /// The address is outside of the range, or behind the cursor.
    Outside {
        /// The address.
        vaddr: Vaddr,
        /// What is left of the range, with its end.
        range: Range<Vaddr>,
    },
    /// The address is in the middle of a page.
    Unaligned {
        /// The address.
        vaddr: Vaddr,
    },
}

impl fmt::Display for PositionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtEnd { end } => write!(f, "the cursor is at the end of its range, {end:?}"),
            Self::Outside { vaddr, range } => {
                write!(f, "{vaddr:?} is outside of {range:?}, its end included")
            }
            Self::Unaligned { vaddr } => write!(f, "{vaddr:?} is in the middle of a page"),
        }
    }
}

impl core::error::Error for PositionError {}

/// Why a page was not mapped.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MapFault {
    /// There is no such position.
    Position(PositionError),
    /// Something is mapped there.
    AlreadyMapped {
        /// The first address, of those asked for, that is mapped.
        vaddr: Vaddr,
    },
    /// The page is longer than the rest of the range.
    TooLong {
        /// Where it would begin.
        vaddr: Vaddr,
        /// Its length in bytes.
        length: u64,
        /// Where the range ends.
        end: Vaddr,
    },
    /// A huge page begins at multiples of its length.
    Misaligned {
        /// Where it would begin.
        vaddr: Vaddr,
        /// Its length in bytes.
        length: u64,
    },
    /// No entry can hold the item.
    Misfit(Misfit),
    /// A missing node could not be allocated.
    OutOfMemory,
}

impl fmt::Display for MapFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Position(error) => error.fmt(f),
            Self::AlreadyMapped { vaddr } => write!(f, "{vaddr:?} is mapped already"),
            Self::TooLong { vaddr, length, end } => {
                write!(f, "a page of {length:#x} bytes at {vaddr:?} goes beyond {end:?}")
            }
            Self::Misaligned { vaddr, length } => {
                write!(f, "{vaddr:?} is not aligned to a page of {length:#x} bytes")
            }
            Self::Misfit(misfit) => misfit.fmt(f),
            Self::OutOfMemory => OutOfMemory.fmt(f),
        }
    }
}

impl core::error::Error for MapFault {}

impl From<PositionError> for MapFault {
    fn from(error: PositionError) -> Self {
        Self::Position(error)
    }
}

impl From<OutOfMemory> for MapFault {
    fn from(_: OutOfMemory) -> Self {
        Self::OutOfMemory
    }
}

/// A page that was not mapped, given back with the reason. The table is as it was.
pub struct MapError<T> {
    /// Why.
    pub fault: MapFault,
    /// What the caller handed in.
    pub item: T,
}

impl<T> fmt::Debug for MapError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapError").field("fault", &self.fault).finish_non_exhaustive()
    }
}

impl<T> fmt::Display for MapError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fault.fmt(f)
    }
}

impl<T> core::error::Error for MapError<T> {}

/// Why a range was not unmapped, protected or split. The table is as it was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ChangeError {
    /// There is no such position.
    Position(PositionError),
    /// There is no huge page to split at the position.
    NoHugePage {
        /// The position.
        vaddr: Vaddr,
    },
    /// A node for the parts of a huge page, of which the range has only some, could not be
    /// allocated.
    OutOfMemory,
}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Position(error) => error.fmt(f),
            Self::NoHugePage { vaddr } => write!(f, "there is no huge page at {vaddr:?}"),
            Self::OutOfMemory => OutOfMemory.fmt(f),
        }
    }
}

impl core::error::Error for ChangeError {}

impl From<PositionError> for ChangeError {
    fn from(error: PositionError) -> Self {
        Self::Position(error)
    }
}

impl From<OutOfMemory> for ChangeError {
    fn from(_: OutOfMemory) -> Self {
        Self::OutOfMemory
    }
}

/// Why pages were not merged into a huge one. The table is as it was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MergeError {
    /// There is no such position.
    Position(PositionError),
    /// There is no node around the position that the range has all of.
    NotANode,
    /// The pages around the position are not all there, or differ in rights, or do not map
    /// consecutive frames.
    NotUniform {
        /// The first page that does not go on from the one before.
        vaddr: Vaddr,
    },
    /// The pages own their frames one by one.
    Tracked,
    /// No entry can hold the huge page.
    Misfit(Misfit),
}

impl fmt::Display for MergeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Position(error) => error.fmt(f),
            Self::NotANode => f.write_str("the range has no whole node around the position"),
            Self::NotUniform { vaddr } => {
                write!(f, "the page at {vaddr:?} does not go on from the one before it")
            }
            Self::Tracked => f.write_str("the pages own their frames one by one"),
            Self::Misfit(misfit) => misfit.fmt(f),
        }
    }
}

impl core::error::Error for MergeError {}

impl From<PositionError> for MergeError {
    fn from(error: PositionError) -> Self {
        Self::Position(error)
    }
}
