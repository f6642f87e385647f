//! The rows: what is measured, by whom, and what is demanded.
//!
//! Most rows are an operation over all pages: a line of a table. The first workload is ours, the
//! second one is the bound; then the same by hand, page by page and without a lock; then peers.

use std::sync::Arc;

use weft_bench::deferred::{ByHand, Tracked, Unmapping, UnmappingByHand, Way, frames_beside};
use weft_bench::locks::{Bare, Locking};
use weft_bench::measure::Row;
use weft_bench::memory::{Arena, ENTRIES};
use weft_bench::parallel::{self, Parallel};
use weft_bench::raw::{Care, Raw};
use weft_bench::target::Demand;
use weft_bench::weft::{self, Spaced, Weft};
use weft_bench::workload::{Operation, Over, Role, Span, State, Table, Workload};

use weft_core::geometry::{FourLevels, Shape as _};

use crate::peers::{Multiarch, Offset, PerRange};

/// Frames that are enough for the nodes of one table.
const FRAMES: u64 = 512;

/// How large everything is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    /// Pages of a workload: a power of two, and whole leaf nodes.
    pub pages: u64,
    /// Items of the rows about deferred free.
    pub items: u64,
}

impl Size {
    /// As the targets are meant: 64 leaf nodes, in which all pages of a workload are.
    pub(crate) const FULL: Self = Self { pages: 64 * ENTRIES as u64, items: 2048 };
}

/// A row that is made when it is its turn, so that rows do not hold one another's memory.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Planned {
    /// An operation over pages.
    Pages(Line),
    /// Something else.
    Other(&'static str, fn(&'static str, Size) -> Result<Row, String>),
}

/// An operation over pages, as a line of the table below.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    name: &'static str,
    operation: Operation,
    state: State,
    /// How the pages are cut.
    cut: Cut,
    bound: Care,
    demands: &'static [Demand],
}

/// How many pages are changed at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cut {
    /// All of them. A range that covers nodes takes them out whole.
    Whole,
    /// Half a leaf node: so no node is covered, and every entry is changed.
    Halves,
    /// One.
    Page,
}

const fn line(name: &'static str, operation: Operation, state: State) -> Line {
    Line { name, operation, state, cut: Cut::Whole, bound: Care::LOCKS, demands: &[] }
}

impl Line {
    const fn by_page(self) -> Self {
        Self { cut: Cut::Page, ..self }
    }

    const fn in_halves(self) -> Self {
        Self { cut: Cut::Halves, ..self }
    }

    const fn bound(self, bound: Care) -> Self {
        Self { bound, ..self }
    }

    const fn demands(self, demands: &'static [Demand]) -> Self {
        Self { demands, ..self }
    }
}

const MAP: &[Demand] = &[Demand::AtMost(3.0), Demand::UnderPeersPerPage];
const EXACT: &[Demand] = &[Demand::AtMost(1.4)];
const CHEAP: &[Demand] = &[Demand::AtMost(3.0)];
const TRANSACTION: &[Demand] = &[Demand::AtMost(2.5)];

/// The operations.
const LINES: [Line; 16] = [
    line("map, fresh", Operation::Map, State::Root).demands(MAP),
    line("map, warm", Operation::Map, State::Nodes).demands(MAP),
    line("query", Operation::Query, State::Mapped)
        .bound(Care::NONE)
        .demands(&[Demand::AtMost(5.0)]),
    line("query, random", Operation::QueryRandom, State::Mapped).bound(Care::NONE).by_page(),
    line("protect, exact", Operation::Protect, State::Mapped).bound(Care::EXACT).demands(EXACT),
    line("protect, cheap", Operation::Protect, State::Used).demands(CHEAP),
    line("unmap, exact", Operation::Unmap, State::Mapped).bound(Care::EXACT).demands(EXACT),
    line("unmap, cheap", Operation::Unmap, State::Used).demands(CHEAP),
    line("unmap parts, exact", Operation::Unmap, State::Mapped)
        .in_halves()
        .bound(Care::EXACT)
        .demands(EXACT),
    line("unmap parts, cheap", Operation::Unmap, State::Used).in_halves().demands(CHEAP),
    line("map 2 MiB", Operation::MapHuge, State::Root),
    line("split 2 MiB", Operation::Split, State::Huge)
        .bound(Care::NONE)
        .demands(&[Demand::AtMost(2.0)]),
    line("transaction: map", Operation::Map, State::Nodes).by_page().demands(TRANSACTION),
    line("transaction: protect", Operation::Protect, State::Mapped).bound(Care::EXACT).by_page(),
    line("transaction: unmap", Operation::Unmap, State::Mapped).bound(Care::EXACT).by_page(),
    line("transactions: map, unmap", Operation::MapUnmap, State::First)
        .bound(Care::EXACT)
        .by_page(),
];

/// Pages in half a leaf: a range that takes no node out as a whole.
pub(crate) const HALF_LEAF: u64 = ENTRIES as u64 / 2;

/// What two CPUs on ranges of their own are to reach.
const SCALES: &[Demand] = &[Demand::SpeedUp(1.8)];

