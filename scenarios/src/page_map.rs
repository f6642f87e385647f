//! The table of a history: a few pages of one size, what is asked of them, and the answers.
//!
//! What an operation means is said by the [specification](crate::specification); here is how a
//! history says it. Pages have numbers, and a frame is known by what is written in it. Everything
//! that an operation tells its caller is part of the answer, down to the number of frames that an
//! unmap found: a map that lands in a detached node can always be explained as having come before
//! the unmap, unless the unmap counted the frames that it took out.

use core::fmt;
use core::ops::Range;

use weft_core::address::{Level, Paddr};
use weft_core::config::Config;
use weft_core::cursor::Slot;
use weft_core::entry::ChildRef;
use weft_core::error::{ChangeError, MapError, MapFault};
use weft_core::format::{PageFlags, Property, RawItem};
use weft_core::geometry::FourLevels;

use crate::specification::{Memory, Specification, Store, addresses};
use crate::world::World;

/// The most pages that a map knows.
pub const PAGES_MAX: usize = 8;

/// A page, or several that are next to each other.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Pages {
    start: u8,
    end: u8,
}

impl Pages {
    /// Their numbers.
    pub const fn range(self) -> Range<u8> {
        self.start..self.end
    }

    fn numbers(self) -> Range<usize> {
        usize::from(self.start)..usize::from(self.end)
    }
}

impl From<u8> for Pages {
    #[track_caller]
    fn from(page: u8) -> Self {
        Self::from(page..page + 1)
    }
}

impl From<Range<u8>> for Pages {
    #[track_caller]
    fn from(Range { start, end }: Range<u8>) -> Self {
        assert!(start < end, "a history is about pages, and {start}..{end} has none");
        assert!(usize::from(end) <= PAGES_MAX, "a history knows {PAGES_MAX} pages, from 0 on");
        Self { start, end }
    }
}

impl fmt::Display for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.end - self.start {
            1 => write!(f, "{}", self.start),
            _ => write!(f, "{}..{}", self.start, self.end),
        }
    }
}

/// What a page is mapped to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Mapping {
    frame: u8,
    writable: bool,
}

impl Mapping {
    /// To a frame with `frame` written in it, to be read and written.
    pub const fn writable(frame: u8) -> Self {
        Self { frame, writable: true }
    }

    /// To a frame with `frame` written in it, to be read.
    pub const fn read_only(frame: u8) -> Self {
        Self { frame, writable: false }
    }

    /// What was found where a walk ended: the frame's contents are looked at.
    ///
    /// # Panics
    ///
    /// If a frame holds something that no history has mapped.
    #[track_caller]
    pub fn found<C>(backend: &C::Backend, end: ChildRef<'_, C>) -> Option<Self>
    where
        C: Config<Backend: World>,
    {
        match end {
            ChildRef::Item(item) => Some(Self::of(backend, &item)),
            ChildRef::Absent | ChildRef::Node(_) | ChildRef::Shared => None,
        }
    }

    /// What a cursor has found; as [`found`](Self::found).
    #[track_caller]
    pub fn in_slot<C>(backend: &C::Backend, slot: &Slot<'_, C>) -> Option<Self>
    where
        C: Config<Backend: World>,
    {
        Some(Self::of(backend, slot.item.as_deref()?))
    }

    /// What an entry says; as [`found`](Self::found).
    #[track_caller]
    pub fn of(backend: &impl World, item: &RawItem) -> Self {
        let contents = backend.read_contents(item.frame);
        let frame = u8::try_from(contents);
        let frame = frame.unwrap_or_else(|_| panic!("no page is mapped to a frame of {contents}"));
        Self { frame, writable: item.property.flags.contains(PageFlags::WRITE) }
    }

    /// As the specification has it: the frame's number is what is written in it.
    fn as_item(self) -> RawItem {
        let mut property = Property::default();
        property.flags.set(PageFlags::WRITE, self.writable);
        RawItem { frame: Paddr::of_frame(self.frame.into()), level: Level::LEAF, property }
    }

    fn of_item(item: RawItem) -> Self {
        let writable = item.property.flags.contains(PageFlags::WRITE);
        Self { frame: item.frame.frame_number() as u8, writable }
    }

    /// What is written in the frame.
    pub const fn frame(self) -> u8 {
        self.frame
    }

    /// Whether the page may be written.
    pub const fn is_writable(self) -> bool {
        self.writable
    }
}

impl fmt::Display for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rights = if self.writable { "" } else { " read-only" };
        write!(f, "#{}{rights}", self.frame)
    }
}

