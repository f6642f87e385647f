//! What was taken out, until it is retired, and where it may be dropped.

use weft_core::address::Level;
use weft_core::entry::{Child, ChildRef};
use weft_core::geometry::Geometry;
use weft_core::guard::Guard;
use weft_core::node::Node;
use weft_core::reclaim::Detached;

use crate::support::{
    Machine, Whole, child, fill, live, node, on_machine, online, page_levels, put, tracked,
    untracked,
};

on_every_geometry!(
    it_waits_from_when_it_is_retired,
    what_owns_nothing_starts_no_grace_period,
    a_full_node_goes_whole,
    a_stray_node_can_be_filled_and_goes_with_what_it_got,
);

/// Takes out what entry 0 leads to.
fn take<'g, G: Geometry>(guard: &mut Guard<'g, Whole<G>>) -> Detached<'g, Whole<G>> {
    let mut entry = guard.entry(0).expect("the index is in range");
    entry.detach().expect("the entry is managed")
}

/// A root with a tree at entry 0, and how many frames the tree has.
fn root_with_tree<G: Geometry>(machine: &Machine<G>) -> (Node<Whole<G>>, u64) {
    let root: Node<Whole<G>> = node(machine, G::ROOT);
    let cpu = online(machine, 0);
    let section = cpu.read_side();
    let frames = fill(machine, &mut root.borrow(&section).lock(), 0);
    (root, frames)
}

fn it_waits_from_when_it_is_retired<G: Geometry>() {
    on_machine::<G>(|machine| {
        let (root, frames) = root_with_tree(machine);
        let (mut first, mut second) = (online(machine, 0), online(machine, 1));
        let section = first.read_side();
        let detached = take(&mut root.borrow(&section).lock());
        second.quiescent();
        assert_eq!(live(machine), 1 + frames, "it is not retired yet");
        let other = second.read_side();
        detached.retire();
        drop(section);
        first.quiescent();
        assert_eq!(live(machine), 1 + frames, "it waits for the section of the other CPU");
        drop(other);
        second.quiescent();
        assert_eq!(live(machine), 1);
    });
}

fn what_owns_nothing_starts_no_grace_period<G: Geometry>() {
    on_machine::<G>(|machine| {
        let (mut first, mut second) = (online(machine, 0), online(machine, 1));
        let leaf: Node<Whole<G>> = node(machine, Level::LEAF);
        {
            let section = first.read_side();
            let mut guard = leaf.borrow(&section).lock();
            assert!(!take(&mut guard).is_present());
            put(&mut guard, 0, Child::Item(untracked::<G>(Level::LEAF)));
            assert!(take(&mut guard).is_present());
        }
        // A period that had begun would be over for the first CPU alone.
        first.quiescent();
        {
            let section = second.read_side();
            let mut guard = leaf.borrow(&section).lock();
            put(&mut guard, 0, Child::Item(tracked(machine)));
            drop(take(&mut guard));
        }
        second.quiescent();
        assert_eq!(live(machine), 2, "the period has begun with the tracked page");
        first.quiescent();
        assert_eq!(live(machine), 1);
    });
}

fn a_full_node_goes_whole<G: Geometry>() {
    on_machine::<G>(|machine| {
        let mut cpu = online(machine, 0);
        for level in page_levels::<G>() {
            let Some(above) = (level < G::ROOT).then(|| Level::new(level.as_u8() + 1)) else {
                continue;
            };
            let parent: Node<Whole<G>> = node(machine, above);
            {
                let section = cpu.read_side();
                let mut above = parent.borrow(&section).lock();
                let mut entry = above.entry(0).expect("the index is in range");
                let mut guard = entry.allocate_if_absent().expect("frames enough");
                for index in 0..G::ENTRIES {
                    if level == Level::LEAF || index % 2 == 1 {
                        put(&mut guard, index, Child::Item(untracked::<G>(level)));
                        continue;
                    }
                    let mut entry = guard.entry(index).expect("the index is in range");
                    drop(entry.allocate_if_absent().expect("frames enough"));
                }
                assert_eq!(usize::from(guard.children()), G::ENTRIES);
                drop(guard);
                let full = child(above.node(), 0);
                let mut nodes = Vec::new();
                for index in 0..G::ENTRIES {
                    let ChildRef::Node(node) = full.walk(index) else { continue };
                    nodes.push(node);
                }
                assert_eq!(nodes.len(), if level == Level::LEAF { 0 } else { G::ENTRIES / 2 });
                assert_eq!(live(machine), 2 + nodes.len() as u64);
                drop(take(&mut above));
                assert_eq!(above.children(), 0);
                for node in nodes {
                    assert!(node.try_lock().expect("no lock is left behind").is_stray());
                }
            }
            cpu.quiescent();
            assert_eq!(live(machine), 1);
        }
    });
}

fn a_stray_node_can_be_filled_and_goes_with_what_it_got<G: Geometry>() {
    on_machine::<G>(|machine| {
        let mut cpu = online(machine, 0);
        let root: Node<Whole<G>> = node(machine, G::ROOT);
        {
            let section = cpu.read_side();
            let mut guard = root.borrow(&section).lock();
            let mut entry = guard.entry(0).expect("the index is in range");
            drop(entry.allocate_if_absent().expect("frames enough"));
            let ChildRef::Node(child) = entry.child() else { panic!("a node was grown") };
            let detached = entry.detach().expect("the entry is managed");
            let mut stray = child.lock();
            fill(machine, &mut stray, G::ENTRIES - 1);
            assert!(stray.is_stray());
            drop(stray);
            drop(detached);
            assert!(matches!(root.borrow(&section).walk(0), ChildRef::Absent));
        }
        cpu.quiescent();
        assert_eq!(live(machine), 1);
    });
}
