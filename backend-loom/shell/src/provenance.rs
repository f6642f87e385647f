//! What results belong to: which tool, which state of the code, which machine, and when.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::checkout;

/// What results belong to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Provenance {
    /// The command.
    pub tool: String,
    /// Its version.
    pub tool_version: String,
    /// The commit that is checked out where the command was started.
    pub commit: Option<String>,
    /// Whether files differ from that commit.
    pub modified: Option<bool>,
    /// The machine.
    pub host: Host,
    /// When the run began, in seconds since 1970.
    pub started: u64,
}

/// A machine.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Host {
    /// The operating system and its version, as far as it tells.
    pub system: String,
    /// The architecture of its processors.
    pub architecture: String,
    /// What the operating system calls the processor.
    pub processor: String,
    /// How many processors there are for us.
    pub cores: usize,
}

impl Provenance {
    /// What results of this process belong to.
    pub fn here(tool: &str, tool_version: &str) -> Self {
        let root = checkout::root().ok();
        let git = |arguments: &[&str]| root.as_deref().and_then(|root| git(root, arguments));
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self {
            tool: tool.to_owned(),
            tool_version: tool_version.to_owned(),
            commit: git(&["rev-parse", "HEAD"]),
            modified: git(&["status", "--porcelain"]).map(|lines| !lines.is_empty()),
            host: Host::here(),
            started: since_1970.map_or(0, |time| time.as_secs()),
        }
    }
}

impl Host {
    /// This one.
    pub fn here() -> Self {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let about = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = about.lines().find_map(|line| line.strip_prefix("model name"));
        let model = model.map_or("a processor", |line| line.trim_start_matches([' ', '\t', ':']));
        Self {
            system: format!("{} {}", std::env::consts::OS, release.trim()).trim_end().to_owned(),
            architecture: std::env::consts::ARCH.to_owned(),
            processor: model.to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

/// What git answers, if it is there and knows the folder.
fn git(root: &Path, arguments: &[&str]) -> Option<String> {
    let mut git = Command::new("git");
    git.arg("-C").arg(root).args(arguments).stdin(Stdio::null());
    let output = git.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
