//! Records of runs: JSON lines, each as soon as there is something to tell.
//!
//! The first line says what is run, of which state of the code; then comes a line for each
//! exploration that has ended, in the order in which they end, and at last one for the end. A run
//! that is killed leaves a record without an end, and perhaps with half a line, which is not read.
//! `docs/results.md` describes the fields.
//!
//! Explorations have numbers: their positions in the plan of the whole run, which follows from the
//! options and the state of the code. So a run can [go on](Recorder::resume) where its record
//! stops, and [records of shards](merged) are put together only if none is missing, none is there
//! twice, and all are of one state, one commit and the same budgets.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use weft_backend_loom::report::{Report, seconds};
use weft_backend_loom::sabotage;
use weft_shell::arguments::Format;
use weft_shell::lines::Lines;
use weft_shell::provenance::Provenance;

use crate::arguments::{Explore, Output};
use crate::jobs::{Job, Purpose};
use crate::state::STATE;
use crate::summary::Found;

/// The version of the form, of records and of the document.
pub(crate) const VERSION: u32 = 2;

/// What provenance calls this command.
pub(crate) const TOOL: &str = "model-check";

/// What is wrong with a record, in one sentence.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Unfit {
    /// It belongs to other code than this command.
    AnotherState(String),
    /// It cannot be used in another way.
    Broken(String),
}

impl From<String> for Unfit {
    fn from(sentence: String) -> Self {
        Self::Broken(sentence)
    }
}

/// One of so many parts of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(crate) struct Shard {
    number: usize,
    count: usize,
}

impl Shard {
    /// Whether the scenario at this position belongs to it.
    pub(crate) fn has(self, position: usize) -> bool {
        position % self.count == self.number - 1
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.count)
    }
}

impl From<Shard> for String {
    fn from(shard: Shard) -> Self {
        shard.to_string()
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once('/').and_then(|(number, count)| {
            Some(Self { number: number.parse().ok()?, count: count.parse().ok()? })
        });
        let fits = |shard: &Self| (1..=shard.count).contains(&shard.number);
        numbers.filter(fits).ok_or_else(|| "use I/N with I from 1 to N, as 2/3".to_owned())
    }
}

impl TryFrom<String> for Shard {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// A line of a record.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "kebab-case")]
enum Line {
    Run(Box<Head>),
    Result(Box<Entry>),
    End(End),
}

/// What was run.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Head {
    /// The version of the form.
    version: u32,
    /// The state of the code that was explored.
    state: String,
    /// By which tool, from which commit, where and when; one for each machine and commit.
    pub(crate) provenance: Vec<Provenance>,
    /// Filters, budgets, seed and what else decides about results.
    pub(crate) options: Explore,
    /// How many explorations the whole run has.
    explorations: usize,
}

impl Head {
    /// The head of a run that begins now.
    pub(crate) fn new(options: &Explore, explorations: usize) -> Self {
        Self {
            version: VERSION,
            state: STATE.to_owned(),
            provenance: vec![Provenance::here(TOOL, env!("CARGO_PKG_VERSION"))],
            options: options.clone(),
            explorations,
        }
    }

    fn commit(&self) -> Option<&str> {
        self.provenance.first()?.commit.as_deref()
    }
}

/// What came of one exploration.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    index: usize,
    scenario: String,
    engine: String,
    sabotage: String,
    twin: Option<usize>,
    #[serde(flatten)]
    outcome: Outcome,
    token: Option<String>,
    astray: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Outcome {
    Report(Box<Report>),
    Error(String),
}

/// How it ended.
#[derive(Debug, Serialize, Deserialize)]
struct End {
    exit: u8,
    unfinished: usize,
    #[serde(rename = "elapsed_seconds", with = "seconds")]
    elapsed: Duration,
}

impl Entry {
    fn of(found: &Found) -> Self {
        let Found { index, job, result, token, astray } = found;
        let outcome = match result.clone() {
            // What was executed of the core is a matter of all scenarios together.
            Ok(report) => {
                Outcome::Report(Box::new(Report { coverage: Default::default(), ..report }))
            }
            Err(error) => Outcome::Error(error),
        };
        let (token, astray) = (token.clone(), astray.clone());
        let [scenario, engine, sabotage] = names(job);
        Self { index: *index, scenario, engine, sabotage, twin: twin(job), outcome, token, astray }
    }