const OTHERS: [Planned; 8] = [
    Planned::Other("unmap in a space", unmap_in_a_space),
    Planned::Other("lock a range", lock_range),
    Planned::Other("lock a page", lock_page),
    Planned::Other("deferred free", deferred),
    Planned::Other("unmap parts, tracked", unmap_tracked),
    // Ranges of half a leaf. All of a span at once is another race: leaves are taken out whole, so
    // it is about whose CPU gives up what the other has retired.
    Planned::Other("two CPUs, ranges", |name, size| two(name, size, HALF_LEAF, SCALES)),
    Planned::Other("two CPUs, pages", |name, size| two(name, size, 1, SCALES)),
    Planned::Other("two CPUs, whole nodes", |name, size| two(name, size, size.pages, &[])),
];

/// All rows, in the order in which they are shown.
pub(crate) fn all() -> impl Iterator<Item = Planned> {
    LINES.into_iter().map(Planned::Pages).chain(OTHERS)
}

impl Planned {
    /// What it does.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Pages(line) => line.name,
            Self::Other(name, _) => name,
        }
    }

    /// Makes the row.
    ///
    /// # Errors
    ///
    /// One sentence, if there is no memory for it.
    pub(crate) fn make(&self, size: Size) -> Result<Row, String> {
        match self {
            Self::Pages(line) => {
                let chunk = match line.cut {
                    Cut::Whole => size.pages,
                    Cut::Halves => HALF_LEAF,
                    Cut::Page => 1,
                };
                pages(line, Span::whole(size.pages).in_chunks(chunk))
            }
            Self::Other(name, make) => make(name, size),
        }
    }
}

/// A row of a sweep over how many pages are changed at once.
///
/// # Errors
///
/// One sentence, if there is no memory for it.
pub(crate) fn sweep(operation: Operation, size: Size, chunk: u64) -> Result<Row, String> {
    let (name, state, bound) = match operation {
        Operation::Map => ("map", State::Nodes, Care::LOCKS),
        Operation::Query => ("query", State::Mapped, Care::NONE),
        Operation::Protect => ("protect", State::Mapped, Care::EXACT),
        _ => ("unmap", State::Mapped, Care::EXACT),
    };
    let line = line(name, operation, state).bound(bound);
    pages(&line, Span::whole(size.pages).in_chunks(chunk))
}

fn pages(line: &Line, span: Span) -> Result<Row, String> {
    let mut workloads = Workloads { line, span, all: Vec::new() };
    workloads.add(Role::Ours, Weft::new("weft", weft::start(FRAMES)?), span);
    workloads.add(Role::Bound, Raw::new("by hand", arena(FRAMES)?, line.bound), span);
    if matches!(line.operation, Operation::Query | Operation::QueryRandom) {
        let weft = Weft::new("weft, locked", weft::start(FRAMES)?).locking_to_read();
        workloads.add(Role::Reference, weft, span);
    }
    let is_huge = matches!(line.operation, Operation::MapHuge | Operation::Split);
    let page = span.in_chunks(if is_huge { ENTRIES as u64 } else { 1 });
    let bare = Raw::new("by hand, a walk per page", arena(FRAMES)?, Care::NONE);
    workloads.add(Role::Reference, bare, page);
    workloads.add(Role::PeerPerPage, Offset::new(arena(FRAMES)?), span);
    workloads.add(Role::PeerPerPage, Multiarch::new(memory(FRAMES)?), span);
    // Hardware's bits are others there.
    if line.state != State::Used {
        let per_page = PerRange::new("aarch64-paging", arena(FRAMES)?);
        workloads.add(Role::PeerPerPage, per_page, page);
        if span.chunk > 1 {
            let per_range = PerRange::new("aarch64-paging, per range", arena(FRAMES)?);
            workloads.add(Role::PeerPerRange, per_range, span);
        }
    }
    let workloads = workloads.all;
    Ok(Row { name: line.name, unit: "page", workloads, demands: line.demands.to_vec() })
}

struct Workloads<'a> {
    line: &'a Line,
    span: Span,
    all: Vec<Box<dyn Workload>>,
}

impl Workloads<'_> {
    fn add(&mut self, role: Role, table: impl Table + 'static, span: Span) {
        assert!(span.range() == self.span.range(), "all workloads have the same pages");
        let Line { operation, state, .. } = *self.line;
        self.all.push(Box::new(Over::new(role, table, operation, state, span)));
    }
}

fn arena(frames: u64) -> Result<Arc<Arena>, String> {
    memory(frames).map(Arc::new)
}

fn memory(frames: u64) -> Result<Arena, String> {
    Arena::new(frames).map_err(|error| format!("there is no memory for a table: {error}"))
}

