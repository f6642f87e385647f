//! Collects the scenario files into the command.

#[path = "../../scenarios/collect.rs"]
mod collect;

fn main() {
    collect::scenarios("../..", "pub(crate)");
}
