//! What the interface must not let happen: each of these would take memory away from under
//! someone who may still use it, or let a lock be held by two.

use weft_core::address::{CpuId, Level, Paddr, Vaddr};
use weft_core::config::Config;
use weft_core::cpu::Cpu;
use weft_core::entry::{Child, ChildRef};
use weft_core::error::{AlreadyOnline, LockError, NotARoot, Refusal};
use weft_core::find::{lock_covering, try_lock_covering};
use weft_core::format::{EntryFormat, PageFlags, Property, X86_64};
use weft_core::frame::Frame;
use weft_core::geometry::{Geometry, TinyThree};
use weft_core::guard::Guard;
use weft_core::item::MappedItem;
use weft_core::node::Node;
use weft_core::permanent::Permanent;
use weft_core::space::AddressSpace;

use crate::support::{
    Kernel, LowerKernel, Machine, UpperUser, User, WRITABLE, Whole, dismantle, fill, levels, live,
    node, on_machine, online, page_levels, put, root_of, space, tracked, untracked, untracked_at,
};

on_every_geometry!(
    a_failed_attempt_leaves_the_lock_held,
    changing_rights_does_not_change_who_owns_the_frame,
    frames_beyond_the_format_are_refused,
    what_a_permanent_root_has_stays,
    shared_entries_are_not_walked_as_ones_own,
    a_node_has_a_parent_only_once,
    a_grown_node_has_its_parent_already,
    a_stray_node_is_not_put_back,
    a_find_begins_at_a_root,
    a_cpu_is_online_once,
);

fn a_failed_attempt_leaves_the_lock_held<G: Geometry>() {
    on_machine::<G>(|machine| {
        let cpu = online(machine, 0);
        let section = cpu.read_side();
        let root: Node<Whole<G>> = node(machine, G::ROOT);
        let root = root.borrow(&section);
        let guard = root.lock();
        for _ in 0..2 {
            assert!(root.try_lock().is_none(), "a failed attempt has unlocked");
            let attempt = try_lock_covering(root, Vaddr::new(0), G::ROOT);
            assert_eq!(attempt.err(), Some(LockError::WouldWait), "a failed attempt has unlocked");
        }
        drop(guard);
        drop(root.try_lock().expect("the holder has unlocked"));
    });
}

fn changing_rights_does_not_change_who_owns_the_frame<G: Geometry>() {
    on_machine::<G>(|machine| {
        let mut cpu = online(machine, 0);
        let owner = Frame::allocate(machine).expect("a test has frames enough");
        let leaf: Node<Whole<G>> = node(machine, Level::LEAF);
        let section = cpu.read_side();
        let mut guard = leaf.borrow(&section).lock();
        let item = untracked_at(owner.paddr(), Level::LEAF, WRITABLE);
        put(&mut guard, 0, Child::Item(item));
        put(&mut guard, 1, Child::Item(tracked(machine)));
        // With the bits that hardware sets the entry is stored, without them exchanged.
        for hardware in [PageFlags::empty(), PageFlags::ACCESSED | PageFlags::DIRTY] {
            for index in [0, 1] {
                let mut entry = guard.entry(index).expect("the index is in range");
                let change = |property: Property| Property {
                    flags: (property.flags ^ PageFlags::TRACKED) | hardware,
                    ..property
                };
                entry.protect(change).expect("the entry maps a page");
                let ChildRef::Item(page) = entry.child() else { panic!("the page is gone") };
                let is_tracked = page.property.flags.contains(PageFlags::TRACKED);
                assert_eq!(is_tracked, index == 1, "protecting has changed the frame's owner");
            }
        }
        for index in [0, 1] {
            drop(guard.entry(index).expect("the index is in range").detach());
        }
        drop(guard);
        drop(section);
        cpu.quiescent();
        cpu.quiescent();
        assert_eq!(live(machine), 2, "the table frees the frame that it owns, and no other");
        drop(owner);
    });
}

