//! How a model is explored, and what becomes of a failure.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use weft_explorer::{FailureKind, Options, Report, Token, explore, replay};

use crate::lazy_static;

/// How to explore a model. The variables are those of loom, where they mean something.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Builder {
    /// Has no effect: a program has at most [`MAX_THREADS`](crate::MAX_THREADS), the main thread
    /// included, or fails.
    pub max_threads: usize,

    /// The most events of one thread, from `LOOM_MAX_BRANCHES`. More fail: it is taken to loop.
    pub max_branches: usize,

    /// Stop after so many executions, from `LOOM_MAX_PERMUTATIONS`.
    pub max_permutations: Option<usize>,

    /// Stop after this time, from `LOOM_MAX_DURATION` in seconds.
    pub max_duration: Option<Duration>,

    /// Has no effect: there are no preemptions, and all executions are explored.
    pub preemption_bound: Option<usize>,

    /// A file for the token of a failing execution, from `LOOM_CHECKPOINT_FILE`. If it exists, that
    /// execution is replayed, and nothing is explored.
    pub checkpoint_file: Option<PathBuf>,

    /// Has no effect: the token is written when an execution fails.
    pub checkpoint_interval: usize,

    /// Has no effect: everything is explored.
    pub expect_explicit_explore: bool,

    /// Has no effect: failures have places in any case.
    pub location: bool,

    /// Has no effect: failures have their execution in any case.
    pub log: bool,
}

/// Events of one thread, unless something else is asked for.
const EVENTS_MAX: usize = 20_000;

/// A variable of the environment, if it is set.
fn variable<T: FromStr>(name: &str) -> Option<T> {
    let value = env::var(name).ok()?;
    let Ok(parsed) = value.parse() else {
        panic!("{name} is `{value}`, which cannot be read: give it a number, or unset it")
    };
    Some(parsed)
}

impl Builder {
    /// What the variables say.
    ///
    /// # Panics
    /// If one of them cannot be read.
    pub fn new() -> Builder {
        Builder {
            max_threads: crate::MAX_THREADS,
            max_branches: variable("LOOM_MAX_BRANCHES").unwrap_or(EVENTS_MAX),
            max_permutations: variable("LOOM_MAX_PERMUTATIONS"),
            max_duration: variable("LOOM_MAX_DURATION").map(Duration::from_secs),
            preemption_bound: variable("LOOM_MAX_PREEMPTIONS"),
            checkpoint_file: env::var_os("LOOM_CHECKPOINT_FILE").map(PathBuf::from),
            checkpoint_interval: variable("LOOM_CHECKPOINT_INTERVAL").unwrap_or(20_000),
            expect_explicit_explore: false,
            location: true,
            log: false,
        }
    }

    /// Sets the file for the token of a failing execution.
    pub fn checkpoint_file(&mut self, file: &str) -> &mut Builder {
        self.checkpoint_file = Some(file.into());
        self
    }

    /// Explores every execution of a model, or replays the one that `LOOM_REPLAY` or the checkpoint
    /// file names.
    ///
    /// # Panics
    /// If an execution fails, with what is wrong, the execution, and the token that replays it.
    #[track_caller]
    pub fn check<F>(&self, model: F)
    where
        F: Fn() + Sync + Send + 'static,
    {
        if weft_explorer::facade::is_inside() {
            panic!("loom::model was called inside a model: call it outside");
        }
        crate::keep_what_the_system_allocates();
        let program = || {
            lazy_static::prepare();
            model();
        };
        let token = self.token();
        let report = loop {
            let options = self.options();
            let report = match &token {
                Some(token) => replay(&options, token, program),
                None => explore(&options, program),
            };
            if !lazy_static::has_news() {
                break report;
            }
        };
        println!("weft-loom: {}", summary(&report));
        let Some(failure) = &report.failure else { return };
        if let Some(file) = &self.checkpoint_file {
            let written = fs::write(file, failure.token.to_string());
            written.unwrap_or_else(|error| {
                println!("weft-loom: the token is not in {}: {error}", file.display());
            });
        }
        let loom = words_of_loom(failure.kind);
        panic!("{loom}{failure}\nreplay it: LOOM_REPLAY='{}'", failure.token);
    }

    fn options(&self) -> Options {
        Options {
            arena: true,
            events_max: self.max_branches,
            executions_max: self.max_permutations.map(|count| count as u64),
            time_limit: self.max_duration,
            cancel: Some(lazy_static::expect_news()),
            ..Options::default()
        }
    }

    fn token(&self) -> Option<Token> {
        let named = variable::<Token>("LOOM_REPLAY");
        let file = self.checkpoint_file.as_deref().filter(|file| file.exists());
        named.or_else(|| file.map(read_token))
    }
}

fn read_token(file: &Path) -> Token {
    let text = fs::read_to_string(file).map_err(|error| error.to_string());
    let token = text.and_then(|text| text.trim().parse().map_err(|error| format!("{error}")));
    token.unwrap_or_else(|error| {
        panic!(
            "{} has no token to replay ({error}): remove the file, and explore again",
            file.display()
        )
    })
}

/// Tests that expect a failure may look for a word of loom's.
fn words_of_loom(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Deadlock => "deadlock\n",
        FailureKind::DataRace => "Causality violation\n",
        FailureKind::UnboundedLoop => "Model exceeded maximum number of branches\n",
        _ => "",
    }
}

fn summary(report: &Report) -> String {
    format!(
        "{} under {}: {} executions, {} blocked, {} runs, {:.6} s",
        report.verdict,
        report.model,
        report.executions,
        report.blocked,
        report.runs,
        report.elapsed.as_secs_f64()
    )
}

impl Default for Builder {
    fn default() -> Builder {
        Builder::new()
    }
}

/// Explores every execution of a model, as the variables of the environment say.
///
/// # Panics
/// If an execution fails: see [`Builder::check`].
#[track_caller]
pub fn model<F>(model: F)
where
    F: Fn() + Sync + Send + 'static,
{
    Builder::new().check(model);
}
