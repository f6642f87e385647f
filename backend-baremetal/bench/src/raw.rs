//! The bounds: what the work costs at least, written by hand.
//!
//! Entries are relaxed atomics, since hardware and walkers read them at any time; a lock is a
//! compare-exchange and a release store, uncontended. What is done to an entry is what a correct
//! table cannot leave out: look whether a page is mapped already, count the pages. What is not
//! done: errors other than a panic, levels other than four, formats, properties, ownership, any
//! path besides the straight one.
//!
//! A [`Raw`] descends from the root once for each chunk and leaf. With a chunk as long as the span
//! that is the *range bound*: the leaf pointer is kept, and each leaf is locked once. With a chunk
//! of one page it is the *transaction bound*: a full walk and a lock for each page.

use std::hint;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::memory::{Arena, ENTRIES, FRAME_SIZE};
use crate::walk::{self, ADDRESS, Tree, USED, WRITABLE};
use crate::workload::{LEAF_SPAN, Operation, Span, State, Table, frame_of};

const PRESENT: u64 = 1;
const HUGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
const NODE: u64 = PRESENT | WRITABLE | 1 << 2;
const PAGE: u64 = PRESENT | WRITABLE | NO_EXECUTE;

/// What a bound does besides the bare work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Care {
    /// Lock each leaf node, look whether it is stray, and count its pages.
    pub locks: bool,
    /// Change present entries with a locked instruction, because hardware may be writing them.
    pub exact: bool,
}

impl Care {
    /// Nothing.
    pub const NONE: Self = Self { locks: false, exact: false };
    /// Locks and counts.
    pub const LOCKS: Self = Self { locks: true, exact: false };
    /// Locks, counts and locked instructions.
    pub const EXACT: Self = Self { locks: true, exact: true };
}

/// A table by hand.
#[derive(Clone, Debug)]
pub struct Raw {
    arena: Arc<Arena>,
    root: u64,
    care: Care,
    name: &'static str,
    is_shared: bool,
}

impl Raw {
    /// A table in an arena, whose first frame becomes the root.
    pub fn new(name: &'static str, arena: Arc<Arena>, care: Care) -> Self {
        let root = arena.allocate().expect("an arena has room for a root");
        Self { arena, root, care, name, is_shared: false }
    }

    /// The same table, for a thread that shares it: it is never made anew.
    pub fn sharing(&self) -> Self {
        Self { is_shared: true, ..self.clone() }
    }

    /// The node of `level` that covers `vaddr`, growing what is missing.
    #[inline]
    pub(crate) fn descend(&self, vaddr: u64, level: u32) -> u64 {
        let mut node = self.root;
        for level in (level + 1..=4).rev() {
            let word = self.arena.word(node, index(vaddr, level));
            let entry = word.load(Ordering::Acquire);
            node = if entry == 0 { self.grow(word) } else { entry & ADDRESS };
        }
        node
    }

    #[cold]
    fn grow(&self, word: &AtomicU64) -> u64 {
        let node = self.arena.allocate().expect("an arena has room for a workload's nodes");
        word.store(node | NODE, Ordering::Release);
        node
    }

