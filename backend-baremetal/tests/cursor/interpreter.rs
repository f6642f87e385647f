//! Runs a program on a table and on the reference, and compares what they say.
//!
//! Every result is compared as it comes, errors with their values included. After an allocation
//! that was made to fail, the table has to be as before at once, and no frame in use. After some of
//! the transactions, and at the end, all of the table is read in three ways: entry by entry, by a
//! cursor, and by a shared cursor; then every frame in use has to be a node's or a mapping's.
//!
//! What only looks is here, what changes the table is in [`crate::changes`].

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Range;

use arbitrary::{Arbitrary, Unstructured};
use weft_backend_baremetal::hosted::hardware_sets;
use weft_core::address::{FRAME_SIZE, Level, Vaddr};
use weft_core::cpu::Cpu;
use weft_core::cursor::{Cursor, Slot};
use weft_core::entry::ChildRef;
use weft_core::error::{FindError, PositionError, RangeError};
use weft_core::format::{EntryFormat, PageFlags, RawItem};
use weft_core::node::Node;
use weft_core::range_lock::{lock_covering, try_lock_covering};
use weft_core::shared::SharedCursor;

use crate::architecture::{Architecture, Whole};
use crate::fixture::{NOTED, Root, assert_sound, dump, everything, lock, page, pages};
use crate::program::{Operation, Place, Program, Step, Transaction, Way};
use crate::reference::{Found, Reference};
use crate::support::{Machine, live, node, online};

/// Longer programs are cut off: so many transactions, and so many steps of each.
const TRANSACTIONS_MAX: usize = 25;
const STEPS_MAX: usize = 20;
/// All of the table is read after each so many transactions.
const CHECKED_EVERY: usize = 4;

/// Runs a program on a new table of `machine`.
///
/// # Panics
///
/// If table and reference do not agree, or frames are lost.
pub(crate) fn run<G: Architecture>(machine: &Machine<G>, program: &Program) {
    machine.processors().cancel_failure();
    let mut cpu = online(machine, 0);
    quiesce(&mut cpu);
    let before = live(machine);
    let root: Node<Whole<G>> = node(machine, G::ROOT);
    let mut reference = Reference::new();
    for (number, transaction) in program.transactions.iter().take(TRANSACTIONS_MAX).enumerate() {
        let section = cpu.read_side();
        let mut run = Run { machine, root: root.borrow(&section), reference: &mut reference };
        run.transaction(transaction);
        drop(section);
        if transaction.quiesces {
            cpu.quiescent();
        }
        if number % CHECKED_EVERY == CHECKED_EVERY - 1 {
            check(machine, &mut cpu, &root, &mut reference, before);
        }
    }
    check(machine, &mut cpu, &root, &mut reference, before);
    drop(root);
    quiesce(&mut cpu);
    assert_eq!(live(machine), before, "a table that is dropped gives back every frame");
}

/// Runs the program that bytes stand for.
///
/// # Panics
///
/// As [`run`].
pub(crate) fn run_bytes<G: Architecture>(machine: &Machine<G>, data: &[u8]) {
    // Bytes that run out make an end: there is a program for all of them.
    if let Ok(program) = Program::arbitrary(&mut Unstructured::new(data)) {
        run(machine, &program);
    }
}

/// Lets everything go that waits, with no section open.
fn quiesce<G: Architecture>(cpu: &mut Cpu<Machine<G>>) {
    cpu.quiescent();
    cpu.quiescent();
}

fn check<G: Architecture>(
    machine: &Machine<G>,
    cpu: &mut Cpu<Machine<G>>,
    root: &Node<Whole<G>>,
    reference: &mut Reference<G>,
    before: u64,
) {
    quiesce(cpu);
    let section = cpu.read_side();
    let run = Run { machine, root: root.borrow(&section), reference };
    run.compare_all();
    let nodes = dump(run.root).nodes.len() as u64;
    let owned = nodes + run.reference.tracked();
    assert_eq!(live(machine) - before, owned, "a frame in use is a node or is mapped");
}

thread_local! {
    static REACHED: RefCell<BTreeSet<&'static str>> = const { RefCell::new(BTreeSet::new()) };
}

