//! The mutants on file.
//!
//! A file lies in a folder called `mutants` and holds the mutants of one module:
//!
//! ```toml
//! file = "core/src/guard.rs"
//!
//! [[mutant]]
//! name = "lock_never_given_back"
//! breaks = "A guard that is dropped keeps its lock."
//! find = "self.metadata().lock.release();"
//! replace = "let _ = self.metadata();"
//! killed-by = { lock_vs_lock = "deadlock: CPU" }
//! ```
//!
//! * `find` is text that occurs once in the file. An entry may name another `file`.
//! * `edits = [{ find = "..", replace = ".." }, ..]` stands in the place of `find` and `replace`
//!   where several texts are replaced. Each of them may name another `file`, too.
//! * `killed-by` names every check that has to fail, with a part of its message. See
//!   [`Check`] for what a check is.
//! * `equivalent = ".."` or `survives = ".."` stands in the place of `killed-by` where no check
//!   notices the mutant, and says why. Equivalent is what nothing could notice.
//! * `alone = ".."` says why a mutant has to be built in a copy of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::scratch::Workspace;

use super::check::Check;
use super::merge::{Edit, Source};

/// A mutant on file.
#[derive(Clone, Debug)]
pub(crate) struct Mutant {
    /// Where it is on file, seen from the root.
    pub(crate) on_file: PathBuf,
    /// Its name.
    pub(crate) name: String,
    /// What it breaks.
    pub(crate) breaks: String,
    /// What it changes in which files; or why it cannot.
    pub(crate) edits: Result<BTreeMap<PathBuf, Vec<Edit>>, String>,
    /// What is expected of it.
    pub(crate) claim: Claim,
    /// Why it is built in a copy of its own, if it says so.
    pub(crate) alone: Option<String>,
}

/// What is expected of a mutant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// These checks fail with these messages.
    Killed(BTreeMap<Check, String>),
    /// No check fails, for this reason.
    Survives(String),
    /// No check can fail, for this reason.
    Equivalent(String),
}

/// All mutants, and the files that they change.
#[derive(Debug, Default)]
pub(crate) struct Catalogue {
    /// The mutants, in the order of their files.
    pub(crate) mutants: Vec<Mutant>,
    /// The files.
    pub(crate) sources: BTreeMap<PathBuf, Result<Source, String>>,
}

/// What a file says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    file: PathBuf,
    #[serde(rename = "mutant")]
    mutants: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Entry {
    name: String,
    breaks: String,
    file: Option<PathBuf>,
    find: Option<String>,
    replace: Option<String>,
    #[serde(default)]
    edits: Vec<Replacement>,
    killed_by: Option<BTreeMap<String, String>>,
    survives: Option<String>,
    equivalent: Option<String>,
    alone: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Replacement {
    file: Option<PathBuf>,
    find: String,
    replace: String,
}

impl Catalogue {
    /// Reads every file.
    ///
    /// # Errors
    ///
    /// One sentence for a file that cannot be read.
    pub(crate) fn read(workspace: &Workspace) -> Result<Self, String> {
        let mut catalogue = Self::default();
        let is_one = |path: &Path| {
            let folder = path.parent().and_then(Path::file_name);
            folder == Some("mutants".as_ref()) && path.extension() == Some("toml".as_ref())
        };
        for path in workspace.files().filter(|path| is_one(path)) {
            let named = |error| format!("{}: {error}", path.display());
            let text = workspace.text(path).map_err(named)?;
            let text_of = |file: &Path| workspace.text(file);
            catalogue.add(path, text, &text_of).map_err(named)?;
        }
        let mut names = BTreeSet::new();
        match catalogue.mutants.iter().find(|mutant| !names.insert(&mutant.name)) {
            Some(second) => Err(format!("{second}: another mutant has the same name: change one")),
            None => Ok(catalogue),
        }
    }

    /// Adds the mutants of one file.
    fn add<'a>(
        &mut self,
        on_file: &Path,
        text: &str,
        text_of: &impl Fn(&Path) -> Result<&'a str, String>,
    ) -> Result<(), String> {
        let document: Document = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start].lines().count().max(1));
            format!("line {line}: {}", error.message().replace('\n', " "))
        })?;
        for entry in document.mutants {
            let name = entry.name.clone();
            let named = |error| format!("{name}: {error}");
            let mutant = entry.mutant(on_file, &document.file, text_of).map_err(named)?;
            for file in mutant.edits.iter().flat_map(BTreeMap::keys) {
                let read = || Source::read(text_of(file)?.to_owned());
                self.sources.entry(file.clone()).or_insert_with(read);
            }
            self.mutants.push(mutant);
        }
        Ok(())
    }

    /// The positions of the mutants that the filters select.
    pub(crate) fn select(&self, filters: &[String]) -> Vec<usize> {
        let selected = |mutant: &Mutant| {
            let name = mutant.to_string();
            let hit = |filter: &String| matches(filter, &mutant.name) || name.contains(filter);
            filters.is_empty() || filters.iter().any(hit)
        };
        (0..self.mutants.len()).filter(|index| selected(&self.mutants[*index])).collect()
    }
}

