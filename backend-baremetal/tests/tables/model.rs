//! Random sequences of operations on nodes, against their paths and the specification of pages.
//!
//! A path is the list of indices from the root down. The [`Model`] is a sorted map of the paths of
//! nodes, the [specification](Specification) of what is mapped, and two counts of frames: those
//! that wait for the current grace period, and those that wait for the next. From it follows what
//! every operation gives back, how many children every node has, and how many frames are in use
//! after every step.
//!
//! The sequences are the same in every run. `STEPS_MAX` and `CASES` keep all of it under some
//! seconds without optimisation.

use std::collections::BTreeMap;
use std::ops::Range;

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::test_runner::{Config as Settings, RngSeed, TestRunner};
use weft_backend_baremetal::hosted::hardware_sets;
use weft_core::address::{FRAME_SIZE, Level, Paddr, Vaddr};
use weft_core::cpu::Cpu;
use weft_core::entry::{Child, ChildRef};
use weft_core::error::{LockError, Refusal};
use weft_core::find::lock_covering;
use weft_core::format::{CachePolicy, EntryFormat, PageFlags, Property, RawItem, X86_64};
use weft_core::frame::Frame;
use weft_core::geometry::Geometry;
use weft_core::guard::Guard;
use weft_core::item::MappedItem;
use weft_core::node::{Node, NodeRef};
use weft_scenarios::specification::{Cursor, Memory, Rules, Specification, addresses, misfit};

use crate::support::{Machine, Whole, live, node, on_machine, online, put, tracked, untracked_at};

on_every_geometry!(a_table_behaves_as_a_map);

const CASES: u32 = 48;
const STEPS_MAX: usize = 60;
const CACHES: [CachePolicy; 3] =
    [CachePolicy::WriteBack, CachePolicy::Uncached, CachePolicy::WriteCombining];

/// What is done at a place of the table.
#[derive(Clone, Copy, Debug)]
enum Operation {
    Grow,
    LockCovering,
    MapTracked(Property),
    MapUntracked { property: Property, is_aligned: bool },
    PutNode { fits: bool },
    Detach,
    Split,
    Protect(Property),
    HardwareSets(PageFlags),
    Quiescent,
}

#[derive(Clone, Debug)]
struct Step {
    /// Where: followed down to an entry of level `depth` below the root, or as far as it leads.
    path: [usize; 5],
    depth: usize,
    operation: Operation,
    /// How many frames are left, for the operation only.
    frames: u64,
}

fn properties() -> impl Strategy<Value = Property> {
    let flags =
        any::<u16>().prop_map(|bits| PageFlags::from_bits_truncate(bits) - PageFlags::GLOBAL);
    (flags, 0..CACHES.len()).prop_map(|(flags, cache)| Property { flags, cache: CACHES[cache] })
}

fn operations() -> impl Strategy<Value = Operation> {
    let hardware = [PageFlags::ACCESSED, PageFlags::ACCESSED | PageFlags::DIRTY];
    prop_oneof![
        4 => Just(Operation::Grow),
        3 => Just(Operation::LockCovering),
        3 => properties().prop_map(Operation::MapTracked),
        5 => (properties(), any::<bool>())
            .prop_map(|(property, is_aligned)| Operation::MapUntracked { property, is_aligned }),
        2 => any::<bool>().prop_map(|fits| Operation::PutNode { fits }),
        3 => Just(Operation::Detach),
        3 => Just(Operation::Split),
        3 => properties().prop_map(Operation::Protect),
        2 => (0..2_usize).prop_map(move |which| Operation::HardwareSets(hardware[which])),
        2 => Just(Operation::Quiescent),
    ]
}

