//! Windows as a model of paging hardware, against a machine that has its caches.
//!
//! A toy page table: one upper entry, two nodes of two leaf entries each, two pages. CPUs change
//! entries (locked or with a release store), access pages, flush one page or everything on all CPUs
//! or a page on their own, pass on a signal, and mask interrupts for a while. The engine runs the
//! programs with a mutex per CPU that carries windows, the way in which a model of paging hardware
//! is to use them; `caches` says what a CPU with a TLB, paging-structure caches and walks under way
//! may do. The machine is that of SC or of TSO. RC11 allows whatever TSO does (locked writes are
//! `AcqRel` updates, the others `Release` stores, all loads `Acquire`), so TSO's machine is the one
//! whose outcomes it must have.
//!
//! **Nothing is missed**: every outcome of the machine is one of the engine's. And **nothing else
//! is added than what is known**, in three kinds, which are counted, with bounds:
//!
//! * *Several entries.* A CPU may use a newer translation of a page, and then an older one again.
//!   Hardware with one TLB entry per page does not, but the manuals promise no single entry (SDM
//!   5.10.2.3 allows several of different page sizes, and asks software not to rely on which one is
//!   used). So this is what software has to expect. Here belongs too that an interrupt drains the
//!   store buffer of its target as far as the last access or masked section and no further: the
//!   target's own stores are not interrupted by the model.
//! * *Mixed levels.* After another page was invalidated (or has faulted), the upper entry is gone
//!   and translations of this page are not: they were complete. The window of this page does not
//!   say which ones were, so a load may go through the old upper entry and read a leaf that was
//!   written later. That is a false alarm only for software that leaves a page mapped through a
//!   node that it has taken out, changes the node's entry, and has flushed another page in between.
//! * *RC11 alone.* Its loads, those of hardware included, need not agree on the order of
//!   independent writes, and a store may be overtaken by a later load even if it is locked.
//!
//! Under SC and TSO, the engine's outcomes are exactly those of the machine with the first two.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release, SeqCst};
use std::sync::{Arc, Mutex as Shared, PoisonError};

use weft_explorer::{
    Atomic, Model, Mutex, MutexGuard, Options, Report, Verdict, Window, assume, choose, explore,
    fence, spawn,
};

use super::caches::{Rules, enumerate};
use super::random::Random;

pub(crate) const PAGES: usize = 2;
pub(crate) type Page = usize;

/// The words of memory: the upper entry, which names a node by 1 or 2; four leaf entries; and a
/// word for signals.
pub(crate) const WORDS: usize = 6;
pub(crate) const UPPER: usize = 0;
pub(crate) const FLAG: usize = 5;
/// Everything is mapped that may be kept; or the first page is not, and the second one was never
/// accessed, so that what is there is read now.
pub(crate) const INITIAL: [[u8; WORDS]; 2] = [[1, 2, 4, 6, 0, 0], [1, 0, 3, 0, 5, 0]];

pub(crate) fn leaf_word(node: usize, page: Page) -> usize {
    1 + node * PAGES + page
}

/// Whether hardware may keep an entry. Leaf entries that are odd were never accessed, so that it
/// must not.
pub(crate) fn is_kept(word: usize, entry: u8) -> bool {
    entry != 0 && (word == UPPER || entry.is_multiple_of(2))
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// A user's access: the register gets the leaf entry that was used, or 0 for a fault.
    Read(Page),
    Write {
        word: usize,
        value: u8,
        is_locked: bool,
    },
    /// Invalidates on all CPUs.
    Flush(Option<Page>),
    FlushHere(Page),
    Signal,
    /// Loads the word for signals.
    Look,
    Mask,
    Unmask,
}

