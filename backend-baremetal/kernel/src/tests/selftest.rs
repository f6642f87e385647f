//! Tests of the kernel itself: that it works, and that whoever watches it notices when it does not.
//!
//! The *good* ones pass and end like a scenario. The others go wrong in one way each, so that the
//! runner's tests can demand that each way is recognised for what it is.

use core::arch::asm;
use core::fmt::Display;
use core::mem::ManuallyDrop;

use weft_core::address::Paddr;
use weft_core::entry::ChildRef;
use weft_core::format::{EntryFormat, Property, RawItem, X86_64};
use weft_core::geometry::{FourLevels, Geometry};
use weft_core::sites::ENTRY_INIT;
use weft_protocol::{DISAGREEMENT, Line};
use weft_scenarios::sabotage::Sabotage;
use weft_scenarios::world::Machine;
use x86_64::instructions::interrupts;

use super::kernel::Kernel;
use super::{asking, audit, flushing, probes, tables, windows};
use crate::machine::trap::{self, Fault};
use crate::machine::waiting::{Rendezvous, Wait};
use crate::machine::{cpu, runtime, serial};
use crate::services::metal::{self, MetalMachine};
use crate::services::smp;
use crate::services::space::{self, Space};

type Test = fn(&Kernel);

const TESTS: [(&str, Test); 29] = [
    ("good-traps", good_traps),
    ("good-faults", good_faults),
    ("good-rights", good_rights),
    ("good-stale", flushing::a_page_that_is_taken_away_is_gone),
    ("good-protect", flushing::a_page_that_is_protected_is_not_written),
    ("good-waiters", flushing::who_waits_for_a_lock_answers),
    ("good-asked", asking::only_holders_are_asked),
    ("good-lazy", asking::lazy_processors_catch_up),
    ("good-tags", asking::processors_come_back_to_tags),
    ("good-windows", windows::pages_of_the_kernel_come_and_go),
    ("good-tables", tables::everybody_sees_the_same_table),
    ("good-audit", audit::tables_are_in_order),
    ("good-probes", probes::probes_do_what_they_say),
    ("good-storm", flushing::everybody_takes_pages_away),
    ("bad-chatter", bad_chatter),
    ("bad-count", bad_count),
    ("bad-deaf", asking::a_processor_is_deaf),
    ("bad-fault", bad_fault),
    ("bad-fetch", bad_fetch),
    ("bad-hang", bad_hang),
    ("bad-hang-locked", bad_hang_locked),
    ("bad-hang-masked", bad_hang_masked),
    ("bad-overcount", bad_overcount),
    ("bad-overflow", bad_overflow),
    ("bad-panic", bad_panic),
    ("bad-reset", bad_reset),
    ("bad-silence", bad_silence),
    ("bad-silent-end", bad_silent_end),
    ("bad-unlock", bad_unlock),
];

/// Says which tests there are, and which of them a broken world must fail.
pub(crate) fn list() {
    for (name, _) in TESTS {
        serial::line(&Line::SelfTest { name });
    }
    for (name, sabotage, message) in [
        ("good-stale", Sabotage::NoShootdown, flushing::STALE),
        ("good-protect", Sabotage::NoShootdown, flushing::STALE),
        ("good-storm", Sabotage::NoShootdown, flushing::STALE),
        ("good-waiters", Sabotage::NoShootdown, flushing::STALE),
        ("good-windows", Sabotage::NoShootdown, flushing::STALE),
        ("good-asked", Sabotage::NoShootdown, asking::MISCOUNTED),
        ("good-asked", Sabotage::ForgottenHolder(1), asking::MISCOUNTED),
        ("good-lazy", Sabotage::NoShootdown, asking::MISCOUNTED),
        ("good-stale", Sabotage::ForgottenHolder(1), flushing::STALE),
        ("good-windows", Sabotage::ForgottenHolder(1), flushing::STALE),
        ("good-storm", Sabotage::NeverFreed, "leak: "),
        ("good-tables", Sabotage::TablesChanged, DISAGREEMENT),
        ("good-audit", Sabotage::LostCount, "a node has lost count"),
        ("good-audit", Sabotage::LockKept, "a node is still locked"),
        ("good-audit", Sabotage::StrayKept, "a reachable node is marked stray"),
    ] {
        let (name, sabotage, messages): (&dyn Display, _, _) = (&name, &sabotage, &message);
        serial::line::<&dyn Display>(&Line::Twin { name, sabotage, messages });
    }
    serial::line(&Line::<&str>::Done { passed: 0 });
}

