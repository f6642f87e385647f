//! Audits: the nodes that a race leaves, and those of the kernel's own table, are in order.
//!
//! The harness cannot name the roots of a race. But whatever frame is in use after the race, and
//! was free before the first one, is the race's; its metadata says whether it is a node, and the
//! tops among them lead to the others. What is looked at is the core's business: see
//! [`weft_core::audit`].
//!
//! In three broken worlds one node is put out of order just before, the way that errors of the core
//! would leave it: so it is seen that each is noticed, on the machine, and with its own message.

use core::mem::ManuallyDrop;

use weft_core::address::Paddr;
use weft_core::audit::{self, Found};
use weft_core::entry::ChildRef;
use weft_core::format::{EntryFormat, Property, RawItem, X86_64};
use weft_core::geometry::{FourLevels, Geometry};
use weft_core::node::NodeRef;
use weft_core::sites::{ENTRY_INIT, PUBLISH_NODE};
use weft_scenarios::sabotage::Sabotage;
use weft_scenarios::tables::{self, UserTable};
use weft_scenarios::world::Machine;

use super::kernel::Kernel;
use crate::machine::cpu;
use crate::services::frames::Moment;
use crate::services::metal::{self, MetalMachine};
use crate::services::sabotage;
use crate::services::space::{self, Space};

type User<'a> = NodeRef<'a, UserTable<MetalMachine>>;

/// The frames that are in use now and were not `before`.
///
/// # Safety
///
/// Until the last one is dropped nobody allocates, frees or changes anything.
unsafe fn found<'a>(
    machine: &'a MetalMachine,
    before: &'a Moment,
) -> impl Iterator<Item = Found<'a, MetalMachine>> {
    // SAFETY: (1) the region has given the frame out, to nodes and frames of the core, which are
    // all that takes any; (2) that it stays as it is, is the caller's contract.
    machine.processors().in_use.since(before).map(|frame| unsafe { Found::new(machine, frame) })
}

/// Checks every table that was made since `before`, and says how many nodes there are.
///
/// # Safety
///
/// Nobody is at work: no processor does anything in the core meanwhile.
///
/// # Panics
///
/// If a node is not in order.
pub(crate) unsafe fn check(machine: MetalMachine, before: &Moment) -> u64 {
    // SAFETY: by the caller's contract; what is found is dropped before anything is changed.
    let tops = unsafe { found(&machine, before) }.filter(Found::is_top);
    let mut nodes = tops.filter_map(|top| top.node());
    match sabotage::chosen() {
        Some(Sabotage::LostCount) => nodes.next().into_iter().for_each(lose_count),
        Some(Sabotage::LockKept) => nodes.next().into_iter().for_each(keep_lock),
        Some(Sabotage::StrayKept) => drop(nodes.find(|node| keep_stray(*node))),
        _ => {}
    }
    // SAFETY: by the caller's contract.
    let audited = tables::audit(unsafe { found(&machine, before) });
    audited.unwrap_or_else(|broken| panic!("after the race: {broken}"))
}

/// Checks the kernel's table.
///
/// # Panics
///
/// If a node is not in order.
pub(crate) fn check_kernel(space: &Space, machine: MetalMachine) {
    let cpu = metal::online(&machine, cpu::CPUS_MAX);
    let section = cpu.read_side();
    let audited = audit::audit(space::root_of(space, &section));
    audited.unwrap_or_else(|broken| panic!("in the kernel's table: {broken}"));
}

/// An entry appears that nobody has counted.
fn lose_count(node: User<'_>) {
    let mut guard = node.lock();
    let absent = FourLevels::lower_half().find(|index| guard.read_raw(*index) == 0);
    let absent = absent.expect("the race has filled no node");
    let (frame, property) = (Paddr::new(0), Property::default());
    let page = RawItem { frame, level: node.level(), property };
    // SAFETY: not kept: (1) the count is left as it is, which is what is tested; (2) hardware does
    // not use this entry, and (3) the machine ends before anybody walks through it.
    unsafe { guard.write_raw(absent, X86_64::item(page), &ENTRY_INIT) };
}

/// A lock is not given back.
fn keep_lock(node: User<'_>) {
    let _forgotten = ManuallyDrop::new(node.lock());
}

/// An entry goes on leading to a node that was taken out. False if there is none to take out.
fn keep_stray(node: User<'_>) -> bool {
    let is_node = |index: &usize| matches!(node.walk(*index), ChildRef::Node(_));
    let Some(index) = FourLevels::lower_half().find(is_node) else { return false };
    let mut guard = node.lock();
    let before = guard.read_raw(index);
    let mut entry = guard.entry(index).expect("the index is in range");
    // Neither retired nor freed.
    let _detached = ManuallyDrop::new(entry.detach().expect("the entry is managed"));
    // Another node takes the place, so that the count is right.
    drop(entry.allocate_if_absent().expect("there is memory enough"));
    // SAFETY: not kept: (1) the new node has no owner any more, and the old one is stray, which is
    // what is tested; (2) no processor runs on this table; (3) the old node is complete.
    unsafe { guard.write_raw(index, before, &PUBLISH_NODE) };
    true
}

/// Self-test: tables in order pass, the parts of them that were taken out and kept among them.
pub(crate) fn tables_are_in_order(kernel: &Kernel) {
    let machine = kernel.machine;
    let (frames, before) = (machine.region().live(), machine.processors().in_use.now());
    let boot = metal::online(&machine, cpu::online());
    let world = Machine::of_kernel(&machine, boot, kernel.space);
    let (root, single) = (world.user_root(), world.node(1));
    for path in [[0, 0, 0, 0], [0, 1, 0, 0], [511, 1, 2, 1]] {
        world.map(&root, FourLevels::address(&path), 0);
    }
    let kept = {
        let section = world.section();
        let ChildRef::Node(child) = root.borrow(&section).walk(0) else {
            panic!("a page was mapped below")
        };
        let kept = child.to_owned();
        let mut guard = root.borrow(&section).lock();
        let mut entry = guard.entry(0).expect("the index is in range");
        entry.detach().expect("the entry is managed").retire();
        kept
    };
    assert!(world.finish_set_up().is_none(), "the kernel runs on its only table");
    // SAFETY: the other processors wait for a job, and this one does nothing else.
    let nodes = unsafe { check(machine, &before) };
    // A root with a node of each level below it, and the single one.
    assert!(nodes == 5, "the audit has seen {nodes} nodes");
    drop((root, single, kept));
    let left = machine.region().live();
    assert!(left == frames, "leak: {frames} frames were in use before, {left} after");
    check_kernel(kernel.space, machine);
}
