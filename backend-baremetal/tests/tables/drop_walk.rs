//! What goes with the last reference to a node.

use weft_core::address::Level;
use weft_core::config::Config;
use weft_core::entry::{Child, ChildRef};
use weft_core::error::OutOfMemory;
use weft_core::format::{EntryFormat, X86_64};
use weft_core::frame::Frame;
use weft_core::geometry::Geometry;
use weft_core::item::MappedItem;
use weft_core::node::Node;
use weft_core::permanent::Permanent;

use crate::support::{
    Kernel, LowerKernel, Machine, UpperUser, User, WRITABLE, Whole, dismantle, fill, live, node,
    on_machine, online, page_levels, put, root_of, untracked, untracked_at,
};

on_every_geometry!(
    trees_go_with_their_root,
    a_handle_of_a_child_keeps_its_sub_tree,
    untracked_pages_own_nothing,
    roots_leave_the_half_that_they_share_alone,
    a_permanent_root_needs_memory_for_its_entries,
);

fn trees_go_with_their_root<G: Geometry>() {
    on_machine::<G>(|machine| {
        let root: Node<Whole<G>> = node(machine, G::ROOT);
        let cpu = online(machine, 0);
        let section = cpu.read_side();
        let mut guard = root.borrow(&section).lock();
        let mut frames = 1;
        for index in 0..G::ENTRIES.min(8) {
            frames += fill(machine, &mut guard, index);
        }
        assert_eq!(guard.children(), G::ENTRIES.min(8) as u16);
        drop(guard);
        assert_eq!(live(machine), frames);
        drop(root);
        assert_eq!(live(machine), 0, "dropping a root frees its nodes and tracked pages");
    });
}

fn a_handle_of_a_child_keeps_its_sub_tree<G: Geometry>() {
    on_machine::<G>(|machine| {
        let root: Node<Whole<G>> = node(machine, G::ROOT);
        let cpu = online(machine, 0);
        let section = cpu.read_side();
        let mut guard = root.borrow(&section).lock();
        let frames = fill(machine, &mut guard, 0);
        let ChildRef::Node(child) = guard.entry(0).expect("in range").child() else {
            panic!("the entry leads to a node");
        };
        let child = child.to_owned();
        drop(guard);
        drop(root);
        assert_eq!(live(machine), frames, "only the root is gone");
        drop(child);
        assert_eq!(live(machine), 0);
    });
}

fn untracked_pages_own_nothing<G: Geometry>() {
    on_machine::<G>(|machine| {
        let owner = Frame::allocate(machine).expect("a test has frames enough");
        let cpu = online(machine, 0);
        let section = cpu.read_side();
        for level in page_levels::<G>() {
            let node: Node<Whole<G>> = node(machine, level);
            let mut guard = node.borrow(&section).lock();
            put(&mut guard, 1, Child::Item(untracked::<G>(level)));
            if level == Level::LEAF {
                let item = untracked_at(owner.paddr(), level, WRITABLE);
                put(&mut guard, 0, Child::Item(item));
            }
            drop(guard);
            drop(node);
            assert_eq!(live(machine), 1, "the frame belongs to its owner alone");
        }
        drop(owner);
    });
}

fn roots_leave_the_half_that_they_share_alone<G: Geometry>() {
    share_and_drop::<G, Kernel<G>, User<G>>();
    // The other way round, so that the shared half comes first.
    share_and_drop::<G, LowerKernel<G>, UpperUser<G>>();
}

fn share_and_drop<G: Geometry, K, C>()
where
    K: Config<Backend = Machine<G>>,
    C: Config<Backend = Machine<G>, Item = MappedItem<Machine<G>>>,
{
    on_machine::<G>(|machine| {
        let cpu = online(machine, 0);
        let section = cpu.read_side();
        let owner: Node<K> = node(machine, G::ROOT);
        let owner = Permanent::new(owner, &section).expect("a test has frames enough");
        let shared_frames = 1 + K::MANAGED.len() as u64;
        assert_eq!(live(machine), shared_frames, "every entry that is shared is grown");

        let root = Node::<C>::root_sharing(&owner).expect("a test has frames enough");
        let (theirs, ours) = (root_of(&owner, &section), root.borrow(&section));
        let mut guard = ours.lock();
        for index in 0..G::ENTRIES {
            match (theirs.walk(index), ours.walk(index)) {
                (ChildRef::Absent, ChildRef::Absent) => assert!(C::MANAGED.contains(&index)),
                (ChildRef::Node(theirs), ChildRef::Shared) => {
                    assert!(K::MANAGED.contains(&index));
                    assert_eq!(X86_64::node(theirs.paddr()), guard.read_raw(index));
                }
                other => panic!("entry {index} is not shared: {other:?}"),
            }
        }
        assert_eq!(guard.children(), 0, "shared entries are not counted");
        let frames = fill(machine, &mut guard, C::MANAGED.end - 1);
        assert_eq!(guard.children(), 1);
        drop(guard);
        assert_eq!(live(machine), shared_frames + 1 + frames);
        drop(root);
        assert_eq!(live(machine), shared_frames, "only the half that is managed is dropped");

        // Once more: the first root has not given up what it shared.
        drop(Node::<C>::root_sharing(&owner).expect("a test has frames enough"));
        assert_eq!(live(machine), shared_frames);
        dismantle(owner);
    });
}

fn a_permanent_root_needs_memory_for_its_entries<G: Geometry>() {
    fn check<G, C>(already: &[usize])
    where
        G: Geometry,
        C: Config<Backend = Machine<G>, Item = MappedItem<Machine<G>>>,
    {
        on_machine::<G>(|machine| {
            let cpu = online(machine, 0);
            let section = cpu.read_side();
            // Each allocation fails in turn, until one more would have failed.
            for allocations in 0..=C::MANAGED.len() - already.len() {
                let root: Node<C> = node(machine, G::ROOT);
                let mut guard = root.borrow(&section).lock();
                for &index in already {
                    fill(machine, &mut guard, index);
                }
                drop(guard);
                machine.processors().fail_after(allocations as u64);
                let made = Permanent::new(root, &section);
                let was_enough = machine.processors().cancel_failure();
                assert_eq!(was_enough, allocations == C::MANAGED.len() - already.len());
                match made {
                    Ok(owner) => {
                        assert!(was_enough, "a root is permanent without all of its entries");
                        dismantle(owner);
                    }
                    Err(OutOfMemory) => assert!(!was_enough, "memory that was there ran out"),
                }
                assert_eq!(live(machine), 0, "a root that did not become permanent is dropped");
            }
        });
    }
    check::<G, Kernel<G>>(&[]);
    // With pages below the last entry.
    check::<G, LowerKernel<G>>(&[G::ENTRIES / 2 - 1]);
}
