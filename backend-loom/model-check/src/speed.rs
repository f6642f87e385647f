//! Engines side by side, in one run on one machine: how many executions, how long, how much memory.
//!
//! The explorer and loom (with companions) get the same programs: locks and litmus shapes that use
//! nothing but an engine, and every scenario. Each exploration has a process of its own, so that
//! its peak memory is its own, and they run one after the other, so that none disturbs the other.

use std::process::Command;
use std::time::Duration;

use comfy_table::Cell;
use serde_json::json;
use weft_backend_loom::child;
use weft_backend_loom::chosen::{Chosen, EngineName};
use weft_backend_loom::engine::Verdict;
use weft_backend_loom::harness;
use weft_backend_loom::programs;
use weft_backend_loom::report::{Report, Request};
use weft_shell::arguments::Form;
use weft_shell::text::table;
use weft_shell::{exit, print, print_json};

use crate::arguments::Speed;
use crate::checkers::{self, NAMES};

/// The engines that are compared, the faster one first.
const ENGINES: [EngineName; 2] = [EngineName::Explorer, EngineName::Loom];

/// One program under both engines.
struct Row {
    name: String,
    reports: [Option<Report>; 2],
}

/// Measures one small program in this process, for [`compare`].
///
/// # Errors
///
/// One sentence, if the program or the engine does not exist, or nobody asked.
pub(crate) fn answer(program: &str, engine: &str) -> Result<u8, String> {
    let request = child::asked().ok_or("`measure` is for model-check itself: leave it out")?;
    let checker = checkers::find(engine).ok_or("the parent asked for an unknown engine")?;
    let named = programs::all::<Chosen>().into_iter().find(|named| named.name == program);
    let named = named.ok_or("the parent asked for an unknown program")?;
    child::answer(&harness::measure(checker.engine, named, request))
}

/// Runs everything and prints the table.
///
/// # Errors
///
/// One sentence, if a checking process could not be asked or the table not be written.
pub(crate) fn compare(options: &Speed) -> Result<u8, String> {
    let mut rows = Vec::new();
    for named in programs::all::<Chosen>() {
        let fits = |engine: EngineName| named.cpus <= engine.traits().cpus_max;
        rows.push(row(named.name, &["measure", named.name], fits, options)?);
    }
    for name in NAMES {
        rows.push(row(name, &["child", name], |_| true, options)?);
    }
    match options.format {
        Form::Human => print(&text(&rows, options.time))?,
        Form::Json => print_json(&document(&rows))?,
    }
    let failed = rows.iter().flat_map(|row| row.reports.iter().flatten());
    let failed = failed.filter(|report| report.failure.is_some()).count();
    Ok(if failed == 0 { exit::GOOD } else { exit::VIOLATION })
}

fn row(
    name: &str,
    arguments: &[&str],
    fits: impl Fn(EngineName) -> bool,
    options: &Speed,
) -> Result<Row, String> {
    let me = std::env::current_exe().map_err(|error| format!("cannot find myself: {error}"))?;
    let ask = |engine: EngineName| {
        let request =
            Request { time: options.time, workers: options.threads, ..Request::default() };
        tracing::info!("{name} under {engine}");
        child::ask(Command::new(&me).args(arguments).arg(engine.traits().name), &request, |_| {})
    };
    let mut reports = [None, None];
    for (report, engine) in reports.iter_mut().zip(ENGINES) {
        if fits(engine) {
            *report = Some(ask(engine).map_err(|error| format!("{name} under {engine}: {error}"))?);
        }
    }
    Ok(Row { name: name.to_owned(), reports })
}

fn text(rows: &[Row], time: Duration) -> String {
    let header = [
        "program",
        "explorer",
        "executions",
        "blocked",
        "ms",
        "per s",
        "MiB",
        "loom",
        "executions",
        "ms",
        "per s",
        "MiB",
        "time ratio",
    ];
    let mut table = table(&header, 2..header.len());
    for Row { name, reports } in rows {
        let mut cells = vec![Cell::new(name)];
        for (report, has_blocked) in reports.iter().zip([true, false]) {
            cells.extend(figures(report.as_ref(), has_blocked).map(Cell::new));
        }
        cells.push(Cell::new(ratio(reports)));
        table.add_row(cells);
    }
    format!(
        "{table}\n\nloom runs with companion words; both engines without bounds, \
         at most {} s each;\na search that was cut counts with the time it was given\n",
        time.as_secs()
    )
}

/// The columns of one engine.
fn figures(report: Option<&Report>, has_blocked: bool) -> impl Iterator<Item = String> + use<> {
    let cells = report.map_or_else(
        || vec!["-".to_owned(); 6],
        |report| {
            let seconds = report.elapsed.as_secs_f64();
            let cut = report.verdict != Verdict::Exhausted;
            vec![
                report.verdict.to_string(),
                format!("{}{}", if cut { "> " } else { "" }, report.executions),
                report.blocked.to_string(),
                format!("{:.1}", seconds * 1e3),
                format!("{:.0}", report.executions as f64 / seconds.max(1e-6)),
                format!("{:.1}", report.memory_peak as f64 / f64::from(1 << 20)),
            ]
        },
    );
    cells.into_iter().enumerate().filter(move |(at, _)| has_blocked || *at != 2).map(|(_, it)| it)
}

/// How many times longer loom took.
fn ratio([explorer, loom]: &[Option<Report>; 2]) -> String {
    let (Some(explorer), Some(loom)) = (explorer, loom) else { return "-".to_owned() };
    let cut = loom.verdict != Verdict::Exhausted;
    let times = loom.elapsed.as_secs_f64() / explorer.elapsed.as_secs_f64().max(1e-6);
    format!("{}{times:.1}", if cut { "> " } else { "" })
}

fn document(rows: &[Row]) -> serde_json::Value {
    let engines = |row: &Row| -> serde_json::Value {
        let reports = row.reports.iter().flatten();
        reports
            .map(|report| {
                json!({
                    "engine": report.engine,
                    "verdict": report.verdict.to_string(),
                    "executions": report.executions,
                    "blocked": report.blocked,
                    "seconds": report.elapsed.as_secs_f64(),
                    "memory_peak_bytes": report.memory_peak,
                })
            })
            .collect()
    };
    rows.iter().map(|row| json!({ "program": row.name, "engines": engines(row) })).collect()
}
