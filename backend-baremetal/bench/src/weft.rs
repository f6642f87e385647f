//! Ours: a hosted machine, four levels of 512 entries, one kind of table.
//!
//! Pages map memory that nobody counts, so that the work is the same as a bound's and a peer's;
//! rows about frames that are counted say so.

use std::marker::PhantomData;
use std::ops::Range;

use weft_backend_baremetal::backend::Tables;
use weft_backend_baremetal::hosted::{self, HostedMachine};
use weft_core::address::{CpuId, Level, Paddr, Vaddr};
use weft_core::config::{Config, Kind};
use weft_core::cpu::Cpu;
use weft_core::entry::{Child, ChildRef};
use weft_core::error::FindError;
use weft_core::format::{PageFlags, Property, X86_64};
use weft_core::geometry::{FourLevels, Geometry};
use weft_core::guard::Guard;
use weft_core::item::MappedItem;
use weft_core::node::{Node, NodeRef};
use weft_core::range_lock::{lock_covering, try_lock_covering};
use weft_core::reclaim::Erased;
use weft_core::sites::{ENTRY_UNDER_LOCK, WALK_ENTRY};
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
    const KIND: Kind = Kind(1);
}

/// The tables of the machine.
#[derive(Debug)]
pub struct OneKind;

impl Tables for OneKind {
    fn drop_erased<B: Backend>(reference: Erased<B>) {
        reference.drop_as::<User<B>>();
    }
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
    MappedItem::Untracked { frame, level, property: WRITABLE }
}

