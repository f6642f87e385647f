//! `races`: would it have found that bug? Every race that shipped, by every checker.
//!
//! The headers of scenario files say which historical bugs they re-create, and how ([`rows`]). The
//! checkers look for each of them ([`trials`], [`machine`], and `mutants` for what is a patch), and
//! what they find is kept ([`found`]). From both the documents are made ([`document`], [`page`],
//! [`crate::sections`]): nothing in them is written by hand, and a test compares.

mod document;
mod found;
mod machine;
mod page;
mod rows;
mod trials;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use weft_backend_loom::chosen::EngineName;
use weft_shell::arguments::Form;
use weft_shell::{checkout, exit, interruption, print, print_json};

use crate::arguments::Races;
use crate::mutants::catalogue::Catalogue;
use crate::mutants::check::Check;
use crate::scratch::{Scratch, Workspace};
use crate::{jobs, messages, mutants, sections};

use self::found::{Column, FINDINGS, Finding, Found};
use self::rows::{How, NOT_EXPRESSED, NotExpressed, Race};
use self::trials::Outcome;

/// Everything that the documents say.
#[derive(Debug)]
struct Known {
    races: Vec<Race>,
    not: Vec<NotExpressed>,
    findings: Vec<Finding>,
}

impl Known {
    /// What headers and files say.
    fn read(root: &Path, catalogue: &Catalogue) -> Result<Self, String> {
        let races = rows::races(catalogue).map_err(|complaints| complaints.join("; "))?;
        let text = match fs::read_to_string(root.join(NOT_EXPRESSED)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            read => read.map_err(|error| format!("cannot read {NOT_EXPRESSED}: {error}"))?,
        };
        let not = rows::not_expressed(&text, &races)?;
        let findings = found::read(root, &races)?;
        Ok(Self { races, not, findings })
    }

    /// Every document that the command writes, with its path seen from the root.
    fn documents(
        &self,
        root: &Path,
        catalogue: &Catalogue,
    ) -> Result<Vec<(PathBuf, String)>, String> {
        let Self { races, not, findings } = self;
        let mut documents = vec![
            (FINDINGS.into(), found::text(findings)),
            (document::TABLE.into(), document::markdown(races, findings, not)),
        ];
        let summary = document::summary(races, findings, not);
        for (path, written) in [
            ("README.md", &[("races", summary)][..]),
            (
                "scenarios/README.md",
                &[("scenarios", sections::scenarios()), ("messages", messages::table(catalogue))],
            ),
        ] {
            let read = fs::read_to_string(root.join(path));
            let mut text = read.map_err(|error| format!("cannot read {path}: {error}"))?;
            for (name, section) in written {
                text = sections::replaced(&text, name, section)
                    .map_err(|error| format!("{path}: {error}"))?;
            }
            documents.push((path.into(), text));
        }
        Ok(documents)
    }
}

