//! Scenarios on the production backend: what they need of its processors.
//!
//! [`World`] is a trait of this package and [`Machine`] a type of the backend's, so a kernel cannot
//! join them: it implements [`Users`] for its processors, and they are joined here.
//!
//! Contents are the first word of a frame, written and read through the direct map. They are
//! relaxed accesses: that they are complete before the frame can be reached is what the core's
//! sites promise, and what some scenarios check. A user's view is real loads and stores through the
//! root that is loaded, with faults caught.

use weft_backend_baremetal::backend::{Machine, Processors, Tables};
use weft_backend_baremetal::frame::POISON;
use weft_core::address::{CpuId, Level, Paddr, Vaddr};
use weft_core::geometry::Geometry;
use weft_core::item::UntrackedMemory;
use weft_core::sync::Backend;

use crate::detector::USE_AFTER_FREE;
use crate::mark::Mark;
use crate::world::World;

/// Processors that run users, and take notes.
pub trait Users: Processors {
    /// Writes the first word of a frame of data, as a relaxed store.
    fn write_contents(&self, frame: Paddr, value: u64);

    /// Reads the first word of a frame of data, in use or not, as a relaxed load.
    fn read_contents(&self, frame: Paddr) -> u64;

    /// A load through the loaded root, or `None` for a fault.
    fn user_read(&self, vaddr: Vaddr) -> Option<u64>;

    /// A store through the loaded root. False for a fault.
    fn user_write(&self, vaddr: Vaddr, value: u64) -> bool;

    /// A translation of `vaddr` through the loaded root, of which nothing is seen.
    fn prefetch(&self, vaddr: Vaddr);

    /// Memory that tables on a machine of this kind may map without owning it, frames included.
    fn untracked_memory<B: Backend>(&self) -> UntrackedMemory<B>;

    /// The calling processor gets at most `count` more frames.
    fn limit_frames(&self, count: usize);

    /// Interrupts the processor that plays a CPU, and calls `handler` there; the caller plays it if
    /// none does any more.
    fn in_handler_of(&self, cpu: CpuId, handler: &(dyn Fn() + Sync));

    /// Notes that a situation was met.
    fn reached(&self, situation: &'static str);

    /// A number that is larger than all that were drawn before, by any processor. What was done
    /// before an earlier number was drawn has happened for every processor that draws a later one.
    fn draw(&self) -> u64;
}

impl<G: Geometry, T: Tables, P: Users> World for Machine<G, T, P> {
    fn write_contents(&self, frame: Paddr, value: u64) {
        self.processors().write_contents(frame, value);
    }

    fn read_contents(&self, frame: Paddr) -> u64 {
        // A frame that a broken table freed too early is still memory, and holds the poison.
        let contents = self.processors().read_contents(frame);
        assert!(contents != POISON, "{USE_AFTER_FREE}: the contents of {frame:?} were read");
        contents
    }

    fn user_read(&self, vaddr: Vaddr) -> Option<u64> {
        self.processors().user_read(vaddr)
    }

    fn user_write(&self, vaddr: Vaddr, value: u64) -> bool {
        self.processors().user_write(vaddr, value)
    }

    fn user_level(&self, _vaddr: Vaddr) -> Option<Level> {
        None
    }

    fn prefetch(&self, vaddr: Vaddr) {
        self.processors().prefetch(vaddr);
    }

    fn untracked_memory(&self) -> UntrackedMemory<Self> {
        self.processors().untracked_memory()
    }

    fn limit_frames(&self, count: usize) {
        self.processors().limit_frames(count);
    }

    fn reuse_frames(&self) {}

    fn in_handler_of(&self, cpu: CpuId, handler: &(dyn Fn() + Sync)) {
        self.processors().in_handler_of(cpu, handler);
    }

    fn reached(&self, situation: &'static str) {
        self.processors().reached(situation);
    }

    fn mark(&self) -> Mark {
        Mark::at(self.processors().draw())
    }
}