impl Step {
    /// Whether the store buffer is drained first.
    pub(crate) fn is_locked(&self) -> bool {
        match self {
            Step::Write { is_locked, .. } => *is_locked,
            Step::Flush(_) | Step::FlushHere(_) | Step::Signal => true,
            Step::Read(_) | Step::Look | Step::Mask | Step::Unmask => false,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Program {
    pub(crate) initial: [u8; WORDS],
    pub(crate) cpus: Vec<Vec<Step>>,
}

impl fmt::Display for Program {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cpus: Vec<String> = self.cpus.iter().map(|steps| format!("{steps:?}")).collect();
        write!(formatter, "{:?}: {}", self.initial, cpus.join(" || "))
    }
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Outcome {
    pub(crate) registers: Vec<Vec<u8>>,
    pub(crate) memory: [u8; WORDS],
}

impl Program {
    /// A random program; the seed determines it.
    fn generate(cpus: usize, steps_max: u64, seed: u64) -> Program {
        let mut random = Random::new(seed);
        let mut value = 6;
        let cpus = (0..cpus)
            .map(|_| {
                let (count, mut steps) = (1 + random.below(steps_max), Vec::new());
                for _ in 0..count {
                    match random.below(12 + 2 * cpus as u64) {
                        0..5 => steps.push(Step::Read(random.below(2) as Page)),
                        5..7 => {
                            let page = random.below(2) as Page;
                            steps.push(Step::Flush((random.below(4) > 0).then_some(page)));
                        }
                        7 => steps.push(Step::FlushHere(random.below(2) as Page)),
                        8 => {
                            steps.push(Step::Mask);
                            (0..2).for_each(|_| steps.push(simple_step(&mut random, &mut value)));
                            steps.push(Step::Unmask);
                        }
                        _ => steps.push(simple_step(&mut random, &mut value)),
                    }
                }
                steps
            })
            .collect();
        Program { initial: INITIAL[seed as usize % 2], cpus }
    }
}

/// A step that waits for no other CPU.
fn simple_step(random: &mut Random, value: &mut u8) -> Step {
    let is_locked = random.below(3) > 0;
    match random.below(10) {
        0..4 => {
            let word = leaf_word(random.below(3) as usize / 2, random.below(2) as Page);
            *value += 1;
            let value = if random.below(3) == 0 { 0 } else { *value };
            Step::Write { word, value, is_locked }
        }
        4..6 => Step::Write { word: UPPER, value: random.below(3) as u8, is_locked },
        6 => Step::Signal,
        7 => Step::Look,
        _ => Step::Read(random.below(2) as Page),
    }
}

/// Since when the hardware of a CPU may have read what it uses: the data of the mutex that the CPU
/// holds while it cannot be interrupted.
#[derive(Clone, Default)]
struct Since {
    pages: [Window; PAGES],
    structure: Window,
}

impl Since {
    fn invalidate(&mut self, page: Option<Page>, now: Window) {
        self.structure = now;
        match page {
            Some(page) => self.pages[page] = now,
            None => self.pages = [now; PAGES],
        }
    }
}

struct Machine {
    words: Vec<Atomic>,
    cpus: Vec<Mutex<Since>>,
}

impl Machine {
    fn translate(&self, since: &mut Since, page: Page) -> u8 {
        // A translation that was complete before the upper entries were invalidated is used without
        // a walk; all of it must have been kept.
        let is_hit = since.pages[page] != since.structure && choose(2) == 1;
        let mut window = if is_hit { since.pages[page] } else { since.structure };
        let upper = self.words[UPPER].load_within(&mut window, |bits| bits != 0);
        assume(!is_hit || upper != 0);
        let leaf = match upper {
            0 => 0,
            node => {
                let word = &self.words[leaf_word(node as usize - 1, page)];
                word.load_within(&mut window, |bits| bits != 0 && bits.is_multiple_of(2)) as u8
            }
        };
        assume(!is_hit || is_kept(leaf_word(0, page), leaf));
        if leaf == 0 {
            since.invalidate(Some(page), Window::open());
        }
        leaf
    }

    fn flush(&self, cpu: usize, page: Option<Page>) {
        self.flush_here(cpu, page);
        let sent = Window::open();
        let mut others: Vec<usize> = (0..self.cpus.len()).filter(|other| *other != cpu).collect();
        // The order of the handlers is not that of the calls: see `Mutex::interrupt`.
        if others.len() > 1 && choose(2) == 1 {
            others.reverse();
        }
        for other in others {
            self.cpus[other].interrupt(&sent, |since, here| since.invalidate(page, *here));
        }
        fence(SeqCst);
    }

    fn flush_here(&self, cpu: usize, page: Option<Page>) {
        fence(SeqCst);
        self.cpus[cpu].with(|since| since.invalidate(page, Window::open()));
    }

    fn run(&self, cpu: usize, steps: &[Step]) -> Vec<u8> {
        let mut registers = Vec::new();
        let mut masked: Option<MutexGuard<'_, Since>> = None;
        for step in steps {
            match *step {
                Step::Read(page) => registers.push(match &mut masked {
                    Some(since) => self.translate(since, page),
                    None => self.cpus[cpu].with(|since| self.translate(since, page)),
                }),
                Step::Write { word, value, is_locked: true } => {
                    self.words[word].swap(value.into(), AcqRel);
                }
                Step::Write { word, value, .. } => self.words[word].store(value.into(), Release),
                Step::Flush(page) => self.flush(cpu, page),
                Step::FlushHere(page) => self.flush_here(cpu, Some(page)),
                Step::Signal => {
                    self.words[FLAG].fetch_add(1, AcqRel);
                }
                Step::Look => registers.push(self.words[FLAG].load(Acquire) as u8),
                Step::Mask => masked = Some(self.cpus[cpu].lock()),
                Step::Unmask => masked = None,
            }
        }
        registers
    }
}

/// The outcomes that the engine finds.
fn run(program: &Program, model: Model) -> (BTreeSet<Outcome>, Report) {
    let outcomes = Shared::new(BTreeSet::new());
    let options = Options { model, find_duplicates: true, ..Options::default() };
    let report = explore(&options, || {
        let machine = Arc::new(Machine {
            words: program.initial.iter().map(|value| Atomic::new(u64::from(*value))).collect(),
            cpus: program.cpus.iter().map(|_| Mutex::new(Since::default())).collect(),
        });
        let others: Vec<_> = (1..program.cpus.len())
            .map(|cpu| {
                let (machine, steps) = (Arc::clone(&machine), program.cpus[cpu].clone());
                spawn(move || machine.run(cpu, &steps))
            })
            .collect();
        let mut registers = vec![machine.run(0, &program.cpus[0])];
        registers.extend(others.into_iter().map(|other| other.join()));
        let mut memory = [0; WORDS];
        for (value, word) in memory.iter_mut().zip(&machine.words) {
            *value = word.load(Acquire) as u8;
        }
        let outcome = Outcome { registers, memory };
        outcomes.lock().unwrap_or_else(PoisonError::into_inner).insert(outcome);
    });
    (outcomes.into_inner().unwrap_or_else(PoisonError::into_inner), report)
}

/// Programs of so many CPUs that are compared.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group {
    pub(crate) cpus: usize,
    pub(crate) steps_max: u64,
    /// How many an ordinary test run tries; the long run takes ten times as many.
    pub(crate) programs: u64,
}

pub(crate) const GROUPS: [Group; 2] = [
    Group { cpus: 2, steps_max: 4, programs: 2000 },
    Group { cpus: 3, steps_max: 2, programs: 400 },
];

impl Group {
    pub(crate) fn generate(&self, seed: u64) -> Program {
        Program::generate(self.cpus, self.steps_max, seed)
    }
}

/// How many programs were compared, and how many of them have outcomes that the machine has not.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) programs: u64,
    pub(crate) executions: u64,
    pub(crate) outcomes: u64,
    /// Programs with outcomes of the three kinds.
    pub(crate) several: u64,
    pub(crate) mixed: u64,
    pub(crate) weaker: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Tally) {
        self.programs += other.programs;
        self.executions += other.executions;
        self.outcomes += other.outcomes;
        self.several += other.several;
        self.mixed += other.mixed;
        self.weaker += other.weaker;
    }
}

