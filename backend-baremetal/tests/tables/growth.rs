//! New children: allocated where nothing is, or split from a huge page.

use weft_backend_baremetal::hosted::{hardware_sets, on_cpu};
use weft_core::address::{CpuId, Level};
use weft_core::config::Config;
use weft_core::entry::{Child, ChildRef};
use weft_core::error::Refusal;
use weft_core::format::{CachePolicy, Decoded, EntryFormat, PageFlags, Property, RawItem, X86_64};
use weft_core::geometry::Geometry;
use weft_core::guard::Guard;
use weft_core::item::MappedItem;
use weft_core::node::Node;

use crate::support::{
    Machine, User, Whole, child, device_frame, levels, live, node, on_machine, online, page_levels,
    put, tracked, untracked, untracked_at,
};

on_every_geometry!(
    absent_entries_grow_a_locked_child,
    present_entries_and_leaves_do_not_grow,
    growing_without_memory_changes_nothing,
    a_split_keeps_frames_and_property,
    only_huge_pages_are_split,
    a_split_keeps_what_hardware_sets_meanwhile,
    pages_of_pages_are_split_down_to_leaves,
);

fn absent_entries_grow_a_locked_child<G: Geometry>() {
    on_machine::<G>(|machine| {
        let cpu = online(machine, 0);
        let section = cpu.read_side();
        for level in levels::<G>().skip(1) {
            let parent: Node<Whole<G>> = node(machine, level);
            let mut guard = parent.borrow(&section).lock();
            let mut entry = guard.entry(1).expect("the index is in range");
            let grown = entry.allocate_if_absent().expect("a test has frames enough");
            assert_eq!(Some(grown.level()), level.below());
            assert_eq!((grown.children(), grown.is_stray()), (0, false));
            let found = child(parent.borrow(&section), 1);
            assert_eq!(found.paddr(), grown.node().paddr());
            assert!(found.try_lock().is_none(), "it can be reached, and is not locked");
            drop(grown);
            drop(found.try_lock().expect("the guard of the new child gives back its lock"));
            assert_eq!(guard.children(), 1);
            assert_eq!(live(machine), 2);
            drop(guard);
            drop(parent);
            assert_eq!(live(machine), 0);
        }
    });
}

fn grown<C: Config>(guard: &mut Guard<'_, C>, index: usize) -> Result<(), Refusal> {
    guard.entry(index).expect("the index is in range").allocate_if_absent().map(drop)
}

fn present_entries_and_leaves_do_not_grow<G: Geometry>() {
    on_machine::<G>(|machine| {
        let cpu = online(machine, 0);
        let section = cpu.read_side();
        let root: Node<Whole<G>> = node(machine, G::ROOT);
        let mut guard = root.borrow(&section).lock();
        grown(&mut guard, 0).expect("a test has frames enough");
        assert_eq!(grown(&mut guard, 0), Err(Refusal::Present));
        assert_eq!((guard.children(), live(machine)), (1, 2));

        let leaf: Node<Whole<G>> = node(machine, Level::LEAF);
        let mut guard = leaf.borrow(&section).lock();
        assert_eq!(grown(&mut guard, 0), Err(Refusal::Leaf));

        let user: Node<User<G>> = node(machine, G::ROOT);
        let mut guard = user.borrow(&section).lock();
        let index = G::ENTRIES - 1;
        assert_eq!(grown(&mut guard, index), Err(Refusal::NotManaged { index }));
    });
}

fn growing_without_memory_changes_nothing<G: Geometry>() {
    on_machine::<G>(|machine| {
        let cpu = online(machine, 0);
        let section = cpu.read_side();
        let root: Node<Whole<G>> = node(machine, G::ROOT);
        let mut guard = root.borrow(&section).lock();
        machine.processors().fail_after(0);
        assert_eq!(grown(&mut guard, 0), Err(Refusal::OutOfMemory));
        assert_eq!((guard.read_raw(0), guard.children(), live(machine)), (0, 0, 1));
        grown(&mut guard, 0).expect("there is memory again");
    });
}

const POLICIES: [CachePolicy; 6] = [
    CachePolicy::WriteBack,
    CachePolicy::WriteThrough,
    CachePolicy::UncachedMinus,
    CachePolicy::Uncached,
    CachePolicy::WriteCombining,
    CachePolicy::WriteProtected,
];

fn huge<G: Geometry>(level: Level, property: Property) -> MappedItem<Machine<G>> {
    untracked_at(device_frame::<G>(level), level, property)
}

/// Checks that entry `index` of a node maps its part of the huge page of the level above.
fn assert_part<G: Geometry>(guard: &mut Guard<'_, Whole<G>>, index: usize, property: Property) {
    let level = guard.level();
    let first = device_frame::<G>(Level::new(level.as_u8() + 1));
    let frame = first.plus(index as u64 * G::entry_span(level));
    match guard.entry(index).expect("the index is in range").child() {
        ChildRef::Item(part) => assert_eq!(*part, RawItem { frame, level, property }),
        other => panic!("entry {index} is no part of the huge page: {other:?}"),
    }
}

