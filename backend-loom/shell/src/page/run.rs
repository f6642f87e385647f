//! Where a run leaves its pages.

use std::path::{Path, PathBuf};

use maud::Markup;

use super::{DEFAULT, Earlier, Folder};
use crate::{checkout, complain};

/// A run whose results can be pages.
pub trait Run {
    /// What the file of its index is called. Runs of several kinds may share a folder.
    const INDEX: &'static str;

    /// Whether there is a failure to write a page for.
    fn has_failures(&self) -> bool;

    /// Writes a page for every failure, and notes in its row where that is. Sources are below
    /// `root`, if there is a checkout.
    ///
    /// # Errors
    ///
    /// One sentence, if one cannot be written.
    fn write_failures(&mut self, folder: &Folder, root: Option<&Path>) -> Result<(), String>;

    /// The index.
    fn index(&self, earlier: Option<&Earlier>) -> Markup;
}

/// Where a run leaves its pages.
#[derive(Debug, Default)]
pub struct Pages {
    /// The folder that was asked for.
    folder: Option<Folder>,
    /// What the index compares with.
    earlier: Option<Earlier>,
}

impl Pages {
    /// Makes the folder, if one is asked for, so that nothing is run in vain.
    ///
    /// # Errors
    ///
    /// One sentence, if it cannot be written to.
    pub fn new(folder: Option<&Path>, earlier: Option<Earlier>) -> Result<Self, String> {
        Ok(Self { folder: folder.map(Folder::make).transpose()?, earlier })
    }

    /// Writes the pages of failures, notes in the rows where each is, and writes the index of the
    /// run if a folder was asked for.
    ///
    /// # Errors
    ///
    /// One sentence, if they cannot be written where that was asked for.
    pub fn write<R: Run>(&self, run: &mut R) -> Result<Option<PathBuf>, String> {
        let root = checkout::root().ok();
        let Some(folder) = &self.folder else {
            if let Some(root) = root.filter(|_| run.has_failures()) {
                let pages = Folder::make(&root.join(DEFAULT));
                // They were not asked for: the results are not lost with them.
                let written = pages.and_then(|folder| run.write_failures(&folder, Some(&root)));
                written.unwrap_or_else(|sentence| complain(&sentence));
            }
            return Ok(None);
        };
        run.write_failures(folder, root.as_deref())?;
        folder.write(R::INDEX, run.index(self.earlier.as_ref())).map(Some)
    }
}
