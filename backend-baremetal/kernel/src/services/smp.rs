//! The other processors: starting them, giving them jobs, interrupting them.
//!
//! A processor that has nothing to do halts. A job is published by a number that goes up, and an
//! interrupt; `sti; hlt` back to back cannot miss it, because interrupts are only taken after the
//! instruction that follows `sti`.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use x86_64::instructions::interrupts;

use super::metal::MetalMachine;
use super::space::{self, Space};
use super::{roots, shootdown};
use crate::machine::boot::at;
use crate::machine::waiting::Wait;
use crate::machine::{apic, cpu, trap, vector};

/// Where application processors start: below 1 MiB, on a page boundary. `boot.s` has this number.
const START: u64 = 0x8000;
/// Pages of an application processor's stack.
const STACK_PAGES: u64 = 16;
/// How long to wait for a processor to start, in cycles.
const START_CYCLES: u64 = 2_000_000_000;

/// What an application processor starts with, read by `boot.s`.
#[unsafe(no_mangle)]
static NEXT_ROOT: AtomicU64 = AtomicU64::new(0);
#[unsafe(no_mangle)]
static NEXT_STACK: AtomicU64 = AtomicU64::new(0);

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

/// Sets up the calling processor, number `id`: what it has for itself, on stacks of its own.
pub(crate) fn set_up(id: usize, space: &Space, machine: MetalMachine) {
    let stacks = [(); cpu::TRAP_STACKS];
    cpu::init(id, stacks.map(|()| space::stack(space, machine, cpu::TRAP_STACK_PAGES)));
    roots::set_up_tags();
    trap::load();
}

/// Starts the processors with these identifiers, the calling one excepted, one after the other.
pub(crate) fn start(ids: &[u32], space: &'static Space, machine: MetalMachine) {
    let (from, to) = (&raw const processor_start as u64, &raw const processor_start_end as u64);
    // The interrupt itself ends a halt.
    trap::handle(vector::WAKE, || {});
    // SAFETY: the code is in the boot part of the image, which is loaded where it is linked, and
    // the page it is copied to is nobody's.
    unsafe {
        at(START).copy_from_nonoverlapping(at(from), (to - from) as usize);
    }
    apic::note_id(0, apic::id());
    // SAFETY: no other processor runs yet.
    unsafe { *NEWCOMER.space.get() = Some((space, machine)) };
    NEXT_ROOT.store(roots::kernel().as_u64(), Ordering::Release);
    for &id in ids.iter().filter(|&&id| id != apic::id()) {
        let before = cpu::online();
        apic::note_id(before, id);
        NEXT_STACK.store(space::stack(space, machine, STACK_PAGES), Ordering::Release);
        apic::reset(id);
        // A second start-up interrupt is for processors that missed the first.
        for _ in 0..2 {
            apic::start(id, (START >> 12) as u8);
            let sent = cpu::cycles();
            while cpu::online() == before && cpu::cycles() - sent < START_CYCLES {
                core::hint::spin_loop();
            }
            if cpu::online() > before {
                break;
            }
        }
        assert!(cpu::online() > before, "the processor with identifier {id} does not start");
    }
    interrupts::enable();
}

/// Where an application processor comes in from `boot.s`, on its own stack.
#[unsafe(no_mangle)]
extern "C" fn application_main() -> ! {
    // SAFETY: the boot processor wrote it before it started us, and waits until we are online.
    let newcomer = unsafe { *NEWCOMER.space.get() };
    let (space, machine) = newcomer.expect("the boot processor says where");
    set_up(cpu::online(), space, machine);
    apic::enable();
    let mut seen = JOB.number.load(Ordering::Acquire);
    interrupts::enable();
    cpu::come_online();
    shootdown::forget_everything();
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
    if cpu::online() > 1 {
        apic::send_to_others(vector::WAKE);
    }
    run_job(cpu::this().id);
    let mut wait = Wait::new();
    while JOB.done.load(Ordering::Acquire) + 1 < cpu::online() {
        wait.relax();
    }
}
