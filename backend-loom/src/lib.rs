//! Model backends of Weft: checkers behind one engine trait.
//!
//! [`engine`] says what a checker provides. The engines are named for what they promise:
//! [`exhaustive`] is loom and runs every execution of a small program; the others sample.
//! loom and shuttle must not share a process, and the second one to start is refused.

mod budget;
mod capture;
pub mod engine;
mod exclusive;
pub mod exhaustive;
mod waiting;
