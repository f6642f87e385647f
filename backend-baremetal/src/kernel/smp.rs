//! The other processors: starting them, giving them jobs, interrupting them.
//!
//! A processor that has nothing to do halts. A job is published by a number that goes up, and an
//! interrupt; `sti; hlt` back to back cannot miss it, because interrupts are only taken after the
//! instruction that follows `sti`.
//!
//! *Preemption*: while a role is played, the timer interrupts its processor again and again after
//! random times, and the handler lets the others run for a while. On a real machine
//! that is a delay in the middle of anything; under an emulator that runs one processor at a time
//! it is what makes their steps interleave at all.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use x86_64::instructions::interrupts;

use crate::apic;
use crate::cpu;
use crate::memory::{self, MetalMachine};
use crate::random::Random;
use crate::space::{self, Space};
use crate::trap::vector;

/// The most processors that are supported.
pub(crate) const CPUS_MAX: usize = 16;

/// Where application processors start: below 1 MiB, on a page boundary. `boot.s` has this number.
const START: u64 = 0x8000;
/// Pages of an application processor's stack.
const STACK_PAGES: u64 = 16;
/// How long to wait for a processor to start, in cycles.
const START_CYCLES: u64 = 2_000_000_000;
/// Binary logarithm of the longest time between two preemptions, in ticks of the timer.
const PREEMPTION_TICK_BITS: u32 = 13;
/// The most pauses of a preemption.
const PREEMPTION_PAUSES: u64 = 4;

/// What an application processor starts with, read by `boot.s`.
#[unsafe(no_mangle)]
static NEXT_ROOT: AtomicU64 = AtomicU64::new(0);
#[unsafe(no_mangle)]
static NEXT_STACK: AtomicU64 = AtomicU64::new(0);

static ONLINE: AtomicUsize = AtomicUsize::new(1);
static APIC_IDS: [AtomicU32; CPUS_MAX] = [const { AtomicU32::new(0) }; CPUS_MAX];

unsafe extern "C" {
    static processor_start: u8;
    static processor_start_end: u8;
}

/// What an application processor needs to set itself up.
struct Newcomer {
    space: UnsafeCell<Option<(&'static Space, MetalMachine)>>,
}

// SAFETY: written by the boot processor before it starts another one, and not while one starts.
unsafe impl Sync for Newcomer {}

static NEWCOMER: Newcomer = Newcomer { space: UnsafeCell::new(None) };

/// A job: every processor runs it, with its number.
type Task<'a> = &'a (dyn Fn(usize) + Sync);

struct Job {
    task: UnsafeCell<Option<Task<'static>>>,
    number: AtomicU64,
    done: AtomicUsize,
}

// SAFETY: the task is written while nobody runs one, and published by `number`.
unsafe impl Sync for Job {}

static JOB: Job =
    Job { task: UnsafeCell::new(None), number: AtomicU64::new(0), done: AtomicUsize::new(0) };

/// The body of every loop that waits. A `pause` is dear under an emulator with a thread per
/// processor, and indispensable under one with a single thread: so there is one now and then.
#[derive(Debug)]
pub(crate) struct Wait {
    looks: u32,
}

impl Wait {
    /// Begins to wait.
    pub(crate) fn new() -> Self {
        Self { looks: 0 }
    }

