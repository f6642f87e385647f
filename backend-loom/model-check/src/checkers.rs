//! The engines that the command knows: the only list of them.
//!
//! A line of the list makes an engine selectable, gives it rows and twins, and says how it is used.
//! Engines are ordered by how much they promise; the first one is the primary engine, the one that
//! every scenario is explored with.

use weft_backend_loom::engine::{Engine, Progress};
use weft_backend_loom::harness::{Describe, Plan, Run};
use weft_backend_loom::model::Model;
use weft_backend_loom::report::{Report, Request};
use weft_backend_loom::{explorer, loom, shuttle, threads};

use crate::checkout;

/// The scenario files, collected by the build script.
mod collected {
    include!(concat!(env!("OUT_DIR"), "/scenarios.rs"));
}

pub(crate) use collected::{NAMES, ROOT, TITLES};

/// What an engine is used for, and so which budgets it gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Use {
    /// Runs every execution of every scenario, without bounds, under a selectable memory model.
    Everything,
    /// Runs every execution where that ends in time, and otherwise bounds preemptions.
    WithinBounds,
    /// Draws so many executions.
    Sample(u64),
}

/// An engine without its type.
#[derive(Debug)]
pub(crate) struct Checker {
    /// The name on the command line, in tables and in tokens.
    pub(crate) name: &'static str,
    /// The memory model, in words.
    pub(crate) memory_model: &'static str,
    /// Whether a search can end by itself.
    pub(crate) exhaustive: bool,
    /// Whether situations, outcomes and twins can be demanded of it.
    pub(crate) controls_schedule: bool,
    /// The largest number of CPUs.
    pub(crate) cpus_max: usize,
    /// How it is used.
    pub(crate) used_for: Use,
    /// Explores a scenario in this process; `None` if there is no such scenario.
    pub(crate) run: fn(&str, Request, Progress) -> Option<Report>,
}

const fn checker<E: Engine>(used_for: Use) -> Checker {
    Checker {
        name: E::NAME,
        memory_model: E::MEMORY_MODEL,
        exhaustive: E::EXHAUSTIVE,
        controls_schedule: E::CONTROLS_SCHEDULE,
        cpus_max: E::CPUS_MAX,
        used_for,
        run: |name, request, progress| {
            let run = Run::<E>::new(request).with_progress(progress);
            collected::visit::<Model<E>, _>(name, run)
        },
    }
}

/// Every engine, the primary one first.
pub(crate) static ALL: &[Checker] = &[
    checker::<explorer::Explorer>(Use::Everything),
    checker::<loom::Loom>(Use::WithinBounds),
    checker::<shuttle::Shuttle>(Use::Sample(10_000)),
    checker::<threads::Threads>(Use::Sample(500)),
];

/// The engine called `name`.
pub(crate) fn find(name: &str) -> Option<&'static Checker> {
    ALL.iter().find(|checker| checker.name == name)
}

/// The names of all engines.
pub(crate) fn names() -> Vec<&'static str> {
    ALL.iter().map(|checker| checker.name).collect()
}

/// What a scenario says about itself.
pub(crate) fn describe(name: &str) -> Option<Plan> {
    // The description is the same under every engine; this one needs nothing.
    collected::visit::<Model<threads::Threads>, _>(name, Describe)
}

/// Refuses to take the scenarios that were built in for those of another checkout.
///
/// # Errors
///
/// One sentence, if the current folder is in a checkout with other scenario files.
pub(crate) fn of_this_checkout() -> Result<(), String> {
    // Outside of any checkout there is nothing to be taken for.
    let Ok(root) = checkout::root() else { return Ok(()) };
    let folder = root.join("scenarios/tests");
    let files = folder.read_dir().into_iter().flatten().flatten().map(|entry| entry.path());
    let files = files.filter(|path| path.extension() == Some("rs".as_ref()));
    let stems = files.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()));
    let mut names: Vec<_> = stems.filter(|name| !name.starts_with('.')).collect();
    names.sort();
    if names == NAMES {
        return Ok(());
    }
    Err(format!(
        "{} holds other scenarios than this command was built with: build it there, as \
         `just model-check` does",
        folder.display()
    ))
}
