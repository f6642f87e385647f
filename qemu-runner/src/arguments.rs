//! The command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use weft_scenarios::sabotage::{Sabotage, Side};
use weft_shell::arguments::Format;

/// Boots the kernel under QEMU, once for every scenario, and says how it went.
///
/// Afterwards it boots broken worlds, which must be noticed. Those run processors in turn and count
/// instructions, whatever the others do. Then it asks the models which outcomes they allow, and
/// searches them for what failed.
#[derive(Debug, Parser)]
#[command(name = "qemu", version, after_help = weft_shell::exit::TABLE)]
pub(crate) struct Arguments {
    /// Parts of names of scenarios, or of the kernel's own tests; a whole name selects only that.
    #[arg(value_name = "FILTER")]
    pub(crate) filters: Vec<String>,
    /// How many processors each machine has.
    #[arg(long, value_name = "N", default_value_t = 4,
        value_parser = clap::value_parser!(u8).range(1..=8))]
    pub(crate) cpus: u8,
    /// How often a scenario is repeated.
    #[arg(long, value_name = "N", default_value_t = 1000,
        value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) repeat: u64,
    /// What runs the processors.
    #[arg(long, value_enum, default_value_t = Accel::Tcg)]
    pub(crate) accel: Accel,
    /// The seed of delays, rotation and preemption.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// How results are written.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub(crate) format: Format,
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

fn sabotage(name: &str) -> Result<Sabotage, String> {
    name.parse::<Sabotage>()?.on(Side::Machine)
}
