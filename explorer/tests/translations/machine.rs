//! A toy page table with its CPUs.
//!
//! The table has an upper entry, two nodes and two pages; frames and nodes are plain memory that
//! must not be touched once it is freed. Each CPU has a mutex that it holds during a user's access
//! and while its interrupts are masked; the data of the mutex are the windows within which its
//! hardware may have read. A shootdown interrupts the CPUs that the mask names.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};

use weft_explorer::{Atomic, Mutex, Plain, Window, assume, choose, fence};

pub(crate) const PRESENT: u64 = 1;
pub(crate) const PAGES: usize = 2;
pub(crate) const CPUS: usize = 3;

pub(crate) fn entry(number: u64) -> u64 {
    number << 1 | PRESENT
}

pub(crate) fn is_present(bits: u64) -> bool {
    bits & PRESENT != 0
}

/// A frame or a node, which are numbered from 1.
pub(crate) struct Memory {
    is_freed: Plain<bool>,
}

impl Memory {
    pub(crate) fn new(name: &'static str) -> Memory {
        Memory { is_freed: Plain::named(name, false) }
    }

    pub(crate) fn touch(&self) {
        assert!(!self.is_freed.get(), "use after free");
    }

    pub(crate) fn free(&self) {
        self.touch();
        self.is_freed.set(true);
    }
}

/// Since when the hardware of a CPU may have read what it uses, and up to which flush it is clean.
#[derive(Clone, Debug, Default)]
pub(crate) struct Since {
    is_on: bool,
    pages: [Window; PAGES],
    structure: Window,
    pub(crate) clean: u64,
}

impl Since {
    pub(crate) fn invalidate(&mut self, page: Option<usize>, now: Window) {
        self.structure = now;
        match page {
            Some(page) => self.pages[page] = now,
            None => self.pages = [now; PAGES],
        }
    }
}

pub(crate) struct Machine {
    pub(crate) upper: Atomic,
    /// Entries of the two nodes.
    pub(crate) leaves: [[Atomic; PAGES]; 2],
    nodes: [Memory; 2],
    frames: [Memory; 3],
    /// The CPUs that may have translations, and those of them that are lazy.
    mask: Atomic,
    lazy: Atomic,
    pub(crate) generation: Atomic,
    pub(crate) cpus: [Mutex<Since>; CPUS],
    pub(crate) lock: Mutex<()>,
}

impl Machine {
    pub(crate) fn new() -> Machine {
        let leaf = |bits| Atomic::named("leaf", bits);
        Machine {
            upper: Atomic::named("upper", entry(1)),
            leaves: [[leaf(entry(1)), leaf(entry(2))], [leaf(0), leaf(0)]],
            nodes: ["node"; 2].map(Memory::new),
            frames: ["frame"; 3].map(Memory::new),
            mask: Atomic::named("mask", 0),
            lazy: Atomic::named("lazy", 0),
            generation: Atomic::named("generation", 0),
            cpus: [(); CPUS].map(|()| Mutex::new(Since::default())),
            lock: Mutex::new(()),
        }
    }

    pub(crate) fn node(&self, number: u64) -> &Memory {
        &self.nodes[number as usize - 1]
    }

    pub(crate) fn frame(&self, number: u64) -> &Memory {
        &self.frames[number as usize - 1]
    }

    /// A CPU begins to use the table: it says so, and then forgets what it had.
    pub(crate) fn activate(&self, cpu: usize, is_fenced: bool) {
        self.mask.fetch_or(1 << cpu, Relaxed);
        if is_fenced {
            fence(SeqCst);
        }
        self.load_root(cpu);
    }

    pub(crate) fn load_root(&self, cpu: usize) {
        let mut since = self.cpus[cpu].lock();
        since.clean = self.generation.load(Acquire);
        since.is_on = true;
        since.invalidate(None, Window::open());
    }

    /// The frame that a page translates to.
    pub(crate) fn translate(&self, since: &mut Since, page: usize) -> Option<u64> {
        // What was complete before the upper entries were invalidated is used without a walk.
        let is_hit = since.pages[page] != since.structure && choose(2) == 1;
        let mut window = if is_hit { since.pages[page] } else { since.structure };
        let upper = self.upper.load_within(&mut window, is_present);
        let mut leaf = 0;
        if is_present(upper) {
            if !is_hit {
                self.node(upper >> 1).touch();
            }
            let word = &self.leaves[(upper >> 1) as usize - 1][page];
            leaf = word.load_within(&mut window, is_present);
        }
        // A hit has kept all of the translation.
        assume(!is_hit || is_present(leaf));
        is_present(leaf).then_some(leaf >> 1)
    }

