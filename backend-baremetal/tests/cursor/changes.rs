//! The operations that change a table, beside what the specification says of them.
//!
//! Each is carried out first, and then the specification is asked what should have come out. Only
//! a merge needs to know how low the node around the position is: the specification has no nodes.

use std::cell::Cell;
use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;

use weft_backend_baremetal::hosted::hardware_sets;
use weft_core::address::{FRAME_SIZE, Level, Paddr, Vaddr};
use weft_core::cursor::{Cursor, Protected};
use weft_core::error::{ChangeError, MapFault, MoveError, Refusal};
use weft_core::format::{EntryFormat, PageFlags, RawItem};
use weft_core::frame::Frame;
use weft_core::item::{MappedItem, Mark};
use weft_scenarios::specification::Memory;

use crate::architecture::{Architecture, Table};
use crate::fixture::{NOTED, number, number_in, page};
use crate::interpreter::{Expected, Run, reach};
use crate::program::{Change, Operation, Place, Rights, Step};
use crate::support::{online, untracked_at, untracked_memory};
use crate::watched::{Machine, at_flush};

/// How many pages one step maps at most, if they own their frames and if not.
const TRACKED_MAX: u64 = 40;
const PAGES_MAX: u64 = 600;

/// What a cursor does wrong, for the messages.
const UNLIKE: &str = "a cursor does not do as specified";
const ELSEWHERE: &str = "a cursor is elsewhere than specified";

type Locked<'g, G> = Cursor<'g, Table<G>>;
type Item<G> = MappedItem<Machine<G>>;

