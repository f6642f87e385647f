//! Two small races whose histories are recorded, each right and wrong.
//!
//! They say what the check of histories finds, from the role that records to the message; the test
//! binaries, one per checker, say which of them a checker finds. The wrong operations are here
//! and not in the core, and touch nothing that any other detector would complain about.

pub(crate) mod marks;

use std::time::Duration;

use weft_backend_loom::chosen::EngineName;
use weft_backend_loom::harness::Prepare;
use weft_backend_loom::model::Model;
use weft_backend_loom::report::{Report, Request};
use weft_core::cursor::Slot;
use weft_scenarios::Visitor;
use weft_scenarios::prelude::*;

pub(crate) const NOT_LINEARIZABLE: &str = "history is not linearizable: ";

/// Explores `S`.
pub(crate) fn explore<S: Scenario<Model>>(engine: EngineName, request: Request) -> Report {
    let request = Request { time: Duration::from_secs(60), ..request };
    Prepare.visit::<S>("a race of this test").explore(engine, request, None)
}

/// What is mapped in a leaf, looked up without locks.
fn look<B: World>(cpu: &Cpu<B>, leaf: &Node<UserTable<B>>, page: u8) -> Option<Mapping> {
    let section = cpu.read_side();
    Mapping::found(cpu.backend(), leaf.borrow(&section).walk(page.into()))
}

/// Takes the pages of a leaf out, and counts them.
fn unmap<B: World>(cpu: &Cpu<B>, leaf: &Node<UserTable<B>>, pages: [usize; 2]) -> Answer {
    let section = cpu.read_side();
    let mut leaf = leaf.borrow(&section).lock();
    let mut frames = 0;
    for page in pages {
        let mut entry = leaf.entry(page).expect("a node has two entries");
        let detached = entry.replace(Child::Absent).expect("an entry can be emptied");
        frames += u64::from(matches!(detached.child(), ChildRef::Item(_)));
    }
    Answer::Frames(frames)
}

const FIVE: Mapping = Mapping::writable(5);

/// One CPU maps a page, the other takes both pages out and maps the same one. Without
/// `IS_CAREFUL`, whether the page is mapped already is looked up before the lock is taken.
pub(crate) struct MapVsRemap<B: World, const IS_CAREFUL: bool> {
    leaf: Node<UserTable<B>>,
}

impl<B: World, const IS_CAREFUL: bool> MapVsRemap<B, IS_CAREFUL> {
    fn map(&self, history: &mut History, cpu: &mut Cpu<B>, frame: u8) -> Answer {
        let operation = Operation::map(0, Mapping::writable(frame));
        history.record(cpu, operation, |cpu| {
            let is_mapped = look(cpu, &self.leaf, 0).is_some();
            let section = cpu.read_side();
            let mut leaf = self.leaf.borrow(&section).lock();
            let mut entry = leaf.entry(0).expect("a node has two entries");
            let is_mapped =
                if IS_CAREFUL { !matches!(entry.child(), ChildRef::Absent) } else { is_mapped };
            if is_mapped {
                return Answer::AlreadyMapped;
            }
            let page = Frame::allocate(cpu.backend()).expect("there are frames enough");
            cpu.backend().write_contents(page.paddr(), frame.into());
            let property = Property::new(PageFlags::WRITE);
            let item = MappedItem::Tracked { frame: page, property };
            entry.replace(Child::Item(item)).expect("a page fits a leaf");
            Answer::Mapped
        })
    }
}

