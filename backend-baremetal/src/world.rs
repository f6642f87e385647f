//! What scenarios need of a machine: contents of frames, and a user's view of memory.
//!
//! Contents are the first word of a frame, written and read through the direct map. They are
//! relaxed accesses: that they are complete before the frame can be reached is what the core's
//! sites promise, and what some scenarios check. A user's view is the business of processors: real
//! loads and stores through the root that is loaded, with faults caught.

use weft_core::address::{Paddr, Vaddr};
use weft_core::geometry::Geometry;
use weft_core::reclaim::Erased;
use weft_core::sync::Backend;
use weft_scenarios::mark::Mark;
use weft_scenarios::tables;
use weft_scenarios::world::World;

use crate::backend::{Machine, Processors, Tables};
use crate::frame::POISON;

/// The two configurations of tables that scenarios use.
#[derive(Clone, Copy, Debug)]
pub struct ScenarioTables;

impl Tables for ScenarioTables {
    fn drop_erased<B: Backend>(reference: Erased<B>) {
        tables::drop_erased(reference);
    }
}

/// Processors that run users, and take notes.
pub trait Users: Processors {
    /// A load through the loaded root, or `None` for a fault.
    fn user_read(&self, vaddr: Vaddr) -> Option<u64>;

    /// A store through the loaded root. False for a fault.
    fn user_write(&self, vaddr: Vaddr, value: u64) -> bool;

    /// The calling processor gets at most `count` more frames.
    fn limit_frames(&self, count: usize);

    /// Notes that a situation was met.
    fn reached(&self, situation: &'static str);

    /// A number that is larger than all that were drawn before, by any processor. What was done
    /// before an earlier number was drawn has happened for whoever draws a later one.
    fn draw(&self) -> u64;
}

impl<G: Geometry, T: Tables, P: Users> World for Machine<G, T, P> {
    fn write_contents(&self, frame: Paddr, value: u64) {
        // SAFETY: (1) scenarios write frames that they have allocated and not yet given away; (2)
        // 0 is an index; (3) contents are accessed here and by user accesses, which are single
        // loads and stores of words.
        unsafe { self.region().word(frame, 0) }.store_link(value);
    }

    fn read_contents(&self, frame: Paddr) -> u64 {
        // SAFETY: as in `write_contents`; a frame that a broken table freed too early is still
        // memory of the region, and holds the poison that is looked for below.
        let contents = unsafe { self.region().word(frame, 0) }.load_link();
        assert!(contents != POISON, "use after free: the contents of {frame:?} were read");
        contents
    }

    fn user_read(&self, vaddr: Vaddr) -> Option<u64> {
        self.processors().user_read(vaddr)
    }

    fn user_write(&self, vaddr: Vaddr, value: u64) -> bool {
        self.processors().user_write(vaddr, value)
    }

    fn limit_frames(&self, count: usize) {
        self.processors().limit_frames(count);
    }

    fn reached(&self, situation: &'static str) {
        self.processors().reached(situation);
    }

    fn mark(&self) -> Mark {
        Mark::at(self.processors().draw())
    }
}
