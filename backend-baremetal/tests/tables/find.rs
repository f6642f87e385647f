//! Locking the node that covers an address.

use weft_core::address::{Level, Vaddr};
use weft_core::entry::{Child, ChildRef};
use weft_core::error::LockError;
use weft_core::find::{lock_covering, try_lock_covering};
use weft_core::geometry::Geometry;
use weft_core::node::{Node, NodeRef};

use crate::support::{
    User, Whole, levels, live, node, on_machine, online, page_levels, put, untracked,
};

on_every_geometry!(
    nodes_are_found_on_every_level,
    missing_nodes_are_grown_once,
    a_huge_page_ends_the_way,
    addresses_of_other_tables_are_refused,
    levels_above_the_root_are_refused,
    running_out_of_memory_leaves_nothing_behind,
    a_lock_that_is_held_is_not_waited_for,
);

/// An address whose indices are the last ones everywhere, within the lower half of the root.
fn last_of_lower_half<G: Geometry>() -> Vaddr {
    Vaddr::new(G::entry_span(G::ROOT) * (G::ENTRIES as u64 / 2) - 1)
}

/// An address that has another index on each level, where there are so many.
fn all_indices_different<G: Geometry>() -> Vaddr {
    let path: Vec<usize> = (0..usize::from(G::LEVELS)).map(|level| level % G::ENTRIES).collect();
    G::address(&path)
}

/// The node of `level` for `vaddr`, by following entries.
fn follow<'g, G: Geometry>(
    root: NodeRef<'g, Whole<G>>,
    vaddr: Vaddr,
    target: Level,
) -> NodeRef<'g, Whole<G>> {
    let mut node = root;
    while node.level() > target {
        let ChildRef::Node(child) = node.walk(G::index(vaddr, node.level())) else {
            panic!("a node is not where its address leads: nothing below {node:?}");
        };
        node = child;
    }
    node
}

fn nodes_are_found_on_every_level<G: Geometry>() {
    on_machine::<G>(|machine| {
        let cpu = online(machine, 0);
        let section = cpu.read_side();
        let addresses = [last_of_lower_half::<G>(), all_indices_different::<G>()];
        let on_levels = |vaddr| levels::<G>().map(move |level| (vaddr, level));
        for (vaddr, level) in addresses.into_iter().flat_map(on_levels) {
            let root: Node<Whole<G>> = node(machine, G::ROOT);
            let root = root.borrow(&section);
            let guard = lock_covering(root, vaddr, level).expect("frames enough");
            assert_eq!(guard.level(), level);
            assert_eq!(guard.children(), 0);
            assert_eq!(guard.node().paddr(), follow(root, vaddr, level).paddr());
            let grown = u64::from(G::LEVELS - level.as_u8());
            assert_eq!(live(machine), 1 + grown, "a node for each level above");
            // Only the node that was asked for is locked.
            for above in levels::<G>().filter(|&above| above > level) {
                drop(follow(root, vaddr, above).try_lock().expect("a parent was let go"));
            }
        }
    });
}

fn missing_nodes_are_grown_once<G: Geometry>() {
    on_machine::<G>(|machine| {
        let cpu = online(machine, 0);
        let section = cpu.read_side();
        let root: Node<Whole<G>> = node(machine, G::ROOT);
        let root = root.borrow(&section);
        let vaddr = last_of_lower_half::<G>();
        let mut places = Vec::new();
        for level in levels::<G>().chain(levels::<G>()) {
            let guard = lock_covering(root, vaddr, level).expect("frames enough");
            places.push(guard.node().paddr());
            assert_eq!(live(machine), u64::from(G::LEVELS));
        }
        let (first, second) = places.split_at(usize::from(G::LEVELS));
        assert_eq!(first, second, "the same nodes are found again");
    });
}

fn a_huge_page_ends_the_way<G: Geometry>() {
    on_machine::<G>(|machine| {
        let cpu = online(machine, 0);
        let section = cpu.read_side();
        let vaddr = last_of_lower_half::<G>();
        for huge in page_levels::<G>() {
            let root: Node<Whole<G>> = node(machine, G::ROOT);
            let root = root.borrow(&section);
            let mut guard = lock_covering(root, vaddr, huge).expect("frames enough");
            put(&mut guard, G::index(vaddr, huge), Child::Item(untracked::<G>(huge)));
            let place = guard.node().paddr();
            drop(guard);
            let before = live(machine);
            let guard = lock_covering(root, vaddr, Level::LEAF).expect("the way is there");
            assert_eq!(
                (guard.level(), guard.node().paddr()),
                (huge, place),
                "the way does not end at the huge page"
            );
            assert_eq!(live(machine), before, "nothing is grown below a huge page");
        }
    });
}