/// A table of ours, on a CPU.
#[derive(Debug)]
pub struct Weft {
    // Dropped before the CPU goes offline.
    root: Node<User<Machine>>,
    cpu: Cpu<Machine>,
    machine: Machine,
    name: &'static str,
    is_shared: bool,
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
        cpu: CpuId,
        is_shared: bool,
    ) -> Self {
        let cpu = Cpu::online(&machine, cpu).expect("each CPU of a machine has one table");
        Self { root, cpu, machine, name, is_shared }
    }

    fn with_root<R>(&self, work: impl FnOnce(NodeRef<'_, User<Machine>>) -> R) -> R {
        let section = self.cpu.read_side();
        work(self.root.borrow(&section))
    }

    /// Calls `work` for each page of a chunk, under the lock of its leaf.
    fn each_page(
        &self,
        chunk: Range<u64>,
        mut work: impl FnMut(&mut Guard<'_, User<Machine>>, usize, Vaddr),
    ) {
        self.with_root(|root| {
            let mut vaddr = chunk.start;
            while vaddr < chunk.end {
                let mut guard = lock(root, vaddr, Level::LEAF);
                let end = ((vaddr | (LEAF_SPAN - 1)) + 1).min(chunk.end);
                for vaddr in (vaddr..end).step_by(FRAME_SIZE as usize).map(Vaddr::new) {
                    work(&mut guard, FourLevels::index(vaddr, Level::LEAF), vaddr);
                }
                vaddr = end;
            }
        });
    }

    fn map(&self, span: &Span) -> u64 {
        let mut mapped = 0;
        for chunk in span.chunks() {
            self.each_page(chunk, |guard, index, vaddr| {
                let mut entry = guard.entry(index).expect("the index is in range");
                let before = entry.replace(Child::Item(item(vaddr, Level::LEAF)));
                assert!(!before.expect("the item fits").is_present(), "mapped already");
                mapped += 1;
            });
        }
        mapped
    }

    fn query(&self, pages: impl Iterator<Item = u64>) -> u64 {
        let mut sum = 0_u64;
        self.with_root(|root| {
            for vaddr in pages.map(Vaddr::new) {
                let mut node = root;
                loop {
                    match node.walk(FourLevels::index(vaddr, node.level())) {
                        ChildRef::Node(child) => node = child,
                        ChildRef::Item(page) => {
                            sum = sum.wrapping_add(page.frame.as_u64());
                            break;
                        }
                        ChildRef::Absent | ChildRef::Shared => break,
                    }
                }
            }
        });
        sum
    }

    fn protect(&self, span: &Span) -> u64 {
        let mut changed = 0;
        for chunk in span.chunks() {
            self.each_page(chunk, |guard, index, _| {
                let mut entry = guard.entry(index).expect("the index is in range");
                let before = entry.protect(read_only);
                changed += u64::from(before.is_ok());
            });
        }
        changed
    }

    fn unmap(&self, span: &Span) -> u64 {
        let mut unmapped = 0;
        for chunk in span.chunks() {
            self.each_page(chunk, |guard, index, _| {
                let mut entry = guard.entry(index).expect("the index is in range");
                let before = entry.detach().expect("the table manages the page");
                unmapped += u64::from(before.is_present());
            });
        }
        unmapped
    }

    /// Calls `work` with the entry of each leaf of a span, in its directory.
    fn each_directory_entry(
        &self,
        span: &Span,
        mut work: impl FnMut(&mut Guard<'_, User<Machine>>, usize, Vaddr),
    ) -> u64 {
        self.with_root(|root| {
            let level = Level::new(2);
            for chunk in span.chunks() {
                let mut guard = lock(root, chunk.start, level);
                for vaddr in chunk.step_by(LEAF_SPAN as usize).map(Vaddr::new) {
                    work(&mut guard, FourLevels::index(vaddr, level), vaddr);
                }
            }
        });
        span.leaves().count() as u64
    }

    fn map_huge(&self, span: &Span) -> u64 {
        self.each_directory_entry(span, |guard, index, vaddr| {
            let mut entry = guard.entry(index).expect("the index is in range");
            let before = entry.replace(Child::Item(item(vaddr, Level::new(2))));
            assert!(!before.expect("the item fits").is_present(), "mapped already");
        })
    }

    fn split(&self, span: &Span) -> u64 {
        self.each_directory_entry(span, |guard, index, _| {
            let mut entry = guard.entry(index).expect("the index is in range");
            drop(entry.split().expect("there is a huge page, and room for its parts"));
        })
    }

    fn map_unmap(&self, span: &Span) -> u64 {
        let page = |start| Span { start, pages: 1, chunk: 1 };
        let pages = span.neighbours();
        pages.map(|vaddr| self.map(&page(vaddr)).min(self.unmap(&page(vaddr)))).sum()
    }

    fn grow(&self, span: &Span) {
        self.with_root(|root| {
            for leaf in span.leaves() {
                drop(lock(root, leaf, Level::LEAF));
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

fn lock<'g>(
    root: NodeRef<'g, User<Machine>>,
    vaddr: u64,
    level: Level,
) -> Guard<'g, User<Machine>> {
    lock_covering(root, Vaddr::new(vaddr), level).expect("the table manages the page")
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
        if self.is_shared {
            self.unmap(&span.in_chunks(span.pages));
        } else {
            let root = Node::allocate(&self.machine, FourLevels::ROOT);
            self.root = root.expect("there is room for a root");
        }
        self.cpu.quiescent();
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
        match operation {
            Operation::Map => self.map(span),
            Operation::MapHuge => self.map_huge(span),
            Operation::Query => self.query(span.addresses()),
            Operation::QueryRandom => self.query(span.shuffled()),
            Operation::Protect => self.protect(span),
            Operation::Unmap => self.unmap(span),
            Operation::Split => self.split(span),
            Operation::MapUnmap => self.map_unmap(span),
        }
    }
}

impl Lockable for Weft {
    fn lock_chunks(&self, span: &Span, mut inside: impl FnMut(&Self)) -> u64 {
        let mut locks = 0;
        for chunk in span.chunks() {
            self.with_root(|root| {
                let leaves = chunk.step_by(LEAF_SPAN as usize);
                let guards: Vec<_> = leaves.map(|leaf| lock(root, leaf, Level::LEAF)).collect();
                inside(self);
                locks += guards.len() as u64;
            });
        }
        locks
    }

    fn locked(&self, span: &Span) -> u64 {
        self.with_root(|root| {
            let is_held = |&leaf: &u64| {
                let taken = try_lock_covering(root, Vaddr::new(leaf), Level::LEAF);
                taken.is_err_and(|error| error == FindError::WouldWait)
            };
            span.leaves().filter(is_held).count() as u64
        })
    }
}
