//! Ours: a hosted machine, four levels of 512 entries, one kind of table.
//!
//! Pages map memory that nobody counts, so that the work is the same as a bound's and a peer's;
//! rows about frames that are counted say so.

use std::marker::PhantomData;
use std::ops::Range;

use weft_backend_baremetal::backend::Tables;
use weft_backend_baremetal::hosted::{self, HostedMachine, on_cpu};
use weft_core::address::{CpuId, Level, Paddr, Vaddr};
use weft_core::config::Config;
use weft_core::cpu::Cpu;
use weft_core::cursor::Cursor;
use weft_core::entry::ItemRef;
use weft_core::error::LockError;
use weft_core::find::{lock_covering, try_lock_covering};
use weft_core::format::{PageFlags, Property, X86_64};
use weft_core::frame::Frame;
use weft_core::geometry::{FourLevels, Geometry};
use weft_core::item::MappedItem;
use weft_core::node::{Node, NodeRef};
use weft_core::shared::SharedCursor;
use weft_core::sites::{ENTRY_UNDER_LOCK, WALK_ENTRY};
use weft_core::space::AddressSpace;
use weft_core::sync::{Backend, Word};

use crate::locks::Lockable;
use crate::memory::FRAME_SIZE;
use crate::walk::{self, Tree};
use crate::workload::{LEAF_SPAN, Operation, Span, State, Table, frame_of};

/// A machine on this host.
pub type Machine = HostedMachine<FourLevels, OneKind>;

/// The one configuration.
#[derive(Debug)]
pub struct User<B>(PhantomData<B>);

impl<B: Backend> Config for User<B> {
    type Backend = B;
    type Item = MappedItem<B>;
    type Format = X86_64;
}

/// The tables of the machine.
#[derive(Debug)]
pub struct OneKind;

impl Tables for OneKind {
    type On<B: Backend> = (User<B>,);
}

/// Starts a machine with this many frames.
///
/// # Errors
///
/// One sentence, if the operating system does not give the memory.
pub fn start(frames: u64) -> Result<Machine, String> {
    hosted::start(frames).map_err(|error| format!("there is no memory for a machine: {error}"))
}

/// Frees a frame that was allocated from the machine's region by hand.
pub(crate) fn release(machine: Machine, frame: Paddr) {
    // SAFETY: (1) `deferred::ByHand` allocated the frame from this region and gives it up once;
    // (2) nobody else has its address.
    unsafe { machine.region().free(frame) }
}

const WRITABLE: Property = Property::new(PageFlags::WRITE);

/// A page that owns nothing.
#[inline]
fn item(vaddr: Vaddr, level: Level) -> MappedItem<Machine> {
    let frame = Paddr::new(frame_of(vaddr.as_u64()));
    let page = hosted::untracked_memory().page(frame, level, WRITABLE);
    MappedItem::Untracked(page.expect("the geometry has such a page"))
}

/// A table of ours, on a CPU.
#[derive(Debug)]
pub struct Weft {
    // Dropped before the CPU goes offline.
    root: Node<User<Machine>>,
    /// Offline while it rests.
    cpu: Option<Cpu<Machine>>,
    number: CpuId,
    machine: Machine,
    name: &'static str,
    is_shared: bool,
    locks_to_read: bool,
    space: Spaced,
}

/// Whether a table is that of an address space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spaced {
    /// It is a bare root: no CPU can run on it.
    Bare,
    /// It is, and no CPU runs on it.
    Idle,
    /// It is, and its CPU runs on it, so that a flush is one for that CPU.
    Held,
}

impl Weft {
    /// A table of its own, on CPU 0.
    pub fn new(name: &'static str, machine: Machine) -> Self {
        let root = Node::allocate(&machine, FourLevels::ROOT).expect("there is room for a root");
        Self::on(name, machine, root, CpuId::new(0), false)
    }

    fn on(
        name: &'static str,
        machine: Machine,
        root: Node<User<Machine>>,
        number: CpuId,
        is_shared: bool,
    ) -> Self {
        let (locks_to_read, space) = (false, Spaced::Bare);
        Self { root, cpu: None, number, machine, name, is_shared, locks_to_read, space }
    }

    /// Reads under locks, too.
    pub fn locking_to_read(self) -> Self {
        Self { locks_to_read: true, ..self }
    }

    /// As the table of an address space.
    pub fn spaced(self, space: Spaced) -> Self {
        Self { space, ..self }
    }

    /// A new root, of a space or not.
    fn fresh_root(&mut self) -> Node<User<Machine>> {
        if self.space == Spaced::Bare {
            let root = Node::allocate(&self.machine, FourLevels::ROOT);
            return root.expect("there is room for a root");
        }
        let space: AddressSpace<User<Machine>> =
            AddressSpace::allocate(&self.machine).expect("there is room for a root and its words");
        if self.space == Spaced::Held {
            let (number, cpu) = (self.number, self.awake());
            on_cpu(number, || cpu.activate(&space)).expect("nothing is asked of a root here");
        }
        Node::clone(&space)
    }