/// Notes a situation that programs are to get into.
pub(crate) fn reach(situation: &'static str) {
    REACHED.with_borrow_mut(|reached| reached.insert(situation));
}

/// The situations that programs of this thread got into.
pub(crate) fn reached() -> BTreeSet<&'static str> {
    REACHED.take()
}

/// The page that an address is in.
pub(crate) fn number(vaddr: Vaddr) -> u64 {
    vaddr.as_u64() / FRAME_SIZE
}

/// A table, the reference that it is compared with, and what they are on.
pub(crate) struct Run<'r, 'g, G: Architecture> {
    pub(crate) machine: &'r Machine<G>,
    pub(crate) root: Root<'g, G>,
    pub(crate) reference: &'r mut Reference<G>,
}

impl<'g, G: Architecture> Run<'_, 'g, G> {
    fn transaction(&mut self, transaction: &Transaction) {
        let range = transaction.range.resolve::<G>();
        let expected = range_error::<G>(&range);
        if transaction.way == Way::Shared {
            match SharedCursor::new(self.root, range) {
                Ok(cursor) => {
                    assert_eq!(expected, None, "a bad range was taken");
                    self.look(cursor, &transaction.steps);
                }
                Err(error) => assert_eq!(Some(error), expected),
            }
            return;
        }
        let enter = match transaction.way {
            Way::Covering(level) => {
                return self.lock_one(range.start, Level::new(level.max(1)), transaction.failure);
            }
            Way::TryLock => Cursor::try_lock,
            _ => Cursor::lock,
        };
        let (root, asked) = (self.root, range.clone());
        let (cursor, failed) = self.failing(transaction.failure, || enter(root, asked));
        let cursor = match cursor {
            Err(RangeError::OutOfMemory) if failed => {
                reach("no memory for a range");
                enter(root, range)
            }
            other => other,
        };
        match cursor {
            Ok(mut cursor) => {
                assert_eq!(expected, None, "a bad range was taken");
                for step in transaction.steps.iter().take(STEPS_MAX) {
                    self.step(&mut cursor, step);
                }
            }
            Err(error) => assert_eq!(Some(error), expected),
        }
    }

    /// Locks one node, and leaves the table without the nodes that were grown for it.
    fn lock_one(&mut self, vaddr: Vaddr, level: Level, failure: Option<u8>) {
        let root = self.root;
        let (found, failed) = self.failing(failure, || lock_covering(root, vaddr, level));
        let expected = match () {
            () if level > G::ROOT => Some(FindError::NoSuchLevel { level }),
            () if !G::covers(vaddr) => Some(FindError::NotManaged { vaddr }),
            () if failed => Some(FindError::OutOfMemory),
            () => None,
        };
        match found {
            Ok(guard) => {
                assert_eq!(expected, None, "a node was found where none is");
                assert_eq!(guard.level(), self.lowest(vaddr).level().max(level));
                let again = try_lock_covering(root, vaddr, level).err();
                assert_eq!(again, Some(FindError::WouldWait), "the node is not locked");
                drop(guard);
                let start = vaddr.align_down(FRAME_SIZE);
                drop(lock(root, start..start.plus(FRAME_SIZE)));
            }
            Err(error) => assert_eq!(Some(error), expected),
        }
    }

    /// Runs `body` while one of its allocations fails, if one is to. Says whether it did.
    pub(crate) fn failing<R>(
        &mut self,
        failure: Option<u8>,
        body: impl FnOnce() -> R,
    ) -> (R, bool) {
        let before = live(self.machine);
        if let Some(allocations) = failure {
            self.machine.processors().fail_after(allocations.into());
        }
        let result = body();
        let failed = failure.is_some() && !self.machine.processors().cancel_failure();
        if failed {
            assert_eq!(live(self.machine), before, "a failure keeps frames");
            self.compare_pages();
        }
        (result, failed)
    }

    fn step(&mut self, cursor: &mut Cursor<'g, Whole<G>>, step: &Step) {
        let (range, position) = (cursor.range().clone(), cursor.vaddr());
        let place = |place: Place| place.resolve::<G>(&range, position);
        match step.operation {
            Operation::Query => self.compare_slot(cursor.query(), position, &range),
            Operation::FindNext => {
                let found = cursor.find_next();
                self.compare_next(found, cursor.vaddr(), position, &range);
            }
            Operation::Jump(to) => {
                let to = place(to);
                let jumped = cursor.jump(to);
                assert_eq!(jumped, position_error(to, &range).map_or(Ok(()), Err));
                assert_eq!(cursor.vaddr(), if jumped.is_ok() { to } else { position });
            }
            Operation::Visit(end) => {
                let mut seen = Vec::new();
                let visited = cursor.visit(place(end), |at, item| seen.push((at, *item)));
                self.compare_visit(&seen, visited, position..place(end), &range);
                assert_eq!(
                    cursor.vaddr(),
                    if visited_to(&range, position, place(end)) { place(end) } else { position }
                );
            }
            Operation::Flush => cursor.flush(),
            Operation::Hardware { at, writes } => self.hardware(place(at), writes),
            _ => self.change(cursor, step),
        }
        assert!(cursor.vaddr() >= range.start && cursor.vaddr() <= range.end);
        assert!(cursor.vaddr().is_aligned(FRAME_SIZE));
    }

    /// What a shared cursor shows.
    fn look(&mut self, mut cursor: SharedCursor<'g, Whole<G>>, steps: &[Step]) {
        let range = cursor.range().clone();
        for step in steps.iter().take(STEPS_MAX) {
            let position = cursor.vaddr();
            let place = |place: Place| place.resolve::<G>(&range, position);
            match step.operation {
                Operation::Query => self.compare_slot(cursor.query(), position, &range),
                Operation::FindNext => {
                    let found = cursor.find_next();
                    self.compare_next(found, cursor.vaddr(), position, &range);
                }
                Operation::Jump(to) => {
                    let to = place(to);
                    let jumped = cursor.jump(to);
                    assert_eq!(jumped, position_error(to, &range).map_or(Ok(()), Err));
                    assert_eq!(cursor.vaddr(), if jumped.is_ok() { to } else { position });
                }
                Operation::Visit(end) => {
                    let mut seen = Vec::new();
                    let visited = cursor.visit(place(end), |at, item| seen.push((at, *item)));
                    self.compare_visit(&seen, visited, position..place(end), &range);
                }
                Operation::Hardware { at, writes } => self.hardware(place(at), writes),
                _ => {}
            }
        }
    }

    /// Hardware uses or writes the page at an address, if there is one.
    fn hardware(&mut self, vaddr: Vaddr, writes: bool) {
        if !G::covers(vaddr) {
            return;
        }
        let both = G::Format::HARDWARE_BITS;
        let accessed = both & both.wrapping_neg();
        let (bits, flags) = match writes {
            true => (both, NOTED),
            false => (accessed, PageFlags::ACCESSED),
        };
        let node = self.lowest(vaddr);
        hardware_sets(node, G::index(vaddr, node.level()), bits);
        self.reference.note(number(vaddr), flags);
    }

    /// The lowest node with an entry for an address.
    pub(crate) fn lowest(&self, vaddr: Vaddr) -> Root<'g, G> {
        let mut node = self.root;
        while let ChildRef::Node(child) = node.walk(G::index(vaddr, node.level())) {
            node = child;
        }
        node
    }

    fn compare_slot(
        &self,
        slot: Result<Slot<'g, Whole<G>>, PositionError>,
        position: Vaddr,
        range: &Range<Vaddr>,
    ) {
        if position == range.end {
            assert_eq!(slot.err(), Some(PositionError::AtEnd { end: range.end }));
            return;
        }
        let slot = slot.expect("the position is before the end");
        assert_eq!(slot.item.map(|item| *item), self.reference.at(number(position)).map(|it| it.1));
        let span = G::entry_span(self.lowest(position).level());
        let start = position.align_down(span);
        assert_eq!(slot.range, start..start.plus(span), "another entry is shown");
    }

    fn compare_next(
        &self,
        found: Option<Slot<'g, Whole<G>>>,
        now: Vaddr,
        position: Vaddr,
        range: &Range<Vaddr>,
    ) {
        let next = self.reference.first(number(position)..number(range.end));
        let Some((mapped, item)) = next else {
            assert!(found.is_none(), "something was found where nothing is: {found:?}");
            assert_eq!(now, range.end);
            return;
        };
        let slot = found.expect("something is mapped there");
        assert_eq!(slot.item.map(|item| *item), Some(item));
        assert_eq!((slot.range, now), (pages(mapped.clone()), page(mapped.start).max(position)));
    }

    fn compare_visit(
        &self,
        seen: &[(Vaddr, RawItem)],
        visited: Result<(), PositionError>,
        asked: Range<Vaddr>,
        range: &Range<Vaddr>,
    ) {
        let rest = asked.start..range.end;
        assert_eq!(visited, position_error(asked.end, &rest).map_or(Ok(()), Err));
        if visited.is_ok() {
            let there = self.reference.within(number(asked.start)..number(asked.end));
            let there = there.into_iter().map(|(mapped, item)| (page(mapped.start), item));
            assert!(there.eq(seen.iter().copied()), "a visit shows something else: {seen:?}");
        } else {
            assert!(seen.is_empty(), "a refused visit shows something");
        }
    }

    /// Compares all pages, entry by entry.
    fn compare_pages(&self) {
        let found = dump(self.root).pages;
        let expected = self.reference.all().map(|(start, item)| (page(start), item));
        assert!(found.iter().copied().eq(expected), "table and reference differ: {found:?}");
    }

    /// Compares all of the table, three times, and looks at every node.
    fn compare_all(&self) {
        self.compare_pages();
        assert_sound(self.root);
        let range = everything::<G>();
        let mut seen = Vec::new();
        let mut cursor = lock(self.root, range.clone());
        cursor.visit(range.end, |at, item| seen.push((at, *item))).expect("the end of the range");
        drop(cursor);
        self.compare_visit(&seen, Ok(()), range.clone(), &range);
        let mut shared = SharedCursor::new(self.root, range.clone()).expect("all is a range");
        seen.clear();
        shared.visit(range.end, |at, item| seen.push((at, *item))).expect("the end of the range");
        self.compare_visit(&seen, Ok(()), range.clone(), &range);
        assert_sound(self.root);
    }

    /// The mapping that comes next at or after the position, and the first page of it that the
    /// rest of the range has.
    pub(crate) fn next(&self, position: Vaddr, end: Vaddr) -> Option<(u64, Found)> {
        let found = self.reference.first(number(position)..number(end))?;
        Some((found.0.start.max(number(position)), found))
    }
}