    /// Takes the lock of a node.
    #[inline]
    pub(crate) fn lock(&self, node: u64) {
        let lock = &self.arena.beside(node).lock;
        while lock.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
            hint::spin_loop();
        }
    }

    /// Gives the lock of a node back.
    #[inline]
    pub(crate) fn unlock(&self, node: u64) {
        self.arena.beside(node).lock.store(0, Ordering::Release);
    }

    /// Whether the lock of the leaf node for `vaddr` is held.
    pub(crate) fn is_locked(&self, vaddr: u64) -> bool {
        self.arena.beside(self.descend(vaddr, 1)).lock.load(Ordering::Relaxed) != 0
    }

    /// The leaf nodes of a span.
    pub(crate) fn leaf_nodes(&self, span: &Span) -> Vec<u64> {
        span.leaves().map(|leaf| self.descend(leaf, 1)).collect()
    }

    /// Calls `work` for the entry of every page, with the frame that it maps or will map. `work`
    /// says how many children that adds.
    #[inline(always)]
    fn each(&self, span: &Span, mut work: impl FnMut(&AtomicU64, u64) -> i16) {
        if span.chunk == 1 {
            span.addresses().for_each(|vaddr| self.page(vaddr, &mut work));
        } else {
            span.chunks().for_each(|chunk| self.range(chunk, &mut work));
        }
    }

    /// One page: a walk, and a lock if that is asked for.
    #[inline(always)]
    fn page(&self, vaddr: u64, work: &mut impl FnMut(&AtomicU64, u64) -> i16) {
        let leaf = self.descend(vaddr, 1);
        let word = self.arena.word(leaf, index(vaddr, 1));
        if self.care.locks {
            self.locked(leaf, || work(word, frame_of(vaddr)));
        } else {
            work(word, frame_of(vaddr));
        }
    }

    /// A range: a walk for each leaf, and a lock if that is asked for.
    #[inline(always)]
    fn range(&self, chunk: Range<u64>, work: &mut impl FnMut(&AtomicU64, u64) -> i16) {
        let mut vaddr = chunk.start;
        while vaddr < chunk.end {
            let leaf = self.descend(vaddr, 1);
            let end = ((vaddr | (LEAF_SPAN - 1)) + 1).min(chunk.end);
            let first = index(vaddr, 1);
            let entries = &self.arena.node(leaf)[first..first + pages(end - vaddr)];
            let mut frame = frame_of(vaddr);
            let mut all = || {
                let mut added = 0;
                for word in entries {
                    added += work(word, frame);
                    frame += FRAME_SIZE;
                }
                added
            };
            if self.care.locks {
                self.locked(leaf, all);
            } else {
                all();
            }
            vaddr = end;
        }
    }

    /// Works under the lock of a leaf that is not stray, and counts its children.
    #[inline(always)]
    fn locked(&self, leaf: u64, work: impl FnOnce() -> i16) {
        let beside = self.arena.beside(leaf);
        self.lock(leaf);
        assert!(beside.stray.load(Ordering::Relaxed) == 0, "nothing is detached here");
        let children = beside.children.load(Ordering::Relaxed);
        let added = work();
        beside.children.store(children.wrapping_add_signed(added), Ordering::Relaxed);
        self.unlock(leaf);
    }

    /// Maps each page to the next of these frames.
    pub(crate) fn map_frames(&self, span: &Span, mut frames: impl Iterator<Item = u64>) {
        self.each(span, |word, _| {
            let frame = frames.next().expect("there is a frame for each page");
            word.store(frame | PAGE, Ordering::Release);
            1
        });
    }

    fn map(&self, span: &Span) -> u64 {
        self.each(span, |word, frame| {
            assert!(word.load(Ordering::Relaxed) == 0, "the page is mapped already");
            word.store(frame | PAGE, Ordering::Release);
            1
        });
        span.pages
    }

    fn query(&self, span: &Span) -> u64 {
        let mut sum = 0_u64;
        self.each(span, |word, _| add_up(word, &mut sum));
        sum
    }

    fn query_random(&self, span: &Span) -> u64 {
        let mut sum = 0_u64;
        for vaddr in span.shuffled() {
            self.page(vaddr, &mut |word, _| add_up(word, &mut sum));
        }
        sum
    }

    fn protect(&self, span: &Span) -> u64 {
        let mut changed = 0;
        self.each(span, |word, _| {
            let entry = word.load(Ordering::Relaxed);
            if entry == 0 {
                return 0;
            }
            changed += 1;
            if self.care.exact {
                exchange(word, entry, |entry| entry & !WRITABLE);
            } else {
                word.store(entry & !WRITABLE, Ordering::Relaxed);
            }
            0
        });
        changed
    }

    fn unmap(&self, span: &Span) -> u64 {
        // Whoever unmaps wants to know which frame it was.
        self.unmap_with(span, |frame| {
            hint::black_box(frame);
        })
    }

    /// Unmaps every page, and gives the frames to `take`.
    #[inline(always)]
    pub(crate) fn unmap_with(&self, span: &Span, mut take: impl FnMut(u64)) -> u64 {
        let mut unmapped = 0;
        self.each(span, |word, _| {
            let mut entry = word.load(Ordering::Relaxed);
            if entry == 0 {
                return 0;
            }
            if self.care.exact {
                entry = word.swap(0, Ordering::Relaxed);
            } else {
                word.store(0, Ordering::Relaxed);
            }
            take(entry & ADDRESS);
            unmapped += 1;
            -1
        });
        unmapped
    }

    fn map_huge(&self, span: &Span) -> u64 {
        let directory = self.descend(span.start, 2);
        let mut mapped = 0;
        for chunk in span.chunks() {
            if self.care.locks {
                self.lock(directory);
            }
            for vaddr in chunk.step_by(LEAF_SPAN as usize) {
                let word = self.arena.word(directory, index(vaddr, 2));
                assert!(word.load(Ordering::Relaxed) == 0, "the page is mapped already");
                word.store(frame_of(vaddr) | PAGE | HUGE, Ordering::Release);
                mapped += 1;
            }
            if self.care.locks {
                self.unlock(directory);
            }
        }
        mapped
    }

    /// Replaces each huge page by a node of small ones: a new frame, filled and published.
    fn split(&self, span: &Span) -> u64 {
        let directory = self.descend(span.start, 2);
        let mut split = 0;
        for vaddr in span.leaves() {
            let word = self.arena.word(directory, index(vaddr, 2));
            let entry = word.load(Ordering::Relaxed);
            assert!(entry & HUGE != 0, "the page is huge");
            let node = self.arena.allocate_raw().expect("an arena has room for the nodes");
            let mut part = entry & !HUGE;
            for word in self.arena.node(node) {
                word.store(part, Ordering::Relaxed);
                part += FRAME_SIZE;
            }
            self.arena.beside(node).children.store(ENTRIES as u16, Ordering::Relaxed);
            word.store(node | NODE, Ordering::Release);
            split += 1;
        }
        split
    }

    fn map_unmap(&self, span: &Span) -> u64 {
        let page = |start| Span { start, pages: 1, chunk: 1 };
        let mut unmapped = 0;
        for vaddr in span.neighbours() {
            self.map(&page(vaddr));
            unmapped += self.unmap(&page(vaddr));
        }
        unmapped
    }
}

