//! The command line.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use weft_scenarios::sabotage::{Sabotage, Side};
use weft_shell::arguments::{About, Format};
use weft_shell::select::did_you_mean;

/// Boots the kernel under QEMU, once for every scenario, and says how it went.
///
/// Afterwards it boots broken worlds, which must be noticed. Those run processors in turn and count
/// instructions, whatever the others do. Then it asks the models which outcomes they allow, and
/// searches them for what failed.
#[derive(Debug, Parser)]
#[command(name = "qemu", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) about: Option<About>,
    /// Parts of names of scenarios, or of the kernel's own tests, or patterns with `*`, `?` and
    /// `[...]` that whole names fit; a whole name selects only that.
    #[arg(value_name = "FILTER")]
    pub(crate) filters: Vec<String>,
    /// Leave out scenarios whose names fit this, as a FILTER does; can be repeated.
    #[arg(long, value_name = "FILTER")]
    pub(crate) skip: Vec<String>,
    /// How many processors each machine has.
    #[arg(long, value_name = "N", default_value_t = 4,
        value_parser = clap::value_parser!(u8).range(1..=8))]
    pub(crate) cpus: u8,
    /// How often a scenario is repeated in a boot.
    #[arg(long, value_name = "N", default_value_t = 1000,
        value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) repeat: u64,
    /// What runs the processors.
    #[arg(long, value_enum, default_value_t = Accel::Tcg)]
    pub(crate) accel: Accel,
    /// How many machines are booted for each scenario and each twin, with one seed after the other.
    /// A twin counts as noticed if 95 of 100 are.
    #[arg(long, value_name = "N", default_value_t = 1,
        value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) boots: u64,
    /// Boot one scenario after the other for so long, as 90s, 10m or 1h, with one seed after the
    /// other. Twins are left out.
    #[arg(long, value_name = "TIME", value_parser = time)]
    #[arg(conflicts_with_all = ["boots", "sabotage"])]
    pub(crate) soak: Option<Duration>,
    /// Machines at the same time, where a machine is one thread of the host; as many as there are
    /// cores if not said.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) jobs: Option<u16>,
    /// The seed of delays, rotation and preemption in the first boot. If not said, 1, and with
    /// --soak a random one, which is printed.
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// How results are written.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub(crate) format: Format,
    /// Write a line of JSON to this file too as soon as a machine has ended. See docs/results.md.
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Write a web page for each scenario that fails, and an index of the run, into this folder.
    /// Without it the pages of failures go to target/report.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) report: Option<PathBuf>,
    /// Compare the index of the report with these results of an earlier run: a document that
    /// `--format json` has written.
    #[arg(long, value_name = "FILE", requires = "report")]
    pub(crate) earlier: Option<PathBuf>,
    /// End at the first machine that does not end well.
    #[arg(long)]
    pub(crate) fail_fast: bool,
    /// List the scenarios and the kernel's own tests instead.
    #[arg(long)]
    pub(crate) list: bool,
    /// Build the kernel, say where its image is, and boot nothing.
    #[arg(long, conflicts_with = "list")]
    pub(crate) build: bool,
    /// Boot this image of a kernel, instead of building one.
    #[arg(long, value_name = "PATH", conflicts_with = "build")]
    pub(crate) image: Option<PathBuf>,
    /// Run processors in turn and count instructions, so that one seed is one run, to the last
    /// byte; a fingerprint of what the kernels wrote is printed.
    #[arg(long, conflicts_with = "accel")]
    pub(crate) deterministic: bool,
    /// Demand that every situation and every interesting outcome is seen.
    #[arg(long)]
    pub(crate) demand: bool,
    /// Seconds after which a machine counts as hung.
    #[arg(long, value_name = "SECONDS", default_value_t = 60,
        value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) timeout: u64,
    /// Break the world in all runs: no-shootdown, torn-updates, freed-at-once, never-freed,
    /// forgotten-cpu-N, lost-count, lock-kept, stray-kept, or (self-test good-tables)
    /// tables-changed; or mistake-NAME, a role as a caller once wrote it (--list shows them). Exit
    /// codes: 1 caught, 2 survived.
    #[arg(long, value_name = "HOW", value_parser = sabotage)]
    pub(crate) sabotage: Option<Sabotage>,
    /// Leave out the twins, the broken worlds that must be noticed.
    #[arg(long)]
    pub(crate) no_twins: bool,
    /// Show how often each outcome and each situation was seen.
    #[arg(long)]
    pub(crate) counts: bool,
    /// Leave out the models: neither compare what machines saw with what they allow, nor search
    /// them for what failed.
    #[arg(long)]
    pub(crate) no_models: bool,
    /// The `model-check` to ask for what the models allow; built if not said.
    #[arg(long, value_name = "PATH", conflicts_with = "no_models")]
    pub(crate) model_check: Option<PathBuf>,
    /// Show what the kernels log.
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

/// What runs the processors.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Accel {
    /// Translation: on any host.
    Tcg,
    /// The host's processor, if a probe boot shows that it can.
    Kvm,
}

impl Arguments {
    /// The seed of the first boot. Random ones have nine digits, so that they can be typed.
    pub(crate) fn seed(&self) -> u64 {
        let random = || RandomState::new().build_hasher().finish() % 1_000_000_000;
        self.seed.unwrap_or_else(|| if self.soak.is_some() { random() } else { 1 })
    }

    /// Whether broken worlds are run besides.
    pub(crate) fn has_twins(&self) -> bool {
        !self.no_twins && self.sabotage.is_none() && self.soak.is_none()
    }

    /// How many machines run at the same time.
    pub(crate) fn jobs(&self) -> usize {
        let cores = || thread::available_parallelism().map_or(1, usize::from);
        self.jobs.map_or_else(cores, usize::from)
    }
}

/// A time with its unit.
fn time(text: &str) -> Result<Duration, String> {
    let units = [("s", 1), ("m", 60), ("h", 3600)];
    let parsed = units.into_iter().find_map(|(unit, seconds)| {
        let number: u32 = text.strip_suffix(unit)?.parse().ok()?;
        (number > 0).then(|| Duration::from_secs(u64::from(number) * seconds))
    });
    parsed.ok_or_else(|| "use a number and its unit, as in 90s, 10m or 1h".to_owned())
}

fn sabotage(name: &str) -> Result<Sabotage, String> {
    let known = name.parse::<Sabotage>();
    known.map_err(|sentence| sentence + &did_you_mean(name, &Sabotage::names()))?.on(Side::Machine)
}
