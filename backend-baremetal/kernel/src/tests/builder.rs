//! Random changes of a user's table, with cursors, beside what the specification says of them.
//!
//! Pages of all three sizes, tracked and untracked, with all sorts of rights and cache policies;
//! one at a time and many at once; ranges that begin and end in the middle of huge pages, so that
//! these are split. What every operation answers is compared at once: how many frames were
//! unmapped, what is in the way, what a page was before. The processor runs on the table and uses
//! its pages, and hardware notes that. The test flushes nothing: the cursors do.

use alloc::collections::btree_map::Iter;
use alloc::collections::{BTreeMap, VecDeque};
use core::ops::Range;

use weft_core::address::{FRAME_SIZE, Level, Paddr, Vaddr};
use weft_core::cpu::Cpu;
use weft_core::cursor::{Cursor, Slot};
use weft_core::error::MapError;
use weft_core::format::{CachePolicy, PageFlags, Property, RawItem};
use weft_core::frame::Frame;
use weft_core::geometry::{FourLevels, Geometry};
use weft_core::item::MappedItem;
use weft_core::shared::SharedCursor;
use weft_core::space::AddressSpace;
use weft_scenarios::random::Random;
use weft_scenarios::specification::{self, Mapping, Memory, Specification};
use weft_scenarios::tables::UserTable;
use weft_scenarios::world::World;

use crate::services::metal::MetalMachine;

/// The most huge pages that are split: each becomes 512 pages.
const SPLITS_MAX: u64 = 40;
/// Bits of physical addresses that pages are given. Nobody uses those that are not memory.
const PHYSICAL_BITS: u32 = 40;
/// Binary logarithm of the most pages that are mapped at once.
const RUN_BITS: u32 = 7;
/// The most pages that get frames of their own at once.
const TRACKED_RUN_MAX: u64 = 32;
/// The machine has far more memory than the test uses.
const SUFFICES: Memory = Memory::Suffices;
/// Where the user's half ends.
const HALF_END: Vaddr = Vaddr::new(1 << 47);

pub(crate) type Table = UserTable<MetalMachine>;
/// What a table should be.
pub(crate) type Pages = Specification<FourLevels, BTreeMap<u64, RawItem>>;
type Expected<'s> = specification::Cursor<'s, FourLevels, BTreeMap<u64, RawItem>>;

/// The page of our tables that an address is in.
fn number(vaddr: Vaddr) -> u64 {
    specification::number::<FourLevels>(vaddr)
}

/// The first address of a page of our tables.
pub(crate) fn address(page: u64) -> Vaddr {
    specification::address::<FourLevels>(page)
}

/// The addresses of pages of our tables.
fn addresses(pages: &Range<u64>) -> Range<Vaddr> {
    specification::addresses::<FourLevels>(pages)
}

/// The table under construction, and what it should be.
pub(crate) struct Builder {
    pub(crate) machine: MetalMachine,
    pub(crate) space: AddressSpace<Table>,
    pub(crate) own: Cpu<MetalMachine>,
    pub(crate) random: Random,
    pub(crate) expected: Pages,
    pub(crate) done: Counts,
}

/// What was done how often.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) mapped: u64,
    pub(crate) refused: u64,
    pub(crate) unmapped: u64,
    pub(crate) subtrees: u64,
    pub(crate) protected: u64,
    pub(crate) split: u64,
    pub(crate) merged: u64,
    pub(crate) used: u64,
}

impl Builder {
    /// One random change.
    pub(crate) fn change(&mut self) {
        match self.random.below(32) {
            0..9 => self.map(),
            9..12 => self.map_pages(),
            12..15 => self.unmap(),
            15..17 => self.take(),
            17..20 => self.protect(),
            20..24 => self.protect_one(),
            24 => self.split_and_merge(),
            25..27 => self.ask(),
            _ => self.use_page(),
        }
    }

