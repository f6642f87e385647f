//! What is measured: operations on tables, as workloads that are prepared, run and verified.
//!
//! Every table of this package does the same things to the same pages: from 64 GiB on, page `i`
//! maps frame `i` of memory that nobody owns. A [`Table`] is ours, a bound or a peer; [`Over`]
//! makes a [`Workload`] of a table and an operation. Only [`Workload::run`] is timed. What it did
//! is verified afterwards by somebody else: an independent walk over the entries (see
//! [`crate::walk`]), and the number that the run returned.

use std::fmt::Debug;
use std::ops::Range;
use std::time::Duration;

use crate::measure;
use crate::memory::{ENTRIES, FRAME_SIZE};
use crate::walk::{self, Found, Tree};

/// Where the pages begin.
pub const START: u64 = 64 << 30;
/// The first frame that pages map. No table has nodes there.
pub const FRAMES_START: u64 = 256 << 30;
/// Bytes that a leaf node covers.
pub const LEAF_SPAN: u64 = FRAME_SIZE * ENTRIES as u64;

/// The pages of a workload, and how many of them one call is given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// The address of the first page, aligned to what a leaf node covers.
    pub start: u64,
    /// How many pages there are.
    pub pages: u64,
    /// How many pages are changed at once: by one call, under one lock.
    pub chunk: u64,
}

impl Span {
    /// These many pages from [`START`] on, all at once.
    pub fn whole(pages: u64) -> Self {
        Self { start: START, pages, chunk: pages }
    }

    /// The same pages, `chunk` at a time.
    pub fn in_chunks(self, chunk: u64) -> Self {
        Self { chunk, ..self }
    }

    /// As many pages, `index` GiB further on, for another thread.
    pub fn for_thread(self, index: u64) -> Self {
        Self { start: self.start + (index << 30), ..self }
    }

    /// The addresses.
    pub fn range(&self) -> Range<u64> {
        self.start..self.start + self.pages * FRAME_SIZE
    }

    /// The addresses of each chunk.
    #[inline]
    pub fn chunks(&self) -> impl Iterator<Item = Range<u64>> + use<> {
        let Range { start, end } = self.range();
        let step = self.chunk * FRAME_SIZE;
        let first = move |index| start + index * step;
        (0..self.pages.div_ceil(self.chunk)).map(move |i| first(i)..(first(i) + step).min(end))
    }

    /// The address of each leaf node.
    #[inline]
    pub fn leaves(&self) -> impl Iterator<Item = u64> + use<> {
        let start = self.start;
        (0..self.pages.div_ceil(ENTRIES as u64)).map(move |index| start + index * LEAF_SPAN)
    }

    /// The address of each page.
    #[inline]
    pub fn addresses(&self) -> impl Iterator<Item = u64> + use<> {
        let start = self.start;
        (0..self.pages).map(move |index| start + index * FRAME_SIZE)
    }

    /// The address of each page, in an order that looks random and is always the same.
    #[inline]
    pub fn shuffled(&self) -> impl Iterator<Item = u64> + use<> {
        // An odd factor and a power of two: every page comes once.
        assert!(self.pages.is_power_of_two(), "pages are shuffled by a power of two of them");
        let Self { start, pages, .. } = *self;
        let page = move |index: u64| index.wrapping_mul(0x9e37_79b1).wrapping_add(77) & (pages - 1);
        (0..pages).map(move |index| start + page(index) * FRAME_SIZE)
    }

    /// The pages that [`Operation::MapUnmap`] maps and unmaps: all but the first of each leaf.
    #[inline]
    pub fn neighbours(&self) -> impl Iterator<Item = u64> + use<> {
        self.addresses().filter(|vaddr| !vaddr.is_multiple_of(LEAF_SPAN))
    }
}

/// The frame that the page at `vaddr` maps.
#[inline]
pub const fn frame_of(vaddr: u64) -> u64 {
    vaddr - START + FRAMES_START
}

/// What is done to the pages of a span.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// Map every page, writable.
    Map,
    /// Map huge pages of 2 MiB.
    MapHuge,
    /// Add up the frames of all pages.
    Query,
    /// Add up the frames of all pages, page by page in random order.
    QueryRandom,
    /// Take the right to write away from all pages.
    Protect,
    /// Unmap all pages, and return how many there were.
    Unmap,
    /// Split huge pages of 2 MiB into pages of 4 KiB.
    Split,
    /// Map each page and unmap it at once, in two calls; return how many were unmapped.
    MapUnmap,
}

/// What a table is like before an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// There is a root, and nothing else.
    Root,
    /// There are all nodes, with nothing in them.
    Nodes,
    /// The first page of each leaf is mapped.
    First,
    /// All pages are mapped, writable, and hardware has not used them.
    Mapped,
    /// All pages are mapped, writable, and hardware has used and written them.
    Used,
    /// All pages are mapped by huge pages of 2 MiB.
    Huge,
}

/// What somebody is in a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// This project.
    Ours,
    /// What is compared with: the work itself, and nothing else.
    Bound,
    /// Another crate, called once per page.
    PeerPerPage,
    /// Another crate, called once per range.
    PeerPerRange,
    /// Neither: something that helps to understand the others.
    Reference,
}

