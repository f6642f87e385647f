//! Nodes and their handles.

use std::io;

use weft_backend_baremetal::hosted;
use weft_core::address::Level;
use weft_core::entry::ChildRef;
use weft_core::error::OutOfMemory;
use weft_core::frame::Frame;
use weft_core::geometry::{Geometry, TinyTwo};
use weft_core::node::{Metadata, Node};
use weft_core::space::AddressSpace;

use crate::support::{
    AllKinds, Machine, SPACE_FRAMES, Whole, erased, levels, live, node, on_machine, online, space,
};

on_every_geometry!(
    new_nodes_have_absent_entries,
    reused_frames_have_absent_entries,
    the_last_handle_frees_the_node,
    allocation_fails_when_no_frame_is_left,
    entries_beyond_the_last_are_refused,
    metadata_fits_32_bytes,
);

fn assert_empty<G: Geometry>(machine: &Machine<G>, node: &Node<Whole<G>>, level: Level) {
    let cpu = online(machine, 0);
    let section = cpu.read_side();
    assert_eq!(node.level(), level);
    let node = node.borrow(&section);
    for index in 0..G::ENTRIES {
        assert!(matches!(node.walk(index), ChildRef::Absent), "entry {index}");
    }
    let guard = node.try_lock().expect("a new node is not locked");
    assert_eq!(guard.children(), 0);
    assert!(!guard.is_stray());
}

fn new_nodes_have_absent_entries<G: Geometry>() {
    on_machine::<G>(|machine| {
        for level in levels::<G>() {
            let node = node(machine, level);
            assert_eq!(live(machine), 1);
            assert_empty(machine, &node, level);
        }
    });
}

fn reused_frames_have_absent_entries<G: Geometry>() {
    on_machine::<G>(|machine| {
        let root: Node<Whole<G>> = node(machine, G::ROOT);
        let mut used = vec![root.paddr()];
        {
            // Nodes that are full of entries, and stray ones.
            let cpu = online(machine, 0);
            let section = cpu.read_side();
            let mut guard = root.borrow(&section).lock();
            for index in 0..2 {
                let mut entry = guard.entry(index).expect("the index is in range");
                let child = entry.allocate_if_absent().expect("a test has frames enough");
                used.push(child.node().paddr());
            }
            drop(guard.entry(0).expect("the index is in range").detach());
        }
        drop(root);
        assert_eq!(live(machine), 0);
        let nodes = [(); 3].map(|()| node::<Whole<G>>(machine, G::ROOT));
        let mut again: Vec<_> = nodes.iter().map(Node::paddr).collect();
        again.sort();
        used.sort();
        assert_eq!(again, used, "freed frames are given out again before fresh ones");
        for node in &nodes {
            assert_empty(machine, node, G::ROOT);
        }
    });
}

fn the_last_handle_frees_the_node<G: Geometry>() {
    on_machine::<G>(|machine| {
        let first: Node<Whole<G>> = node(machine, G::ROOT);
        let (second, third) = (first.clone(), first.clone());
        assert_eq!(second.paddr(), first.paddr());
        drop(first);
        drop(third);
        assert_eq!(live(machine), 1, "a handle keeps the node");
        drop(second);
        assert_eq!(live(machine), 0, "the last handle frees the node");
    });
}

fn allocation_fails_when_no_frame_is_left<G: Geometry>() {
    on_machine::<G>(|machine| {
        let capacity = machine.region().capacity();
        let frames: Vec<_> = (0..capacity).map_while(|_| Frame::allocate(machine).ok()).collect();
        assert_eq!(frames.len() as u64, capacity, "every frame is given out");
        let mut places: Vec<_> = frames.iter().map(Frame::paddr).collect();
        places.sort();
        places.dedup();
        assert_eq!(places.len() as u64, capacity, "no frame is given out twice");
        assert_eq!(Node::<Whole<G>>::allocate(machine, G::ROOT).err(), Some(OutOfMemory));
        drop(frames);
        machine.processors().fail_after(1);
        let node: Node<Whole<G>> = node(machine, G::ROOT);
        assert_eq!(Node::<Whole<G>>::allocate(machine, G::ROOT).err(), Some(OutOfMemory));
        assert!(!machine.processors().cancel_failure(), "the failure is over");
        drop(node);
    });
}

fn entries_beyond_the_last_are_refused<G: Geometry>() {
    on_machine::<G>(|machine| {
        let node: Node<Whole<G>> = node(machine, G::ROOT);
        let cpu = online(machine, 0);
        let section = cpu.read_side();
        let mut guard = node.borrow(&section).lock();
        assert!(guard.entry(G::ENTRIES - 1).is_ok());
        let error = guard.entry(G::ENTRIES).expect_err("the node has no such entry");
        assert_eq!((error.index, error.entries), (G::ENTRIES, G::ENTRIES));
    });
}

fn metadata_fits_32_bytes<G: Geometry>() {
    assert_eq!(size_of::<Metadata<Machine<G>>>(), 32);
}

#[test]
#[should_panic(expected = "the geometry has no nodes of this level")]
fn levels_above_the_root_are_refused() {
    on_machine::<TinyTwo>(|machine| {
        drop(Node::<Whole<TinyTwo>>::allocate(machine, Level::new(3)));
    });
}

#[test]
fn a_machine_with_more_frames_than_there_are_addresses_is_refused() {
    for frames in [1 << 60, 1 << 52, 1 << 51, u64::MAX] {
        let refused = hosted::start::<TinyTwo, AllKinds>(frames).expect_err("no host has so many");
        assert_eq!(refused.kind(), io::ErrorKind::OutOfMemory, "{frames} frames");
    }
}

#[test]
fn what_was_erased_is_given_up_as_what_it_is() {
    on_machine::<TinyTwo>(|machine| {
        let erased = erased(machine);
        let page = erased.paddr();
        erased.give_up();
        assert_eq!(live(machine), 0, "a frame of data has one owner");

        // The same frame as a node: what is below it goes, too.
        let parent: AddressSpace<Whole<TinyTwo>> = space(machine);
        assert_eq!(parent.paddr(), page);
        let mut cpu = online(machine, 0);
        drop(
            parent.borrow(&cpu.read_side()).lock().entry(0).expect("in range").allocate_if_absent(),
        );
        assert_eq!(live(machine), SPACE_FRAMES + 1);
        cpu.activate(&parent).expect("the table is activated");
        drop(parent);
        cpu.deactivate();
        assert_eq!(live(machine), 0, "a root that was erased takes its nodes along");
    });
}
