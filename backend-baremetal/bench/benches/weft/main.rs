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
    let selected: Vec<Planned> = rows::all().filter(|row| arguments.selects(row.name())).collect();
    if selected.is_empty() {
        return Err("no row has a name like that: --list shows the names".to_owned());
    }
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
    let report = Report { rounds: arguments.rounds(), machine: machine(), rows: measured };
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

/// What the operating system calls the processor.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let about = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = about.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("a processor", |line| line.trim_start_matches([' ', '\t', ':']));
    format!("{model}, {cores} cores")
}
