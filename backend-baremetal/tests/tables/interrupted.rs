//! Hardware or another CPU comes in between: each time at the same point.

use weft_backend_baremetal::hosted::hardware_sets;
use weft_core::address::{FRAME_SIZE, Level, Paddr, Vaddr};
use weft_core::cursor::Cursor;
use weft_core::entry::{Child, ChildRef};
use weft_core::find::lock_covering;
use weft_core::format::{EntryFormat, PageFlags, Property, RawItem, X86_64};
use weft_core::geometry::Geometry;
use weft_core::guard::Guard;
use weft_core::node::{Node, NodeRef};

use crate::support::interrupted::{Interrupted, Question, assert_interrupted, interrupt};
use crate::support::{
    Machine, WRITABLE, WholeOn, child, device_frame, live, node, on_machine, online, page_levels,
    put, untracked,
};

on_every_geometry!(
    a_split_gives_every_part_what_hardware_set_during_it,
    a_detachment_gives_back_what_hardware_set_during_it,
    a_replacement_gives_back_what_hardware_set_during_it,
    who_loses_a_growth_finds_what_the_other_grew,
    who_walks_into_a_detached_sub_tree_starts_over,
    a_cursor_that_ends_leaves_a_detached_sub_tree_as_it_is,
);

const SET: PageFlags = PageFlags::ACCESSED.union(PageFlags::DIRTY);

/// A table in that format.
type Table<G> = WholeOn<Machine<G>, Interrupted>;

/// Lets hardware, as CPU 1, set its bits in entry 0 of `node` at the next such question.
fn interrupt_with_hardware<G: Geometry>(at: Question, machine: &Machine<G>, node: &Node<Table<G>>) {
    let (machine, node) = (*machine, node.clone());
    let body = Box::new(move || {
        let cpu = online(&machine, 1);
        let before = hardware_sets(node.borrow(&cpu.read_side()), 0, X86_64::HARDWARE_BITS);
        assert!(X86_64::hardware_may_write(before), "hardware has set bits in the middle");
    });
    interrupt(at, body);
}

fn a_split_gives_every_part_what_hardware_set_during_it<G: Geometry>() {
    on_machine::<G>(|machine| {
        let cpu = online(machine, 0);
        let section = cpu.read_side();
        for level in page_levels::<G>().skip(1) {
            let parent: Node<Table<G>> = node(machine, level);
            let mut guard = parent.borrow(&section).lock();
            put(&mut guard, 0, Child::Item(untracked::<G>(level)));
            interrupt_with_hardware(Question::Item, machine, &parent);
            let mut entry = guard.entry(0).expect("the index is in range");
            let mut parts = entry.split().expect("frames enough");
            assert_interrupted();
            let below = parts.level();
            for index in 0..G::ENTRIES {
                let frame = device_frame::<G>(level).plus(index as u64 * G::entry_span(below));
                let property = Property { flags: WRITABLE.flags | SET, ..WRITABLE };
                let expected = RawItem { frame, level: below, property };
                let child = parts.entry(index).expect("the index is in range").child();
                assert!(
                    matches!(child, ChildRef::Item(part) if *part == expected),
                    "part {index} has lost what hardware set: {child:?}"
                );
            }
        }
    });
}

fn a_detachment_gives_back_what_hardware_set_during_it<G: Geometry>() {
    changes_give_back(|_level| Child::Absent::<Table<G>>);
}

fn a_replacement_gives_back_what_hardware_set_during_it<G: Geometry>() {
    changes_give_back(|level| Child::Item::<Table<G>>(untracked::<G>(level)));
}

fn changes_give_back<G: Geometry>(new: impl Fn(Level) -> Child<Table<G>>) {
    on_machine::<G>(|machine| {
        let cpu = online(machine, 0);
        let section = cpu.read_side();
        for level in page_levels::<G>() {
            let parent: Node<Table<G>> = node(machine, level);
            let mut guard = parent.borrow(&section).lock();
            put(&mut guard, 0, Child::Item(untracked::<G>(level)));
            let child = new(level);
            interrupt_with_hardware(Question::MayWrite, machine, &parent);
            let mut entry = guard.entry(0).expect("the index is in range");
            let detached = entry.replace(child).unwrap_or_else(|_| panic!("the child fits"));
            assert_interrupted();
            match detached.child() {
                ChildRef::Item(page) => {
                    let flags = page.property.flags;
                    assert_eq!(flags, WRITABLE.flags | SET, "what hardware set is lost");
                }
                other => panic!("another child came out: {other:?}"),
            }
        }
    });
}

