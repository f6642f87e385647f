//! Errors are values: they name the offending values and give back what the caller handed in.

use core::fmt;

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
    /// The format maps no pages at this level.
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