/// Runs the test called `name`.
///
/// # Panics
///
/// If there is none, or it fails.
pub(crate) fn run(name: &str, seed: u64, machine: MetalMachine, space: &'static Space) {
    let test = TESTS.iter().find(|(known, _)| *known == name);
    let (name, test) = test.unwrap_or_else(|| panic!("there is no self-test called {name}"));
    let count = if *name == "bad-overcount" { 2 } else { 1 };
    serial::line(&Line::<&str>::Announce { count });
    serial::line(&Line::Start { name, repetitions: 1 });
    test(&Kernel { machine, space, seed });
    serial::line(&Line::Passed { name, repetitions: 1 });
    serial::line(&Line::<&str>::Done { passed: 1 });
}

/// The red zone and the vector registers survive a trap.
fn good_traps(_: &Kernel) {
    let before = trap::breakpoints();
    let (near, far, vector): (u64, u64, u64);
    // SAFETY: only the red zone is written, which is this function's, and registers that are
    // said to change.
    unsafe {
        asm!(
            "sub rsp, 256", // clear of whatever the compiler keeps in the red zone
            "mov qword ptr [rsp - 8], 17",
            "mov qword ptr [rsp - 128], 19",
            "movq xmm5, {seed}",
            "int3",
            "movq {vector}, xmm5",
            "mov {near}, [rsp - 8]",
            "mov {far}, [rsp - 128]",
            "add rsp, 256",
            seed = in(reg) 23_u64,
            near = out(reg) near,
            far = out(reg) far,
            vector = out(reg) vector,
            out("xmm5") _,
        );
    }
    assert!(trap::breakpoints() == before + 1, "a breakpoint was not counted");
    assert!((near, far) == (17, 19), "a trap overwrote the red zone");
    assert!(vector == 23, "a trap changed a vector register");
}

/// Faults of user accesses are caught, and say what they were.
fn good_faults(_: &Kernel) {
    let nowhere = 0x1234_5000;
    assert!(
        trap::try_read(nowhere) == Err(Fault { address: nowhere, error: 0 }),
        "a load from nowhere is not caught"
    );
    // SAFETY: nothing is mapped there.
    let written = unsafe { trap::try_write(nowhere, 1) };
    assert!(
        written == Err(Fault { address: nowhere, error: 2 }),
        "a store to nowhere is not caught"
    );
}

/// No page of the kernel can be written and executed, and guard pages are absent.
fn good_rights(kernel: &Kernel) {
    let code = space::code();
    for address in [code.start, space::constants()] {
        // SAFETY: the store is refused, which is what is tested.
        let written = unsafe { trap::try_write(address, 0) };
        assert!(
            matches!(written, Err(Fault { error: 3, .. })),
            "the kernel's code and constants can be written"
        );
    }
    let guard = space::guard_page();
    assert!(
        trap::try_read(guard) == Err(Fault { address: guard, error: 0 }),
        "the page below the boot stack is mapped"
    );
    let low = trap::try_read(0x10_0000);
    assert!(low.is_err(), "the boot code is still mapped where it was loaded");
    let wrong = space::count_wrong(kernel.space, kernel.machine);
    assert!(wrong == 0, "{wrong} pages of the kernel can be written and executed");
}

