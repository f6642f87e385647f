//! The checkout that a command works in.
//!
//! A command does not remember where it was built. What it reads and writes is found from the
//! current folder upwards, so that a copied checkout, or a copied command, never touches the files
//! of another one.

use std::path::{Path, PathBuf};

/// A file that only the root of a checkout has.
const MARK: &str = "scenarios/collect.rs";

/// The root of the checkout that the current folder is in.
///
/// # Errors
///
/// One sentence, if it is in none.
pub fn root() -> Result<PathBuf, String> {
    let start = std::env::current_dir()
        .map_err(|error| format!("the current folder cannot be used ({error}): enter another"))?;
    above(&start)
        .ok_or_else(|| format!("{} is not in a checkout of Weft: run this in one", start.display()))
}

/// The nearest folder, `start` or above it, that is the root of a checkout.
fn above(start: &Path) -> Option<PathBuf> {
    start.ancestors().find(|folder| folder.join(MARK).is_file()).map(Path::to_owned)
}

/// A path as seen from the current folder, if it is below that.
pub fn from_here(path: &Path) -> &Path {
    let here = std::env::current_dir().ok();
    here.and_then(|here| path.strip_prefix(here).ok()).unwrap_or(path)
}
