//! Runs a program on a table and on its specification, and compares what they say.
//!
//! Every result is compared as it comes, errors with their values included. After an allocation
//! that was made to fail, the table has to be as before at once, and no frame in use. After every
//! transaction, what was taken away or tightened has to have been flushed in time: see
//! [`crate::caches`]. After some of the transactions, and at the end, all of the table is read in
//! three ways: entry by entry, by a cursor, and by a shared cursor; then every frame in use has to
//! be a node's or a mapping's.
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
use weft_core::entry::{ChildRef, ItemRef};
use weft_core::error::{LockError, PositionError};
use weft_core::find::{lock_covering, try_lock_covering};
use weft_core::format::{EntryFormat, PageFlags};
use weft_core::node::{Node, NodeRef};
use weft_core::shared::SharedCursor;
use weft_scenarios::specification::{self, Mapping, Memory, Specification};

use crate::architecture::{Architecture, Table};
use crate::caches::{Caches, Journal};
use crate::fixture::{NOTED, assert_sound, dump, halves, lock, number, page, pages};
use crate::program::{Operation, Place, Program, Step, Transaction, Way};
use crate::support::{node, online};
use crate::watched::Machine;

pub(crate) type Root<'g, G> = NodeRef<'g, Table<G>>;

/// Longer programs are cut off: so many transactions, and so many steps of each.
const TRANSACTIONS_MAX: usize = 25;
const STEPS_MAX: usize = 20;
/// All of the table is read after each so many transactions.
const CHECKED_EVERY: usize = 4;

