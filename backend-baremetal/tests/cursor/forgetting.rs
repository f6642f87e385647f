//! A root that goes is forgotten, once, before its frame can be a root again. No other frame is.
//!
//! A machine tags translations with the root that they are of. A new root at the same address would
//! find those of the old one.

use weft_core::address::{Level, Paddr};
use weft_core::cpu::Cpu;
use weft_core::error::OutOfMemory;
use weft_core::node::Node;
use weft_core::permanent::Permanent;

use crate::architecture::{Architecture, Table};
use crate::fixture::{READABLE, lock, pages};
use crate::support::{KernelOn, UserOn, dismantle, node, online, space, tracked_on};
use crate::watched::{Machine, Seen, all_seen, on_watched};

on_every_architecture!(
    the_last_handle_forgets_the_root_before_its_frame_is_free,
    a_root_that_a_cpu_switches_away_from_is_forgotten,
    nodes_below_the_root_are_not_forgotten,
    a_frame_that_is_a_root_again_is_forgotten_again,
    roots_that_share_entries_are_forgotten_one_by_one,
);

/// The frames that were freed and the roots that were forgotten since the last call.
fn gone() -> Vec<Seen> {
    let mut seen = all_seen();
    seen.retain(|it| matches!(it, Seen::Freed(_) | Seen::Forgotten(_)));
    seen
}

fn on_machine<G: Architecture>(body: impl FnOnce(&Machine<G>, &mut Cpu<Machine<G>>)) {
    on_watched::<G>(|machine| {
        let mut cpu = online(machine, 0);
        body(machine, &mut cpu);
    });
}

fn root_of<G: Architecture>(machine: &Machine<G>) -> Node<Table<G>> {
    node(machine, G::ROOT)
}

fn root_goes(root: Paddr) -> [Seen; 2] {
    [Seen::Forgotten(root), Seen::Freed(root)]
}

/// Checks that a root was forgotten, then its words were freed, then it was.
#[track_caller]
fn assert_space_goes(gone: &[Seen], root: Paddr) {
    let [Seen::Forgotten(forgotten), Seen::Freed(words), Seen::Freed(freed)] = *gone else {
        panic!("a space is a root and another frame: {gone:?}")
    };
    assert_eq!([forgotten, freed], [root; 2]);
    assert_ne!(words, root);
}

fn the_last_handle_forgets_the_root_before_its_frame_is_free<G: Architecture>() {
    on_machine::<G>(|machine, _| {
        let first = root_of(machine);
        let (second, place) = (first.clone(), first.paddr());
        drop(first);
        assert_eq!(gone(), [], "a handle is left");
        drop(second);
        assert_eq!(gone(), root_goes(place));
    });
}

fn a_root_that_a_cpu_switches_away_from_is_forgotten<G: Architecture>() {
    on_machine::<G>(|machine, cpu| {
        let [first, second] = [(); 2].map(|()| space::<Table<G>>(machine));
        let places = [first.paddr(), second.paddr()];
        cpu.activate(&first).expect("it is a root");
        drop(first);
        assert_eq!(gone(), [], "the CPU runs on it");
        cpu.activate(&second).expect("it is a root");
        assert_space_goes(&gone(), places[0]);
        drop(second);
        cpu.deactivate();
        assert_space_goes(&gone(), places[1]);
    });
}

fn nodes_below_the_root_are_not_forgotten<G: Architecture>() {
    on_machine::<G>(|machine, cpu| {
        let root = root_of(machine);
        let place = root.paddr();
        let map = |cpu: &Cpu<Machine<G>>| {
            let section = cpu.read_side();
            let mut cursor = lock(root.borrow(&section), pages::<G>(1..2));
            cursor.map(tracked_on(machine, READABLE)).expect("nothing is there");
        };
        map(cpu);
        {
            let section = cpu.read_side();
            let range = pages::<G>(1..2);
            lock(root.borrow(&section), range.clone()).unmap(range.end).expect("a whole page");
        }
        cpu.quiescent();
        cpu.quiescent();
        let found = gone();
        assert_eq!(found.len(), usize::from(G::LEVELS), "the nodes and the page are free");
        assert!(found.iter().all(|it| matches!(it, Seen::Freed(_))), "no root is gone: {found:?}");

        map(cpu);
        drop(root);
        let found = gone();
        assert_eq!(found.len(), usize::from(G::LEVELS) + 2);
        let forgotten: Vec<&Seen> =
            found.iter().filter(|it| matches!(it, Seen::Forgotten(_))).collect();
        assert_eq!(forgotten, [&Seen::Forgotten(place)], "the root, and nothing below it");
        assert!(found.ends_with(&root_goes(place)), "the root is the last to go: {found:?}");

        // A node of a lower level that is the child of none.
        let single: Node<Table<G>> = node(machine, Level::LEAF);
        let place = single.paddr();
        drop(single);
        assert_eq!(gone(), [Seen::Freed(place)]);
    });
}

fn a_frame_that_is_a_root_again_is_forgotten_again<G: Architecture>() {
    on_machine::<G>(|machine, _| {
        let first = root_of(machine);
        let place = first.paddr();
        for root in [Some(first), None, None] {
            let root = root.unwrap_or_else(|| root_of(machine));
            assert_eq!(root.paddr(), place, "a frame that was freed is given out again");
            drop(root);
            assert_eq!(gone(), root_goes(place));
        }
        // And as a leaf it is not.
        let leaf: Node<Table<G>> = node(machine, Level::LEAF);
        assert_eq!(leaf.paddr(), place);
        drop(leaf);
        assert_eq!(gone(), [Seen::Freed(place)]);
    });
}

fn roots_that_share_entries_are_forgotten_one_by_one<G: Architecture>() {
    on_machine::<G>(|machine, cpu| {
        let root: Node<KernelOn<Machine<G>>> = node(machine, G::ROOT);
        let place = root.paddr();
        machine.processors().failing.after(0);
        let failed = Permanent::new(root, &cpu.read_side());
        assert_eq!(failed.err(), Some(OutOfMemory));
        assert_eq!(gone(), root_goes(place), "a root that did not become permanent");

        let root: Node<KernelOn<Machine<G>>> = node(machine, G::ROOT);
        let place = root.paddr();
        let kernel = Permanent::new(root, &cpu.read_side()).expect("frames enough");
        let users = [(); 2].map(|()| Node::<UserOn<_>>::root_sharing(&kernel).expect("enough"));
        for user in users {
            let place = user.paddr();
            drop(user);
            assert_eq!(gone(), root_goes(place), "the root, and nothing that it shared");
        }
        dismantle(kernel);
        let found = gone();
        assert!(found.ends_with(&root_goes(place)), "{found:?}");
        let forgotten = found.iter().filter(|it| matches!(it, Seen::Forgotten(_)));
        assert_eq!(forgotten.count(), 1);
    });
}
