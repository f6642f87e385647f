//! Traps: the table, the handler, and accesses that may fault.
//!
//! Every vector enters a stub in `boot.s` that leaves the processor's whole state in a
//! [`TrapFrame`]. Handlers run with interrupts off. The code that was interrupted may be anywhere,
//! in a lock as well: a handler takes no lock of the core and allocates nothing.
//!
//! *Accesses that may fault* are the user's. Their instruction's address is in a table together
//! with the address to go on at, so that the page fault handler can turn a fault into a result. Any
//! other fault is a bug of the kernel and ends the run.

use core::arch::asm;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use weft_scenarios::detector::KERNEL_FAULT;

use spin::Once;
use weft_protocol::Line;
use x86_64::VirtAddr;
use x86_64::instructions::tables::lidt;
use x86_64::registers::control::{Cr2, Cr3};
use x86_64::structures::DescriptorTablePointer;

use super::runtime::{Exit, exit, stop};
use super::{apic, cpu, serial, vector};

const BREAKPOINT: u64 = 3;
const NMI: u64 = 2;
const DOUBLE_FAULT: u64 = 8;
const MACHINE_CHECK: u64 = 18;
const PAGE_FAULT: u64 = 14;
/// Bit of the flags register: interrupts are on.
const INTERRUPT_FLAG: u64 = 1 << 9;
/// How often the first processor looks for the answers of the others to an NMI.
const ANSWER_LOOKS: u32 = 100_000;

/// What the stubs push, lowest address first.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct TrapFrame {
    r15: u64,
    r14: u64,
    r13: u64,
    r12: u64,
    r11: u64,
    r10: u64,
    r9: u64,
    r8: u64,
    rdi: u64,
    rsi: u64,
    rbp: u64,
    rbx: u64,
    rdx: u64,
    rcx: u64,
    rax: u64,
    vector: u64,
    error: u64,
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

unsafe extern "C" {
    static trap_stubs: u8;
    static trap_relocate: u8;
    static exception_table_start: [u64; 2];
    static exception_table_end: [u64; 2];
}

/// The interrupt descriptor table: 256 gates of two words.
static TABLE: Once<[[u64; 2]; 256]> = Once::new();
/// What is done when one of our own interrupts comes in, by its vector.
static HANDLERS: [Once<fn()>; (u8::MAX - vector::FIRST) as usize] =
    [const { Once::new() }; (u8::MAX - vector::FIRST) as usize];
static BREAKPOINTS: AtomicUsize = AtomicUsize::new(0);

/// Fills the table.
pub(crate) fn init() {
    TABLE.call_once(|| {
        core::array::from_fn(|vector| {
            let stub = &raw const trap_stubs as u64 + 16 * vector as u64;
            let stack: u64 = match vector as u64 {
                NMI => 2,
                DOUBLE_FAULT => 3,
                MACHINE_CHECK => 4,
                _ => 1,
            };
            // An interrupt gate, present, to the code segment at selector 8.
            let low =
                stub & 0xffff | 8 << 16 | stack << 32 | 0x8e << 40 | (stub >> 16 & 0xffff) << 48;
            [low, stub >> 32]
        })
    });
}

/// Says what is done when the interrupt `number`, one of our own, comes in: with interrupts off,
/// amidst anything.
pub(crate) fn handle(number: u8, handler: fn()) {
    HANDLERS[usize::from(number - vector::FIRST)].call_once(|| handler);
}

/// Makes the calling processor use the table. Its stacks for traps have been set up.
pub(crate) fn load() {
    let table = TABLE.get().expect("the table is filled before it is loaded");
    let pointer = DescriptorTablePointer {
        limit: (size_of_val(table) - 1) as u16,
        base: VirtAddr::from_ptr(table),
    };
    // SAFETY: the table is static, and its gates lead to the stubs, on stacks of the task state
    // that `cpu::init` has loaded.
    unsafe { lidt(&pointer) };
}

