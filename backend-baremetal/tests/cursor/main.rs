//! The cursor, one CPU at a time, on the production backend.
//!
//! Tests by behaviour run on every geometry. Each ends by looking at the whole table (no node is
//! locked, stray, empty or miscounted), unmapping everything, and finding every frame given back;
//! see [`fixture::on_table`].

#[macro_use]
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod support;

#[path = "../support/watched.rs"]
#[expect(unsafe_code, reason = "a reclamation, and words of its own, are contracts")]
mod watched;

#[macro_use]
mod architecture;
mod caches;
mod canonical;
mod changes;
mod dirty;
mod failing;
mod fixture;
mod flushing;
mod hardware;
mod huge;
mod interpreter;
mod locking;
mod mapping;
mod marks;
mod moving;
mod order;
#[expect(unsafe_code, reason = "items are a contract")]
mod owned;
#[expect(unsafe_code, reason = "items are a contract")]
mod panicking;
mod positions;
mod program;
mod protecting;
mod random;
mod ranges;
mod reclaiming;
mod replacing;
mod sharing;
mod unmapping;
