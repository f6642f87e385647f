//! Gives the shared half of the build scripts, `scenarios/collect.rs`, a place to run its tests.

#[path = "../../../scenarios/collect.rs"]
#[expect(dead_code, reason = "what is tested here is the checks, which build scripts call")]
mod collect;