    /// Waits a moment.
    pub(crate) fn relax(&mut self) {
        self.looks = self.looks.wrapping_add(1);
        if self.looks.is_multiple_of(32) {
            core::hint::spin_loop();
        }
    }
}

/// How many processors are online.
pub(crate) fn online() -> usize {
    ONLINE.load(Ordering::Acquire)
}

/// The time-stamp counter.
pub(crate) fn cycles() -> u64 {
    // SAFETY: every x86-64 processor has the instruction.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Starts the processors with these identifiers, the calling one excepted, one after the other.
pub(crate) fn start(ids: &[u32], space: &'static Space, machine: MetalMachine) {
    let (from, to) = (&raw const processor_start as u64, &raw const processor_start_end as u64);
    // SAFETY: the code is in the boot part of the image, which is loaded where it is linked, and
    // the page it is copied to is nobody's.
    unsafe {
        memory::at(START).copy_from_nonoverlapping(memory::at(from), (to - from) as usize);
    }
    APIC_IDS[0].store(apic::id(), Ordering::Relaxed);
    // SAFETY: no other processor runs yet.
    unsafe { *NEWCOMER.space.get() = Some((space, machine)) };
    NEXT_ROOT.store(space::root().as_u64(), Ordering::Release);
    for &id in ids.iter().filter(|&&id| id != apic::id()) {
        let before = online();
        APIC_IDS[before].store(id, Ordering::Relaxed);
        NEXT_STACK.store(space::stack(space, machine, STACK_PAGES), Ordering::Release);
        apic::reset(id);
        // A second start-up interrupt is for processors that missed the first.
        for _ in 0..2 {
            apic::start(id, (START >> 12) as u8);
            let sent = cycles();
            while online() == before && cycles() - sent < START_CYCLES {
                core::hint::spin_loop();
            }
            if online() > before {
                break;
            }
        }
        assert!(online() > before, "the processor with identifier {id} does not start");
    }
    interrupts::enable();
}

/// Where an application processor comes in from `boot.s`, on its own stack.
#[unsafe(no_mangle)]
extern "C" fn application_main() -> ! {
    // SAFETY: the boot processor wrote it before it started us, and waits until we are online.
    let newcomer = unsafe { *NEWCOMER.space.get() };
    let (space, machine) = newcomer.expect("the boot processor says where");
    cpu::init(ONLINE.load(Ordering::Acquire), space, machine);
    apic::enable();
    let mut seen = JOB.number.load(Ordering::Acquire);
    interrupts::enable();
    ONLINE.fetch_add(1, Ordering::AcqRel);
    loop {
        seen = wait_for_job(seen);
        run_job(cpu::this().id);
        JOB.done.fetch_add(1, Ordering::AcqRel);
    }
}

/// Halts until there is another job than number `seen`.
fn wait_for_job(seen: u64) -> u64 {
    loop {
        interrupts::disable();
        let number = JOB.number.load(Ordering::Acquire);
        if number != seen {
            interrupts::enable();
            return number;
        }
        interrupts::enable_and_hlt();
    }
}

fn run_job(cpu: usize) {
    // SAFETY: the task was written before its number was published, and is not changed before
    // every processor has counted itself done.
    let task = unsafe { *JOB.task.get() };
    task.expect("a published job has a task")(cpu);
}

/// Runs `task` on all processors, and returns once all have ended. Called by the boot processor.
pub(crate) fn on_all(task: Task<'_>) {
    JOB.done.store(0, Ordering::Relaxed);
    // SAFETY: only the lifetime changes. The reference is used by processors that have not counted
    // themselves done, and this function waits for all of them.
    let task = unsafe { core::mem::transmute::<Task<'_>, Task<'static>>(task) };
    // SAFETY: no job runs: the last one was waited for.
    unsafe { *JOB.task.get() = Some(task) };
    JOB.number.fetch_add(1, Ordering::Release);
    if online() > 1 {
        apic::send_to_others(vector::WAKE);
    }
    run_job(cpu::this().id);
    let mut wait = Wait::new();
    while JOB.done.load(Ordering::Acquire) + 1 < online() {
        wait.relax();
    }
}

/// Interrupts a set of other processors.
pub(crate) fn interrupt(targets: u64, vector: u8) {
    for (cpu, id) in APIC_IDS.iter().enumerate() {
        if targets >> cpu & 1 != 0 {
            apic::send(id.load(Ordering::Relaxed), vector);
        }
    }
}

/// Preempts the calling processor at random times, until [`be_left_alone`].
pub(crate) fn be_preempted(random: &mut Random) {
    cpu::this().random.store(random.next() | 1, Ordering::Relaxed);
    apic::interrupt_after(1 + random.up_to(PREEMPTION_TICK_BITS) as u32);
}

/// Preempts the calling processor no more.
pub(crate) fn be_left_alone() {
    cpu::this().random.store(0, Ordering::Relaxed);
    apic::interrupt_after(0);
}

/// The timer has interrupted: lets others run, and sets the timer again. Called by the handler.
pub(crate) fn preempted() {
    let own = cpu::this();
    let state = own.random.load(Ordering::Relaxed);
    if state == 0 {
        return;
    }
    cpu::count(&own.preemptions);
    let mut random = Random::new(state, 0);
    for _ in 0..=random.next() % PREEMPTION_PAUSES {
        core::hint::spin_loop();
    }
    let ticks = 1 + random.up_to(PREEMPTION_TICK_BITS);
    own.random.store(random.next() | 1, Ordering::Relaxed);
    apic::interrupt_after(ticks as u32);
}

/// A place where a number of processors wait for each other, again and again.
#[derive(Debug)]
pub(crate) struct Rendezvous {
    expected: usize,
    arrived: AtomicUsize,
    round: AtomicUsize,
}

impl Rendezvous {
    /// A place for `expected` processors.
    pub(crate) const fn new(expected: usize) -> Self {
        Self { expected, arrived: AtomicUsize::new(0), round: AtomicUsize::new(0) }
    }

    /// Waits until all have come.
    pub(crate) fn wait(&self) {
        let round = self.round.load(Ordering::Acquire);
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == self.expected {
            self.arrived.store(0, Ordering::Relaxed);
            self.round.fetch_add(1, Ordering::Release);
        } else {
            let mut wait = Wait::new();
            while self.round.load(Ordering::Acquire) == round {
                wait.relax();
            }
        }
    }
}
