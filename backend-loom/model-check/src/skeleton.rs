//! `new-scenario`: a file to start from.
//!
//! What is written is a complete race that compiles, explores and catches a twin, so that whoever
//! writes a new one changes something that works. The text is a file of this package that is
//! compiled and run by a test, under the name `writer_vs_reader`.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use weft_shell::{checkout, exit, print};

use crate::arguments::NewScenario;

const TEMPLATE: &str = include_str!("../skeleton/writer_vs_reader.rs");

/// The title of the template.
const TITLE: &str = "//! # Writer vs. reader";

/// Writes a new scenario file.
///
/// # Errors
///
/// One sentence, for a bad name and a file that exists.
pub(crate) fn create(arguments: &NewScenario) -> Result<u8, String> {
    let name = &arguments.name;
    let text = text(name)?;
    let folder: PathBuf = match &arguments.folder {
        Some(folder) => folder.clone(),
        None => checkout::root()?.join("scenarios/tests"),
    };
    if !folder.is_dir() {
        return Err(format!("{} is not a folder: say --folder <FOLDER>", folder.display()));
    }
    let path = folder.join(format!("{name}.rs"));
    let cannot = |error| format!("cannot write {}: {error}", path.display());
    let mut file = fs::OpenOptions::new().write(true).create_new(true).open(&path).map_err(
        |error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                format!("{} exists already: choose another name", path.display())
            }
            _ => cannot(error),
        },
    )?;
    file.write_all(text.as_bytes()).map_err(cannot)?;
    print(&format!(
        "{} is a race that works: change it into yours\n\
         cargo test -p weft-scenarios --test {name}   tries it in seconds\n\
         just model-check {name}   explores it with everything\n",
        path.display()
    ))?;
    Ok(exit::GOOD)
}

/// The text of a scenario file called `name`.
fn text(name: &str) -> Result<String, String> {
    let (one, other) = name
        .split_once("_vs_")
        .filter(|(one, other)| is_actor(one) && is_actor(other))
        .ok_or_else(|| {
            format!("{name:?} is no name for a race: use <actor>_vs_<actor>, as walk_vs_detach")
        })?;
    let mut title = format!("//! # {} vs. {}", one.replace('_', " "), other.replace('_', " "));
    let first = "//! # ".len();
    title[first..=first].make_ascii_uppercase();
    Ok(TEMPLATE.replacen(TITLE, &title, 1))
}

/// Whether a name can stand on one side of a race, as scenarios/collect.rs demands.
fn is_actor(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_the_text_of_its_own_name() {
        assert_eq!(text("writer_vs_reader").as_deref(), Ok(TEMPLATE));
    }

    #[test]
    fn the_title_follows_the_name() {
        let text = text("huge_split_vs_walk").expect("a good name");
        assert!(text.starts_with("//! # Huge split vs. walk\n"));
        assert_eq!(text.lines().count(), TEMPLATE.lines().count());
    }

    #[test]
    fn names_that_are_no_races_are_refused() {
        for name in ["", "walk", "walk_vs_", "_vs_walk", "Walk_vs_map", "a_vs_b.rs", "../a_vs_b"] {
            assert!(text(name).is_err(), "{name:?}");
        }
    }
}
