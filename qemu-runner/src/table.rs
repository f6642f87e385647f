//! Results for people: a table, and for each failure what is known about it.

use std::fmt::Write as _;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Cell, CellAlignment, Color, ContentArrangement, Table};

use crate::host::Accelerator;
use crate::summary::{Judgement, Row, Summary};
use crate::verdict::{Count, Failure};

/// How many lines of the log follow a failure.
const LOG_LINES: usize = 12;

const HEADINGS: [&str; 10] = [
    "scenario",
    "verdict",
    "CPUs",
    "runs",
    "outcomes",
    "situations",
    "page faults",
    "shootdowns",
    "CR3 loads",
    "time",
];

/// The summary as text.
pub fn of(summary: &Summary, deterministic: bool) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(HEADINGS);
    for row in &summary.rows {
        table.add_row(cells(summary, row));
    }
    for column in table.column_iter_mut().skip(6) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let mut text = format!("{table}\n");
    for row in &summary.rows {
        if let Some(failure) = &row.verdict.failure {
            text += &describe(row, failure);
        }
    }
    text += &unseen(summary);
    text += &twins(summary);
    text += &conclusion(summary);
    if deterministic {
        writeln!(text, "FINGERPRINT {:016x}", summary.fingerprint()).expect("memory");
    }
    text
}

fn cells(summary: &Summary, row: &Row) -> Vec<Cell> {
    let (word, colour) = match summary.judge(row) {
        Judgement::Good => ("PASSED", Color::Green),
        Judgement::Missing => ("MISSING", Color::Yellow),
        Judgement::Bad => ("FAILED", Color::Red),
        Judgement::Internal => ("INTERNAL", Color::Red),
    };
    let verdict = &row.verdict;
    let number = |name| Cell::new(verdict.metric(name));
    vec![
        Cell::new(&row.request.name),
        Cell::new(word).fg(colour),
        Cell::new(verdict.cpus),
        Cell::new(row.request.repetitions),
        Cell::new(counts(&verdict.outcomes)),
        Cell::new(counts(&verdict.situations)),
        number("page faults"),
        number("shootdowns"),
        number("root loads"),
        Cell::new(format!("{:.2} s", verdict.elapsed.as_secs_f64())),
    ]
}

fn counts(counts: &[Count]) -> String {
    let lines = counts.iter().map(|count| format!("{} {}", count.times, count.name));
    lines.collect::<Vec<_>>().join("\n")
}

fn describe(row: &Row, failure: &Failure) -> String {
    let mut text = format!("\nFAILED {}: {failure}\n", row.request.name);
    if let Failure::Violation { cpu, location, .. } = failure {
        writeln!(text, "  processor {cpu}, {location}").expect("memory");
    }
    for place in &row.places {
        writeln!(text, "  {place}").expect("memory");
    }
    let log = &row.verdict.log;
    for line in &log[log.len().saturating_sub(LOG_LINES)..] {
        writeln!(text, "  | {line}").expect("memory");
    }
    writeln!(text, "  AGAIN  {}", row.again).expect("memory");
    text
}

fn unseen(summary: &Summary) -> String {
    let mut text = String::new();
    for row in summary.rows.iter().filter(|row| row.verdict.failure.is_none()) {
        for name in row.verdict.missing() {
            let name = format!("{}: not seen in {} runs: {name}", row.request.name, {
                row.request.repetitions
            });
            writeln!(text, "{name}").expect("memory");
        }
    }
    text
}

/// One line if all were caught, else one for each that was not.
fn twins(summary: &Summary) -> String {
    let mut text = String::new();
    for twin in summary.twins.iter().filter(|twin| !twin.is_caught()) {
        let (name, sabotage, fate) = (&twin.name, &twin.sabotage, twin.fate());
        writeln!(text, "TWIN {name} with {sabotage}: {fate}").expect("memory");
        writeln!(text, "  AGAIN  {}", twin.again).expect("memory");
    }
    if !summary.twins.is_empty() {
        let caught = summary.twins.iter().filter(|twin| twin.is_caught()).count();
        let all = plural(summary.twins.len(), "broken world");
        writeln!(text, "{caught} of {all} caught").expect("memory");
    }
    text
}

fn conclusion(summary: &Summary) -> String {
    let failed = summary.rows.iter().filter(|row| row.verdict.failure.is_some()).count();
    let seconds = summary.elapsed.as_secs_f64();
    let mut text = format!(
        "{} on QEMU {} ({}), {} processors, seed {}: {} in {seconds:.1} s\n",
        plural(summary.rows.len(), "machine"),
        summary.qemu,
        summary.accelerator,
        summary.cpus,
        summary.seed,
        if failed == 0 { "all passed".to_owned() } else { format!("{failed} FAILED") },
    );
    if let Some(sabotage) = &summary.sabotage {
        writeln!(text, "The world was broken on purpose: {sabotage}.").expect("memory");
    }
    if !summary.unfinished.is_empty() {
        writeln!(text, "Interrupted; not run: {}", summary.unfinished.join(", ")).expect("memory");
    }
    text += match summary.accelerator {
        Accelerator::Counted => {
            "SAMPLED: interleavings at random, one processor at a time; an ordering that only \
             parallel hardware breaks is not tried here.\n"
        }
        Accelerator::Threads | Accelerator::Kvm => "SAMPLED: interleavings as they came.\n",
    };
    text
}

fn plural(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}
