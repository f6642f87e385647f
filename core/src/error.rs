//! Errors are values: they name the offending values and give back what the caller handed in.

use core::fmt;
use core::ops::Range;

use crate::address::{CpuId, Level, Paddr, Vaddr};

/// Says what an error says: one sentence for each pattern.
macro_rules! sentences {
    ($error:ty: $($pattern:pat => ($($sentence:tt)+)),+ $(,)?) => {
        impl fmt::Display for $error {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self { $($pattern => write!(f, $($sentence)+),)+ }
            }
        }

        impl core::error::Error for $error {}
    };
}

/// Makes variants of an error from errors of what it calls.
macro_rules! includes {
    ($($source:ty => $($error:ident::$variant:ident $(($kept:ident))?),+;)+) => {
        $($(
            impl From<$source> for $error {
                #[inline]
                fn from(_error: $source) -> Self {
                    includes!(@ $error::$variant, _error $(, $kept)?)
                }
            }
        )+)+
    };
    (@ $error:ident::$variant:ident, $source:ident) => { $error::$variant };
    (@ $error:ident::$variant:ident, $source:ident, $kept:ident) => { $error::$variant($source) };
}

/// The backend has no frame left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutOfMemory;

sentences!(OutOfMemory: Self => ("no frame is left"));

/// An index beyond the entries of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IndexOutOfRange {
    /// The index asked for.
    pub index: usize,
    /// How many entries the node has.
    pub entries: usize,
}

sentences!(IndexOutOfRange:
    Self { index, entries } => ("entry {index} of a node of {entries} entries"));

/// The node is not a root.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotARoot {
    /// The level of the node.
    pub level: Level,
}

sentences!(NotARoot: Self { level } => ("a node of level {} is not a root", level.as_u8()));

/// Why a CPU does not run on a root.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ActivateError {
    /// The root does not share what the CPU stands on: its code, its stack. See
    /// [`Permanent::carry`](crate::permanent::Permanent::carry).
    CarriesNothing {
        /// The root.
        root: Paddr,
    },
    /// Hardware walks tables of another format or geometry.
    OtherFormat {
        /// The root.
        root: Paddr,
    },
}

sentences!(ActivateError:
    Self::CarriesNothing { root } =>
        ("the root at {root:?} does not share the kernel's table, which the CPU stands on"),
    Self::OtherFormat { root } =>
        ("the root at {root:?} is not written in the format that hardware walks"));

/// The CPU is online already: there is one handle per CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AlreadyOnline {
    /// The CPU.
    pub cpu: CpuId,
}

sentences!(AlreadyOnline: Self { cpu } => ("CPU {} is online already", cpu.as_u32()));

/// Why an entry refused what was asked of it. It is then as it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
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
    /// A global translation survives a switch of roots, so only a table whose root entries stay may
    /// have one.
    Global,
    /// The address does not fit an entry.
    OutOfRange {
        /// The frame.
        frame: Paddr,
    },
    /// A mark that hardware could take for a page: it is not withheld.
    PresentMark,
    /// The value does not fit a mark.
    ValueTooLarge {
        /// The value.
        value: u64,
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
    /// The node is, or was, below another entry already, or it is locked.
    InUse {
        /// Where the node is.
        node: Paddr,
    },
    /// The entry already leads somewhere.
    Present,
    /// The entry maps no page.
    NoPage,
    /// There is no huge page to split.
    NoHugePage,
    /// Entries of the lowest level have no nodes below them.
    Leaf,
    /// The backend has no frame left.
    OutOfMemory,
}

sentences!(Refusal:
    Self::WrongLevel { entry, child } => (
        "a child of level {} does not go into an entry of level {}",
        child.as_u8(),
        entry.as_u8()
    ),
    Self::NoPagesHere { entry } => ("entries of level {} map no pages", entry.as_u8()),
    Self::Unaligned { frame, alignment } =>
        ("{frame:?} is not aligned to {alignment:#x} bytes"),
    Self::Global => ("a table whose root can go maps no global page"),
    Self::OutOfRange { frame } => ("{frame:?} does not fit an entry"),
    Self::PresentMark => ("a mark is to be withheld from hardware, and this one is not"),
    Self::ValueTooLarge { value } => ("{value:#x} does not fit a mark"),
    Self::NotManaged { index } => ("entry {index} of the root belongs to another table"),
    Self::Permanent { index } =>
        ("entry {index} of the root is shared with other tables and stays"),
    Self::InUse { node } => ("the node at {node:?} has a parent already, or is locked"),
    Self::Present => ("the entry already leads somewhere"),
    Self::NoPage => ("the entry maps no page"),
    Self::NoHugePage => ("the entry maps no huge page"),
    Self::Leaf => ("there are no nodes below the lowest level"),
    Self::OutOfMemory => ("{OutOfMemory}"));

/// What was refused, given back with the reason.
pub struct Refused<T, R = Refusal> {
    /// Why.
    pub reason: R,
    /// What the caller handed in.
    pub back: T,
}

impl<T, R: fmt::Debug> fmt::Debug for Refused<T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refused").field("reason", &self.reason).finish_non_exhaustive()
    }
}

impl<T, R: fmt::Display> fmt::Display for Refused<T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)
    }
}

impl<T, R: fmt::Debug + fmt::Display> core::error::Error for Refused<T, R> {}

