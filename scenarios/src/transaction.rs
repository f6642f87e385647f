//! Whole transactions on a table whose pages are numbers: lock a range, do something in it, let go.
//!
//! Pages are numbered as in [`crate::page_map`]: 0 and 1 are the first two of one leaf, 2 and 3
//! those of the next one, and the four are as far apart as the geometry has it. A range of them is
//! everything from its first page up to the one that it stops before. So in every geometry pages
//! 0..2 are all that a leaf translates, and 0..4 all that the node above translates, or more.
//!
//! What a transaction locks follows from its range (see
//! [`Geometry::covering_level`](weft_core::geometry::Geometry)): one page, the leaf; 0..2, the node
//! above the leaf, and the leaf; 0..3 or 1..3, the same with both leaves; 0..4, a node higher.
//!
//! Operations are carried out with a [`Cursor`], its forms for many pages; [`Table::look`] locks
//! nothing. The answers are those of the sequential map, and with an answer goes what else the
//! cursor owes: an item that is not mapped comes back as it was.

use core::borrow::Borrow;
use core::marker::PhantomData;
use core::ops::Range;

use weft_core::address::{FRAME_SIZE, Level, Paddr, Vaddr};
use weft_core::cursor::{Cursor, Slot};
use weft_core::error::LockError;
use weft_core::format::{PageFlags, Property};
use weft_core::frame::Frame;
use weft_core::geometry::Geometry;
use weft_core::item::MappedItem;
use weft_core::node::{Node, NodeRef};
use weft_core::shared::SharedCursor;
use weft_core::space::AddressSpace;
use weft_core::sync::Backend;

use crate::history::History;
use crate::page_map::{Answer, Mapping, Operation, PageMap};
use crate::scenario::Cpu;
use crate::tables::UserTable;
use crate::world::World;

/// The most operations of one transaction.
const OPERATIONS_MAX: usize = 4;

/// The address of page `number`.
pub fn page<B: Backend>(number: u8) -> Vaddr {
    let bit = |position: u32| usize::from(number >> position & 1);
    B::Geometry::address(&[bit(0), bit(1), bit(2)])
}

/// The addresses of pages by number, from the first up to the one that is not among them.
pub fn pages<B: Backend>(numbers: Range<u8>) -> Range<Vaddr> {
    page::<B>(numbers.start)..page::<B>(numbers.end)
}

/// A user's table.
#[derive(Debug)]
pub struct Table<B: World, R = Node<UserTable<B>>> {
    /// Its root.
    pub root: R,
    _backend: PhantomData<fn(B)>,
}

/// A user's table that CPUs can run on.
pub type Space<B> = Table<B, AddressSpace<UserTable<B>>>;

impl<B: World, R: Borrow<Node<UserTable<B>>>> Table<B, R> {
    /// The table under a root.
    pub fn new(root: R) -> Self {
        Self { root, _backend: PhantomData }
    }

    /// Carries out operations, each in a transaction of its own that locks the operation's pages.
    #[track_caller]
    pub fn ask(&self, cpu: &mut Cpu<B>, operations: &[Operation]) -> History {
        let mut history = History::new();
        for &operation in operations {
            self.within(cpu, &mut history, operation.pages().range(), &[operation]);
        }
        history
    }

    /// Carries out operations in one transaction that locks `numbers`, recorded as one step.
    ///
    /// # Panics
    ///
    /// If there are more than a transaction has room for, or one goes beyond the range.
    #[track_caller]
    pub fn within(
        &self,
        cpu: &mut Cpu<B>,
        history: &mut History,
        numbers: Range<u8>,
        operations: &[Operation],
    ) {
        assert!(
            operations.len() <= OPERATIONS_MAX,
            "a transaction has {OPERATIONS_MAX} operations"
        );
        let mut answered = [(Operation::query(0), Answer::Mapped); OPERATIONS_MAX];
        let answered = &mut answered[..operations.len()];
        let begin = cpu.mark();
        let section = cpu.read_side();
        match Cursor::lock(
            Borrow::<Node<_>>::borrow(&self.root).borrow(&section),
            pages::<B>(numbers),
        ) {
            Ok(mut cursor) => {
                for (&operation, answered) in operations.iter().zip(&mut *answered) {
                    *answered = (operation, carry_out(cpu.backend(), &mut cursor, operation));
                }
            }
            Err(LockError::OutOfMemory) => {
                for (&operation, answered) in operations.iter().zip(&mut *answered) {
                    *answered = (operation, Answer::OutOfMemory);
                }
            }
            Err(error) => panic!("a range of a user's table can be locked: {error}"),
        }
        drop(section);
        history.step(begin, cpu.mark(), answered);
    }

