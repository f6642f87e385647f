//! Random changes of a user's table, with cursors, and of a map of what it should be.
//!
//! Pages of all three sizes, tracked and untracked, with all sorts of rights and cache policies;
//! one at a time and many at once; ranges that begin and end in the middle of huge pages, so that
//! these are split. What every operation answers is compared with the map at once: how many frames
//! were unmapped, what is in the way, what a page was before. The processor runs on the table and
//! uses its pages, and hardware notes that. Nobody here flushes anything.

use alloc::collections::btree_map::Iter;
use core::ops::Range;

use weft_core::address::{FRAME_SIZE, Level, Paddr, Vaddr};
use weft_core::cpu::Cpu;
use weft_core::cursor::{Cursor, Slot};
use weft_core::error::MapFault;
use weft_core::format::{CachePolicy, PageFlags, Property, RawItem};
use weft_core::geometry::{FourLevels, Geometry};
use weft_core::item::{Frame, MappedItem};
use weft_core::node::Node;
use weft_core::shared::SharedCursor;
use weft_scenarios::tables::UserTable;
use weft_scenarios::world::World;

use super::pages::{NOTED, Pages, slot};
use crate::services::metal::MetalMachine;
use crate::services::random::Random;

/// The most huge pages that are split: each becomes 512 pages.
const SPLITS_MAX: u64 = 40;
/// Bits of physical addresses that pages are given. Nobody uses those that are not memory.
const PHYSICAL_BITS: u32 = 40;
/// Binary logarithm of the most pages that are mapped at once.
const RUN_BITS: u32 = 7;
/// The most pages that get frames of their own at once.
const TRACKED_RUN_MAX: u64 = 32;
/// Where the user's half ends.
const HALF_END: Vaddr = Vaddr::new(1 << 47);

pub(crate) type Table = UserTable<MetalMachine>;

