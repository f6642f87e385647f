//! What every processor has for itself: segments, task state, stacks for traps, a block of data.
//!
//! The block is found through the GS base, and those of other processors by their number. Counters
//! are written by their own processor only and read by those that report, hence relaxed atomics.

use core::arch::asm;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use alloc::boxed::Box;

use spin::Once;
use weft_core::address::CpuId;
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
    /// The number of the CPU that the core knows the processor as; [`at_rest`] if it is none.
    pub(crate) plays: AtomicU32,
    /// The state of the generator that preemption draws from; 0 while there is no preemption.
    pub(crate) random: AtomicU64,
    /// Page faults, caught ones included.
    pub(crate) page_faults: AtomicU64,
    /// Loads of CR3 for another root.
    pub(crate) root_loads: AtomicU64,
    /// Those that kept what was cached under the tag of the root.
    pub(crate) roots_kept: AtomicU64,
    /// Requests to flush that other processors were interrupted for.
    pub(crate) shootdowns: AtomicU64,
    /// Interrupts sent for them.
    pub(crate) interrupts_sent: AtomicU64,
    /// Requests to flush that were answered.
    pub(crate) requests_answered: AtomicU64,
    /// Translations that were invalidated one by one.
    pub(crate) pages_invalidated: AtomicU64,
    /// Flushes of all translations, of a space or of the kernel as well.
    pub(crate) full_flushes: AtomicU64,
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

/// Whether the boot processor has its block: before that, nothing asks through GS.
static READY: AtomicBool = AtomicBool::new(false);

/// The blocks of the processors that have been set up.
static BLOCKS: [Once<&PerCpu>; CPUS_MAX] = [const { Once::new() }; CPUS_MAX];

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
        plays: AtomicU32::new(at_rest(id)),
        random: AtomicU64::new(0),
        page_faults: AtomicU64::new(0),
        root_loads: AtomicU64::new(0),
        roots_kept: AtomicU64::new(0),
        shootdowns: AtomicU64::new(0),
        interrupts_sent: AtomicU64::new(0),
        requests_answered: AtomicU64::new(0),
        pages_invalidated: AtomicU64::new(0),
        full_flushes: AtomicU64::new(0),
        preemptions: AtomicU64::new(0),
        allowance: AtomicU64::new(UNLIMITED),
    }));
    block.own_address = block;
    let block: &'static PerCpu = block;
    BLOCKS[id].call_once(|| block);
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

/// The time-stamp counter.
pub(crate) fn cycles() -> u64 {
    // SAFETY: every x86-64 processor has the instruction.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// The number that the core knows processor `id` by while it plays none of its CPUs.
pub(crate) const fn at_rest(id: usize) -> u32 {
    CpuId::MAX - id as u32
}

/// The block of processor `id`, which has been set up.
pub(crate) fn of(id: usize) -> &'static PerCpu {
    BLOCKS[id].get().expect("the processor has been set up")
}

/// Adds one to a counter of the calling processor.
pub(crate) fn count(counter: &AtomicU64) {
    count_many(counter, 1);
}

/// Adds a number to a counter of the calling processor.
pub(crate) fn count_many(counter: &AtomicU64, number: u64) {
    counter.store(counter.load(Ordering::Relaxed) + number, Ordering::Relaxed);
}

/// Where a processor counts something.
type Counter = fn(&PerCpu) -> &AtomicU64;

/// What is counted, and where.
const COUNTED: [(&str, Counter); 9] = [
    ("page faults", |block| &block.page_faults),
    ("root loads", |block| &block.root_loads),
    ("roots kept", |block| &block.roots_kept),
    ("shootdowns", |block| &block.shootdowns),
    ("interrupts sent", |block| &block.interrupts_sent),
    ("requests answered", |block| &block.requests_answered),
    ("pages invalidated", |block| &block.pages_invalidated),
    ("full flushes", |block| &block.full_flushes),
    ("preemptions", |block| &block.preemptions),
];

/// Names and sums of the counters of all processors. The others count nothing meanwhile.
pub(crate) fn totals() -> impl Iterator<Item = (&'static str, u64)> {
    COUNTED.into_iter().map(|(name, counter)| {
        (name, (0..online()).map(|id| counter(of(id)).load(Ordering::Relaxed)).sum())
    })
}