/// Looks for the races, and writes down what was found.
pub(crate) fn run(options: &Races) -> Result<u8, String> {
    let columns = options.columns()?;
    let plans = jobs::selected(&options.filters, &[])?;
    let root = checkout::root()?;
    let workspace = Workspace::read()?;
    let catalogue = Catalogue::read(&workspace)?;
    let mut known = Known::read(&root, &catalogue)?;
    let kept = known.findings.clone();
    interruption::catch()?;
    let is_selected = |race: &Race| plans.iter().any(|plan| plan.name == race.scenario);
    let selected: Vec<usize> =
        (0..known.races.len()).filter(|index| is_selected(&known.races[*index])).collect();
    let mut outcome = Outcome::default();
    if !options.documents {
        let Known { races, findings, .. } = &mut known;
        outcome = trials::run(races, findings, &selected, &columns, options.workers());
        if options.mutants && !interruption::is_here() {
            let workers = options.workers();
            break_core(&workspace, &catalogue, races, findings, &selected, workers)?;
        }
        if options.machine && !interruption::is_here() {
            machine::run(&root, races, findings, &selected)?;
        }
    }
    let Outcome { died, bad, unfinished, shown, otherwise } = outcome;
    if interruption::is_here() {
        weft_shell::complain(&format!(
            "{unfinished} searches were not finished: nothing is written"
        ));
        return Ok(exit::INTERRUPTED);
    }
    let mut missing = document::complaints(&known.races, &known.findings);
    for (index, message) in otherwise {
        let race = &known.races[index];
        if let How::World(sabotage, _) = race.how {
            let line = crate::human::to_write(sabotage, &message);
            missing.push(format!(
                "{} was caught with \"{message}\"; if that is the invariant's own, write {line}",
                race.scenario
            ));
        }
    }
    if options.check {
        missing.extend(differences(&known, &kept));
    }
    let documents = known.documents(&root, &catalogue)?;
    missing.extend(write(options, &root, &known, documents, died.is_empty(), &shown)?);
    report(options.format, &known, &[("DIED", &died), ("VIOLATION", &bad), ("MISSING", &missing)])?;
    let codes = [
        if died.is_empty() { exit::GOOD } else { exit::INTERNAL },
        if bad.is_empty() { exit::GOOD } else { exit::VIOLATION },
        if missing.is_empty() { exit::GOOD } else { exit::MISSING },
    ];
    Ok(exit::worst(&codes))
}

fn report(form: Form, known: &Known, complaints: &[(&str, &[String])]) -> Result<(), String> {
    let Known { races, not, findings } = known;
    let all = complaints.iter().flat_map(|(word, all)| all.iter().map(move |one| (word, one)));
    match form {
        Form::Human => {
            print(&document::terminal(races, findings, not))?;
            let lines: String = all.map(|(word, one)| format!("{word} {one}\n")).collect();
            print(&lines)
        }
        Form::Json => print_json(&json!({
            "version": 1,
            "races": findings,
            "not_expressed": not.iter().map(|one| &one.row).collect::<Vec<_>>(),
            "complaints": all.map(|(word, one)| format!("{word} {one}")).collect::<Vec<_>>(),
        })),
    }
}

/// Writes the documents and the page, or, to check, says which documents would change.
fn write(
    options: &Races,
    root: &Path,
    known: &Known,
    documents: Vec<(PathBuf, String)>,
    is_whole: bool,
    shown: &std::collections::BTreeMap<usize, trials::Shown>,
) -> Result<Vec<String>, String> {
    let mut complaints = Vec::new();
    for (path, text) in documents {
        let is_same = fs::read_to_string(root.join(&path)).is_ok_and(|before| before == text);
        if is_same {
            continue;
        }
        if options.check {
            // That threads find other executions is no difference.
            if options.documents {
                complaints.push(format!("{} is not what just races writes", path.display()));
            }
        } else if is_whole {
            save(&root.join(path), &text)?;
        }
    }
    if !options.check && is_whole {
        let folder = options.directory.clone().unwrap_or_else(|| root.join("target"));
        let cannot = |error| format!("cannot make {}: {error}", folder.display());
        fs::create_dir_all(&folder).map_err(cannot)?;
        let Known { races, not, findings } = known;
        let path = folder.join(page::PAGE);
        save(&path, &page::html(races, findings, not, shown))?;
        weft_shell::complain(&format!("{} and {} are written", document::TABLE, path.display()));
    }
    Ok(complaints)
}

/// Writes a file as a whole, or not at all.
fn save(path: &Path, text: &str) -> Result<(), String> {
    let cannot = |error| format!("cannot write {}: {error}", path.display());
    let new = path.with_extension("new");
    fs::write(&new, text).and_then(|()| fs::rename(&new, path)).map_err(cannot)
}

