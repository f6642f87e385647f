//! The kernel that tests itself: the core, the production backend and the scenarios on a machine.
//!
//! It boots on all processors, builds its own address space with the core, runs what the command
//! line asks for, says on the serial port how it went, and exits. It has three floors, and each
//! uses only what is on its own and below:
//!
//! 1. `machine`: the first instructions, memory, traps, interrupts, the serial port; knows nothing
//!    of page tables;
//! 2. `services`: `metal` is the machine that the core runs on; `shootdown` has processors flush
//!    what the core says; `space` is the kernel's own address space, made and changed by cursors;
//!    `smp` starts the other processors. `sabotage` says how it is broken;
//! 3. `tests`: `harness` runs a scenario, `selftest` a test of the kernel itself.
//!
//! The order of things is in `start`, above them all.
//!
//! Everything is built for the host's target, as a static image without a C runtime; without
//! `BARE_METAL=1` this is a stub that says so.

#![cfg_attr(bare_metal, no_std, no_main)]

#[cfg(bare_metal)]
extern crate alloc;

/// The scenario files, and how to visit them by name.
#[cfg(bare_metal)]
mod scenarios {
    #![expect(dead_code, reason = "places are shortened without knowing where the build is")]
    include!(concat!(env!("OUT_DIR"), "/scenarios.rs"));
}

#[cfg(bare_metal)]
mod machine {
    #[expect(unsafe_code, reason = "the local interrupt controller is memory")]
    pub(crate) mod apic;
    #[expect(unsafe_code, reason = "what the boot loader left in memory")]
    pub(crate) mod boot;
    #[expect(unsafe_code, reason = "segments, task state, the block of each processor")]
    pub(crate) mod cpu;
    pub(crate) mod log;
    #[expect(unsafe_code, reason = "gives memory to the heap")]
    pub(crate) mod memory;
    #[expect(unsafe_code, reason = "symbols that compiled code expects, and the way out")]
    pub(crate) mod runtime;
    #[expect(unsafe_code, reason = "the serial port")]
    pub(crate) mod serial;
    #[expect(unsafe_code, reason = "trap frames, and accesses that may fault")]
    pub(crate) mod trap;
    pub(crate) mod vector;
    pub(crate) mod waiting;
}

#[cfg(bare_metal)]
mod services {
    pub(crate) mod frames;
    #[expect(unsafe_code, reason = "loads roots, and keeps the backend's promises")]
    pub(crate) mod metal;
    pub(crate) mod preemption;
    #[expect(unsafe_code, reason = "loads roots")]
    pub(crate) mod roots;
    pub(crate) mod sabotage;
    #[expect(unsafe_code, reason = "flushes global translations, and lends calls")]
    pub(crate) mod shootdown;
    pub(crate) mod situations;
    #[expect(unsafe_code, reason = "starts processors, and runs borrowed jobs on them")]
    pub(crate) mod smp;
    #[expect(unsafe_code, reason = "loads the kernel's address space")]
    pub(crate) mod space;
    pub(crate) mod words;
}

#[cfg(bare_metal)]
mod tests {
    pub(crate) mod asking;
    #[expect(unsafe_code, reason = "finds nodes by their frames, and breaks some on demand")]
    pub(crate) mod audit;
    pub(crate) mod builder;
    pub(crate) mod flushing;
    #[expect(unsafe_code, reason = "says when no CPU is at work")]
    pub(crate) mod harness;
    pub(crate) mod kernel;
    pub(crate) mod options;
    #[expect(unsafe_code, reason = "a test finds the functions by their symbols")]
    pub(crate) mod probes;
    #[expect(unsafe_code, reason = "tests of the kernel break what they test")]
    pub(crate) mod selftest;
    #[expect(unsafe_code, reason = "changes an entry behind the core's back, on demand")]
    pub(crate) mod tables;
    #[expect(unsafe_code, reason = "writes to pages that may be gone")]
    pub(crate) mod windows;
}

#[cfg(bare_metal)]
#[expect(unsafe_code, reason = "hands the machine over, from floor to floor")]
mod start;

#[cfg(not(bare_metal))]
fn main() {
    eprintln!("This is a stub: `just qemu` builds the kernel and boots it.");
    std::process::exit(2);
}
