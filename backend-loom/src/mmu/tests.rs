//! The rules of paging hardware, each in small programs of which every execution is run.
//!
//! Tables are built by hand, and entries change behind the core's back: what no flush covers is
//! what the rules are about. The pages 0 and 1 are in the node `leaf`, and page 2 is in `other`,
//! which covers the second half of the addresses.

mod interrupts;
mod tags;
mod translations;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use weft_core::format::Property;
use weft_core::geometry::TinyThree;
use weft_core::sites::{CLEAR_ENTRY, ENTRY_INIT, ENTRY_UNDER_LOCK};
use weft_core::sync::{FrameUse, Word as _};
use weft_scenarios::world::World as _;

use super::*;
use crate::chosen::{self, EngineName};
use crate::engine::{Body, Execution, Failure, Program, Search, Verdict};
use crate::ghost::{Ghost, Phase};
use crate::memory::Pools;

type F = Format<TinyThree>;

/// Rights of a page, or notes, as tests say them.
const READ: PageFlags = PageFlags::USER;
const WRITE: PageFlags = PageFlags::WRITE;
const USED: PageFlags = PageFlags::ACCESSED;

/// A machine with a table.
struct Desk {
    model: Model<TinyThree>,
    root: Paddr,
    middle: Paddr,
    leaf: Paddr,
    other: Paddr,
    /// Frames with the contents 5, 6 and 7. The pages 0 to 2 map them at first.
    frames: [Paddr; 3],
    /// A word and a lock for each CPU but the first to wait for.
    words: [ModelWord; 2],
    lock: weft_core::lock::SpinLock<crate::words::ModelLockWord>,
}

fn actor() -> Actor {
    Actor::now().expect("nothing unwinds")
}

/// The address of a page.
fn page(number: usize) -> Vaddr {
    TinyThree::address(&[number & 1, number >> 1])
}

/// An entry that maps a frame.
fn item(frame: Paddr, flags: PageFlags) -> u64 {
    F::item(RawItem { frame, level: Level::LEAF, property: Property::new(READ | flags) })
}

/// An entry that leads to a node and was used.
fn node(child: Paddr) -> u64 {
    F::node(child) | ACCESSED
}

impl Desk {
    fn new(cpus: usize) -> Self {
        let model = Model::new(Pools { cpus, set_up: 7, per_cpu: 0 });
        let frame = |purpose| model.memory().allocate(actor(), purpose).expect("there are seven");
        let [root, middle, leaf, other] = [(); 4].map(|()| frame(FrameUse::Node));
        let frames = [5, 6, 7].map(|contents| {
            let frame = frame(FrameUse::Data);
            model.write_contents(frame, contents);
            frame
        });
        let words = [(); 2].map(|()| ModelWord::new("x", 0));
        let lock = weft_core::sync::RawLock::new("lock");
        let desk = Self { model, root, middle, leaf, other, frames, words, lock };
        let [first, second, third] = frames.map(|frame| item(frame, WRITE | USED));
        let table = [(root, [node(middle), 0]), (middle, [node(leaf), node(other)])];
        for (node, bits) in table.into_iter().chain([(leaf, [first, second]), (other, [third, 0])])
        {
            (0..2).for_each(|index| desk.entry(node, index).store(bits[index], &ENTRY_INIT));
        }
        desk
    }

    fn entry(&self, node: Paddr, index: usize) -> &ModelWord {
        self.model.memory().entry(node, index)
    }

    /// Software changes an entry, and flushes nothing.
    fn change(&self, node: Paddr, index: usize, bits: u64) {
        self.entry(node, index).swap(bits, &CLEAR_ENTRY);
    }

    /// The calling CPU runs on the table.
    fn run(&self) {
        self.load(0, false);
    }

    /// The calling CPU runs on the table, under this tag.
    fn load(&self, tag: u32, keeps: bool) {
        let root = TaggedRoot { root: self.root, tag, keeps };
        self.masked(|_| self.model.run_on(actor(), Some(root)));
    }

    fn masked<R>(&self, body: impl FnOnce(&mut Noted) -> R) -> R {
        self.model.mmu(actor().cpu()).masked(body)
    }

    /// The calling CPU invalidates a page.
    fn invalidate(&self, number: usize) {
        self.masked(|_| self.model.forget_flushed(actor(), Flush::Page(page(number))));
    }

    /// What an instruction reads from a page; 0 for a fault.
    fn read(&self, number: usize) -> u64 {
        self.model.user_read(page(number)).unwrap_or(0)
    }

    /// Whether an instruction can write a page.
    fn write(&self, number: usize, value: u64) -> u64 {
        self.model.user_write(page(number), value).into()
    }
}

/// What a CPU does; it gives what it saw.
type Role = fn(&Desk) -> Vec<u64>;

/// What all executions of a program gave.
struct Explored {
    verdict: Verdict,
    executions: u64,
    /// What all CPUs saw, one after the other.
    outcomes: BTreeSet<Vec<u64>>,
    failure: Option<Failure>,
}

/// Runs every execution of a program on a table that `prepare` has changed.
fn explore(prepare: fn(&Desk), roles: &'static [Role]) -> Explored {
    chosen::choose(EngineName::Explorer);
    let outcomes: Arc<Mutex<BTreeSet<Vec<u64>>>> = Arc::default();
    let seen = Arc::clone(&outcomes);
    let program: Program = Arc::new(move || {
        let ghost = Ghost::new(roles.len(), &[], Arc::default());
        ghost.enter();
        let desk = Arc::new(Desk::new(roles.len()));
        prepare(&desk);
        ghost.set_phase(Phase::Race);
        let saw: Arc<[Mutex<Vec<u64>>]> = roles.iter().map(|_| Mutex::default()).collect();
        let cpus = roles.iter().enumerate().map(|(cpu, role)| -> Body {
            let (desk, saw, ghost) = (Arc::clone(&desk), Arc::clone(&saw), Arc::clone(&ghost));
            Box::new(move || {
                ghost.enter();
                *saw[cpu].lock().expect("nothing panics here") = role(&desk);
            })
        });
        let cpus = cpus.collect();
        let seen = Arc::clone(&seen);
        let finish = move || {
            let all = saw.iter().flat_map(|saw| saw.lock().expect("nothing panics here").clone());
            seen.lock().expect("nothing panics here").insert(all.collect());
        };
        Execution { cpus, finish: Box::new(finish) }
    });
    let search = Search { time: Duration::from_secs(60), ..Search::new(roles.len()) };
    let found = Chosen::explore(&search, program);
    let outcomes = outcomes.lock().expect("nothing panics here").clone();
    let (verdict, executions, failure) = (found.verdict, found.executions, found.failure);
    Explored { verdict, executions, outcomes, failure }
}

/// All executions of a program give these outcomes, and there are so many.
#[track_caller]
fn gives<const N: usize>(
    prepare: fn(&Desk),
    roles: &'static [Role],
    executions: u64,
    expected: &[[u64; N]],
) {
    let found = explore(prepare, roles);
    let failure = found.failure.map(|failure| failure.message);
    assert_eq!((found.verdict, failure), (Verdict::Exhausted, None), "after {executions}");
    let expected: BTreeSet<_> = expected.iter().map(|outcome| outcome.to_vec()).collect();
    assert_eq!(found.outcomes, expected, "outcomes");
    assert_eq!(found.executions, executions, "executions");
}