fn bad_panic(_: &Kernel) {
    panic!("this panic is\na test\tof panics");
}

/// An entry of the kernel's table appears that nobody has counted.
fn bad_count(kernel: &Kernel) {
    let cpu = metal::online(&kernel.machine, cpu::online());
    let section = cpu.read_side();
    let root = space::root_of(kernel.space, &section);
    let ChildRef::Node(unused) = root.walk(FourLevels::upper_half().start) else {
        unreachable!("a permanent root has all of its nodes")
    };
    let page =
        RawItem { frame: Paddr::new(0), level: unused.level(), property: Property::default() };
    // SAFETY: not kept: (1) the count is left as it is, which is what is tested; (2) hardware does
    // not use this entry, and (3) nobody ever walks through it.
    unsafe { unused.lock().write_raw(0, X86_64::item(page), &ENTRY_INIT) };
    drop(section);
    audit::check_kernel(kernel.space, kernel.machine);
}

fn bad_fault(_: &Kernel) {
    // SAFETY: not safe at all: nothing is mapped there, which is what is tested.
    unsafe { core::ptr::without_provenance::<u64>(0x1234_5678).read_volatile() };
}

/// Constants are not executed.
fn bad_fetch(_: &Kernel) {
    // SAFETY: not safe at all: there is no function, and the fetch is refused.
    let constants = unsafe { core::mem::transmute::<usize, fn()>(space::constants() as usize) };
    constants();
}

fn bad_overflow(_: &Kernel) {
    descend(0);
}

/// Goes deeper until the stack ends.
fn descend(depth: u64) -> u64 {
    let mut on_stack = [depth; 64];
    core::hint::black_box(&mut on_stack);
    if depth == u64::MAX { 0 } else { descend(depth + 1) + on_stack[0] }
}

/// A trap without a table resets the machine.
fn bad_reset(_: &Kernel) {
    trap::load_nothing();
    interrupts::int3();
}

/// Hangs everywhere, interruptible on the boot processor.
fn bad_hang(_: &Kernel) {
    spin_for_good();
}

/// Hangs everywhere with interrupts off.
fn bad_hang_masked(_: &Kernel) {
    smp::on_all(&|_| {
        interrupts::disable();
        spin_for_good();
    });
}

/// Hangs while holding the lock of the serial port.
fn bad_hang_locked(_: &Kernel) {
    serial::lock_for_good();
    spin_for_good();
}

fn spin_for_good() -> ! {
    let mut wait = Wait::new();
    loop {
        wait.relax();
    }
}

/// Hangs, but never stops to print.
fn bad_chatter(_: &Kernel) {
    loop {
        serial::print(format_args!("still busy\n"));
    }
}

/// Says nothing more, and stops.
fn bad_silence(_: &Kernel) {
    runtime::stop();
}

/// Ends the machine as if all were well, without having said so.
fn bad_silent_end(_: &Kernel) {
    runtime::exit(runtime::Exit::Good);
}

/// Announces more than it runs; see [`run`].
fn bad_overcount(_: &Kernel) {}

/// A processor forgets to unlock a node; another one waits for it.
fn bad_unlock(kernel: &Kernel) {
    let machine = kernel.machine;
    let boot = metal::online(&machine, cpu::online());
    let world = Machine::of_kernel(&machine, boot, kernel.space);
    let root = world.user_root();
    assert!(world.finish_set_up().is_none(), "the kernel runs on its only table");
    let meeting = Rendezvous::new(cpu::online());
    smp::on_all(&|processor| {
        let own = metal::online(&machine, processor);
        let section = own.read_side();
        if processor == 0 {
            // Neither unlocked nor dropped.
            let _forgotten = ManuallyDrop::new(root.borrow(&section).lock());
        }
        meeting.wait();
        if processor == 1 {
            drop(root.borrow(&section).lock());
        }
        meeting.wait();
    });
}
