//! Processors that stand on the roots that they load, as a machine's do: only a root that shares
//! what they stand on is loaded.

use weft_backend_baremetal::backend;
use weft_backend_baremetal::hosted::{self, Loaded, on_cpu};
use weft_core::address::CpuId;
use weft_core::cpu::Cpu;
use weft_core::error::ActivateError;
use weft_core::format::RiscV;
use weft_core::geometry::Geometry;
use weft_core::node::Node;
use weft_core::permanent::Permanent;
use weft_core::space::AddressSpace;

use crate::support::processors::Standing;
use crate::support::{
    AllKinds, KernelOn, LowerKernelOn, SPACE_FRAMES, UpperUserOn, UserOn, WholeOn, carry,
    dismantle, node, space,
};

on_every_geometry!(
    a_root_that_shares_nothing_is_not_loaded,
    a_root_that_shares_a_table_that_carries_nothing_is_not_loaded,
    a_root_that_shares_what_cpus_stand_on_is_loaded,
    a_root_from_before_is_not_loaded,
    a_frame_that_carried_carries_no_more,
    a_root_in_another_format_is_not_loaded,
);

type Machine<G> = backend::Machine<G, AllKinds, Standing<G>>;
type User<G> = UserOn<Machine<G>>;
type Kernel<G> = KernelOn<Machine<G>>;

/// Runs `body` on a new machine, as CPU 0.
fn on_standing<G: Geometry>(body: impl FnOnce(&Machine<G>, &mut Cpu<Machine<G>>)) {
    let processors = Standing::default();
    let machine = hosted::start_with::<G, AllKinds, _>(1024, processors).expect("a few megabytes");
    let id = CpuId::new(0);
    on_cpu(id, || {
        let mut cpu = Cpu::online(&machine, id).expect("the CPU is offline");
        body(&machine, &mut cpu);
    });
    assert_eq!(machine.region().live(), 0, "frames are still in use when everything is dropped");
}

fn loaded<G: Geometry>(machine: &Machine<G>) -> Loaded {
    machine.processors().threads.loaded(CpuId::new(0))
}

fn kernel<G: Geometry>(machine: &Machine<G>, cpu: &Cpu<Machine<G>>) -> Permanent<Kernel<G>> {
    let root: Node<Kernel<G>> = node(machine, G::ROOT);
    Permanent::new(root, &cpu.read_side()).expect("frames enough")
}

fn sharing<G: Geometry>(kernel: &Permanent<Kernel<G>>) -> AddressSpace<User<G>> {
    AddressSpace::sharing(kernel).expect("frames enough")
}

/// Checks that a CPU refuses a root, runs on what it ran on, and keeps no reference.
#[track_caller]
fn assert_refused<G: Geometry, C>(
    machine: &Machine<G>,
    cpu: &mut Cpu<Machine<G>>,
    root: AddressSpace<C>,
) where
    C: weft_core::config::Config<Backend = Machine<G>>,
{
    let before = (cpu.active(), loaded(machine), machine.region().live());
    let expected = Err(ActivateError::CarriesNothing { root: root.paddr() });
    assert_eq!(cpu.activate(&root), expected, "a CPU leaves what it stands on");
    assert_eq!((cpu.active(), loaded(machine), machine.region().live()), before);
    drop(root);
    assert_eq!(machine.region().live(), before.2 - SPACE_FRAMES, "a refused root is kept");
}

fn a_root_that_shares_nothing_is_not_loaded<G: Geometry>() {
    on_standing::<G>(|machine, cpu| {
        assert_refused(machine, cpu, space::<WholeOn<Machine<G>>>(machine));
        assert_refused(machine, cpu, space::<User<G>>(machine));
        assert_eq!(loaded(machine), Loaded::default(), "nothing was ever loaded");
    });
}

fn a_root_that_shares_a_table_that_carries_nothing_is_not_loaded<G: Geometry>() {
    on_standing::<G>(|machine, cpu| {
        let kernel = kernel(machine, cpu);
        assert_refused(machine, cpu, sharing(&kernel));
        dismantle(kernel);
    });
}

fn a_root_that_shares_what_cpus_stand_on_is_loaded<G: Geometry>() {
    on_standing::<G>(|machine, cpu| {
        let kernel = kernel(machine, cpu);
        let kernel = carry(kernel);
        let users = [(); 2].map(|()| sharing(&kernel));
        for (times, user) in (1..).zip(&users) {
            assert_eq!(cpu.activate(user), Ok(()), "a root that carries the CPU is refused");
            let expected = Loaded { root: Some(user.paddr()), times };
            assert_eq!((cpu.active(), loaded(machine)), (Some(user.paddr()), expected));
        }
        // One that shares nothing does not take the place of one that does.
        assert_refused(machine, cpu, space::<User<G>>(machine));
        assert_eq!(cpu.active(), Some(users[1].paddr()));
        cpu.deactivate();
        drop(users);
        dismantle(kernel);

        // The halves exchanged.
        let root: Node<LowerKernelOn<Machine<G>>> = node(machine, G::ROOT);
        let kernel = Permanent::new(root, &cpu.read_side()).expect("frames enough");
        let kernel = carry(kernel);
        let user = AddressSpace::<UpperUserOn<_>>::sharing(&kernel).expect("frames enough");
        assert_eq!(cpu.activate(&user), Ok(()), "a root that carries the CPU is refused");
        cpu.deactivate();
        drop(user);
        dismantle(kernel);
    });
}

/// It shares the entries as they were; the root's bit is set when it shares them.
fn a_root_from_before_is_not_loaded<G: Geometry>() {
    on_standing::<G>(|machine, cpu| {
        let kernel = kernel(machine, cpu);
        let before = sharing(&kernel);
        let kernel = carry(kernel);
        assert_refused(machine, cpu, before);
        let after = sharing(&kernel);
        assert_eq!(cpu.activate(&after), Ok(()), "a root that carries the CPU is refused");
        cpu.deactivate();
        drop(after);
        dismantle(kernel);
    });
}

fn a_frame_that_carried_carries_no_more<G: Geometry>() {
    on_standing::<G>(|machine, cpu| {
        let kernel = kernel(machine, cpu);
        let kernel = carry(kernel);
        let user = sharing(&kernel);
        let place = user.paddr();
        drop(user);
        let alone: AddressSpace<User<G>> = space(machine);
        assert_eq!(alone.paddr(), place, "a frame that was freed is given out again");
        assert_refused(machine, cpu, alone);
        dismantle(kernel);
    });
}

fn a_root_in_another_format_is_not_loaded<G: Geometry>() {
    on_standing::<G>(|machine, cpu| {
        let other: AddressSpace<WholeOn<Machine<G>, RiscV>> = space(machine);
        let expected = Err(ActivateError::OtherFormat { root: other.paddr() });
        assert_eq!(cpu.activate(&other), expected);
        assert_eq!((cpu.active(), loaded(machine)), (None, Loaded::default()));
    });
}
