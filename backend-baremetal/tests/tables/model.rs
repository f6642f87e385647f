//! Random sequences of operations on a table, against a map from paths to what is there.
//!
//! A path is the list of indices from the root down. The [`Model`] is nothing but a sorted map of
//! the paths that are present, and two counts of frames: those that wait for the current grace
//! period, and those that wait for the next. From it follows what every operation gives back, how
//! many children every node has, and how many frames are in use after every step.
//!
//! The sequences are the same in every run. `STEPS_MAX` and `CASES` keep all of it under some
//! seconds without optimisation.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::test_runner::{Config as Settings, RngSeed, TestRunner};
use weft_backend_baremetal::hosted::hardware_sets;
use weft_core::address::{Level, Paddr, Vaddr};
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
    let flags = any::<u8>().prop_map(PageFlags::from_bits_truncate);
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

impl Slot {
    /// Frames that go when this goes, without what is below.
    fn frames(self) -> u64 {
        match self {
            Self::Node(_) => 1,
            Self::Page(page) => u64::from(page.property.flags.contains(PageFlags::TRACKED)),
        }
    }
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

#[derive(Default)]
struct Model {
    slots: BTreeMap<Vec<usize>, Slot>,
    /// Frames that the current grace period keeps.
    current: u64,
    /// Frames that the one after it keeps.
    next: u64,
}

impl Model {
    /// What is at a path and below it, the path itself first.
    fn below<'a>(&'a self, path: &'a [usize]) -> impl Iterator<Item = (&'a Vec<usize>, &'a Slot)> {
        self.slots.range(path.to_vec()..).take_while(move |(other, _)| other.starts_with(path))
    }

    fn children(&self, node: &[usize]) -> usize {
        self.below(node).filter(|(path, _)| path.len() == node.len() + 1).count()
    }

    fn frames(&self) -> u64 {
        1 + self.slots.values().map(|slot| slot.frames()).sum::<u64>() + self.current + self.next
    }

    /// Takes out what is at a path and below; it waits for a grace period.
    fn remove(&mut self, path: &[usize]) -> Option<Slot> {
        let before = self.slots.get(path).copied();
        let gone: Vec<Vec<usize>> = self.below(path).map(|(path, _)| path.clone()).collect();
        let frames = gone.iter().map(|path| self.slots.remove(path).map_or(0, Slot::frames)).sum();
        if self.current == 0 {
            self.current = frames
        } else {
            self.next += frames
        }
        before
    }

    fn quiescent(&mut self) {
        self.current = std::mem::take(&mut self.next);
    }

