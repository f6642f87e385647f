//! What the kernel's locks and entry loads are compiled to, where a test finds it.
//!
//! Everywhere else these few instructions are inlined. Here each has a function of its own, which
//! calls what everybody calls; `qemu-runner/tests/code_generation` looks them up by name in the
//! image that boots, disassembles them and counts. The functions named `control_*` are each wrong
//! in one way, as a kernel that watches itself could easily be: so it is seen that the count would
//! tell.
//!
//! The self-test runs all of them, so that the linker keeps them and they do what they say.

use core::mem::ManuallyDrop;

use weft_core::guard::Guard;
use weft_core::node::NodeRef;
use weft_core::sites::WALK_ENTRY;
use weft_core::sync::{Backend, Entries, Event, Word};
use weft_scenarios::tables::UserTable;
use weft_scenarios::world::Machine;

use super::kernel::Kernel;
use crate::machine::cpu;
use crate::services::metal::{self, MetalMachine};

type User<'g> = NodeRef<'g, UserTable<MetalMachine>>;
type UserGuard<'g> = Guard<'g, UserTable<MetalMachine>>;
type EntryWord = <MetalMachine as Backend>::Word;

/// Takes the lock of a node and gives it back.
#[unsafe(no_mangle)]
#[inline(never)]
fn probe_lock_unlock(node: &User<'_>) {
    drop(node.lock());
}

/// Takes the lock of a node, and keeps it.
#[unsafe(no_mangle)]
#[inline(never)]
fn probe_lock(node: &User<'_>) {
    let _kept = ManuallyDrop::new(node.lock());
}

/// Takes the lock of a node if it is free, and says whether it was. Gives it back.
#[unsafe(no_mangle)]
#[inline(never)]
fn probe_try_lock_unlock(node: &User<'_>) -> bool {
    node.try_lock().is_some()
}

/// Gives a lock back.
#[unsafe(no_mangle)]
#[inline(never)]
fn probe_unlock(guard: &mut ManuallyDrop<UserGuard<'_>>) {
    // SAFETY: the guard is given up: the self-test drops and uses it no more.
    unsafe { ManuallyDrop::drop(guard) };
}

/// Loads an entry, given its place.
#[unsafe(no_mangle)]
#[inline(never)]
fn probe_entry_load(entry: &EntryWord) -> u64 {
    entry.load(&WALK_ENTRY)
}

/// Loads an entry of a locked node.
#[unsafe(no_mangle)]
#[inline(never)]
fn probe_guard_read(guard: &UserGuard<'_>) -> u64 {
    guard.read_raw(0)
}

/// Tells the watcher of every lock that is taken, and not only of those that are waited for.
#[unsafe(no_mangle)]
#[inline(never)]
fn control_watched_lock(node: &User<'_>) {
    node.backend().observe(Event::LockContended);
    drop(node.lock());
}

/// Takes the lock twice.
#[unsafe(no_mangle)]
#[inline(never)]
fn control_lock_twice(node: &User<'_>) {
    drop(node.lock());
    drop(node.lock());
}

/// Loads an entry twice.
#[unsafe(no_mangle)]
#[inline(never)]
fn control_load_twice(entry: &EntryWord) -> u64 {
    entry.load(&WALK_ENTRY) ^ entry.load(&WALK_ENTRY)
}

/// Self-test: the functions do what they say.
pub(crate) fn probes_do_what_they_say(kernel: &Kernel) {
    let machine = kernel.machine;
    let boot = metal::online(&machine, cpu::online());
    let world = Machine::of_kernel(&machine, boot, kernel.space);
    let root = world.user_root();
    let section = world.section();
    let node = root.borrow(&section);
    for lock_unlock in [probe_lock_unlock, control_watched_lock, control_lock_twice] {
        lock_unlock(&node);
        assert!(probe_try_lock_unlock(&node), "a lock was not given back");
    }
    let mut guard = ManuallyDrop::new(node.lock());
    assert!(!probe_try_lock_unlock(&node), "a lock was taken twice");
    probe_unlock(&mut guard);
    probe_lock(&node);
    assert!(!probe_try_lock_unlock(&node), "a lock was not kept");
    drop(section);
    let single = world.node(1);
    let section = world.section();
    let guard = single.borrow(&section).lock();
    // SAFETY: `single` is a node of this machine, which lives.
    let entry = unsafe { machine.entries(single.paddr()) }.get(0);
    assert!(probe_guard_read(&guard) == 0, "a new node has no entries");
    assert!(probe_entry_load(entry) | control_load_twice(entry) == 0, "a new node has no entries");
}