fn addresses_of_other_tables_are_refused<G: Geometry>() {
    on_machine::<G>(|machine| {
        let cpu = online(machine, 0);
        let section = cpu.read_side();
        let root: Node<User<G>> = node(machine, G::ROOT);
        let root = root.borrow(&section);
        let end = G::node_span(G::ROOT);
        let upper = 0_u64.wrapping_sub(end / 2);
        for vaddr in [upper, upper + 1, u64::MAX].map(Vaddr::new) {
            for level in levels::<G>() {
                let error = lock_covering(root, vaddr, level).err();
                let range = vaddr..vaddr.plus(1);
                assert_eq!(error, Some(LockError::NotManaged { range }));
            }
        }
        // What a table without signs would have there, and behind it.
        for vaddr in [end / 2, end - 1, end, upper - 1].map(Vaddr::new) {
            for level in levels::<G>() {
                let error = lock_covering(root, vaddr, level).err();
                assert_eq!(error, Some(LockError::NotCanonical { vaddr }));
            }
        }
        assert_eq!(live(machine), 1);
        let vaddr = last_of_lower_half::<G>();
        assert!(lock_covering(root, vaddr, Level::LEAF).is_ok(), "the neighbour is managed");
    });
}

fn levels_above_the_root_are_refused<G: Geometry>() {
    on_machine::<G>(|machine| {
        let cpu = online(machine, 0);
        let section = cpu.read_side();
        let root: Node<Whole<G>> = node(machine, G::ROOT);
        let level = Level::new(G::LEVELS + 1);
        let error = lock_covering(root.borrow(&section), Vaddr::new(0), level).err();
        assert_eq!(
            error,
            Some(LockError::NoSuchLevel { level }),
            "a node above the root is looked for"
        );
    });
}

fn running_out_of_memory_leaves_nothing_behind<G: Geometry>() {
    on_machine::<G>(|machine| {
        let cpu = online(machine, 0);
        let section = cpu.read_side();
        let vaddr = last_of_lower_half::<G>();
        for allocations in 0..u64::from(G::LEVELS) - 1 {
            let owner: Node<Whole<G>> = node(machine, G::ROOT);
            let root = owner.borrow(&section);
            machine.processors().fail_after(allocations);
            let error = lock_covering(root, vaddr, Level::LEAF).err();
            assert_eq!(error, Some(LockError::OutOfMemory));
            assert_eq!(live(machine), 1, "what was allocated has gone back");
            let guard = root.try_lock().expect("no lock is left behind");
            assert_eq!(guard.children(), 0);
            drop(guard);
            drop(lock_covering(root, vaddr, Level::LEAF).expect("there is memory again"));
            assert_eq!(live(machine), u64::from(G::LEVELS));
            drop(owner);
            assert_eq!(live(machine), 0);
        }
        let owner: Node<Whole<G>> = node(machine, G::ROOT);
        machine.processors().fail_after(u64::from(G::LEVELS) - 1);
        let guard = lock_covering(owner.borrow(&section), vaddr, Level::LEAF);
        assert!(guard.is_ok(), "the loop above has failed every allocation there is");
        assert!(machine.processors().cancel_failure(), "one more allocation would have failed");
    });
}

fn a_lock_that_is_held_is_not_waited_for<G: Geometry>() {
    on_machine::<G>(|machine| {
        let cpu = online(machine, 0);
        let section = cpu.read_side();
        let root: Node<Whole<G>> = node(machine, G::ROOT);
        let root = root.borrow(&section);
        let vaddr = last_of_lower_half::<G>();
        for level in levels::<G>() {
            let guard = try_lock_covering(root, vaddr, level).expect("nobody holds a lock");
            let error = try_lock_covering(root, vaddr, level).err();
            assert_eq!(error, Some(LockError::WouldWait));
            drop(guard);
        }
    });
}
