//! A CPU gives the previous root back after it has loaded the next one, and not before: in
//! between it would translate through memory that is someone else's.
#![expect(unsafe_code, reason = "gives memory to a region, and plays a processor")]

use std::sync::{Arc, Mutex};

use weft_core::address::CpuId;
use weft_core::cpu::Cpu;
use weft_core::geometry::TinyTwo;
use weft_core::space::AddressSpace;

use crate::one_processor::{OneMachine, Table, machine, region};

mod one_processor;

const PAGES: usize = 16;

#[test]
fn the_previous_root_lives_until_the_next_one_is_loaded() {
    let machine: OneMachine<TinyTwo> = machine(region(0, PAGES, 0, 0));
    // How many frames are in use at the moment of each load.
    let live_at_loads = Arc::new(Mutex::new(Vec::new()));
    let live = Arc::clone(&live_at_loads);
    let note = move || live.lock().expect("no load panics").push(machine.region().live());
    assert!(machine.processors().at_load.set(Box::new(note)).is_ok());
    let space =
        || AddressSpace::<Table<OneMachine<TinyTwo>>>::allocate(&machine).expect("frames enough");
    let mut cpu = Cpu::online(&machine, CpuId::new(0)).expect("the CPU is offline");
    for _ in 0..3 {
        // The handle is dropped at once, so the CPU's is the last one.
        cpu.activate(&space()).expect("the table is activated");
        assert_eq!(machine.region().live(), 2, "only the active root is left");
    }
    drop(cpu);
    assert_eq!(machine.region().live(), 0);
    let live = live_at_loads.lock().expect("no load panics");
    assert_eq!(*live, [2, 4, 4, 2], "a root is given back before another one is loaded");
}