/// Runs a program on a new table of `machine`.
///
/// # Panics
///
/// If table and specification do not agree, a flush is missing, or frames are lost.
pub(crate) fn run<G: Architecture>(machine: &Machine<G>, program: &Program) {
    machine.processors().failing.cancel();
    let mut cpu = online(machine, 0);
    quiesce(&mut cpu);
    let before = machine.region().live();
    let root: Node<Table<G>> = node(machine, G::ROOT);
    let mut expected = Specification::new(Journal::default());
    let mut caches = Caches::new(root.borrow(&cpu.read_side()));
    for (number, transaction) in program.transactions.iter().take(TRANSACTIONS_MAX).enumerate() {
        let section = cpu.read_side();
        let root_ref = root.borrow(&section);
        let mut run = Run { machine, root: root_ref, expected: &mut expected, caches: &mut caches };
        run.transaction(transaction);
        caches.settle();
        drop(section);
        if transaction.quiesces {
            cpu.quiescent();
        }
        if number % CHECKED_EVERY == CHECKED_EVERY - 1 {
            check(machine, &mut cpu, &root, &expected, before);
            caches.settle();
        }
    }
    check(machine, &mut cpu, &root, &expected, before);
    drop(root);
    quiesce(&mut cpu);
    assert_eq!(machine.region().live(), before, "a table that is dropped gives back every frame");
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
    root: &Node<Table<G>>,
    expected: &Specification<G, Journal>,
    before: u64,
) {
    quiesce(cpu);
    let section = cpu.read_side();
    let root = root.borrow(&section);
    compare_all(root, expected);
    let nodes = dump(root).nodes.len();
    let all = expected.within(0..Specification::<G, Journal>::page_count());
    let tracked = all.filter(|it| it.item.property.flags.contains(PageFlags::TRACKED)).count();
    let owned = (nodes + tracked) as u64;
    assert_eq!(machine.region().live() - before, owned, "a frame in use is a node or is mapped");
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

/// A table, what it should be, and what caches may hold of it.
pub(crate) struct Run<'r, 'g, G: Architecture> {
    pub(crate) machine: &'r Machine<G>,
    pub(crate) root: Root<'g, G>,
    pub(crate) expected: &'r mut Specification<G, Journal>,
    pub(crate) caches: &'r mut Caches<G>,
}

/// The specification's cursor.
pub(crate) type Expected<'s, G> = specification::Cursor<'s, G, Journal>;

impl<'g, G: Architecture> Run<'_, 'g, G> {
    fn transaction(&mut self, transaction: &Transaction) {
        let range = transaction.range.resolve::<G>();
        let expected = self.expected.cursor(range.clone()).err();
        if transaction.way == Way::Shared {
            match SharedCursor::new(self.root, range) {
                Ok(mut cursor) => {
                    assert_eq!(expected, None, "a bad range was taken");
                    for step in transaction.steps.iter().take(STEPS_MAX) {
                        let (range, position) = (cursor.range(), cursor.vaddr());
                        match step.operation {
                            Operation::Hardware { at, writes } => {
                                self.hardware(at.resolve::<G>(&range, position), writes);
                            }
                            other => self.look(&mut cursor, other),
                        }
                    }
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
        let (cursor, memory) = self.failing(transaction.failure, || enter(root, asked));
        let cursor = match cursor {
            Err(LockError::OutOfMemory) if memory == Memory::RunsOut => {
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
                    self.caches.operated(self.expected.mappings_mut());
                }
            }
            Err(error) => assert_eq!(Some(error), expected),
        }
    }

    /// Locks one node, and leaves the table without the nodes that were grown for it.
    fn lock_one(&mut self, vaddr: Vaddr, level: Level, failure: Option<u8>) {
        let root = self.root;
        let (found, memory) = self.failing(failure, || lock_covering(root, vaddr, level));
        let expected = match () {
            () if level > G::ROOT => Some(LockError::NoSuchLevel { level }),
            () if number::<G>(vaddr).is_none() => Some(LockError::NotCanonical { vaddr }),
            () if memory == Memory::RunsOut => Some(LockError::OutOfMemory),
            () => None,
        };
        match found {
            Ok(guard) => {
                assert_eq!(expected, None, "a node was found where none is");
                assert_eq!(guard.level(), self.lowest(vaddr).level().max(level));
                let again = try_lock_covering(root, vaddr, level).err();
                assert_eq!(again, Some(LockError::WouldWait), "the node is not locked");
                drop(guard);
                let start = vaddr.align_down(FRAME_SIZE);
                drop(lock(root, start..start.plus(FRAME_SIZE)));
            }
            Err(error) => assert_eq!(Some(error), expected),
        }
    }

    /// Runs `body` while one of its allocations fails, if one is to. Says whether memory ran out.
    pub(crate) fn failing<R>(
        &mut self,
        failure: Option<u8>,
        body: impl FnOnce() -> R,
    ) -> (R, Memory) {
        let before = self.machine.region().live();
        if let Some(allocations) = failure {
            self.machine.processors().failing.after(allocations.into());
        }
        let result = body();
        let failed = failure.is_some() && !self.machine.processors().failing.cancel();
        if failed {
            assert_eq!(self.machine.region().live(), before, "a failure keeps frames");
            compare_pages(self.root, self.expected);
        }
        (result, if failed { Memory::RunsOut } else { Memory::Suffices })
    }

    /// The specification's cursor where a cursor with this range is.
    pub(crate) fn expected(&mut self, range: &Range<Vaddr>, position: Vaddr) -> Expected<'_, G> {
        let mut expected = self.expected.cursor(range.clone()).expect("the range was locked");
        expected.jump(position).expect("the cursor is in its range");
        expected
    }

    fn step(&mut self, cursor: &mut Cursor<'g, Table<G>>, step: &Step) {
        let (range, position) = (cursor.range(), cursor.vaddr());
        let place = |place: Place| place.resolve::<G>(&range, position);
        match step.operation {
            Operation::Flush => cursor.flush(),
            Operation::Hardware { at, writes } => self.hardware(place(at), writes),
            Operation::Query | Operation::FindNext | Operation::Jump(_) | Operation::Visit(_) => {
                self.look(cursor, step.operation);
            }
            _ => self.change(cursor, step),
        }
    }

    /// What a cursor shows that only looks.
    fn look(&mut self, cursor: &mut impl Looks<'g, G>, operation: Operation) {
        let (range, position) = (cursor.range(), cursor.vaddr());
        let place = |place: Place| place.resolve::<G>(&range, position);
        let lowest = self.lowest(position);
        let mut expected = self.expected(&range, position);
        match operation {
            Operation::Query => match (cursor.query(), expected.query()) {
                (Ok(slot), Ok(mapping)) => {
                    assert_eq!(slot.item.map(|item| *item), mapping.map(|it| it.item));
                    let at = number::<G>(position).expect("before the end");
                    let entry = specification::slot::<G>(at, lowest.level());
                    assert_eq!(slot.range, pages::<G>(entry), "another entry is shown");
                }
                (slot, mapping) => assert_eq!(slot.err(), mapping.err()),
            },
            Operation::FindNext => {
                let found = cursor.find_next();
                let found = found.map(|slot| (slot.range, *slot.item.expect("a page was found")));
                let next = expected.find_next();
                assert_eq!(found, next.map(|it| (pages::<G>(it.pages), it.item)));
            }
            Operation::Jump(to) => assert_eq!(cursor.jump(place(to)), expected.jump(place(to))),
            Operation::Visit(end) => {
                let (mut seen, mut there) = (Vec::new(), Vec::new());
                let visited = cursor.visit(place(end), &mut |at, item| seen.push((at, *item)));
                let show = |it: Mapping| there.push((page::<G>(it.pages.start), it.item));
                assert_eq!(visited, expected.visit(place(end), show));
                assert_eq!(seen, there, "a visit shows something else");
            }
            _ => return,
        }
        assert_eq!(cursor.vaddr(), expected.vaddr());
    }

    /// Hardware uses or writes the page at an address, if there is one.
    fn hardware(&mut self, vaddr: Vaddr, writes: bool) {
        let Some(page) = number::<G>(vaddr) else { return };
        let both = G::Format::HARDWARE_BITS;
        let accessed = both & both.wrapping_neg();
        let (bits, flags) = match writes {
            true => (both, NOTED),
            false => (accessed, PageFlags::ACCESSED),
        };
        let node = self.lowest(vaddr);
        hardware_sets(node, G::index(vaddr, node.level()), bits);
        self.note(page, flags);
    }

    /// Hardware has noted something in a page. It does not flush what it notes.
    pub(crate) fn note(&mut self, page: u64, flags: PageFlags) {
        self.expected.note(page, flags);
        self.expected.mappings_mut().forget();
    }

    /// The lowest node with an entry for an address.
    pub(crate) fn lowest(&self, vaddr: Vaddr) -> Root<'g, G> {
        let mut node = self.root;
        while let ChildRef::Node(child) = node.walk(G::index(vaddr, node.level())) {
            node = child;
        }
        node
    }
}