/// Makes the calling processor use a table without gates: the next trap resets the machine.
pub(crate) fn load_nothing() {
    let pointer = DescriptorTablePointer { limit: 0, base: VirtAddr::zero() };
    // SAFETY: not safe at all; it is what the test of a reset is about.
    unsafe { lidt(&pointer) };
}

/// How many breakpoints were met.
pub(crate) fn breakpoints() -> usize {
    BREAKPOINTS.load(Ordering::Relaxed)
}

#[unsafe(no_mangle)]
extern "C" fn trap_handler(frame: &mut TrapFrame) {
    match frame.vector {
        NMI => answer_where(frame),
        BREAKPOINT => {
            BREAKPOINTS.fetch_add(1, Ordering::Relaxed);
            // The stub saves vector registers: the self-test looks whether it does.
            // SAFETY: the register is said to be clobbered.
            unsafe { asm!("pcmpeqd xmm5, xmm5", out("xmm5") _) };
        }
        PAGE_FAULT => page_fault(frame),
        _ => interrupted(frame),
    }
}

/// One of our own interrupts, or a trap that nothing is known to do about.
fn interrupted(frame: &TrapFrame) {
    let number = frame.vector as u8;
    if number == vector::SPURIOUS {
        return;
    }
    let own = number.checked_sub(vector::FIRST).and_then(|index| HANDLERS.get(usize::from(index)));
    let Some(handler) = own.and_then(Once::get) else {
        panic!(
            "trap {number} error {:#x} at rip {:#x} rsp {:#x}",
            frame.error, frame.rip, frame.rsp
        )
    };
    // No other one comes in before we return, since interrupts are off.
    apic::end_of_interrupt();
    handler();
}

/// Where a processor was when another one asked it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    rip: u64,
    interruptible: bool,
}

/// A place as the end of a sentence; `None` for a processor that does not say.
pub(crate) struct Whereabouts(pub(crate) Option<Place>);

impl fmt::Display for Whereabouts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(Place { rip, interruptible }) => {
                let interrupts = if interruptible { "on" } else { "off" };
                write!(f, "at rip {rip:#x} with interrupts {interrupts}")
            }
            None => f.write_str("nowhere that it could say"),
        }
    }
}

/// Which processor is asked by another one where it is, plus 1; 0 for none.
static ASKED: AtomicUsize = AtomicUsize::new(0);
static ASKED_RIP: AtomicU64 = AtomicU64::new(0);
static ASKED_FLAGS: AtomicU64 = AtomicU64::new(0);
static HAS_SAID: AtomicBool = AtomicBool::new(false);

/// Asks another processor where it is, whatever it has masked. It stops there: only a failure is a
/// reason to ask.
pub(crate) fn ask_where(processor: usize) -> Option<Place> {
    ASKED.store(1 + processor, Ordering::Release);
    apic::interrupt_unmasked(processor);
    for _ in 0..ANSWER_LOOKS {
        if HAS_SAID.load(Ordering::Acquire) {
            let interruptible = ASKED_FLAGS.load(Ordering::Relaxed) & INTERRUPT_FLAG != 0;
            return Some(Place { rip: ASKED_RIP.load(Ordering::Relaxed), interruptible });
        }
        core::hint::spin_loop();
    }
    None
}

/// An interrupt that cannot be masked: another processor asks this one where it is, or the runner
/// asks every processor, when its patience has ended.
fn answer_where(frame: &TrapFrame) {
    if ASKED.load(Ordering::Acquire) == 1 + cpu::this().id {
        ASKED_RIP.store(frame.rip, Ordering::Relaxed);
        ASKED_FLAGS.store(frame.rflags, Ordering::Relaxed);
        HAS_SAID.store(true, Ordering::Release);
        stop()
    }
    static ANSWERS: AtomicUsize = AtomicUsize::new(0);
    // Whoever was interrupted may hold the lock of the serial port.
    serial::break_lock();
    let cpu = cpu::this().id;
    serial::line_amidst(&Line::<&str>::Hang {
        cpu: cpu as u64,
        rip: frame.rip,
        interruptible: u64::from(frame.rflags & INTERRUPT_FLAG != 0),
    });
    ANSWERS.fetch_add(1, Ordering::AcqRel);
    if cpu == 0 {
        for _ in 0..ANSWER_LOOKS {
            if ANSWERS.load(Ordering::Acquire) == cpu::online() {
                break;
            }
            core::hint::spin_loop();
        }
        exit(Exit::Bad)
    }
}

