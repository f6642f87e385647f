//! Logic mutants: changes that break the code, and the checks that must notice.
//!
//! The mutants on file (see [`catalogue`]) are merged into one scratch copy: every function that
//! some mutant changes gets all of its bodies, and a word in the environment chooses at run time
//! ([`merge`], [`choice`]). So there is one build, and the code that ships carries no switches. A
//! mutant that cannot be chosen, because it changes more than the bodies of functions, is built in
//! a copy of its own afterwards; so is one that does not compile beside the others.
//!
//! Then every check runs once on no mutant and once on each mutant that it must notice ([`check`]).
//! A mutant is killed if all of its checks fail, each with the expected message, and none of them
//! fails without it. Text that is no longer there, and a mutant that does not compile, are errors:
//! nothing has been noticed there. A mutant that is said to survive is tried with every check that
//! kills a mutant of the same crate, and it is an error, too, if one of them fails.

pub(crate) mod builds;
pub(crate) mod catalogue;
pub(crate) mod check;
mod choice;
mod merge;
mod results;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use weft_shell::interruption;

use crate::progress::Board;
use crate::runner::{self, Done, Task};
use crate::scratch::{Scratch, Workspace};

use self::builds::Programs;
use self::catalogue::{Catalogue, Claim, Mutant};
use self::check::{Check, Outcome};
use self::merge::Merged;
use self::results::{Fate, Results, Row, Run};

/// Tries the mutants at these positions.
///
/// # Errors
///
/// One sentence, if the copy cannot be made, or does not build.
pub(crate) fn run(
    scratch: &Scratch<'_>,
    catalogue: &Catalogue,
    selected: &[usize],
    workers: usize,
) -> Result<Results, String> {
    let workspace = scratch.workspace;
    let mut results = Results::default();
    let mut trials = BTreeSet::new();
    let sound = |index: &&usize| catalogue.mutants[**index].edits.is_ok();
    for &index in selected.iter().filter(sound) {
        for check in checks_of(catalogue, workspace, index) {
            trials.insert((number(index), check.clone()));
            trials.insert((NO_MUTANT, check));
        }
    }
    let start = Instant::now();
    weft_shell::complain(&format!("{} mutants are built into one copy", catalogue.mutants.len()));
    let (programs, alone) = match build_merged(scratch, catalogue, &trials) {
        // The terminal's Ctrl-C has ended cargo as well.
        Err(_) if interruption::is_here() => {
            results.unfinished = selected.len();
            return Ok(results);
        }
        built => built?,
    };
    results.building = start.elapsed();
    let merged = |(mutant, _): &(u32, Check)| !alone.contains_key(mutant);
    let mut runs = tries(&programs, trials.into_iter().filter(merged), catalogue, workers);
    for &index in selected {
        let mutant = &catalogue.mutants[index];
        let checks = checks_of(catalogue, workspace, index);
        let reason = alone.get(&number(index));
        let mut building = Ok(Duration::ZERO);
        if let (Ok(edits), Some(_)) = (&mutant.edits, reason) {
            if interruption::is_here() {
                results.unfinished += 1;
                continue;
            }
            weft_shell::complain(&format!("{mutant} is built in a copy of its own"));
            building = build_alone(scratch, catalogue, edits, &checks).map(|(programs, time)| {
                let trials = checks.iter().map(|check| (number(index), check.clone()));
                runs.extend(tries(&programs, trials, catalogue, workers));
                time
            });
        }
        let fate = match (&mutant.edits, &building) {
            (_, Err(_)) if interruption::is_here() => None,
            (Err(error), _) | (_, Err(error)) => Some(Fate::Error(error.clone())),
            _ => Fate::of(mutant, number(index), &checks, &runs),
        };
        let Some(fate) = fate else {
            results.unfinished += 1;
            continue;
        };
        let of_mine = runs.iter().filter(|((mutant, _), _)| *mutant == number(index));
        let time =
            of_mine.map(|(_, run)| run.time).sum::<Duration>() + building.unwrap_or_default();
        let alone = reason.cloned();
        results.rows.push(Row { mutant: mutant.clone(), fate, time, alone });
    }
    results.elapsed = start.elapsed();
    Ok(results)
}

