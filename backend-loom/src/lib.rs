//! Model backends of Weft: checkers behind one engine trait.
//!
//! [`engine`] says what a checker provides. The engines are named for what they promise:
//! [`exhaustive`] is loom and runs every execution of a small program, [`randomized`] is shuttle
//! with happens-before clocks, [`threads`] is the host. Words and cells of an engine are used
//! inside its searches only.
//! loom and shuttle must not share a process, and the second one to start is refused.

mod budget;
mod capture;
pub mod child;
mod clocks;
mod counterexample;
pub mod engine;
mod exclusive;
pub mod exhaustive;
pub mod explorer;
mod ghost;
#[expect(unsafe_code, reason = "dismantles the kernel's table once nobody shares it")]
pub mod harness;
mod memory;
#[expect(unsafe_code, reason = "keeps the facade's promises with the model's memory")]
pub mod model;
pub mod programs;
pub mod randomized;
pub mod report;
pub mod sabotage;
mod schedule;
pub mod testing;
pub mod threads;
mod waiting;
mod words;
