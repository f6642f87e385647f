//! `aarch64-paging`: `Mapping`, a call per range, which may be a range of one page.
//!
//! It writes another architecture's entries. The table is not active, so that it takes the path
//! without checks for a break before the make, which is its fastest. Blocks are forbidden where
//! pages are mapped.

use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use aarch64_paging::Mapping;
use aarch64_paging::descriptor::{El23Attributes, PhysicalAddress, UpdatableDescriptor};
use aarch64_paging::paging::{Constraints, El2, MemoryRegion, PageTable, Translation};
use weft_bench::memory::{Arena, FRAME_SIZE};
use weft_bench::walk::{Format, Tree};
use weft_bench::workload::{LEAF_SPAN, Operation, Span, State, Table, frame_of};

const VALID: El23Attributes = El23Attributes::VALID;
const FLAGS: El23Attributes = VALID.union(El23Attributes::ACCESSED).union(El23Attributes::XN);

/// Where nodes come from.
#[derive(Debug)]
struct Frames(Arc<Arena>);

impl Translation<El23Attributes> for Frames {
    fn allocate_table(&mut self) -> (NonNull<PageTable<El23Attributes>>, PhysicalAddress) {
        let frame = self.0.allocate().expect("an arena has room for a workload's nodes");
        let frame = PhysicalAddress(frame as usize);
        (self.physical_to_virtual(frame), frame)
    }

    unsafe fn deallocate_table(&mut self, _table: NonNull<PageTable<El23Attributes>>) {
        // All frames come back at once, when the arena is reset.
    }

    fn physical_to_virtual(&self, frame: PhysicalAddress) -> NonNull<PageTable<El23Attributes>> {
        let table = self.0.base().wrapping_add(frame.0).cast();
        NonNull::new(table).expect("the arena is not at address 0")
    }
}

/// A table of `aarch64-paging`, called once per chunk of a span.
pub(crate) struct PerRange {
    arena: Arc<Arena>,
    table: Mapping<Frames, El2>,
    name: &'static str,
}

impl PerRange {
    /// A table in an arena.
    pub(crate) fn new(name: &'static str, arena: Arc<Arena>) -> Self {
        let table = make(&arena);
        Self { arena, table, name }
    }

    fn map_with(&mut self, span: &Span, flags: El23Attributes, constraints: Constraints) {
        for chunk in span.chunks() {
            let frame = PhysicalAddress(frame_of(chunk.start) as usize);
            let region = MemoryRegion::new(chunk.start as usize, chunk.end as usize);
            let mapping = self.table.map_range(&region, frame, flags, constraints);
            mapping.expect("the table covers the pages");
        }
    }

    fn map(&mut self, span: &Span) -> u64 {
        self.map_with(span, FLAGS, Constraints::NO_BLOCK_MAPPINGS);
        span.pages
    }

    fn map_huge(&mut self, span: &Span) -> u64 {
        self.map_with(&span.in_chunks(LEAF_SPAN / FRAME_SIZE), FLAGS, Constraints::empty());
        span.leaves().count() as u64
    }

    fn query(&self, chunks: impl Iterator<Item = (u64, u64)>) -> u64 {
        let mut sum = 0_u64;
        for (start, end) in chunks {
            let region = MemoryRegion::new(start as usize, end as usize);
            let walked = self.table.walk_range(&region, &mut |_, descriptor, _| {
                if descriptor.is_valid() {
                    sum = sum.wrapping_add(descriptor.output_address().0 as u64);
                }
                Ok(())
            });
            walked.expect("the table covers the pages");
        }
        sum
    }

    fn protect(&mut self, span: &Span) -> u64 {
        let changed = Cell::new(0);
        let read_only = |_: &MemoryRegion, entry: &mut UpdatableDescriptor<'_, El23Attributes>| {
            if entry.is_table() {
                return Ok(());
            }
            changed.set(changed.get() + 1);
            entry.modify_flags(El23Attributes::READ_ONLY, El23Attributes::empty())
        };
        for chunk in span.chunks() {
            let region = MemoryRegion::new(chunk.start as usize, chunk.end as usize);
            self.table.modify_range(&region, &read_only).expect("the pages are mapped");
        }
        changed.get()
    }

    /// Its unmapping does not say what was there, so the answer is ours.
    fn unmap(&mut self, span: &Span) -> u64 {
        self.map_with(span, El23Attributes::empty(), Constraints::NO_BLOCK_MAPPINGS);
        span.pages
    }

    /// There is no call for it, but whoever changes a part of a block splits it: a change of the
    /// first page that changes nothing does no more than that.
    fn split(&mut self, span: &Span) -> u64 {
        let mut split = 0;
        for start in span.leaves() {
            let region = MemoryRegion::new(start as usize, (start + FRAME_SIZE) as usize);
            self.table.modify_range(&region, &|_, _| Ok(())).expect("the page is mapped");
            split += 1;
        }
        split
    }
}

fn make(arena: &Arc<Arena>) -> Mapping<Frames, El2> {
    arena.reset();
    Mapping::new(Frames(Arc::clone(arena)), 0, El2)
}

impl Tree for PerRange {
    fn root(&self) -> u64 {
        self.table.root_address().0 as u64
    }

    fn format(&self) -> Format {
        Format::Aarch64
    }

    fn entry(&self, node: u64, index: usize) -> u64 {
        self.arena.word(node, index).load(Ordering::Relaxed)
    }

    fn set(&self, node: u64, index: usize, bits: u64) {
        self.arena.word(node, index).fetch_or(bits, Ordering::Relaxed);
    }
}

impl Table for PerRange {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn prepare(&mut self, state: State, span: &Span) {
        self.table = make(&self.arena);
        let whole = span.in_chunks(span.pages);
        match state {
            State::Root => {}
            State::Nodes => {
                self.map(&whole);
                // Nodes that a range covers would go.
                self.unmap(&span.in_chunks(LEAF_SPAN / FRAME_SIZE / 2));
            }
            State::First => {
                for leaf in span.leaves() {
                    self.map(&super::page(leaf));
                }
            }
            State::Mapped => drop(self.map(&whole)),
            State::Used => panic!("hardware's bits are others here"),
            State::Huge => drop(self.map_huge(&whole)),
        }
    }

    fn run(&mut self, operation: Operation, span: &Span) -> u64 {
        match operation {
            Operation::Map => self.map(span),
            Operation::MapHuge => self.map_huge(span),
            Operation::Query => self.query(span.chunks().map(|chunk| (chunk.start, chunk.end))),
            Operation::QueryRandom => {
                self.query(span.shuffled().map(|vaddr| (vaddr, vaddr + FRAME_SIZE)))
            }
            Operation::Protect => self.protect(span),
            Operation::Unmap => self.unmap(span),
            Operation::Split => self.split(span),
            Operation::MapUnmap => {
                let mut unmapped = 0;
                for vaddr in span.neighbours() {
                    self.map(&super::page(vaddr));
                    unmapped += self.unmap(&super::page(vaddr));
                }
                unmapped
            }
        }
    }
}
