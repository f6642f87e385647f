//! The command line.

use std::path::PathBuf;

use clap::Parser;

/// Measures what Weft costs, beside raw bounds and other page-table crates.
///
/// Ratios are taken within a round, in which every workload of a row runs once; medians of them
/// decide whether a target is met. Runs are verified by an independent walk.
#[derive(Debug, Parser)]
#[command(name = "bench", version, after_help = weft_shell::exit::TABLE)]
pub struct Arguments {
    /// Measure only rows whose name contains this; can be repeated.
    #[arg(long, value_name = "TEXT")]
    pub filter: Vec<String>,
    /// How many rounds are counted.
    #[arg(long, value_name = "N", default_value_t = 101, conflicts_with = "quick",
        value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rounds: u32,
    /// A few rounds, to see that all is well.
    #[arg(long)]
    pub quick: bool,
    /// A target that is missed, or could not be measured, counts as exit code 2.
    #[arg(long)]
    pub check: bool,
    /// Write everything as one JSON document; `-` is the standard output, instead of the tables.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Measure costs over sizes and threads too, and write them as SVG files.
    #[arg(long, value_name = "FOLDER")]
    pub plot: Option<PathBuf>,
    /// List the rows instead.
    #[arg(long)]
    pub list: bool,
    /// The folder that relative paths begin at. cargo starts benchmarks in their package's folder.
    #[arg(long, value_name = "FOLDER", hide = true)]
    pub directory: Option<PathBuf>,
    /// What cargo adds.
    #[arg(long, hide = true)]
    pub bench: bool,
}

/// Rounds of `--quick`.
const QUICK: usize = 11;

impl Arguments {
    /// How many rounds are counted.
    pub fn rounds(&self) -> usize {
        if self.quick { QUICK } else { self.rounds as usize }
    }

    /// A path that was given, as the user meant it.
    pub fn path(&self, path: &std::path::Path) -> PathBuf {
        self.directory.as_ref().map_or_else(|| path.to_owned(), |folder| folder.join(path))
    }

    /// Whether the row was asked for.
    pub fn selects(&self, name: &str) -> bool {
        self.filter.is_empty() || self.filter.iter().any(|text| name.contains(text.as_str()))
    }

    /// Whether the JSON document takes the place of the tables.
    pub fn json_is_output(&self) -> bool {
        self.json.as_ref().is_some_and(|path| path.as_os_str() == "-")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(["bench"].iter().chain(arguments))
    }

    #[test]
    fn paths_begin_at_the_directory() {
        let arguments = parsed(&["--directory", "/a", "--json", "b"]).expect("it is well formed");
        let path = |text: &str| arguments.path(std::path::Path::new(text));
        assert_eq!(path("b"), PathBuf::from("/a/b"));
        assert_eq!(path("/c"), PathBuf::from("/c"));
    }

    #[test]
    fn any_filter_selects() {
        let arguments = parsed(&["--filter", "map", "--filter", "lock"]).expect("well formed");
        assert!(arguments.selects("unmap, exact") && arguments.selects("lock a page"));
        assert!(!arguments.selects("query"));
    }

    #[test]
    fn quick_and_rounds_contradict_each_other() {
        assert!(parsed(&["--quick", "--rounds", "5"]).is_err());
        assert!(parsed(&["--rounds", "0"]).is_err());
    }
}
