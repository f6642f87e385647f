//! The core's behaviour on the production backend: real nodes of 512 entries on 4 and 5 levels,
//! and the geometries of the models, which the same bodies run on.
//!
//! Every test runs on a machine of its own and ends by checking that all frames have been given
//! back; see [`support::on_machine`].

#[macro_use]
#[path = "../support/mod.rs"]
mod support;

mod activation;
mod allocation;
#[expect(unsafe_code, reason = "puts nodes out of order, and finds them by their frames")]
mod audit;
mod detached;
mod drop_walk;
mod find;
#[expect(unsafe_code, reason = "retires batches by hand")]
mod grace;
mod growth;
mod interrupted;
#[expect(unsafe_code, reason = "finds nodes by their frames")]
mod kinds;
mod locking;
mod mixed;
mod model;
mod protect;
mod refused;
mod replace;
mod sharing;
mod standing;
mod stray;
#[expect(unsafe_code, reason = "vouches for memory")]
mod untracked;