/// The table under construction, and what it should be.
pub(crate) struct Builder {
    pub(crate) machine: MetalMachine,
    pub(crate) root: Node<Table>,
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
        let splits = self.done.split + self.expected.splits_max(&range);
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
        let mut flags = PageFlags::from_bits_truncate(self.random.below(256) as u8);
        flags.remove(PageFlags::TRACKED);
        Property { flags, cache: policies[self.random.below(6) as usize] }
    }

    /// A page of memory that nobody counts, somewhere.
    fn untracked(&mut self, level: Level) -> RawItem {
        let (span, random) = (FourLevels::entry_span(level), self.random.next());
        let frame = Paddr::new(random & ((1 << PHYSICAL_BITS) - 1) & !(span - 1));
        RawItem { frame, level, property: self.property() }
    }

    /// Changes a locked range.
    fn with_cursor<T>(
        &mut self,
        range: &Range<Vaddr>,
        change: impl FnOnce(&mut Cursor<'_, Table>, &mut Pages, &mut Counts) -> T,
    ) -> T {
        let section = self.own.read_side();
        let cursor = Cursor::lock(self.root.borrow(&section), range.clone());
        let mut cursor = cursor.expect("there is memory enough");
        change(&mut cursor, &mut self.expected, &mut self.done)
    }

    /// Maps a page. What is in the way has to be named, and is unmapped then.
    fn map(&mut self) {
        let level = self.level();
        let vaddr = self.address(level);
        let range = vaddr..vaddr.plus(FourLevels::entry_span(level));
        if self.done.split + self.expected.splits_max(&range) > SPLITS_MAX {
            return;
        }
        let mut page = self.untracked(level);
        let mut item = item(page);
        if level == Level::LEAF && self.random.below(4) == 0 {
            (page, item) = tracked(&self.machine, page.property);
        }
        self.with_cursor(&range, |cursor, expected, done| {
            if let Some((first, _)) = expected.first(&range) {
                let vaddr = Vaddr::new(first).max(vaddr);
                let refused = cursor.map(item).expect_err("something is mapped there");
                assert!(refused.fault == MapFault::AlreadyMapped { vaddr }, "{refused}");
                item = refused.item;
                done.refused += 1;
                done.split += expected.split_edges(&range);
                assert!(cursor.unmap(range.end) == Ok(expected.frames(&range)), "{range:?}");
                expected.remove(&range);
                cursor.jump(range.start).expect("the range begins there");
            }
            cursor.map(item).expect("nothing is in the way");
            expected.add(vaddr, page);
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
            let mut made = Pages::default();
            let mapped = cursor.map_pages(range.end, |vaddr| {
                let bytes = vaddr.as_u64() - start.as_u64();
                let (page, item) = if is_tracked {
                    tracked(&machine, first_page.property)
                } else {
                    let page = RawItem { frame: first_page.frame.plus(bytes), ..first_page };
                    (page, item(page))
                };
                made.add(vaddr, page);
                item
            });
            match (mapped, expected.first(&range)) {
                (Ok(()), None) => {
                    done.mapped += made.0.len() as u64;
                    expected.0.extend(made.0);
                }
                (Err(refused), Some((first, _))) => {
                    let vaddr = Vaddr::new(first).max(start);
                    assert!(refused.fault == MapFault::AlreadyMapped { vaddr }, "{refused}");
                    done.refused += 1;
                }
                (Ok(()), Some(_)) => panic!("pages were mapped over others in {range:?}"),
                (Err(refused), None) => panic!("{range:?} was refused: {refused}"),
            }
        });
    }

    /// Unmaps a range at once.
    fn unmap(&mut self) {
        let Some(range) = self.range() else { return };
        self.with_cursor(&range, |cursor, expected, done| {
            done.split += expected.split_edges(&range);
            let frames = expected.frames(&range);
            assert!(cursor.unmap(range.end) == Ok(frames), "{frames} are mapped in {range:?}");
            expected.remove(&range);
            done.unmapped += frames;
        });
    }

    /// Unmaps a range, one thing after the other.
    fn take(&mut self) {
        let Some(range) = self.range() else { return };
        self.with_cursor(&range, |cursor, expected, done| {
            done.split += expected.split_edges(&range);
            while let Some(taken) = cursor.take_next().expect("there is memory enough") {
                let frames = expected.frames(&taken.range);
                assert!(taken.frames == frames && frames > 0, "{frames} are mapped: {taken:?}");
                match taken.page {
                    Some(page) => assert!(
                        expected.0.get(&taken.range.start.as_u64()) == Some(&page),
                        "another page was known: {taken:?}"
                    ),
                    None => done.subtrees += 1,
                }
                expected.remove(&taken.range);
                done.unmapped += frames;
            }
            assert!(expected.first(&range).is_none(), "something was left in {range:?}");
        });
    }

    /// Gives all pages of a range another property.
    fn protect(&mut self) {
        let Some(range) = self.range() else { return };
        let property = self.property();
        self.with_cursor(&range, |cursor, expected, done| {
            done.split += expected.split_edges(&range);
            let frames = expected.frames(&range);
            assert!(
                cursor.protect(range.end, |_| property) == Ok(frames),
                "{frames} are mapped in {range:?}"
            );
            let inside = range.start.as_u64()..range.end.as_u64();
            for (_, page) in expected.0.range_mut(inside) {
                set_property(page, property);
                done.protected += 1;
            }
        });
    }

    /// Gives the next page another property, or the part of it that the range has.
    fn protect_one(&mut self) {
        let Some(range) = self.range() else { return };
        let property = self.property();
        self.with_cursor(&range, |cursor, expected, done| {
            let protected = cursor.protect_next(|_| property).expect("there is memory enough");
            let Some(protected) = protected else {
                assert!(expected.first(&range).is_none(), "a page was not found in {range:?}");
                return;
            };
            done.split += expected.split_edges(&protected.range);
            let start = protected.range.start.as_u64();
            let page = expected.0.get_mut(&start).expect("the page is known");
            assert!(slot(start, page) == protected.range, "{page:?} is not {protected:?}");
            assert!(page.property == protected.before, "{page:?} was not {protected:?}");
            set_property(page, property);
            done.protected += 1;
        });
    }

    /// Splits the next huge page, and merges its parts again every other time; or tries to merge
    /// whatever is at some address.
    fn split_and_merge(&mut self) {
        let vaddr = self.address(Level::LEAF);
        let mut next = self.expected.0.range(vaddr.as_u64()..);
        let huge = next.find(|(_, page)| page.level > Level::LEAF);
        let huge = huge.map(|(&start, page)| (Vaddr::new(start), page.level));
        let (vaddr, level) = huge.unwrap_or((vaddr, Level::new(2)));
        let span = FourLevels::entry_span(level);
        let start = vaddr.align_down(span);
        let range = start..start.plus(span);
        let may_split = huge.is_some() && self.done.split < SPLITS_MAX;
        let merges = !may_split || self.random.below(2) == 0;
        self.with_cursor(&range, |cursor, expected, done| {
            if may_split {
                cursor.split().expect("a huge page is there");
                expected.split(vaddr.as_u64());
                done.split += u64::from(!merges);
            }
            let merged = merges.then(|| expected.merged(&range, level));
            if let Some(merged) = merged {
                let result = cursor.merge();
                assert!(result.is_ok() == merged.is_some(), "{result:?} of {range:?}");
                if let Some(page) = merged {
                    expected.remove(&range);
                    expected.add(start, page);
                    done.merged += 1;
                }
            }
        });
    }

    /// Asks for what is at an address, and for what comes next, with and without locks.
    fn ask(&mut self) {
        let Some(range) = self.range() else { return };
        let section = self.own.read_side();
        let root = self.root.borrow(&section);
        let mut shared = SharedCursor::new(root, range.clone()).expect("the range is the user's");
        let mut cursor = Cursor::lock(root, range.clone()).expect("there is memory enough");
        for found in [shared.query(), cursor.query()] {
            let found = found.expect("the range is not empty");
            assert!(self.is_right(range.start, &found), "{found:?} is not what was made");
        }
        for found in [shared.find_next(), cursor.find_next()] {
            let found = found.map(|slot| (slot.range.start.as_u64(), *slot.item.expect("a page")));
            assert!(found == self.expected.first(&range), "{found:?} does not come next");
        }
    }

    fn is_right(&self, vaddr: Vaddr, found: &Slot<'_, Table>) -> bool {
        match (self.expected.around(vaddr), &found.item) {
            (Some((start, page)), Some(item)) => {
                **item == page && found.range == slot(start, &page)
            }
            (None, None) => {
                found.range.contains(&vaddr) && self.expected.first(&found.range).is_none()
            }
            _ => false,
        }
    }

    /// Reads or writes the next page that is memory of ours; hardware notes that. What is global
    /// is left alone: its translation would survive the user.
    fn use_page(&mut self) {
        let vaddr = self.address(Level::LEAF);
        let write = self.random.below(2) == 0;
        let is_used = |page: &RawItem| {
            let flags = page.property.flags;
            flags.contains(PageFlags::TRACKED) && !flags.contains(PageFlags::GLOBAL)
        };
        let mut next = self.expected.0.range_mut(vaddr.as_u64()..);
        let Some((&vaddr, page)) = next.find(|(_, page)| is_used(page)) else { return };
        let (vaddr, flags) = (Vaddr::new(vaddr), &mut page.property.flags);
        if write {
            let written = self.machine.user_write(vaddr, 1);
            let may = flags.contains(PageFlags::WRITE);
            assert!(written == may, "{vaddr:?} was written: {written}, may be written: {may}");
            if may {
                flags.insert(NOTED);
            }
        } else {
            assert!(self.machine.user_read(vaddr).is_some(), "{vaddr:?} cannot be read");
            flags.insert(PageFlags::ACCESSED);
        }
        self.done.used += 1;
    }

    /// Looks at all of the user's half, under its locks and without any, page after page and all at
    /// once: every time the same pages have to be there.
    pub(crate) fn look_at_everything(&self) {
        let section = self.own.read_side();
        let root = self.root.borrow(&section);
        let half = Vaddr::new(0)..HALF_END;
        let mut cursor = Cursor::lock(root, half.clone()).expect("there is memory enough");
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
        drop(cursor);
        let mut cursor = SharedCursor::new(root, half.clone()).expect("the half is the user's");
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
    }
}

