//! A counterexample for people: what is violated, why, and the steps that decide it, one column
//! per CPU.
//!
//! Everything fits a terminal of 80 columns, and uses up to 140. Every step says where in the
//! source it is. Columns that would be too narrow become lines.

use std::fmt::Write as _;

use comfy_table::presets::NOTHING;
use comfy_table::{Cell, ColumnConstraint, ContentArrangement, Table, Width};
use weft_backend_loom::engine::FailureKind;
use weft_backend_loom::report::{Counterexample, Line, Report};
use weft_shell::text::{fold, plural};

use crate::{checkers, explain};

/// The bounds of the width, in columns.
const WIDTH: std::ops::RangeInclusive<u16> = 80..=140;

/// A column of a CPU is at least so wide.
const CPU_WIDTH: u16 = 24;

/// How much is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Telling {
    /// All steps instead of those that decide.
    pub(crate) all_steps: bool,
    /// What happened, in sentences.
    pub(crate) explained: bool,
}

/// The width of the terminal, within reason.
pub(crate) fn width() -> u16 {
    let terminal =
        console::Term::stdout().size_checked().map_or(*WIDTH.start(), |(_, columns)| columns);
    terminal.clamp(*WIDTH.start(), *WIDTH.end())
}

/// Whether the table of rows fits with all of its columns. What is not a terminal is wide.
pub(crate) fn is_wide() -> bool {
    console::Term::stdout().size_checked().is_none_or(|(_, columns)| columns >= 112)
}

/// A memory model without its fine print, which is said once, below the table.
pub(crate) fn short_model(model: &str) -> &str {
    model.split(" (").next().unwrap_or(model)
}

/// The counterexample of a report that failed.
pub(crate) fn counterexample(
    report: &Report,
    failure: &Counterexample,
    width: u16,
    telling: Telling,
) -> String {
    let mut text = heading(report, failure, width);
    let what = match failure.class {
        FailureKind::Violation => "VIOLATED",
        FailureKind::Deadlock => "DEADLOCK",
        FailureKind::Limit => "LIMIT",
        FailureKind::Internal => "INTERNAL",
    };
    push(&mut text, what, &explain::message(failure), width);
    for sentence in explain::why(report, failure) {
        push(&mut text, "WHY", &sentence, width);
    }
    if let Some(hint) = explain::to_try(failure) {
        push(&mut text, "TRY", hint, width);
    }
    if let Some(at) = explain::location(failure) {
        push(&mut text, "AT", at, width);
    }
    if let Some(size) = explain::size(failure) {
        push(&mut text, "SIZE", &size, width);
    }
    if telling.explained {
        text.push('\n');
        for (number, sentence) in explain::story(failure) {
            push(&mut text, &number.to_string(), &sentence, width);
        }
    }
    if !failure.lines.is_empty() {
        text.push('\n');
        text += &steps(failure, width, telling.all_steps);
        text += &folded(failure, telling.all_steps);
        text.push('\n');
    }
    text
}

fn heading(report: &Report, failure: &Counterexample, width: u16) -> String {
    let Report { scenario, engine, model, executions, verdict, .. } = report;
    let model = short_model(model);
    let mut text = format!("{verdict} {scenario}   {engine} ({model}), execution {executions}");
    let steps = plural(failure.lines.len(), "step");
    write!(text, ", {steps}").expect("a string takes any text");
    text.push('\n');
    if let Some(sabotage) = report.sabotage {
        let broken = format!("in a broken world: {}", checkers::described(scenario, sabotage));
        for line in fold(&broken, usize::from(width) - 2) {
            writeln!(text, "  {line}").expect("a string takes any text");
        }
    }
    text
}

/// Says how many steps are not shown.
fn folded(failure: &Counterexample, all: bool) -> String {
    let shown = failure.lines.iter().filter(|line| line.decides).count();
    if all || shown == failure.lines.len() || shown == 0 {
        return String::new();
    }
    format!(" {shown} of {} steps decide it; --all-steps shows the others\n", failure.lines.len())
}

/// The steps to show, with their numbers.
fn shown(failure: &Counterexample, all: bool) -> Vec<(usize, &Line)> {
    let all = all || failure.lines.iter().all(|line| !line.decides);
    let lines = failure.lines.iter().enumerate();
    lines.filter(|(_, line)| all || line.decides).collect()
}