    /// A user's access: the frame, or a fault.
    pub(crate) fn read(&self, cpu: usize, page: usize) -> Option<u64> {
        let mut since = self.cpus[cpu].lock();
        let Some(frame) = self.translate(&mut since, page) else {
            // A fault drops what would translate the page.
            since.invalidate(Some(page), Window::open());
            return None;
        };
        self.frame(frame).touch();
        Some(frame)
    }

    /// Hardware walks for a page that no instruction accesses.
    pub(crate) fn speculate(&self, cpu: usize, page: usize) {
        let mut since = self.cpus[cpu].lock();
        if since.is_on {
            self.translate(&mut since, page);
        }
    }

    /// Invalidates on all CPUs of the mask.
    pub(crate) fn flush(&self, page: Option<usize>, is_fenced: bool) {
        if is_fenced {
            fence(SeqCst);
        }
        let mask = self.mask.load(Relaxed);
        self.ask(mask, |since, here| since.invalidate(page, *here));
    }

    /// Interrupts these CPUs, and waits for their handlers.
    pub(crate) fn ask(&self, mask: u64, handler: impl Fn(&mut Since, &mut Window)) {
        let sent = Window::open();
        for (cpu, since) in self.cpus.iter().enumerate() {
            if mask >> cpu & 1 == 1 {
                since.interrupt(&sent, &handler);
            }
        }
        fence(Acquire);
    }

    /// The same for protocols that count flushes, where lazy CPUs need not be asked for pages. A
    /// page alone is enough for a CPU that has missed no flush, while none is under way.
    pub(crate) fn flush_counted(
        &self,
        page: Option<usize>,
        asks_lazy: bool,
        is_fenced: bool,
        looks_for_gaps: bool,
    ) {
        let new = self.generation.fetch_add(1, AcqRel) + 1;
        if is_fenced {
            fence(SeqCst);
        }
        let mask = self.mask.load(Acquire);
        let lazy = if asks_lazy { 0 } else { self.lazy.load(Acquire) };
        self.ask(mask & !lazy, |since, here| {
            let newest = self.generation.load_within(here, |_| true);
            if since.clean == newest {
                return;
            }
            let has_no_gap = new == since.clean + 1 && new == newest;
            since.invalidate(page.filter(|_| has_no_gap || !looks_for_gaps), *here);
            since.clean = newest;
        });
    }

    /// The CPU does without interrupts for pages for a while.
    pub(crate) fn be_lazy(
        &self,
        cpu: usize,
        is_fenced: bool,
        checks: bool,
        meanwhile: impl FnOnce(),
    ) {
        self.lazy.fetch_or(1 << cpu, Release);
        meanwhile();
        self.lazy.fetch_and(!(1 << cpu), Relaxed);
        if is_fenced {
            fence(SeqCst);
        }
        self.catch_up(cpu, checks);
    }

    /// The CPU leaves the table, keeps what is tagged with it, and comes back.
    pub(crate) fn leave_and_come_back(&self, cpu: usize, is_fenced: bool, checks: bool) {
        self.cpus[cpu].lock().is_on = false;
        self.mask.fetch_and(!(1 << cpu), Release);
        self.mask.fetch_or(1 << cpu, Relaxed);
        if is_fenced {
            fence(SeqCst);
        }
        self.catch_up(cpu, checks);
        self.cpus[cpu].lock().is_on = true;
    }

    /// Forgets everything if there were flushes that the CPU was not asked for.
    pub(crate) fn catch_up(&self, cpu: usize, checks: bool) {
        let newest = self.generation.load(Acquire);
        let clean = self.cpus[cpu].lock().clean;
        if checks && newest != clean {
            self.load_root(cpu);
        }
    }

    pub(crate) fn clear_leaf(&self, page: usize) {
        self.leaves[0][page].swap(0, Release);
    }

    /// Unmaps the first page with the table's lock held, and flushes before or after letting go.
    pub(crate) fn unmap_locked(&self, flushes_first: bool) {
        let locked = self.lock.lock();
        self.clear_leaf(0);
        if flushes_first {
            self.flush(Some(0), true);
        }
        drop(locked);
        if !flushes_first {
            self.flush(Some(0), true);
        }
    }

    pub(crate) fn finds_empty(&self) -> bool {
        let _locked = self.lock.lock();
        !is_present(self.leaves[0][0].load(Relaxed))
    }
}
