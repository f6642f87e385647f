//! The production backend: page tables in real memory, with the orderings as they are designed.
//!
//! What the core asks of a backend falls into two parts, kept apart here:
//!
//! * *Memory* is address arithmetic. A [`Region`](frame::Region) is a base address and a range of
//!   physical addresses: on the machine the base is where the direct map begins, on a host it is
//!   an anonymous mapping, and the code is the same. Its first frames hold the metadata of all of
//!   them; the others are given out from a free list that runs through the free frames themselves.
//! * *Processors* are instructions: load this root. A machine implements
//!   [`Processors`](backend::Processors) with registers, a host with a number per thread.
//!
//! A [`Machine`](backend::Machine) puts the two together, with the geometry and the kinds of
//! tables that live on it, and is the [`Backend`](weft_core::sync::Backend). So tests, benches and
//! fuzzers on a host run the production code on nodes of full size, and not a stand-in.
//!
//! Words are atomics at their addresses, see [`word`]. Once compiled with optimisation nothing of
//! the facade is left: `qemu-runner/tests/code_generation` reads the machine code.

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
