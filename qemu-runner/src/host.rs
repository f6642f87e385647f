//! The host: which QEMU there is, and how it is to run processors.
//!
//! *Threads.* With a core of the host for each processor, processors are threads and race for real.
//! With fewer they would wait for the host's scheduler most of the time; then one thread runs them
//! in turn, and counts instructions, so that the kernel's preemption timer cuts exactly where it is
//! told to. Without counting, a timer of the host's cuts a hundred times more rarely.
//!
//! *KVM* is used if asked for, and only after a short boot has shown that it can run this kernel.

use std::fmt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::machine::{self, Settings};
use crate::protocol::argument;
use crate::verdict::{self, Request};

/// The program.
const QEMU: &str = "qemu-system-x86_64";
/// The first version that boots by the PVH note.
const VERSION_MIN: (u32, u32) = (4, 0);
/// How long the probe of KVM may take.
const PROBE_PATIENCE: Duration = Duration::from_secs(5);

/// A QEMU that can be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Qemu {
    /// What to run.
    pub program: String,
    /// What it calls itself.
    pub version: String,
}

/// Finds QEMU.
///
/// # Errors
///
/// One sentence that says how to install it.
pub fn find_qemu() -> Result<Qemu, String> {
    find(QEMU)
}

fn find(program: &str) -> Result<Qemu, String> {
    let install = "install it with `sudo apt-get install qemu-system-x86`, `sudo dnf install \
                   qemu-system-x86` or `brew install qemu`";
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output();
    let output = output.map_err(|_| format!("{program} is missing: {install}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.split("version ").nth(1).and_then(|rest| rest.split_whitespace().next());
    let version =
        version.ok_or_else(|| format!("{program} does not say its version: {install}"))?;
    if number(version) < Some(VERSION_MIN) {
        let (major, minor) = VERSION_MIN;
        return Err(format!(
            "{program} {version} is too old, {major}.{minor} or newer is needed: {install}"
        ));
    }
    Ok(Qemu { program: program.to_owned(), version: version.to_owned() })
}

fn number(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// How processors are run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Accelerator {
    /// Translated, a thread for each.
    Threads,
    /// Translated, in turn, counting instructions: the same run every time.
    Counted,
    /// By the host's processor.
    Kvm,
}

impl Accelerator {
    /// What fits a machine of `cpus` processors on this host.
    pub fn fitting(cpus: usize) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        if cores >= cpus { Self::Threads } else { Self::Counted }
    }

    /// QEMU's words for it.
    pub(crate) fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Threads => &["-accel", "tcg,thread=multi", "-cpu", "max"],
            Self::Counted => {
                &["-accel", "tcg,thread=single", "-cpu", "max", "-icount", "shift=0,sleep=off"]
            }
            Self::Kvm => &["-accel", "kvm", "-cpu", "host"],
        }
    }
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Threads => "TCG with a thread for each",
            Self::Counted => "TCG counting instructions",
            Self::Kvm => "KVM",
        })
    }
}

/// Makes sure that KVM can run the kernel.
///
/// # Errors
///
/// One sentence that says why not, and what to do instead.
pub fn probe_kvm(qemu: &Qemu, image: &Path) -> Result<(), String> {
    let instead = "use --accel tcg";
    if !Path::new("/dev/kvm").exists() {
        return Err(format!("this host has no KVM: {instead}"));
    }
    if Path::new("/sys/module/kvm_pvm").exists() {
        return Err(format!(
            "this host's KVM only emulates ring 0, where the kernel runs: {instead}"
        ));
    }
    let settings = Settings {
        cpus: 2,
        accelerator: Accelerator::Kvm,
        patience: PROBE_PATIENCE,
        ..Settings::default()
    };
    let request = Request { name: "good-faults".to_owned(), repetitions: 1 };
    let command_line = format!("{}={}", argument::SELF_TEST, request.name);
    let run = machine::run(qemu, image, &settings, &command_line)?;
    match verdict::of(&request, &run).failure {
        None => Ok(()),
        Some(failure) => Err(format!("a probe boot under KVM failed ({failure}): {instead}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_said_with_how_to_install_it() {
        let sentence = find("qemu-system-that-nobody-has").expect_err("nobody has it");
        assert!(sentence.contains("is missing: install it with `sudo apt-get install"));
    }

    #[test]
    fn versions_compare_as_numbers() {
        assert!(number("10.0.2") > number("7.2.22"));
        assert!(number("3.1") < Some(VERSION_MIN));
        assert_eq!(number("unknown"), None);
    }
}
