//! Node locks, held by one and waited for by real threads.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};

use weft_backend_baremetal::hosted::on_cpu;
use weft_core::address::{CpuId, Level, Vaddr};
use weft_core::cpu::Cpu;
use weft_core::entry::{Child, ChildRef};
use weft_core::find::lock_covering;
use weft_core::geometry::Geometry;
use weft_core::guard::Guard;
use weft_core::node::{Node, NodeRef};

use crate::support::{Machine, Whole, live, node, on_machine, on_machine_of, online, put, tracked};

on_every_geometry!(
    dropping_a_guard_gives_the_lock_back,
    threads_exclude_each_other_at_one_node,
    threads_map_and_unmap_side_by_side,
    threads_detach_what_others_grow,
    who_waited_for_a_node_that_became_stray_starts_over,
);

fn dropping_a_guard_gives_the_lock_back<G: Geometry>() {
    on_machine::<G>(|machine| {
        let cpu = online(machine, 0);
        let section = cpu.read_side();
        let root: Node<Whole<G>> = node(machine, G::ROOT);
        let root = root.borrow(&section);
        let guard = root.lock();
        assert!(root.try_lock().is_none(), "a lock is held by one");
        drop(guard);
        assert!(root.try_lock().is_some());
        drop(root.lock());
    });
}

const THREADS: u32 = 4;
const ROUNDS: u64 = 500;

/// As many frames as all rounds take together: a thread that does not run for a while holds up
/// every grace period, and what the others retire meanwhile waits.
fn frames<G: Geometry>() -> u64 {
    u64::from(THREADS) * ROUNDS * (u64::from(G::LEVELS) + 1)
}

/// Runs `body` on several CPUs at once, each a thread, starting together.
fn on_threads<G: Geometry>(machine: &Machine<G>, body: impl Fn(&mut Cpu<Machine<G>>) + Sync) {
    let start = Barrier::new(THREADS as usize);
    std::thread::scope(|scope| {
        for id in (0..THREADS).map(CpuId::new) {
            let (start, body) = (&start, &body);
            scope.spawn(move || {
                on_cpu(id, || {
                    let mut cpu = online(machine, id.as_u32());
                    start.wait();
                    body(&mut cpu);
                });
            });
        }
    });
}

fn threads_exclude_each_other_at_one_node<G: Geometry>() {
    on_machine::<G>(|machine| {
        let root: Node<Whole<G>> = node(machine, G::ROOT);
        // Read and written separately: only mutual exclusion keeps the sum.
        let sum = AtomicU64::new(0);
        on_threads(machine, |cpu| {
            for _ in 0..ROUNDS {
                let section = cpu.read_side();
                let guard = root.borrow(&section).lock();
                let before = sum.load(Ordering::Relaxed);
                std::hint::spin_loop();
                sum.store(before + 1, Ordering::Relaxed);
                drop(guard);
            }
        });
        assert_eq!(sum.into_inner(), u64::from(THREADS) * ROUNDS);
    });
}

/// Each thread has a leaf of its own, where the geometry has as many leaves.
fn threads_map_and_unmap_side_by_side<G: Geometry>() {
    on_machine_of::<G>(frames::<G>(), |machine| {
        let root: Node<Whole<G>> = node(machine, G::ROOT);
        on_threads(machine, |cpu| {
            let leaf = cpu.id().as_u32() as usize % G::ENTRIES;
            for round in 0..ROUNDS {
                let section = cpu.read_side();
                let path = [round as usize % G::ENTRIES, leaf];
                let vaddr = G::address(&path);
                let mut guard = lock_covering(root.borrow(&section), vaddr, Level::LEAF)
                    .expect("a test has frames enough");
                let mut entry = guard.entry(path[0]).expect("the index is in range");
                let page = Child::Item(tracked(machine));
                drop(entry.replace(page).expect("the page fits"));
                let ChildRef::Item(_) = entry.child() else { panic!("the page is not there") };
                drop(entry.detach());
                drop(guard);
                drop(section);
                cpu.quiescent();
            }
        });
        let leaves = (THREADS as u64).min(G::ENTRIES as u64);
        let above = u64::from(G::LEVELS) - 1;
        assert_eq!(live(machine), above + leaves, "nodes stay, pages are gone");
    });
}

/// All threads use the same address; the even ones map pages there, the odd ones detach all of it.
fn threads_detach_what_others_grow<G: Geometry>() {
    on_machine_of::<G>(frames::<G>(), |machine| {
        let root: Node<Whole<G>> = node(machine, G::ROOT);
        on_threads(machine, |cpu| {
            for _ in 0..ROUNDS {
                let section = cpu.read_side();
                let root = root.borrow(&section);
                if cpu.id().as_u32().is_multiple_of(2) {
                    let mut guard = lock_covering(root, Vaddr::new(0), Level::LEAF)
                        .expect("a test has frames enough");
                    assert!(!guard.is_stray());
                    let mut entry = guard.entry(0).expect("the index is in range");
                    drop(entry.detach());
                    put(&mut guard, 0, Child::Item(tracked(machine)));
                } else {
                    let mut guard = root.lock();
                    drop(guard.entry(0).expect("the index is in range").detach());
                }
                drop(section);
                cpu.quiescent();
            }
        });
        let most = 1 + u64::from(G::LEVELS);
        assert!(live(machine) <= most, "one path and one page are left at most");
    });
}

fn first_leaf<G: Geometry>(root: NodeRef<'_, Whole<G>>) -> Guard<'_, Whole<G>> {
    lock_covering(root, Vaddr::new(0), Level::LEAF).expect("a test has frames enough")
}

/// One thread waits for a leaf, another one for the same leaf in order to mark it stray. If the
/// latter is first, the former finds the leaf stray and must not have it. Which one is first is up
/// to the threads, so it is tried again and again.
fn who_waited_for_a_node_that_became_stray_starts_over<G: Geometry>() {
    const TRIALS: usize = 4;
    on_machine_of::<G>(frames::<G>(), |machine| {
        let owner: Node<Whole<G>> = node(machine, G::ROOT);
        for _ in 0..TRIALS {
            let [mine, finders, detachers] = [0, 1, 2].map(|cpu| online(machine, cpu));
            let section = mine.read_side();
            let leaf = first_leaf(owner.borrow(&section));
            let (owner, started) = (&owner, &Barrier::new(2));
            std::thread::scope(|scope| {
                let finder = scope.spawn(move || {
                    let section = finders.read_side();
                    started.wait();
                    let guard = first_leaf(owner.borrow(&section));
                    assert!(!guard.is_stray(), "a stray node was found");
                });
                started.wait();
                // A chance for the finder to reach the leaf.
                (0..4).for_each(|_| std::thread::yield_now());
                let detacher = scope.spawn(move || {
                    let section = detachers.read_side();
                    let mut guard = owner.borrow(&section).lock();
                    drop(guard.entry(0).expect("the index is in range").detach());
                });
                // And for the detacher to reach it, too.
                (0..4).for_each(|_| std::thread::yield_now());
                drop(leaf);
                for thread in [finder, detacher] {
                    thread.join().expect("a stray node was found");
                }
            });
        }
    });
}
