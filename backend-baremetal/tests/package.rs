//! What a stranger gets: packages that build by themselves, and a program that uses them.
//!
//! `cargo package` packs the core, the explorer and this library, and builds each from what it
//! packed. Then the program of the first page is built outside of the workspace from the packed
//! library, and run. No network is needed: what they depend on, the workspace depends on too.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const PACKAGES: [&str; 3] = ["weft-page-table", "weft-explorer", "weft-backend-baremetal"];

/// The most packages in the lock file of the program, its own included.
const LOCKED_MAX: usize = 8;

/// The most lines of code of the program.
const LINES_MAX: usize = 45;

/// A folder outside of any workspace, removed in the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("weft-package-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a temporary folder can be made");
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What stays is in the way of nothing.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs cargo in a folder, and gives what it printed.
#[track_caller]
fn cargo(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .arg("--offline")
        .current_dir(folder)
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_TARGET_DIR")
        .output()
        .expect("cargo starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {arguments:?} fails:\n{errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The manifest of a program that uses the packed library.
fn manifest(packed: &Path) -> String {
    let path = |name: &str| packed.join(format!("{name}-{}", env!("CARGO_PKG_VERSION")));
    let (core, backend) = (path("weft-page-table"), path("weft-backend-baremetal"));
    format!(
        "[package]\nname = \"stranger\"\nedition = \"2024\"\n\n[dependencies]\n\
         weft-core = {{ package = \"weft-page-table\", version = \"0.1\" }}\n\
         weft-backend-baremetal = {{ path = {backend:?} }}\n\n\
         [patch.crates-io]\nweft-page-table = {{ path = {core:?} }}\n\n[workspace]\n"
    )
}

#[test]
fn a_stranger_has_a_page_mapped_with_what_is_packed() {
    let workspace = Path::new("..").canonicalize().expect("tests run in their package");
    let folder = Folder::new();
    let target = folder.0.join("packed");
    let target_text = target.to_str().expect("the path is text");
    let mut package = vec!["package", "--allow-dirty", "--target-dir", target_text];
    package.extend(PACKAGES.iter().flat_map(|name| ["--package", name]));
    cargo(&workspace, &package);
    let packed = target.join("package");
    for name in PACKAGES {
        let root = packed.join(format!("{name}-{}", env!("CARGO_PKG_VERSION")));
        for file in ["LICENSE-MIT", "LICENSE-APACHE", "README.md"] {
            assert!(root.join(file).is_file(), "{name} is packed without {file}");
        }
    }
    let text = fs::read_to_string("examples/first_page.rs").expect("the example is there");
    let is_code = |line: &&str| !line.trim().is_empty() && !line.trim().starts_with("//");
    let lines = text.lines().filter(is_code).count();
    assert!(lines <= LINES_MAX, "the program of the first page has {lines} lines");
    let program = folder.0.join("stranger");
    fs::create_dir_all(program.join("src")).expect("folders can be made");
    fs::write(program.join("src/main.rs"), text).expect("files can be written");
    fs::write(program.join("Cargo.toml"), manifest(&packed)).expect("files can be written");
    let said = cargo(&program, &["run", "--quiet"]);
    assert!(said.contains("leads to") && said.contains("1 page unmapped"), "it says {said:?}");
    let lock = fs::read_to_string(program.join("Cargo.lock")).expect("cargo has locked");
    let locked: Vec<_> = lock.lines().filter(|line| line.starts_with("name = ")).collect();
    assert!(locked.len() <= LOCKED_MAX, "{} packages are locked: {locked:?}", locked.len());
}
