//! The state of the code that verdicts are about: a number that changes with it.
//!
//! It is made of the texts of the core, the scenarios, the models and the engine, and of the
//! versions of what they depend on. Commits that change none of these have the same state, and
//! changes that are not committed have another one.

include!(concat!(env!("OUT_DIR"), "/state.rs"));
