//! Results for people: a table, and for each failure what is known about it.

use std::fmt::Write as _;

use comfy_table::{Cell, Color};
use weft_shell::text::{self, plural};
use weft_shell::{checkout, exit};

use crate::host::Accelerator;
use crate::summary::{Boots, Judgement, Row, Summary, Twin};
use crate::verdict::{Count, Failure};
use crate::walker;

/// How many lines of the log follow a failure.
const LOG_LINES: usize = 12;

const HEADINGS: [&str; 10] = [
    "scenario",
    "verdict",
    "CPUs",
    "runs",
    "outcomes",
    "situations",
    "faults",
    "shootdowns",
    "CR3 loads",
    "time",
];

/// The summary as text. `details` gives each outcome and situation a line of its own.
pub fn of(summary: &Summary, details: bool, deterministic: bool) -> String {
    let numbers = (2..HEADINGS.len()).filter(|index| !(details && (4..6).contains(index)));
    let mut table = text::table(&HEADINGS, numbers);
    for row in &summary.rows {
        table.add_row(cells(summary, row, details));
    }
    let mut text = text::lines(&table);
    for row in &summary.rows {
        if let Some(failure) = &row.verdict.failure {
            text += &describe(summary, row, failure);
        }
    }
    let beside = summary.models.beside(&summary.rows, details);
    if beside.is_empty() {
        text += &unseen(summary);
    } else {
        // It tells what was not seen, too.
        write!(text, "\nseen on metal | allowed by the models\n{beside}\n").expect("memory");
    }
    if details {
        text += &counted(summary);
    }
    for row in &summary.rows {
        let pages = row.verdict.metric(walker::AGREED);
        if pages > 0 {
            let name = &row.request.name;
            writeln!(text, "{name}: {pages} pages, the same in QEMU's walk and in the core's")
                .expect("memory");
        }
    }
    text += &twins(summary);
    text += &conclusion(summary);
    if deterministic {
        writeln!(text, "FINGERPRINT {:016x}", summary.fingerprint()).expect("memory");
    }
    text
}

fn cells(summary: &Summary, row: &Row, details: bool) -> Vec<Cell> {
    let (word, colour) = match summary.judge(row) {
        // A scenario that did not fail was sampled: that is all that can be said.
        Judgement::Good if row.self_test => ("AS EXPECTED".to_owned(), Color::Green),
        Judgement::Good => (format!("SAMPLED {}", row.runs()), Color::Green),
        Judgement::Missing => ("MISSING".to_owned(), Color::Yellow),
        Judgement::Bad | Judgement::Internal => (failed(row), Color::Red),
    };
    let verdict = &row.verdict;
    let number = |name| Cell::new(verdict.metric(name));
    vec![
        Cell::new(&row.request.name),
        Cell::new(word).fg(colour),
        Cell::new(verdict.cpus),
        Cell::new(row.runs()),
        Cell::new(counts(&verdict.outcomes, details)),
        Cell::new(counts(&verdict.situations, details)),
        number("page faults"),
        number("shootdowns"),
        number("root loads"),
        Cell::new(format!("{:.2} s", verdict.elapsed.as_secs_f64())),
    ]
}

/// The verdict on what failed.
pub(crate) fn word(row: &Row) -> &'static str {
    match &row.verdict.failure {
        None => unreachable!("only what failed is asked about"),
        Some(Failure::Violation { .. }) => "FAILED",
        Some(Failure::Hang(_)) => "HUNG",
        Some(Failure::Reset) => "RESET",
        Some(Failure::Incomplete(_)) => "INCOMPLETE",
        Some(Failure::Internal(_)) => "INTERNAL",
    }
}

/// The verdict on what failed, and how often.
fn failed(row: &Row) -> String {
    match row.boots {
        // Where no boot fails by itself, the models do not allow what was seen.
        Boots { all: 1, .. } | Boots { wrong: 0, .. } => word(row).to_owned(),
        Boots { all, wrong } => format!("{} {wrong} of {all}", word(row)),
    }
}

/// How many were seen of how many, or how often each of them.
fn counts(counts: &[Count], details: bool) -> String {
    if details {
        let lines = counts.iter().map(|count| format!("{} {}", count.times, count.name));
        return lines.collect::<Vec<_>>().join("\n");
    }
    let seen = counts.iter().filter(|count| count.times > 0).count();
    if counts.is_empty() { "-".to_owned() } else { format!("{seen}/{}", counts.len()) }
}