/// A look at all pages, in order.
struct Look<'a> {
    rest: Iter<'a, u64, RawItem>,
}

impl<'a> Look<'a> {
    fn at(expected: &'a Pages) -> Self {
        Self { rest: expected.0.iter() }
    }

    fn see(&mut self, vaddr: Vaddr, page: RawItem) {
        let expected = self.rest.next().map(|(vaddr, page)| (*vaddr, *page));
        let seen = Some((vaddr.as_u64(), page));
        assert!(seen == expected, "the core sees {seen:x?}, and {expected:x?} was made");
    }

    fn end(mut self) {
        let unseen = self.rest.next();
        assert!(unseen.is_none(), "the core does not see {unseen:x?}");
    }
}

/// The item that a page of memory that nobody counts is mapped as.
fn item(page: RawItem) -> MappedItem<MetalMachine> {
    let RawItem { frame, level, property } = page;
    MappedItem::Untracked { frame, level, property }
}

/// A page of a fresh frame.
fn tracked(machine: &MetalMachine, property: Property) -> (RawItem, MappedItem<MetalMachine>) {
    let frame = Frame::allocate(machine).expect("there is memory enough");
    let mut page = RawItem { frame: frame.paddr(), level: Level::LEAF, property };
    page.property.flags.insert(PageFlags::TRACKED);
    (page, MappedItem::Tracked { frame, property })
}

/// Gives a page another property; whether it owns its frame stays.
fn set_property(page: &mut RawItem, mut property: Property) {
    property.flags |= page.property.flags & PageFlags::TRACKED;
    page.property = property;
}
