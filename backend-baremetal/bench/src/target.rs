//! What ratios should be, and whether they are.

use std::fmt;

use crate::measure::Measured;
use crate::workload::Role;

/// What is demanded of our workload in a row.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Demand {
    /// At most so many times the bound.
    AtMost(f64),
    /// At least so many times as fast as the bound.
    SpeedUp(f64),
    /// Faster than every peer that is called once per page.
    UnderPeersPerPage,
    /// No allocation from the heap.
    NoAllocation,
}

impl fmt::Display for Demand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(ratio) => write!(f, "at most {ratio}x the bound"),
            Self::SpeedUp(ratio) => write!(f, "at least {ratio}x as fast as one"),
            Self::UnderPeersPerPage => f.write_str("under every per-page peer"),
            Self::NoAllocation => f.write_str("no allocation"),
        }
    }
}

/// How it went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// As demanded.
    Met,
    /// Not as demanded.
    Missed,
    /// Something that the demand speaks of is not there.
    Unmeasured,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Met => "met",
            Self::Missed => "MISSED",
            Self::Unmeasured => "NOT MEASURED",
        })
    }
}

/// A demand, what was measured, and the verdict.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The row.
    pub row: String,
    /// What was demanded.
    pub demand: Demand,
    /// The number that decides, if there is one.
    pub measured: Option<f64>,
    /// The verdict.
    pub outcome: Outcome,
}

/// Judges a row by each of its demands. The first workload of ours is what they are about.
pub fn judge(measured: &Measured) -> Vec<Judged> {
    measured.demands.iter().map(|&demand| one(measured, demand)).collect()
}

fn one(row: &Measured, demand: Demand) -> Judged {
    let ours = row.columns.iter().find(|column| column.role == Role::Ours);
    let ratio = ours.and_then(|ours| ours.ratio).map(|ratio| ratio.median);
    let at_most = |value: Option<f64>, limit| (value, value.map(|value| value <= limit));
    let (value, is_met) = match demand {
        Demand::AtMost(limit) => at_most(ratio, limit),
        Demand::SpeedUp(limit) => {
            let speed_up = ratio.map(|ratio| 1.0 / ratio);
            (speed_up, speed_up.map(|speed_up| speed_up >= limit))
        }
        Demand::UnderPeersPerPage => {
            let peers = row.columns.iter().filter(|column| column.role == Role::PeerPerPage);
            let worst = peers.filter_map(|peer| peer.ours).map(|ratio| ratio.median);
            at_most(worst.reduce(f64::max), 1.0)
        }
        Demand::NoAllocation => {
            at_most(ours.and_then(|ours| ours.allocations).map(|count| count as f64), 0.0)
        }
    };
    let outcome = match is_met {
        None => Outcome::Unmeasured,
        Some(true) => Outcome::Met,
        Some(false) => Outcome::Missed,
    };
    Judged { row: row.name.to_owned(), demand, measured: value, outcome }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::{Column, Spread};

    fn column(role: Role, ratio: f64, ours: Option<f64>) -> Column {
        let spread = |value| Spread { best: value, lower: value, median: value, upper: value };
        Column {
            name: String::new(),
            role,
            nanoseconds: spread(ratio),
            ratio: Some(spread(ratio)),
            ours: ours.map(spread),
            allocations: Some(0),
        }
    }

    fn row(columns: Vec<Column>, demand: Demand) -> Outcome {
        let measured = Measured {
            name: "row",
            unit: "page",
            demands: vec![demand],
            columns,
            failures: vec![],
        };
        judge(&measured)[0].outcome
    }

    #[test]
    fn a_ratio_above_the_limit_is_missed() {
        let ours = || vec![column(Role::Bound, 1.0, None), column(Role::Ours, 2.5, Some(1.0))];
        assert_eq!(row(ours(), Demand::AtMost(2.5)), Outcome::Met);
        assert_eq!(row(ours(), Demand::AtMost(2.4)), Outcome::Missed);
    }

    #[test]
    fn without_ours_nothing_is_met() {
        let bound = || vec![column(Role::Bound, 1.0, None)];
        for demand in [Demand::AtMost(9.0), Demand::SpeedUp(0.1), Demand::UnderPeersPerPage] {
            assert_eq!(row(bound(), demand), Outcome::Unmeasured);
        }
        assert_eq!(row(bound(), Demand::NoAllocation), Outcome::Unmeasured);
    }

    #[test]
    fn one_faster_peer_is_enough_to_miss() {
        let peers = |second| {
            let peer = |ours| column(Role::PeerPerPage, 3.0, Some(ours));
            vec![column(Role::Ours, 1.0, Some(1.0)), peer(0.4), peer(second)]
        };
        assert_eq!(row(peers(0.9), Demand::UnderPeersPerPage), Outcome::Met);
        assert_eq!(row(peers(1.1), Demand::UnderPeersPerPage), Outcome::Missed);
    }

    #[test]
    fn a_speed_up_is_the_ratio_turned_round() {
        let ours = |ratio| vec![column(Role::Bound, 1.0, None), column(Role::Ours, ratio, None)];
        assert_eq!(row(ours(0.5), Demand::SpeedUp(1.8)), Outcome::Met);
        assert_eq!(row(ours(0.7), Demand::SpeedUp(1.8)), Outcome::Missed);
    }
}
