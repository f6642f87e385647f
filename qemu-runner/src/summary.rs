//! Everything that was run, put together, and the exit code that follows.

use std::time::Duration;

use crate::host::Accelerator;
use crate::verdict::{Failure, Request, Verdict};

/// Exit codes.
pub mod exit {
    /// All is well.
    pub const GOOD: u8 = 0;
    /// A scenario failed.
    pub const VIOLATION: u8 = 1;
    /// Something that was demanded was not seen.
    pub const MISSING: u8 = 2;
    /// Wrong usage, or something else than the kernel failed.
    pub const INTERNAL: u8 = 4;
    /// Interrupted.
    pub const INTERRUPTED: u8 = 130;
}

/// One scenario or self-test on one machine.
#[derive(Clone, Debug)]
pub struct Row {
    /// What was asked for.
    pub request: Request,
    /// Whether it is a test of the kernel itself.
    pub self_test: bool,
    /// What came out.
    pub verdict: Verdict,
    /// For a hang: where each processor was, in words.
    pub places: Vec<String>,
    /// A command that runs this again.
    pub again: String,
}

/// How good a row is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Judgement {
    /// Nothing failed.
    Good,
    /// Something demanded was not seen.
    Missing,
    /// Something failed.
    Bad,
    /// Something else than the kernel failed.
    Internal,
}

/// All of it.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The rows, in the order they were run.
    pub rows: Vec<Row>,
    /// QEMU's version.
    pub qemu: String,
    /// How processors were run.
    pub accelerator: Accelerator,
    /// How many processors each machine had.
    pub cpus: usize,
    /// The seed.
    pub seed: u64,
    /// How the world was broken.
    pub sabotage: Option<String>,
    /// Whether what is expected is demanded.
    pub demand: bool,
    /// Names that were not run because of an interruption.
    pub unfinished: Vec<String>,
    /// How long all of it took.
    pub elapsed: Duration,
}

impl Summary {
    /// How good a row is.
    pub fn judge(&self, row: &Row) -> Judgement {
        match &row.verdict.failure {
            Some(Failure::Internal(_)) => Judgement::Internal,
            Some(_) => Judgement::Bad,
            None if self.demand && row.verdict.missing().next().is_some() => Judgement::Missing,
            None => Judgement::Good,
        }
    }

    /// The exit code: the worst of all rows.
    pub fn exit(&self) -> u8 {
        let worst = self.rows.iter().map(|row| self.judge(row)).max();
        match worst {
            Some(Judgement::Internal) => exit::INTERNAL,
            Some(Judgement::Bad) => exit::VIOLATION,
            _ if !self.unfinished.is_empty() => exit::INTERRUPTED,
            Some(Judgement::Missing) => exit::MISSING,
            Some(Judgement::Good) => exit::GOOD,
            None => exit::INTERNAL,
        }
    }

    /// A number that two invocations share if the kernels wrote the same in both.
    pub fn fingerprint(&self) -> u64 {
        let prints = self.rows.iter().map(|row| row.verdict.fingerprint);
        prints.fold(0, |all, one| (all ^ one).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
}