/// The number that no mutant has.
const NO_MUTANT: u32 = 0;

/// The number by which a mutant is chosen.
fn number(index: usize) -> u32 {
    u32::try_from(index + 1).expect("there are fewer mutants")
}

/// The checks that a mutant is tried with: those that have to notice it, or, where none can, all
/// that notice another mutant of its crate.
fn checks_of(catalogue: &Catalogue, workspace: &Workspace, index: usize) -> BTreeSet<Check> {
    let mutant = &catalogue.mutants[index];
    if let Claim::Killed(checks) = &mutant.claim {
        return checks.keys().cloned().collect();
    }
    let crates = roots(mutant, workspace);
    let neighbours =
        catalogue.mutants.iter().filter(|other| !roots(other, workspace).is_disjoint(&crates));
    let mut checks = BTreeSet::new();
    for neighbour in neighbours {
        if let Claim::Killed(others) = &neighbour.claim {
            checks.extend(others.keys().filter(|check| !check.is_machine()).cloned());
        }
    }
    if checks.iter().any(|check| matches!(check, Check::Scenario(_))) {
        checks.extend(Check::all_scenarios());
    }
    checks
}

/// The roots of the crates that a mutant changes.
fn roots(mutant: &Mutant, workspace: &Workspace) -> BTreeSet<PathBuf> {
    let files = mutant.edits.iter().flat_map(BTreeMap::keys);
    files.filter_map(|file| root_of(workspace, file)).collect()
}

/// The root of the crate that a file belongs to.
fn root_of(workspace: &Workspace, file: &Path) -> Option<PathBuf> {
    let roots = file
        .ancestors()
        .skip(1)
        .flat_map(|folder| ["lib.rs", "main.rs"].into_iter().map(move |name| folder.join(name)));
    roots.into_iter().find(|root| workspace.text(root).is_ok())
}

/// Builds all mutants into one copy. Those that cannot be chosen there come back with the reason.
fn build_merged(
    scratch: &Scratch<'_>,
    catalogue: &Catalogue,
    trials: &BTreeSet<(u32, Check)>,
) -> Result<(Programs, BTreeMap<u32, String>), String> {
    let checks = trials.iter().map(|(_, check)| check.clone()).collect();
    let mut alone = BTreeMap::new();
    for (index, mutant) in catalogue.mutants.iter().enumerate() {
        if let Err(reason) = fits(scratch.workspace, catalogue, mutant) {
            alone.insert(number(index), reason);
        }
    }
    loop {
        let merged = merge_all(catalogue, &alone);
        scratch.write(&texts(scratch.workspace, &merged))?;
        let broken = match Programs::build(scratch, &checks) {
            Ok(programs) => return Ok((programs, alone)),
            Err(broken) => broken,
        };
        let places = broken.places.iter();
        let blamed = places.filter_map(|(file, at)| Some(merged.get(file)?.at(*at))).flatten();
        let blamed: BTreeSet<u32> = blamed.copied().collect();
        if blamed.is_empty() {
            return Err(format!("the merged copy does not build: {}", broken.first));
        }
        let reason = format!("it does not compile beside the others: {}", broken.first);
        alone.extend(blamed.into_iter().map(|mutant| (mutant, reason.clone())));
    }
}

/// Whether a mutant can be chosen at run time, or why not.
fn fits(workspace: &Workspace, catalogue: &Catalogue, mutant: &Mutant) -> Result<(), String> {
    if let Some(reason) = &mutant.alone {
        return Err(reason.clone());
    }
    for (file, edits) in mutant.edits.iter().flatten() {
        let source = catalogue.sources[file].as_ref().map_err(String::clone)?;
        source.fits(edits)?;
        root_of(workspace, file).ok_or_else(|| format!("{} is in no crate", file.display()))?;
    }
    Ok(())
}

