//! Changing rights while hardware sets accessed and dirty bits.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};

use weft_backend_baremetal::hosted::hardware_sets;
use weft_core::address::{Level, Paddr};
use weft_core::entry::{Child, ChildRef};
use weft_core::error::Refusal;
use weft_core::format::{Decoded, EntryFormat, PageFlags, Property, X86_64};
use weft_core::geometry::Geometry;
use weft_core::guard::Guard;
use weft_core::node::Node;

use crate::support::{
    WRITABLE, Whole, node, on_machine, online, page_levels, put, tracked, untracked, untracked_at,
};

on_every_geometry!(
    protecting_changes_the_property_and_returns_the_old_one,
    bits_that_hardware_sets_during_a_change_are_kept,
    a_change_runs_once_when_hardware_has_set_its_bits,
    bits_that_hardware_sets_before_a_detachment_come_out,
    only_pages_are_protected,
    no_bit_is_lost_while_hardware_writes_at_any_time,
);

fn property_at<G: Geometry>(guard: &mut Guard<'_, Whole<G>>, index: usize) -> Property {
    match guard.entry(index).expect("the index is in range").child() {
        ChildRef::Item(raw) => raw.property,
        other => panic!("entry {index} maps no page: {other:?}"),
    }
}

fn without_write(property: Property) -> Property {
    Property { flags: property.flags - PageFlags::WRITE, ..property }
}

/// Runs `body` for each level that maps pages, with a node whose last entry maps a writable one.
fn with_pages<G: Geometry>(mut body: impl FnMut(&mut Guard<'_, Whole<G>>, usize)) {
    on_machine::<G>(|machine| {
        let cpu = online(machine, 0);
        let section = cpu.read_side();
        for level in page_levels::<G>() {
            let node: Node<Whole<G>> = node(machine, level);
            let mut guard = node.borrow(&section).lock();
            put(&mut guard, G::ENTRIES - 1, Child::Item(untracked::<G>(level)));
            body(&mut guard, G::ENTRIES - 1);
        }
    });
}

fn protecting_changes_the_property_and_returns_the_old_one<G: Geometry>() {
    with_pages::<G>(|guard, index| {
        let before = property_at(guard, index);
        let mut entry = guard.entry(index).expect("the index is in range");
        assert_eq!(entry.protect(without_write), Ok(before));
        assert_eq!(property_at(guard, index), without_write(before));
        assert_eq!(guard.children(), 1);
    });
}

fn bits_that_hardware_sets_during_a_change_are_kept<G: Geometry>() {
    with_pages::<G>(|guard, index| {
        let (node, runs) = (guard.node(), Cell::new(0));
        let bits = X86_64::HARDWARE_BITS;
        // Hardware sets one bit during the first run and the other one during the second.
        let change = |property| {
            let bit = if runs.get() == 0 { bits & bits.wrapping_neg() } else { bits };
            hardware_sets(node, index, bit);
            runs.set(runs.get() + 1);
            without_write(property)
        };
        let set = PageFlags::ACCESSED | PageFlags::DIRTY;
        let mut entry = guard.entry(index).expect("the index is in range");
        let before = entry.protect(change).expect("the entry maps a page");
        assert_eq!(before.flags, PageFlags::WRITE | set, "the old property has both bits");
        assert_eq!(property_at(guard, index).flags, set, "and so has the new one");
        assert_eq!(runs.get(), 3);
    });
}

fn a_change_runs_once_when_hardware_has_set_its_bits<G: Geometry>() {
    with_pages::<G>(|guard, index| {
        hardware_sets(guard.node(), index, X86_64::HARDWARE_BITS);
        let mut runs = 0;
        let mut entry = guard.entry(index).expect("the index is in range");
        let before = entry.protect(|property| {
            runs += 1;
            without_write(property)
        });
        assert_eq!(runs, 1);
        let set = PageFlags::ACCESSED | PageFlags::DIRTY;
        assert_eq!(before.map(|property| property.flags), Ok(PageFlags::WRITE | set));
        assert_eq!(property_at(guard, index).flags, set);
    });
}

fn bits_that_hardware_sets_before_a_detachment_come_out<G: Geometry>() {
    with_pages::<G>(|guard, index| {
        hardware_sets(guard.node(), index, X86_64::HARDWARE_BITS);
        let mut entry = guard.entry(index).expect("the index is in range");
        let detached = entry.detach().expect("all entries are managed");
        match detached.child() {
            ChildRef::Item(page) => {
                assert!(page.property.flags.contains(PageFlags::ACCESSED | PageFlags::DIRTY));
            }
            other => panic!("another child came out: {other:?}"),
        }
        // An absent entry is not hardware's to write.
        assert_eq!(hardware_sets(guard.node(), index, X86_64::HARDWARE_BITS), 0);
        assert_eq!(guard.read_raw(index), 0);
    });
}

fn only_pages_are_protected<G: Geometry>() {
    on_machine::<G>(|machine| {
        let cpu = online(machine, 0);
        let section = cpu.read_side();
        let root: Node<Whole<G>> = node(machine, G::ROOT);
        let mut guard = root.borrow(&section).lock();
        let protect = |guard: &mut Guard<'_, Whole<G>>, index| {
            guard.entry(index).expect("in range").protect(|_| unreachable!("nothing to change"))
        };
        assert_eq!(protect(&mut guard, 0), Err(Refusal::NoPage));
        let mut entry = guard.entry(0).expect("the index is in range");
        drop(entry.allocate_if_absent().expect("a test has frames enough"));
        assert_eq!(protect(&mut guard, 0), Err(Refusal::NoPage));

        let leaf: Node<Whole<G>> = node(machine, Level::LEAF);
        let mut guard = leaf.borrow(&section).lock();
        put(&mut guard, 0, Child::Item(tracked(machine)));
        let mut entry = guard.entry(0).expect("the index is in range");
        let before = entry.protect(without_write).expect("the entry maps a page");
        assert!(before.flags.contains(PageFlags::TRACKED), "a tracked page stays one");
        assert!(property_at(&mut guard, 0).flags.contains(PageFlags::TRACKED));
    });
}