    /// The level of a page: mostly small.
    fn level(&mut self) -> Level {
        Level::new(match self.random.below(64) {
            0 => 3,
            1..6 => 2,
            _ => 1,
        })
    }

    /// An address of a page of `level`: in few nodes, so that changes meet each other, but huge
    /// pages mostly where no node is.
    fn address(&mut self, level: Level) -> Vaddr {
        let mut path = [0; 4];
        let crowded = [512, 6, 4, 3];
        for (depth, bound) in crowded.into_iter().enumerate().skip(usize::from(level.as_u8()) - 1) {
            path[depth] = self.random.below(bound) as usize;
        }
        if level > Level::LEAF && self.random.below(32) != 0 {
            path[usize::from(level.as_u8()) - 1] = self.random.below(512) as usize;
        }
        // The lower half of the root, from end to end.
        path[3] = [0, 101, 255][path[3]];
        FourLevels::address(&path)
    }

    /// A range: a few pages of some size, or of the smallest, wherever they begin and end. `None`
    /// if too many huge pages would have to be split.
    fn range(&mut self) -> Option<Range<Vaddr>> {
        let level = self.level();
        let is_ragged = self.random.below(4) == 0;
        // Where nodes are, every other time, so that whole ones are taken out.
        let start = if self.random.below(2) == 0 {
            self.address(level)
        } else {
            self.address(Level::LEAF).align_down(FourLevels::entry_span(level))
        };
        let (pages, span) = if level == Level::LEAF || is_ragged {
            (1 + self.random.up_to(8), FRAME_SIZE)
        } else {
            (1 + self.random.below(2), FourLevels::entry_span(level))
        };
        let end = start.plus(pages * span).min(HALF_END);
        let range = start..end;
        let splits = self.done.split + self.splits_max(&range);
        (splits <= SPLITS_MAX).then_some(range)
    }

    fn property(&mut self) -> Property {
        let policies = [
            CachePolicy::WriteBack,
            CachePolicy::WriteThrough,
            CachePolicy::UncachedMinus,
            CachePolicy::Uncached,
            CachePolicy::WriteCombining,
            CachePolicy::WriteProtected,
        ];
        let mut flags = PageFlags::from_bits_truncate(self.random.below(256) as u16);
        flags.remove(PageFlags::TRACKED | PageFlags::GLOBAL);
        Property { flags, cache: policies[self.random.below(6) as usize] }
    }

    /// A page of memory that nobody counts, somewhere.
    fn untracked(&mut self, level: Level) -> RawItem {
        let (span, random) = (FourLevels::entry_span(level), self.random.next());
        let frame = Paddr::new(random & ((1 << PHYSICAL_BITS) - 1) & !(span - 1));
        RawItem { frame, level, property: self.property() }
    }

    /// At least as many as there will be splits when a range is changed.
    fn splits_max(&self, range: &Range<Vaddr>) -> u64 {
        let splits_at = |edge: Vaddr| {
            let levels = 1..=self.expected.at(number(edge)).map_or(0, |it| it.item.level.as_u8());
            let spans = levels.map(|level| FourLevels::entry_span(Level::new(level)));
            spans.filter(|span| !edge.is_aligned(*span)).count() as u64
        };
        splits_at(range.start) + splits_at(range.end)
    }

    /// The first such mapping at an address or behind it.
    fn next(&self, from: Vaddr, is_such: impl Fn(&Mapping) -> bool) -> Option<Mapping> {
        self.expected.within(number(from)..number(HALF_END)).find(is_such)
    }

    /// Changes a locked range, and what is expected there.
    fn with_cursor<T>(
        &mut self,
        range: &Range<Vaddr>,
        change: impl FnOnce(&mut Cursor<'_, Table>, &mut Expected<'_>, &mut Counts) -> T,
    ) -> T {
        let section = self.own.read_side();
        let cursor = Cursor::lock(self.space.borrow(&section), range.clone());
        let mut cursor = cursor.expect("there is memory enough");
        let mut expected = self.expected.cursor(range.clone()).expect("it was locked");
        let changed = change(&mut cursor, &mut expected, &mut self.done);
        assert!(cursor.vaddr() == expected.vaddr(), "{cursor:?} is not at {:?}", expected.vaddr());
        changed
    }

