//! JSON lines, written as soon as there is something to tell: to a file, to the standard output, or
//! to both. A command that is killed leaves whole lines, and at most one that is cut.

use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::print;

/// Where lines go.
#[derive(Debug, Default)]
pub struct Lines {
    file: Option<(PathBuf, File)>,
    to_output: bool,
}

impl Lines {
    /// Begins a new file, if there is to be one.
    ///
    /// # Errors
    ///
    /// One sentence, if the file cannot be written, or holds something.
    pub fn begin(path: Option<&Path>, to_output: bool) -> Result<Self, String> {
        Ok(Self { file: path.map(create).transpose()?, to_output })
    }

    /// Goes on with a file, behind its first `length` bytes.
    ///
    /// # Errors
    ///
    /// One sentence, if the file cannot be written, or another process writes it.
    pub fn go_on(path: &Path, length: u64, to_output: bool) -> Result<Self, String> {
        let cannot = |error| format!("cannot go on with {}: {error}", path.display());
        let mut file = File::options().write(true).open(path).map_err(cannot)?;
        lock(path, &file)?;
        file.set_len(length).map_err(cannot)?;
        file.seek(SeekFrom::End(0)).map_err(cannot)?;
        Ok(Self { file: Some((path.to_owned(), file)), to_output })
    }

    /// Writes a line.
    ///
    /// # Errors
    ///
    /// One sentence, if it cannot be written.
    ///
    /// # Panics
    ///
    /// If `line` is not plain data.
    pub fn write(&mut self, line: &impl Serialize) -> Result<(), String> {
        let text = serde_json::to_string(line).expect("lines are plain data") + "\n";
        if let Some((path, file)) = &mut self.file {
            let path = path.display();
            let written = file.write_all(text.as_bytes());
            written
                .map_err(|error| format!("cannot record in {path}: {error}: make room there"))?;
        }
        if self.to_output { print(&text) } else { Ok(()) }
    }
}

/// A new file. One that holds something is not overwritten.
fn create(path: &Path) -> Result<(PathBuf, File), String> {
    if fs::metadata(path).is_ok_and(|it| it.is_file() && it.len() > 0) {
        return Err(format!("{} exists already: remove it, or name another", path.display()));
    }
    let cannot = |error| format!("cannot write {}: {error}", path.display());
    let file = File::options().create(true).truncate(false).write(true).open(path);
    let file = file.map_err(cannot)?;
    if path.is_file() {
        lock(path, &file)?;
    }
    Ok((path.to_owned(), file))
}

fn lock(path: &Path, file: &File) -> Result<(), String> {
    file.try_lock()
        .map_err(|_| format!("another run records in {}: wait for it, or end it", path.display()))
}
