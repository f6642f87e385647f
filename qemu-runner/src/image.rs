//! Builds the kernel: a cargo inside, with what the kernel's build script wants to know.
//!
//! It is a build of its own package with its own profile, never of the workspace: features of host
//! crates must not reach it. Flags for the compiler that a user has set for hosts are taken away.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;
use weft_shell::checkout;

const PACKAGE: &str = "weft-kernel";
const BINARY: &str = "weft-kernel";

/// The folder of the workspace that the current folder is in.
///
/// # Errors
///
/// One sentence, if it is in none.
pub fn workspace() -> Result<PathBuf, String> {
    checkout::root()
}

/// Builds the kernel and says where it is.
///
/// # Errors
///
/// One sentence, if the current folder is in no workspace, or cargo cannot be run or does not
/// succeed; it has written its reasons already.
pub fn build() -> Result<PathBuf, String> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(&cargo);
    command
        .args(["build", "--package", PACKAGE, "--bin", BINARY, "--profile", "kernel"])
        .args(["--message-format=json-render-diagnostics", "--quiet"])
        .current_dir(workspace()?)
        .env("BARE_METAL", "1")
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    let target = target();
    if let Some(target) = &target {
        command.arg("--target").arg(target);
    }
    let output = command.output().map_err(|error| {
        format!("cargo cannot be run ({error}): install Rust from https://rustup.rs")
    })?;
    if !output.status.success() {
        let mut sentence =
            "the kernel does not build: mend what the compiler says above".to_owned();
        if let Some(target) = target {
            sentence += &format!(", or run `rustup target add {}`", target.to_string_lossy());
        }
        return Err(sentence);
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let image = messages.lines().filter_map(|line| executable(line, BINARY)).next_back();
    image.ok_or_else(|| "cargo built no kernel: its messages name no executable".to_owned())
}

/// What to build for, if not for the host: elsewhere than on x86-64 Linux a target that needs no
/// tools of the host.
fn target() -> Option<OsString> {
    let fits = cfg!(all(target_arch = "x86_64", target_os = "linux"));
    env::var_os("KERNEL_TARGET").or_else(|| (!fits).then(|| "x86_64-unknown-none".into()))
}

/// The program called `name`, if a message of cargo's says that it was built.
pub(crate) fn executable(message: &str, name: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(message).ok()?;
    let is_wanted = message["target"]["name"] == name;
    is_wanted.then(|| message["executable"].as_str().map(PathBuf::from))?
}
