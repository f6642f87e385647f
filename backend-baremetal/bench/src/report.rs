//! Results: tables for people, a document for programs.

use std::fmt::Write as _;

use comfy_table::{Cell, Color, Table};
use serde_json::{Value, json};
use weft_shell::exit;
use weft_shell::provenance::{Host, Provenance};
use weft_shell::text::{lines, table};

use crate::measure::{Column, Measured, Spread};
use crate::target::{Demand, Judged, Outcome, judge};
use crate::workload::Role;

/// The version of the document's form.
const VERSION: u32 = 2;

/// Everything that was measured.
#[derive(Clone, Debug)]
pub struct Report {
    /// How many rounds each row had.
    pub rounds: usize,
    /// What the results belong to.
    pub provenance: Provenance,
    /// The rows.
    pub rows: Vec<Measured>,
}

impl Report {
    /// Every demand, judged.
    pub fn judged(&self) -> Vec<Judged> {
        self.rows.iter().flat_map(judge).collect()
    }

    /// Runs that did not do their work.
    pub fn failures(&self) -> impl Iterator<Item = String> {
        let of = |row: &Measured| {
            let name = row.name;
            row.failures.clone().into_iter().map(move |failure| format!("{name}: {failure}"))
        };
        self.rows.iter().flat_map(of)
    }

    /// The exit code; whether a target was missed matters if that is `demanded`.
    pub fn exit(&self, demanded: bool) -> u8 {
        let is_missed = || self.judged().iter().any(|judged| judged.outcome != Outcome::Met);
        if self.failures().next().is_some() {
            exit::VIOLATION
        } else if demanded && is_missed() {
            exit::MISSING
        } else {
            exit::GOOD
        }
    }

    /// The tables.
    pub fn text(&self) -> String {
        let Host { processor, cores, .. } = &self.provenance.host;
        let mut text = format!("{processor}, {cores} cores, {} rounds\n\n", self.rounds);
        text += &lines(&self.costs());
        let judged = self.judged();
        if !judged.is_empty() {
            text += "\n";
            text += &lines(&verdicts(&judged));
        }
        for failure in self.failures() {
            writeln!(text, "\nFAILED {failure}").expect("memory");
        }
        text
    }

    fn costs(&self) -> Table {
        let header =
            ["row", "workload", "best ns", "median", "quartiles", "x bound", "quartiles", "per"];
        let mut table = table(&header, 2..7);
        for row in &self.rows {
            for (index, column) in row.columns.iter().enumerate() {
                table.add_row(cells(row, column, index == 0));
            }
        }
        table
    }

    /// The document.
    pub fn json(&self) -> Value {
        let rows: Vec<Value> = self.rows.iter().map(row_json).collect();
        let targets: Vec<Value> = self.judged().iter().map(judged_json).collect();
        json!({
            "version": VERSION,
            "provenance": self.provenance,
            "rounds": self.rounds,
            "rows": rows,
            "targets": targets,
        })
    }
}

fn cells(row: &Measured, column: &Column, is_first: bool) -> Vec<Cell> {
    let name = match column.role {
        Role::Bound => format!("{} (bound)", column.name),
        _ => column.name.clone(),
    };
    let name = Cell::new(name);
    let quartiles = |spread: Spread| format!("{}-{}", figure(spread.lower), figure(spread.upper));
    let ratio = column.ratio.filter(|_| column.role != Role::Bound);
    vec![
        Cell::new(if is_first { row.name } else { "" }),
        if column.role == Role::Ours { name.fg(Color::Cyan) } else { name },
        Cell::new(figure(column.nanoseconds.best)),
        Cell::new(figure(column.nanoseconds.median)),
        Cell::new(quartiles(column.nanoseconds)),
        Cell::new(ratio.map_or_else(String::new, |ratio| figure(ratio.median))),
        Cell::new(ratio.map_or_else(String::new, quartiles)),
        Cell::new(row.unit),
    ]
}