/// Why a node or a range was not locked. The table is as it was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LockError {
    /// The way down begins at a root.
    NotARoot(NotARoot),
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
    /// The address is in the middle of a page.
    Unaligned {
        /// The address.
        vaddr: Vaddr,
    },
    /// No table of this geometry translates the address: its upper bits do not repeat the highest
    /// one that the levels decode.
    NotCanonical {
        /// The address.
        vaddr: Vaddr,
    },
    /// The table does not manage all of the range.
    NotManaged {
        /// The range.
        range: Range<Vaddr>,
    },
    /// The table has no nodes of this level.
    NoSuchLevel {
        /// The level.
        level: Level,
    },
    /// A missing node could not be allocated.
    OutOfMemory,
    /// Another CPU holds a lock, and the caller did not want to wait.
    WouldWait,
}

sentences!(LockError:
    Self::NotARoot(error) => ("{error}"),
    Self::Empty { at } => ("the range at {at:?} is empty"),
    Self::Reversed { range } => ("the range {range:?} ends before it begins"),
    Self::Unaligned { vaddr } => ("{vaddr:?} is in the middle of a page"),
    Self::NotCanonical { vaddr } => ("{vaddr:?} is no canonical address"),
    Self::NotManaged { range } => ("the range {range:?} is not wholly managed by this table"),
    Self::NoSuchLevel { level } => ("the table has no nodes of level {}", level.as_u8()),
    Self::OutOfMemory => ("{OutOfMemory}"),
    Self::WouldWait => ("another CPU holds a lock on the path"));

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

sentences!(PositionError:
    Self::AtEnd { end } => ("the cursor is at the end of its range, {end:?}"),
    Self::Outside { vaddr, range } => ("{vaddr:?} is outside of {range:?}, its end included"),
    Self::Unaligned { vaddr } => ("{vaddr:?} is in the middle of a page"));

/// Why a page was not mapped, or not put in the place of another. The table is as it was.
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
    /// There is no page to be replaced: nothing is mapped, or smaller pages are.
    NoPage {
        /// Where the page would begin.
        vaddr: Vaddr,
        /// Its length in bytes.
        length: u64,
    },
    /// No entry can hold the item.
    Refused(Refusal),
    /// A missing node could not be allocated.
    OutOfMemory,
}

sentences!(MapFault:
    Self::Position(error) => ("{error}"),
    Self::AlreadyMapped { vaddr } => ("{vaddr:?} is mapped already"),
    Self::TooLong { vaddr, length, end } =>
        ("a page of {length:#x} bytes at {vaddr:?} goes beyond {end:?}"),
    Self::Misaligned { vaddr, length } =>
        ("{vaddr:?} is not aligned to a page of {length:#x} bytes"),
    Self::NoPage { vaddr, length } =>
        ("no page of {length:#x} bytes is mapped at {vaddr:?}"),
    Self::Refused(refusal) => ("{refusal}"),
    Self::OutOfMemory => ("{OutOfMemory}"));

/// A page that was not mapped, given back with the reason.
pub type MapError<T> = Refused<T, MapFault>;

/// Why a range was not unmapped, protected, split or merged. The table is as it was.
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
    /// There is no node to merge around the position that the range has all of.
    NotANode,
    /// The pages to merge are not all there, or differ in rights, or do not map consecutive frames.
    NotUniform {
        /// The first page that does not go on from the one before.
        vaddr: Vaddr,
    },
    /// The pages to merge own their frames one by one.
    Tracked,
    /// No entry can hold the merged page.
    Refused(Refusal),
}

sentences!(ChangeError:
    Self::Position(error) => ("{error}"),
    Self::NoHugePage { vaddr } => ("there is no huge page at {vaddr:?}"),
    Self::OutOfMemory => ("{OutOfMemory}"),
    Self::NotANode => ("the range has no whole node around the position"),
    Self::NotUniform { vaddr } =>
        ("the page at {vaddr:?} does not go on from the one before it"),
    Self::Tracked => ("the pages own their frames one by one"),
    Self::Refused(refusal) => ("{refusal}"));

/// Why pages were not moved, or copied. Nothing has changed, at either end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MoveError {
    /// The pages do not end at a position of the cursor.
    Position(PositionError),
    /// They would not begin at a position of the cursor.
    Destination(PositionError),
    /// They would go beyond the range.
    TooLong {
        /// Where they would begin.
        vaddr: Vaddr,
        /// How many bytes they are.
        length: u64,
        /// Where the range ends.
        end: Vaddr,
    },
    /// Some of them would be where some of them are.
    Overlap {
        /// The first address that is both.
        vaddr: Vaddr,
    },
    /// Something is mapped where they would be.
    AlreadyMapped {
        /// The first address there that is mapped.
        vaddr: Vaddr,
    },
    /// A node, missing there or for the parts of a huge page, could not be allocated.
    OutOfMemory,
}

sentences!(MoveError:
    Self::Position(error) => ("{error}"),
    Self::Destination(error) => ("the pages would begin nowhere: {error}"),
    Self::TooLong { vaddr, length, end } =>
        ("{length:#x} bytes at {vaddr:?} go beyond {end:?}"),
    Self::Overlap { vaddr } => ("{vaddr:?} is both where pages are and where they would be"),
    Self::AlreadyMapped { vaddr } => ("{vaddr:?} is mapped already"),
    Self::OutOfMemory => ("{OutOfMemory}"));

includes! {
    OutOfMemory => Refusal::OutOfMemory, LockError::OutOfMemory, MapFault::OutOfMemory,
        ChangeError::OutOfMemory, MoveError::OutOfMemory;
    PositionError => MapFault::Position(error), ChangeError::Position(error),
        MoveError::Position(error);
    Refusal => MapFault::Refused(error), ChangeError::Refused(error);
    NotARoot => LockError::NotARoot(error);
}
