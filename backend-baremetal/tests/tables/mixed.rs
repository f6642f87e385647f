//! What belongs to one machine, one root or one holder is not given to another.

use weft_core::address::{FRAME_SIZE, Vaddr};
use weft_core::cursor::Cursor;
use weft_core::entry::Child;
use weft_core::error::Refusal;
use weft_core::geometry::{Geometry, TinyThree as G};
use weft_core::node::Node;
use weft_core::reclaim::Batch;

use crate::support::{Kernel, User, erased, node, on_machine, online, tracked, untracked};

#[test]
#[should_panic(expected = "a batch is of one machine")]
fn a_batch_takes_frames_of_its_own_machine_only() {
    on_machine::<G>(|machine| {
        on_machine::<G>(|other| {
            let mut batch = Batch::new(machine);
            batch.push(erased(other));
        });
    });
}

#[test]
#[should_panic(expected = "a batch is of one machine")]
fn batches_of_two_machines_are_not_joined() {
    on_machine::<G>(|machine| {
        on_machine::<G>(|other| {
            let mut foreign = Batch::new(other);
            foreign.push(erased(other));
            let mut batch = Batch::new(machine);
            batch.append(foreign);
        });
    });
}

/// Sharing roots would keep the page when the owner splits or changes it.
#[test]
fn a_root_whose_entries_stay_maps_no_page() {
    on_machine::<G>(|machine| {
        let cpu = online(machine, 0);
        let section = cpu.read_side();
        let root: Node<Kernel<G>> = node(machine, G::ROOT);
        let mut guard = root.borrow(&section).lock();
        let mut entry = guard.entry(1).expect("a root has two entries");
        let page = Child::Item(untracked::<G>(G::ROOT));
        let refused = entry.replace(page).expect_err("nobody could change it");
        assert_eq!(refused.reason, Refusal::NoPagesHere { entry: G::ROOT });
        assert_eq!((guard.read_raw(1), guard.children()), (0, 0));
    });
}

/// Waiting would be for ever if the holder is the caller.
#[test]
fn a_node_that_is_locked_is_refused_and_not_waited_for() {
    on_machine::<G>(|machine| {
        let cpu = online(machine, 0);
        let section = cpu.read_side();
        let root: Node<User<G>> = node(machine, G::ROOT);
        let child: Node<User<G>> = node(machine, G::ROOT.below().expect("there is a level below"));
        let held = child.borrow(&section).lock();
        let mut guard = root.borrow(&section).lock();
        let mut entry = guard.entry(0).expect("a root has two entries");
        let refused = entry.replace(Child::Node(child.clone())).expect_err("the node is locked");
        assert_eq!(refused.reason, Refusal::InUse { node: child.paddr() });
        drop(held);
        entry.replace(refused.back).expect("the node is free now");
        assert_eq!(guard.children(), 1);
    });
}

#[test]
#[should_panic(expected = "the item is one of another machine")]
fn an_item_of_another_machine_is_not_mapped() {
    on_machine::<G>(|machine| {
        on_machine::<G>(|other| {
            let cpu = online(machine, 0);
            let section = cpu.read_side();
            let root: Node<User<G>> = node(machine, G::ROOT);
            let range = Vaddr::new(0)..Vaddr::new(FRAME_SIZE);
            let mut cursor = Cursor::lock(root.borrow(&section), range).expect("frames enough");
            cursor.map(tracked(other)).expect("nothing is there");
        });
    });
}
