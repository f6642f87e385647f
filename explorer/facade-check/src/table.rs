//! The table, and what it comes to.

use std::time::Duration;

use crate::Row;
use crate::run::{Outcome, Verdict};

fn verdict(outcome: &Outcome) -> &'static str {
    match outcome.verdict {
        Verdict::Passed => "passed",
        Verdict::Failed => "FAILED",
        Verdict::Died => "DIED",
        Verdict::DidNotEnd => "did not end",
    }
}

fn executions(outcome: &Outcome) -> String {
    outcome.executions.map_or_else(|| "-".to_owned(), |count| count.to_string())
}

/// Of those that ended well on both sides: what loom has, for each of weft's.
fn geometric_mean(pairs: &[(f64, f64)]) -> Option<f64> {
    let sum: f64 = pairs.iter().map(|(loom, weft)| (loom / weft).ln()).sum();
    (!pairs.is_empty()).then(|| (sum / pairs.len() as f64).exp())
}

pub(crate) fn print(rows: &[Row], limit: Duration, is_explained: &dyn Fn(&Row) -> bool) {
    let width = rows.iter().map(|row| row.name().len()).max().unwrap_or(0);
    println!(
        "{:width$}  {:>11} {:>11} {:>10}  {:>11} {:>11} {:>10}",
        "test", "loom", "executions", "time", "weft-loom", "executions", "time"
    );
    for row in rows {
        let (loom, weft) = (&row.loom, &row.weft);
        let note = match (row.differs(), is_explained(row)) {
            (false, _) => "",
            (true, true) => "  differs: see DIFFERENCES.md",
            (true, false) => "  DIFFERS",
        };
        println!(
            "{:width$}  {:>11} {:>11} {:>8.3} s  {:>11} {:>11} {:>8.3} s{note}",
            row.name(),
            verdict(loom),
            executions(loom),
            loom.time.as_secs_f64(),
            verdict(weft),
            executions(weft),
            weft.time.as_secs_f64(),
        );
    }
    summarise(rows, limit, is_explained);
}

fn summarise(rows: &[Row], limit: Duration, is_explained: &dyn Fn(&Row) -> bool) {
    let ended = |row: &&Row| {
        [&row.loom, &row.weft].iter().all(|outcome| outcome.verdict == Verdict::Passed)
    };
    let good: Vec<&Row> = rows.iter().filter(ended).collect();
    let counted: Vec<(f64, f64)> = good
        .iter()
        .filter_map(|row| Some((row.loom.executions? as f64, row.weft.executions? as f64)))
        .filter(|(_, weft)| *weft > 0.0)
        .collect();
    let timed: Vec<(f64, f64)> =
        good.iter().map(|row| (row.loom.time.as_secs_f64(), row.weft.time.as_secs_f64())).collect();
    let differ = rows.iter().filter(|row| row.differs());
    let (explained, open): (Vec<&Row>, Vec<&Row>) = differ.partition(|row| is_explained(row));
    let mut crates: Vec<&str> = rows.iter().map(|row| row.subject.name).collect();
    crates.dedup();
    println!(
        "\n{} tests of {} crates, {} s for each on each side: {} verdicts agree, {} differ and are \
         explained, {} differ",
        rows.len(),
        crates.len(),
        limit.as_secs(),
        rows.len() - explained.len() - open.len(),
        explained.len(),
        open.len()
    );
    let sum = |pairs: &[(f64, f64)]| {
        pairs.iter().fold((0.0, 0.0), |sum, pair| (sum.0 + pair.0, sum.1 + pair.1))
    };
    if let Some(mean) = geometric_mean(&counted) {
        let (loom, weft) = sum(&counted);
        println!(
            "executions of {} tests that pass on both: {loom} on loom, {weft} on weft-loom; \
             geometric mean {mean:.2} times as many on loom",
            counted.len()
        );
    }
    if let Some(mean) = geometric_mean(&timed) {
        let (loom, weft) = sum(&timed);
        println!(
            "time of {} tests that pass on both, with the start of a process: {loom:.2} s on loom, \
             {weft:.2} s on weft-loom; geometric mean {mean:.2} times as long on loom",
            timed.len()
        );
    }
}
