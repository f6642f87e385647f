//! The engines that the command knows: the only list of them.
//!
//! A line of the list makes an engine selectable, gives it rows and twins, and says how it is used.
//! Engines are ordered by how much they promise; the first one is the primary engine, the one that
//! every scenario is explored with.

use weft_backend_loom::chosen::EngineName;
use weft_backend_loom::engine::Traits;
use weft_backend_loom::harness::{Prepare, Prepared};
use weft_backend_loom::model::Model;
use weft_backend_loom::report::Report;
use weft_scenarios::sabotage::Sabotage;
use weft_shell::checkout;

/// The scenario files, collected by the build script.
mod collected {
    use super::{Bug, File};

    include!(concat!(env!("OUT_DIR"), "/scenarios.rs"));
}

use collected::ROOT;
pub(crate) use collected::{FILES, NAMES, TITLES};

/// What a scenario file says about itself, besides its code.
#[derive(Debug)]
pub(crate) struct File {
    /// How many lines it has.
    pub(crate) lines: usize,
    /// The parts of the header, by what they begin with.
    pub(crate) header: &'static [(&'static str, &'static str)],
    /// The historical bugs that it re-creates.
    pub(crate) bugs: &'static [Bug],
}

/// A historical bug, and what re-creates it.
#[derive(Debug)]
pub(crate) struct Bug {
    /// The row of the catalogue.
    pub(crate) row: &'static str,
    /// Where it is told.
    pub(crate) references: &'static [&'static str],
    /// What raced.
    pub(crate) what: &'static str,
    /// The twins and mistakes, as sabotages are spelled, and mutants, as `mutant <name>`.
    pub(crate) hows: &'static [&'static str],
}

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

/// An engine, and how it is used.
#[derive(Debug)]
pub(crate) struct Checker {
    /// The engine.
    pub(crate) engine: EngineName,
    /// How it is used.
    pub(crate) used_for: Use,
}

impl Checker {
    /// The name on the command line, in tables and in tokens.
    pub(crate) fn name(&self) -> &'static str {
        self.traits().name
    }

    /// What the engine says about itself.
    pub(crate) fn traits(&self) -> &'static Traits {
        self.engine.traits()
    }
}

/// Every engine, the primary one first.
pub(crate) static ALL: &[Checker] = &[
    Checker { engine: EngineName::Explorer, used_for: Use::Everything },
    Checker { engine: EngineName::Loom, used_for: Use::WithinBounds },
    Checker { engine: EngineName::Shuttle, used_for: Use::Sample(10_000) },
    Checker { engine: EngineName::Threads, used_for: Use::Sample(500) },
];

/// The engine called `name`.
pub(crate) fn find(name: &str) -> Option<&'static Checker> {
    ALL.iter().find(|checker| checker.name() == name)
}

/// The names of all engines.
pub(crate) fn names() -> Vec<&'static str> {
    ALL.iter().map(|checker| checker.name()).collect()
}

/// The scenario called `name`.
pub(crate) fn prepare(name: &str) -> Option<Prepared> {
    collected::visit::<Model, _>(name, Prepare)
}

/// The name of a sabotage, and what is different then in the scenario called `name`.
pub(crate) fn described(name: &str, sabotage: Sabotage) -> String {
    prepare(name).map_or_else(|| sabotage.described(), |it| it.plan.described(sabotage))
}

/// Makes a report name files as they are seen from the workspace, wherever it was built.
pub(crate) fn seen_from_the_root(report: &mut Report) {
    let Some(failure) = &mut report.failure else { return };
    let texts = failure.lines.iter_mut().flat_map(|line| [&mut line.at, &mut line.text]);
    let texts = texts.chain(&mut failure.waiting).chain([&mut failure.message]);
    for text in texts.chain(&mut failure.location).chain(&mut failure.detail) {
        *text = text.replace(ROOT, "");
    }
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