impl<'g, G: Architecture> Run<'_, 'g, G> {
    pub(crate) fn change(&mut self, cursor: &mut Locked<'g, G>, step: &Step) {
        let (range, position) = (cursor.range(), cursor.vaddr());
        let place = |place: Place| place.resolve::<G>(&range, position);
        let failure = step.failure;
        // Farther than this a step does not map.
        let rest = position..range.end;
        let nearer = |end: Place, pages: u64| {
            let [from, to] = [position, place(end)].map(|at| number_in::<G>(at, &rest));
            match from.zip(to) {
                Some((from, to)) if from + pages < to && place(end).is_aligned(FRAME_SIZE) => {
                    page::<G>(from + pages)
                }
                _ => place(end),
            }
        };
        match step.operation {
            Operation::Map { level, frame, rights } => {
                if let Some(item) = untracked::<G>(level, frame, place(frame), rights) {
                    self.map(cursor, item, failure);
                }
            }
            Operation::MapTracked(rights) => {
                self.map(cursor, tracked(self.machine, rights), failure)
            }
            Operation::Replace { level: Some(level), frame, rights } => {
                if let Some(item) = untracked::<G>(level, frame, place(frame), rights) {
                    self.replace(cursor, item, failure);
                }
            }
            Operation::Replace { level: None, rights, .. } => {
                self.replace(cursor, tracked(self.machine, rights), failure);
            }
            Operation::MapPages { end, frame, rights, others, misfit } => {
                let make = |index: u64| {
                    let is_misfit = misfit.is_some_and(|at| u64::from(at) == index);
                    let level = Level::new(if is_misfit { 2 } else { 1 });
                    let frame = Paddr::of_frame((u64::from(frame) + index) * 512);
                    untracked_at(frame, level, of_page(index, rights, others).property())
                };
                self.map_pages(cursor, nearer(end, PAGES_MAX), failure, make);
            }
            Operation::MapTrackedPages { end, rights, others } => {
                let end = nearer(end, TRACKED_MAX);
                // Beforehand: an allocation that fails is to be one of the cursor's.
                let [from, to] = [position, end].map(|at| number_in::<G>(at, &rest));
                let count = from.zip(to).map_or(0, |(from, to)| to.saturating_sub(from));
                let count = count.min(TRACKED_MAX);
                let make = |index| tracked(self.machine, of_page(index, rights, others));
                let mut items: VecDeque<Item<G>> = (0..count).map(make).collect();
                let make = |_| items.pop_front().expect("each page is asked for once");
                self.map_pages(cursor, end, failure, make);
            }
            Operation::TakeNext => self.take_next(cursor, failure),
            Operation::Unmap(end) => self.bulk(
                cursor,
                failure,
                |cursor| cursor.unmap(place(end)),
                |expected, memory| expected.unmap(place(end), memory),
            ),
            Operation::Protect(end, change) => self.bulk(
                cursor,
                failure,
                |cursor| cursor.protect(place(end), |old| change.of(old)),
                |expected, memory| expected.protect(place(end), |old| change.of(old), memory),
            ),
            Operation::ProtectNext(change) => self.protect_next(cursor, change, failure),
            Operation::Move { end, to } => self.move_pages(cursor, place(end), place(to), failure),
            Operation::Split => self.split(cursor, failure),
            Operation::Merge { part, writes } => self.merge(cursor, part, writes),
            _ => unreachable!("the others only look"),
        }
    }

    fn map(&mut self, cursor: &mut Locked<'g, G>, item: Item<G>, failure: Option<u8>) {
        let (range, position, handed_in) = (cursor.range(), cursor.vaddr(), raw(&item));
        let (mapped, memory) = self.failing(failure, || cursor.map(item));
        let mut expected = self.expected(&range, position);
        match (mapped, expected.map(handed_in, memory)) {
            (Ok(()), Ok(())) => {
                reach(if handed_in.level > Level::LEAF { "huge mapped" } else { "page mapped" });
            }
            (Err(refused), Err(expected)) => {
                reach(match refused.reason {
                    MapFault::Position(_) => "mapped at the end",
                    MapFault::AlreadyMapped { .. } => "mapped over",
                    MapFault::TooLong { .. } => "mapped too long",
                    MapFault::Misaligned { .. } => "mapped misaligned",
                    MapFault::NoPage { .. } => "mapped nowhere",
                    MapFault::Refused(_) => "mapped a misfit",
                    MapFault::OutOfMemory => "no memory to map",
                });
                assert_eq!(refused.reason, expected.reason, "{UNLIKE}");
                assert_eq!(raw(&refused.back), expected.back, "another item comes back");
            }
            (mapped, expected) => panic!("{UNLIKE}: {mapped:?}, {expected:?}"),
        }
        assert_eq!(cursor.vaddr(), expected.vaddr(), "{ELSEWHERE}");
    }

    fn replace(&mut self, cursor: &mut Locked<'g, G>, item: Item<G>, failure: Option<u8>) {
        let (range, position, handed_in) = (cursor.range(), cursor.vaddr(), raw(&item));
        let (replaced, memory) = self.failing(failure, || cursor.replace(item));
        let there = number_in::<G>(position, &range).and_then(|at| self.expected.at(at));
        let is_larger = there.is_some_and(|found| found.item.level > handed_in.level);
        let mut expected = self.expected(&range, position);
        match (replaced, expected.replace(handed_in, memory)) {
            (Ok(old), Ok(expected)) => {
                reach(if is_larger { "a part replaced" } else { "replaced" });
                match (expected.mark(), handed_in.mark()) {
                    (Some(_), _) => reach("a mark replaced"),
                    (None, Some(_)) => reach("replaced by a mark"),
                    (None, None) => {}
                }
                assert_eq!(*old, expected, "another page was replaced");
            }
            (Err(refused), Err(expected)) => {
                reach(match refused.reason {
                    MapFault::NoPage { .. } => "nothing to replace",
                    MapFault::OutOfMemory => "no memory to replace",
                    _ => "replaced by a misfit",
                });
                assert_eq!(refused.reason, expected.reason, "{UNLIKE}");
                assert_eq!(raw(&refused.back), expected.back, "another item comes back");
            }
            (replaced, expected) => panic!("{UNLIKE}: {replaced:?}, {expected:?}"),
        }
        assert_eq!(cursor.vaddr(), expected.vaddr(), "{ELSEWHERE}");
    }

    fn map_pages(
        &mut self,
        cursor: &mut Locked<'g, G>,
        end: Vaddr,
        failure: Option<u8>,
        mut make: impl FnMut(u64) -> Item<G>,
    ) {
        let (range, position) = (cursor.range(), cursor.vaddr());
        let mut made = VecDeque::new();
        let keep = |vaddr: Vaddr| {
            let [from, at] = [position, vaddr].map(|at| number::<G>(at).expect("a position"));
            let item = make(at - from);
            made.push_back((vaddr, raw(&item)));
            item
        };
        let (mapped, memory) = self.failing(failure, || cursor.map_pages(end, keep));
        let count = made.len();
        let mut expected = self.expected(&range, position);
        let again = |vaddr: Vaddr| {
            let (at, item) = made.pop_front().expect("an item is made for each page");
            assert_eq!(at, vaddr, "each page is asked for once, in order");
            item
        };
        match (mapped, expected.map_pages(end, again, memory)) {
            (Ok(()), Ok(())) => reach("many mapped"),
            (Err(refused), Err(expected)) => {
                reach(match (&refused.reason, &refused.back) {
                    (MapFault::OutOfMemory, _) => "no memory to map many",
                    (_, item) if count > usize::from(item.is_some()) => "many rolled back",
                    _ => "many refused",
                });
                assert_eq!(refused.reason, expected.reason, "{UNLIKE}");
                let back = refused.back.as_ref().map(raw);
                assert_eq!(back, expected.back, "another item comes back");
            }
            (mapped, expected) => panic!("{UNLIKE}: {mapped:?}, {expected:?}"),
        }
        let position = expected.vaddr();
        assert!(made.is_empty(), "an item is made that is not needed");
        assert_eq!(cursor.vaddr(), position, "{ELSEWHERE}");
    }

    /// Whether the mapping that comes next begins before the position or goes on behind the range.
    fn next_is_partial(&mut self, cursor: &Locked<'g, G>) -> bool {
        let range = cursor.range();
        let [from, to] =
            [cursor.vaddr(), range.end].map(|at| number_in::<G>(at, &range).expect("a position"));
        let rest = from..to;
        let next = self.expected.first(rest.clone());
        next.is_some_and(|it| it.pages.start < rest.start || it.pages.end > rest.end)
    }

    fn take_next(&mut self, cursor: &mut Locked<'g, G>, failure: Option<u8>) {
        let (range, position) = (cursor.range(), cursor.vaddr());
        let is_partial = self.next_is_partial(cursor);
        let (taken, memory) = self.failing(failure, || cursor.take_next());
        match &taken {
            Ok(Some(taken)) if taken.page.is_none() => reach("a node taken"),
            Ok(Some(_)) => reach(if is_partial { "a part taken" } else { "a page taken" }),
            Ok(None) => {}
            Err(_) => reach("no memory to take"),
        }
        let mut expected = self.expected(&range, position);
        assert_eq!(taken, expected.take_next(memory), "{UNLIKE}");
        assert_eq!(cursor.vaddr(), expected.vaddr(), "{ELSEWHERE}");
    }

    fn protect_next(&mut self, cursor: &mut Locked<'g, G>, change: Change, failure: Option<u8>) {
        let (range, position) = (cursor.range(), cursor.vaddr());
        let is_partial = self.next_is_partial(cursor);
        let change = |old| change.of(old);
        let (changed, memory) = self.failing(failure, || cursor.protect_next(change));
        match &changed {
            Ok(Some(_)) => reach(if is_partial { "a part protected" } else { "a page protected" }),
            Ok(None) => {}
            Err(_) => reach("no memory to protect the next"),
        }
        if let Ok(Some(Protected { before, .. })) = &changed {
            match (before.is_withheld(), change(*before).is_withheld()) {
                (false, true) => reach("withheld"),
                (true, false) => reach("given back"),
                _ => {}
            }
        }
        let mut expected = self.expected(&range, position);
        assert_eq!(changed, expected.protect_next(change, memory), "{UNLIKE}");
        assert_eq!(cursor.vaddr(), expected.vaddr(), "{ELSEWHERE}");
    }

    /// An operation on all pages up to an end that counts what was mapped there.
    fn bulk(
        &mut self,
        cursor: &mut Locked<'g, G>,
        failure: Option<u8>,
        change: impl FnOnce(&mut Locked<'g, G>) -> Result<u64, ChangeError>,
        specified: impl FnOnce(&mut Expected<'_, G>, Memory) -> Result<u64, ChangeError>,
    ) {
        let (range, position) = (cursor.range(), cursor.vaddr());
        let (counted, memory) = self.failing(failure, || change(cursor));
        reach(match counted {
            Ok(0) => "a range of nothing",
            Ok(_) => "a range changed",
            Err(ChangeError::OutOfMemory) => "no memory for a range of parts",
            Err(_) => "a range to nowhere",
        });
        let mut expected = self.expected(&range, position);
        assert_eq!(counted, specified(&mut expected, memory), "{UNLIKE}");
        assert_eq!(cursor.vaddr(), expected.vaddr(), "{ELSEWHERE}");
    }

    /// Whether a move would take so many parts that a program has no time for them: of a page
    /// that is larger than a leaf, and not aligned where it would be.
    fn has_many_parts(&self, range: &Range<Vaddr>, places: [Vaddr; 3]) -> bool {
        let [Some(position), Some(end), Some(to)] = places.map(|at| number_in::<G>(at, range))
        else {
            return false;
        };
        let distance = to.wrapping_sub(position);
        let is_many = |length: u64| length > 512 && !distance.is_multiple_of(length);
        position < end
            && self.expected.within(position..end).any(|it| is_many(it.pages.end - it.pages.start))
    }

    fn move_pages(
        &mut self,
        cursor: &mut Locked<'g, G>,
        end: Vaddr,
        to: Vaddr,
        failure: Option<u8>,
    ) {
        let (range, position) = (cursor.range(), cursor.vaddr());
        if self.has_many_parts(&range, [position, end, to]) {
            return;
        }
        let (moved, memory) = self.failing(failure, || cursor.move_pages(end, to));
        reach(match moved {
            Ok(0) => "moved nothing",
            Ok(_) => "moved",
            Err(MoveError::Overlap { .. }) => "moved onto itself",
            Err(MoveError::AlreadyMapped { .. }) => "moved onto something",
            Err(MoveError::OutOfMemory) => "no memory to move",
            Err(_) => "moved from or to nowhere",
        });
        let at = number_in::<G>(position, &range).expect("a position");
        let was_huge = self.expected.at(at).is_some_and(|found| found.item.level > Level::LEAF);
        let mut expected = self.expected(&range, position);
        assert_eq!(moved, expected.move_pages(end, to, memory), "{UNLIKE}");
        assert_eq!(cursor.vaddr(), expected.vaddr(), "{ELSEWHERE}");
        if was_huge && moved.is_ok_and(|frames| frames > 0) {
            let first = number_in::<G>(to, &range).and_then(|to| self.expected.at(to));
            let is_huge = first.is_some_and(|found| found.item.level > Level::LEAF);
            reach(if is_huge { "a huge page moved" } else { "parts moved" });
        }
    }

    fn split(&mut self, cursor: &mut Locked<'g, G>, failure: Option<u8>) {
        let (range, position) = (cursor.range(), cursor.vaddr());
        let (split, memory) = self.failing(failure, || cursor.split());
        reach(match split {
            Ok(()) => "split",
            Err(ChangeError::OutOfMemory) => "no memory to split",
            Err(_) => "not split",
        });
        let there = number_in::<G>(position, &range).and_then(|at| self.expected.at(at));
        if split.is_ok() && there.is_some_and(|huge| huge.item.mark().is_some()) {
            reach("a mark split");
        }
        let mut expected = self.expected(&range, position);
        assert_eq!(split, expected.split(memory), "{UNLIKE}");
        assert_eq!(cursor.vaddr(), position, "{ELSEWHERE}");
    }

    /// Hardware has the upper levels of the walk in its caches. So up to the flush it uses, or
    /// writes, a part of the node that is taken out.
    fn merge(&mut self, cursor: &mut Locked<'g, G>, part: u8, writes: bool) {
        let (range, position) = (cursor.range(), cursor.vaddr());
        let node = self.lowest(position);
        let index = usize::from(part) % G::ENTRIES;
        let noted = Rc::new(Cell::new(PageFlags::empty()));
        let (machine, owned, note) = (*self.machine, node.to_owned(), noted.clone());
        at_flush(Some(Box::new(move || {
            let other = online(&machine, 1);
            let section = other.read_side();
            let both = G::Format::HARDWARE_BITS;
            let (bits, flags) = if writes {
                (both, NOTED)
            } else {
                (both & both.wrapping_neg(), PageFlags::ACCESSED)
            };
            hardware_sets(owned.borrow(&section), index, bits);
            note.set(flags);
        })));
        let merged = cursor.merge();
        at_flush(None);
        let at = number_in::<G>(position, &range).expect("a position");
        let start = at / G::entry_frames(node.level()) / G::ENTRIES as u64;
        let start = (start * G::ENTRIES as u64 + index as u64) * G::entry_frames(node.level());
        reach(match &merged {
            Ok(()) if noted.get().is_empty() => "merged without a flush",
            Ok(()) => "merged",
            Err(ChangeError::Position(_)) => "merged at the end",
            Err(ChangeError::NotANode) => "merged no node",
            Err(ChangeError::NotUniform { .. }) => "merged unlike pages",
            Err(ChangeError::Tracked) => "merged owners",
            Err(_) => "merged misfits",
        });
        self.note(start, noted.get());
        let mut expected = self.expected(&range, position);
        assert_eq!(merged, expected.merge(node.level()), "{UNLIKE}");
        assert_eq!(cursor.vaddr(), position, "{ELSEWHERE}");
    }
}

/// Some pages of a run differ from the others, and some of those are next to each other.
fn of_page(index: u64, rights: Rights, others: Option<Rights>) -> Rights {
    others.filter(|_| index % 5 > 2).unwrap_or(rights)
}

/// Why there is no such page of memory that holds no frames, if so.
fn no_page<G: Architecture>(frame: Paddr, level: Level) -> Option<Refusal> {
    if level > G::ROOT {
        return Some(Refusal::NoPagesHere { entry: level });
    }
    let is_beyond = u64::MAX - G::entry_span(level) < frame.as_u64();
    is_beyond.then_some(Refusal::OutOfRange { frame })
}

/// A page that owns nothing, if there is such a page.
fn untracked<G: Architecture>(
    level: u8,
    frame: Place,
    at: Vaddr,
    rights: Rights,
) -> Option<Item<G>> {
    let level = if level < 240 { 1 + level % G::PAGE_LEVELS } else { level };
    let alignment = G::entry_span(Level::new(G::PAGE_LEVELS)).max(1 << 30);
    let at = at.as_u64();
    let frame = match frame {
        Place::Raw(_) => Paddr::new(at),
        _ => Paddr::new((at - at % alignment) % (1 << 50)),
    };
    let (level, property) = (Level::new(level), rights.property());
    if property.flags.contains(PageFlags::MARK) {
        let mark = Mark::new(frame.frame_number(), level, property).expect("a frame's number fits");
        return Some(MappedItem::Mark(mark));
    }
    let made = untracked_memory::<Machine<G>>().page(frame, level, property);
    match (made, no_page::<G>(frame, level)) {
        (Ok(page), None) => Some(MappedItem::Untracked(page)),
        (Err(refusal), expected) => {
            assert_eq!(Some(refusal), expected);
            reach("no such page");
            None
        }
        (Ok(page), Some(refusal)) => panic!("{page:?} was made, although {refusal}"),
    }
}

fn tracked<G: Architecture>(machine: &Machine<G>, rights: Rights) -> Item<G> {
    let frame = Frame::allocate(machine).expect("frames enough");
    MappedItem::Tracked { frame, property: rights.property() }
}

/// An item as it is handed in, with who owns its frame.
fn raw<G: Architecture>(item: &Item<G>) -> RawItem {
    let none = PageFlags::empty();
    let (frame, level, mut property, kind) = match item {
        MappedItem::Tracked { frame, property } => {
            (frame.paddr(), Level::LEAF, *property, PageFlags::TRACKED)
        }
        MappedItem::Untracked(page) => (page.frame(), page.level(), page.property(), none),
        MappedItem::Mark(mark) => {
            let kind = PageFlags::MARK | PageFlags::WITHHELD;
            (Paddr::of_frame(mark.value()), mark.level(), mark.property(), kind)
        }
    };
    property.flags &= PageFlags::all() - PageFlags::MARK - PageFlags::TRACKED;
    property.flags |= kind;
    RawItem { frame, level, property }
}
