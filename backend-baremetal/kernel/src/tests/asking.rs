//! Self-tests of flushing, counted: which processors are asked to forget what, and how often.
//!
//! The boot processor changes a user's table, on which it does not run. All others halt meanwhile,
//! those that hold the space among them: a request has to wake them. After each change every
//! processor must have counted what is due, neither less nor more.

use core::ops::Range;
use core::sync::atomic::Ordering;

use spin::mutex::SpinMutex;
use weft_core::address::{CpuId, FRAME_SIZE, Vaddr};
use weft_core::cpu::Cpu;
use weft_core::cursor::Cursor;
use weft_core::format::{PageFlags, Property};
use weft_core::geometry::{FourLevels, Geometry};
use weft_core::space::AddressSpace;
use weft_core::sync::Backend;
use weft_protocol::Line;
use weft_scenarios::tables::UserTable;
use weft_scenarios::world::{Machine, World};
use x86_64::instructions::interrupts;

use super::flushing::{self, fresh, read_only};
use super::harness;
use super::kernel::Kernel;
use crate::machine::cpu::{self, CPUS_MAX};
use crate::machine::serial;
use crate::machine::waiting::{Rendezvous, Wait};
use crate::services::metal::{self, MetalMachine};
use crate::services::{roots, smp};

/// A part of what these tests fail with.
pub(crate) const MISCOUNTED: &str = "has flushed otherwise than is due";

/// The most pages that are flushed one by one.
const SINGLY_MAX: usize = <MetalMachine as Backend>::FLUSH_PAGES_MAX as usize;
/// The page of the leaf that stays, and the leaf with it.
const KEPT: usize = FourLevels::ENTRIES - 1;
/// The leaf beside: as long as it has a page, the node above stays.
const BESIDE: usize = 1;

type User = UserTable<MetalMachine>;

/// What a processor has counted, or what is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Tally {
    interrupts_sent: u64,
    requests_answered: u64,
    pages_invalidated: u64,
    full_flushes: u64,
    /// Loads of a root of which nothing that was cached was kept.
    loads_flushing: u64,
}

impl Tally {
    /// That of a processor, since it started.
    fn of(processor: usize) -> Self {
        let block = cpu::of(processor);
        Self {
            interrupts_sent: block.interrupts_sent.load(Ordering::Relaxed),
            requests_answered: block.requests_answered.load(Ordering::Relaxed),
            pages_invalidated: block.pages_invalidated.load(Ordering::Relaxed),
            full_flushes: block.full_flushes.load(Ordering::Relaxed),
            loads_flushing: block.root_loads.load(Ordering::Relaxed)
                - block.roots_kept.load(Ordering::Relaxed),
        }
    }

    fn since(self, before: Self) -> Self {
        Self {
            interrupts_sent: self.interrupts_sent - before.interrupts_sent,
            requests_answered: self.requests_answered - before.requests_answered,
            pages_invalidated: self.pages_invalidated - before.pages_invalidated,
            full_flushes: self.full_flushes - before.full_flushes,
            loads_flushing: self.loads_flushing - before.loads_flushing,
        }
    }
}

/// Due of a processor that is asked for so many pages.
fn pages(count: usize) -> Tally {
    Tally { requests_answered: 1, pages_invalidated: count as u64, ..Tally::default() }
}

/// Due of a processor that is asked for everything.
const EVERYTHING: Tally = Tally {
    interrupts_sent: 0,
    requests_answered: 1,
    pages_invalidated: 0,
    full_flushes: 1,
    loads_flushing: 0,
};

/// The addresses of pages of the leaf.
fn addresses(pages: Range<usize>) -> Range<Vaddr> {
    FourLevels::address(&[pages.start])..FourLevels::address(&[pages.end - 1]).plus(FRAME_SIZE)
}

/// A space, and the processors that run on it.
struct Bench {
    machine: MetalMachine,
    space: AddressSpace<User>,
    /// One that maps nothing.
    other: AddressSpace<User>,
    cpus: [SpinMutex<Option<Cpu<MetalMachine>>>; CPUS_MAX],
}

impl Bench {
    /// A space with a page in each of two leaves, and every processor a CPU.
    fn new(kernel: &Kernel) -> Self {
        let processors = cpu::online();
        assert!(processors > 1, "asking takes two processors");
        let machine = kernel.machine;
        let boot = metal::online(&machine, processors);
        let world = Machine::of_kernel(&machine, boot, kernel.space);
        let [space, other] = [(); 2].map(|()| world.user_space());
        world.map(&space, FourLevels::address(&[KEPT]), KEPT as u64);
        world.map(&space, FourLevels::address(&[0, BESIDE]), 0);
        assert!(world.finish_set_up().is_none(), "the kernel runs on its only table");
        let cpus = [const { SpinMutex::new(None) }; CPUS_MAX];
        let bench = Self { machine, space, other, cpus };
        smp::on_all(&|processor| {
            metal::play(CpuId::new(processor as u32));
            *bench.cpus[processor].lock() = Some(metal::online(&machine, processor));
        });
        bench
    }

