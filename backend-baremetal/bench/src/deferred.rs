//! Deferred free: a frame that is unmapped waits for a grace period, in a list.
//!
//! *By hand*, the list runs through words beside the frames: one store to put a frame in, one load
//! to take it out, one decrement of its count of references, and the last one frees it. Ours does
//! the same through [`Batch`], which remembers no types. Both give frames back to the same
//! allocator, so that its cost is in both; and to see how large it is, frames are also dropped at
//! once, without any list.

use std::iter;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use weft_core::address::Paddr;
use weft_core::frame::Frame;
use weft_core::reclaim::Batch;

use crate::memory::{Arena, FRAME_SIZE};
use crate::raw::Raw;
use crate::weft::{Machine, Weft, release};
use crate::workload::{self, Operation, Role, Span, State, Table, Workload};

/// How a frame is given up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// Through a batch of the core.
    Batch,
    /// Dropped, at once.
    AtOnce,
    /// Not at all: what reports a workload that does nothing is tested with this.
    Leaked,
}

/// Gives up frames that are tracked by the core.
#[derive(Debug)]
pub struct Tracked {
    machine: Machine,
    way: Way,
    items: u64,
    frames: Vec<Frame<Machine>>,
    live_before: u64,
}

impl Tracked {
    /// Gives up so many frames of a machine.
    pub fn new(machine: Machine, way: Way, items: u64) -> Self {
        Self { machine, way, items, frames: Vec::new(), live_before: 0 }
    }
}

impl Workload for Tracked {
    fn name(&self) -> String {
        match self.way {
            Way::Batch => "weft: a batch",
            Way::AtOnce => "weft: at once, without a list",
            Way::Leaked => "leaked",
        }
        .to_owned()
    }

    fn role(&self) -> Role {
        if self.way == Way::Batch { Role::Ours } else { Role::Reference }
    }

    fn units(&self) -> u64 {
        self.items
    }

    fn prepare(&mut self) {
        self.live_before = self.machine.region().live();
        let frame = |_| Frame::allocate(&self.machine).expect("the machine has room for the items");
        self.frames = (0..self.items).map(frame).collect();
    }

    fn run(&mut self) -> u64 {
        let mut given_up = 0;
        match self.way {
            Way::Batch => {
                let mut batch = Batch::new(&self.machine);
                for frame in self.frames.drain(..) {
                    batch.push(frame.erase());
                    given_up += 1;
                }
                batch.drop_all();
            }
            Way::AtOnce => {
                for frame in self.frames.drain(..) {
                    drop(frame);
                    given_up += 1;
                }
            }
            Way::Leaked => given_up = self.items,
        }
        given_up
    }

    fn verify(&mut self, result: u64) -> Result<(), String> {
        given_back(self.machine, self.live_before, self.items, result)
    }
}

/// Gives up frames that are tracked by hand.
#[derive(Debug)]
pub struct ByHand {
    machine: Machine,
    /// Only the words beside its frames are used.
    beside: Arc<Arena>,
    items: u64,
    frames: Vec<u64>,
    live_before: u64,
}

impl ByHand {
    /// Gives up so many frames of a machine, with lists in an arena that has as many frames.
    pub fn new(machine: Machine, beside: Arc<Arena>, items: u64) -> Self {
        Self { machine, beside, items, frames: Vec::new(), live_before: 0 }
    }
}

impl Workload for ByHand {
    fn name(&self) -> String {
        "by hand".to_owned()
    }

    fn role(&self) -> Role {
        Role::Bound
    }

    fn units(&self) -> u64 {
        self.items
    }

    fn prepare(&mut self) {
        self.live_before = self.machine.region().live();
        let frame = |_| allocate(self.machine, &self.beside);
        self.frames = (0..self.items).map(frame).collect();
    }

    fn run(&mut self) -> u64 {
        let mut first = 0;
        for frame in self.frames.drain(..) {
            self.beside.beside(frame).link.store(first, Ordering::Relaxed);
            first = frame;
        }
        give_up(self.machine, &self.beside, first)
    }

    fn verify(&mut self, result: u64) -> Result<(), String> {
        given_back(self.machine, self.live_before, self.items, result)
    }
}

