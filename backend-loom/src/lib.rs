//! Model backends of Weft: checkers behind one engine trait.
//!
//! [`engine`] says what a checker provides. The engines are named for what they promise:
//! [`exhaustive`] is loom and runs every execution of a small program, [`randomized`] is shuttle
//! with happens-before clocks, [`threads`] is the host. Words and cells of an engine are used
//! inside its searches only.
//! loom and shuttle must not share a process, and the second one to start is refused.

mod budget;
mod capture;
mod clocks;
pub mod engine;
mod exclusive;
pub mod exhaustive;
pub mod randomized;
mod schedule;
pub mod threads;
mod waiting;