/// Finds and locks the first leaf of a table of `root`, while another CPU, at the first entry that
/// is looked at, runs `body`. Returns where the leaf is.
fn first_leaf_while<G: Geometry>(
    machine: &Machine<G>,
    root: &Node<Table<G>>,
    body: fn(NodeRef<'_, Table<G>>),
) -> Paddr {
    let (other, owned) = (*machine, root.clone());
    let body = Box::new(move || body(owned.borrow(&online(&other, 1).read_side())));
    interrupt(Question::Decode, body);
    let cpu = online(machine, 0);
    let section = cpu.read_side();
    let leaf = first_leaf(root.borrow(&section));
    assert_interrupted();
    assert!(!leaf.is_stray(), "a stray node was found");
    assert_eq!(leaf.level(), Level::LEAF);
    leaf.node().paddr()
}

fn first_leaf<G: Geometry>(root: NodeRef<'_, Table<G>>) -> Guard<'_, Table<G>> {
    lock_covering(root, Vaddr::new(0), Level::LEAF).expect("a test has frames enough")
}

fn who_loses_a_growth_finds_what_the_other_grew<G: Geometry>() {
    on_machine::<G>(|machine| {
        // The other CPU grows all of the way, or the first node of it.
        for other in [(|root| drop(first_leaf(root))) as fn(NodeRef<'_, Table<G>>), |root| {
            drop(root.lock().entry(0).expect("in range").allocate_if_absent())
        }] {
            let root: Node<Table<G>> = node(machine, G::ROOT);
            let found = first_leaf_while(machine, &root, other);
            assert_eq!(live(machine), u64::from(G::LEVELS), "nothing is grown twice");
            let cpu = online(machine, 0);
            let section = cpu.read_side();
            assert_eq!(first_leaf(root.borrow(&section)).node().paddr(), found);
        }
    });
}

fn who_walks_into_a_detached_sub_tree_starts_over<G: Geometry>() {
    on_machine::<G>(|machine| {
        let root: Node<Table<G>> = node(machine, G::ROOT);
        let before = {
            let cpu = online(machine, 0);
            let section = cpu.read_side();
            first_leaf(root.borrow(&section)).node().paddr()
        };
        let found = first_leaf_while(machine, &root, |root| {
            drop(root.lock().entry(0).expect("the index is in range").detach());
        });
        assert_ne!(found, before, "the leaf of the detached sub-tree was found");
        assert_eq!(live(machine), u64::from(G::LEVELS), "the old nodes are gone");
    });
}

/// A cursor that ends takes an empty leaf out. Meanwhile the sub-tree is detached, and queries that
/// are on their way in it rely on entries that stand still.
fn a_cursor_that_ends_leaves_a_detached_sub_tree_as_it_is<G: Geometry>() {
    if G::LEVELS == 2 {
        // The parent of a leaf is the root, which no entry leads to.
        return;
    }
    on_machine::<G>(|machine| {
        let root: Node<Table<G>> = node(machine, G::ROOT);
        let cpu = online(machine, 0);
        let section = cpu.read_side();
        let range = Vaddr::new(0)..Vaddr::new(FRAME_SIZE);
        let cursor = Cursor::lock(root.borrow(&section), range).expect("frames enough");
        let mut parent = root.borrow(&section);
        while parent.level() > Level::new(2) {
            parent = child(parent, 0);
        }
        let leaf = child(parent, 0).paddr();
        let (other, owned) = (*machine, root.clone());
        let detach = move || {
            let cpu = online(&other, 1);
            let section = cpu.read_side();
            drop(owned.borrow(&section).lock().entry(0).expect("in range").detach());
        };
        interrupt(Question::Decode, Box::new(detach));
        drop(cursor);
        assert_interrupted();
        let after = parent.lock();
        assert!(after.is_stray(), "the node above the leaf was detached");
        let stays = matches!(parent.walk(0), ChildRef::Node(child) if child.paddr() == leaf);
        assert!(stays && after.children() == 1, "an entry of a detached node has changed");
    });
}
