//! Self-tests of flushing: a translation that was taken away is used by nobody.
//!
//! All processors run on one user's table. Each test fills their translation caches, changes the
//! table on one processor or on all, and then looks from every processor. Without the flush they
//! would go on with what they have cached: `sabotage=no-shootdown` shows that the tests see that.

use core::sync::atomic::{AtomicU64, Ordering};

use weft_backend_baremetal::protocol::Line;
use weft_core::address::{CpuId, Level, Vaddr};
use weft_core::cpu::Cpu;
use weft_core::entry::{Child, Entry};
use weft_core::format::{PageFlags, Property};
use weft_core::geometry::{FourLevels, Geometry};
use weft_core::item::{Frame, MappedItem};
use weft_core::node::Node;
use weft_core::range_lock::lock_covering;
use weft_scenarios::tables::UserTable;
use weft_scenarios::world::{Machine, World};

use crate::memory::MetalMachine;
use crate::random::Random;
use crate::selftest::Kernel;
use crate::shootdown::{self, Flush};
use crate::smp::{self, Rendezvous};
use crate::{cpu, serial};

/// What all these tests fail with.
pub(crate) const STALE: &str = "a processor used a translation that was taken away";

/// How often everybody takes a page away.
const STORM_ROUNDS: u64 = 100;

type Root = Node<UserTable<MetalMachine>>;
type CoreCpu = Cpu<MetalMachine>;

/// What the processors of a test share.
struct Table {
    machine: MetalMachine,
    root: Root,
    meeting: Rendezvous,
    /// Accesses that went through with a translation that was taken away.
    stale: AtomicU64,
}

/// The address of page `index`: all of them are in one leaf.
fn page(index: usize) -> Vaddr {
    FourLevels::address(&[index])
}

impl Table {
    /// The entry of page `index`, as `look` sees it under the lock of its leaf.
    fn with_entry(
        &self,
        own: &CoreCpu,
        index: usize,
        look: impl FnOnce(Entry<'_, '_, UserTable<MetalMachine>>),
    ) {
        let section = own.read_side();
        let leaf = lock_covering(self.root.borrow(&section), page(index), Level::LEAF);
        let mut leaf = leaf.expect("the path exists");
        look(leaf.entry(index).expect("the geometry's indices are in range"));
    }

    /// Takes page `index` away.
    fn unmap(&self, own: &CoreCpu, index: usize) {
        self.with_entry(own, index, |mut entry| {
            entry.detach().expect("the entry is managed").retire();
        });
    }

    /// Maps a fresh frame with `contents` as page `index`.
    fn map(&self, own: &CoreCpu, index: usize, contents: u64) {
        let frame = Frame::allocate(&self.machine).expect("there is memory enough");
        self.machine.write_contents(frame.paddr(), contents);
        let property = Property::new(PageFlags::WRITE | PageFlags::USER);
        let item = Child::Item(MappedItem::Tracked { frame, property });
        self.with_entry(own, index, |mut entry| {
            drop(entry.replace(item).expect("a page fits a leaf"));
        });
    }

    fn count_stale(&self) {
        self.stale.fetch_add(1, Ordering::AcqRel);
    }
}

/// Runs `part` on every processor, on one table with a page for each, and reports.
fn on_one_table(kernel: &Kernel, part: impl Fn(&Table, &mut CoreCpu, usize) + Sync) {
    let processors = smp::online();
    assert!(processors > 1, "a stale translation takes two processors");
    let machine = kernel.machine;
    let frames = machine.region().live();
    let boot = Cpu::online(&machine, CpuId::new(processors as u32)).expect("nobody is online");
    let world = Machine::of_kernel(&machine, boot, kernel.space);
    let root = world.user_root();
    for index in 0..processors {
        world.map(&root, page(index), index as u64);
    }
    assert!(world.finish_set_up().is_none(), "the kernel runs on its only table");
    let meeting = Rendezvous::new(processors);
    let table = Table { machine, root, meeting, stale: AtomicU64::new(0) };
    smp::on_all(&|processor| {
        let id = CpuId::new(processor as u32);
        let mut own = Cpu::online(&machine, id).expect("each processor is online once");
        own.activate(&table.root).expect("it is a root");
        for index in 0..processors {
            assert!(machine.user_read(page(index)) == Some(index as u64), "a page is not there");
        }
        table.meeting.wait();
        part(&table, &mut own, processor);
        table.meeting.wait();
        drop(own);
        cpu::publish();
        table.meeting.wait();
    });
    let stale = table.stale.load(Ordering::Acquire);
    drop(table);
    serial::line(&Line::Metric { name: "stale accesses", value: stale });
    for (name, value) in cpu::totals() {
        serial::line(&Line::Metric { name, value });
    }
    assert!(stale == 0, "{STALE}");
    let left = machine.region().live();
    assert!(left == frames, "leak: {frames} frames were in use before, {left} after");
}

/// One processor takes a page away; nobody can read it.
pub(crate) fn a_page_that_is_taken_away_is_gone(kernel: &Kernel) {
    on_one_table(kernel, |table, own, processor| {
        if processor == 0 {
            table.unmap(own, 0);
        }
        table.meeting.wait();
        if table.machine.user_read(page(0)).is_some() {
            table.count_stale();
        }
    });
}

/// One processor takes the right to write a page away, and flushes that page; nobody can write.
pub(crate) fn a_page_that_is_protected_is_not_written(kernel: &Kernel) {
    on_one_table(kernel, |table, own, processor| {
        assert!(table.machine.user_write(page(0), 1), "a page cannot be written");
        table.meeting.wait();
        if processor == 0 {
            table.with_entry(own, 0, |mut entry| {
                let read_only = |mut property: Property| {
                    property.flags.remove(PageFlags::WRITE);
                    property
                };
                let before = entry.protect(read_only).expect("the page is mapped");
                assert!(before.flags.contains(PageFlags::DIRTY), "a write left no trace");
            });
            shootdown::flush_running(Flush::Page(page(0).as_u64()));
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
        let mut random = Random::new(1, processor as u64);
        let contents = |round: u64, index: usize| round << 8 | index as u64;
        for round in 1..=STORM_ROUNDS {
            smp::be_preempted(&mut random);
            table.unmap(own, processor);
            table.map(own, processor, contents(round, processor));
            smp::be_left_alone();
            own.quiescent();
            table.meeting.wait();
            for index in 0..smp::online() {
                if table.machine.user_read(page(index)) != Some(contents(round, index)) {
                    table.count_stale();
                }
            }
            table.meeting.wait();
        }
    });
}
