//! The kernel: the core and the scenarios on the machine itself.
//!
//! It boots on all processors, builds its own address space with the core, runs what the command
//! line asks for, says on the serial port how it went, and exits. The order of things:
//!
//! 1. `boot.s` switches to 64-bit mode; `boot` reads the boot information;
//! 2. `memory` takes the memory, and makes the machine that the core runs on;
//! 3. `space` builds the kernel's address space with the core's cursors, and loads it;
//! 4. `cpu`, `trap`, `apic`, `smp`: tables of every processor, traps, the other processors;
//! 5. `harness` runs a scenario, or `selftest` a test of the kernel itself.
//!
//! A processor's part in the core is `metal`: it loads roots, and flushes translations with
//! `shootdown` before anything waits for a grace period. `sabotage` breaks that on demand.
//!
//! Everything is built for the host's target, as a static image without a C runtime; without
//! `BARE_METAL=1` this is a stub that says so.

#![cfg_attr(bare_metal, no_std, no_main)]

#[cfg(bare_metal)]
extern crate alloc;

#[cfg(bare_metal)]
#[expect(unsafe_code, reason = "the local interrupt controller is memory")]
mod apic;
#[cfg(bare_metal)]
#[expect(unsafe_code, reason = "finds nodes by their frames, and breaks some on demand")]
mod audit;
#[cfg(bare_metal)]
#[expect(unsafe_code, reason = "what the boot loader left in memory, and the first instructions")]
mod boot;
#[cfg(bare_metal)]
mod builder;
#[cfg(bare_metal)]
#[expect(unsafe_code, reason = "segments, task state, the block of each processor")]
mod cpu;
#[cfg(bare_metal)]
mod flushing;
#[cfg(bare_metal)]
#[expect(unsafe_code, reason = "says when nobody is at work")]
mod harness;
#[cfg(bare_metal)]
#[expect(unsafe_code, reason = "gives memory to the heap and to the machine")]
mod memory;
#[cfg(bare_metal)]
#[expect(unsafe_code, reason = "loads roots, and keeps the reclamation's promises")]
mod metal;
#[cfg(bare_metal)]
mod options;
#[cfg(bare_metal)]
mod pages;
#[cfg(bare_metal)]
#[expect(unsafe_code, reason = "a test finds the functions by their symbols")]
mod probes;
#[cfg(bare_metal)]
mod random;
#[cfg(bare_metal)]
#[expect(unsafe_code, reason = "symbols that compiled code expects, and the way out")]
mod runtime;
#[cfg(bare_metal)]
mod sabotage;
#[cfg(bare_metal)]
#[expect(unsafe_code, reason = "tests of the kernel break what they test")]
mod selftest;
#[cfg(bare_metal)]
#[expect(unsafe_code, reason = "the serial port")]
mod serial;
#[cfg(bare_metal)]
#[expect(unsafe_code, reason = "switches global translations off and on")]
mod shootdown;
#[cfg(bare_metal)]
#[expect(unsafe_code, reason = "starts processors, and runs borrowed jobs on them")]
mod smp;
#[cfg(bare_metal)]
#[expect(unsafe_code, reason = "loads the kernel's address space")]
mod space;
#[cfg(bare_metal)]
#[expect(unsafe_code, reason = "changes an entry behind the core's back, on demand")]
mod tables;
#[cfg(bare_metal)]
mod trace;
#[cfg(bare_metal)]
#[expect(unsafe_code, reason = "trap frames, and accesses that may fault")]
mod trap;
#[cfg(bare_metal)]
#[expect(unsafe_code, reason = "writes to pages that may be gone")]
mod windows;
#[cfg(bare_metal)]
mod words;

#[cfg(not(bare_metal))]
fn main() {
    eprintln!("This is a stub: `just qemu` builds the kernel and boots it.");
    std::process::exit(2);
}
