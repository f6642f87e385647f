//! Collects the scenario files into the command, and the text of the core that it is built with.

#[path = "../../scenarios/collect.rs"]
mod collect;

use std::path::{Path, PathBuf};
use std::{env, fs};

/// The workspace, seen from the package.
const ROOT: &str = "../..";

fn main() {
    collect::scenarios(ROOT, "pub(crate)", true);
    core_text();
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