/// Whether `end` is a position of the rest of a range.
fn visited_to(range: &Range<Vaddr>, position: Vaddr, end: Vaddr) -> bool {
    position_error(end, &(position..range.end)).is_none()
}

/// Why `vaddr` is no position of `range`, if so.
pub(crate) fn position_error(vaddr: Vaddr, range: &Range<Vaddr>) -> Option<PositionError> {
    if vaddr < range.start || vaddr > range.end {
        Some(PositionError::Outside { vaddr, range: range.clone() })
    } else if !vaddr.as_u64().is_multiple_of(FRAME_SIZE) {
        Some(PositionError::Unaligned { vaddr })
    } else {
        None
    }
}

/// Why a range is none of a table that manages all of its root, if so.
fn range_error<G: Architecture>(range: &Range<Vaddr>) -> Option<RangeError> {
    let [start, end] = [range.start, range.end];
    if start == end {
        Some(RangeError::Empty { at: start })
    } else if start > end {
        Some(RangeError::Reversed { range: range.clone() })
    } else if !start.as_u64().is_multiple_of(FRAME_SIZE) {
        Some(RangeError::Unaligned { vaddr: start })
    } else if !end.as_u64().is_multiple_of(FRAME_SIZE) {
        Some(RangeError::Unaligned { vaddr: end })
    } else if end.as_u64() > G::node_span(G::ROOT) {
        Some(RangeError::NotManaged { range: range.clone() })
    } else {
        None
    }
}

/// The pages around `at` that one entry of `level` covers.
pub(crate) fn slot<G: Architecture>(at: u64, level: Level) -> Range<u64> {
    let span = G::entry_frames(level);
    at / span * span..(at / span + 1) * span
}
