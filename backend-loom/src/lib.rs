//! Model backends of Weft: checkers behind one engine trait.
//!
//! [`engine`] says what a checker provides. Each engine is a module that is named for what it
//! holds: [`explorer`] is our own engine and runs every execution exactly once, [`loom`] runs every
//! execution of a small program, [`shuttle`] draws schedules and keeps happens-before clocks,
//! [`threads`] is the host. [`chosen`] stands for the one of them that a process explores with:
//! model memory and scenarios are compiled once, and not once for each engine. Words and cells of
//! an engine are used inside its searches only.
//! loom and shuttle must not share a process, and the second one to start is refused.
//!
//! [`harness`], [`report`], [`testing`] and [`programs`] are here too, although they know no
//! engine. Model memory and harness are two halves of one thing: the harness starts the CPUs that
//! model memory tells apart, ends an execution with the checks of its ghost state, and draws what
//! it recorded. Two packages would have to publish that ghost state to each other, and nothing
//! would use one without the other. The command is a package of its own (`model-check/`), because
//! its build script collects the scenario files and would make this library stale with each edit.

mod actor;
mod budget;
mod capture;
pub mod child;
pub mod chosen;
mod clocks;
mod counterexample;
pub mod coverage;
pub mod engine;
mod exclusive;
pub mod explorer;
mod ghost;
#[expect(unsafe_code, reason = "dismantles the kernel's table once no root shares it")]
pub mod harness;
pub mod loom;
mod memory;
mod mmu;
#[expect(unsafe_code, reason = "keeps the facade's promises with the model's memory")]
pub mod model;
pub mod programs;
pub mod report;
pub mod sabotage;
mod schedule;
pub mod shuttle;
pub mod testing;
pub mod threads;
mod translations;
mod waiting;
mod words;
