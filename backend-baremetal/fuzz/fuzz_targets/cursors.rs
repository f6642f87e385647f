//! What the fuzzer calls: see the library.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use weft_fuzz::Machines;

static MACHINES: OnceLock<Machines> = OnceLock::new();

fuzz_target!(|data: &[u8]| MACHINES.get_or_init(Machines::start).run(data));