fn page_fault(frame: &mut TrapFrame) {
    let address = Cr2::read_raw();
    cpu::count(&cpu::this().page_faults);
    if frame.rip == &raw const trap_relocate as u64 {
        panic!("a kernel stack overflowed into {address:#x}");
    }
    if let Some(resume) = resumption(frame.rip) {
        frame.rip = resume;
        (frame.rax, frame.rdx, frame.rcx) = (1, address, frame.error);
        return;
    }
    let root = Cr3::read().0.start_address().as_u64();
    panic!(
        "{KERNEL_FAULT} {address:#x} error {:#x} rip {:#x} root {root:#x}",
        frame.error, frame.rip
    );
}

/// Where to go on after a fault of the instruction at `rip`, if it is one that may fault.
fn resumption(rip: u64) -> Option<u64> {
    let (mut entry, end) = (&raw const exception_table_start, &raw const exception_table_end);
    while entry < end {
        // SAFETY: the linker script puts whole entries between the two symbols.
        let [instruction, resume] = unsafe { *entry };
        if instruction == rip {
            return Some(resume);
        }
        entry = entry.wrapping_add(1);
    }
    None
}

/// A fault that was caught.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fault {
    /// The address accessed.
    pub(crate) address: u64,
    /// The error code: bit 0 the page is present, bit 1 a write, bit 4 a fetch.
    pub(crate) error: u64,
}

/// Loads a word, or says which fault that raised.
pub(crate) fn try_read(address: u64) -> Result<u64, Fault> {
    let (value, failed, at, error): (u64, u64, u64, u64);
    // SAFETY: a load has no effect but its value; should it fault, the table makes the handler go
    // on behind it, with the three registers changed that are said to be outputs.
    unsafe {
        asm!(
            "xor eax, eax",
            "2: mov {value}, [{address}]",
            "3:",
            ".pushsection .exception_table, \"a\"",
            ".balign 8",
            ".quad 2b, 3b",
            ".popsection",
            value = out(reg) value,
            address = in(reg) address,
            // Not `lateout`: these must not share a register with the address.
            out("rax") failed,
            out("rdx") at,
            out("rcx") error,
            options(nostack),
        );
    }
    if failed == 0 { Ok(value) } else { Err(Fault { address: at, error }) }
}

/// Has the processor translate an address ahead of any access. It may decide not to, and never
/// faults. QEMU's translation (TCG) does nothing here.
pub(crate) fn prefetch(address: u64) {
    // SAFETY: the instruction has no effect but on caches.
    unsafe {
        asm!("prefetcht0 [{}]", in(reg) address, options(nostack, preserves_flags, readonly));
    }
}

/// Stores a word, or says which fault that raised.
///
/// # Safety
///
/// If the address is mapped, nobody minds that the word there changes.
pub(crate) unsafe fn try_write(address: u64, value: u64) -> Result<(), Fault> {
    let (failed, at, error): (u64, u64, u64);
    // SAFETY: the store, by the caller's contract; a fault is caught as in `try_read`.
    unsafe {
        asm!(
            "xor eax, eax",
            "2: mov [{address}], {value}",
            "3:",
            ".pushsection .exception_table, \"a\"",
            ".balign 8",
            ".quad 2b, 3b",
            ".popsection",
            value = in(reg) value,
            address = in(reg) address,
            out("rax") failed,
            out("rdx") at,
            out("rcx") error,
            options(nostack),
        );
    }
    if failed == 0 { Ok(()) } else { Err(Fault { address: at, error }) }
}
