//! Configurations are told apart by their place in the backend's list. They do not choose it, so
//! two of them cannot choose the same; and one that is not in the list is refused.

use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};

use weft_backend_baremetal::backend::Tables;
use weft_backend_baremetal::hosted::{self, HostedMachine, on_cpu};
use weft_core::address::CpuId;
use weft_core::audit::Found;
use weft_core::config::Config;
use weft_core::format::{RiscV, RiscVSvade, RiscVSvvptc, X86_64};
use weft_core::geometry::Geometry;
use weft_core::item::MappedItem;
use weft_core::node::Node;
use weft_core::space::AddressSpace;
use weft_core::sync::Backend;

use crate::support::interrupted::Interrupted;
use crate::support::{
    KernelOn, LowerKernelOn, Machine, UpperUserOn, UserOn, WholeOn, live, node, on_machine, online,
    space,
};

on_every_geometry!(
    a_node_is_one_of_its_own_configuration_only,
    configurations_that_say_the_same_are_told_apart,
    a_configuration_that_is_not_listed_is_refused_by_name,
);

/// A configuration that says all that [`WholeOn`] does.
#[derive(Debug)]
struct Twin<B>(PhantomData<B>);

impl<B: Backend> Config for Twin<B> {
    type Backend = B;
    type Item = MappedItem<B>;
    type Format = X86_64;
}

/// The tables of a machine with both.
#[derive(Debug)]
struct Twins;

impl Tables for Twins {
    type On<B: Backend> = (WholeOn<B>, Twin<B>);
}

/// Whether a frame is found to be a node of some configuration.
type Question<B> = fn(&Found<'_, B>) -> bool;

fn is_of<C: Config>(found: &Found<'_, C::Backend>) -> bool {
    found.node::<C>().is_some()
}

/// Checks that a root of `C` is what question number `own` asks for, and nothing else.
fn assert_of<C: Config>(backend: &C::Backend, questions: &[Question<C::Backend>], own: usize) {
    let root: Node<C> = node(backend, <C::Backend as Backend>::Geometry::ROOT);
    // SAFETY: (1) the node was allocated in the line above, and is not freed as long as its handle
    // is there; (2) nothing else is done with it meanwhile.
    let found = unsafe { Found::new(backend, root.paddr()) };
    let answers: Vec<bool> = questions.iter().map(|is_it| is_it(&found)).collect();
    let expected: Vec<bool> = (0..questions.len()).map(|at| at == own).collect();
    assert_eq!(answers, expected, "a node is taken for one of another table");
    assert_eq!(found.audit(), Ok(1));
}

fn a_node_is_one_of_its_own_configuration_only<G: Geometry>() {
    on_machine::<G>(|machine| {
        let questions: [Question<Machine<G>>; 9] = [
            is_of::<WholeOn<_>>,
            is_of::<WholeOn<_, Interrupted>>,
            is_of::<WholeOn<_, RiscV>>,
            is_of::<WholeOn<_, RiscVSvade>>,
            is_of::<UserOn<_>>,
            is_of::<KernelOn<_>>,
            is_of::<UpperUserOn<_>>,
            is_of::<LowerKernelOn<_>>,
            is_of::<WholeOn<_, RiscVSvvptc>>,
        ];
        assert_of::<WholeOn<_>>(machine, &questions, 0);
        assert_of::<WholeOn<_, Interrupted>>(machine, &questions, 1);
        assert_of::<WholeOn<_, RiscV>>(machine, &questions, 2);
        assert_of::<WholeOn<_, RiscVSvade>>(machine, &questions, 3);
        assert_of::<UserOn<_>>(machine, &questions, 4);
        assert_of::<KernelOn<_>>(machine, &questions, 5);
        assert_of::<UpperUserOn<_>>(machine, &questions, 6);
        assert_of::<LowerKernelOn<_>>(machine, &questions, 7);
        assert_of::<WholeOn<_, RiscVSvvptc>>(machine, &questions, 8);
    });
}

fn configurations_that_say_the_same_are_told_apart<G: Geometry>() {
    let machine: HostedMachine<G, Twins> = hosted::start(64).expect("a few kilobytes");
    let questions: [Question<HostedMachine<G, Twins>>; 2] = [is_of::<WholeOn<_>>, is_of::<Twin<_>>];
    on_cpu(CpuId::new(0), || {
        assert_of::<WholeOn<_>>(&machine, &questions, 0);
        assert_of::<Twin<_>>(&machine, &questions, 1);
        // Given up without its type being known.
        let mut cpu = online(&machine, 0);
        for _ in 0..2 {
            let root: AddressSpace<Twin<_>> = space(&machine);
            let section = cpu.read_side();
            let mut guard = root.borrow(&section).lock();
            drop(guard.entry(0).expect("in range").allocate_if_absent().expect("enough"));
            drop(guard);
            drop(section);
            cpu.activate(&root).expect("it is a root");
        }
        cpu.deactivate();
    });
    assert_eq!(machine.region().live(), 0, "a node was given up as another table's");
}

fn a_configuration_that_is_not_listed_is_refused_by_name<G: Geometry>() {
    on_machine::<G>(|machine| {
        let allocate = AssertUnwindSafe(|| Node::<Twin<_>>::allocate(machine, G::ROOT).map(drop));
        let refused = catch_unwind(allocate).expect_err("it is in no list");
        let message = refused.downcast::<String>().expect("it says why");
        assert!(message.contains("Twin"), "which one? {message}");
        assert!(message.contains("list it there"), "what is to be done? {message}");
        assert_eq!(live(machine), 0, "a frame is lost");
    });
}
