//! From the first instruction in Rust to the last: the order of things.

use alloc::boxed::Box;

use weft_protocol::Line;

use crate::machine::boot::BootInformation;
use crate::machine::runtime::{Exit, exit};
use crate::machine::{apic, cpu, log, memory, serial, trap, vector};
use crate::services::{metal, preemption, sabotage, smp, space};
use crate::tests::options::{Options, Task};
use crate::tests::{harness, selftest};

/// Where the boot processor comes in from `boot.s`.
#[unsafe(no_mangle)]
extern "C" fn boot_main(start_info: u64) -> ! {
    serial::init();
    // SAFETY: `boot.s` passes on what the boot loader gave, and nothing was written since.
    let boot = unsafe { BootInformation::read(start_info) };
    let mut processors = [0; cpu::CPUS_MAX];
    let mut count = 0;
    // SAFETY: nothing was written since the firmware ran.
    unsafe {
        boot.for_each_processor(|id| {
            assert!(count < processors.len(), "the machine has more processors than are supported");
            processors[count] = id;
            count += 1;
        });
    }
    let frames = memory::init(&boot);
    // SAFETY: they are memory that nothing else uses, and the direct map of the boot tables and of
    // the final ones covers them.
    let machine = unsafe { metal::start(frames) };
    let space: &'static space::Space = Box::leak(Box::new(space::init(machine, &boot)));
    trap::init();
    trap::handle(vector::FLUSH, metal::answer);
    trap::handle(vector::PREEMPT, preemption::preempted);
    smp::set_up(0, space, machine);
    // SAFETY: the page is mapped just here, uncached, and stays.
    unsafe { apic::init(space::map_device(space, machine, apic::REGISTERS)) };
    log::init();
    let options = Options::parse(boot.command_line);
    options.sabotage.into_iter().for_each(sabotage::choose);
    smp::start(&processors[..count], space, machine);
    serial::line(&Line::<&str>::Boot {
        cpus: cpu::online() as u64,
        frames: machine.region().capacity(),
    });
    match options.task {
        Task::List => {
            harness::list();
            selftest::list();
        }
        Task::Scenario(name) => harness::run(name, &options, machine, space),
        Task::SelfTest(name) => selftest::run(name, options.seed, machine, space),
    }
    exit(Exit::Good)
}
