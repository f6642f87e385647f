//! Rounds: every workload of a row in turn, and what comes out of it.
//!
//! The machine is shared, and its speed changes while we look. So what is compared runs within a
//! few milliseconds, in an order that rotates from round to round; a ratio is one of two
//! neighbouring runs; and a median of many is not moved by the rounds that somebody else disturbed.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::heap;
use crate::target::Demand;
use crate::workload::{Role, Workload};

/// Rounds that are run first and not counted.
const WARM_UP: usize = 2;

/// Workloads that do the same thing, and what is demanded of ours.
pub struct Row {
    /// What they do.
    pub name: &'static str,
    /// What costs are given for.
    pub unit: &'static str,
    /// Who does it.
    pub workloads: Vec<Box<dyn Workload>>,
    /// What is demanded of the first workload of ours.
    pub demands: Vec<Demand>,
}

impl std::fmt::Debug for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Row").field("name", &self.name).finish_non_exhaustive()
    }
}

/// How values spread.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Spread {
    /// The smallest.
    pub best: f64,
    /// A quarter is below.
    pub lower: f64,
    /// Half of them are below.
    pub median: f64,
    /// Three quarters are below.
    pub upper: f64,
}

impl Spread {
    /// The spread of these values, or `None` if there are none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_unstable_by(f64::total_cmp);
        let best = *values.first()?;
        let at = |part: f64| values[((values.len() - 1) as f64 * part).round() as usize];
        Some(Self { best, lower: at(0.25), median: at(0.5), upper: at(0.75) })
    }
}

/// One workload, measured.
#[derive(Clone, Debug)]
pub struct Column {
    /// What it is called.
    pub name: String,
    /// What it is in the row.
    pub role: Role,
    /// Cost of a unit.
    pub nanoseconds: Spread,
    /// Its cost as a multiple of the bound's in the same round.
    pub ratio: Option<Spread>,
    /// The cost of ours as a multiple of this one's in the same round.
    pub ours: Option<Spread>,
    /// Allocations from the heap in the run that had most, if they are counted.
    pub allocations: Option<u64>,
}

/// A row, measured.
#[derive(Clone, Debug)]
pub struct Measured {
    /// What was done.
    pub name: &'static str,
    /// What costs are given for.
    pub unit: &'static str,
    /// What is demanded.
    pub demands: Vec<Demand>,
    /// Who did it, and how fast.
    pub columns: Vec<Column>,
    /// Runs that did not do their work: such a row says nothing.
    pub failures: Vec<String>,
}

/// Runs a row.
pub fn measure(mut row: Row, rounds: usize) -> Measured {
    let count = row.workloads.len();
    let is_counting = heap::is_counting();
    let mut costs = vec![Vec::with_capacity(rounds); count];
    let mut allocations = vec![0; count];
    let mut failures = Vec::new();
    for round in 0..WARM_UP + rounds {
        for position in 0..count {
            let which = (round + position) % count;
            // Every other time round the other way: a neighbour that leaves the caches cold or hot
            // is then not always the same.
            let which = if (round / count).is_multiple_of(2) { which } else { count - 1 - which };
            let workload = row.workloads[which].as_mut();
            let (cost, heap) = match run(workload) {
                Ok(result) => result,
                Err(failure) => {
                    failures.push(format!("{}: {failure}", workload.name()));
                    return Measured { columns: Vec::new(), failures, ..empty(&row) };
                }
            };
            if round >= WARM_UP {
                costs[which].push(cost);
                allocations[which] = heap.max(allocations[which]);
            }
        }
    }
    let ours = row.workloads.iter().position(|workload| workload.role() == Role::Ours);
    let bound = row.workloads.iter().position(|workload| workload.role() == Role::Bound);
    let ratio = |over: Option<usize>, under: Option<usize>| {
        let (over, under) = (&costs[over?], &costs[under?]);
        Spread::of(over.iter().zip(under).map(|(over, under)| over / under))
    };
    let column = |which: usize| Column {
        name: row.workloads[which].name(),
        role: row.workloads[which].role(),
        nanoseconds: Spread::of(costs[which].iter().copied()).expect("there are rounds"),
        ratio: ratio(Some(which), bound),
        ours: ratio(ours, Some(which)),
        allocations: is_counting.then_some(allocations[which]),
    };
    Measured { columns: (0..count).map(column).collect(), ..empty(&row) }
}

fn empty(row: &Row) -> Measured {
    Measured {
        name: row.name,
        unit: row.unit,
        demands: row.demands.clone(),
        columns: Vec::new(),
        failures: Vec::new(),
    }
}

/// One run: nanoseconds for each unit, and allocations from the heap.
fn run(workload: &mut dyn Workload) -> Result<(f64, u64), String> {
    workload.prepare();
    let before = heap::allocations();
    let (result, elapsed) = workload.timed();
    let allocated = heap::allocations() - before;
    workload.verify(result)?;
    let units = workload.units();
    assert!(units > 0, "a workload has units");
    Ok((nanoseconds(elapsed) / units as f64, allocated))
}

/// The time that `work` takes, and what it returns.
pub fn time(work: impl FnOnce() -> u64) -> (u64, Duration) {
    let started = Instant::now();
    let result = black_box(work());
    (result, started.elapsed())
}

fn nanoseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_in_order() {
        let spread = Spread::of([5.0, 1.0, 4.0, 2.0, 3.0]).expect("there are values");
        assert_eq!(spread, Spread { best: 1.0, lower: 2.0, median: 3.0, upper: 4.0 });
        assert_eq!(Spread::of([]), None);
    }

    struct Lazy;

    impl Workload for Lazy {
        fn name(&self) -> String {
            "lazy".to_owned()
        }

        fn role(&self) -> Role {
            Role::Ours
        }

        fn units(&self) -> u64 {
            1
        }

        fn prepare(&mut self) {}

        fn run(&mut self) -> u64 {
            0
        }

        fn verify(&mut self, result: u64) -> Result<(), String> {
            if result == 1 { Ok(()) } else { Err("it did nothing".to_owned()) }
        }
    }

    #[test]
    fn a_run_that_did_nothing_is_a_failure_and_has_no_cost() {
        let row =
            Row { name: "row", unit: "page", workloads: vec![Box::new(Lazy)], demands: vec![] };
        let measured = measure(row, 3);
        assert_eq!(measured.failures, ["lazy: it did nothing"]);
        assert!(measured.columns.is_empty());
    }
}