/// Three digits, as many as mean something.
fn figure(value: f64) -> String {
    if value < 10.0 {
        format!("{value:.2}")
    } else if value < 100.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

fn verdicts(judged: &[Judged]) -> Table {
    let mut table = table(&["target", "demand", "measured", ""], 2..3);
    for Judged { row, demand, measured, outcome } in judged {
        let colour = if *outcome == Outcome::Met { Color::Green } else { Color::Red };
        let measured = measured.map_or_else(|| "-".to_owned(), |value| unit(*demand, value));
        table.add_row(vec![
            Cell::new(row),
            Cell::new(demand),
            Cell::new(measured),
            Cell::new(outcome).fg(colour),
        ]);
    }
    table
}

fn unit(demand: Demand, value: f64) -> String {
    match demand {
        Demand::NoAllocation => format!("{value}"),
        Demand::AtMost(_) | Demand::SpeedUp(_) | Demand::UnderPeersPerPage => {
            format!("{}x", figure(value))
        }
    }
}

fn spread_json(spread: Spread) -> Value {
    json!({
        "best": spread.best,
        "lower_quartile": spread.lower,
        "median": spread.median,
        "upper_quartile": spread.upper,
    })
}

fn row_json(row: &Measured) -> Value {
    let column = |column: &Column| {
        json!({
            "name": column.name,
            "role": match column.role {
                Role::Ours => "ours",
                Role::Bound => "bound",
                Role::PeerPerPage => "peer per page",
                Role::PeerPerRange => "peer per range",
                Role::Reference => "reference",
            },
            "nanoseconds": spread_json(column.nanoseconds),
            "times_bound": column.ratio.map(spread_json),
            "allocations": column.allocations,
        })
    };
    json!({
        "name": row.name,
        "unit": row.unit,
        "workloads": row.columns.iter().map(column).collect::<Vec<_>>(),
        "failures": row.failures,
    })
}

fn judged_json(judged: &Judged) -> Value {
    json!({
        "row": judged.row,
        "demand": judged.demand.to_string(),
        "measured": judged.measured,
        "met": match judged.outcome {
            Outcome::Met => json!(true),
            Outcome::Missed => json!(false),
            Outcome::Unmeasured => Value::Null,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let spread = |value| Spread { best: value, lower: value, median: value, upper: value };
        let column = |role, ratio| Column {
            name: "name".to_owned(),
            role,
            nanoseconds: spread(2.0),
            ratio: Some(spread(ratio)),
            ours: None,
            allocations: None,
        };
        let row = Measured {
            name: "map",
            unit: "page",
            demands: vec![Demand::AtMost(3.0), Demand::AtMost(5.0)],
            columns: vec![column(Role::Ours, 4.0), column(Role::Bound, 1.0)],
            failures: vec!["name: nothing".to_owned()],
        };
        Report { rounds: 3, provenance: Provenance::here("bench", "0"), rows: vec![row] }
    }

    #[test]
    fn tables_say_what_was_missed_and_what_failed() {
        let text = report().text();
        assert!(text.contains("MISSED") && text.contains("met"), "{text}");
        assert!(text.contains("FAILED map: name: nothing"), "{text}");
        assert!(text.contains("name (bound)"), "{text}");
    }

    #[test]
    fn a_missed_target_is_missing_and_work_not_done_a_violation() {
        let mut report = report();
        assert_eq!(report.exit(false), exit::VIOLATION);
        report.rows[0].failures.clear();
        assert_eq!((report.exit(false), report.exit(true)), (exit::GOOD, exit::MISSING));
        report.rows[0].demands.remove(0);
        assert_eq!(report.exit(true), exit::GOOD);
    }

    #[test]
    fn the_document_says_the_same() {
        let document = report().json();
        assert_eq!(document["targets"][0]["met"], json!(false));
        assert_eq!(document["targets"][1]["met"], json!(true));
        assert_eq!(document["rows"][0]["workloads"][0]["times_bound"]["median"], json!(4.0));
    }
}