/// The files of all mutants but those that are built alone.
fn merge_all(catalogue: &Catalogue, alone: &BTreeMap<u32, String>) -> BTreeMap<PathBuf, Merged> {
    let mut of_file: BTreeMap<&Path, Vec<(u32, Vec<merge::Edit>)>> = BTreeMap::new();
    for (index, mutant) in catalogue.mutants.iter().enumerate() {
        if alone.contains_key(&number(index)) {
            continue;
        }
        for (file, edits) in mutant.edits.iter().flatten() {
            of_file.entry(file).or_default().push((number(index), edits.clone()));
        }
    }
    let merge = |(file, mutants): (&Path, Vec<_>)| {
        let source = catalogue.sources[file].as_ref().expect("mutants that are merged fit");
        (file.to_owned(), source.merge(&mutants))
    };
    of_file.into_iter().map(merge).collect()
}

/// The files of the merged copy that differ from the workspace.
fn texts(workspace: &Workspace, merged: &BTreeMap<PathBuf, Merged>) -> BTreeMap<PathBuf, String> {
    let mut texts: BTreeMap<PathBuf, String> =
        merged.iter().map(|(file, merged)| (file.clone(), merged.text.clone())).collect();
    let roots: BTreeSet<PathBuf> =
        merged.keys().filter_map(|file| root_of(workspace, file)).collect();
    for root in roots {
        texts.insert(root.with_file_name(choice::FILE), choice::module());
        let pristine = || workspace.text(&root).unwrap_or_default().to_owned();
        *texts.entry(root.clone()).or_insert_with(pristine) += choice::DECLARATION;
    }
    texts
}

/// Builds one mutant as it would be in the workspace.
fn build_alone(
    scratch: &Scratch<'_>,
    catalogue: &Catalogue,
    edits: &BTreeMap<PathBuf, Vec<merge::Edit>>,
    checks: &BTreeSet<Check>,
) -> Result<(Programs, Duration), String> {
    let start = Instant::now();
    let mut texts = BTreeMap::new();
    for (file, edits) in edits {
        let source = catalogue.sources[file].as_ref();
        let source = source.map_err(|error| format!("{}: {error}", file.display()))?;
        texts.insert(file.clone(), source.patched(edits)?);
    }
    scratch.write(&texts)?;
    let programs = Programs::build(scratch, checks);
    let programs = programs.map_err(|broken| format!("it does not build: {}", broken.first))?;
    Ok((programs, start.elapsed()))
}

/// Runs checks on mutants, in parallel.
fn tries(
    programs: &Programs,
    trials: impl Iterator<Item = (u32, Check)>,
    catalogue: &Catalogue,
    workers: usize,
) -> BTreeMap<(u32, Check), Run> {
    let trials = trials.map(|(mutant, check)| {
        let name = mutant.checked_sub(1).map(|index| &catalogue.mutants[index as usize].name);
        Trial { programs, mutant, name: name.map_or("no mutant", String::as_str), check }
    });
    let done = runner::run(trials.collect(), workers, &mut Board::new());
    let runs = done.into_iter().map(|Done { job, result }| {
        let run = result.unwrap_or_else(|error| Run { outcome: Err(error), time: Duration::ZERO });
        ((job.mutant, job.check), run)
    });
    runs.collect()
}

/// One check on one mutant, or on none.
#[derive(Debug)]
struct Trial<'a> {
    programs: &'a Programs,
    mutant: u32,
    name: &'a str,
    check: Check,
}

impl Task for Trial<'_> {
    type Answer = Run;

    fn kind(&self) -> &'static str {
        "checks"
    }

    fn title(&self) -> String {
        format!("{} ({})", self.check, self.name)
    }

    fn rank(&self) -> u8 {
        match self.check {
            Check::Machine(_) => 0,
            Check::Test(..) => 1,
            Check::Scenario(_) => 2,
        }
    }

    fn perform(&self, progress: &mut dyn FnMut(u64)) -> Result<Run, String> {
        let start = Instant::now();
        let outcome = self.check.run(self.programs, self.mutant, progress)?;
        Ok(Run { outcome: Ok(outcome), time: start.elapsed() })
    }

    fn executions(run: &Run) -> u64 {
        match run.outcome {
            Ok(Outcome::Failed(_, Some(executions))) => executions,
            _ => 0,
        }
    }
}