/// The table of steps.
fn steps(failure: &Counterexample, width: u16, all: bool) -> String {
    let lines = shown(failure, all);
    let cpus = failure.roles.len();
    let place = |line: &Line| {
        // The name of the file is enough: there are hardly two of one name.
        line.at.rsplit('/').next().unwrap_or_default().to_owned()
    };
    let longest = lines.iter().map(|(_, line)| place(line).len()).max().unwrap_or(0);
    let place_width = u16::try_from(longest).unwrap_or(u16::MAX).min(26) + 2;
    let each = width.saturating_sub(6 + place_width) / u16::try_from(cpus).expect("at most four");
    let in_columns = each >= CPU_WIDTH;
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(width);
    let heads = failure.roles.iter().enumerate().map(|(cpu, role)| format!("CPU {cpu} ({role})"));
    let heads: Vec<String> =
        if in_columns { heads.collect() } else { vec!["CPU".to_owned(), "step".to_owned()] };
    let columns = heads.len();
    table.set_header([vec!["".to_owned()], heads, vec!["at".to_owned()]].concat());
    for (index, line) in &lines {
        let mut cells = vec![String::new(); columns];
        let told = told(line, cpus);
        // What is done after the race is the last column's, as the engines have it.
        let cpu = line.cpu.min(cpus - 1);
        if in_columns {
            cells[cpu] = told;
        } else {
            cells = vec![format!("{cpu} {}", failure.roles[cpu]), told];
        }
        table.add_row(
            [vec![(index + 1).to_string()], cells, vec![place(line)]]
                .concat()
                .into_iter()
                .map(Cell::new),
        );
    }
    let fixed = |width| ColumnConstraint::UpperBoundary(Width::Fixed(width));
    let mut bounds = vec![fixed(5)];
    if in_columns {
        bounds.extend((0..cpus).map(|_| fixed(each)));
    } else {
        bounds.push(fixed(16));
        bounds.push(fixed(width.saturating_sub(6 + 16 + place_width)));
    }
    bounds.push(fixed(place_width));
    table.set_constraints(bounds);
    table.trim_fmt() + "\n"
}

/// A step in words, over one to three lines.
fn told(line: &Line, cpus: usize) -> String {
    let mut text = if line.cpu >= cpus { "afterwards: ".to_owned() } else { String::new() };
    text += &line.text;
    if let Some(site) = &line.site {
        write!(text, "  {site}").expect("memory");
    }
    if let Some(missed) = line.missed {
        write!(text, "\n(!) old: misses step {}", missed + 1).expect("memory");
    }
    if line.text.is_empty() {
        text += &line.state;
    } else if !line.state.is_empty() {
        write!(text, "\n* {}", line.state).expect("memory");
    }
    if line.fails {
        text += "\n<- fails here";
    }
    text
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
pub(crate) mod tests {
    use super::*;

    /// A failure with these steps, of which nothing else is known.
    pub(crate) fn failure<const N: usize>(
        roles: [&str; N],
        message: &str,
        lines: impl Iterator<Item = Line>,
    ) -> Counterexample {
        Counterexample {
            message: message.to_owned(),
            detail: None,
            class: FailureKind::Violation,
            location: None,
            roles: roles.map(str::to_owned).to_vec(),
            before: Vec::new(),
            lines: lines.collect(),
            missing: None,
            waiting: Vec::new(),
            blocked: Vec::new(),
            size: None,
            token: None,
        }
    }

    #[test]
    fn steps_of_four_cpus_fit_the_width() {
        let lines = (0..8).map(|step| Line {
            cpu: step % 4,
            text: "N12[1]: absent => F14  PUBLISH_NODE and a note that is long".to_owned(),
            state: "N12 waits for a grace period and another one".to_owned(),
            at: "core/src/range_lock.rs:123".to_owned(),
            decides: step % 2 == 0,
            ..Line::default()
        });
        let failure = failure(["mapper", "unmapper", "walker", "hardware"], "a message", lines);
        for width in [80, 100, 120, 140] {
            let text = steps(&failure, width, true);
            assert_eq!(text.matches("range_lock.rs:123").count(), 8, "{text}");
            assert_eq!(steps(&failure, width, false).matches("range_lock.rs:123").count(), 4);
            let widest = text.lines().map(|line| line.chars().count()).max();
            assert!(widest <= Some(usize::from(width)), "{widest:?} of {width}:\n{text}");
        }
    }
}
