//! Fetches the crates, and builds their tests on one side or the other.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::subjects::{LOOM, SUBJECTS, Subject};

/// What the tests run on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    Loom,
    Weft,
}

/// Where the crates are, and where they are built.
pub(crate) struct Place {
    root: PathBuf,
    folder: PathBuf,
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    let folder = path.parent().map_or(Ok(()), fs::create_dir_all);
    folder
        .and_then(|()| fs::write(path, text))
        .map_err(|error| format!("{} cannot be written: {error}", path.display()))
}

fn package(name: &str) -> String {
    format!(
        "[package]\nname = \"{name}\"\nversion = \"0.0.0\"\nedition = \"2021\"\n\n[workspace]\n\n\
         [lib]\npath = \"lib.rs\"\n\n[dependencies]\n"
    )
}

impl Place {
    /// Lets cargo fetch the crates from the registry.
    pub(crate) fn fetch(root: &Path) -> Result<Place, String> {
        let folder = root.join("target/facade-check");
        let mut manifest = package("fetched");
        for subject in SUBJECTS {
            let _ = writeln!(manifest, "{} = \"={}\"", subject.name, subject.version);
        }
        let fetched = folder.join("fetched");
        write(&fetched.join("Cargo.toml"), &manifest)?;
        write(&fetched.join("lib.rs"), "")?;
        let place = Place { root: root.to_owned(), folder };
        let mut vendor = Command::new("cargo");
        vendor.args(["vendor", "--quiet", "--versioned-dirs"]).arg(place.folder.join("crates"));
        let status = vendor.current_dir(&fetched).stdout(Stdio::null()).status();
        match status {
            Ok(status) if status.success() => place.write_own_tests().map(|()| place),
            _ => Err("cargo could not fetch the crates: connect to the registry, and run this \
                      again"
                .to_owned()),
        }
    }

    fn source(&self, subject: &Subject) -> PathBuf {
        if subject.name == LOOM {
            return self.folder.join("own");
        }
        self.crate_of(subject)
    }

    fn crate_of(&self, subject: &Subject) -> PathBuf {
        self.folder.join("crates").join(format!("{}-{}", subject.name, subject.version))
    }

    /// A package whose tests are the files that the crate of loom ships.
    fn write_own_tests(&self) -> Result<(), String> {
        let Some(loom) = SUBJECTS.iter().find(|subject| subject.name == LOOM) else {
            return Ok(());
        };
        let mut manifest = package("own");
        let _ = write!(
            manifest,
            "loom = {{ version = \"{}\", features = [\"futures\"] }}\nfutures-util = \"0.3\"\n\n\
             [features]\nfutures = []\n\n[lints.rust]\nunexpected_cfgs = \"allow\"\n",
            loom.version
        );
        let tests = self.crate_of(loom).join("tests");
        let files = fs::read_dir(&tests)
            .map_err(|error| format!("{} cannot be read: {error}", tests.display()))?;
        let mut files: Vec<PathBuf> = files.flatten().map(|file| file.path()).collect();
        files.sort();
        for file in files {
            let name = file.file_stem().unwrap_or_default().to_string_lossy();
            let _ = write!(
                manifest,
                "\n[[test]]\nname = \"{name}\"\npath = {:?}\n",
                file.display().to_string()
            );
        }
        let own = self.source(loom);
        write(&own.join("Cargo.toml"), &manifest)?;
        write(&own.join("lib.rs"), "")
    }

    /// Builds the tests of a crate; returns the programs, in the order of their names.
    pub(crate) fn build(&self, subject: &Subject, side: Side) -> Result<Vec<PathBuf>, String> {
        let source = self.source(subject);
        // The two sides resolve to different packages.
        let _ = fs::remove_file(source.join("Cargo.lock"));
        let mut cargo = Command::new("cargo");
        cargo.args(["test", "--release", "--no-run", "--message-format", "json"]);
        cargo.args(subject.target).current_dir(&source);
        let (side_name, flags) = (format!("{side:?}").to_lowercase(), subject.cfg);
        cargo.arg("--target-dir").arg(self.folder.join("built").join(side_name));
        cargo.env("RUSTFLAGS", format!("--cfg {flags} --cap-lints warn"));
        if side == Side::Weft {
            let facade = self.root.join("explorer/loom").display().to_string();
            cargo.args(["--config", &format!("patch.crates-io.loom.path={facade:?}")]);
        }
        let output = cargo.output().map_err(|error| format!("cargo does not start: {error}"))?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{} does not build on {side:?}:\n{text}", subject.name));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let mut programs: Vec<PathBuf> = text.lines().filter_map(executable).collect();
        // Names end with a hash that differs.
        programs.sort_by_key(|program| {
            let name = program.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            name.rsplit_once('-').map(|(name, _)| name.to_owned())
        });
        Ok(programs)
    }
}

/// The program that a line of cargo's messages names.
fn executable(line: &str) -> Option<PathBuf> {
    let (_, rest) = line.split_once("\"executable\":\"")?;
    rest.split('"').next().map(PathBuf::from)
}