    /// The node that holds the entry that a step is about, and the entry's path.
    fn reach<'g, G: Geometry>(
        &self,
        root: NodeRef<'g, Whole<G>>,
        step: &Step,
    ) -> (NodeRef<'g, Whole<G>>, Vec<usize>) {
        let (mut node, mut path) = (root, vec![step.path[0]]);
        while path.len() < step.depth
            && let Some(&Slot::Node(place)) = self.slots.get(&path)
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

    fn grow<G: Geometry>(
        &mut self,
        guard: &mut Guard<'_, Whole<G>>,
        path: &[usize],
        frames: u64,
        split: bool,
    ) {
        let (level, before) = (guard.level(), self.slots.get(path).copied());
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
        self.slots.insert(path.to_vec(), Slot::Node(child.node().paddr()));
        let Some(Slot::Page(page)) = before else { return };
        for index in 0..G::ENTRIES {
            let frame = page.frame.plus(index as u64 * G::entry_span(child.level()));
            let part = RawItem { frame, level: child.level(), ..page };
            self.slots.insert([path, &[index]].concat(), Slot::Page(part));
        }
    }

    /// Puts `child` at a path. The child is as `slots` say, or refused for `misfit`.
    fn replace<G: Geometry>(
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
                self.slots.extend(slots);
            }
            (Err(refused), Err(misfit)) => assert_eq!(refused.reason, misfit),
            (Ok(_), Err(misfit)) => panic!("not refused, although {misfit}"),
            (Err(refused), Ok(_)) => panic!("refused: {}", refused.reason),
        }
    }

    fn map<G: Geometry>(
        &mut self,
        guard: &mut Guard<'_, Whole<G>>,
        path: &[usize],
        item: MappedItem<Machine<G>>,
    ) {
        let (level, alignment) = (guard.level(), G::entry_span(guard.level()));
        let page = match &item {
            MappedItem::Tracked { frame, property } => {
                let flags = property.flags | PageFlags::TRACKED;
                let property = Property { flags, ..*property };
                RawItem { frame: frame.paddr(), level: Level::LEAF, property }
            }
            MappedItem::Untracked(page) => {
                let flags = page.property().flags - PageFlags::TRACKED;
                let property = Property { flags, ..page.property() };
                RawItem { frame: page.frame(), level: page.level(), property }
            }
        };
        let expected = if page.level != level {
            Err(Refusal::WrongLevel { entry: level, child: page.level })
        } else if !X86_64::maps_pages_at(level) {
            Err(Refusal::NoPagesHere { entry: level })
        } else if !page.frame.as_u64().is_multiple_of(alignment) {
            Err(Refusal::Unaligned { frame: page.frame, alignment })
        } else {
            Ok(vec![(path.to_vec(), Slot::Page(page))])
        };
        self.replace(guard, path, Child::Item(item), expected);
    }

    /// Puts a node that is not empty, of the level that fits or of the entry's own.
    fn put_node<G: Geometry>(
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

    fn protect<G: Geometry>(
        &mut self,
        guard: &mut Guard<'_, Whole<G>>,
        path: &[usize],
        property: Property,
    ) {
        let mut entry = guard.entry(path[path.len() - 1]).expect("the index is in range");
        let before = entry.protect(|_| property);
        let Some(Slot::Page(page)) = self.slots.get_mut(path) else {
            return assert_eq!(before, Err(Refusal::NoPage));
        };
        assert_eq!(before, Ok(page.property), "the property before is another");
        let is_tracked = page.property.flags.contains(PageFlags::TRACKED);
        page.property = property;
        page.property.flags.set(PageFlags::TRACKED, is_tracked);
    }

    fn hardware_sets<G: Geometry>(
        &mut self,
        node: NodeRef<'_, Whole<G>>,
        path: &[usize],
        flags: PageFlags,
    ) {
        let Some(slot) = self.slots.get_mut(path) else { return };
        // Of entries that lead to nodes hardware sets the accessed bit alone, which says nothing.
        let mut bits = X86_64::HARDWARE_BITS & X86_64::HARDWARE_BITS.wrapping_neg();
        if let Slot::Page(page) = slot {
            page.property.flags |= flags;
            if flags.contains(PageFlags::DIRTY) {
                bits = X86_64::HARDWARE_BITS;
            }
        }
        hardware_sets(node, path[path.len() - 1], bits);
    }

    fn lock_covering<G: Geometry>(&mut self, root: NodeRef<'_, Whole<G>>, step: &Step) {
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
        let depth_of = |wanted: fn(&Slot) -> bool| {
            (1..=above).find(|&depth| self.slots.get(&step.path[..depth]).is_some_and(wanted))
        };
        let page = depth_of(|slot| matches!(slot, Slot::Page(_)));
        let reached = page.map_or(above, |depth| depth - 1);
        let is_missing = |depth: &usize| !self.slots.contains_key(&step.path[..*depth]);
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
            self.slots.insert(step.path[..depth].to_vec(), Slot::Node(child.paddr()));
            node = child;
        }
        assert_eq!(found.map(|found| found.paddr()), Ok(node.paddr()), "another node is found");
    }

    fn step<G: Geometry>(
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
                self.map(guard, &path, untracked_at::<G, _>(frame, level, property));
            }
            Operation::PutNode { fits } => self.put_node(machine, cpu, (guard, &path), fits),
            Operation::Detach => self.replace(guard, &path, Child::Absent, Ok(Vec::new())),
            Operation::Protect(property) => self.protect(guard, &path, property),
            Operation::HardwareSets(flags) => self.hardware_sets(node, &path, flags),
            Operation::LockCovering | Operation::Quiescent => unreachable!("dealt with above"),
        }
        let (index, parent) = path.split_last().expect("the path of an entry is not empty");
        let entry = guard.entry(*index).expect("the index is in range");
        assert_eq!(shown(entry.child()), self.slots.get(&path).copied(), "at {path:?}");
        assert_eq!(usize::from(guard.children()), self.children(parent), "at {parent:?}");
    }

    /// Compares all of the table below a node.
    fn compare<G: Geometry>(&self, node: NodeRef<'_, Whole<G>>, path: &mut Vec<usize>) {
        let guard = node.try_lock().expect("a lock is left behind");
        assert!(!guard.is_stray(), "the node at {path:?} is stray");
        assert_eq!(usize::from(guard.children()), self.children(path), "at {path:?}");
        drop(guard);
        for index in 0..G::ENTRIES {
            path.push(index);
            let child = node.walk(index);
            assert_eq!(shown(child), self.slots.get(path).copied(), "at {path:?}");
            if let ChildRef::Node(child) = child {
                self.compare(child, path);
            }
            path.pop();
        }
    }
}

fn run<G: Geometry>(steps: &[Step]) {
    on_machine::<G>(|machine| {
        let mut cpu = online(machine, 0);
        let root: Node<Whole<G>> = node(machine, G::ROOT);
        let mut model = Model::default();
        for step in steps {
            model.step(machine, &mut cpu, &root, step);
            assert_eq!(live(machine), model.frames(), "frames in use after {step:?}");
        }
        model.compare(root.borrow(&cpu.read_side()), &mut Vec::new());
        drop(root);
        assert_eq!(live(machine), model.current + model.next, "only what waits is left");
    });
}

fn a_table_behaves_as_a_map<G: Geometry>() {
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