fn a_split_keeps_frames_and_property<G: Geometry>() {
    on_machine::<G>(|machine| {
        let cpu = online(machine, 0);
        let section = cpu.read_side();
        let flags = (0..=PageFlags::all().bits()).map(PageFlags::from_bits_retain);
        // Untracked: whoever could own a huge page is not among the items of this test.
        let flags = flags
            .filter(|flags| {
                !flags.intersects(PageFlags::TRACKED | PageFlags::GLOBAL | PageFlags::MARK)
            })
            .step_by(7);
        let properties = flags.zip(POLICIES.into_iter().cycle());
        for (flags, cache) in properties {
            let property = Property { flags, cache };
            for level in page_levels::<G>().skip(1) {
                let parent: Node<Whole<G>> = node(machine, level);
                let mut guard = parent.borrow(&section).lock();
                put(&mut guard, 1, Child::Item(huge::<G>(level, property)));
                let mut entry = guard.entry(1).expect("the index is in range");
                let mut parts = entry.split().expect("a test has frames enough");
                assert_eq!(Some(parts.level()), level.below());
                assert_eq!(parts.children(), G::ENTRIES as u16);
                for index in 0..G::ENTRIES {
                    assert_part(&mut parts, index, property);
                }
                let place = parts.node().paddr();
                drop(parts);
                assert_eq!(guard.children(), 1, "a node is there instead of a page");
                match guard.entry(1).expect("the index is in range").child() {
                    ChildRef::Node(node) => assert_eq!(node.paddr(), place),
                    other => panic!("the entry leads to no node: {other:?}"),
                }
                assert_eq!(live(machine), 2);
                drop(guard);
            }
        }
    });
}

fn only_huge_pages_are_split<G: Geometry>() {
    on_machine::<G>(|machine| {
        let cpu = online(machine, 0);
        let section = cpu.read_side();
        let split = |guard: &mut Guard<'_, Whole<G>>, index| {
            let before = (guard.read_raw(index), guard.children(), live(machine));
            let error = guard.entry(index).expect("in range").split().map(drop);
            assert_eq!((guard.read_raw(index), guard.children(), live(machine)), before);
            error
        };
        let leaf: Node<Whole<G>> = node(machine, Level::LEAF);
        let mut guard = leaf.borrow(&section).lock();
        put(&mut guard, 0, Child::Item(tracked(machine)));
        assert_eq!(split(&mut guard, 0), Err(Refusal::NoHugePage));

        let second: Node<Whole<G>> = node(machine, Level::new(2));
        let mut guard = second.borrow(&section).lock();
        assert_eq!(split(&mut guard, 0), Err(Refusal::NoHugePage));
        grown(&mut guard, 0).expect("a test has frames enough");
        assert_eq!(split(&mut guard, 0), Err(Refusal::NoHugePage));
        put(&mut guard, 1, Child::Item(untracked::<G>(Level::new(2))));
        machine.processors().fail_after(0);
        assert_eq!(split(&mut guard, 1), Err(Refusal::OutOfMemory));
        guard.entry(1).expect("in range").split().map(drop).expect("there is memory again");
    });
}

/// Hardware sets a bit while the page is being split. If it found the page still there, every part
/// has the bit; which of the two happens is up to the threads.
fn a_split_keeps_what_hardware_sets_meanwhile<G: Geometry>() {
    const ROUNDS: usize = 50;
    on_machine::<G>(|machine| {
        let cpu = online(machine, 0);
        let section = cpu.read_side();
        let level = Level::new(2);
        for _ in 0..ROUNDS {
            let parent: Node<Whole<G>> = node(machine, level);
            let node = parent.borrow(&section);
            let mut guard = node.lock();
            put(&mut guard, 0, Child::Item(huge::<G>(level, Property::default())));
            std::thread::scope(|scope| {
                let hardware = scope.spawn(move || {
                    on_cpu(CpuId::new(1), || hardware_sets(node, 0, X86_64::HARDWARE_BITS))
                });
                let mut entry = guard.entry(0).expect("the index is in range");
                let mut parts = entry.split().expect("frames enough");
                let before = hardware.join().expect("setting bits does not panic");
                let mut property = Property::default();
                if matches!(X86_64::decode(before, level), Decoded::Item(_)) {
                    property.flags |= PageFlags::ACCESSED | PageFlags::DIRTY;
                }
                for index in 0..G::ENTRIES {
                    assert_part(&mut parts, index, property);
                }
            });
        }
    });
}

fn pages_of_pages_are_split_down_to_leaves<G: Geometry>() {
    on_machine::<G>(|machine| {
        let cpu = online(machine, 0);
        let section = cpu.read_side();
        let top = page_levels::<G>().last().expect("leaves map pages");
        let parent: Node<Whole<G>> = node(machine, top);
        let mut guard = parent.borrow(&section).lock();
        let property = Property::new(PageFlags::WRITE | PageFlags::DIRTY);
        put(&mut guard, 0, Child::Item(huge::<G>(top, property)));
        let mut frame = device_frame::<G>(top);
        while guard.level() > Level::LEAF {
            let index = if guard.level() == top { 0 } else { G::ENTRIES - 1 };
            drop(guard.entry(index).expect("in range").split().expect("frames enough"));
            guard = child(guard.node(), index).lock();
            frame = frame.plus((G::ENTRIES as u64 - 1) * G::entry_span(guard.level()));
        }
        match guard.entry(G::ENTRIES - 1).expect("the index is in range").child() {
            ChildRef::Item(last) => {
                assert_eq!(*last, RawItem { frame, level: Level::LEAF, property });
            }
            other => panic!("the last page is not mapped: {other:?}"),
        }
        drop(guard);
        assert_eq!(live(machine), u64::from(top.as_u8()));
    });
}