    /// Maps a page. What is in the way has to be named, and is unmapped then.
    fn map(&mut self) {
        let level = self.level();
        let vaddr = self.address(level);
        let range = vaddr..vaddr.plus(FourLevels::entry_span(level));
        let splits = self.splits_max(&range);
        if self.done.split + splits > SPLITS_MAX {
            return;
        }
        let mut page = self.untracked(level);
        let mut item = item(&self.machine, page);
        if level == Level::LEAF && self.random.below(4) == 0 {
            (page, item) = tracked(&self.machine, page.property);
        }
        self.with_cursor(&range, |cursor, expected, done| {
            if let Err(MapError { reason: fault, .. }) = expected.map(page, SUFFICES) {
                let refused = cursor.map(item).expect_err("something is mapped there");
                assert!(refused.reason == fault, "{refused} is not {fault}");
                item = refused.back;
                (done.refused, done.split) = (done.refused + 1, done.split + splits);
                let (found, wanted) =
                    (cursor.unmap(range.end), expected.unmap(range.end, SUFFICES));
                assert!(found == wanted, "{found:?} is not {wanted:?} in {range:?}");
                cursor.jump(range.start).expect("the range begins there");
                expected.jump(range.start).expect("the range begins there");
                expected.map(page, SUFFICES).expect("nothing is in the way");
            }
            cursor.map(item).expect("nothing is in the way");
            done.mapped += 1;
        });
    }

    /// Maps pages in all of a range, if nothing is in the way.
    fn map_pages(&mut self) {
        let start = self.address(Level::LEAF);
        let pages = 1 + self.random.up_to(RUN_BITS);
        let range = start..start.plus(pages * FRAME_SIZE).min(HALF_END);
        let first_page = self.untracked(Level::LEAF);
        let is_tracked = pages <= TRACKED_RUN_MAX && self.random.below(2) == 0;
        let machine = self.machine;
        self.with_cursor(&range, |cursor, expected, done| {
            let mut made = VecDeque::new();
            let mapped = cursor.map_pages(range.end, |vaddr| {
                let bytes = vaddr.as_u64() - start.as_u64();
                let (page, item) = if is_tracked {
                    tracked(&machine, first_page.property)
                } else {
                    let page = RawItem { frame: first_page.frame.plus(bytes), ..first_page };
                    (page, item(&machine, page))
                };
                made.push_back(page);
                item
            });
            let count = made.len() as u64;
            let again = |_| made.pop_front().expect("a page was made for each address");
            match (mapped, expected.map_pages(range.end, again, SUFFICES)) {
                (Ok(()), Ok(())) => done.mapped += count,
                (Err(refused), Err(MapError { reason: fault, .. })) => {
                    assert!(refused.reason == fault, "{refused} is not {fault}");
                    done.refused += 1;
                }
                (Ok(()), Err(fault)) => panic!("mapped in {range:?}, although {fault}"),
                (Err(refused), Ok(())) => panic!("{range:?} was refused: {refused}"),
            }
        });
    }

    /// Unmaps a range at once.
    fn unmap(&mut self) {
        let Some(range) = self.range() else { return };
        self.done.split += self.splits_max(&range);
        self.with_cursor(&range, |cursor, expected, done| {
            let (found, wanted) = (cursor.unmap(range.end), expected.unmap(range.end, SUFFICES));
            assert!(found == wanted, "{found:?} is not {wanted:?} in {range:?}");
            done.unmapped += wanted.unwrap_or_default();
        });
    }