/// What a CPU asks of a page table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Map pages that are not mapped.
    Map {
        /// Which pages.
        pages: Pages,
        /// To what; several pages to a frame each, with the same contents.
        to: Mapping,
    },
    /// Unmap what is mapped.
    Unmap {
        /// Which pages.
        pages: Pages,
    },
    /// Put another frame in the place of a page's.
    Replace {
        /// Which page.
        page: Pages,
        /// By what.
        to: Mapping,
    },
    /// Look at a page.
    Query {
        /// Which page.
        page: Pages,
    },
    /// Change the rights of what is mapped.
    Protect {
        /// Which pages.
        pages: Pages,
        /// Whether they may be written from now on.
        writable: bool,
    },
}

impl Operation {
    /// Map `pages`, a number or a range.
    #[track_caller]
    pub fn map(pages: impl Into<Pages>, to: Mapping) -> Self {
        Self::Map { pages: pages.into(), to }
    }

    /// Unmap `pages`, a number or a range.
    #[track_caller]
    pub fn unmap(pages: impl Into<Pages>) -> Self {
        Self::Unmap { pages: pages.into() }
    }

    /// Put another frame in the place of the one that `page` is mapped to.
    #[track_caller]
    pub fn replace(page: u8, to: Mapping) -> Self {
        Self::Replace { page: page.into(), to }
    }

    /// Look at `page`.
    #[track_caller]
    pub fn query(page: u8) -> Self {
        Self::Query { page: page.into() }
    }

    /// Make `pages`, a number or a range, writable or read-only.
    #[track_caller]
    pub fn protect(pages: impl Into<Pages>, writable: bool) -> Self {
        Self::Protect { pages: pages.into(), writable }
    }

    /// The pages that it is about.
    pub const fn pages(self) -> Pages {
        let (Self::Map { pages, .. }
        | Self::Unmap { pages }
        | Self::Replace { page: pages, .. }
        | Self::Query { page: pages }
        | Self::Protect { pages, .. }) = self;
        pages
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Map { pages, to } => write!(f, "map {pages} to {to}"),
            Self::Unmap { pages } => write!(f, "unmap {pages}"),
            Self::Replace { page, to } => write!(f, "replace {page} by {to}"),
            Self::Query { page } => write!(f, "query {page}"),
            Self::Protect { pages, writable: true } => write!(f, "make {pages} writable"),
            Self::Protect { pages, writable: false } => write!(f, "make {pages} read-only"),
        }
    }
}

/// What the CPU is told.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The pages are mapped now.
    Mapped,
    /// A page was mapped already, and nothing has changed.
    AlreadyMapped,
    /// There was no memory, and nothing has changed.
    OutOfMemory,
    /// So many frames were mapped there, and have been unmapped, or have other rights now.
    Frames(u64),
    /// What the page is mapped to, or was until it was replaced. A page that is not mapped is not
    /// replaced.
    Found(Option<Mapping>),
}

impl Answer {
    /// What a cursor says that has mapped pages or not.
    ///
    /// # Panics
    ///
    /// If it says that it was misused.
    #[track_caller]
    pub fn mapped<T>(result: Result<(), MapError<T>>) -> Self {
        match result.map_err(|error| error.reason) {
            Ok(()) => Self::Mapped,
            Err(MapFault::AlreadyMapped { .. }) => Self::AlreadyMapped,
            Err(MapFault::OutOfMemory) => Self::OutOfMemory,
            Err(fault) => panic!("the cursor was misused: {fault}"),
        }
    }

    /// What a cursor says that has replaced a page or not.
    ///
    /// # Panics
    ///
    /// If it says that it was misused.
    #[track_caller]
    pub fn replaced<T>(result: Result<Mapping, MapError<T>>) -> Self {
        match result.map_err(|error| error.reason) {
            Ok(old) => Self::Found(Some(old)),
            Err(MapFault::NoPage { .. }) => Self::Found(None),
            Err(MapFault::OutOfMemory) => Self::OutOfMemory,
            Err(fault) => panic!("the cursor was misused: {fault}"),
        }
    }

    /// What a cursor says that has unmapped pages, or changed their rights, or not.
    ///
    /// # Panics
    ///
    /// If it says that it was misused.
    #[track_caller]
    pub fn frames(result: Result<u64, ChangeError>) -> Self {
        match result {
            Ok(frames) => Self::Frames(frames),
            Err(ChangeError::OutOfMemory) => Self::OutOfMemory,
            Err(fault) => panic!("the cursor was misused: {fault}"),
        }
    }

