//! A scratch copy of the workspace, to break.
//!
//! The copy holds what git knows of, changes that are not committed included, and nothing that was
//! built. It is kept between runs, with a target directory of its own, and only files whose text
//! differs are written, so that cargo rebuilds what a patch changes and no more.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::checkout;

/// The copy. Only one process uses it at a time.
#[derive(Debug)]
pub(crate) struct Scratch {
    /// The workspace that is copied.
    root: PathBuf,
    files: Vec<PathBuf>,
    copy: PathBuf,
    target: PathBuf,
    /// Locked for as long as the copy is in use.
    _lock: File,
}

impl Scratch {
    /// Takes the copy, without bringing it up to date.
    ///
    /// # Errors
    ///
    /// One sentence, if the current folder is in no workspace, or another process breaks the copy
    /// at the moment.
    pub(crate) fn open() -> Result<Self, String> {
        let root = checkout::root()?;
        let home = root.join("target/mutants");
        let cannot = |error| format!("cannot use {}: {error}", home.display());
        let files = listed(&root)?;
        fs::create_dir_all(&home).map_err(cannot)?;
        let lock = File::create(home.join("lock")).map_err(cannot)?;
        lock.try_lock()
            .map_err(|_| format!("another run uses {}: wait for it, or end it", home.display()))?;
        let (copy, target) = (home.join("workspace"), home.join("target"));
        Ok(Self { root, files, copy, target, _lock: lock })
    }

    /// The workspace that is copied.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The files of the workspace, seen from its root.
    pub(crate) fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Makes the copy equal to the workspace.
    ///
    /// # Errors
    ///
    /// One sentence, if a file cannot be read or written.
    pub(crate) fn restore(&self) -> Result<(), String> {
        let wanted: BTreeSet<&Path> = self.files.iter().map(PathBuf::as_path).collect();
        let cannot = |path: &Path| format!("cannot copy {}", path.display());
        for file in &self.files {
            let text = fs::read(self.root.join(file))
                .map_err(|error| format!("{}: {error}", cannot(file)))?;
            let copy = self.copy.join(file);
            if fs::read(&copy).is_ok_and(|before| before == text) {
                continue;
            }
            let folder = copy.parent().expect("a file is in a folder");
            fs::create_dir_all(folder)
                .and_then(|()| fs::write(&copy, text))
                .map_err(|error| format!("{}: {error}", cannot(file)))?;
        }
        let stale = |path: &Path| {
            let inside = path.strip_prefix(&self.copy).expect("the walk is inside the copy");
            !wanted.contains(inside)
        };
        remove(&self.copy, &stale).map_err(|error| format!("cannot clean the copy: {error}"))
    }

    /// Applies a patch to the copy.
    ///
    /// # Errors
    ///
    /// What git says, in one line.
    pub(crate) fn apply(&self, patch: &Path) -> Result<(), String> {
        let mut git = Command::new("git");
        // Outside of any repository, paths are taken from the current folder and nothing is
        // skipped without a word, as it would be in an ignored folder of the workspace.
        git.env("GIT_CEILING_DIRECTORIES", self.copy.parent().expect("it is in a folder"));
        git.env_remove("GIT_DIR").current_dir(&self.copy).arg("apply").arg(patch);
        let output = run(&mut git)?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(said.lines().next().unwrap_or("git apply failed without a word").to_owned())
    }

    /// A cargo command in the copy.
    pub(crate) fn cargo(&self) -> Command {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.current_dir(&self.copy).env("CARGO_TARGET_DIR", &self.target);
        command
    }

    /// Builds the command in the copy, and gives its path.
    ///
    /// # Errors
    ///
    /// The first error of the compiler.
    pub(crate) fn build(&self) -> Result<PathBuf, String> {
        // Unoptimised: a mutant is built once and runs for a moment.
        let mut cargo = self.cargo();
        cargo.args(["build", "--quiet", "--package", "weft-model-check"]);
        let output = run(&mut cargo)?;
        if !output.status.success() {
            return Err(format!("it does not build: {}", first_error(&output)));
        }
        Ok(self.target.join("debug/model-check"))
    }
}

/// The first error that a compiler printed.
pub(crate) fn first_error(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = text.lines().find(|line| line.starts_with("error"));
    line.or_else(|| text.lines().next()).unwrap_or("no output").to_owned()
}

/// Runs a command to its end.
///
/// # Errors
///
/// One sentence, if it cannot be started.
pub(crate) fn run(command: &mut Command) -> Result<Output, String> {
    let output = command.stdin(Stdio::null()).output();
    output
        .map_err(|error| format!("cannot run {}: {error}", command.get_program().to_string_lossy()))
}

/// What git knows of, seen from the root.
fn listed(root: &Path) -> Result<Vec<PathBuf>, String> {
    let mut git = Command::new("git");
    git.current_dir(root);
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let output = run(&mut git)?;
    if !output.status.success() {
        return Err(format!(
            "{} is not a git repository: mutants need one to list the files",
            root.display()
        ));
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let paths = text.split('\0').filter(|path| !path.is_empty()).map(PathBuf::from);
    // A file that was deleted and not yet committed is still listed.
    Ok(paths.filter(|path| root.join(path).is_file()).collect())
}

/// Removes stale files below a folder.
fn remove(folder: &Path, stale: &impl Fn(&Path) -> bool) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            remove(&path, stale)?;
        } else if stale(&path) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}
