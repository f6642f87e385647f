//! A CPU owns the root it runs on.

use weft_backend_baremetal::hosted::{Loaded, on_cpu};
use weft_core::address::CpuId;
use weft_core::geometry::Geometry;
use weft_core::space::AddressSpace;

use crate::support::{Machine, SPACE_FRAMES, User, Whole, fill, live, on_machine, online, space};

on_every_geometry!(
    the_first_activation_gives_nothing_back,
    switching_gives_the_previous_root_back,
    activating_the_active_root_does_nothing,
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
        let root: AddressSpace<Whole<G>> = space(machine);
        assert_eq!((cpu.active(), loaded(machine, 0)), (None, Loaded::default()));
        cpu.activate(&root).expect("the table is activated");
        assert_eq!(cpu.active(), Some(root.paddr()));
        assert_eq!(loaded(machine, 0), Loaded { root: Some(root.paddr()), times: 1 });
        assert_eq!(live(machine), SPACE_FRAMES);
    });
}

fn switching_gives_the_previous_root_back<G: Geometry>() {
    on_machine::<G>(|machine| {
        let mut cpu = online(machine, 0);
        let first: AddressSpace<Whole<G>> = space(machine);
        let frames = SPACE_FRAMES + {
            let section = cpu.read_side();
            let mut guard = first.borrow(&section).lock();
            fill(machine, &mut guard, 0)
        };
        cpu.activate(&first).expect("the table is activated");
        drop(first);
        assert_eq!(live(machine), frames, "an active root is kept when its last handle is dropped");

        let second: AddressSpace<Whole<G>> = space(machine);
        cpu.activate(&second).expect("the table is activated");
        assert_eq!(
            live(machine),
            SPACE_FRAMES,
            "the root switched away from is dropped with all below it"
        );
        assert_eq!(loaded(machine, 0), Loaded { root: Some(second.paddr()), times: 2 });
    });
}

fn activating_the_active_root_does_nothing<G: Geometry>() {
    on_machine::<G>(|machine| {
        let mut cpu = online(machine, 0);
        let root: AddressSpace<Whole<G>> = space(machine);
        for _ in 0..3 {
            cpu.activate(&root).expect("the table is activated");
            assert_eq!(loaded(machine, 0).times, 1, "the root is loaded once");
        }
        drop(root);
        assert_eq!(live(machine), SPACE_FRAMES, "the CPU has one reference");
        cpu.deactivate();
        assert_eq!(live(machine), 0, "and not one for each activation");
    });
}

fn each_cpu_owns_its_root<G: Geometry>() {
    on_machine::<G>(|machine| {
        let mut cpus = [0, 1].map(|cpu| online(machine, cpu));
        let root: AddressSpace<Whole<G>> = space(machine);
        let frame = root.paddr();
        for cpu in &mut cpus {
            on_cpu(cpu.id(), || cpu.activate(&root).expect("the table is activated"));
        }
        drop(root);
        let [first, second] = &mut cpus;
        on_cpu(first.id(), || first.deactivate());
        assert_eq!(live(machine), SPACE_FRAMES, "the other CPU still runs on it");
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
        let root: AddressSpace<Whole<G>> = space(machine);
        cpu.activate(&root).expect("the table is activated");
        drop(root);
        drop(cpu);
        assert_eq!(live(machine), 0, "a CPU that goes offline gives its root back");
        assert_eq!(loaded(machine, 0), Loaded { root: None, times: 2 });
    });
}

fn tables_of_several_kinds_take_turns<G: Geometry>() {
    on_machine::<G>(|machine| {
        let mut cpu = online(machine, 0);
        let whole: AddressSpace<Whole<G>> = space(machine);
        cpu.activate(&whole).expect("the table is activated");
        drop(whole);
        let user: AddressSpace<User<G>> = space(machine);
        cpu.activate(&user).expect("the table is activated");
        drop(user);
        assert_eq!(live(machine), SPACE_FRAMES, "a root is given up as one of its own kind");
    });
}