    /// Has some processors do something with their CPUs. Then they halt.
    fn on(&self, processors: Range<usize>, act: impl Fn(&mut Cpu<MetalMachine>) + Sync) {
        smp::on_all(&|processor| {
            if processors.contains(&processor) {
                act(self.cpus[processor].lock().as_mut().expect("every processor has a CPU"));
            }
        });
    }

    fn activate(&self, own: &mut Cpu<MetalMachine>) {
        own.activate(&self.space).expect("it is a root");
        assert!(
            self.machine.user_read(FourLevels::address(&[KEPT])) == Some(KEPT as u64),
            "a page is not there"
        );
    }

    /// Lets the boot processor change pages of the leaf.
    fn change(&self, pages: Range<usize>, change: impl FnOnce(&mut Cursor<'_, User>)) {
        let own = self.cpus[cpu::this().id].lock();
        let section = own.as_ref().expect("every processor has a CPU").read_side();
        let cursor = Cursor::lock(self.space.borrow(&section), addresses(pages));
        change(&mut cursor.expect("there is memory enough"));
    }

    /// Does something, and demands that processors flush what is due of each, and the boot
    /// processor sends an interrupt for each that answers.
    fn demand(&self, what: &str, due: impl Fn(usize) -> Tally, act: impl FnOnce()) {
        let before: [Tally; CPUS_MAX] = core::array::from_fn(|processor| {
            if processor < cpu::online() { Tally::of(processor) } else { Tally::default() }
        });
        act();
        let asked = (1..cpu::online()).map(|processor| due(processor).requests_answered).sum();
        for (processor, before) in before.into_iter().enumerate().take(cpu::online()) {
            let mut due = due(processor);
            if processor == 0 {
                due.interrupts_sent = asked;
            }
            let found = Tally::of(processor).since(before);
            assert!(
                found == due,
                "{what}: processor {processor} {MISCOUNTED}: {found:?} instead of {due:?}"
            );
        }
    }

    /// Maps pages that may be read only, which nothing has to be flushed for.
    fn map(&self, pages: Range<usize>) {
        self.demand(
            "pages are mapped",
            |_| Tally::default(),
            || {
                self.change(pages, |cursor| {
                    let end = cursor.range().end;
                    let page = |_| fresh(&self.machine, PageFlags::USER, 0);
                    cursor.map_pages(end, page).expect("nothing is there");
                });
            },
        );
    }

    /// Unmaps pages.
    fn unmap(&self, pages: Range<usize>) {
        let count = pages.len() as u64;
        self.change(pages, |cursor| {
            let end = cursor.range().end;
            assert!(cursor.unmap(end) == Ok(count), "a page is not there");
        });
    }

    /// Gives everything up, and reports.
    fn end(self) {
        smp::on_all(&|processor| {
            drop(self.cpus[processor].lock().take());
            metal::rest();
        });
        drop(self);
        harness::report_counts();
    }
}

/// Processors that hold the space are asked, once for each change, and no others: for single pages,
/// or for everything if there are many. Nothing is asked for what only becomes more.
pub(crate) fn only_holders_are_asked(kernel: &Kernel) {
    let frames = kernel.machine.region().live();
    let bench = Bench::new(kernel);
    for first in (1..=cpu::online()).rev() {
        // One more than before.
        bench.on(first..cpu::online(), |own| bench.activate(own));
        let of_holders =
            |due: Tally| move |processor| if processor < first { Tally::default() } else { due };
        for count in [1, 2, SINGLY_MAX] {
            bench.map(0..count);
            bench.demand("pages are unmapped", of_holders(pages(count)), || bench.unmap(0..count));
        }
        bench.map(0..SINGLY_MAX + 1);
        bench.demand(
            "rights are given",
            |_| Tally::default(),
            || {
                bench.change(0..2, |cursor| {
                    let writable = |mut property: Property| {
                        property.flags.insert(PageFlags::WRITE);
                        property
                    };
                    assert!(cursor.protect(cursor.range().end, writable) == Ok(2), "no page");
                });
            },
        );
        bench.demand("rights are taken away", of_holders(pages(2)), || {
            bench.change(0..2, |cursor| {
                assert!(cursor.protect(cursor.range().end, read_only) == Ok(2), "no page");
            });
        });
        bench.demand("many pages are unmapped", of_holders(EVERYTHING), || {
            bench.unmap(0..SINGLY_MAX + 1);
        });
    }
    bench.on(0..cpu::online(), Cpu::deactivate);
    bench.map(0..1);
    bench.demand("all have left", |_| Tally::default(), || bench.unmap(0..1));
    bench.end();
    let left = kernel.machine.region().live();
    assert!(left == frames, "leak: {frames} frames were in use before, {left} after");
}

/// A lazy processor is not asked for pages, but for nodes; and it forgets everything when it comes
/// back, if there was anything that it was not asked for.
pub(crate) fn lazy_processors_catch_up(kernel: &Kernel) {
    let bench = Bench::new(kernel);
    let lazy = 1;
    let all = lazy..cpu::online();
    let comes_back = || bench.on(lazy..lazy + 1, |own| own.activate(&bench.space).expect("a root"));
    let nothing = |_| Tally::default();
    let of = |lazy_due: Tally, due: Tally| {
        move |processor| match processor {
            0 => Tally::default(),
            1 => lazy_due,
            _ => due,
        }
    };
    let itself = Tally { full_flushes: 1, ..Tally::default() };
    bench.on(all.clone(), |own| bench.activate(own));
    bench.on(lazy..lazy + 1, Cpu::lazy);
    bench.demand("nothing has changed", nothing, comes_back);
    bench.on(lazy..lazy + 1, Cpu::lazy);
    bench.map(0..2);
    bench.demand("a page is unmapped", of(Tally::default(), pages(1)), || bench.unmap(0..1));
    bench.demand("it comes back", of(itself, Tally::default()), comes_back);
    bench.demand("it is back", of(pages(1), pages(1)), || bench.unmap(1..2));
    bench.on(lazy..lazy + 1, Cpu::lazy);
    // The whole leaf, with the last page in it: a node goes.
    bench.demand("a node is taken out", of(EVERYTHING, EVERYTHING), || {
        bench.change(0..FourLevels::ENTRIES, |cursor| {
            let taken = cursor.take_next().expect("no page is huge").expect("a page is there");
            assert!(taken.frames == 1, "the leaf is not taken as a whole");
        });
    });
    bench.demand("it was asked for all", nothing, comes_back);
    bench.end();
}

/// A processor that comes back to a space flushes it if a page was taken away meanwhile, for which
/// it is not asked. Otherwise it flushes nothing, if processors have tags.
pub(crate) fn processors_come_back_to_tags(kernel: &Kernel) {
    let bench = Bench::new(kernel);
    let switches = 1;
    let on_it = |act: &(dyn Fn(&mut Cpu<MetalMachine>) + Sync)| {
        bench.on(switches..switches + 1, act);
    };
    let leaves = || on_it(&|own| own.activate(&bench.other).expect("a root"));
    let comes_back = || on_it(&|own| bench.activate(own));
    let loads = |loads_flushing| {
        move |processor| match processor {
            1 => Tally { loads_flushing, ..Tally::default() },
            _ => Tally::default(),
        }
    };
    let has_tags = roots::are_tagged();
    serial::line(&Line::Metric { name: "processors have tags", value: has_tags.into() });
    let kept = loads(u64::from(!has_tags));
    let page = addresses(0..1).start;
    bench.map(0..1);
    bench.demand("it comes", loads(1), comes_back);
    bench.demand("it goes for the first time", loads(1), leaves);
    for _ in 0..3 {
        bench.demand("nothing has changed", kept, comes_back);
        on_it(&|_| assert!(bench.machine.user_read(page) == Some(0), "a page is not there"));
        bench.demand("the other space has not changed", kept, leaves);
        bench.demand("it is not asked", |_| Tally::default(), || bench.unmap(0..1));
        bench.demand("a page was unmapped", loads(1), comes_back);
        on_it(&|_| assert!(bench.machine.user_read(page).is_none(), "{}", flushing::STALE));
        bench.map(0..1);
        bench.demand("nothing was flushed", kept, leaves);
    }
    bench.end();
}

/// A processor that is asked has its interrupts off for good.
pub(crate) fn a_processor_is_deaf(kernel: &Kernel) {
    let bench = Bench::new(kernel);
    bench.map(0..1);
    bench.on(1..2, |own| bench.activate(own));
    let meeting = Rendezvous::new(2);
    smp::on_all(&|processor| match processor {
        0 => {
            meeting.wait();
            bench.unmap(0..1);
        }
        1 => {
            interrupts::disable();
            meeting.wait();
            let mut wait = Wait::new();
            loop {
                wait.relax();
            }
        }
        _ => {}
    });
}