    /// What it says of the exploration with its number, if that is in the plan.
    fn found(self, jobs: &[Job]) -> Option<Found> {
        let job = jobs.get(self.index)?;
        let is_of =
            [self.scenario, self.engine, self.sabotage] == names(job) && self.twin == twin(job);
        let result = match self.outcome {
            Outcome::Report(report) => Ok(*report),
            Outcome::Error(error) => Err(error),
        };
        let Self { index, token, astray, .. } = self;
        is_of.then(|| Found { index, job: job.clone(), result, token, astray })
    }
}

fn names(job: &Job) -> [String; 3] {
    [job.scenario.to_owned(), job.checker.name().to_owned(), sabotage::encode(job.sabotage)]
}

fn twin(job: &Job) -> Option<usize> {
    match job.purpose {
        Purpose::Twin { number, .. } => Some(number),
        Purpose::Row | Purpose::Site => None,
    }
}

/// Writes a record, to where it was asked for.
#[derive(Debug)]
pub(crate) struct Recorder(Lines);

impl Recorder {
    /// Begins the record that was asked for, if one was.
    ///
    /// # Errors
    ///
    /// One sentence, if the file cannot be written, or holds something.
    pub(crate) fn begin(output: &Output, head: &Head) -> Result<Self, String> {
        let to_output = output.format == Format::Jsonl;
        let mut lines = Lines::begin(output.output.as_deref(), to_output)?;
        lines.write(&Line::Run(Box::new(head.clone())))?;
        Ok(Self(lines))
    }

    /// Goes on with a record.
    ///
    /// # Errors
    ///
    /// One sentence, if the file cannot be written, or another run writes it.
    pub(crate) fn resume(record: &Record, output: &Output) -> Result<Self, String> {
        // Half a line is of no use.
        Lines::go_on(&record.path, record.length, output.format == Format::Jsonl).map(Self)
    }

    /// Notes what came of an exploration.
    ///
    /// # Errors
    ///
    /// One sentence, if it cannot be written.
    pub(crate) fn found(&mut self, found: &Found) -> Result<(), String> {
        self.0.write(&Line::Result(Box::new(Entry::of(found))))
    }

    /// Notes the end.
    ///
    /// # Errors
    ///
    /// One sentence, if it cannot be written.
    pub(crate) fn end(
        &mut self,
        exit: u8,
        unfinished: usize,
        elapsed: Duration,
    ) -> Result<(), String> {
        self.0.write(&Line::End(End { exit, unfinished, elapsed }))
    }
}

/// A record that was read.
#[derive(Debug)]
pub(crate) struct Record {
    path: PathBuf,
    /// What was run.
    pub(crate) head: Head,
    entries: Vec<Entry>,
    /// Wall time of all sessions that came to their ends.
    pub(crate) elapsed: Duration,
    /// Where the last whole line ends.
    length: u64,
}

impl Record {
    /// Reads a record, up to half a line at its end.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(crate) fn read(path: &Path) -> Result<Self, Unfit> {
        let shown = path.display();
        let text = fs::read_to_string(path)
            .map_err(|error| format!("cannot read {shown}: {error}: name a record of a run"))?;
        let length = text.rfind('\n').map_or(0, |end| end + 1);
        let mut lines = text[..length].lines().enumerate();
        let head = lines.next().map(|(_, line)| line).unwrap_or_default();
        let no_record = || format!("{shown} is no record of a run: --output writes one");
        let head: Value = serde_json::from_str(head).map_err(|_| no_record())?;
        of_this_state(path, &head)?;
        let Ok(Line::Run(head)) = serde_json::from_value(head) else {
            return Err(Unfit::Broken(no_record()));
        };
        let mut entries = Vec::new();
        let mut elapsed = Duration::ZERO;
        for (number, line) in lines {
            match serde_json::from_str(line) {
                Ok(Line::Result(entry)) => entries.push(*entry),
                Ok(Line::End(end)) => elapsed += end.elapsed,
                Ok(Line::Run(_)) | Err(_) => {
                    let number = number + 1;
                    let sentence = format!("{shown}:{number}: no line of a record: run it again");
                    return Err(Unfit::Broken(sentence));
                }
            }
        }
        let length = length as u64;
        Ok(Self { path: path.to_owned(), head: *head, entries, elapsed, length })
    }

    /// What it says of the explorations of this plan, by their numbers.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(crate) fn found(self, jobs: &[Job]) -> Result<Vec<Found>, Unfit> {
        let shown = self.path.display();
        if self.head.explorations != jobs.len() {
            return Err(Unfit::Broken(format!(
                "{shown} plans {} explorations, and its options plan {}: it was changed",
                self.head.explorations,
                jobs.len()
            )));
        }
        let mut all = BTreeMap::new();
        for entry in self.entries {
            let index = entry.index;
            let found = entry.found(jobs).ok_or_else(|| {
                format!("{shown}: exploration {index} is not the one of the plan: it was changed")
            })?;
            let title = found.job.title();
            if all.insert(index, found).is_some() {
                return Err(Unfit::Broken(format!("{shown} has {title} twice: it was changed")));
            }
        }
        Ok(all.into_values().collect())
    }
}