    /// Unmaps a range, one thing after the other.
    fn take(&mut self) {
        let Some(range) = self.range() else { return };
        self.done.split += self.splits_max(&range);
        self.with_cursor(&range, |cursor, expected, done| {
            loop {
                let (found, wanted) = (cursor.take_next(), expected.take_next(SUFFICES));
                assert!(found == wanted, "{found:?} is not {wanted:?} in {range:?}");
                let Some(taken) = wanted.expect("there is memory enough") else { return };
                done.subtrees += u64::from(taken.page.is_none());
                done.unmapped += taken.frames;
            }
        });
    }

    /// Gives all pages of a range another property.
    fn protect(&mut self) {
        let Some(range) = self.range() else { return };
        self.done.split += self.splits_max(&range);
        let property = self.property();
        self.with_cursor(&range, |cursor, expected, done| {
            let found = cursor.protect(range.end, |_| property);
            let wanted = expected.protect(range.end, |_| property, SUFFICES);
            assert!(found == wanted, "{found:?} is not {wanted:?} in {range:?}");
            done.protected += wanted.unwrap_or_default();
        });
    }

    /// Gives the next page another property, or the part of it that the range has.
    fn protect_one(&mut self) {
        let Some(range) = self.range() else { return };
        let pages = number(range.start)..number(range.end);
        let next = self.expected.first(pages.clone()).map_or(pages.clone(), |found| found.pages);
        if next.start < pages.start || next.end > pages.end {
            self.done.split += self.splits_max(&range);
        }
        let property = self.property();
        self.with_cursor(&range, |cursor, expected, done| {
            let found = cursor.protect_next(|_| property);
            let wanted = expected.protect_next(|_| property, SUFFICES);
            assert!(found == wanted, "{found:?} is not {wanted:?} in {range:?}");
            done.protected += u64::from(found.is_ok_and(|page| page.is_some()));
        });
    }

    /// Splits the next huge page, and merges its parts again every other time; or tries to merge
    /// whatever is at some address.
    fn split_and_merge(&mut self) {
        let vaddr = self.address(Level::LEAF);
        let huge = self.next(vaddr, |found| found.item.level > Level::LEAF);
        let huge = huge.map(|found| (address(found.pages.start), found.item.level));
        let (vaddr, level) = huge.unwrap_or((vaddr, Level::new(2)));
        let pages = specification::slot::<FourLevels>(number(vaddr), level);
        let may_split = huge.is_some() && self.done.split < SPLITS_MAX;
        let merges = !may_split || self.random.below(2) == 0;
        self.with_cursor(&addresses(&pages), |cursor, expected, done| {
            if may_split {
                cursor.split().expect("a huge page is there");
                expected.split(SUFFICES).expect("a huge page is there");
                done.split += u64::from(!merges);
            }
            if merges {
                // Where nothing is mapped, only the table knows how low its nodes go.
                let level = expected.query().expect("not the end").map(|found| found.item.level);
                let wanted = expected.merge(level.unwrap_or(Level::LEAF));
                let found = cursor.merge();
                let is_right = found == wanted || level.is_none() && found.is_err();
                assert!(is_right, "{found:?} is not {wanted:?} at {pages:?}");
                done.merged += u64::from(wanted.is_ok());
            }
        });
    }

    /// Asks for what is at an address, and for what comes next, with and without locks.
    fn ask(&mut self) {
        let Some(range) = self.range() else { return };
        let section = self.own.read_side();
        let root = self.space.borrow(&section);
        let mut shared = SharedCursor::new(root, range.clone()).expect("the range is the user's");
        let mut cursor = Cursor::lock(root, range.clone()).expect("there is memory enough");
        let mut expected = self.expected.cursor(range.clone()).expect("it was locked");
        let there = expected.query().expect("the range is not empty");
        let next = expected.find_next().map(|found| (addresses(&found.pages), found.item));
        for found in [shared.query(), cursor.query()] {
            let found = found.expect("the range is not empty");
            let is_right = match (&there, &found.item) {
                (Some(there), Some(item)) => {
                    (addresses(&there.pages), there.item) == (found.range.clone(), **item)
                }
                (None, None) => {
                    let pages = number(found.range.start)..number(found.range.end);
                    found.range.contains(&range.start) && self.expected.first(pages).is_none()
                }
                _ => false,
            };
            assert!(is_right, "{found:?} is not what was made");
        }
        for found in [shared.find_next(), cursor.find_next()] {
            let found = found.map(|slot| (slot.range, *slot.item.expect("a page")));
            assert!(found == next, "{found:?} does not come next");
        }
    }

