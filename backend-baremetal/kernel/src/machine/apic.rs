//! Interrupt controllers: the local one of each processor, and the old one, which is switched off.
//!
//! Registers are those of the xAPIC (Intel SDM, volume 3A, chapter 11), in a page that the kernel
//! maps uncached with the core. Sending takes two writes, so it happens with interrupts off: no
//! handler may send between them.

use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use x86_64::instructions::{interrupts, port::Port};

use super::cpu::CPUS_MAX;
use super::vector;

/// Where the registers are in physical memory.
pub(crate) const REGISTERS: u64 = 0xfee0_0000;

const ID: usize = 0x20;
const END_OF_INTERRUPT: usize = 0xb0;
const SPURIOUS: usize = 0xf0;
const COMMAND: usize = 0x300;
const COMMAND_TARGET: usize = 0x310;
const TIMER: usize = 0x320;
const LINT1: usize = 0x360;
const TIMER_COUNT: usize = 0x380;
const TIMER_DIVISOR: usize = 0x3e0;

/// Bit of the command register: the command has not been taken yet.
const PENDING: u32 = 1 << 12;
const ASSERT: u32 = 1 << 14;
const ALL_BUT_SELF: u32 = 3 << 18;
const INIT: u32 = 5 << 8;
const START_UP: u32 = 6 << 8;
/// Software enable, in the register of the spurious vector.
const ENABLE: u32 = 1 << 8;
/// Delivered as a non-maskable interrupt.
const AS_NMI: u32 = 4 << 8;
/// The timer counts every tick.
const DIVIDE_BY_1: u32 = 0b1011;

static BASE: AtomicPtr<u8> = AtomicPtr::new(core::ptr::null_mut());

/// The identifier of each processor's controller.
static IDS: [AtomicU32; CPUS_MAX] = [const { AtomicU32::new(0) }; CPUS_MAX];

fn register(offset: usize) -> *mut u32 {
    BASE.load(Ordering::Relaxed).wrapping_add(offset).cast()
}

fn read(offset: usize) -> u32 {
    // SAFETY: the page is mapped, by the contract of `init`; reading these registers has no effect.
    unsafe { register(offset).read_volatile() }
}

fn write(offset: usize, value: u32) {
    // SAFETY: the page is mapped, by the contract of `init`; what is written only makes interrupts
    // happen, which the trap table covers.
    unsafe { register(offset).write_volatile(value) };
}

/// Takes the page of registers, and switches the old controllers off. Called once.
///
/// # Safety
///
/// [`REGISTERS`] is mapped at `registers` for good, uncached.
pub(crate) unsafe fn init(registers: *mut u8) {
    BASE.store(registers, Ordering::Relaxed);
    // The firmware leaves the timer's interrupt on the vector of double faults: remap, then mask.
    for (port, offset, cascade) in [(0x20_u16, 0x20_u8, 4_u8), (0xa0, 0x28, 2)] {
        for (port, value) in
            [(port, 0x11), (port + 1, offset), (port + 1, cascade), (port + 1, 1), (port + 1, 0xff)]
        {
            // SAFETY: these are the ports of the old controllers, which nobody else uses.
            unsafe { Port::<u8>::new(port).write(value) };
        }
    }
    enable();
}

/// Switches the controller of the calling processor on.
pub(crate) fn enable() {
    write(SPURIOUS, ENABLE | u32::from(vector::SPURIOUS));
    // The runner's question where everybody is comes in here, and is masked after reset.
    write(LINT1, AS_NMI);
    write(TIMER_DIVISOR, DIVIDE_BY_1);
    write(TIMER, u32::from(vector::PREEMPT));
}

/// The identifier of the calling processor's controller.
pub(crate) fn id() -> u32 {
    read(ID) >> 24
}

/// Notes the identifier of a processor's controller.
pub(crate) fn note_id(cpu: usize, id: u32) {
    IDS[cpu].store(id, Ordering::Relaxed);
}

/// Interrupts a set of other processors.
pub(crate) fn interrupt(targets: u64, vector: u8) {
    for (cpu, id) in IDS.iter().enumerate() {
        if targets >> cpu & 1 != 0 {
            send(id.load(Ordering::Relaxed), vector);
        }
    }
}

/// Interrupts another processor in a way that it cannot mask.
pub(crate) fn interrupt_unmasked(cpu: usize) {
    command(IDS[cpu].load(Ordering::Relaxed), ASSERT | AS_NMI);
}

/// Says that an interrupt has been handled.
pub(crate) fn end_of_interrupt() {
    write(END_OF_INTERRUPT, 0);
}

/// Interrupts the calling processor once, after so many ticks; 0 for not at all. One write, because
/// an emulator leaves its translated code for each.
pub(crate) fn interrupt_after(ticks: u32) {
    write(TIMER_COUNT, ticks);
}

fn command(target: u32, command: u32) {
    interrupts::without_interrupts(|| {
        write(COMMAND_TARGET, target << 24);
        write(COMMAND, command);
        while read(COMMAND) & PENDING != 0 {
            core::hint::spin_loop();
        }
    });
}

/// Interrupts another processor.
fn send(target: u32, vector: u8) {
    command(target, ASSERT | u32::from(vector));
}

/// Interrupts all other processors.
pub(crate) fn send_to_others(vector: u8) {
    command(0, ALL_BUT_SELF | ASSERT | u32::from(vector));
}

/// Resets a processor: it waits to be started.
pub(crate) fn reset(target: u32) {
    command(target, ASSERT | INIT);
    for _ in 0..10_000 {
        // SAFETY: the port is that of diagnostic codes; a write takes about a microsecond.
        unsafe { Port::<u8>::new(0x80).write(0) };
    }
}

/// Starts a processor in 16-bit mode at the beginning of a page.
pub(crate) fn start(target: u32, page: u8) {
    command(target, ASSERT | START_UP | u32::from(page));
}