/// Compares a program under one model.
pub(crate) fn compare(program: &Program, model: Model) -> Result<Tally, String> {
    let tso = model != Model::Sc;
    let (outcomes, report) = run(program, model);
    if report.verdict != Verdict::Exhausted || report.duplicates != 0 {
        let failure = report.failure.map(|failure| failure.message);
        return Err(format!("{:?}, {} duplicates: {failure:?}", report.verdict, report.duplicates));
    }
    let strict = enumerate(program, Rules::Strict, tso);
    if let Some(outcome) = strict.difference(&outcomes).next() {
        return Err(format!("the engine misses {outcome:?}"));
    }
    let mut tally = Tally {
        programs: 1,
        executions: report.executions,
        outcomes: outcomes.len() as u64,
        ..Tally::default()
    };
    if outcomes == strict {
        return Ok(tally);
    }
    let several = enumerate(program, Rules::Several, tso);
    let mixed = enumerate(program, Rules::Mixed, tso);
    tally.several = u64::from(several.intersection(&outcomes).any(|it| !strict.contains(it)));
    tally.mixed = u64::from(mixed.intersection(&outcomes).any(|it| !several.contains(it)));
    tally.weaker = u64::from(outcomes.difference(&mixed).next().is_some());
    if model != Model::Rc11 && outcomes != mixed {
        let (extra, missed) = (outcomes.difference(&mixed).next(), mixed.difference(&outcomes));
        let missed = missed.take(1).collect::<Vec<_>>();
        return Err(format!(
            "windows differ from their caches: extra {extra:?}, missed {missed:?}"
        ));
    }
    Ok(tally)
}
