//! Fuzzing cursors: bytes become a program, the program runs on a table and on its specification.
//!
//! The body is that of the tests, from the same files: `backend-baremetal/tests/cursor`. Its
//! programs can ask for any address, level, frame and property. Whatever they ask for, nothing may
//! panic, every answer has to be as specified, and every frame has to come back. What the tests
//! look for with a description of likely programs, a fuzzer looks for by watching which code runs.
//!
//! `just test-long` does it for a minute. For longer, from `backend-baremetal/`, with a stable
//! compiler:
//!
//! ```text
//! cargo install --locked cargo-fuzz
//! cargo fuzz run --sanitizer none --target-dir ../target/fuzz cursors -- -max_len=4096
//! ```

// For the modules, which were written for a test target.
#[macro_use]
#[path = "../../tests/support/mod.rs"]
#[expect(dead_code, unused_macros, reason = "tests use the rest of it")]
mod support;

#[path = "../../tests/support/watched.rs"]
#[expect(dead_code, reason = "tests use the rest of it")]
mod watched;

#[macro_use]
#[path = "../../tests/cursor/architecture.rs"]
#[expect(unused_macros, reason = "tests use it")]
mod architecture;
#[path = "../../tests/cursor/caches.rs"]
mod caches;
#[path = "../../tests/cursor/changes.rs"]
mod changes;
#[path = "../../tests/cursor/fixture.rs"]
#[expect(dead_code, unused_imports, reason = "tests use the rest of it")]
mod fixture;
#[path = "../../tests/cursor/interpreter.rs"]
#[expect(dead_code, reason = "a test asks what was reached")]
mod interpreter;
#[path = "../../tests/cursor/program.rs"]
mod program;

use weft_core::geometry::{FourLevels, TinyThree};

use architecture::{Sv39, Sv48};
use watched::{Machine, start};

/// Enough for everything that one program can map.
const FRAMES: u64 = 1 << 15;

/// The machines of a process: their memory is never given back.
#[derive(Debug)]
pub struct Machines {
    four: Machine<FourLevels>,
    tiny: Machine<TinyThree>,
    sv39: Machine<Sv39>,
    sv48: Machine<Sv48>,
}

impl Machines {
    /// New machines.
    ///
    /// # Panics
    ///
    /// If the host has no memory left.
    pub fn start() -> Self {
        Self {
            four: start(FRAMES),
            tiny: start(FRAMES),
            sv39: start(FRAMES),
            sv48: start(FRAMES),
        }
    }

    /// Runs the program that `data` stands for. The first byte chooses a machine.
    ///
    /// # Panics
    ///
    /// If a cursor does not do what is specified.
    pub fn run(&self, data: &[u8]) {
        let Some((choice, data)) = data.split_first() else { return };
        match choice % 4 {
            0 => interpreter::run_bytes(&self.four, data),
            1 => interpreter::run_bytes(&self.tiny, data),
            2 => interpreter::run_bytes(&self.sv39, data),
            _ => interpreter::run_bytes(&self.sv48, data),
        }
    }
}
