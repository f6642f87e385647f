//! The command line, and the combinations of options that it refuses.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use serde::{Deserialize, Serialize};
use weft_backend_loom::engine::MemoryModel;
use weft_shell::arguments::{About, Form, Format};
use weft_shell::select::did_you_mean;

use crate::checkers::{self, Checker, Use};
use crate::columns::Telling;
use crate::record::Shard;

/// Explores the interleavings of every race scenario, under several engines, and its twins.
///
/// Every verdict says what it is worth: EXHAUSTED (every execution was run), BOUNDED (every one
/// under a bound, or the budget ended the search), SAMPLED (so many were drawn) or FAILED.
#[derive(Debug, Parser)]
#[command(name = "model-check", version, args_conflicts_with_subcommands = true)]
#[command(after_help = "Without options, everything is explored within a minute on two cores.")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) action: Option<Action>,
    #[command(flatten)]
    pub(crate) explore: Explore,
}

/// What to do instead of exploring the scenarios.
#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Weakens every memory ordering by every step, at one line of the core at a time, and asks
    /// which scenario notices.
    Sites(Sites),
    /// Lists the lines of the core that name a site, and the public operations, with the scenarios
    /// that execute them; one that none executes is an error.
    Coverage(Coverage),
    /// Breaks a scratch copy of the workspace with the mutants on file, then weakens every
    /// ordering; each must be noticed by what is said to notice it.
    Mutants(Mutants),
    /// Looks for every race that shipped, by every checker, and writes the table of which found
    /// what.
    Races(Races),
    /// Runs exactly one execution again, the one that a REPLAY line names.
    Replay(Replay),
    /// Puts the recorded shards of one run together, as if it had been run at once.
    Merge(Merge),
    /// Writes a new scenario file that compiles, explores a race and catches a twin.
    NewScenario(NewScenario),
    /// Compares the exhaustive engines: locks, litmus shapes and all scenarios, side by side.
    Speed(Speed),
    #[command(flatten)]
    About(About),
    /// Explores one small program in this process, for a parent that asked.
    #[command(hide = true)]
    Measure {
        /// The program.
        program: String,
        /// The engine.
        engine: String,
    },
    /// Explores one scenario in this process, for a parent that asked.
    #[command(hide = true)]
    Child {
        /// The scenario.
        scenario: String,
        /// The engine.
        engine: String,
    },
}

/// What to explore, and how. A record of a run holds what decides about its results.
#[derive(Clone, Debug, Default, Args, PartialEq, Serialize, Deserialize)]
pub(crate) struct Explore {
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) search: Search,
    /// Leave out the twins, the broken worlds that every scenario must catch.
    #[arg(long)]
    pub(crate) no_twins: bool,
    /// List the scenarios instead: roles, outcomes, situations, twins.
    #[arg(long)]
    #[serde(skip)]
    pub(crate) list: bool,
    #[command(flatten)]
    #[serde(skip)]
    pub(crate) output: Output,
    #[command(flatten)]
    #[serde(skip)]
    pub(crate) telling: Steps,
    /// Write a web page for each execution that fails, and an index of the run, into this folder.
    /// Without it the pages of failures go to target/report.
    #[arg(long, value_name = "FOLDER")]
    #[serde(skip)]
    pub(crate) report: Option<PathBuf>,
    /// Compare the index of the report with these results of an earlier run: a document that
    /// `--format json` has written.
    #[arg(long, value_name = "FILE", requires = "report")]
    #[serde(skip)]
    pub(crate) earlier: Option<PathBuf>,
    /// Run so many executions more when one has failed, in search of the smallest one that fails
    /// with the same message, and show that (explorer); 0 shows the first one. If not said,
    /// 100,000.
    #[arg(long, value_name = "N")]
    pub(crate) smallest_within: Option<u64>,
    /// Explore only the I-th of N parts, into which the scenarios are dealt out; `merge` puts the
    /// records of all parts together.
    #[arg(long, value_name = "I/N")]
    pub(crate) shard: Option<Shard>,
    /// Go on with the run that is recorded in this file, which was ended before its end; it says
    /// what is explored.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["output", "list"])]
    #[serde(skip)]
    pub(crate) resume: Option<PathBuf>,
    /// End at the first result that is not good.
    #[arg(long)]
    #[serde(skip)]
    pub(crate) fail_fast: bool,
    /// Explore to the end what is too large for a run of everything: an hour for each search of the
    /// explorer. Only scenarios that need it, without a FILTER; only that engine, without --engine.
    #[arg(long, conflicts_with_all = ["deviations", "sample", "preemptions"])]
    pub(crate) long: bool,
    /// A search that does not end as EXHAUSTED counts as exit code 3.
    #[arg(long)]
    pub(crate) require_exhausted: bool,
    /// Run in a broken world and show the counterexample: the name of a site, which is one step
    /// weaker then (`sites --list` lists them), or `<site>@<file>:<line>` for one line of the core;
    /// `freed-at-once` (no grace periods), `never-freed` (what is retired is lost), `torn-updates`
    /// (updates of entries in two steps) or `forgotten-cpu-<number>` (grace periods do not wait for
    /// that CPU); `mistake-<name>`, a role as a caller once wrote it (--list shows them). Exit
    /// codes: 1 caught, 2 survived.
    #[arg(long, value_name = "HOW")]
    pub(crate) sabotage: Option<String>,
}

