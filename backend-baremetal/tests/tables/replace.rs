//! Putting children into entries and taking them out.

use weft_core::address::{Level, Paddr};
use weft_core::entry::{Child, ChildRef};
use weft_core::error::Refusal;
use weft_core::format::{EntryFormat, PageFlags, Property, X86_64};
use weft_core::geometry::Geometry;
use weft_core::guard::Guard;
use weft_core::item::MappedItem;
use weft_core::node::Node;
use weft_core::reclaim::Detached;

use crate::support::{
    Machine, User, WRITABLE, Whole, device_frame, levels, live, node, on_machine, online,
    page_levels, put, tracked, untracked, untracked_at,
};

on_every_geometry!(
    every_child_replaces_every_child,
    a_replaced_child_is_freed_after_a_grace_period,
    refused_children_come_back_and_change_nothing,
    entries_of_another_table_are_refused,
    neighbours_keep_what_they_have,
);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Absent,
    Node,
    Tracked,
    Untracked,
}

const KINDS: [Kind; 4] = [Kind::Absent, Kind::Node, Kind::Tracked, Kind::Untracked];

/// A child of this kind, if an entry of `level` takes one.
fn child<G: Geometry>(machine: &Machine<G>, kind: Kind, level: Level) -> Option<Child<Whole<G>>> {
    Some(match kind {
        Kind::Absent => Child::Absent,
        Kind::Node => Child::Node(node(machine, level.below()?)),
        Kind::Tracked if level == Level::LEAF => Child::Item(tracked(machine)),
        Kind::Untracked if X86_64::maps_pages_at(level) => Child::Item(untracked::<G>(level)),
        Kind::Tracked | Kind::Untracked => return None,
    })
}

/// The kind and the place of a child.
fn identify<G: Geometry>(child: &Child<Whole<G>>) -> (Kind, Option<Paddr>) {
    match child {
        Child::Absent => (Kind::Absent, None),
        Child::Node(node) => (Kind::Node, Some(node.paddr())),
        Child::Item(MappedItem::Tracked { frame, .. }) => (Kind::Tracked, Some(frame.paddr())),
        Child::Item(MappedItem::Untracked(page)) => (Kind::Untracked, Some(page.frame())),
        Child::Item(MappedItem::Mark(_)) => unreachable!("no mark is put here"),
    }
}

/// What an item says of its page.
fn property<G: Geometry>(child: &Child<Whole<G>>) -> Option<Property> {
    match child {
        Child::Absent | Child::Node(_) => None,
        Child::Item(MappedItem::Tracked { property, .. }) => Some(*property),
        Child::Item(MappedItem::Untracked(page)) => Some(page.property()),
        Child::Item(MappedItem::Mark(mark)) => Some(mark.property()),
    }
}

/// The kind and the place of what came out of an entry.
fn came_out<G: Geometry>(detached: &Detached<'_, Whole<G>>) -> (Kind, Option<Paddr>) {
    match detached.child() {
        ChildRef::Absent => (Kind::Absent, None),
        ChildRef::Node(node) => (Kind::Node, Some(node.paddr())),
        ChildRef::Item(page) => {
            let is_tracked = page.property.flags.contains(PageFlags::TRACKED);
            (if is_tracked { Kind::Tracked } else { Kind::Untracked }, Some(page.frame))
        }
        ChildRef::Shared => unreachable!("the table manages all of its root"),
    }
}

/// The place that an entry leads to.
fn leads_to<G: Geometry>(guard: &mut Guard<'_, Whole<G>>, index: usize) -> Option<Paddr> {
    match guard.entry(index).expect("the index is in range").child() {
        ChildRef::Absent => None,
        ChildRef::Node(node) => Some(node.paddr()),
        ChildRef::Item(raw) => Some(raw.frame),
        ChildRef::Shared => unreachable!("the table manages all of its root"),
    }
}

fn replace<'g, G: Geometry>(
    guard: &mut Guard<'g, Whole<G>>,
    index: usize,
    child: Child<Whole<G>>,
) -> Detached<'g, Whole<G>> {
    let mut entry = guard.entry(index).expect("the index is in range");
    entry.replace(child).unwrap_or_else(|refused| panic!("refused: {}", refused.reason))
}

fn every_child_replaces_every_child<G: Geometry>() {
    on_machine::<G>(|machine| {
        let cpu = online(machine, 0);
        let section = cpu.read_side();
        for level in levels::<G>() {
            let node: Node<Whole<G>> = node(machine, level);
            let mut guard = node.borrow(&section).lock();
            let index = G::ENTRIES - 1;
            for (from, to) in KINDS.iter().flat_map(|&from| KINDS.map(|to| (from, to))) {
                let first = child(machine, from, level);
                let Some((first, second)) = first.zip(child(machine, to, level)) else { continue };
                let (first_is, second_is) = (identify(&first), identify(&second));
                assert!(!replace(&mut guard, index, first).is_present());
                assert_eq!(guard.children(), u16::from(from != Kind::Absent));
                assert_eq!(leads_to(&mut guard, index), first_is.1);

                let detached = replace(&mut guard, index, second);
                assert_eq!(came_out(&detached), first_is, "what was there comes out");
                assert_eq!(guard.children(), u16::from(to != Kind::Absent));
                assert_eq!(leads_to(&mut guard, index), second_is.1);
                let mut entry = guard.entry(index).expect("the index is in range");
                let detached = entry.detach().expect("all entries are managed");
                assert_eq!(came_out(&detached), second_is);
                assert_eq!((guard.children(), guard.read_raw(index)), (0, 0));
            }
        }
    });
}