fn frames_beyond_the_format_are_refused<G: Geometry>() {
    on_machine::<G>(|machine| {
        let cpu = online(machine, 0);
        let section = cpu.read_side();
        for level in page_levels::<G>() {
            let parent: Node<Whole<G>> = node(machine, level);
            let mut guard = parent.borrow(&section).lock();
            let offer = |guard: &mut Guard<'_, Whole<G>>, frame| {
                let item = untracked_at(frame, level, WRITABLE);
                let mut entry = guard.entry(0).expect("the index is in range");
                let refused = entry.replace(Child::Item(item)).map(drop).err()?;
                assert_eq!((guard.read_raw(0), guard.children()), (0, 0));
                match refused.back {
                    Child::Item(MappedItem::Untracked(page)) => {
                        let back = (page.frame(), page.level(), page.property());
                        assert_eq!(back, (frame, level, WRITABLE));
                    }
                    other => panic!("another child came back: {other:?}"),
                }
                Some(refused.reason)
            };
            for bit in 52..64 {
                let frame = Paddr::new(1 << bit);
                assert_eq!(
                    offer(&mut guard, frame),
                    Some(Refusal::OutOfRange { frame }),
                    "no entry holds this frame"
                );
            }
            // The bits below a frame are a matter of alignment.
            for bit in (0..64).take_while(|&bit| 1 << bit < G::entry_span(level)) {
                let (frame, alignment) = (Paddr::new(1 << bit), G::entry_span(level));
                let expected = Some(Refusal::Unaligned { frame, alignment });
                assert_eq!(
                    offer(&mut guard, frame),
                    expected,
                    "a page begins inside of a frame of its size"
                );
            }
            let last = Paddr::new((1 << 52) - G::entry_span(level));
            assert_eq!(offer(&mut guard, last), None, "the last frame of all fits");
            let ChildRef::Item(page) = guard.entry(0).expect("in range").child() else {
                panic!("the entry maps no page")
            };
            assert_eq!((page.frame, page.property), (last, WRITABLE));
        }
    });
}

fn what_a_permanent_root_has_stays<G: Geometry>() {
    fn check<G: Geometry, K, C>()
    where
        K: Config<Backend = Machine<G>, Item = MappedItem<Machine<G>>>,
        C: Config<Backend = Machine<G>, Item = MappedItem<Machine<G>>>,
    {
        on_machine::<G>(|machine| {
            let mut cpu = online(machine, 0);
            let root: Node<K> = node(machine, G::ROOT);
            let permanent = Permanent::new(root, &cpu.read_side()).expect("frames enough");
            let sharing = Node::<C>::root_sharing(&permanent).expect("frames enough");
            let before = live(machine);
            {
                let section = cpu.read_side();
                let mut guard = root_of(&permanent, &section).lock();
                let children = guard.children();
                for index in K::MANAGED {
                    let reason = Refusal::Permanent { index };
                    let bits = guard.read_raw(index);
                    let mut entry = guard.entry(index).expect("the index is in range");
                    assert_eq!(
                        entry.detach().err(),
                        Some(reason),
                        "an entry of a permanent root is gone"
                    );
                    let below: Node<K> = node(machine, G::ROOT.below().expect("not a leaf"));
                    let place = below.paddr();
                    let refused =
                        entry.replace(Child::Node(below)).map(drop).expect_err("it stays");
                    assert_eq!(refused.reason, reason);
                    let Child::Node(below) = refused.back else { panic!("another came back") };
                    assert_eq!(below.paddr(), place);
                    drop(below);
                    assert_eq!((guard.read_raw(index), guard.children()), (bits, children));
                }
            }
            cpu.quiescent();
            assert_eq!(live(machine), before);
            // Below the root the owner changes what it likes, and the other root sees it.
            let section = cpu.read_side();
            let mut guard = root_of(&permanent, &section).lock();
            let ChildRef::Node(child) = guard.entry(K::MANAGED.start).expect("in range").child()
            else {
                panic!("a permanent root has all its children")
            };
            fill(machine, &mut child.lock(), 0);
            assert_eq!(child.lock().entry(0).expect("in range").detach().err(), None);
            drop(guard);
            drop(section);
            drop(sharing);
            dismantle(permanent);
        });
    }
    check::<G, Kernel<G>, User<G>>();
    check::<G, LowerKernel<G>, UpperUser<G>>();
}

