//! `page_table_multiarch`: `X64PageTable`, a cursor per range and a call per page.
//!
//! Its frames come from functions without a receiver, so a thread has one arena for all of its
//! tables, and one table at a time.

use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::sync::atomic::Ordering;

use memory_addr::{PhysAddr, VirtAddr};
use page_table_multiarch::x86_64::X64PageTable;
use page_table_multiarch::{MappingFlags, PageSize, PagingHandler};
use weft_bench::memory::{Arena, FRAME_SIZE};
use weft_bench::walk::{self, Tree};
use weft_bench::workload::{LEAF_SPAN, Operation, Span, State, Table, frame_of};

use super::page;

const READ_ONLY: MappingFlags = MappingFlags::READ;
const FLAGS: MappingFlags = READ_ONLY.union(MappingFlags::WRITE);

thread_local! {
    static ARENA: Cell<Option<&'static Arena>> = const { Cell::new(None) };
}

fn arena() -> &'static Arena {
    ARENA.get().expect("a table has set it")
}

struct Handler;

impl PagingHandler for Handler {
    fn alloc_frames(count: usize, _alignment: usize) -> Option<PhysAddr> {
        assert!(count == 1, "an x86-64 table has nodes of one frame");
        // The table clears the frame itself.
        arena().allocate_raw().map(|frame| PhysAddr::from(frame as usize))
    }

    fn dealloc_frames(_frame: PhysAddr, _count: usize) {
        // All frames come back at once, when the arena is reset.
    }

    fn phys_to_virt(frame: PhysAddr) -> VirtAddr {
        VirtAddr::from(arena().base() as usize + frame.as_usize())
    }
}

/// A table of `page_table_multiarch`.
pub(crate) struct Multiarch {
    arena: &'static Arena,
    /// Never dropped: its frames may be another table's by then.
    table: ManuallyDrop<X64PageTable<Handler>>,
}

impl Multiarch {
    /// A table. A thread's first arena serves all of its tables.
    pub(crate) fn new(arena: Arena) -> Self {
        let arena = ARENA.get().unwrap_or_else(|| Box::leak(Box::new(arena)));
        ARENA.set(Some(arena));
        Self { arena, table: make(arena) }
    }

    fn map_with(&mut self, pages: impl Iterator<Item = u64>, size: PageSize) -> u64 {
        let mut cursor = self.table.cursor();
        let mut mapped = 0;
        for vaddr in pages {
            let frame = PhysAddr::from(frame_of(vaddr) as usize);
            let mapping = cursor.map(VirtAddr::from(vaddr as usize), frame, size, FLAGS);
            mapping.expect("the page is not mapped yet");
            mapped += 1;
        }
        mapped
    }

    fn map(&mut self, span: &Span) -> u64 {
        self.map_with(span.addresses(), PageSize::Size4K)
    }

    fn map_huge(&mut self, span: &Span) -> u64 {
        self.map_with(span.leaves(), PageSize::Size2M)
    }

    fn query(&self, pages: impl Iterator<Item = u64>) -> u64 {
        let mut sum = 0_u64;
        for vaddr in pages {
            if let Ok((frame, _, _)) = self.table.query(VirtAddr::from(vaddr as usize)) {
                sum = sum.wrapping_add(frame.as_usize() as u64);
            }
        }
        sum
    }

    fn protect(&mut self, span: &Span) -> u64 {
        let mut cursor = self.table.cursor();
        for vaddr in span.addresses() {
            let changed = cursor.protect(VirtAddr::from(vaddr as usize), READ_ONLY);
            changed.expect("the page is mapped");
        }
        span.pages
    }

    fn unmap(&mut self, span: &Span) -> u64 {
        let mut cursor = self.table.cursor();
        let mut unmapped = 0;
        for vaddr in span.addresses() {
            let (frame, _, _) =
                cursor.unmap(VirtAddr::from(vaddr as usize)).expect("the page is mapped");
            unmapped += u64::from(frame.as_usize() as u64 == frame_of(vaddr));
        }
        unmapped
    }

    /// There is no call for it: the huge page is unmapped, and its parts are mapped.
    fn split(&mut self, span: &Span) -> u64 {
        let mut split = 0;
        for start in span.leaves() {
            let huge = self.table.cursor().unmap(VirtAddr::from(start as usize));
            huge.expect("the page is mapped");
            let pages = LEAF_SPAN / FRAME_SIZE;
            self.map(&Span { start, pages, chunk: pages });
            split += 1;
        }
        split
    }
}

/// A table in an arena that has no other.
fn make(arena: &Arena) -> ManuallyDrop<X64PageTable<Handler>> {
    arena.reset();
    ManuallyDrop::new(X64PageTable::try_new().expect("an arena has room for a root"))
}

impl Tree for Multiarch {
    fn root(&self) -> u64 {
        self.table.root_paddr().as_usize() as u64
    }

    fn entry(&self, node: u64, index: usize) -> u64 {
        self.arena.word(node, index).load(Ordering::Relaxed)
    }

    fn set(&self, node: u64, index: usize, bits: u64) {
        self.arena.word(node, index).fetch_or(bits, Ordering::Relaxed);
    }
}

impl Table for Multiarch {
    fn name(&self) -> String {
        "page_table_multiarch".to_owned()
    }

    fn keeps_notes(&self) -> bool {
        false
    }

    fn prepare(&mut self, state: State, span: &Span) {
        self.table = make(self.arena);
        match state {
            State::Root => {}
            State::Nodes => {
                self.map(span);
                self.unmap(span);
            }
            State::First => {
                for leaf in span.leaves() {
                    self.map(&page(leaf));
                }
            }
            State::Mapped => drop(self.map(span)),
            State::Used => {
                self.map(span);
                walk::use_pages(self, &span.range());
            }
            State::Huge => drop(self.map_huge(span)),
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
            Operation::MapUnmap => {
                let mut unmapped = 0;
                for vaddr in span.neighbours() {
                    self.map(&page(vaddr));
                    unmapped += self.unmap(&page(vaddr));
                }
                unmapped
            }
        }
    }
}