/// What is found now and was found otherwise before, by checkers that find the same in every run.
fn differences(known: &Known, kept: &[Finding]) -> Vec<String> {
    let mut sentences = Vec::new();
    for (now, before) in known.findings.iter().zip(kept) {
        let name = format!("{} with {}", now.scenario, now.how);
        if (now.executions, &now.verdict) != (before.executions, &before.verdict) {
            sentences.push(format!(
                "{name}: {} {} executions now, {} {} in {FINDINGS}: run just races",
                now.executions, now.verdict, before.executions, before.verdict
            ));
        }
        for column in Column::ALL.into_iter().filter(|column| column.is_exact()) {
            let (now, before) = (now.of(column), before.of(column));
            if now != before {
                let who = column.title();
                sentences.push(format!(
                    "{name}, {who}: {now} now, {before} in {FINDINGS}: run just races"
                ));
            }
        }
    }
    sentences
}

/// Breaks a copy of the core with the mutants that races are, and notes in which execution the
/// explorer notices.
fn break_core(
    workspace: &Workspace,
    catalogue: &Catalogue,
    races: &[Race],
    findings: &mut [Finding],
    selected: &[usize],
    workers: usize,
) -> Result<(), String> {
    let of_name = |name: &str| catalogue.mutants.iter().position(|mutant| mutant.name == name);
    let wanted = selected.iter().filter_map(|index| match &races[*index].how {
        How::Mutant(name) => Some((*index, of_name(name)?)),
        How::World(..) => None,
    });
    let wanted: Vec<(usize, usize)> = wanted.collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let mut mutants: Vec<usize> = wanted.iter().map(|(_, mutant)| *mutant).collect();
    mutants.sort_unstable();
    mutants.dedup();
    let scratch = Scratch::open(workspace)?;
    let results = mutants::run(&scratch, catalogue, &mutants, workers)?;
    print(&results.text())?;
    for (race, mutant) in wanted {
        let check = Check::Scenario(races[race].scenario);
        let noticed = results.noticed(&catalogue.mutants[mutant].name, &check);
        let found = match noticed {
            Some(Some(execution)) => Found::After(execution),
            Some(None) => Found::Survived,
            None => Found::NotTried,
        };
        findings[race].found.insert(Column::Explorer, found);
    }
    Ok(())
}

impl Races {
    /// The columns of the checkers that were asked for.
    fn columns(&self) -> Result<Vec<Column>, String> {
        let search = crate::arguments::Search { engine: self.engine.clone(), ..Default::default() };
        let selection = search.selection()?;
        let columns = selection.checkers.iter().flat_map(|checker| match checker.engine {
            EngineName::Explorer => vec![Column::Explorer, Column::Tso],
            EngineName::Loom => vec![Column::Loom],
            EngineName::Shuttle => vec![Column::Shuttle],
            EngineName::Threads => vec![Column::Threads],
        });
        Ok(columns.collect())
    }

    /// How many explorations run at the same time.
    fn workers(&self) -> usize {
        crate::arguments::Search { jobs: self.jobs, ..Default::default() }.workers()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> (PathBuf, Catalogue, Known) {
        let workspace = Workspace::read().expect("tests run in the workspace");
        let catalogue = Catalogue::read(&workspace).expect("every file is well formed");
        let root = checkout::root().expect("tests run in the workspace");
        let known = Known::read(&root, &catalogue).unwrap_or_else(|error| panic!("{error}"));
        (root, catalogue, known)
    }

    #[test]
    fn documents_are_what_the_command_writes() {
        let (root, catalogue, known) = known();
        let documents = known.documents(&root, &catalogue);
        let documents = documents.unwrap_or_else(|error| panic!("{error}"));
        for (path, text) in documents {
            let written = fs::read_to_string(root.join(&path)).unwrap_or_default();
            assert!(written == text, "{}: run `just races --documents`", path.display());
        }
    }

    #[test]
    fn the_explorer_finds_every_race() {
        let (_, _, known) = known();
        let missed = document::complaints(&known.races, &known.findings);
        assert!(missed.is_empty(), "{missed:#?}");
    }
}