fn a_replaced_child_is_freed_after_a_grace_period<G: Geometry>() {
    on_machine::<G>(|machine| {
        let mut cpu = online(machine, 0);
        let leaf: Node<Whole<G>> = node(machine, Level::LEAF);
        {
            let section = cpu.read_side();
            let mut guard = leaf.borrow(&section).lock();
            put(&mut guard, 0, Child::Item(tracked(machine)));
            drop(replace(&mut guard, 0, Child::Item(tracked(machine))));
        }
        assert_eq!(live(machine), 3, "the page that was replaced waits");
        cpu.quiescent();
        assert_eq!(live(machine), 2, "and is freed, but not the one that is mapped");
    });
}

/// Offers `child` to entry 1 and checks that it comes back, with `reason`, and nothing changes.
fn assert_refused<G: Geometry>(
    machine: &Machine<G>,
    guard: &mut Guard<'_, Whole<G>>,
    child: Child<Whole<G>>,
    reason: Refusal,
) {
    let offered = (identify(&child), property(&child));
    let before = (guard.read_raw(1), guard.children(), live(machine));
    let mut entry = guard.entry(1).expect("the index is in range");
    let refused = entry.replace(child).expect_err("the child does not fit");
    assert_eq!(refused.reason, reason);
    assert_eq!((guard.read_raw(1), guard.children(), live(machine)), before);
    let back = (identify(&refused.back), property(&refused.back));
    assert_eq!(back, offered, "the child is given back as it was");
}

fn refused_children_come_back_and_change_nothing<G: Geometry>() {
    on_machine::<G>(|machine| {
        let cpu = online(machine, 0);
        let section = cpu.read_side();
        for entry in levels::<G>() {
            for present in KINDS {
                let Some(present) = child(machine, present, entry) else { continue };
                let parent: Node<Whole<G>> = node(machine, entry);
                let mut guard = parent.borrow(&section).lock();
                assert!(!replace(&mut guard, 1, present).is_present());

                for level in levels::<G>().filter(|&level| entry.below() != Some(level)) {
                    let reason = Refusal::WrongLevel { entry, child: level };
                    let node = Child::Node(node(machine, level));
                    assert_refused(machine, &mut guard, node, reason);
                }
                for level in levels::<G>().filter(|&level| entry != level) {
                    let reason = Refusal::WrongLevel { entry, child: level };
                    let item = Child::Item(untracked::<G>(level));
                    assert_refused(machine, &mut guard, item, reason);
                    if level == Level::LEAF {
                        let owned = Child::Item(tracked(machine));
                        assert_refused(machine, &mut guard, owned, reason);
                    }
                }
                if !X86_64::maps_pages_at(entry) {
                    let item = Child::Item(untracked::<G>(entry));
                    assert_refused(machine, &mut guard, item, Refusal::NoPagesHere { entry });
                    continue;
                }
                let alignment = G::entry_span(entry);
                let frame = device_frame::<G>(entry).plus(alignment / 2);
                let item = untracked_at(frame, entry, WRITABLE);
                let reason = Refusal::Unaligned { frame, alignment };
                assert_refused(machine, &mut guard, Child::Item(item), reason);
            }
        }
    });
}

fn entries_of_another_table_are_refused<G: Geometry>() {
    on_machine::<G>(|machine| {
        let cpu = online(machine, 0);
        let section = cpu.read_side();
        let root: Node<User<G>> = node(machine, G::ROOT);
        let mut guard = root.borrow(&section).lock();
        let index = G::ENTRIES / 2;
        let below = G::ROOT.below().expect("a root is no leaf");
        let child: Node<User<G>> = node(machine, below);
        let frame = child.paddr();
        let mut entry = guard.entry(index).expect("the index is in range");
        let refused = entry.replace(Child::Node(child)).expect_err("the entry is not managed");
        assert_eq!(refused.reason, Refusal::NotManaged { index });
        match refused.back {
            Child::Node(node) => assert_eq!(node.paddr(), frame),
            other => panic!("another child came back: {other:?}"),
        }
        let mut entry = guard.entry(index).expect("the index is in range");
        assert_eq!(entry.detach().err(), Some(Refusal::NotManaged { index }));
        assert_eq!((guard.read_raw(index), guard.children(), live(machine)), (0, 0, 1));
    });
}

fn neighbours_keep_what_they_have<G: Geometry>() {
    on_machine::<G>(|machine| {
        let cpu = online(machine, 0);
        let section = cpu.read_side();
        for level in page_levels::<G>() {
            let node: Node<Whole<G>> = node(machine, level);
            let mut guard = node.borrow(&section).lock();
            for index in 0..G::ENTRIES {
                let frame = Paddr::new(G::entry_span(level) * index as u64);
                let item = untracked_at(frame, level, WRITABLE);
                put(&mut guard, index, Child::Item(item));
            }
            assert_eq!(guard.children(), G::ENTRIES as u16);
            for index in (1..G::ENTRIES).step_by(2) {
                drop(replace(&mut guard, index, Child::Absent));
            }
            assert_eq!(guard.children(), G::ENTRIES as u16 / 2);
            for index in 0..G::ENTRIES {
                let frame = Paddr::new(G::entry_span(level) * index as u64);
                let expected = index.is_multiple_of(2).then_some(frame);
                assert_eq!(leads_to(&mut guard, index), expected, "entry {index}");
            }
        }
    });
}