/// Adds the frame of an entry to a sum.
#[inline]
fn add_up(word: &AtomicU64, sum: &mut u64) -> i16 {
    let entry = word.load(Ordering::Acquire);
    if entry != 0 {
        *sum = sum.wrapping_add(entry & ADDRESS);
    }
    0
}

/// How many pages these bytes are.
#[inline]
fn pages(bytes: u64) -> usize {
    (bytes / FRAME_SIZE) as usize
}

/// Changes an entry that hardware may be writing.
#[inline]
fn exchange(word: &AtomicU64, mut entry: u64, change: impl Fn(u64) -> u64) {
    let relaxed = Ordering::Relaxed;
    while let Err(found) = word.compare_exchange(entry, change(entry), relaxed, relaxed) {
        entry = found;
    }
}

/// The index of `vaddr` in a node of `level`.
#[inline]
fn index(vaddr: u64, level: u32) -> usize {
    (vaddr >> (3 + 9 * level)) as usize % ENTRIES
}

impl Tree for Raw {
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

impl Table for Raw {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn prepare(&mut self, state: State, span: &Span) {
        let whole = span.in_chunks(span.pages);
        if self.is_shared {
            self.unmap(&whole);
        } else {
            self.arena.reset();
            self.root = self.arena.allocate().expect("an arena has room for a root");
        }
        match state {
            State::Root => {}
            State::Nodes => drop(self.leaf_nodes(span)),
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
            Operation::Query => self.query(span),
            Operation::QueryRandom => self.query_random(span),
            Operation::Protect => self.protect(span),
            Operation::Unmap => self.unmap(span),
            Operation::Split => self.split(span),
            Operation::MapUnmap => self.map_unmap(span),
        }
    }
}

// State::Mapped promises it.
const _: () = assert!(PAGE & USED == 0, "pages are mapped unused");