fn shared_entries_are_not_walked_as_ones_own<G: Geometry>() {
    on_machine::<G>(|machine| {
        let cpu = online(machine, 0);
        let section = cpu.read_side();
        let kernel: Node<Kernel<G>> = node(machine, G::ROOT);
        let kernel = Permanent::new(kernel, &section).expect("frames enough");
        let user = Node::<User<G>>::root_sharing(&kernel).expect("frames enough");
        let root = user.borrow(&section);
        for index in G::upper_half() {
            assert!(matches!(root.walk(index), ChildRef::Shared));
            let mut guard = root.lock();
            let mut entry = guard.entry(index).expect("the index is in range");
            assert!(matches!(entry.child(), ChildRef::Shared), "under the lock as well");
            let not_managed = Refusal::NotManaged { index };
            assert_eq!(entry.detach().err(), Some(not_managed));
            let not_managed = Some(Refusal::NotManaged { index });
            assert_eq!(
                entry.allocate_if_absent().err(),
                not_managed,
                "an entry of another table is grown"
            );
            assert_eq!(entry.split().err(), not_managed);
            assert_eq!(entry.protect(|property| property).err(), not_managed);
            drop(guard);
            let mut path = vec![0; usize::from(G::LEVELS)];
            path[usize::from(G::LEVELS) - 1] = index;
            let vaddr = G::address(&path);
            let found = lock_covering(root, vaddr, Level::LEAF).err();
            let range = vaddr..vaddr.plus(1);
            assert_eq!(found, Some(LockError::NotManaged { range }));
        }
        drop(user);
        dismantle(kernel);
    });
}

/// Offers a node to an entry that is to refuse it as one that has, or had, a parent.
fn assert_in_use<C: Config>(guard: &mut Guard<'_, C>, index: usize, child: Node<C>) {
    let place = child.paddr();
    let before = (guard.read_raw(index), guard.children());
    let mut entry = guard.entry(index).expect("the index is in range");
    let refused = entry.replace(Child::Node(child)).map(drop).expect_err("the node has a parent");
    assert_eq!(refused.reason, Refusal::InUse { node: place });
    assert!(matches!(refused.back, Child::Node(back) if back.paddr() == place));
    assert_eq!((guard.read_raw(index), guard.children()), before);
}

fn a_node_has_a_parent_only_once<G: Geometry>() {
    on_machine::<G>(|machine| {
        let cpu = online(machine, 0);
        let section = cpu.read_side();
        for level in levels::<G>().skip(1) {
            let parents: [Node<Whole<G>>; 2] = [(); 2].map(|()| node(machine, level));
            let [mut first, mut second] =
                parents.each_ref().map(|parent| parent.borrow(&section).lock());
            let child: Node<Whole<G>> = node(machine, level.below().expect("not a leaf"));
            put(&mut first, 0, Child::Node(child.clone()));
            assert_in_use(&mut first, 1, child.clone());
            assert_in_use(&mut first, 0, child.clone());
            assert_in_use(&mut second, 0, child.clone());
            let again = child.borrow(&section).try_lock().expect("a refused node is not locked");
            assert!(!again.is_stray(), "an attempt leaves no traces");
        }
    });
}

fn a_grown_node_has_its_parent_already<G: Geometry>() {
    on_machine::<G>(|machine| {
        let cpu = online(machine, 0);
        let section = cpu.read_side();
        let root: Node<Whole<G>> = node(machine, G::ROOT);
        let mut guard = root.borrow(&section).lock();
        let mut entry = guard.entry(0).expect("the index is in range");
        let grown = entry.allocate_if_absent().expect("frames enough").node().to_owned();
        assert_in_use(&mut guard, 1, grown);

        let parent: Node<Whole<G>> = node(machine, Level::new(2));
        let mut guard = parent.borrow(&section).lock();
        put(&mut guard, 0, Child::Item(untracked::<G>(Level::new(2))));
        let mut entry = guard.entry(0).expect("the index is in range");
        let parts = entry.split().expect("frames enough").node().to_owned();
        assert_in_use(&mut guard, 1, parts);
    });
}