/// Whether a whole name fits a pattern, in which `*` stands for any text.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((first, rest)) => name.strip_prefix(first).is_some_and(|name| {
            let ends = name.char_indices().map(|(at, _)| at).chain([name.len()]);
            ends.into_iter().any(|at| matches(rest, &name[at..]))
        }),
    }
}

impl Entry {
    fn mutant<'a>(
        self,
        on_file: &Path,
        file: &Path,
        text_of: &impl Fn(&Path) -> Result<&'a str, String>,
    ) -> Result<Mutant, String> {
        let claim = match (self.killed_by, self.survives, self.equivalent) {
            (Some(checks), None, None) if !checks.is_empty() => Claim::Killed(
                checks
                    .into_iter()
                    .map(|(check, part)| Ok((Check::parse(&check)?, part)))
                    .collect::<Result<_, String>>()?,
            ),
            (None, Some(reason), None) => Claim::Survives(reason),
            (None, None, Some(reason)) => Claim::Equivalent(reason),
            _ => return Err("say one of `killed-by`, `survives`, `equivalent`".to_owned()),
        };
        let empty = match &claim {
            Claim::Killed(checks) => checks.values().any(String::is_empty),
            Claim::Survives(reason) | Claim::Equivalent(reason) => reason.is_empty(),
        };
        if empty || self.breaks.is_empty() || self.alone.as_ref().is_some_and(String::is_empty) {
            return Err("a message, a reason or `breaks` is empty: write it".to_owned());
        }
        let replacements = match (self.find, self.replace, self.edits) {
            (Some(find), Some(replace), edits) if edits.is_empty() => {
                vec![Replacement { file: None, find, replace }]
            }
            (None, None, edits) if !edits.is_empty() => edits,
            _ => return Err("say either `find` and `replace`, or `edits`".to_owned()),
        };
        let file = self.file.as_deref().unwrap_or(file);
        Ok(Mutant {
            on_file: on_file.to_owned(),
            name: self.name,
            breaks: self.breaks,
            edits: locate(replacements, file, text_of),
            claim,
            alone: self.alone,
        })
    }
}

/// Finds what a mutant replaces.
fn locate<'a>(
    replacements: Vec<Replacement>,
    file: &Path,
    text_of: &impl Fn(&Path) -> Result<&'a str, String>,
) -> Result<BTreeMap<PathBuf, Vec<Edit>>, String> {
    let mut edits: BTreeMap<PathBuf, Vec<Edit>> = BTreeMap::new();
    for Replacement { file: other, find, replace } in replacements {
        let file = other.unwrap_or_else(|| file.to_owned());
        let named = |error| format!("{}: {error}", file.display());
        let edit = Edit::locate(text_of(&file).map_err(named)?, &find, &replace).map_err(named)?;
        edits.entry(file).or_default().push(edit);
    }
    Ok(edits)
}

impl Mutant {
    /// One line for a list.
    pub(crate) fn line(&self) -> String {
        let claim = match &self.claim {
            Claim::Killed(checks) => {
                let one = |(check, part): (&Check, &String)| format!("{check} (\"{part}\")");
                format!("Killed by {}", checks.iter().map(one).collect::<Vec<_>>().join(", "))
            }
            Claim::Survives(reason) => format!("Survives: {reason}"),
            Claim::Equivalent(reason) => format!("Equivalent: {reason}"),
        };
        format!("{self}: {} {claim}\n", self.breaks)
    }
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.on_file.display(), self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "fn f() { a() } fn g() { b(); b() }";

    fn read(entry: &str) -> Result<Catalogue, String> {
        let mut catalogue = Catalogue::default();
        let text = format!("file = \"src/x.rs\"\n[[mutant]]\n{entry}");
        let text_of = |file: &Path| {
            (file == Path::new("src/x.rs")).then_some(SOURCE).ok_or("cannot be read".to_owned())
        };
        catalogue.add(Path::new("mutants/x.toml"), &text, &text_of)?;
        Ok(catalogue)
    }

    const HEAD: &str = "name = \"n\"\nbreaks = \"It.\"\n";
    const EDIT: &str = "find = \"a()\"\nreplace = \"c()\"\n";
    const CLAIM: &str = "killed-by = { lock_vs_lock = \"data race\" }\n";