/// Steps at few places, so that they meet: both ends of a node, and next to the middle.
fn steps<G: Geometry>() -> impl Strategy<Value = Vec<Step>> {
    let index = (0..4_usize)
        .prop_map(|which| [0, G::ENTRIES / 2 - 1, G::ENTRIES / 2, G::ENTRIES - 1][which]);
    let path = vec(index, 5).prop_map(|path| path.try_into().expect("the path has 5 indices"));
    let frames = prop_oneof![4 => Just(u64::MAX), 1 => 0..3_u64];
    let step = (path, 1..=usize::from(G::LEVELS), operations(), frames)
        .prop_map(|(path, depth, operation, frames)| Step { path, depth, operation, frames });
    vec(step, 1..STEPS_MAX)
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Slot {
    Node(Paddr),
    Page(RawItem),
}

/// The slot that an entry shows, or that came out of it.
fn shown<G: Geometry>(child: ChildRef<'_, Whole<G>>) -> Option<Slot> {
    match child {
        ChildRef::Absent => None,
        ChildRef::Node(node) => Some(Slot::Node(node.paddr())),
        ChildRef::Item(page) => Some(Slot::Page(*page)),
        ChildRef::Shared => unreachable!("the table manages all of its root"),
    }
}

struct Model<G> {
    nodes: BTreeMap<Vec<usize>, Paddr>,
    pages: Specification<G, BTreeMap<u64, RawItem>>,
    /// Frames that the current grace period keeps.
    current: u64,
    /// Frames that the one after it keeps.
    next: u64,
}

impl<G: Rules> Model<G> {
    fn new() -> Self {
        let pages = Specification::new(BTreeMap::new());
        Self { nodes: BTreeMap::new(), pages, current: 0, next: 0 }
    }

    /// The level of an entry with this path.
    fn level(path: &[usize]) -> Level {
        Level::new(G::LEVELS + 1 - path.len() as u8)
    }

    /// The pages that an entry with this path covers; all of them for the empty path.
    fn covered(path: &[usize]) -> Range<u64> {
        let count = |depth: usize| G::entry_frames(Self::level(&path[..depth]));
        let offset = |depth: usize| path[depth - 1] as u64 * count(depth);
        let start = (1..=path.len()).map(offset).sum();
        start..start + (1..=path.len()).last().map_or(G::node_span(G::ROOT) / FRAME_SIZE, count)
    }

    /// The specification's cursor of what an entry covers.
    fn cursor(&mut self, path: &[usize]) -> Cursor<'_, G, BTreeMap<u64, RawItem>> {
        let range = addresses::<G>(&Self::covered(path));
        self.pages.cursor(range).expect("an entry covers a range")
    }

    fn slot(&self, path: &[usize]) -> Option<Slot> {
        let covered = Self::covered(path);
        let page = self.pages.at(covered.start).filter(|it| it.pages == covered);
        let page = page.filter(|it| it.item.level == Self::level(path));
        let node = self.nodes.get(path).map(|&place| Slot::Node(place));
        node.or(page.map(|it| Slot::Page(it.item)))
    }

    /// The nodes at a path and below it.
    fn below<'a>(&'a self, path: &'a [usize]) -> impl Iterator<Item = &'a Vec<usize>> {
        let below = self.nodes.range(path.to_vec()..).map(|(other, _)| other);
        below.take_while(move |other| other.starts_with(path))
    }

    fn children(&self, node: &[usize]) -> usize {
        let level = Level::new(G::LEVELS - node.len() as u8);
        let nodes = self.below(node).filter(|path| path.len() == node.len() + 1).count();
        let pages = self.pages.within(Self::covered(node));
        nodes + pages.filter(|it| it.item.level == level).count()
    }

    /// Frames that go when what is at a path goes, and what is below.
    fn owned(&self, path: &[usize]) -> u64 {
        let pages = self.pages.within(Self::covered(path));
        let tracked = pages.filter(|it| it.item.property.flags.contains(PageFlags::TRACKED));
        (self.below(path).count() + tracked.count()) as u64
    }

    fn frames(&self) -> u64 {
        1 + self.owned(&[]) + self.current + self.next
    }

    /// Takes out what is at a path and below; it waits for a grace period.
    fn remove(&mut self, path: &[usize]) -> Option<Slot> {
        let (before, frames) = (self.slot(path), self.owned(path));
        self.nodes.retain(|other, _| !other.starts_with(path));
        let end = addresses::<G>(&Self::covered(path)).end;
        self.cursor(path).unmap(end, Memory::Suffices).expect("the range of an entry");
        if self.current == 0 {
            self.current = frames
        } else {
            self.next += frames
        }
        before
    }

    /// Puts something where nothing is.
    fn insert(&mut self, path: Vec<usize>, slot: Slot) {
        match slot {
            Slot::Node(place) => _ = self.nodes.insert(path, place),
            Slot::Page(item) => {
                self.cursor(&path).map(item, Memory::Suffices).expect("nothing is there");
            }
        }
    }

    fn quiescent(&mut self) {
        self.current = std::mem::take(&mut self.next);
    }

    /// The node that holds the entry that a step is about, and the entry's path.
    fn reach<'g>(
        &self,
        root: NodeRef<'g, Whole<G>>,
        step: &Step,
    ) -> (NodeRef<'g, Whole<G>>, Vec<usize>) {
        let (mut node, mut path) = (root, vec![step.path[0]]);
        while path.len() < step.depth
            && let Some(&place) = self.nodes.get(&path)
        {
            let ChildRef::Node(child) = node.walk(path[path.len() - 1]) else {
                panic!("the table has no node at {path:?}")
            };
            assert_eq!(child.paddr(), place, "another node is at {path:?}");
            node = child;
            path.push(step.path[path.len()]);
        }
        (node, path)
    }

    fn grow(&mut self, guard: &mut Guard<'_, Whole<G>>, path: &[usize], frames: u64, split: bool) {
        let (level, before) = (guard.level(), self.slot(path));
        let expected = match (before, level.below()) {
            (_, None) if !split => Err(Refusal::Leaf),
            (Some(Slot::Page(_)), Some(_)) if split && frames > 0 => Ok(()),
            (Some(Slot::Page(_)), Some(_)) if split => Err(Refusal::OutOfMemory),
            _ if split => Err(Refusal::NoHugePage),
            (Some(_), _) => Err(Refusal::Present),
            (None, _) if frames == 0 => Err(Refusal::OutOfMemory),
            (None, _) => Ok(()),
        };
        let backend = *guard.node().backend();
        let mut entry = guard.entry(path[path.len() - 1]).expect("the index is in range");
        if frames < u64::MAX {
            backend.processors().fail_after(frames);
        }
        let grown = if split { entry.split() } else { entry.allocate_if_absent() };
        backend.processors().cancel_failure();
        assert_eq!(grown.as_ref().map(|_| ()).map_err(|&error| error), expected);
        let Ok(child) = grown else { return };
        if split {
            self.cursor(path).split(Memory::Suffices).expect("a huge page is there");
        }
        self.nodes.insert(path.to_vec(), child.node().paddr());
    }

    /// Puts `child` at a path. The child is as `slots` say, or refused for `misfit`.
    fn replace(
        &mut self,
        guard: &mut Guard<'_, Whole<G>>,
        path: &[usize],
        child: Child<Whole<G>>,
        expected: Result<Vec<(Vec<usize>, Slot)>, Refusal>,
    ) {
        let mut entry = guard.entry(path[path.len() - 1]).expect("the index is in range");
        match (entry.replace(child), expected) {
            (Ok(detached), Ok(slots)) => {
                assert_eq!(shown(detached.child()), self.remove(path), "another child came out");
                slots.into_iter().for_each(|(path, slot)| self.insert(path, slot));
            }
            (Err(refused), Err(misfit)) => assert_eq!(refused.reason, misfit),
            (Ok(_), Err(misfit)) => panic!("not refused, although {misfit}"),
            (Err(refused), Ok(_)) => panic!("refused: {}", refused.reason),
        }
    }

    fn map(
        &mut self,
        guard: &mut Guard<'_, Whole<G>>,
        path: &[usize],
        item: MappedItem<Machine<G>>,
    ) {
        let level = guard.level();
        let page = match &item {
            MappedItem::Tracked { frame, property } => {
                let flags = (property.flags - PageFlags::MARK) | PageFlags::TRACKED;
                let property = Property { flags, ..*property };
                RawItem { frame: frame.paddr(), level: Level::LEAF, property }
            }
            MappedItem::Untracked(page) => {
                let flags = page.property().flags - (PageFlags::TRACKED | PageFlags::MARK);
                let property = Property { flags, ..page.property() };
                RawItem { frame: page.frame(), level: page.level(), property }
            }
            MappedItem::Mark(_) => unreachable!("no mark is mapped here"),
        };
        let expected = match misfit::<G>(page) {
            _ if page.level != level => {
                Err(Refusal::WrongLevel { entry: level, child: page.level })
            }
            Some(misfit) => Err(misfit),
            None => Ok(vec![(path.to_vec(), Slot::Page(page))]),
        };
        self.replace(guard, path, Child::Item(item), expected);
    }

    /// Puts a node that is not empty, of the level that fits or of the entry's own.
    fn put_node(
        &mut self,
        machine: &Machine<G>,
        cpu: &Cpu<Machine<G>>,
        (guard, path): (&mut Guard<'_, Whole<G>>, &[usize]),
        fits: bool,
    ) {
        let entry = guard.level();
        let child = entry.below().filter(|_| fits).unwrap_or(entry);
        let new: Node<Whole<G>> = node(machine, child);
        let mut slots = vec![(path.to_vec(), Slot::Node(new.paddr()))];
        {
            let section = cpu.read_side();
            let mut guard = new.borrow(&section).lock();
            let index = G::ENTRIES - 1;
            if child == Level::LEAF {
                put(&mut guard, index, Child::Item(tracked(machine)));
            } else {
                drop(guard.entry(index).expect("in range").allocate_if_absent().expect("enough"));
            }
            let below = guard.entry(index).expect("the index is in range").child();
            let below = shown(below).expect("something was put there");
            slots.push(([path, &[index]].concat(), below));
        }
        let misfit = Refusal::WrongLevel { entry, child };
        let expected = if entry.below() == Some(child) { Ok(slots) } else { Err(misfit) };
        self.replace(guard, path, Child::Node(new), expected);
    }

    fn protect(&mut self, guard: &mut Guard<'_, Whole<G>>, path: &[usize], property: Property) {
        let mut entry = guard.entry(path[path.len() - 1]).expect("the index is in range");
        let before = entry.protect(|_| property);
        let Some(Slot::Page(_)) = self.slot(path) else {
            return assert_eq!(before, Err(Refusal::NoPage));
        };
        let changed = self.cursor(path).protect_next(|_| property, Memory::Suffices);
        let expected = changed.expect("no split").expect("a page is there").before;
        assert_eq!(before, Ok(expected), "the property before is another");
    }

    fn hardware_sets(&mut self, node: NodeRef<'_, Whole<G>>, path: &[usize], flags: PageFlags) {
        let Some(slot) = self.slot(path) else { return };
        // Of entries that lead to nodes hardware sets the accessed bit alone, which says nothing.
        let mut bits = X86_64::HARDWARE_BITS & X86_64::HARDWARE_BITS.wrapping_neg();
        if let Slot::Page(_) = slot {
            self.pages.note(Self::covered(path).start, flags);
            if flags.contains(PageFlags::DIRTY) {
                bits = X86_64::HARDWARE_BITS;
            }
        }
        hardware_sets(node, path[path.len() - 1], bits);
    }

    fn lock_covering(&mut self, root: NodeRef<'_, Whole<G>>, step: &Step) {
        let mut indices = step.path[..usize::from(G::LEVELS)].to_vec();
        indices.reverse();
        let vaddr: Vaddr = G::address(&indices);
        let target = Level::new(G::LEVELS - step.depth as u8 + 1);
        let machine = *root.backend();
        if step.frames < u64::MAX {
            machine.processors().fail_after(step.frames);
        }
        let found = lock_covering(root, vaddr, target).map(|guard| guard.node());
        machine.processors().cancel_failure();

        let above = usize::from(G::LEVELS - target.as_u8());
        let is_page =
            |depth: &usize| matches!(self.slot(&step.path[..*depth]), Some(Slot::Page(_)));
        let page = (1..=above).find(is_page);
        let reached = page.map_or(above, |depth| depth - 1);
        let is_missing = |depth: &usize| !self.nodes.contains_key(&step.path[..*depth]);
        let missing = (1..=reached).filter(is_missing).count() as u64;
        if missing > step.frames {
            // What follows would notice a node that stayed. Only those go that were empty before.
            let there = reached - missing as usize;
            let leads_nowhere =
                |depth: &usize| self.children(&step.path[..*depth]) == usize::from(*depth < there);
            if let Some(top) = (1..=there).rev().take_while(leads_nowhere).last() {
                self.remove(&step.path[..top]);
            }
            return assert_eq!(found.err(), Some(LockError::OutOfMemory));
        }
        let mut node = root;
        for depth in 1..=reached {
            let ChildRef::Node(child) = node.walk(step.path[depth - 1]) else {
                panic!("no node was grown at {:?}", &step.path[..depth])
            };
            self.nodes.insert(step.path[..depth].to_vec(), child.paddr());
            node = child;
        }
        assert_eq!(found.map(|found| found.paddr()), Ok(node.paddr()), "another node is found");
    }

    fn step(
        &mut self,
        machine: &Machine<G>,
        cpu: &mut Cpu<Machine<G>>,
        root: &Node<Whole<G>>,
        step: &Step,
    ) {
        if let Operation::Quiescent = step.operation {
            cpu.quiescent();
            return self.quiescent();
        }
        let section = cpu.read_side();
        let root = root.borrow(&section);
        if let Operation::LockCovering = step.operation {
            return self.lock_covering(root, step);
        }
        let (node, path) = self.reach(root, step);
        let mut guard = node.try_lock().expect("a lock is left behind");
        let guard = &mut guard;
        match step.operation {
            Operation::Grow => self.grow(guard, &path, step.frames, false),
            Operation::Split => self.grow(guard, &path, step.frames, true),
            Operation::MapTracked(property) => {
                let frame = Frame::allocate(machine).expect("a test has frames enough");
                self.map(guard, &path, MappedItem::Tracked { frame, property });
            }
            Operation::MapUntracked { property, is_aligned } => {
                let level = guard.level();
                let place = (path.iter().sum::<usize>() as u64 + 3) * G::entry_span(level);
                let frame = Paddr::new(if is_aligned { place } else { place / 2 });
                self.map(guard, &path, untracked_at(frame, level, property));
            }
            Operation::PutNode { fits } => self.put_node(machine, cpu, (guard, &path), fits),
            Operation::Detach => self.replace(guard, &path, Child::Absent, Ok(Vec::new())),
            Operation::Protect(property) => self.protect(guard, &path, property),
            Operation::HardwareSets(flags) => self.hardware_sets(node, &path, flags),
            Operation::LockCovering | Operation::Quiescent => unreachable!("dealt with above"),
        }
        let (index, parent) = path.split_last().expect("the path of an entry is not empty");
        let entry = guard.entry(*index).expect("the index is in range");
        assert_eq!(shown(entry.child()), self.slot(&path), "at {path:?}");
        assert_eq!(usize::from(guard.children()), self.children(parent), "at {parent:?}");
    }

    /// Compares all of the table below a node.
    fn compare(&self, node: NodeRef<'_, Whole<G>>, path: &mut Vec<usize>) {
        let guard = node.try_lock().expect("a lock is left behind");
        assert!(!guard.is_stray(), "the node at {path:?} is stray");
        assert_eq!(usize::from(guard.children()), self.children(path), "at {path:?}");
        drop(guard);
        for index in 0..G::ENTRIES {
            path.push(index);
            let child = node.walk(index);
            assert_eq!(shown(child), self.slot(path), "at {path:?}");
            if let ChildRef::Node(child) = child {
                self.compare(child, path);
            }
            path.pop();
        }
    }
}

fn run<G: Rules>(steps: &[Step]) {
    on_machine::<G>(|machine| {
        let mut cpu = online(machine, 0);
        let root: Node<Whole<G>> = node(machine, G::ROOT);
        let mut model = Model::new();
        for step in steps {
            model.step(machine, &mut cpu, &root, step);
            assert_eq!(live(machine), model.frames(), "frames in use after {step:?}");
        }
        model.compare(root.borrow(&cpu.read_side()), &mut Vec::new());
        drop(root);
        assert_eq!(live(machine), model.current + model.next, "only what waits is left");
    });
}

fn a_table_behaves_as_a_map<G: Rules>() {
    let settings = Settings {
        cases: CASES,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(0x57_6566_7421),
        max_shrink_iters: 500,
        ..Settings::default()
    };
    let outcome = TestRunner::new(settings).run(&steps::<G>(), |steps| {
        run::<G>(&steps);
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("a table does not behave as a map: {failure}");
    }
}