    /// Reads or writes the next page that is memory of ours; hardware notes that.
    fn use_page(&mut self) {
        let vaddr = self.address(Level::LEAF);
        let write = self.random.below(2) == 0;
        let found =
            self.next(vaddr, |found| found.item.property.flags.contains(PageFlags::TRACKED));
        let Some(found) = found else { return };
        let (page, flags) = (found.pages.start, found.item.property.flags);
        let vaddr = address(page);
        if write {
            let written = self.machine.user_write(vaddr, 1);
            let may = flags.contains(PageFlags::WRITE);
            assert!(written == may, "{vaddr:?} was written: {written}, may be written: {may}");
            if may {
                self.expected.note(page, PageFlags::ACCESSED | PageFlags::DIRTY);
            }
        } else {
            assert!(self.machine.user_read(vaddr).is_some(), "{vaddr:?} cannot be read");
            self.expected.note(page, PageFlags::ACCESSED);
        }
        self.done.used += 1;
    }

    /// Looks at all of the user's half, under its locks and without any, page after page and all at
    /// once: every time the same pages have to be there.
    pub(crate) fn look_at_everything(&self) {
        let section = self.own.read_side();
        let root = self.space.borrow(&section);
        let half = Vaddr::new(0)..HALF_END;
        macro_rules! look_with {
            ($cursor:expr) => {
                let mut cursor = $cursor;
                let mut look = Look::at(&self.expected);
                while let Some(Slot { range, item: Some(page) }) = cursor.find_next() {
                    look.see(range.start, *page);
                    cursor.jump(range.end).expect("the page is in the half");
                }
                look.end();
                cursor.jump(half.start).expect("the half begins there");
                let mut look = Look::at(&self.expected);
                let visit = cursor.visit(half.end, |vaddr, page| look.see(vaddr, *page));
                visit.expect("the half ends there");
                look.end();
            };
        }
        look_with!(Cursor::lock(root, half.clone()).expect("there is memory enough"));
        look_with!(SharedCursor::new(root, half.clone()).expect("the half is the user's"));
    }
}

/// A look at all pages, in order.
struct Look<'a> {
    rest: Iter<'a, u64, RawItem>,
}

impl<'a> Look<'a> {
    fn at(expected: &'a Pages) -> Self {
        Self { rest: expected.mappings().iter() }
    }

    fn see(&mut self, vaddr: Vaddr, page: RawItem) {
        let expected = self.rest.next().map(|(start, page)| (address(*start), *page));
        let seen = Some((vaddr, page));
        assert!(seen == expected, "the core sees {seen:?}, and {expected:?} was made");
    }

    fn end(mut self) {
        let unseen = self.rest.next();
        assert!(unseen.is_none(), "the core does not see {unseen:?}");
    }
}

/// The item that a page of memory that is not counted is mapped as.
fn item(machine: &MetalMachine, page: RawItem) -> MappedItem<MetalMachine> {
    let RawItem { frame, level, property } = page;
    let page = machine.untracked_memory().page(frame, level, property);
    MappedItem::Untracked(page.expect("it is in memory"))
}

/// A page of a fresh frame.
fn tracked(machine: &MetalMachine, property: Property) -> (RawItem, MappedItem<MetalMachine>) {
    let frame = Frame::allocate(machine).expect("there is memory enough");
    machine.write_contents(frame.paddr(), 0);
    let mut page = RawItem { frame: frame.paddr(), level: Level::LEAF, property };
    page.property.flags.insert(PageFlags::TRACKED);
    (page, MappedItem::Tracked { frame, property })
}