    #[test]
    fn an_entry_is_read() {
        let catalogue = read(&format!("{HEAD}{EDIT}{CLAIM}")).expect("well formed");
        let mutant = &catalogue.mutants[0];
        let checks = BTreeMap::from([(Check::Scenario("lock_vs_lock"), "data race".to_owned())]);
        assert_eq!(mutant.claim, Claim::Killed(checks));
        assert_eq!(mutant.to_string(), "mutants/x.toml: n");
        assert!(mutant.edits.is_ok() && catalogue.sources.len() == 1);
        let several = "edits = [{ find = \"a()\", replace = \"\" },
            { find = \"b() }\", replace = \"}\" }]\nequivalent = \"So.\"\n";
        let mutant = &read(&format!("{HEAD}{several}")).expect("well formed").mutants[0];
        assert_eq!(mutant.claim, Claim::Equivalent("So.".to_owned()));
        let edits = mutant.edits.as_ref().expect("both are there");
        assert_eq!(edits.values().map(Vec::len).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn what_an_entry_lacks_is_named() {
        for (entry, part) in [
            (format!("name = \"n\"\n{EDIT}{CLAIM}"), "missing field `breaks`"),
            (format!("{HEAD}{EDIT}"), "say one of `killed-by`"),
            (format!("{HEAD}{EDIT}{CLAIM}survives = \"So.\"\n"), "say one of `killed-by`"),
            (format!("{HEAD}{EDIT}killed-by = {{ }}\n"), "say one of `killed-by`"),
            (format!("{HEAD}{CLAIM}"), "say either `find` and `replace`"),
            (format!("{HEAD}{CLAIM}find = \"a()\"\n"), "say either `find` and `replace`"),
            (
                format!("{HEAD}{EDIT}{CLAIM}edits = [{{ find = \"a\", replace = \"\" }}]\n"),
                "either",
            ),
            (format!("{HEAD}{EDIT}killed-by = {{ nobody = \"x\" }}\n"), "is no check"),
            (format!("{HEAD}{EDIT}survives = \"\"\n"), "is empty"),
            (format!("{HEAD}{EDIT}{CLAIM}finds = \"a\"\n"), "line 7: unknown field `finds`"),
        ] {
            let error = read(&entry).expect_err(&entry);
            assert!(error.contains(part), "{entry}: {error}");
        }
    }

    #[test]
    fn text_that_cannot_be_replaced_is_that_mutants_error() {
        for (edit, part) in [
            ("find = \"b()\"\nreplace = \"\"\n", "src/x.rs: `b()` is there more than once"),
            ("find = \"c()\"\nreplace = \"\"\n", "src/x.rs: `c()` is not there"),
            ("edits = [{ file = \"y\", find = \"a\", replace = \"\" }]\n", "y: cannot be read"),
            ("file = \"z\"\nfind = \"a\"\nreplace = \"\"\n", "z: cannot be read"),
        ] {
            let catalogue = read(&format!("{HEAD}{edit}{CLAIM}")).expect("well formed");
            let error = catalogue.mutants[0].edits.as_ref().expect_err(edit);
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn the_mutants_on_file_fit_the_code() {
        let workspace = Workspace::read().expect("tests run in the workspace");
        let catalogue = Catalogue::read(&workspace).expect("every file is well formed");
        let unfit = |mutant: &Mutant| {
            let edits = mutant.edits.as_ref().map_err(String::clone)?;
            edits.iter().try_for_each(|(file, edits)| {
                catalogue.sources[file].as_ref().map_err(String::clone)?.patched(edits).map(drop)
            })
        };
        let errors = catalogue
            .mutants
            .iter()
            .filter_map(|mutant| unfit(mutant).err().map(|error| format!("{mutant}: {error}\n")));
        let errors: String = errors.collect();
        assert!(errors.is_empty(), "write these anew:\n{errors}");
        assert!(catalogue.mutants.len() > 60, "only {} are found", catalogue.mutants.len());
    }

    #[test]
    fn filters_are_parts_of_names_or_patterns() {
        for (pattern, name, fits) in [
            ("lock*back", "lock_given_back", true),
            ("*given*", "lock_given_back", true),
            ("lock", "lock_given_back", false),
            ("*", "", true),
            ("a*b*c", "abbc", true),
            ("a*b*c", "acb", false),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
        let catalogue = read(&format!("{HEAD}{EDIT}{CLAIM}")).expect("well formed");
        for (filter, found) in [("n", 1), ("x.toml", 1), ("n*", 1), ("y", 0), ("y*", 0)] {
            assert_eq!(catalogue.select(&[filter.to_owned()]).len(), found, "{filter}");
        }
    }
}