    /// What was found, or `None` for nothing.
    ///
    /// # Panics
    ///
    /// If it is no answer to a query.
    #[track_caller]
    pub fn found(self) -> Option<Mapping> {
        let Self::Found(found) = self else { panic!("\"{self}\" is no answer to a query") };
        found
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mapped => f.write_str("done"),
            Self::AlreadyMapped => f.write_str("already mapped"),
            Self::OutOfMemory => f.write_str("out of memory"),
            Self::Frames(1) => f.write_str("1 frame"),
            Self::Frames(count) => write!(f, "{count} frames"),
            Self::Found(None) => f.write_str("nothing"),
            Self::Found(Some(mapping)) => mapping.fmt(f),
        }
    }
}

/// A map from pages to what they are mapped to.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct PageMap {
    pages: [Option<Mapping>; PAGES_MAX],
}

impl PageMap {
    /// The map in which nothing is mapped.
    pub const EMPTY: Self = Self { pages: [None; PAGES_MAX] };

    /// What `look` says of each of `pages`; the others are not mapped.
    #[track_caller]
    pub fn of(pages: impl Into<Pages>, mut look: impl FnMut(u8) -> Option<Mapping>) -> Self {
        let mut map = Self::EMPTY;
        for page in pages.into().numbers() {
            map.pages[page] = look(page as u8);
        }
        map
    }

    /// This map, with `pages` mapped to `mapping`.
    #[must_use]
    #[track_caller]
    pub fn with(mut self, pages: impl Into<Pages>, mapping: Mapping) -> Self {
        self.pages[pages.into().numbers()].fill(Some(mapping));
        self
    }

    /// The map after `operation`, or `None` if on this map the operation has another answer.
    #[must_use]
    pub fn after(self, operation: Operation, answer: Answer) -> Option<Self> {
        let memory = match answer {
            Answer::OutOfMemory => Memory::RunsOut,
            _ => Memory::Suffices,
        };
        let (expected, after) = self.carry_out(operation, memory);
        (answer == expected).then_some(after)
    }

    /// What the operation answers on this map, and the map afterwards.
    pub(crate) fn carry_out(self, operation: Operation, memory: Memory) -> (Answer, Self) {
        let mut table = Specification::<FourLevels, Self>::new(self);
        let Range { start, end } = operation.pages().range();
        let range = addresses::<FourLevels>(&(start.into()..end.into()));
        let mut cursor = table.cursor(range.clone()).expect("an operation has pages");
        let answer = match operation {
            Operation::Map { to, .. } => {
                Answer::mapped(cursor.map_pages(range.end, |_| to.as_item(), memory))
            }
            Operation::Unmap { .. } => Answer::frames(cursor.unmap(range.end, memory)),
            Operation::Replace { to, .. } => {
                Answer::replaced(cursor.replace(to.as_item(), memory).map(Mapping::of_item))
            }
            Operation::Query { .. } => {
                let found = cursor.query().expect("an operation has pages");
                Answer::Found(found.map(|found| Mapping::of_item(found.item)))
            }
            Operation::Protect { writable, .. } => {
                let change = |mut property: Property| {
                    property.flags.set(PageFlags::WRITE, writable);
                    property
                };
                Answer::frames(cursor.protect(range.end, change, memory))
            }
        };
        (answer, *table.mappings())
    }

    fn item(&self, page: usize) -> Option<(u64, RawItem)> {
        Some((page as u64, self.pages[page]?.as_item()))
    }
}

impl Store for PageMap {
    fn last_until(&self, page: u64) -> Option<(u64, RawItem)> {
        (0..=page as usize).rev().find_map(|page| self.item(page))
    }

    fn first_from(&self, page: u64) -> Option<(u64, RawItem)> {
        (page as usize..PAGES_MAX).find_map(|page| self.item(page))
    }

    fn insert(&mut self, page: u64, item: RawItem) {
        self.pages[page as usize] = Some(Mapping::of_item(item));
    }

    fn remove(&mut self, page: u64) {
        self.pages[page as usize] = None;
    }
}

impl fmt::Display for PageMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::EMPTY {
            return f.write_str("nothing is mapped");
        }
        let mapped = self.pages.iter().enumerate();
        let mapped = mapped.filter_map(|(page, mapping)| Some((page, mapping.as_ref()?)));
        for (number, (page, mapping)) in mapped.enumerate() {
            let comma = if number == 0 { "" } else { ", " };
            write!(f, "{comma}{page} is {mapping}")?;
        }
        Ok(())
    }
}

/// What is displayed is also what is printed for debugging: observations are compared as text.
macro_rules! debug_as_displayed {
    ($($name:ty),+) => {
        $(impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        })+
    };
}
debug_as_displayed!(Pages, Mapping, Operation, Answer, PageMap);