/// Gives up every frame of a list that begins with `first`, and returns how many there were.
fn give_up(machine: Machine, beside: &Arena, mut first: u64) -> u64 {
    let mut given_up = 0;
    while first != 0 {
        let words = beside.beside(first);
        let frame = mem::replace(&mut first, words.link.load(Ordering::Relaxed));
        if words.references.fetch_sub(1, Ordering::Release) == 1 {
            fence(Ordering::Acquire);
            release(machine, Paddr::new(frame));
        }
        given_up += 1;
    }
    given_up
}

/// Unmaps pages that own their frames, through a cursor, and waits for the frames to be free.
#[derive(Debug)]
pub struct Unmapping {
    weft: Weft,
    span: Span,
    live_before: u64,
}

impl Unmapping {
    /// Unmaps a span of this table, on a machine that has a frame for each page.
    pub fn new(weft: Weft, span: Span) -> Self {
        Self { weft, span, live_before: 0 }
    }
}

impl Workload for Unmapping {
    fn name(&self) -> String {
        self.weft.name()
    }

    fn role(&self) -> Role {
        Role::Ours
    }

    fn units(&self) -> u64 {
        self.span.pages
    }

    fn prepare(&mut self) {
        self.weft.prepare(State::Root, &self.span);
        self.live_before = self.weft.machine().region().live();
        self.weft.map_tracked(&self.span);
    }

    fn run(&mut self) -> u64 {
        self.weft.run(Operation::Unmap, &self.span)
    }

    fn verify(&mut self, result: u64) -> Result<(), String> {
        given_back(self.weft.machine(), self.live_before, self.span.pages, result)?;
        workload::verify(Operation::Unmap, State::Mapped, &self.span, &self.weft, result)
    }
}

/// Unmaps pages that own their frames, by hand.
#[derive(Debug)]
pub struct UnmappingByHand {
    raw: Raw,
    machine: Machine,
    /// Only the words beside its frames are used.
    beside: Arc<Arena>,
    span: Span,
    live_before: u64,
}

impl UnmappingByHand {
    /// Unmaps a span of this table, whose pages own frames of a machine, with lists in an arena
    /// that has as many.
    pub fn new(raw: Raw, machine: Machine, beside: Arc<Arena>, span: Span) -> Self {
        Self { raw, machine, beside, span, live_before: 0 }
    }
}

impl Workload for UnmappingByHand {
    fn name(&self) -> String {
        self.raw.name()
    }

    fn role(&self) -> Role {
        Role::Bound
    }

    fn units(&self) -> u64 {
        self.span.pages
    }

    fn prepare(&mut self) {
        self.raw.prepare(State::Nodes, &self.span);
        self.live_before = self.machine.region().live();
        let frame = || allocate(self.machine, &self.beside);
        self.raw.map_frames(&self.span, iter::repeat_with(frame));
    }

    fn run(&mut self) -> u64 {
        let mut first = 0;
        self.raw.unmap_with(&self.span, |frame| {
            self.beside.beside(frame).link.store(first, Ordering::Relaxed);
            first = frame;
        });
        give_up(self.machine, &self.beside, first)
    }

    fn verify(&mut self, result: u64) -> Result<(), String> {
        given_back(self.machine, self.live_before, self.span.pages, result)?;
        workload::verify(Operation::Unmap, State::Mapped, &self.span, &self.raw, result)
    }
}

/// A frame of the machine, with one owner.
fn allocate(machine: Machine, beside: &Arena) -> u64 {
    let frame = machine.region().allocate();
    let frame = frame.expect("the machine has room for the items").as_u64();
    beside.beside(frame).references.store(1, Ordering::Relaxed);
    frame
}

fn given_back(machine: Machine, before: u64, items: u64, result: u64) -> Result<(), String> {
    let left = machine.region().live() - before;
    if left != 0 || result != items {
        return Err(format!("{result} of {items} frames were given up, and {left} are in use"));
    }
    Ok(())
}

/// How many frames an arena needs so that each frame of the machine has its words there.
pub fn frames_beside(machine: Machine) -> u64 {
    let highest = machine.region().capacity() + machine.region().capacity() / 64;
    highest + FRAME_SIZE
}