/// Compares all pages, entry by entry.
fn compare_pages<G: Architecture>(root: Root<'_, G>, expected: &Specification<G, Journal>) {
    let found = dump(root).pages;
    let all = expected.within(0..Specification::<G, Journal>::page_count());
    let expected = all.map(|it| (page::<G>(it.pages.start), it.item));
    assert!(found.iter().copied().eq(expected), "the table is not as specified: {found:?}");
}

/// Compares all of the table, three times, and looks at every node.
fn compare_all<G: Architecture>(root: Root<'_, G>, expected: &Specification<G, Journal>) {
    compare_pages(root, expected);
    assert_sound(root);
    let all = expected.within(0..Specification::<G, Journal>::page_count());
    let all: Vec<_> = all.map(|it| (page::<G>(it.pages.start), it.item)).collect();
    let (mut seen, mut also) = (Vec::new(), Vec::new());
    for half in halves::<G>() {
        let mut cursor = lock(root, half.clone());
        cursor.visit(half.end, |at, item| seen.push((at, *item))).expect("the end");
        drop(cursor);
        let mut shared = SharedCursor::new(root, half.clone()).expect("a half is a range");
        shared.visit(half.end, |at, item| also.push((at, *item))).expect("the end");
    }
    assert_eq!(seen, all, "a visit shows something else");
    assert_eq!(also, all, "a visit without locks shows something else");
    assert_sound(root);
}

/// What both kinds of cursors can do.
trait Looks<'g, G: Architecture> {
    fn range(&self) -> Range<Vaddr>;
    fn vaddr(&self) -> Vaddr;
    fn query(&mut self) -> Result<Slot<'g, Table<G>>, PositionError>;
    fn find_next(&mut self) -> Option<Slot<'g, Table<G>>>;
    fn jump(&mut self, vaddr: Vaddr) -> Result<(), PositionError>;
    fn visit(&mut self, end: Vaddr, look: Look<'_, 'g, G>) -> Result<(), PositionError>;
}

type Look<'a, 'g, G> = &'a mut dyn FnMut(Vaddr, ItemRef<'g, Table<G>>);

macro_rules! looks {
    ($($cursor:ident)+) => {
        $(impl<'g, G: Architecture> Looks<'g, G> for $cursor<'g, Table<G>> {
            fn range(&self) -> Range<Vaddr> {
                self.range()
            }
            fn vaddr(&self) -> Vaddr {
                self.vaddr()
            }
            fn query(&mut self) -> Result<Slot<'g, Table<G>>, PositionError> {
                $cursor::query(self)
            }
            fn find_next(&mut self) -> Option<Slot<'g, Table<G>>> {
                self.find_next()
            }
            fn jump(&mut self, vaddr: Vaddr) -> Result<(), PositionError> {
                self.jump(vaddr)
            }
            fn visit(&mut self, end: Vaddr, look: Look<'_, 'g, G>) -> Result<(), PositionError> {
                self.visit(end, look)
            }
        })+
    };
}
looks!(Cursor SharedCursor);
