//! A scratch copy of the workspace, to break.
//!
//! The copy holds what git knows of, changes that are not committed included, and nothing that was
//! built. It is kept between runs, with a target directory of its own, and only files whose text
//! differs are written, so that cargo rebuilds what has changed and no more. The workspace is read
//! once: what is edited while the copy is in use is for the next run.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use weft_shell::checkout;

/// The workspace, as it was when it was read.
#[derive(Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Workspace {
    /// Reads all files that git knows of.
    ///
    /// # Errors
    ///
    /// One sentence, if the current folder is in no workspace, or a file cannot be read.
    pub(crate) fn read() -> Result<Self, String> {
        let root = checkout::root()?;
        let read = |path: PathBuf| {
            let bytes = fs::read(root.join(&path))
                .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
            Ok((path, bytes))
        };
        let files = listed(&root)?.into_iter().map(read).collect::<Result<_, String>>()?;
        Ok(Self { root, files })
    }

    /// The files, seen from the root.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.keys().map(PathBuf::as_path)
    }

    /// The text of a file.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(crate) fn text(&self, file: &Path) -> Result<&str, String> {
        let bytes = self.files.get(file).ok_or("git does not know of it")?;
        str::from_utf8(bytes).map_err(|error| format!("is no text: {error}"))
    }
}

/// The copy. Only one process uses it at a time.
#[derive(Debug)]
pub(crate) struct Scratch<'a> {
    /// What is copied.
    pub(crate) workspace: &'a Workspace,
    copy: PathBuf,
    target: PathBuf,
    /// Locked for as long as the copy is in use.
    _lock: File,
}

impl<'a> Scratch<'a> {
    /// Takes the copy, without bringing it up to date.
    ///
    /// # Errors
    ///
    /// One sentence, if another process breaks the copy at the moment.
    pub(crate) fn open(workspace: &'a Workspace) -> Result<Self, String> {
        let home = workspace.root.join("target/mutants");
        let cannot = |error| format!("cannot use {}: {error}", home.display());
        fs::create_dir_all(&home).map_err(cannot)?;
        let lock = File::create(home.join("lock")).map_err(cannot)?;
        lock.try_lock()
            .map_err(|_| format!("another run uses {}: wait for it, or end it", home.display()))?;
        let (copy, target) = (home.join("workspace"), home.join("target"));
        Ok(Self { workspace, copy, target, _lock: lock })
    }

    /// Where the copy is.
    pub(crate) fn folder(&self) -> &Path {
        &self.copy
    }

    /// Makes the copy equal to the workspace, but for files with other texts.
    ///
    /// # Errors
    ///
    /// One sentence, if a file cannot be written.
    pub(crate) fn write(&self, others: &BTreeMap<PathBuf, String>) -> Result<(), String> {
        let others = others.iter().map(|(file, text)| (file, text.as_bytes()));
        let mut wanted: BTreeMap<&PathBuf, &[u8]> =
            self.workspace.files.iter().map(|(file, bytes)| (file, bytes.as_slice())).collect();
        wanted.extend(others);
        for (file, text) in &wanted {
            let copy = self.copy.join(file);
            if fs::read(&copy).is_ok_and(|before| before == *text) {
                continue;
            }
            let folder = copy.parent().expect("a file is in a folder");
            fs::create_dir_all(folder)
                .and_then(|()| fs::write(&copy, text))
                .map_err(|error| format!("cannot copy {}: {error}", file.display()))?;
        }
        let stale = |path: &Path| {
            let inside = path.strip_prefix(&self.copy).expect("the walk is inside the copy");
            !wanted.contains_key(&inside.to_owned())
        };
        remove(&self.copy, &stale).map_err(|error| format!("cannot clean the copy: {error}"))
    }

    /// A command that runs in the copy, and what it builds stays with it.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.copy).env("CARGO_TARGET_DIR", &self.target);
        command
    }

    /// A cargo command in the copy. What it builds is unoptimised and for no debugger: it runs for
    /// a moment.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = self.command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.env("CARGO_PROFILE_DEV_DEBUG", "0");
        command
    }
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
        let root = root.display();
        return Err(format!("{root} is not a git repository: mutants need one to list the files"));
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
