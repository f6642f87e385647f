//! Self-tests of flushing: a translation that was taken away is used by nobody.
//!
//! All processors run on one user's table. Each test fills their translation
//! caches, changes the table with cursors on one processor or on all, and then looks from every
//! processor. Nobody here flushes anything: that is the cursors' business. Without it the
//! processors would go on with what they have cached: `sabotage=no-shootdown` shows that the tests
//! see that.
//!
//! *Cursors flush while they hold locks*, and wait until all processors have answered. So a
//! processor that waits for one of these locks has to answer, and so has one that waits for
//! answers; see [`who_waits_for_a_lock_answers`]. The user's pages are in two leaves, by turns:
//! neighbours flush at the same time, the others wait for each other's locks.

use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use weft_core::address::{CpuId, FRAME_SIZE, Vaddr};
use weft_core::cpu::Cpu;
use weft_core::cursor::Cursor;
use weft_core::format::{PageFlags, Property};
use weft_core::frame::Frame;
use weft_core::geometry::{FourLevels, Geometry};
use weft_core::item::MappedItem;
use weft_core::space::AddressSpace;
use weft_protocol::Line;
use weft_scenarios::random::Random;
use weft_scenarios::tables::UserTable;
use weft_scenarios::world::{Machine, World};

use super::harness;
use super::kernel::Kernel;
use crate::machine::waiting::{Rendezvous, Wait};
use crate::machine::{cpu, serial, trap};
use crate::services::metal::{self, MetalMachine};
use crate::services::{preemption, situations, smp};

/// What all these tests fail with.
pub(crate) const STALE: &str = "a processor used a translation that was taken away";

/// How often everybody takes a page away.
const STORM_ROUNDS: u64 = 100;
/// How often two processors take pages away while the others wait for their locks.
const WAITING_ROUNDS: u64 = 100;
/// In how many leaves the pages are.
const LEAVES: usize = 2;
/// The page of every leaf that nobody takes away, so that the leaf stays.
const KEPT: usize = FourLevels::ENTRIES - 1;

type User = UserTable<MetalMachine>;
type CoreCpu = Cpu<MetalMachine>;

/// What the processors of a test share.
struct Table {
    machine: MetalMachine,
    space: AddressSpace<User>,
    meeting: Rendezvous,
    /// Accesses that went through with a translation that was taken away.
    stale: AtomicU64,
}

/// The address of page `index`.
fn page(index: usize) -> Vaddr {
    FourLevels::address(&[index, index % LEAVES])
}

/// All pages of the leaf that page `index` is in, but the one that is kept.
fn leaf(index: usize) -> Range<Vaddr> {
    let leaf = index % LEAVES;
    FourLevels::address(&[0, leaf])..FourLevels::address(&[KEPT, leaf])
}

/// The same without the right to write.
pub(crate) fn read_only(mut property: Property) -> Property {
    property.flags.remove(PageFlags::WRITE);
    property
}

/// A page of a fresh frame with `contents`.
pub(crate) fn fresh(
    machine: &MetalMachine,
    flags: PageFlags,
    contents: u64,
) -> MappedItem<MetalMachine> {
    let frame = Frame::allocate(machine).expect("there is memory enough");
    machine.write_contents(frame.paddr(), contents);
    MappedItem::Tracked { frame, property: Property::new(flags) }
}

