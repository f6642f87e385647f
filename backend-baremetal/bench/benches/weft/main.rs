//! The benchmark behind `just bench`.
//!
//! [`rows`] is what is measured, [`peers`] are the other crates; the rest is in the library.

mod peers;
mod pictures;
mod rows;

use std::fs;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use weft_bench::arguments::Arguments;
use weft_bench::heap::Counting;
use weft_bench::measure::measure;
use weft_bench::report::Report;
use weft_core::address::CpuId;
use weft_shell::provenance::Provenance;
use weft_shell::{exit, print, print_json};

use crate::rows::{Planned, Size};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> ExitCode {
    weft_shell::run(|arguments: Arguments| {
        weft_backend_baremetal::hosted::on_cpu(CpuId::new(0), || bench(&arguments))
    })
}

/// Says what is being measured, where a person looks on.
fn progress(what: &str) {
    if io::stderr().is_terminal() {
        let _ = write!(io::stderr(), "\r\x1b[2K{what}");
    }
}

fn bench(arguments: &Arguments) -> Result<u8, String> {
    let all: Vec<Planned> = rows::all().collect();
    let names: Vec<&str> = all.iter().map(Planned::name).collect();
    let wanted = arguments.select(&names)?;
    let selected: Vec<Planned> =
        all.into_iter().zip(wanted).filter_map(|(row, wanted)| wanted.then_some(row)).collect();
    if arguments.list {
        for row in selected {
            print(&format!("{}\n", row.name()))?;
        }
        return Ok(exit::GOOD);
    }
    let mut measured = Vec::new();
    for row in selected {
        progress(row.name());
        measured.push(measure(row.make(Size::FULL)?, arguments.rounds()));
    }
    if let Some(folder) = &arguments.plot {
        let folder = arguments.path(folder);
        fs::create_dir_all(&folder)
            .map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
        pictures::write(&folder, arguments.rounds(), progress)?;
    }
    progress("");
    let provenance = Provenance::here("bench", env!("CARGO_PKG_VERSION"));
    let report = Report { rounds: arguments.rounds(), provenance, rows: measured };
    if let Some(path) = arguments.json.as_ref().filter(|_| !arguments.json_is_output()) {
        let path = arguments.path(path);
        fs::write(&path, format!("{:#}\n", report.json()))
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    if arguments.json_is_output() {
        print_json(&report.json())?;
    } else {
        print(&report.text())?;
    }
    Ok(report.exit(arguments.check))
}
