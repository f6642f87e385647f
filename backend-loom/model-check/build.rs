//! Collects the scenario files into the command, the text of the core that it is built with, and
//! the state of all code that verdicts are about.

#[path = "../../scenarios/collect.rs"]
mod collect;

use std::path::{Path, PathBuf};
use std::{env, fs};

/// The workspace, seen from the package.
const ROOT: &str = "../..";

fn main() {
    collect::scenarios(ROOT, "pub(crate)", true);
    core_text();
    state();
}

/// What verdicts depend on: the core, what is run on it, and how that is explored.
const CODE: [&str; 7] = [
    "core/src",
    "scenarios/src",
    "scenarios/tests",
    "explorer/src",
    "backend-loom/src",
    "backend-loom/model-check/src",
    "Cargo.lock",
];

/// Writes a number that changes with the code: a hash after Fowler, Noll and Vo (FNV-1a), which is
/// the same on every host and for good.
fn state() {
    let root = Path::new(ROOT);
    let mut files = Vec::new();
    for path in CODE.map(|path| root.join(path)) {
        println!("cargo::rerun-if-changed={}", path.display());
        if path.is_dir() { collect_files(&path, &mut files) } else { files.push(path) }
    }
    files.sort();
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for path in files {
        let name = path.strip_prefix(root).expect("it is below the workspace");
        let text = fs::read(&path).expect("a file of the workspace can be read");
        let name = name.to_str().expect("names are text").as_bytes();
        for byte in name.iter().chain(&(text.len() as u64).to_le_bytes()).chain(&text) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    let short = (hash ^ hash >> 32) as u32;
    let text = format!("/// The number.\npub(crate) const STATE: &str = \"{short:08x}\";\n");
    let out = env::var_os("OUT_DIR").expect("cargo says where output goes");
    fs::write(Path::new(&out).join("state.rs"), text).expect("the output directory can be written");
}

/// Writes a list of the core's files with their texts: coverage is about places in them.
fn core_text() {
    let root = Path::new(ROOT);
    let folder = root.join("core/src");
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut files = Vec::new();
    collect_files(&folder, &mut files);
    files.sort();
    let row = |path: &PathBuf| {
        let name = path.strip_prefix(root).expect("it is below the workspace").display();
        let text = fs::read_to_string(path).expect("a file of the core can be read");
        format!("    ({:?}, {text:?}),\n", name.to_string())
    };
    let rows: String = files.iter().map(row).collect();
    let out = env::var_os("OUT_DIR").expect("cargo says where output goes");
    let out = Path::new(&out).join("core.rs");
    fs::write(out, format!("&[\n{rows}]\n")).expect("the output directory can be written");
}

fn collect_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the core can be read") {
        let path = entry.expect("an entry can be read").path();
        if path.is_dir() {
            collect_files(&path, files);
        } else if path.extension() == Some("rs".as_ref()) {
            files.push(path);
        }
    }
}
