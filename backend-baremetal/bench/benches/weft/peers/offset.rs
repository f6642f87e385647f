//! `x86_64`: `OffsetPageTable`, a call per page.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use weft_bench::memory::{Arena, FRAME_SIZE};
use weft_bench::walk::{self, Tree};
use weft_bench::workload::{LEAF_SPAN, Operation, Span, State, Table, frame_of};
use x86_64::structures::paging::mapper::TranslateResult;
use x86_64::structures::paging::{
    FrameAllocator, Mapper, OffsetPageTable, Page, PageTable, PageTableFlags, PhysFrame, Size2MiB,
    Size4KiB, Translate,
};
use x86_64::{PhysAddr, VirtAddr};

use super::page;

const READ_ONLY: PageTableFlags = PageTableFlags::PRESENT.union(PageTableFlags::NO_EXECUTE);
const FLAGS: PageTableFlags = READ_ONLY.union(PageTableFlags::WRITABLE);

/// A table of `x86_64`.
#[derive(Debug)]
pub(crate) struct Offset {
    arena: Arc<Arena>,
    root: u64,
    table: OffsetPageTable<'static>,
}

struct Frames<'a>(&'a Arena);

// SAFETY: an arena gives a frame out once until it is reset, which makes the table anew.
unsafe impl FrameAllocator<Size4KiB> for Frames<'_> {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        // The mapper clears the frame itself.
        let frame = self.0.allocate_raw()?;
        Some(PhysFrame::containing_address(PhysAddr::new(frame)))
    }
}

impl Offset {
    /// A table in an arena.
    pub(crate) fn new(arena: Arc<Arena>) -> Self {
        let (root, table) = make(&arena);
        Self { arena, root, table }
    }

    fn map(&mut self, span: &Span) -> u64 {
        for vaddr in span.addresses() {
            let page: Page<Size4KiB> = Page::containing_address(VirtAddr::new(vaddr));
            let frame = PhysFrame::containing_address(PhysAddr::new(frame_of(vaddr)));
            // SAFETY: nothing runs on this table.
            let flush = unsafe { self.table.map_to(page, frame, FLAGS, &mut Frames(&self.arena)) };
            flush.expect("the page is not mapped yet").ignore();
        }
        span.pages
    }

    fn map_huge(&mut self, span: &Span) -> u64 {
        let mut mapped = 0;
        for vaddr in span.leaves() {
            let page: Page<Size2MiB> = Page::containing_address(VirtAddr::new(vaddr));
            let frame = PhysFrame::containing_address(PhysAddr::new(frame_of(vaddr)));
            // SAFETY: nothing runs on this table.
            let flush = unsafe { self.table.map_to(page, frame, FLAGS, &mut Frames(&self.arena)) };
            flush.expect("the page is not mapped yet").ignore();
            mapped += 1;
        }
        mapped
    }

    fn query(&self, pages: impl Iterator<Item = u64>) -> u64 {
        let mut sum = 0_u64;
        for vaddr in pages {
            if let TranslateResult::Mapped { frame, offset, .. } =
                self.table.translate(VirtAddr::new(vaddr))
            {
                sum = sum.wrapping_add(frame.start_address().as_u64() + offset);
            }
        }
        sum
    }

    fn protect(&mut self, span: &Span) -> u64 {
        for vaddr in span.addresses() {
            let page: Page<Size4KiB> = Page::containing_address(VirtAddr::new(vaddr));
            // SAFETY: nothing runs on this table.
            let flush = unsafe { self.table.update_flags(page, READ_ONLY) };
            flush.expect("the page is mapped").ignore();
        }
        span.pages
    }

    fn unmap(&mut self, span: &Span) -> u64 {
        let mut unmapped = 0;
        for vaddr in span.addresses() {
            let page: Page<Size4KiB> = Page::containing_address(VirtAddr::new(vaddr));
            let (frame, flush) = self.table.unmap(page).expect("the page is mapped");
            flush.ignore();
            unmapped += u64::from(frame.start_address().as_u64() == frame_of(vaddr));
        }
        unmapped
    }

    /// There is no call for it: the huge page is unmapped, and its parts are mapped.
    fn split(&mut self, span: &Span) -> u64 {
        let mut split = 0;
        for start in span.leaves() {
            let page: Page<Size2MiB> = Page::containing_address(VirtAddr::new(start));
            let (_, flush) = self.table.unmap(page).expect("the page is mapped");
            flush.ignore();
            let pages = LEAF_SPAN / FRAME_SIZE;
            self.map(&Span { start, pages, chunk: pages });
            split += 1;
        }
        split
    }
}

/// A root, and what the crate makes of it.
fn make(arena: &Arena) -> (u64, OffsetPageTable<'static>) {
    arena.reset();
    let root = arena.allocate().expect("an arena has room for a root");
    let offset = VirtAddr::new(arena.base() as u64);
    let table = arena.base().wrapping_add(root as usize).cast::<PageTable>();
    // SAFETY: the frame was given out in the line before the last but one, all entries absent, and
    // the mapping it is in is leaked. No other reference to it exists while this one is used: the
    // walk reads it between calls only.
    let table = unsafe { &mut *table };
    // SAFETY: physical addresses are offsets into the arena.
    (root, unsafe { OffsetPageTable::new(table, offset) })
}

impl Tree for Offset {
    fn root(&self) -> u64 {
        self.root
    }

    fn entry(&self, node: u64, index: usize) -> u64 {
        self.arena.word(node, index).load(Ordering::Relaxed)
    }

    fn set(&self, node: u64, index: usize, bits: u64) {
        self.arena.word(node, index).fetch_or(bits, Ordering::Relaxed);
    }
}

impl Table for Offset {
    fn name(&self) -> String {
        "x86_64".to_owned()
    }

    fn keeps_notes(&self) -> bool {
        false
    }

    fn prepare(&mut self, state: State, span: &Span) {
        (self.root, self.table) = make(&self.arena);
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