    fn with_root<R>(&self, work: impl FnOnce(NodeRef<'_, User<Machine>>) -> R) -> R {
        let section = self.cpu.as_ref().expect("the CPU is awake").read_side();
        work(self.root.borrow(&section))
    }

    /// The CPU, online.
    fn awake(&mut self) -> &mut Cpu<Machine> {
        let (machine, number) = (&self.machine, self.number);
        self.cpu.get_or_insert_with(|| {
            Cpu::online(machine, number).expect("each CPU of a machine has one table")
        })
    }

    /// Calls `work` with a cursor for each chunk, and adds up what it says.
    #[inline(always)]
    fn each_chunk(
        &self,
        span: &Span,
        mut work: impl FnMut(&mut Cursor<'_, User<Machine>>, Range<Vaddr>) -> u64,
    ) -> u64 {
        let mut sum = 0_u64;
        self.with_root(|root| {
            for chunk in span.chunks() {
                let range = addresses(&chunk);
                let mut cursor = Cursor::lock(root, range.clone()).expect("the range is managed");
                sum = sum.wrapping_add(work(&mut cursor, range));
            }
        });
        sum
    }

    fn map(&self, span: &Span) -> u64 {
        let page = |vaddr| item(vaddr, Level::LEAF);
        if span.chunk == 1 {
            return self.each_chunk(span, |cursor, range| {
                cursor.map(page(range.start)).expect("the page is not mapped yet");
                1
            });
        }
        self.each_chunk(span, |cursor, range| {
            cursor.map_pages(range.end, page).expect("the pages are not mapped yet");
            (range.end.as_u64() - range.start.as_u64()) / FRAME_SIZE
        })
    }

    /// Maps pages that own a frame each.
    pub(crate) fn map_tracked(&self, span: &Span) {
        let page = |_| {
            let frame = Frame::allocate(&self.machine).expect("there is room for the frames");
            MappedItem::Tracked { frame, property: WRITABLE }
        };
        self.each_chunk(span, |cursor, range| {
            cursor.map_pages(range.end, page).expect("the pages are not mapped yet");
            0
        });
    }

    /// The machine.
    pub(crate) fn machine(&self) -> Machine {
        self.machine
    }

    fn map_huge(&self, span: &Span) -> u64 {
        self.each_chunk(span, |cursor, range| {
            let mut mapped = 0;
            while cursor.vaddr() < range.end {
                let page = item(cursor.vaddr(), Level::new(2));
                cursor.map(page).expect("the page is not mapped yet");
                mapped += 1;
            }
            mapped
        })
    }

    fn query(&self, span: &Span) -> u64 {
        if self.locks_to_read {
            return self.each_chunk(span, |cursor, range| {
                let mut sum = 0_u64;
                let look = |_, page: ItemRef<'_, _>| sum = sum.wrapping_add(page.frame.as_u64());
                cursor.visit(range.end, look).expect("the end is a position");
                sum
            });
        }
        let mut sum = 0_u64;
        self.with_root(|root| {
            for chunk in span.chunks() {
                let range = addresses(&chunk);
                let end = range.end;
                let cursor: Result<SharedCursor<'_, User<Machine>>, _> =
                    SharedCursor::new(root, range);
                let look = |_, page: ItemRef<'_, _>| sum = sum.wrapping_add(page.frame.as_u64());
                let visited = cursor.expect("the range is managed").visit(end, look);
                visited.expect("the end is a position");
            }
        });
        sum
    }

    fn query_random(&self, span: &Span) -> u64 {
        let mut sum = 0_u64;
        self.with_root(|root| {
            for vaddr in span.shuffled() {
                let range = addresses(&(vaddr..vaddr + FRAME_SIZE));
                let item = if self.locks_to_read {
                    let mut cursor = Cursor::lock(root, range).expect("the range is managed");
                    cursor.query().expect("it is not at its end").item
                } else {
                    let cursor = SharedCursor::new(root, range).expect("the range is managed");
                    cursor.query().expect("it is not at its end").item
                };
                sum = sum.wrapping_add(item.map_or(0, |item| item.frame.as_u64()));
            }
        });
        sum
    }

    fn protect(&self, span: &Span) -> u64 {
        if span.chunk == 1 {
            return self.each_chunk(span, |cursor, _| {
                let page = cursor.protect_next(read_only).expect("no huge page is split");
                u64::from(page.is_some())
            });
        }
        self.each_chunk(span, |cursor, range| {
            cursor.protect(range.end, read_only).expect("no huge page is split")
        })
    }

    fn unmap(&self, span: &Span) -> u64 {
        if span.chunk == 1 {
            return self.each_chunk(span, |cursor, _| {
                let page = cursor.take_next().expect("no huge page is split");
                page.map_or(0, |page| page.frames)
            });
        }
        self.each_chunk(span, |cursor, range| {
            cursor.unmap(range.end).expect("no huge page is split")
        })
    }

    fn split(&self, span: &Span) -> u64 {
        let mut split = 0;
        self.each_chunk(span, |cursor, range| {
            let mut vaddr = range.start;
            while vaddr < range.end {
                cursor.jump(vaddr).expect("the address is in the range");
                cursor.split().expect("there is a huge page, and room for its parts");
                vaddr = vaddr.plus(LEAF_SPAN);
                split += 1;
            }
            0
        });
        split
    }

    fn map_unmap(&self, span: &Span) -> u64 {
        let page = |start| Span { start, pages: 1, chunk: 1 };
        let pages = span.neighbours();
        pages.map(|vaddr| self.map(&page(vaddr)).min(self.unmap(&page(vaddr)))).sum()
    }

    fn grow(&self, span: &Span) {
        self.with_root(|root| {
            for leaf in span.leaves() {
                let guard = lock_covering(root, Vaddr::new(leaf), Level::LEAF);
                drop(guard.expect("the table manages the page"));
            }
        });
    }
}

/// A table that several CPUs share.
#[derive(Debug)]
pub struct Shared {
    machine: Machine,
    root: Node<User<Machine>>,
}

impl Shared {
    /// A table on a machine.
    pub fn new(machine: Machine) -> Self {
        let root = Node::allocate(&machine, FourLevels::ROOT).expect("there is room for a root");
        Self { machine, root }
    }

    /// The table, as the CPU of this number has it.
    pub fn on(&self, cpu: usize) -> Weft {
        let cpu = u32::try_from(cpu).expect("there are few CPUs");
        Weft::on("weft", self.machine, self.root.clone(), CpuId::new(cpu), true)
    }
}

#[inline]
fn addresses(chunk: &Range<u64>) -> Range<Vaddr> {
    Vaddr::new(chunk.start)..Vaddr::new(chunk.end)
}

fn read_only(mut property: Property) -> Property {
    property.flags.remove(PageFlags::WRITE);
    property
}

impl Tree for Weft {
    fn root(&self) -> u64 {
        self.root.paddr().as_u64()
    }

    fn entry(&self, node: u64, index: usize) -> u64 {
        // SAFETY: (1) `walk` comes from the root by present entries, and nothing is freed between
        // runs; (2) it looks at 512 entries; (3) all accesses are atomic.
        unsafe { self.machine.region().word(Paddr::new(node), index) }.load(&WALK_ENTRY)
    }

    fn set(&self, node: u64, index: usize, bits: u64) {
        // SAFETY: as in `entry`.
        let word = unsafe { self.machine.region().word(Paddr::new(node), index) };
        word.store(word.load(&WALK_ENTRY) | bits, &ENTRY_UNDER_LOCK);
    }
}

impl Table for Weft {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn prepare(&mut self, state: State, span: &Span) {
        self.awake();
        if self.is_shared {
            self.unmap(&span.in_chunks(span.pages));
        } else {
            self.root = self.fresh_root();
        }
        self.awake().quiescent();
        let whole = span.in_chunks(span.pages);
        match state {
            State::Root => {}
            State::Nodes => self.grow(span),
            State::First => {
                for start in span.leaves() {
                    self.map(&Span { start, pages: 1, chunk: 1 });
                }
            }
            State::Mapped => drop(self.map(&whole)),
            State::Used => {
                self.map(&whole);
                walk::use_pages(self, &span.range());
            }
            State::Huge => drop(self.map_huge(&whole)),
        }
    }

    fn run(&mut self, operation: Operation, span: &Span) -> u64 {
        self.awake();
        match operation {
            Operation::Map => self.map(span),
            Operation::MapHuge => self.map_huge(span),
            Operation::Query => self.query(span),
            Operation::QueryRandom => self.query_random(span),
            Operation::Protect => self.protect(span),
            Operation::Unmap => {
                let unmapped = self.unmap(span);
                // What had to wait is given up in the same time that is measured: what was taken
                // out first, and what joined the next grace period while that one waited.
                self.awake().quiescent();
                self.awake().quiescent();
                unmapped
            }
            Operation::Split => self.split(span),
            Operation::MapUnmap => self.map_unmap(span),
        }
    }

    fn rest(&mut self) {
        let cpu = self.cpu.take();
        on_cpu(self.number, || drop(cpu));
    }
}

impl Lockable for Weft {
    fn lock_chunks(&self, span: &Span, mut inside: impl FnMut(&Self)) -> u64 {
        let leaves = (span.chunk * FRAME_SIZE).div_ceil(LEAF_SPAN);
        self.each_chunk(span, |_, _| {
            inside(self);
            leaves
        })
    }

    fn count_locked(&self, span: &Span) -> u64 {
        self.with_root(|root| {
            let is_held = |&leaf: &u64| {
                let taken = try_lock_covering(root, Vaddr::new(leaf), Level::LEAF);
                taken.is_err_and(|error| error == LockError::WouldWait)
            };
            span.leaves().filter(is_held).count() as u64
        })
    }
}