fn a_stray_node_is_not_put_back<G: Geometry>() {
    on_machine::<G>(|machine| {
        let cpu = online(machine, 0);
        let section = cpu.read_side();
        let root: Node<Whole<G>> = node(machine, G::ROOT);
        let mut guard = root.borrow(&section).lock();
        let mut entry = guard.entry(0).expect("the index is in range");
        let child = entry.allocate_if_absent().expect("frames enough").node().to_owned();
        drop(entry.detach());
        // A find that met it would start over for ever.
        assert_in_use(&mut guard, 0, child);
        drop(guard);
        drop(lock_covering(root.borrow(&section), Vaddr::new(0), Level::LEAF).expect("enough"));
    });
}

fn a_find_begins_at_a_root<G: Geometry>() {
    on_machine::<G>(|machine| {
        let cpu = online(machine, 0);
        let section = cpu.read_side();
        for level in levels::<G>().filter(|&level| level < G::ROOT) {
            let below: Node<Whole<G>> = node(machine, level);
            let start = below.borrow(&section);
            if X86_64::maps_pages_at(level) {
                put(&mut start.lock(), 0, Child::Item(untracked::<G>(level)));
            }
            for target in levels::<G>() {
                let expected = Some(LockError::NotARoot(NotARoot { level }));
                assert_eq!(
                    lock_covering(start, Vaddr::new(0), target).err(),
                    expected,
                    "a descent begins at no root"
                );
                assert_eq!(
                    try_lock_covering(start, Vaddr::new(0), target).err(),
                    expected,
                    "a descent begins at no root"
                );
            }
        }
    });
}

fn a_cpu_is_online_once<G: Geometry>() {
    on_machine::<G>(|machine| {
        for number in [0, CpuId::MAX] {
            let cpu = CpuId::new(number);
            let mut first = online(machine, number);
            let root: Node<Whole<G>> = node(machine, G::ROOT);
            {
                let section = first.read_side();
                let start = root.borrow(&section);
                drop(lock_covering(start, Vaddr::new(0), Level::LEAF).expect("frames enough"));
                drop(root.borrow(&section).lock().entry(0).expect("in range").detach());
                assert_eq!(
                    Cpu::online(machine, cpu).err(),
                    Some(AlreadyOnline { cpu }),
                    "a CPU is online twice"
                );
                assert_eq!(live(machine), u64::from(G::LEVELS), "an attempt ends no section");
            }
            first.quiescent();
            assert_eq!(live(machine), 1, "the first one is still who is waited for");
            drop(first);
            drop(online(machine, number));
        }
    });
}

/// What is tried with two machines, each online as CPU 0.
fn with_two_machines(body: impl FnOnce(&Machine<TinyThree>, &Machine<TinyThree>)) {
    on_machine::<TinyThree>(|first| {
        on_machine::<TinyThree>(|second| {
            let handle = *first;
            assert_eq!(*first, handle, "handles of a machine are equal");
            assert_ne!(first, second, "machines are equal to themselves only");
            body(first, second);
        });
    });
}

#[test]
#[should_panic(expected = "the node is one of another machine")]
fn a_node_of_another_machine_is_refused() {
    with_two_machines(|first, second| {
        let cpu = online(first, 0);
        let section = cpu.read_side();
        let root: Node<Whole<TinyThree>> = node(first, TinyThree::ROOT);
        let foreign: Node<Whole<TinyThree>> = node(second, Level::new(2));
        let mut guard = root.borrow(&section).lock();
        drop(guard.entry(0).expect("in range").replace(Child::Node(foreign)));
    });
}

#[test]
#[should_panic(expected = "the section is one of another machine")]
fn a_section_of_another_machine_is_refused() {
    with_two_machines(|first, second| {
        let cpu = online(second, 0);
        let root: Node<Whole<TinyThree>> = node(first, TinyThree::ROOT);
        root.borrow(&cpu.read_side());
    });
}

#[test]
#[should_panic(expected = "the space is one of another machine")]
fn a_space_of_another_machine_is_not_activated() {
    with_two_machines(|first, second| {
        let space: AddressSpace<Whole<TinyThree>> = space(first);
        online(second, 0).activate(&space).expect("the table is activated");
    });
}