/// Where results go.
#[derive(Clone, Debug, Default, Args, PartialEq)]
pub(crate) struct Output {
    /// How results are written.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub(crate) format: Format,
    /// Record the run in this file too: JSON lines, each as soon as there is a result, so that a
    /// run that is killed keeps what it had. See docs/results.md.
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// What to put together.
#[derive(Debug, Args)]
pub(crate) struct Merge {
    /// Files that `--output` has recorded, one or more for each shard of one run.
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// How much is told of an execution that fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Args)]
pub(crate) struct Steps {
    /// Show every step of an execution that fails, not only those that decide it.
    #[arg(long)]
    pub(crate) all_steps: bool,
    /// Tell in sentences what happens in an execution that fails.
    #[arg(long)]
    pub(crate) explain: bool,
}

impl From<Steps> for Telling {
    fn from(steps: Steps) -> Self {
        Self { all_steps: steps.all_steps, explained: steps.explain }
    }
}

/// Which scenarios to weaken orderings under, and how.
#[derive(Clone, Debug, Args)]
pub(crate) struct Sites {
    #[command(flatten)]
    pub(crate) search: Search,
    /// Only these sites: names, parts of names, or patterns; can be repeated.
    #[arg(long, value_name = "SITE")]
    pub(crate) site: Vec<String>,
    /// List the sites instead: orderings, partners, what they carry, who notices.
    #[arg(long)]
    pub(crate) list: bool,
    /// How results are written.
    #[arg(long, value_enum, default_value_t = Form::Human)]
    pub(crate) format: Form,
}

/// Which scenarios to search, and how.
#[derive(Clone, Debug, Default, Args, PartialEq, Serialize, Deserialize)]
pub(crate) struct Search {
    /// Parts of names of scenarios, or patterns with `*`, `?` and `[...]` that whole names fit; a
    /// whole name selects only that one.
    #[arg(value_name = "FILTER")]
    pub(crate) filters: Vec<String>,
    /// Leave out scenarios whose names fit this, as a FILTER does; can be repeated.
    #[arg(long, value_name = "FILTER")]
    pub(crate) skip: Vec<String>,
    /// An engine to use, or `all` for every engine on every scenario; can be repeated.
    #[arg(long, value_name = "NAME")]
    pub(crate) engine: Vec<String>,
    /// Explore only executions with at most so many preemptions (loom).
    #[arg(long, value_name = "N")]
    pub(crate) preemptions: Option<usize>,
    /// Wall time for each exploration.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    #[serde(rename = "time_seconds", with = "maybe_seconds")]
    pub(crate) time: Option<Duration>,
    /// Executions for each exploration: how many are drawn, or after how many a search is cut.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) executions: Option<u64>,
    /// The seed of everything random.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Explorations at the same time; as many as there are cores if not said.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1024))]
    #[serde(skip)]
    pub(crate) jobs: Option<u64>,
    /// The memory model (explorer).
    #[arg(long, value_name = "MODEL", value_parser = memory_models())]
    pub(crate) memory_model: Option<MemoryModel>,
    /// Explore only executions with at most so many choices other than the default ones (explorer).
    #[arg(long, value_name = "N", conflicts_with = "sample")]
    pub(crate) deviations: Option<u32>,
    /// Draw executions at random instead of exploring all, as many as --executions says (explorer).
    #[arg(long)]
    pub(crate) sample: bool,
    /// Log what is started and what ends; twice for progress too. RUST_LOG, as
    /// `weft_model_check=debug`, says it more finely.
    #[arg(short, long, action = clap::ArgAction::Count)]
    #[serde(skip)]
    pub(crate) verbose: u8,
}

/// How to list what scenarios execute.
#[derive(Debug, Args)]
pub(crate) struct Coverage {
    /// Explorations at the same time; as many as there are cores if not said.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub(crate) jobs: Option<u64>,
    /// How results are written.
    #[arg(long, value_enum, default_value_t = Form::Human)]
    pub(crate) format: Form,
}

/// Which mutants to try.
#[derive(Debug, Args)]
pub(crate) struct Mutants {
    /// Parts of names of mutants, or whole names with `*` for any text; or parts of names of sites.
    #[arg(value_name = "FILTER")]
    pub(crate) filters: Vec<String>,
    /// Leave out the orderings.
    #[arg(long, conflicts_with = "sites")]
    pub(crate) no_sites: bool,
    /// Only the orderings.
    #[arg(long)]
    pub(crate) sites: bool,
    /// List the mutants instead.
    #[arg(long)]
    pub(crate) list: bool,
    /// Log what is started and what ends; twice for progress too.
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// Which races to look for, and with what.
#[derive(Debug, Args)]
pub(crate) struct Races {
    /// Parts of names of scenarios; a whole name selects only that one. What was found of the other
    /// ones is kept.
    #[arg(value_name = "FILTER")]
    pub(crate) filters: Vec<String>,
    /// An engine to look with; can be repeated. What the others found is kept.
    #[arg(long, value_name = "NAME")]
    pub(crate) engine: Vec<String>,
    /// Also break a copy of the core with the mutants that races are. It is built first.
    #[arg(long)]
    pub(crate) mutants: bool,
    /// Also boot a machine for every race that one can run.
    #[arg(long)]
    pub(crate) machine: bool,
    /// Look for nothing: write the documents from the headers and from what was found before.
    #[arg(long, conflicts_with_all = ["mutants", "machine", "engine"])]
    pub(crate) documents: bool,
    /// Write nothing: say what differs from what was found before, with exit code 2.
    #[arg(long)]
    pub(crate) check: bool,
    /// The folder that the web page is written to, instead of this workspace's target.
    #[arg(long, value_name = "FOLDER", conflicts_with = "check")]
    pub(crate) directory: Option<PathBuf>,
    /// Explorations at the same time; as many as there are cores if not said.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub(crate) jobs: Option<u64>,
    /// How results are written.
    #[arg(long, value_enum, default_value_t = Form::Human)]
    pub(crate) format: Form,
}

/// What to compare engines with.
#[derive(Debug, Args)]
pub(crate) struct Speed {
    /// Wall time for each exploration.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "20")]
    pub(crate) time: Duration,
    /// Threads that the explorer searches with.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) threads: usize,
    /// How results are written.
    #[arg(long, value_enum, default_value_t = Form::Human)]
    pub(crate) format: Form,
}

/// Budgets in documents are seconds.
mod maybe_seconds {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    pub(super) fn serialize<S: Serializer>(
        time: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        time.map(|time| time.as_secs_f64()).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        let seconds = Option::<f64>::deserialize(deserializer)?;
        seconds.map(Duration::try_from_secs_f64).transpose().map_err(serde::de::Error::custom)
    }
}

/// What to replay.
#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// The token of a REPLAY line: `wt2:<state>:<scenario>:<engine>:<sabotage>:<execution>`.
    pub(crate) token: String,
    #[command(flatten)]
    pub(crate) telling: Steps,
    /// How results are written.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub(crate) format: Format,
}

/// What to create.
#[derive(Debug, Args)]
pub(crate) struct NewScenario {
    /// The name: `<actor>_vs_<actor>`.
    pub(crate) name: String,
    /// The folder to write to, instead of this workspace's scenarios/tests.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) folder: Option<PathBuf>,
}

/// What memory models are called here and in tokens.
const MODELS: [(&str, MemoryModel); 3] =
    [("rc11", MemoryModel::Rc11), ("tso", MemoryModel::Tso), ("sc", MemoryModel::Sc)];

/// The memory model called `name`.
pub(crate) fn memory_model(name: &str) -> Option<MemoryModel> {
    MODELS.iter().find(|(called, _)| *called == name).map(|(_, model)| *model)
}

/// What a memory model is called.
pub(crate) fn model_name(model: MemoryModel) -> &'static str {
    let found = MODELS.iter().find(|(_, named)| *named == model);
    found.expect("every memory model has a name").0
}

fn memory_models() -> impl TypedValueParser<Value = MemoryModel> {
    let names = PossibleValuesParser::new(MODELS.map(|(name, _)| name));
    names.map(|name| memory_model(&name).expect("only these names are possible"))
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    if !(0.001..=1e6).contains(&seconds) {
        return Err("not between 0.001 and 1000000 seconds".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// The engines that were asked for, and whether every scenario is to run on each of them.
#[derive(Debug)]
pub(crate) struct Selection {
    /// The engines, in the order of the list.
    pub(crate) checkers: Vec<&'static Checker>,
    /// Whether they were named, so that no scenario leaves one out.
    pub(crate) named: bool,
}

impl Explore {
    /// What is left if a record decides what is explored: how it is run and shown.
    pub(crate) fn as_it_is_run(&self) -> Self {
        let Self { output, resume, fail_fast, search, .. } = self;
        let Search { jobs, verbose, .. } = search;
        let search = Search { jobs: *jobs, verbose: *verbose, ..Search::default() };
        let (output, resume) = (output.clone(), resume.clone());
        Self { search, output, resume, fail_fast: *fail_fast, ..Self::default() }
    }

    /// The engines, after the flags have been checked against them.
    ///
    /// # Errors
    ///
    /// As [`Search::selection`], and for flags that contradict each other.
    pub(crate) fn selection(&self) -> Result<Selection, String> {
        let mut selection = self.search.selection()?;
        if self.long && !selection.named {
            selection.checkers.retain(|checker| checker.used_for == Use::Everything);
        }
        let Search { preemptions, deviations, sample, .. } = self.search;
        if !self.require_exhausted {
            return Ok(selection);
        }
        if !selection.any(|it| it.traits().exhaustive) {
            return Err(format!(
                "--require-exhausted needs an engine that can exhaust, and {} only samples: add \
                 --engine loom",
                selection.names()
            ));
        }
        if preemptions.is_some() {
            return Err(
                "--preemptions and --require-exhausted contradict each other: leave one out"
                    .to_owned(),
            );
        }
        if sample || deviations.is_some() {
            return Err(
                "--require-exhausted contradicts a bound and a sample: leave one out".to_owned()
            );
        }
        Ok(selection)
    }
}

impl Selection {
    fn any(&self, what: fn(&Checker) -> bool) -> bool {
        self.checkers.iter().any(|checker| what(checker))
    }

    fn names(&self) -> String {
        self.checkers.iter().map(|it| it.name()).collect::<Vec<_>>().join(", ")
    }
}

impl Search {
    /// The engines, after the flags have been checked against them.
    ///
    /// # Errors
    ///
    /// One sentence, for an unknown engine and for flags that no selected engine can follow.
    pub(crate) fn selection(&self) -> Result<Selection, String> {
        for name in self.engine.iter().filter(|name| *name != "all") {
            if checkers::find(name).is_none() {
                let names = checkers::names();
                let similar = did_you_mean(name, &names);
                let names = names.join(", ");
                return Err(format!("there is no engine {name:?}{similar}: use {names} or all"));
            }
        }
        let named = !self.engine.is_empty();
        let every = !named || self.engine.iter().any(|name| name == "all");
        let selected =
            |checker: &&Checker| every || self.engine.iter().any(|n| n == checker.name());
        let selection =
            Selection { checkers: checkers::ALL.iter().filter(selected).collect(), named };
        if self.preemptions.is_some() && !selection.any(|it| it.used_for == Use::WithinBounds) {
            return Err(format!(
                "--preemptions needs an engine that bounds preemptions, and {} does not: add \
                 --engine loom",
                selection.names()
            ));
        }
        let for_explorer = [
            ("--memory-model", self.memory_model.is_some()),
            ("--deviations", self.deviations.is_some()),
            ("--sample", self.sample),
        ];
        for (flag, given) in for_explorer {
            if given && !selection.any(|it| it.used_for == Use::Everything) {
                return Err(format!(
                    "{flag} needs the explorer, which is not among {}: add --engine explorer",
                    selection.names()
                ));
            }
        }
        Ok(selection)
    }

    /// How many explorations run at the same time.
    pub(crate) fn workers(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.jobs.map_or_else(cores, |jobs| usize::try_from(jobs).expect("at most 1024"))
    }
}
