//! Sub-trees that have been detached.

use weft_core::address::{Level, Vaddr};
use weft_core::entry::{Child, ChildRef};
use weft_core::find::lock_covering;
use weft_core::geometry::Geometry;
use weft_core::node::{Node, NodeRef};

use crate::support::{Whole, child, fill, live, node, on_machine, online};

on_every_geometry!(
    every_node_of_a_detached_sub_tree_is_stray,
    a_find_after_a_detachment_grows_anew,
    a_detached_sub_tree_lives_until_the_grace_period_ends,
    a_handle_of_a_stray_node_outlives_the_grace_period,
    a_node_put_in_the_place_of_another_makes_it_stray,
);

/// All nodes below `node`, by following entries.
fn below<'g, G: Geometry>(node: NodeRef<'g, Whole<G>>, found: &mut Vec<NodeRef<'g, Whole<G>>>) {
    if node.level() == Level::LEAF {
        return;
    }
    for index in 0..G::ENTRIES {
        if let ChildRef::Node(child) = node.walk(index) {
            found.push(child);
            below(child, found);
        }
    }
}

fn every_node_of_a_detached_sub_tree_is_stray<G: Geometry>() {
    on_machine::<G>(|machine| {
        let cpu = online(machine, 0);
        let section = cpu.read_side();
        let root: Node<Whole<G>> = node(machine, G::ROOT);
        let root = root.borrow(&section);
        // Two leaves in the sub-tree that goes, where the geometry has room, and one that stays.
        let mut guard = root.lock();
        fill(machine, &mut guard, 0);
        fill(machine, &mut guard, 1);
        drop(guard);
        drop(lock_covering(root, Vaddr::new(0), Level::LEAF).expect("frames enough"));
        let (mut going, mut all) = (Vec::new(), Vec::new());
        below(root, &mut all);
        let ChildRef::Node(top) = root.walk(0) else { panic!("the root has a child") };
        going.push(top);
        below(top, &mut going);
        assert!(going.len() < all.len());

        let mut guard = root.lock();
        let detached = guard.entry(0).expect("in range").detach().expect("managed");
        assert!(!guard.is_stray(), "the parent is not");
        drop(guard);
        for node in all {
            // As a locker that had found the node before it was detached.
            let is_going = going.iter().any(|other| other.paddr() == node.paddr());
            assert_eq!(node.lock().is_stray(), is_going, "{node:?}");
        }
        assert!(matches!(detached.child(), ChildRef::Node(node) if node.paddr() == top.paddr()));
        detached.retire();
    });
}

fn a_find_after_a_detachment_grows_anew<G: Geometry>() {
    on_machine::<G>(|machine| {
        let cpu = online(machine, 0);
        let section = cpu.read_side();
        let root: Node<Whole<G>> = node(machine, G::ROOT);
        let root = root.borrow(&section);
        let old = lock_covering(root, Vaddr::new(0), Level::LEAF).expect("frames enough");
        let old = { old }.node();
        let mut guard = root.lock();
        guard.entry(0).expect("in range").detach().expect("managed").retire();
        drop(guard);
        let new = lock_covering(root, Vaddr::new(0), Level::LEAF).expect("frames enough");
        assert_ne!(new.node().paddr(), old.paddr(), "the old frame is still in use");
        assert!(!new.is_stray());
        assert!(old.lock().is_stray());
    });
}

fn a_detached_sub_tree_lives_until_the_grace_period_ends<G: Geometry>() {
    on_machine::<G>(|machine| {
        let mut mine = online(machine, 0);
        let mut other = online(machine, 1);
        let root: Node<Whole<G>> = node(machine, G::ROOT);
        let frames = {
            let section = mine.read_side();
            let mut guard = root.borrow(&section).lock();
            let frames = 1 + fill(machine, &mut guard, 1);
            let detached = guard.entry(1).expect("in range").detach().expect("managed");
            assert_eq!(live(machine), frames);
            detached.retire();
            frames
        };
        assert_eq!(live(machine), frames, "handing over frees nothing");
        mine.quiescent();
        mine.quiescent();
        assert_eq!(live(machine), frames, "one CPU alone does not end a grace period");
        drop(other.read_side());
        assert_eq!(live(machine), frames, "the end of a section is not a quiescent state");
        other.quiescent();
        assert_eq!(live(machine), 1, "nodes and pages go together");
    });
}

fn a_handle_of_a_stray_node_outlives_the_grace_period<G: Geometry>() {
    on_machine::<G>(|machine| {
        let mut cpu = online(machine, 0);
        let root: Node<Whole<G>> = node(machine, G::ROOT);
        let handle = {
            let section = cpu.read_side();
            let mut guard = root.borrow(&section).lock();
            let mut entry = guard.entry(0).expect("the index is in range");
            let handle = entry.allocate_if_absent().expect("frames enough").node().to_owned();
            drop(entry.detach());
            handle
        };
        cpu.quiescent();
        assert_eq!(live(machine), 2, "a handle keeps what the grace period gives up");
        let section = cpu.read_side();
        assert!(handle.borrow(&section).lock().is_stray());
        drop(handle.clone());
        assert_eq!(live(machine), 2);
        drop(handle);
        assert_eq!(live(machine), 1);
    });
}

fn a_node_put_in_the_place_of_another_makes_it_stray<G: Geometry>() {
    on_machine::<G>(|machine| {
        let cpu = online(machine, 0);
        let section = cpu.read_side();
        let root: Node<Whole<G>> = node(machine, G::ROOT);
        let mut guard = root.borrow(&section).lock();
        let mut entry = guard.entry(0).expect("the index is in range");
        drop(entry.allocate_if_absent().expect("frames enough"));
        let old = child(guard.node(), 0);
        let new: Node<Whole<G>> = node(machine, G::ROOT.below().expect("a root is no leaf"));
        let kept = new.clone();
        let mut entry = guard.entry(0).expect("the index is in range");
        drop(entry.replace(Child::Node(new)).expect("the child fits"));
        assert!(old.lock().is_stray());
        assert!(!kept.borrow(&section).lock().is_stray());
    });
}
