//! A counterexample for people: one column per CPU, what changed on the right.
//!
//! Only the failing execution is told, step by step. Cells that are too long are folded, so that
//! everything fits 100 to 140 columns.

use std::fmt::Write as _;

use comfy_table::presets::NOTHING;
use comfy_table::{Cell, ColumnConstraint, ContentArrangement, Table, Width};
use weft_backend_loom::engine::FailureKind;
use weft_backend_loom::report::{Counterexample, Line, Report};
use weft_shell::text::fold;

use crate::checkers;

/// The bounds of the width, in columns.
const WIDTH: std::ops::RangeInclusive<u16> = 100..=140;

/// From this width on, every step says where in the source it is.
const WIDTH_WITH_PLACES: u16 = 120;

/// The width of the terminal, within reason.
pub(crate) fn width() -> u16 {
    let terminal = console::Term::stdout().size_checked().map_or(120, |(_, columns)| columns);
    terminal.clamp(*WIDTH.start(), *WIDTH.end())
}

/// A memory model without its fine print, which is said once, below the table.
pub(crate) fn short_model(model: &str) -> &str {
    model.split(" (").next().unwrap_or(model)
}

/// The counterexample of a report that failed.
pub(crate) fn counterexample(report: &Report, failure: &Counterexample, width: u16) -> String {
    let mut text = heading(report, failure);
    if !failure.lines.is_empty() {
        text += &steps(failure, width);
        text.push('\n');
    }
    let what = match failure.class {
        FailureKind::Violation => "VIOLATED",
        FailureKind::Deadlock => "DEADLOCK",
        FailureKind::Limit => "LIMIT",
        FailureKind::Internal => "INTERNAL",
    };
    let at = failure.location.as_deref();
    push(&mut text, what, &failure.message, width);
    if let Some(at) = at {
        push(&mut text, "AT", at, width);
    }
    for sentence in &failure.waiting {
        push(&mut text, "WAITS", sentence, width);
    }
    if let Some(detail) = &failure.detail {
        push(&mut text, "DETAIL", detail, width);
    }
    text
}

fn heading(report: &Report, failure: &Counterexample) -> String {
    let Report { scenario, engine, model, executions, verdict, .. } = report;
    let mut text = format!("{verdict} {scenario}   {engine} ({model}), execution {executions}");
    let steps = failure.lines.len();
    write!(text, ", {steps} steps").expect("a string takes any text");
    if let Some(sabotage) = report.sabotage {
        let broken = checkers::described(scenario, sabotage);
        write!(text, "\n  in a broken world: {broken}").expect("memory");
    }
    text + "\n\n"
}

/// The table of steps.
fn steps(failure: &Counterexample, width: u16) -> String {
    let places = width >= WIDTH_WITH_PLACES && failure.roles.len() <= 3;
    let cpus = failure.roles.len();
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(width);
    let mut header = vec!["step".to_owned()];
    header
        .extend(failure.roles.iter().enumerate().map(|(cpu, role)| format!("CPU {cpu} ({role})")));
    header.push("state after".to_owned());
    if places {
        header.push("at".to_owned());
    }
    table.set_header(header);
    for (number, line) in failure.lines.iter().enumerate() {
        let mut cells = vec![(number + 1).to_string()];
        // What is done after the race is the last column's, as the engines have it.
        let column = line.cpu.min(cpus - 1);
        for cpu in 0..cpus {
            cells.push(if cpu == column { told(line, cpus) } else { String::new() });
        }
        cells.push(line.state.clone());
        if places {
            // The name of the file is enough: there are hardly two of one name.
            cells.push(line.at.rsplit('/').next().unwrap_or_default().to_owned());
        }
        table.add_row(cells.into_iter().map(Cell::new));
    }
    constrain(&mut table, cpus, width, places);
    table.trim_fmt()
}

fn told(line: &Line, cpus: usize) -> String {
    if line.cpu >= cpus { format!("afterwards: {}", line.text) } else { line.text.clone() }
}

/// Gives places and states what they need, within reason, and shares the rest among the CPUs.
fn constrain(table: &mut Table, cpus: usize, width: u16, places: bool) {
    let widest = table.column_max_content_widths();
    let padded = |index: usize, most: u16| widest[index].saturating_add(2).min(most);
    let (state, place) = (padded(cpus + 1, 28), if places { padded(cpus + 2, 26) } else { 0 });
    let left = width - 8 - state - place;
    let each = left / u16::try_from(cpus).expect("at most four");
    let upper = |width| ColumnConstraint::UpperBoundary(Width::Fixed(width));
    let mut bounds = vec![upper(6)];
    bounds.extend((0..cpus).map(|_| upper(each)));
    bounds.push(upper(state));
    if places {
        bounds.push(upper(place));
    }
    table.set_constraints(bounds);
}

/// Adds a labelled paragraph, folded.
fn push(text: &mut String, label: &str, content: &str, width: u16) {
    let room = usize::from(width) - 12;
    let mut first = true;
    for line in content.lines().flat_map(|line| fold(line, room)) {
        let label = if first { label } else { "" };
        writeln!(text, "  {label:<9} {line}").expect("a string takes any text");
        first = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_four_cpus_fit_the_width() {
        let lines = (0..8).map(|step| Line {
            cpu: step % 4,
            text: "N12[1]: absent => F14  PUBLISH_NODE and a note that is long".to_owned(),
            state: "N12 waits for a grace period and another one".to_owned(),
            at: "core/src/range_lock.rs:123".to_owned(),
        });
        let failure = Counterexample {
            message: "a message".to_owned(),
            detail: None,
            class: FailureKind::Violation,
            location: None,
            roles: ["mapper", "unmapper", "walker", "hardware"].map(str::to_owned).to_vec(),
            lines: lines.collect(),
            waiting: Vec::new(),
            token: None,
        };
        for width in [100, 120, 140] {
            let text = steps(&failure, width);
            let widest = text.lines().map(|line| line.chars().count()).max();
            assert!(widest <= Some(usize::from(width)), "{widest:?} of {width}:\n{text}");
        }
    }
}