impl Table {
    /// Lets `change` have a locked range, and unlocks it.
    fn change(
        &self,
        own: &CoreCpu,
        range: Range<Vaddr>,
        change: impl FnOnce(&mut Cursor<'_, User>),
    ) {
        let section = own.read_side();
        let cursor = Cursor::lock(self.space.borrow(&section), range);
        change(&mut cursor.expect("there is memory enough"));
    }

    /// Takes away every page from `start` to `end`, and maps page `index` anew.
    fn renew(&self, cursor: &mut Cursor<'_, User>, end: Vaddr, index: usize, contents: u64) {
        let taken = cursor.unmap(end).expect("no huge page is in the way");
        assert!(taken > 0, "nothing was there to be taken away");
        cursor.jump(page(index)).expect("the page is in the range");
        let flags = PageFlags::WRITE | PageFlags::USER;
        cursor.map(fresh(&self.machine, flags, contents)).expect("the page was taken away");
    }

    /// Looks whether page `index` has these contents for the calling processor. Also a frame that
    /// was freed is just other contents.
    fn look(&self, index: usize, contents: Option<u64>) {
        if trap::try_read(page(index).as_u64()).ok() != contents {
            self.count_stale();
        }
    }

    fn count_stale(&self) {
        self.stale.fetch_add(1, Ordering::AcqRel);
    }
}

/// Runs `part` on every processor, on one table with a page for each, and reports.
fn on_one_table(kernel: &Kernel, part: impl Fn(&Table, &mut CoreCpu, usize) + Sync) {
    let processors = cpu::online();
    assert!(processors > 1, "a stale translation takes two processors");
    let machine = kernel.machine;
    let frames = machine.region().live();
    let boot = metal::online(&machine, processors);
    let world = Machine::of_kernel(&machine, boot, kernel.space);
    let space = world.user_space();
    for index in 0..processors {
        world.map(&space, page(index), index as u64);
    }
    for leaf in 0..LEAVES {
        world.map(&space, FourLevels::address(&[KEPT, leaf]), 0);
    }
    assert!(world.finish_set_up().is_none(), "the kernel runs on its only table");
    let meeting = Rendezvous::new(processors);
    let table = Table { machine, space, meeting, stale: AtomicU64::new(0) };
    smp::on_all(&|processor| {
        metal::play(CpuId::new(processor as u32));
        let mut own = metal::online(&machine, processor);
        own.activate(&table.space).expect("it is a root");
        for index in 0..processors {
            assert!(machine.user_read(page(index)) == Some(index as u64), "a page is not there");
        }
        table.meeting.wait();
        part(&table, &mut own, processor);
        table.meeting.wait();
        drop(own);
        metal::rest();
    });
    let stale = table.stale.load(Ordering::Acquire);
    drop(table);
    report(stale);
    let left = machine.region().live();
    assert!(left == frames, "leak: {frames} frames were in use before, {left} after");
}

/// One processor takes a page away; nobody can read it.
pub(crate) fn a_page_that_is_taken_away_is_gone(kernel: &Kernel) {
    on_one_table(kernel, |table, own, processor| {
        if processor == 0 {
            let (start, end) = (page(0), page(0).plus(FRAME_SIZE));
            table.change(own, start..end, |cursor| {
                assert!(cursor.unmap(end) == Ok(1), "a page is not there");
            });
        }
        table.meeting.wait();
        table.look(0, None);
    });
}

/// One processor takes the right to write a page away; nobody can write.
pub(crate) fn a_page_that_is_protected_is_not_written(kernel: &Kernel) {
    on_one_table(kernel, |table, own, processor| {
        assert!(table.machine.user_write(page(0), 1), "a page cannot be written");
        table.meeting.wait();
        if processor == 0 {
            table.change(own, page(0)..page(0).plus(FRAME_SIZE), |cursor| {
                let protected = cursor.protect_next(read_only).expect("no page is split");
                let before = protected.expect("the page is mapped").before;
                assert!(before.flags.contains(PageFlags::DIRTY), "a write left no trace");
            });
        }
        table.meeting.wait();
        if table.machine.user_write(page(0), 2) {
            table.count_stale();
        }
    });
}

/// Every processor takes its page away and maps another frame, all at once and preempted, again
/// and again; everybody then reads what is there now, in every page. So initiators meet each
/// other, and frames are used again as soon as they may be.
pub(crate) fn everybody_takes_pages_away(kernel: &Kernel) {
    on_one_table(kernel, |table, own, processor| {
        let mut random = Random::stream(1, processor as u64);
        let contents = |round: u64, index: usize| round << 8 | index as u64;
        let range = page(processor)..page(processor).plus(FRAME_SIZE);
        for round in 1..=STORM_ROUNDS {
            preemption::be_preempted(&mut random);
            table.change(own, range.clone(), |cursor| {
                table.renew(cursor, range.end, processor, contents(round, processor));
            });
            preemption::be_left_alone();
            own.quiescent();
            table.meeting.wait();
            for index in 0..cpu::online() {
                table.look(index, Some(contents(round, index)));
            }
            table.meeting.wait();
        }
    });
}

/// Two processors unmap at the same time, each under the locks of its cursor, and flush before
/// they unlock: one page, and everything, by turns. All others spin for these locks. Nobody gets
/// on unless those who spin answer; and when they have the lock, they see what is there now.
pub(crate) fn who_waits_for_a_lock_answers(kernel: &Kernel) {
    // Somebody has to wait: with two processors there is one initiator.
    let initiators = LEAVES.min(cpu::online() - 1);
    let waiters = (cpu::online() - initiators) as u64;
    let (comers, answered) = (AtomicU64::new(0), AtomicU64::new(0));
    on_one_table(kernel, |table, own, processor| {
        let flushes = || cpu::this().requests_answered.load(Ordering::Relaxed);
        let leaf_of = processor % initiators;
        for round in 1..=WAITING_ROUNDS {
            // The first page of ours in the leaf, alone in its range, or the whole leaf.
            let one = page(leaf_of)..page(leaf_of).plus(FRAME_SIZE);
            let whole = leaf(leaf_of);
            let range =
                if (round as usize + leaf_of).is_multiple_of(2) { one.clone() } else { whole };
            table.look(leaf_of, Some(if round == 1 { leaf_of as u64 } else { round - 1 }));
            table.meeting.wait();
            if processor < initiators {
                let contentions = situations::contentions();
                table.change(own, range.clone(), |cursor| {
                    table.meeting.wait();
                    table.renew(cursor, range.end, processor, round);
                    if range != one {
                        // A second one, so that next time there is more than one page to flush.
                        let more = fresh(&table.machine, PageFlags::USER, round);
                        cursor.map(more).expect("the whole leaf was taken away");
                    }
                    let mut wait = Wait::new();
                    let is_waited_for = || {
                        comers.load(Ordering::Acquire) == round * waiters
                            && situations::contentions() > contentions
                    };
                    while !is_waited_for() {
                        wait.relax();
                    }
                });
            } else {
                table.meeting.wait();
                let before = flushes();
                comers.fetch_add(1, Ordering::AcqRel);
                table.change(own, leaf(leaf_of), |_| {
                    answered.fetch_add(flushes() - before, Ordering::AcqRel);
                    table.look(leaf_of, Some(round));
                });
            }
            own.quiescent();
            table.meeting.wait();
        }
    });
    let value = answered.load(Ordering::Acquire);
    serial::line(&Line::Metric { name: "answered while waiting for a lock", value });
    assert!(value > 0, "nobody was asked to flush while waiting for a lock");
}

/// Prints what was counted, and demands that nobody used what was taken away.
pub(crate) fn report(stale: u64) {
    serial::line(&Line::Metric { name: "stale accesses", value: stale });
    harness::report_counts();
    assert!(stale == 0, "{STALE}");
}
