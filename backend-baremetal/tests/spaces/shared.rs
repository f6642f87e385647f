//! Tables without a space of their own: every CPU that runs on any root is asked.

use std::panic::{AssertUnwindSafe, catch_unwind};

use weft_core::address::FRAME_SIZE;
use weft_core::cursor::Cursor;
use weft_core::entry::ChildRef;
use weft_core::geometry::{Geometry, TinyTwo};
use weft_core::node::Node;
use weft_core::permanent::Permanent;
use weft_core::space::AddressSpace;
use weft_core::sync::Backend;

use crate::played::{
    Asked, Kernel, Machine, Player, READABLE, Standing, User, Whole, mapped, numbers, on_played,
    pages, players, start,
};
use crate::support::{WRITABLE, WholeOn, dismantle, node, root_of, tracked_on};

on_every_geometry!(
    a_table_that_is_shared_asks_every_cpu_that_runs,
    a_bare_root_asks_every_cpu_that_runs,
    a_bare_guard_asks_every_cpu_that_runs,
    a_cpu_that_switches_runs_throughout,
    processors_that_stand_on_a_table_are_asked_without_a_root,
);

/// Checks that these were asked, and about no space.
#[track_caller]
fn assert_asked(asked: &[Asked], cpus: &[u32]) {
    assert!(!asked.is_empty(), "no CPU was asked");
    for asked in asked {
        assert_eq!(asked.cpus, cpus, "every CPU that runs is asked, and no other");
        assert_eq!(asked.request.space(), None);
    }
}

/// Runs `body` with processors on two spaces, the second of them lazy, and with one that has left;
/// and with the numbers of the three that run.
fn on_running<G: Geometry>(
    body: impl FnOnce(&Machine<G>, &mut Player<Machine<G>>, &mut [Player<Machine<G>>; 4], &[u32]),
) {
    on_played::<G>(|machine, changer| {
        let spaces = [(); 2].map(|()| mapped(machine, changer));
        let mut cpus = players(machine);
        for (number, cpu) in cpus.iter_mut().enumerate() {
            cpu.activate(&spaces[number % 2]);
        }
        cpus[1].lazy();
        cpus[3].deactivate();
        let running = numbers(&cpus[..3]);
        body(machine, changer, &mut cpus, &running);
    });
}

fn a_table_that_is_shared_asks_every_cpu_that_runs<G: Geometry>() {
    on_running::<G>(|machine, changer, cpus, running| {
        let root: Node<Kernel<G>> = node(machine, G::ROOT);
        let kernel = changer.look(|cpu| Permanent::new(root, &cpu.read_side()).expect("enough"));
        // One of them shares it; that makes no difference.
        let user = AddressSpace::<User<G>>::sharing(&kernel).expect("frames enough");
        cpus[0].activate(&user);
        let half = G::node_span(G::ROOT) / FRAME_SIZE / 2;
        changer.look(|cpu| {
            let section = cpu.read_side();
            let root = root_of(&kernel, &section);
            let range = pages::<G>(half..half + 1);
            let lock = || Cursor::lock(root, range.clone()).expect("it is free");
            lock().map(tracked_on(machine, READABLE)).expect("nothing is there");
            assert_eq!(machine.processors().asked(), [], "nothing was there");
            assert_eq!(lock().unmap(range.end), Ok(1));
        });
        assert_asked(&machine.processors().asked(), running);
        // The user's own half has a space.
        changer.map(&user, 0..1);
        changer.unmap(&user, 0..1);
        let asked = machine.processors().asked();
        assert!(!asked.is_empty());
        for asked in asked {
            assert_eq!(asked.cpus, running[..1]);
            assert!(asked.request.space().is_some());
        }
        cpus[0].deactivate();
        drop(user);
        changer.quiescent();
        cpus.iter_mut().for_each(Player::quiescent);
        dismantle(kernel);
    });
}

