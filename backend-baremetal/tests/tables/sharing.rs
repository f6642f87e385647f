//! Roots that share the entries of a permanent one.

use weft_core::address::Level;
use weft_core::config::Config;
use weft_core::entry::{Child, ChildRef};
use weft_core::error::Refusal;
use weft_core::find::lock_covering;
use weft_core::geometry::{Geometry, TinyThree, TinyTwo};
use weft_core::item::MappedItem;
use weft_core::node::Node;
use weft_core::permanent::Permanent;
use weft_core::space::AddressSpace;

use crate::support::{
    Kernel, LowerKernel, Machine, SPACE_FRAMES, UpperUser, User, Whole, child, dismantle, live,
    node, on_machine, online, put, root_of, tracked,
};

on_every_geometry!(
    below_the_root_every_entry_is_the_tables_own,
    absent_entries_of_a_root_that_keeps_them_are_filled_once,
    what_is_grown_below_a_shared_entry_is_the_owners,
);

fn below_the_root_every_entry_is_the_tables_own<G: Geometry>() {
    fn check<G: Geometry, C>()
    where
        C: Config<Backend = Machine<G>, Item = MappedItem<Machine<G>>>,
    {
        on_machine::<G>(|machine| {
            let cpu = online(machine, 0);
            let section = cpu.read_side();
            let root: Node<C> = node(machine, G::ROOT);
            let mut above = root.borrow(&section).lock();
            for last in [0, G::ENTRIES - 1] {
                let mut entry = above.entry(C::MANAGED.start).expect("in range");
                drop(entry.detach().expect("the entry is managed"));
                drop(entry.allocate_if_absent().expect("frames enough"));
                let mut guard = child(above.node(), C::MANAGED.start).lock();
                while guard.level().as_u8() > 1 {
                    let mut entry = guard.entry(last).expect("the index is in range");
                    let grown = entry.allocate_if_absent().expect("frames enough").node().paddr();
                    let found = child(guard.node(), last);
                    assert_eq!(found.paddr(), grown);
                    guard = found.lock();
                }
                put(&mut guard, last, Child::Item(tracked(machine)));
                assert!(matches!(guard.node().walk(last), ChildRef::Item(_)));
                drop(guard.entry(last).expect("in range").detach().expect("it is managed"));
            }
        });
    }
    check::<G, User<G>>();
    check::<G, UpperUser<G>>();
}

fn absent_entries_of_a_root_that_keeps_them_are_filled_once<G: Geometry>() {
    on_machine::<G>(|machine| {
        let cpu = online(machine, 0);
        let section = cpu.read_side();
        let root: Node<Kernel<G>> = node(machine, G::ROOT);
        let mut guard = root.borrow(&section).lock();
        let index = Kernel::<G>::MANAGED.start;
        let below = G::ROOT.below().expect("a root is no leaf");
        let mut entry = guard.entry(index).expect("the index is in range");
        assert!(!entry.detach().expect("nothing is there to stay").is_present());
        put(&mut guard, index, Child::Node(node(machine, below)));
        let mut entry = guard.entry(index).expect("the index is in range");
        assert_eq!(entry.detach().err(), Some(Refusal::Permanent { index }));
        // And nothing stays of entries below the root.
        let ChildRef::Node(child) = entry.child() else { panic!("a node was put there") };
        drop(guard);
        let mut guard = child.lock();
        if guard.level().as_u8() == 1 {
            put(&mut guard, index, Child::Item(tracked(machine)));
        } else {
            drop(guard.entry(index).expect("in range").allocate_if_absent().expect("enough"));
        }
        let detached = guard.entry(index).expect("in range").detach().expect("it goes");
        assert!(detached.is_present());
    });
}

fn what_is_grown_below_a_shared_entry_is_the_owners<G: Geometry>() {
    on_machine::<G>(|machine| {
        let mut cpu = online(machine, 0);
        let root: Node<LowerKernel<G>> = node(machine, G::ROOT);
        let kernel = Permanent::new(root, &cpu.read_side()).expect("frames enough");
        let users =
            [(); 2].map(|()| AddressSpace::<UpperUser<G>>::sharing(&kernel).expect("enough"));
        {
            let section = cpu.read_side();
            let vaddr = G::address(&[]);
            let target = Level::LEAF;
            let mut leaf =
                lock_covering(root_of(&kernel, &section), vaddr, target).expect("enough");
            put(&mut leaf, 0, Child::Item(tracked(machine)));
        }
        let before = live(machine);
        cpu.activate(&users[0]).expect("the table is activated");
        let [first, second] = users;
        drop(second);
        drop(first);
        assert_eq!(
            live(machine),
            before - SPACE_FRAMES,
            "the active root is left, and all of the kernel"
        );
        cpu.deactivate();
        assert_eq!(live(machine), before - 2 * SPACE_FRAMES);
        dismantle(kernel);
    });
}

#[test]
#[should_panic(expected = "two configurations manage the same index of the root")]
fn halves_that_overlap_are_not_shared() {
    on_machine::<TinyTwo>(|machine| {
        let cpu = online(machine, 0);
        let root: Node<Kernel<TinyTwo>> = node(machine, TinyTwo::ROOT);
        let kernel = Permanent::new(root, &cpu.read_side()).expect("frames enough");
        drop(Node::<Whole<TinyTwo>>::root_sharing(&kernel));
    });
}

#[test]
#[should_panic(expected = "only a root is shared")]
fn nodes_below_the_root_do_not_become_permanent() {
    on_machine::<TinyThree>(|machine| {
        let cpu = online(machine, 0);
        let below = TinyThree::ROOT.below().expect("a root is no leaf");
        let child: Node<Kernel<TinyThree>> = node(machine, below);
        drop(Permanent::new(child, &cpu.read_side()));
    });
}