/// A page table that can be measured.
pub trait Table: Tree {
    /// What it is called in tables.
    fn name(&self) -> String;

    /// Whether a change of rights keeps what hardware has noted. A table where it does not is not
    /// asked for it.
    fn keeps_notes(&self) -> bool {
        true
    }

    /// Makes the table ready.
    fn prepare(&mut self, state: State, span: &Span);

    /// Does it. What is returned is verified: see [`Operation`].
    fn run(&mut self, operation: Operation, span: &Span) -> u64;

    /// The thread does nothing for a while: nobody should wait for it.
    fn rest(&mut self) {}
}

/// Something that is measured.
pub trait Workload {
    /// What it is called in tables.
    fn name(&self) -> String;

    /// What it is in its row.
    fn role(&self) -> Role;

    /// How many units one run has: pages, nodes, items.
    fn units(&self) -> u64;

    /// Makes everything ready.
    fn prepare(&mut self);

    /// The part that is timed.
    fn run(&mut self) -> u64;

    /// Runs, and says how long it took. To be replaced by workloads that begin with something
    /// other than work.
    fn timed(&mut self) -> (u64, Duration) {
        measure::time(|| self.run())
    }

    /// Checks that the run, which returned `result`, did its work.
    ///
    /// # Errors
    ///
    /// One sentence that says what was not done.
    fn verify(&mut self, result: u64) -> Result<(), String>;
}

/// An operation over a table.
#[derive(Debug)]
pub struct Over<T> {
    table: T,
    role: Role,
    operation: Operation,
    state: State,
    span: Span,
}

impl<T: Table> Over<T> {
    /// The operation, over the table in this state.
    pub fn new(role: Role, table: T, operation: Operation, state: State, span: Span) -> Self {
        Self { table, role, operation, state, span }
    }
}

impl<T: Table> Workload for Over<T> {
    fn name(&self) -> String {
        self.table.name()
    }

    fn role(&self) -> Role {
        self.role
    }

    fn units(&self) -> u64 {
        units(self.operation, &self.span)
    }

    fn prepare(&mut self) {
        self.table.prepare(self.state, &self.span);
    }

    fn run(&mut self) -> u64 {
        self.table.run(self.operation, &self.span)
    }

    fn verify(&mut self, result: u64) -> Result<(), String> {
        let is_lossy = self.operation == Operation::Protect && !self.table.keeps_notes();
        let state = if is_lossy { State::Mapped } else { self.state };
        verify(self.operation, state, &self.span, &self.table, result)
    }
}

/// How many units an operation has: pages, of whatever size.
pub fn units(operation: Operation, span: &Span) -> u64 {
    match operation {
        Operation::MapHuge | Operation::Split => span.leaves().count() as u64,
        Operation::MapUnmap => span.neighbours().count() as u64,
        _ => span.pages,
    }
}

/// Checks what an operation that began in `state` has left, and what it has returned.
///
/// # Errors
///
/// One sentence that says what was not done.
pub fn verify(
    operation: Operation,
    state: State,
    span: &Span,
    tree: &dyn Tree,
    result: u64,
) -> Result<(), String> {
    let found = walk::walk(tree, &span.range());
    let leaves = span.leaves().count() as u64;
    let used = if state == State::Used { span.pages } else { 0 };
    let mapped = Found { pages: span.pages, writable: span.pages, ..Found::default() };
    let (returns, leaves_behind) = match operation {
        Operation::Map => (span.pages, mapped),
        Operation::MapHuge => (leaves, Found { huge: leaves, ..Found::default() }),
        Operation::Query | Operation::QueryRandom => {
            let sum = span.addresses().map(frame_of).fold(0, u64::wrapping_add);
            (sum, Found { used, ..mapped })
        }
        Operation::Protect => (span.pages, Found { pages: span.pages, used, ..Found::default() }),
        Operation::Unmap => (span.pages, Found::default()),
        Operation::Split => (leaves, mapped),
        Operation::MapUnmap => {
            let left = Found { pages: leaves, writable: leaves, ..Found::default() };
            (span.neighbours().count() as u64, left)
        }
    };
    if found != leaves_behind {
        return Err(format!("{operation:?} left {found:?} and not {leaves_behind:?}"));
    }
    if result != returns {
        return Err(format!("{operation:?} returned {result} and not {returns}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_the_span() {
        let span = Span::whole(1000).in_chunks(300);
        let chunks: Vec<_> = span.chunks().collect();
        assert_eq!(chunks.len(), 4);
        assert_eq!(chunks[0].start, span.range().start);
        assert!(chunks.windows(2).all(|pair| pair[0].end == pair[1].start));
        assert_eq!(chunks[3].end, span.range().end);
    }

    #[test]
    fn shuffled_pages_are_the_pages() {
        let span = Span::whole(1024);
        let mut shuffled: Vec<_> = span.shuffled().collect();
        assert!(!shuffled.is_sorted());
        shuffled.sort_unstable();
        assert!(shuffled.into_iter().eq(span.addresses()));
    }

    #[test]
    fn neighbours_leave_out_one_page_of_each_leaf() {
        assert_eq!(Span::whole(1024).neighbours().count(), 1022);
    }
}
