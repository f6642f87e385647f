//! Measures what pictures need, and draws them.

use std::path::Path;

use weft_bench::measure::{Measured, Row, measure};
use weft_bench::plot::{self, Picture, Series};
use weft_bench::workload::{Operation, Role, Span};

use crate::rows::{self, Size, Who};

/// Rounds of each point, at most: there are many.
const ROUNDS_MAX: usize = 31;

/// Draws all pictures into a folder.
///
/// # Errors
///
/// One sentence, if something cannot be measured or written.
pub(crate) fn write(folder: &Path, rounds: usize, progress: fn(&str)) -> Result<(), String> {
    let rounds = rounds.min(ROUNDS_MAX);
    let operations = [
        ("map", Operation::Map),
        ("query", Operation::Query),
        ("protect", Operation::Protect),
        ("unmap", Operation::Unmap),
    ];
    for (name, operation) in operations {
        let mut series = Vec::new();
        let mut chunk = 1;
        while chunk <= Size::FULL.pages {
            progress(&format!("picture: {name}, {chunk} pages at once"));
            let row = measured(rows::sweep(operation, Size::FULL, chunk)?, rounds)?;
            add(&mut series, &row, chunk as f64, |nanoseconds| nanoseconds);
            chunk *= 2;
        }
        let title = format!("{name}: cost of a page over pages changed at once");
        let axes = ("pages at once", "ns per page, median");
        let picture = Picture { title, axes, is_logarithmic: true, series };
        plot::write(&picture, &folder.join(format!("{name}.svg")))?;
    }
    for (name, chunk) in [("ranges", rows::HALF_LEAF), ("pages", 1)] {
        let picture = throughput(name, chunk, rounds, progress)?;
        plot::write(&picture, &folder.join(format!("threads-{name}.svg")))?;
    }
    Ok(())
}

fn throughput(
    name: &str,
    chunk: u64,
    rounds: usize,
    progress: fn(&str),
) -> Result<Picture, String> {
    let span = Span::whole(Size::FULL.pages).in_chunks(chunk);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut series = vec![Series { name: "weft".to_owned(), points: Vec::new() }];
    series.push(Series { name: "by hand".to_owned(), points: Vec::new() });
    for threads in 1..=cores {
        progress(&format!("picture: {name}, {threads} threads"));
        let workloads = vec![
            rows::threads(Who::Weft, Role::Ours, threads, span)?,
            rows::threads(Who::ByHand, Role::Bound, threads, span)?,
        ];
        let row = Row { name: "threads", unit: "page", workloads, demands: Vec::new() };
        let row = measured(row, rounds)?;
        for (series, column) in series.iter_mut().zip(&row.columns) {
            // Nanoseconds per page of all threads: pages per microsecond.
            series.points.push((threads as f64, 1000.0 / column.nanoseconds.median));
        }
    }
    let title = format!("{name} mapped and unmapped, each thread in a range of its own");
    let axes = ("threads", "pages per microsecond, median");
    Ok(Picture { title, axes, is_logarithmic: false, series })
}

/// A row that is not worth a picture if a workload did not do its work.
fn measured(row: Row, rounds: usize) -> Result<Measured, String> {
    let row = measure(row, rounds);
    match row.failures.first() {
        Some(failure) => Err(format!("{}: {failure}", row.name)),
        None => Ok(row),
    }
}

fn add(series: &mut Vec<Series>, row: &Measured, x: f64, y: fn(f64) -> f64) {
    for column in &row.columns {
        let point = (x, y(column.nanoseconds.median));
        match series.iter_mut().find(|series| series.name == column.name) {
            Some(series) => series.points.push(point),
            None => series.push(Series { name: column.name.clone(), points: vec![point] }),
        }
    }
}
