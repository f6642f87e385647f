//! The command behind `just qemu`: every scenario on a machine of its own, then broken worlds.
//!
//! [`arguments`] is what people type, [`catalogue`] what there is, [`runner`] boots the machines,
//! [`record`] notes each as soon as it has ended; the rest is in the library.

mod arguments;
mod catalogue;
mod record;
mod runner;

use std::process::ExitCode;
use std::time::Duration;

use weft_qemu_runner::host::{self, Accelerator};
use weft_qemu_runner::machine::{self, Settings};
use weft_qemu_runner::protocol::argument;
use weft_qemu_runner::{documents, image, table};
use weft_scenarios::sabotage::Sabotage;
use weft_shell::arguments::{Form, Format};
use weft_shell::page::{Earlier, Pages, Unfit};
use weft_shell::{checkout, complain, exit, print, print_json};

use crate::arguments::{Accel, Arguments};
use crate::catalogue::Known;
use crate::record::Record;
use crate::runner::Bench;

fn main() -> ExitCode {
    weft_shell::run(|arguments: Arguments| {
        let level = if arguments.verbose { tracing::Level::DEBUG } else { tracing::Level::WARN };
        weft_shell::start_log(level)?;
        qemu(&arguments)
    })
}

fn qemu(arguments: &Arguments) -> Result<u8, String> {
    if let Some(about) = &arguments.about {
        return about.tell::<Arguments>();
    }
    if arguments.build {
        print(&format!("{}\n", image::build()?.display()))?;
        return Ok(exit::GOOD);
    }
    let earlier = match &arguments.earlier {
        Some(path) => match Earlier::read(path, documents::TOOL, documents::VERSION) {
            Ok(earlier) => Some(earlier),
            Err(Unfit { code, sentence }) => {
                complain(&sentence);
                return Ok(code);
            }
        },
        None => None,
    };
    let pages = Pages::new(arguments.report.as_deref(), earlier)?;
    let listed = arguments.list.then(|| arguments.format.of_list()).transpose()?;
    let bench = bench(arguments)?;
    let run = machine::run(&bench.qemu, &bench.image, &bench.settings, argument::LIST)?;
    let known = catalogue::of(run)?;
    if let Some(form) = listed {
        match form {
            Form::Json => print_json(&catalogue::json(&known))?,
            Form::Human => print(&catalogue::text(&known))?,
        }
        return Ok(exit::GOOD);
    }
    let selected = catalogue::select(&known, &arguments.filters, &arguments.skip)?;
    let selected = breakable(selected, arguments.sabotage)?;
    let most = selected.iter().map(|known| known.roles).max().unwrap_or(0);
    if u64::from(arguments.cpus) < most {
        return Err(format!(
            "--cpus {} is too few: the scenarios selected have up to {most} roles",
            arguments.cpus
        ));
    }
    let record = Record::begin(&bench, arguments)?;
    let mut summary = runner::run_all(&bench, arguments, &selected, &record)?;
    let written = pages.write(&mut summary);
    match arguments.format {
        Format::Human => {
            print(&table::of(&summary, arguments.counts, arguments.deterministic))?;
            if let Ok(Some(index)) = &written {
                print(&format!("report: {}\n", checkout::from_here(index).display()))?;
            }
        }
        Format::Json => print_json(&documents::json(&summary))?,
        Format::Junit => print(&documents::junit(&summary))?,
        Format::Github => print(&documents::github(&summary))?,
        // Every line was written as soon as there was something to tell.
        Format::Jsonl => {}
    }
    record.end(summary.exit(), summary.unfinished.len(), summary.elapsed)?;
    // What cannot be written takes nothing else along.
    written.map(|_| summary.exit())
}

/// What can be run in a world that is broken in this way.
///
/// # Errors
///
/// One sentence, if it is nothing: no scenario has such a CPU, or such a mistake.
fn breakable(selected: Vec<Known>, sabotage: Option<Sabotage>) -> Result<Vec<Known>, String> {
    let Some(sabotage) = sabotage else { return Ok(selected) };
    if let Sabotage::Mistake(_) = sabotage {
        let name = sabotage.to_string();
        return catalogue::with_mistake(&selected, &name);
    }
    let roles = |known: &Known| usize::try_from(known.roles).unwrap_or(usize::MAX);
    let most = selected.iter().map(roles).max().unwrap_or(0);
    let able: Vec<Known> =
        selected.into_iter().filter(|known| roles(known) >= sabotage.cpus_min()).collect();
    if able.is_empty() { Err(sabotage.too_few(most)) } else { Ok(able) }
}

fn bench(arguments: &Arguments) -> Result<Bench, String> {
    let qemu = host::find_qemu()?;
    let image = match &arguments.image {
        Some(image) if image.is_file() => image.clone(),
        Some(image) => return Err(format!("there is no image {}", image.display())),
        None => image::build()?,
    };
    let cpus = usize::from(arguments.cpus);
    let accelerator = match arguments.accel {
        Accel::Kvm => Accelerator::Kvm,
        Accel::Tcg if arguments.deterministic => Accelerator::Counted,
        Accel::Tcg => Accelerator::fitting(cpus),
    };
    if accelerator == Accelerator::Kvm {
        host::probe_kvm(&qemu, &image)?;
    }
    let patience = Duration::from_secs(arguments.timeout);
    let settings = Settings { cpus, accelerator, patience, ..Settings::default() };
    Ok(Bench { qemu, image, settings })
}
