//! What goes with the last reference to a node.

use weft_core::address::{CpuId, Level};
use weft_core::cpu::Cpu;
use weft_core::entry::{Child, ChildRef};
use weft_core::geometry::Geometry;
use weft_core::item::{Frame, MappedItem};
use weft_core::node::{Node, Permanent};

use crate::support::{
    Kernel, User, WRITABLE, Whole, fill, live, node, on_machine, page_levels, put, untracked,
};

on_every_geometry!(
    trees_go_with_their_root,
    a_handle_of_a_child_keeps_its_sub_tree,
    untracked_pages_own_nothing,
    user_roots_leave_the_kernel_half_alone,
    a_permanent_root_needs_memory_for_its_entries,
);

fn trees_go_with_their_root<G: Geometry>() {
    on_machine::<G>(|machine| {
        let root: Node<Whole<G>> = node(machine, G::ROOT);
        let cpu = Cpu::online(machine, CpuId::new(0));
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
        let cpu = Cpu::online(machine, CpuId::new(0));
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
        let cpu = Cpu::online(machine, CpuId::new(0));
        let section = cpu.read_side();
        for level in page_levels::<G>() {
            let node: Node<Whole<G>> = node(machine, level);
            let mut guard = node.borrow(&section).lock();
            put(&mut guard, 1, Child::Item(untracked::<G>(level)));
            if level == Level::LEAF {
                let frame = owner.paddr();
                let item = MappedItem::Untracked { frame, level, property: WRITABLE };
                put(&mut guard, 0, Child::Item(item));
            }
            drop(guard);
            drop(node);
            assert_eq!(live(machine), 1, "the frame belongs to its owner alone");
        }
        drop(owner);
    });
}

fn user_roots_leave_the_kernel_half_alone<G: Geometry>() {
    on_machine::<G>(|machine| {
        let cpu = Cpu::online(machine, CpuId::new(0));
        let section = cpu.read_side();
        let kernel: Node<Kernel<G>> = node(machine, G::ROOT);
        let kernel = Permanent::new(kernel, &section).expect("a test has frames enough");
        let half = G::ENTRIES / 2;
        let kernel_frames = 1 + half as u64;
        assert_eq!(live(machine), kernel_frames, "every kernel entry is grown");

        let user = Node::<User<G>>::root_sharing(&kernel).expect("a test has frames enough");
        let (theirs, ours) = (kernel.borrow(&section), user.borrow(&section));
        for index in 0..G::ENTRIES {
            match (theirs.walk(index, G::ROOT), ours.walk(index, G::ROOT)) {
                (ChildRef::Absent, ChildRef::Absent) => assert!(index < half),
                (ChildRef::Node(theirs), ChildRef::Node(ours)) => {
                    assert!(index >= half);
                    assert_eq!(theirs.paddr(), ours.paddr());
                }
                other => panic!("entry {index} is not shared: {other:?}"),
            }
        }
        let mut guard = ours.lock();
        assert_eq!(guard.children(), 0, "shared entries are not counted");
        let frames = fill(machine, &mut guard, half - 1);
        assert_eq!(guard.children(), 1);
        drop(guard);
        assert_eq!(live(machine), kernel_frames + 1 + frames);
        drop(user);
        assert_eq!(live(machine), kernel_frames, "only the user's half is dropped");

        // Once more: the first user's root has not given up what it shared.
        let again = Node::<User<G>>::root_sharing(&kernel).expect("a test has frames enough");
        drop(again);
        assert_eq!(live(machine), kernel_frames);
        dismantle(kernel);
    });
}

fn a_permanent_root_needs_memory_for_its_entries<G: Geometry>() {
    on_machine::<G>(|machine| {
        let cpu = Cpu::online(machine, CpuId::new(0));
        let section = cpu.read_side();
        for allocations in [0, G::ENTRIES as u64 / 2 - 1] {
            let kernel: Node<Kernel<G>> = node(machine, G::ROOT);
            machine.region().fail_after(allocations);
            Permanent::new(kernel, &section).expect_err("an allocation fails");
            assert_eq!(live(machine), 0, "a root that did not become permanent is dropped");
        }
    });
}

#[expect(unsafe_code, reason = "ends the permanence that only a machine's end would end")]
fn dismantle<G: Geometry>(kernel: Permanent<Kernel<G>>) {
    // SAFETY: `user_roots_leave_the_kernel_half_alone`, the only caller, has dropped both roots.
    drop(unsafe { kernel.dismantle() });
}