/// Ends the loop of the thread that plays hardware, also when the test fails before it does.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Hardware, a thread, sets both bits of an entry whenever it can, while pages come and go there.
/// Pages are told apart by their frames, so each page that hardware has marked is known, and it
/// must come out with the mark: of the detachment, or of the change of rights before it.
fn no_bit_is_lost_while_hardware_writes_at_any_time<G: Geometry>() {
    on_machine::<G>(|machine| {
        let cpu = online(machine, 0);
        let section = cpu.read_side();
        let leaf: Node<Whole<G>> = node(machine, Level::LEAF);
        let node = leaf.borrow(&section);
        let over = AtomicBool::new(false);
        let (marked, came_out) = std::thread::scope(|scope| {
            let hardware = scope.spawn(|| {
                let mut marked = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    let before = hardware_sets(node, 0, X86_64::HARDWARE_BITS);
                    if X86_64::hardware_may_write(before) {
                        let Decoded::Item(page) = X86_64::decode(before, Level::LEAF) else {
                            unreachable!("a leaf leads to pages only")
                        };
                        marked.push(page.frame);
                    }
                }
                marked
            });
            let stop = StopOnDrop(&over);
            let came_out = pages_that_come_out_marked(&mut node.lock());
            drop(stop);
            (hardware.join().expect("hardware does not panic"), came_out)
        });
        assert_eq!(marked, came_out, "a page that hardware had marked came out without the marks");
    });
}

/// Maps pages at entry 0, protects every other one, and detaches them, until hardware has marked
/// enough of them, or has not because the threads do not run at the same time.
fn pages_that_come_out_marked<G: Geometry>(guard: &mut Guard<'_, Whole<G>>) -> Vec<Paddr> {
    const ENOUGH: usize = 2_000;
    const PAGES_MAX: u64 = 100_000;
    let mut came_out = Vec::new();
    for page in 0..PAGES_MAX {
        let frame = Paddr::of_frame(page);
        let item = untracked_at(frame, Level::LEAF, WRITABLE);
        put(guard, 0, Child::Item(item));
        let mut entry = guard.entry(0).expect("the index is in range");
        if page % 2 == 0 {
            entry.protect(without_write).expect("the entry maps a page");
        }
        let detached = entry.detach().expect("all entries are managed");
        let ChildRef::Item(item) = detached.child() else { unreachable!("a page was put there") };
        if item.property.flags.contains(PageFlags::ACCESSED | PageFlags::DIRTY) {
            came_out.push(frame);
        }
        if came_out.len() == ENOUGH {
            break;
        }
    }
    came_out
}