/// What a page's flush costs that knows whom it is for, beside one that asks every CPU of none.
fn unmap_in_a_space(name: &'static str, size: Size) -> Result<Row, String> {
    let span = Span::whole(size.pages).in_chunks(1);
    let kinds = [
        (Role::Ours, "weft, held by its CPU", Spaced::Held),
        (Role::Reference, "weft, held by none", Spaced::Idle),
        (Role::Bound, "weft, a bare root", Spaced::Bare),
    ];
    let mut workloads: Vec<Box<dyn Workload>> = Vec::new();
    for (role, name, space) in kinds {
        let table = Weft::new(name, weft::start(FRAMES)?).spaced(space);
        workloads.push(Box::new(Over::new(role, table, Operation::Unmap, State::Mapped, span)));
    }
    Ok(Row { name, unit: "page", workloads, demands: Vec::new() })
}

fn lock_range(name: &'static str, size: Size) -> Result<Row, String> {
    let span = Span::whole(size.pages);
    let bare = Bare::new(Raw::new("by hand", arena(FRAMES)?, Care::NONE));
    let workloads: Vec<Box<dyn Workload>> = vec![
        Box::new(Locking::new(Role::Ours, Weft::new("weft", weft::start(FRAMES)?), span)),
        Box::new(Locking::new(Role::Bound, bare, span)),
    ];
    Ok(Row { name, unit: "leaf node", workloads, demands: vec![Demand::AtMost(2.0)] })
}

fn lock_page(name: &'static str, _size: Size) -> Result<Row, String> {
    let span = Span::whole(ENTRIES as u64).in_chunks(1);
    let raw = Raw::new("by hand", arena(FRAMES)?, Care::NONE);
    let workloads: Vec<Box<dyn Workload>> = vec![
        Box::new(Locking::new(Role::Ours, Weft::new("weft", weft::start(FRAMES)?), span)),
        Box::new(Locking::new(Role::Bound, raw, span)),
    ];
    Ok(Row { name, unit: "page", workloads, demands: Vec::new() })
}

fn deferred(name: &'static str, size: Size) -> Result<Row, String> {
    let machine = || weft::start(size.items + FRAMES);
    let tracked = |way| machine().map(|machine| Tracked::new(machine, way, size.items));
    let by_hand = machine()?;
    let beside = arena(frames_beside(by_hand))?;
    let workloads: Vec<Box<dyn Workload>> = vec![
        Box::new(tracked(Way::Batch)?),
        Box::new(ByHand::new(by_hand, beside, size.items)),
        Box::new(tracked(Way::AtOnce)?),
    ];
    let demands = vec![Demand::AtMost(1.5), Demand::NoAllocation];
    Ok(Row { name, unit: "item", workloads, demands })
}

fn unmap_tracked(name: &'static str, size: Size) -> Result<Row, String> {
    // Whole leaf nodes: as many pages as there are items, or more.
    let pages = size.items.next_multiple_of(ENTRIES as u64);
    let span = Span::whole(pages).in_chunks(ENTRIES as u64 / 2);
    let machine = || weft::start(pages + FRAMES);
    let by_hand = machine()?;
    let beside = arena(frames_beside(by_hand))?;
    let raw = Raw::new("by hand", arena(FRAMES)?, Care::EXACT);
    let workloads: Vec<Box<dyn Workload>> = vec![
        Box::new(Unmapping::new(Weft::new("weft", machine()?), span)),
        Box::new(UnmappingByHand::new(raw, by_hand, beside, span)),
    ];
    let demands = vec![Demand::AtMost(1.5), Demand::NoAllocation];
    Ok(Row { name, unit: "page", workloads, demands })
}

/// Whose tables threads change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Who {
    /// Ours.
    Weft,
    /// A bound's, with locks.
    ByHand,
}

/// By hand as well: that is what this machine, with what else it has to do, makes of two threads.
fn two(name: &'static str, size: Size, chunk: u64, demands: &[Demand]) -> Result<Row, String> {
    let span = Span::whole(size.pages).in_chunks(chunk);
    let workloads = vec![
        threads(Who::Weft, Role::Ours, 2, span)?,
        threads(Who::Weft, Role::Bound, 1, span)?,
        threads(Who::ByHand, Role::Reference, 2, span)?,
        threads(Who::ByHand, Role::Reference, 1, span)?,
    ];
    Ok(Row { name, unit: "page", workloads, demands: demands.to_vec() })
}

/// So many threads that map and unmap, in one table.
///
/// # Errors
///
/// One sentence, if there is no memory for the table.
pub(crate) fn threads(
    who: Who,
    role: Role,
    count: usize,
    span: Span,
) -> Result<Box<dyn Workload>, String> {
    // A thread that is not running ends no grace period: what the others take out has to wait.
    let nodes = span.leaves().count() as u64 + FourLevels::LEVELS as u64;
    let frames = (parallel::repetitions(&span) + 2) * nodes * count as u64;
    let plural = if count == 1 { "thread" } else { "threads" };
    Ok(match who {
        Who::Weft => {
            let name = format!("weft, {count} {plural}");
            let table = weft::Shared::new(weft::start(frames)?);
            Box::new(Parallel::new(name, role, count, span, move |number| table.on(number)))
        }
        Who::ByHand => {
            let name = format!("by hand, {count} {plural}");
            let raw = Raw::new("by hand", arena(frames)?, Care::EXACT);
            Box::new(Parallel::new(name, role, count, span, move |_| raw.sharing()))
        }
    })
}
