//! What every processor has for itself: segments, task state, stacks for traps, a block of data.
//!
//! The block is found through the GS base. Its counters are written by its own processor and read
//! by whoever reports, hence relaxed atomics.

use core::arch::asm;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use alloc::boxed::Box;

use x86_64::VirtAddr;
use x86_64::instructions::tables::load_tss;
use x86_64::registers::model_specific::GsBase;
use x86_64::registers::segmentation::{CS, DS, ES, SS, Segment};
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable};
use x86_64::structures::tss::TaskStateSegment;

/// The most processors that are supported.
pub(crate) const CPUS_MAX: usize = 16;
/// Pages of a stack that a trap comes in on.
pub(crate) const TRAP_STACK_PAGES: u64 = 4;
/// Stacks for traps: all but the next three, NMI, double fault, machine check.
pub(crate) const TRAP_STACKS: usize = 4;

/// The block of a processor.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct PerCpu {
    /// Where the block is: read through GS.
    own_address: *const Self,
    /// The number of the processor, 0 for the one that booted.
    pub(crate) id: usize,
    /// The number of the CPU that the core knows the processor as.
    pub(crate) plays: AtomicU32,
    /// The state of the generator that preemption draws from; 0 while there is no preemption.
    pub(crate) random: AtomicU64,
    /// Page faults, caught ones included.
    pub(crate) page_faults: AtomicU64,
    /// Loads of CR3.
    pub(crate) root_loads: AtomicU64,
    /// Flush requests sent.
    pub(crate) shootdowns: AtomicU64,
    /// Flush requests that had to wait for another one.
    pub(crate) shootdowns_delayed: AtomicU64,
    /// Flush requests answered.
    pub(crate) flushes: AtomicU64,
    /// Interrupts of the timer.
    pub(crate) preemptions: AtomicU64,
    /// How many more frames the processor gets; [`UNLIMITED`] if nobody has limited them.
    pub(crate) allowance: AtomicU64,
}

/// The allowance of a processor that gets all frames there are.
pub(crate) const UNLIMITED: u64 = u64::MAX;

impl PerCpu {
    /// Takes one frame off the allowance, if there is one left.
    pub(crate) fn take_allowance(&self) -> bool {
        let left = self.allowance.load(Ordering::Relaxed);
        if left != UNLIMITED && left > 0 {
            self.allowance.store(left - 1, Ordering::Relaxed);
        }
        left > 0
    }
}

// SAFETY: the address is written before the block is shared and is the block's own.
unsafe impl Sync for PerCpu {}

/// Whether this many processors have blocks: before that, nobody asks through GS.
static READY: AtomicBool = AtomicBool::new(false);

static ONLINE: AtomicUsize = AtomicUsize::new(1);

/// Sets up the calling processor, number `id`, with the upper ends of its stacks for traps. Needs
/// the heap.
pub(crate) fn init(id: usize, trap_stacks: [u64; TRAP_STACKS]) {
    let mut task = TaskStateSegment::new();
    for (index, end) in trap_stacks.into_iter().enumerate() {
        task.interrupt_stack_table[index] = VirtAddr::new(end);
    }
    let task: &'static TaskStateSegment = Box::leak(Box::new(task));
    let mut table = GlobalDescriptorTable::new();
    let code = table.append(Descriptor::kernel_code_segment());
    let data = table.append(Descriptor::kernel_data_segment());
    let task = table.append(Descriptor::tss_segment(task));
    let table: &'static GlobalDescriptorTable = Box::leak(Box::new(table));
    table.load();
    // SAFETY: the selector is that of the code segment in the table just loaded.
    unsafe { CS::set_reg(code) };
    // SAFETY: the selector is that of the data segment.
    unsafe { SS::set_reg(data) };
    // SAFETY: as above.
    unsafe { DS::set_reg(data) };
    // SAFETY: as above.
    unsafe { ES::set_reg(data) };
    // SAFETY: the selector is that of the task state segment, which is never freed.
    unsafe { load_tss(task) };
    let block = Box::leak(Box::new(PerCpu {
        own_address: ptr::null(),
        id,
        plays: AtomicU32::new(id as u32),
        random: AtomicU64::new(0),
        page_faults: AtomicU64::new(0),
        root_loads: AtomicU64::new(0),
        shootdowns: AtomicU64::new(0),
        shootdowns_delayed: AtomicU64::new(0),
        flushes: AtomicU64::new(0),
        preemptions: AtomicU64::new(0),
        allowance: AtomicU64::new(UNLIMITED),
    }));
    block.own_address = block;
    GsBase::write(VirtAddr::from_ptr(block));
    READY.store(true, Ordering::Release);
}

/// The block of the calling processor, which has been set up.
pub(crate) fn this() -> &'static PerCpu {
    let block: *const PerCpu;
    // SAFETY: `init` has pointed GS at a block that begins with its own address.
    unsafe {
        asm!("mov {}, gs:[0]", out(reg) block, options(nostack, preserves_flags, pure, readonly));
    }
    // SAFETY: the block is leaked, and shared from the moment GS points at it.
    unsafe { &*block }
}

/// The number of the calling processor; 0 while there is only one without a block.
pub(crate) fn id() -> usize {
    if READY.load(Ordering::Acquire) { this().id } else { 0 }
}

/// How many processors are online.
pub(crate) fn online() -> usize {
    ONLINE.load(Ordering::Acquire)
}

/// Counts the calling processor, the newest one, among those that are online.
pub(crate) fn come_online() {
    ONLINE.fetch_add(1, Ordering::AcqRel);
}

/// Adds one to a counter of the calling processor.
pub(crate) fn count(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

/// What is counted, in the order of the totals.
const COUNTED: [&str; 6] = [
    "page faults",
    "root loads",
    "shootdowns",
    "shootdowns delayed",
    "flushes answered",
    "preemptions",
];

static TOTALS: [AtomicU64; 6] = [const { AtomicU64::new(0) }; 6];

/// Adds the counters of the calling processor to the totals. Called once on each.
pub(crate) fn publish() {
    let own = this();
    let counters = [
        &own.page_faults,
        &own.root_loads,
        &own.shootdowns,
        &own.shootdowns_delayed,
        &own.flushes,
        &own.preemptions,
    ];
    for (total, counter) in TOTALS.iter().zip(counters) {
        total.fetch_add(counter.load(Ordering::Relaxed), Ordering::AcqRel);
    }
}

/// Names and sums of the counters, of all processors that have published theirs.
pub(crate) fn totals() -> impl Iterator<Item = (&'static str, u64)> {
    COUNTED.into_iter().zip(TOTALS.iter().map(|total| total.load(Ordering::Acquire)))
}
