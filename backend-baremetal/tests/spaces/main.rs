//! Address spaces: which CPUs are asked to forget translations, which ones, and what they note.
//!
//! One thread plays several processors, one after the other; what they are asked for is written
//! down, see [`played`].

#[macro_use]
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod support;

#[expect(clippy::single_range_in_vec_init, reason = "of several ranges there may be one")]
mod extent;
mod late;
mod lazy;
mod lifetime;
#[expect(unsafe_code, reason = "a machine's processors are a contract")]
mod played;
mod shared;
mod tags;
mod targets;