fn describe(summary: &Summary, row: &Row, failure: &Failure) -> String {
    let mut text = format!("\n{} {}: {failure}\n", word(row), row.request.name);
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
    writeln!(text, "  SEED   {}", row.seed).expect("memory");
    writeln!(text, "  AGAIN  {}", row.again).expect("memory");
    if let Some(page) = &row.page {
        writeln!(text, "  PAGE   {}", checkout::from_here(page).display()).expect("memory");
    }
    text += &summary.models.told(&row.request.name);
    text
}

fn unseen(summary: &Summary) -> String {
    let mut text = String::new();
    for row in summary.rows.iter().filter(|row| row.verdict.failure.is_none()) {
        for name in row.verdict.missing() {
            let (scenario, runs) = (&row.request.name, row.runs());
            writeln!(text, "{scenario}: not seen in {runs} runs: {name}").expect("memory");
        }
    }
    text
}

/// What the kernel has counted besides.
fn counted(summary: &Summary) -> String {
    let mut text = "\ncounted by the kernel\n".to_owned();
    for row in &summary.rows {
        let counts = row.verdict.metrics.iter().filter(|(_, value)| *value > 0);
        let counts: Vec<_> = counts.map(|(name, value)| format!("{value} {name}")).collect();
        writeln!(text, "{:<20} {}", row.request.name, counts.join("; ")).expect("memory");
    }
    text
}

/// The broken worlds that were not noticed; of many boots, how many were.
fn twins(summary: &Summary) -> String {
    let mut text = String::new();
    let rows = summary.rows.iter().filter(|row| row.boots.all > 1);
    if let Some(broken) = summary.sabotage {
        for Row { request, boots, .. } in rows {
            writeln!(text, "{} with {broken}: noticed in {boots}", request.name).expect("memory");
        }
    }
    for twin in &summary.twins {
        let Twin { name, sabotage, boots, .. } = twin;
        if boots.all == boots.wrong {
            if boots.all > 1 {
                writeln!(text, "{name} with {sabotage}: noticed in {boots}").expect("memory");
            }
            continue;
        }
        writeln!(text, "TWIN {name} with {sabotage}: {}", twin.fate()).expect("memory");
        writeln!(text, "  AGAIN  {}", twin.again).expect("memory");
    }
    text
}

/// What it all means, and under which circumstances.
pub(crate) fn conclusion(summary: &Summary) -> String {
    let count =
        |judgement| summary.rows.iter().filter(|row| summary.judge(row) == judgement).count();
    let (bad, internal) = (count(Judgement::Bad), count(Judgement::Internal));
    let internal = internal + usize::from(summary.models.error.is_some());
    let caught = summary.twins.iter().filter(|twin| twin.is_caught()).count();
    let word = match (summary.exit(), summary.sabotage) {
        (exit::VIOLATION, Some(broken)) => format!("CAUGHT in a broken world: {broken}"),
        (exit::MISSING, Some(broken)) => format!("SURVIVED in a broken world: {broken}"),
        (exit::GOOD, _) => "GOOD: no violation".to_owned(),
        (exit::VIOLATION, None) => format!("FAILED: {}", plural(bad, "violation")),
        (exit::MISSING, None) => "MISSING: no violation, but not all that was demanded".to_owned(),
        (exit::INTERRUPTED, _) => "INTERRUPTED: no violation so far".to_owned(),
        _ => format!("INTERNAL: {}", plural(internal, "error")),
    };
    let self_tests = summary.rows.iter().filter(|row| row.self_test).count();
    let scenarios = plural(summary.rows.len() - self_tests, "scenario");
    let mut text = format!("{word}; {scenarios}, {}", plural(self_tests, "self-test"));
    let boots = summary.boots();
    let has_many = boots > summary.rows.len() + summary.twins.len();
    if has_many {
        write!(text, ", {}", plural(boots, "boot")).expect("memory");
    }
    if !summary.twins.is_empty() {
        write!(text, ", broken worlds {caught}/{} caught", summary.twins.len()).expect("memory");
    }
    let (qemu, how) = (&summary.qemu, summary.accelerator);
    let seed = if has_many { "seeds from" } else { "seed" };
    let seed = format!("{seed} {}", summary.seed);
    let seconds = summary.elapsed.as_secs_f64();
    let cpus = plural(summary.cpus, "processor");
    writeln!(text, "\nQEMU {qemu}, {cpus}, {how}, {seed}, {seconds:.1} s").expect("memory");
    if let Some(sentence) = &summary.models.error {
        writeln!(text, "metal and models are not compared: {sentence}").expect("memory");
    }
    if !summary.unfinished.is_empty() {
        writeln!(text, "not run: {}", summary.unfinished.join(", ")).expect("memory");
    }
    if summary.accelerator == Accelerator::Counted {
        text += "one processor at a time: orderings that only parallel hardware breaks are not \
                 tried\n";
    }
    text
}
