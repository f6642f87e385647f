//! Collects the scenario files, and makes the kernel a bare-metal image if asked to.
//!
//! The binary is a kernel if `BARE_METAL=1` is set or the target has no operating system;
//! otherwise it is a stub with a `main`, so that `cargo build|test|clippy --workspace` works on
//! every host. Everything that linking a kernel needs is said here: there are no RUSTFLAGS.

#[path = "../../scenarios/collect.rs"]
mod collect;

use std::env;

fn main() {
    collect::scenarios("../..", "pub(crate)", false);
    println!("cargo::rerun-if-env-changed=BARE_METAL");
    println!("cargo::rerun-if-changed=kernel.ld");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(bare_metal)");
    let variable = |key: &str| env::var(key).unwrap_or_default();
    let without_system = variable("CARGO_CFG_TARGET_OS") == "none";
    if !without_system && variable("BARE_METAL") != "1" {
        return;
    }
    if variable("CARGO_CFG_TARGET_ARCH") != "x86_64" {
        println!("cargo::error=the kernel runs on x86_64 only: build it for such a target");
        return;
    }
    println!("cargo::rustc-cfg=bare_metal");
    link(without_system);
}

/// Tells rustc how to link the kernel.
fn link(without_system: bool) {
    // cargo runs rustc in the folder of the workspace, and rustc the linker. Seen from there, the
    // path is right in a copied checkout too.
    let script = "-Tbackend-baremetal/kernel/kernel.ld";
    // rustc asks for read-only relocations and a frame header earlier; the last word counts.
    let arguments =
        [script, "--build-id=none", "-zmax-page-size=0x1000", "-znorelro", "--no-eh-frame-hdr"];
    let argument = |text: &str| println!("cargo::rustc-link-arg-bins={text}");
    if without_system {
        // rustc runs the linker itself.
        argument("-no-pie");
        arguments.into_iter().for_each(argument);
    } else {
        // rustc runs `cc`, which runs the linker.
        ["-nostartfiles", "-nostdlib", "-static", "-no-pie"].into_iter().for_each(argument);
        arguments.into_iter().for_each(|text| argument(&format!("-Wl,{text}")));
    }
}