fn a_bare_root_asks_every_cpu_that_runs<G: Geometry>() {
    on_running::<G>(|machine, changer, _, running| {
        let root: Node<Whole<G>> = node(machine, G::ROOT);
        changer.map(&root, 0..1);
        assert_eq!(machine.processors().asked(), []);
        changer.unmap(&root, 0..1);
        assert_asked(&machine.processors().asked(), running);
    });
}

/// The root above it is not known.
fn a_bare_guard_asks_every_cpu_that_runs<G: Geometry>() {
    on_running::<G>(|machine, changer, _, running| {
        let space = mapped(machine, changer);
        changer.look(|cpu| {
            let section = cpu.read_side();
            let mut node = space.borrow(&section);
            while let ChildRef::Node(below) = node.walk(0) {
                node = below;
            }
            let mut guard = node.lock();
            let mut entry = guard.entry(0).expect("the index is in range");
            entry.protect(|_| WRITABLE).expect("a page is there");
            assert_eq!(machine.processors().asked(), []);
            entry.protect(|_| READABLE).expect("a page is there");
            assert_asked(&machine.processors().asked(), running);
            entry.detach().expect("the entry is managed").retire();
            assert_asked(&machine.processors().asked(), running);
        });
    });
}

fn a_cpu_that_switches_runs_throughout<G: Geometry>() {
    on_played::<G>(|machine, changer| {
        let spaces = [(); 2].map(|()| mapped(machine, changer));
        let bare: Node<Whole<G>> = node(machine, G::ROOT);
        let mut asked = || {
            changer.map(&bare, 0..1);
            changer.unmap(&bare, 0..1);
            machine.processors().asked()
        };
        assert_eq!(asked(), [], "no CPU runs on anything");
        let mut cpu = Player::new(machine, 5);
        for _ in 0..2 {
            for space in [0, 1, 0, 0] {
                cpu.activate(&spaces[space]);
                assert_asked(&asked(), &[5]);
            }
            cpu.deactivate();
            assert_eq!(asked(), [], "it runs on nothing any more");
        }
        cpu.activate(&spaces[1]);
        assert_asked(&asked(), &[5]);
        drop(cpu);
        assert_eq!(asked(), [], "it is offline");
    });
}

fn processors_that_stand_on_a_table_are_asked_without_a_root<G: Geometry>() {
    let machine: Standing<G> = start();
    let mut changer = Player::new(&machine, 0);
    let root: Node<WholeOn<Standing<G>>> = node(&machine, G::ROOT);
    changer.map(&root, 0..1);
    changer.unmap(&root, 0..1);
    // The backend knows which processors it started.
    assert_asked(&machine.processors().asked(), &[]);
    assert!(Standing::<G>::HARDWARE.is_some());

    // A space of which no processor has anything is flushed nowhere.
    let space: AddressSpace<WholeOn<Standing<G>>> =
        AddressSpace::allocate(&machine).expect("frames enough");
    changer.map(&space, 0..1);
    changer.unmap(&space, 0..1);
    assert_eq!(machine.processors().asked(), [], "no processor holds translations");
}

/// Nodes of two entries have room for the holders of 32 CPUs beside the generation.
#[test]
fn a_cpu_that_a_space_has_no_place_for_is_not_asked_later() {
    on_played::<TinyTwo>(|machine, changer| {
        let space = mapped(machine, changer);
        let mut cpu = Player::new(machine, 32);
        let refused = catch_unwind(AssertUnwindSafe(|| cpu.activate(&space)));
        let message = refused.expect_err("there is no place").downcast::<String>();
        let expected = "an address space has no place for CpuId(32)";
        assert_eq!(*message.expect("it says why"), expected);
        let bare: Node<Whole<TinyTwo>> = node(machine, TinyTwo::ROOT);
        changer.map(&bare, 0..1);
        changer.unmap(&bare, 0..1);
        assert_eq!(machine.processors().asked(), [], "the CPU runs on nothing");
    });
}