/// Refuses a record of another form, or of another state of the code, whatever else is in it.
fn of_this_state(path: &Path, head: &Value) -> Result<(), Unfit> {
    let (path, version) = (path.display(), head["version"].as_u64());
    let Some((version, state)) = version.zip(head["state"].as_str()) else { return Ok(()) };
    if version != u64::from(VERSION) {
        return Err(Unfit::AnotherState(format!(
            "{path} is a record in form {version}, and this command knows form {VERSION}: use the \
             command that wrote it"
        )));
    }
    if state != STATE {
        let commit = head["provenance"][0]["commit"].as_str();
        let commit = commit.map(|commit| format!(", {commit}")).unwrap_or_default();
        return Err(Unfit::AnotherState(format!(
            "{path} belongs to another state of the code ({state}, this is {STATE}): run it again, \
             or check out what it was run on{commit}"
        )));
    }
    Ok(())
}

/// The records of the shards of one run, as one: its head, and what came of everything. `plan`
/// gives the explorations that options ask for.
///
/// # Errors
///
/// What is wrong with them.
pub(crate) fn merged(
    records: Vec<Record>,
    plan: impl Fn(&Explore) -> Result<Vec<Job>, String>,
) -> Result<(Head, Vec<Found>), Unfit> {
    let mut records = records.into_iter();
    let first = records.next().ok_or_else(|| "there is nothing to merge".to_owned())?;
    let mut head = first.head.clone();
    head.options.shard = None;
    let jobs = plan(&head.options)?;
    let one = first.path.clone();
    let mut all: BTreeMap<usize, (Found, PathBuf)> = BTreeMap::new();
    for record in std::iter::once(first).chain(records) {
        let path = record.path.clone();
        head.join(&one, &record)?;
        for found in record.found(&jobs)? {
            let title = found.job.title();
            if let Some((_, other)) = all.insert(found.index, (found, path.clone())) {
                let (path, other) = (path.display(), other.display());
                let sentence =
                    format!("{other} and {path} both have {title}: name each shard once");
                return Err(Unfit::Broken(sentence));
            }
        }
    }
    let missing: Vec<&Job> =
        jobs.iter().enumerate().filter(|(at, _)| !all.contains_key(at)).map(|it| it.1).collect();
    if let Some(first) = missing.first() {
        return Err(Unfit::Broken(format!(
            "{} of {} explorations are in no record, as {}: name all shards, or go on with one by \
             --resume",
            missing.len(),
            jobs.len(),
            first.title()
        )));
    }
    Ok((head, all.into_values().map(|(found, _)| found).collect()))
}

impl Head {
    /// Takes in what another record, of a shard of the same run, says of its origin. `path` is
    /// where this head comes from.
    fn join(&mut self, path: &Path, record: &Record) -> Result<(), Unfit> {
        let (one, other) = (path.display(), record.path.display());
        if record.head.commit() != self.commit() {
            let name = |head: &Self| head.commit().unwrap_or("no commit").to_owned();
            return Err(Unfit::AnotherState(format!(
                "{one} was run on {}, and {other} on {}: merge records of one commit",
                name(self),
                name(&record.head)
            )));
        }
        let options = Explore { shard: None, ..record.head.options.clone() };
        if options != self.options {
            return Err(Unfit::Broken(format!(
                "{one} and {other} were run with other options or budgets: merge records of one run"
            )));
        }
        for one in &record.head.provenance {
            let is_known =
                |known: &Provenance| *known == Provenance { started: known.started, ..one.clone() };
            if !self.provenance.iter().any(is_known) {
                self.provenance.push(one.clone());
            }
        }
        Ok(())
    }
}