    /// Looks at a page without locks.
    #[track_caller]
    pub fn look(&self, cpu: &Cpu<B>, number: u8) -> Answer {
        let section = cpu.read_side();
        let slot = look::<B>(Borrow::<Node<_>>::borrow(&self.root).borrow(&section), number);
        Answer::Found(Mapping::in_slot(cpu.backend(), &slot))
    }

    /// What is mapped, of `numbers`. For when all CPUs have ended.
    #[track_caller]
    pub fn now(&self, cpu: &Cpu<B>, numbers: Range<u8>) -> PageMap {
        PageMap::of(numbers, |number| self.look(cpu, number).found())
    }
}

/// What is at a page, without locks.
#[track_caller]
pub fn look<B: World>(root: NodeRef<'_, UserTable<B>>, number: u8) -> Slot<'_, UserTable<B>> {
    let vaddr = page::<B>(number);
    let cursor = SharedCursor::new(root, vaddr..vaddr.plus(FRAME_SIZE));
    let cursor = cursor.expect("a page of a user's table can be looked at");
    cursor.query().expect("the cursor is at the page")
}

/// A page to be mapped, writable or not, of a new frame with `contents` in it.
#[track_caller]
pub fn fresh_item<B: World>(backend: &B, contents: u8, writable: bool) -> MappedItem<B> {
    let frame = Frame::allocate(backend).expect("there are frames enough");
    backend.write_contents(frame.paddr(), contents.into());
    let mut property = Property::new(PageFlags::USER);
    property.flags.set(PageFlags::WRITE, writable);
    MappedItem::Tracked { frame, property }
}

/// A page to be mapped, of a frame that the table does not own: a kernel that counts the owners of
/// its frames itself maps them so. The race keeps the frame until no translation of it is left.
#[track_caller]
pub fn lent_item<B: World>(backend: &B, frame: Paddr, flags: PageFlags) -> MappedItem<B> {
    let property = Property::new(PageFlags::USER | flags);
    let page = backend.untracked_memory().page(frame, Level::LEAF, property);
    MappedItem::Untracked(page.expect("a frame is memory"))
}

/// Carries out one operation in a range that is locked.
#[track_caller]
pub fn carry_out<B: World>(
    backend: &B,
    cursor: &mut Cursor<'_, UserTable<B>>,
    operation: Operation,
) -> Answer {
    let numbers = operation.pages().range();
    let Range { start, end } = pages::<B>(numbers.clone());
    match operation {
        Operation::Map { to, .. } => map(backend, cursor, numbers, to),
        Operation::Unmap { .. } => {
            cursor.jump(start).expect("the pages are in the range");
            Answer::frames(cursor.unmap(end))
        }
        Operation::Replace { to, .. } => {
            cursor.jump(start).expect("the pages are in the range");
            let item = fresh_item(backend, to.frame(), to.is_writable());
            let replaced = cursor.replace(item);
            Answer::replaced(replaced.map(|old| Mapping::of(backend, &old)))
        }
        Operation::Query { .. } => {
            cursor.jump(start).expect("the pages are in the range");
            let slot = cursor.query().expect("the cursor is at the page");
            Answer::Found(Mapping::in_slot(backend, &slot))
        }
        Operation::Protect { writable, .. } => {
            cursor.jump(start).expect("the pages are in the range");
            Answer::frames(cursor.protect(end, |mut property| {
                property.flags.set(PageFlags::WRITE, writable);
                property
            }))
        }
    }
}

/// Maps a page, or two of one leaf at once.
#[track_caller]
fn map<B: World>(
    backend: &B,
    cursor: &mut Cursor<'_, UserTable<B>>,
    numbers: Range<u8>,
    to: Mapping,
) -> Answer {
    let make = || fresh_item(backend, to.frame(), to.is_writable());
    cursor.jump(page::<B>(numbers.start)).expect("the pages are in the range");
    let position = cursor.vaddr();
    let answer = if numbers.len() == 1 {
        let item = make();
        let frame = frame_of(&item);
        Answer::mapped(cursor.map(item).inspect_err(|error| {
            let is_same = frame_of(&error.back) == frame;
            assert!(is_same, "another item came back than was to be mapped");
        }))
    } else {
        let last = page::<B>(numbers.end - 1);
        Answer::mapped(cursor.map_pages(last.plus(FRAME_SIZE), |_| make()))
    };
    let moved = cursor.vaddr() != position;
    assert!(moved == (answer == Answer::Mapped), "a cursor moves if and only if it maps something");
    answer
}

fn frame_of<B: World>(item: &MappedItem<B>) -> Option<Paddr> {
    match item {
        MappedItem::Tracked { frame, .. } => Some(frame.paddr()),
        MappedItem::Untracked(_) | MappedItem::Mark(_) => None,
    }
}
