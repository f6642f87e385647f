//! The command line.

use std::path::PathBuf;

use clap::Parser;
use weft_shell::select::select;

/// Measures what Weft costs, beside raw bounds and other page-table crates.
///
/// Ratios are taken within a round, in which every workload of a row runs once; medians of them
/// decide whether a target is met. Runs are verified by an independent walk.
#[derive(Debug, Parser)]
#[command(name = "bench", version)]
pub struct Arguments {
    /// Measure only rows with this name, with names that contain it, or, with `*`, `?` or `[...]`,
    /// with names that fit it; can be repeated.
    #[arg(long, value_name = "TEXT")]
    pub filter: Vec<String>,
    /// Leave out rows whose names fit this, as a filter does; can be repeated.
    #[arg(long, value_name = "TEXT")]
    pub skip: Vec<String>,
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

    /// Which of the rows were asked for.
    ///
    /// # Errors
    ///
    /// One sentence, if a filter hits none, or none is left.
    pub fn select(&self, names: &[&str]) -> Result<Vec<bool>, String> {
        select("row", "--list", names, (&self.filter, &self.skip), |_| false)
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
        let names = ["unmap, exact", "lock a page", "query", "map"];
        let selected =
            |arguments: &[&str]| parsed(arguments).expect("it is well formed").select(&names);
        assert_eq!(
            selected(&["--filter=exact", "--filter=l*"]),
            Ok(vec![true, true, false, false])
        );
        assert_eq!(selected(&["--filter=map"]), Ok(vec![false, false, false, true]));
        assert_eq!(selected(&["--skip=*map*"]), Ok(vec![false, true, true, false]));
        let refused = "no row's name contains \"qery\" (a similar one is query); --list shows \
                       all of them";
        assert_eq!(selected(&["--filter=qery"]), Err(refused.to_owned()));
    }

    #[test]
    fn the_help_on_file_is_what_the_command_says() {
        let help = weft_shell::help::<Arguments>();
        let file = include_str!("../../../docs/help/bench.txt");
        assert!(file == help, "write this to docs/help/bench.txt:\n{help}");
    }

    #[test]
    fn quick_and_rounds_contradict_each_other() {
        assert!(parsed(&["--quick", "--rounds", "5"]).is_err());
        assert!(parsed(&["--rounds", "0"]).is_err());
    }
}
