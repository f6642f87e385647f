//! A CPU owns the root it runs on.

use weft_backend_baremetal::hosted::{Loaded, on_cpu};
use weft_core::address::{CpuId, Level};
use weft_core::error::{ActivateError, NotARoot};
use weft_core::geometry::Geometry;
use weft_core::node::Node;

use crate::support::{Machine, User, Whole, fill, levels, live, node, on_machine, online};

on_every_geometry!(
    the_first_activation_gives_nothing_back,
    switching_gives_the_previous_root_back,
    activating_the_active_root_does_nothing,
    nodes_that_are_no_roots_are_refused,
    each_cpu_owns_its_root,
    deactivating_gives_the_root_back,
    tables_of_several_kinds_take_turns,
);

fn loaded<G: Geometry>(machine: &Machine<G>, cpu: u32) -> Loaded {
    machine.processors().threads.loaded(CpuId::new(cpu))
}

fn the_first_activation_gives_nothing_back<G: Geometry>() {
    on_machine::<G>(|machine| {
        let mut cpu = online(machine, 0);
        let root: Node<Whole<G>> = node(machine, G::ROOT);
        assert_eq!((cpu.active(), loaded(machine, 0)), (None, Loaded::default()));
        cpu.activate(&root).expect("the node is a root");
        assert_eq!(cpu.active(), Some(root.paddr()));
        assert_eq!(loaded(machine, 0), Loaded { root: Some(root.paddr()), times: 1 });
        assert_eq!(live(machine), 1);
    });
}

fn switching_gives_the_previous_root_back<G: Geometry>() {
    on_machine::<G>(|machine| {
        let mut cpu = online(machine, 0);
        let first: Node<Whole<G>> = node(machine, G::ROOT);
        let frames = 1 + {
            let section = cpu.read_side();
            let mut guard = first.borrow(&section).lock();
            fill(machine, &mut guard, 0)
        };
        cpu.activate(&first).expect("the node is a root");
        drop(first);
        assert_eq!(live(machine), frames, "an active root is kept when its last handle is dropped");

        let second: Node<Whole<G>> = node(machine, G::ROOT);
        cpu.activate(&second).expect("the node is a root");
        assert_eq!(live(machine), 1, "the root switched away from is dropped with all below it");
        assert_eq!(loaded(machine, 0), Loaded { root: Some(second.paddr()), times: 2 });
    });
}

fn activating_the_active_root_does_nothing<G: Geometry>() {
    on_machine::<G>(|machine| {
        let mut cpu = online(machine, 0);
        let root: Node<Whole<G>> = node(machine, G::ROOT);
        for _ in 0..3 {
            cpu.activate(&root).expect("the node is a root");
            assert_eq!(loaded(machine, 0).times, 1, "the root is loaded once");
        }
        drop(root);
        assert_eq!(live(machine), 1, "the CPU has one reference");
        cpu.deactivate();
        assert_eq!(live(machine), 0, "and not one for each activation");
    });
}

fn nodes_that_are_no_roots_are_refused<G: Geometry>() {
    on_machine::<G>(|machine| {
        let mut cpu = online(machine, 0);
        let root: Node<Whole<G>> = node(machine, G::ROOT);
        cpu.activate(&root).expect("the node is a root");
        for level in levels::<G>().filter(|&level| level < G::ROOT) {
            let node: Node<Whole<G>> = node(machine, level);
            let expected = Err(ActivateError::NotARoot(NotARoot { level }));
            assert_eq!(cpu.activate(&node), expected, "a CPU runs on a node that is no root");
            assert_eq!(cpu.active(), Some(root.paddr()), "the CPU runs on what it ran on");
            assert_eq!(loaded(machine, 0).times, 1);
        }
        assert_eq!(live(machine), 1, "a refused node has no reference more than before");
        assert!(Level::LEAF < G::ROOT);
    });
}

fn each_cpu_owns_its_root<G: Geometry>() {
    on_machine::<G>(|machine| {
        let mut cpus = [0, 1].map(|cpu| online(machine, cpu));
        let root: Node<Whole<G>> = node(machine, G::ROOT);
        let frame = root.paddr();
        for cpu in &mut cpus {
            on_cpu(cpu.id(), || cpu.activate(&root).expect("the node is a root"));
        }
        drop(root);
        let [first, second] = &mut cpus;
        on_cpu(first.id(), || first.deactivate());
        assert_eq!(live(machine), 1, "the other CPU still runs on it");
        assert_eq!(loaded(machine, 0), Loaded { root: None, times: 2 });
        assert_eq!(loaded(machine, 1), Loaded { root: Some(frame), times: 1 });
        on_cpu(second.id(), || second.deactivate());
        assert_eq!(live(machine), 0);
    });
}

fn deactivating_gives_the_root_back<G: Geometry>() {
    on_machine::<G>(|machine| {
        let mut cpu = online(machine, 0);
        cpu.deactivate();
        assert_eq!(loaded(machine, 0).times, 0, "there was nothing to deactivate");
        let root: Node<Whole<G>> = node(machine, G::ROOT);
        cpu.activate(&root).expect("the node is a root");
        drop(root);
        drop(cpu);
        assert_eq!(live(machine), 0, "a CPU that goes offline gives its root back");
        assert_eq!(loaded(machine, 0), Loaded { root: None, times: 2 });
    });
}

fn tables_of_several_kinds_take_turns<G: Geometry>() {
    on_machine::<G>(|machine| {
        let mut cpu = online(machine, 0);
        let whole: Node<Whole<G>> = node(machine, G::ROOT);
        cpu.activate(&whole).expect("the node is a root");
        drop(whole);
        let user: Node<User<G>> = node(machine, G::ROOT);
        cpu.activate(&user).expect("the node is a root");
        drop(user);
        assert_eq!(live(machine), 1, "a root is given up as one of its own kind");
    });
}