impl<B: World, const IS_CAREFUL: bool> Scenario<B> for MapVsRemap<B, IS_CAREFUL> {
    type Saw = History;
    const CPUS: Cpus<Self, B> = cpus([
        ("mapper", |race, cpu| {
            let mut history = History::new();
            race.map(&mut history, cpu, 7);
            history
        }),
        ("remapper", |race, cpu| {
            let mut history = History::new();
            let take_out = |cpu: &mut Cpu<B>| unmap(cpu, &race.leaf, [0, 1]);
            history.record(cpu, Operation::unmap(0..2), take_out);
            race.map(&mut history, cpu, 9);
            history
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("seven", "the mapper came in between"),
        interesting("nine", "the mapper came before or after"),
    ];
    const REACHED: &'static [Situation] = &[];
    const TWINS: Twins = twins([weakened(&sites::LOCK_ACQUIRE, "data race on N")]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        let leaf = machine.node(1);
        let property = Property::new(PageFlags::WRITE);
        let item = MappedItem::Tracked { frame: machine.frame(5), property };
        let section = machine.section();
        let mut guard = leaf.borrow(&section).lock();
        let mut entry = guard.entry(0).expect("a node has two entries");
        entry.replace(Child::Item(item)).expect("a page fits a leaf");
        drop(guard);
        drop(section);
        Self { leaf }
    }

    fn check(&self, cpu: &mut Cpu<B>, saw: &[History]) -> &'static str {
        let last = PageMap::of(0..2, |page| look(cpu, &self.leaf, page));
        assert_linearizable(&PageMap::EMPTY.with(0, FIVE), saw, &last);
        if last == PageMap::EMPTY.with(0, Mapping::writable(7)) { "seven" } else { "nine" }
    }
}

/// One CPU unmaps a page. The other takes the lock once, and then asks for the page, by itself or,
/// without `IS_FRESH`, by what it had seen at the very beginning. What it had seen was right, and
/// is a legal answer to whoever asks before the unmap is over; but the lock may say that it is.
pub(crate) struct UnmapVsRemembered<B: World, const IS_FRESH: bool> {
    race: MapVsRemap<B, true>,
}

impl<B: World, const IS_FRESH: bool> Scenario<B> for UnmapVsRemembered<B, IS_FRESH> {
    type Saw = History;
    const CPUS: Cpus<Self, B> = cpus([
        ("unmapper", |Self { race }, cpu| {
            let mut history = History::new();
            let take_out = |cpu: &mut Cpu<B>| unmap(cpu, &race.leaf, [0, 1]);
            history.record(cpu, Operation::unmap(0..2), take_out);
            history
        }),
        ("reader", |Self { race }, cpu| {
            let remembered = look(cpu, &race.leaf, 0);
            let section = cpu.read_side();
            drop(race.leaf.borrow(&section).lock());
            drop(section);
            let mut history = History::new();
            history.record(cpu, Operation::query(0), |cpu| {
                Answer::Found(if IS_FRESH { look(cpu, &race.leaf, 0) } else { remembered })
            });
            history
        }),
    ]);
    const OUTCOMES: &'static [Outcome] =
        &[interesting("done", "what was answered is in the histories")];
    const REACHED: &'static [Situation] = &[];
    const TWINS: Twins = twins([weakened(&sites::LOCK_ACQUIRE, "data race on N")]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        Self { race: Scenario::set_up(machine) }
    }

    fn check(&self, cpu: &mut Cpu<B>, saw: &[History]) -> &'static str {
        let last = PageMap::of(0..2, |page| look(cpu, &self.race.leaf, page));
        assert_linearizable(&PageMap::EMPTY.with(0, FIVE), saw, &last);
        "done"
    }
}

/// Each of two CPUs maps a page, in leaves of their own, and looks for the other's, without locks
/// or, if `IS_LOCKED`, with a cursor of that page. Without locks both may miss: a store to one page
/// and a load from another are not ordered, not even on x86.
pub(crate) struct MapThenLook<B: World, const IS_LOCKED: bool> {
    root: Node<UserTable<B>>,
}

impl<B: World, const IS_LOCKED: bool> MapThenLook<B, IS_LOCKED> {
    /// Page 0 is in the first leaf, page 1 in the second.
    fn range(page: u8) -> std::ops::Range<Vaddr> {
        let start = B::Geometry::address(&[0, page.into()]);
        start..B::Geometry::address(&[1, page.into()])
    }

    fn map(&self, history: &mut History, cpu: &mut Cpu<B>, page: u8) {
        let operation = Operation::map(page, Mapping::writable(page));
        history.record(cpu, operation, |cpu| {
            let frame = Frame::allocate(cpu.backend()).expect("there are frames enough");
            cpu.backend().write_contents(frame.paddr(), page.into());
            let property = Property::new(PageFlags::WRITE);
            let section = cpu.read_side();
            let cursor = Cursor::lock(self.root.borrow(&section), Self::range(page));
            let mut cursor = cursor.expect("the range is one page");
            Answer::mapped(cursor.map(MappedItem::Tracked { frame, property }))
        });
    }

    fn look(&self, cpu: &Cpu<B>, page: u8) -> Option<Mapping> {
        let section = cpu.read_side();
        let root = self.root.borrow(&section);
        let range = Self::range(page);
        let slot = if IS_LOCKED {
            let mut cursor = Cursor::lock(root, range).expect("the range is one page");
            cursor.query().expect("the cursor is at the page")
        } else {
            let item = match walk_to_leaf(root, range.start) {
                ChildRef::Item(item) => Some(item),
                _ => None,
            };
            Slot { range, item }
        };
        Mapping::in_slot(cpu.backend(), &slot)
    }

    fn play(&self, cpu: &mut Cpu<B>, own: u8) -> History {
        let mut history = History::new();
        self.map(&mut history, cpu, own);
        let other = 1 - own;
        let look = |cpu: &mut Cpu<B>| Answer::Found(self.look(cpu, other));
        history.record(cpu, Operation::query(other), look);
        history
    }
}

impl<B: World, const IS_LOCKED: bool> Scenario<B> for MapThenLook<B, IS_LOCKED> {
    type Saw = History;
    const CPUS: Cpus<Self, B> =
        cpus([("first", |race, cpu| race.play(cpu, 0)), ("second", |race, cpu| race.play(cpu, 1))]);
    const OUTCOMES: &'static [Outcome] =
        &[interesting("done", "what was answered is in the histories")];
    const REACHED: &'static [Situation] = &[];
    const TWINS: Twins = twins([weakened(&sites::LOCK_ACQUIRE, "data race on N")]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        let root = machine.user_root();
        for page in [0, 1] {
            // The neighbour: so that the leaf is there, and the cursors share nothing above it.
            machine.map(&root, B::Geometry::address(&[1, page]), 5);
        }
        Self { root }
    }

    fn check(&self, cpu: &mut Cpu<B>, saw: &[History]) -> &'static str {
        let last = PageMap::of(0..2, |page| self.look(cpu, page));
        assert_linearizable(&PageMap::EMPTY, saw, &last);
        "done"
    }
}

/// A report that found nothing.
#[track_caller]
pub(crate) fn good(report: &Report) {
    let judgement = report.judgement();
    assert_eq!(judgement, weft_backend_loom::report::Judgement::Good, "{report:?}");
}

/// A report of a history that is not linearizable.
#[track_caller]
pub(crate) fn caught(report: &Report) -> &str {
    assert!(report.is_caught_with(NOT_LINEARIZABLE), "{report:?}");
    &report.failure.as_ref().expect("it was caught").message
}
