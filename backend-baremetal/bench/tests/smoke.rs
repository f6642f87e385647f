//! Every row at a tiny size, verified as in a measurement; and rows that must be noticed.
//!
//! The rows and the peers are those of the benchmark, which is no library: only it links peers.

#[path = "../benches/weft/peers/mod.rs"]
mod peers;
#[path = "../benches/weft/rows.rs"]
mod rows;

use std::collections::BTreeSet;
use std::sync::Arc;

use weft_backend_baremetal::hosted::on_cpu;
use weft_bench::deferred::{Tracked, Way};
use weft_bench::heap::{self, Counting};
use weft_bench::measure::{Measured, Row, measure};
use weft_bench::memory::{Arena, ENTRIES};
use weft_bench::plot::{self, Picture, Series};
use weft_bench::raw::{Care, Raw};
use weft_bench::target::{Outcome, judge};
use weft_bench::walk::Tree;
use weft_bench::weft;
use weft_bench::workload::{Operation, Over, Role, Span, State, Table, Workload, units};
use weft_core::address::CpuId;

use rows::{Size, Who};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Two leaf nodes.
const TINY: Size = Size { pages: 1024, items: 32 };

fn one_round(row: Row) -> Measured {
    on_cpu(CpuId::new(0), || measure(row, 1))
}

fn row_of(workload: impl Workload + 'static) -> Row {
    Row { name: "row", unit: "page", workloads: vec![Box::new(workload)], demands: Vec::new() }
}

#[test]
fn every_row_does_its_work() {
    for planned in rows::all() {
        let measured = one_round(planned.make(TINY).expect("the host has a few megabytes"));
        assert!(measured.failures.is_empty(), "{}: {:?}", measured.name, measured.failures);
        let has = |role| measured.columns.iter().any(|column| column.role == role);
        assert!(has(Role::Bound), "{} has no bound", measured.name);
        let unmeasured =
            |judged: &weft_bench::target::Judged| judged.outcome == Outcome::Unmeasured;
        assert!(!judge(&measured).iter().any(unmeasured), "{}", measured.name);
    }
}

#[test]
fn rows_have_names_of_their_own_and_whole_leaves() {
    let names: BTreeSet<_> = rows::all().map(|row| row.name()).collect();
    assert_eq!(names.len(), rows::all().count());
    for size in [TINY, Size::FULL] {
        assert!(size.pages.is_power_of_two() && size.pages.is_multiple_of(ENTRIES as u64));
    }
}

#[test]
fn sweeps_do_their_work() {
    for operation in [Operation::Map, Operation::Query, Operation::Protect, Operation::Unmap] {
        for chunk in [1, 8, 512, 1024] {
            let row = rows::sweep(operation, TINY, chunk).expect("the host has a few megabytes");
            let measured = one_round(row);
            assert!(measured.failures.is_empty(), "{operation:?}: {:?}", measured.failures);
        }
    }
}

#[test]
fn threads_do_their_work() {
    let span = Span::whole(TINY.pages).in_chunks(64);
    for who in [Who::Weft, Who::ByHand] {
        let workload = rows::threads(who, Role::Ours, 3, span).expect("there is memory");
        let row = Row { name: "row", unit: "page", workloads: vec![workload], demands: Vec::new() };
        let measured = one_round(row);
        assert!(measured.failures.is_empty(), "{who:?}: {:?}", measured.failures);
    }
}

/// A table that is prepared as it should be, says what it should say, and does nothing.
struct Idle(Raw);

impl Tree for Idle {
    fn root(&self) -> u64 {
        self.0.root()
    }

    fn entry(&self, node: u64, index: usize) -> u64 {
        self.0.entry(node, index)
    }

    fn set(&self, node: u64, index: usize, bits: u64) {
        self.0.set(node, index, bits);
    }
}

impl Table for Idle {
    fn name(&self) -> String {
        "idle".to_owned()
    }

    fn prepare(&mut self, state: State, span: &Span) {
        self.0.prepare(state, span);
    }

    fn run(&mut self, operation: Operation, span: &Span) -> u64 {
        match operation {
            // What these return is the only thing that they do.
            Operation::Query | Operation::QueryRandom | Operation::MapUnmap => 0,
            _ => units(operation, span),
        }
    }
}

#[test]
fn a_table_that_does_nothing_is_noticed_whatever_it_is_asked_for() {
    let operations = [
        (Operation::Map, State::Nodes, "Map left"),
        (Operation::MapHuge, State::Root, "MapHuge left"),
        (Operation::Query, State::Mapped, "Query returned"),
        (Operation::QueryRandom, State::Mapped, "QueryRandom returned"),
        (Operation::Protect, State::Used, "Protect left"),
        (Operation::Unmap, State::Mapped, "Unmap left"),
        (Operation::Split, State::Huge, "Split left"),
        (Operation::MapUnmap, State::First, "MapUnmap returned"),
    ];
    for (operation, state, message) in operations {
        let arena = Arc::new(Arena::new(64).expect("the host has a few pages"));
        let idle = Idle(Raw::new("idle", arena, Care::LOCKS));
        let workload = Over::new(Role::Ours, idle, operation, state, Span::whole(TINY.pages));
        let measured = one_round(row_of(workload));
        assert!(measured.columns.is_empty(), "{operation:?} has a cost");
        assert!(measured.failures[0].contains(message), "{:?}", measured.failures);
    }
}

#[test]
fn frames_that_are_not_given_back_are_noticed() {
    let machine = weft::start(64).expect("the host has a few pages");
    let measured = one_round(row_of(Tracked::new(machine, Way::Leaked, TINY.items)));
    let message = "leaked: 32 of 32 frames were given up, and 32 are in use";
    assert_eq!(measured.failures, [message]);
}

#[test]
fn allocations_are_counted() {
    assert!(heap::is_counting());
}

#[test]
fn pictures_are_drawings() {
    let points = vec![(1.0, 2.0), (2.0, 1.0), (4.0, 0.5)];
    let series = vec![Series { name: "a line".to_owned(), points }];
    for is_logarithmic in [false, true] {
        let picture = Picture {
            title: "title".to_owned(),
            axes: ("x", "y"),
            is_logarithmic,
            series: series.clone(),
        };
        let file = format!("weft-bench-picture-{}-{is_logarithmic}.svg", std::process::id());
        let path = std::env::temp_dir().join(file);
        plot::write(&picture, &path).expect("the folder can be written");
        let text = std::fs::read_to_string(&path).expect("it was written");
        std::fs::remove_file(&path).expect("it was written");
        assert!(text.starts_with("<svg") && text.contains("a line"), "{text}");
    }
}
