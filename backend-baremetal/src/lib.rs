//! The production backend: page tables in real memory, with the orderings as they are designed.
//!
//! What the core asks of a backend falls into two parts, kept apart here:
//!
//! * *Memory* is address arithmetic. A [`Region`](frame::Region) is a base address and a range of
//!   physical addresses: on the machine the base is where the direct map begins, on a host it is
//!   memory of the allocator, and the code is the same. Its first frames hold the metadata of all
//!   of them; the others are given out from a free list that runs through the free frames
//!   themselves.
//! * *Processors* are instructions: load this root. A machine implements
//!   [`Processors`](backend::Processors) with registers, a host with a number per thread.
//!
//! A [`Machine`](backend::Machine) puts the two together, with the geometry and the kinds of
//! tables that live on it, and is the [`Backend`](weft_core::sync::Backend). So tests, benches and
//! fuzzers on a host run the production code on nodes of full size, and not a stand-in.
//!
//! Words are atomics at their addresses, see [`word`]. Once compiled with optimisation nothing of
//! the facade is left: a test of the workspace reads the machine code.
//!
//! # A page on a host
//!
//! ```
#![doc = include_str!("../examples/first_page.rs")]
//! ```
//!
//! # A kernel
//!
//! 1. Map the memory that tables and frames are to live in, and make a [`Region`](frame::Region) of
//!    it. The region makes the [`Metadata`](weft_core::node::Metadata) of all of its frames.
//! 2. Implement [`Processors`](backend::Processors): which processor runs, how it loads a root, how
//!    others are made to flush. Implement [`Tables`](backend::Tables).
//! 3. Put [`Parts`](backend::Parts) into a static; [`Machine::new`](backend::Machine::new) is the
//!    backend.
//!
//! # A backend of one's own
//!
//! A kernel that has an allocator of frames, and a place for what belongs to each of them, needs no
//! region. It implements [`Backend`](weft_core::sync::Backend) with the words of [`word`], the
//! core's [`SpinLock`](weft_core::lock::SpinLock) and [`Monitor`](weft_core::grace::Monitor). *It
//! makes the metadata itself*, by [`Metadata::new`](weft_core::node::Metadata::new), once for each
//! frame and before it gives the frame out for the first time; what is in it afterwards is the
//! core's. Metadata and words of a frame stay where they are for good.
//!
//! ```
#![doc = include_str!("../examples/own_backend.rs")]
//! ```

#![no_std]

#[expect(unsafe_code, reason = "passes the core's promises about frames on to the region")]
pub mod backend;
#[expect(unsafe_code, reason = "where an address becomes memory")]
pub mod frame;
#[cfg(all(feature = "hosted", not(target_os = "none")))]
#[expect(unsafe_code, reason = "gives memory of the host's to a region, and plays hardware")]
pub mod hosted;
#[expect(unsafe_code, reason = "plain data accessed as atomics")]
pub mod word;

/// The page that registries show, so that its example is compiled and run.
#[doc = include_str!("../README.md")]
mod readme {}
