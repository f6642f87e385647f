//! Handlers that take locks: what no execution of a model shows is a rule.
//!
//! A handler that waits for a lock waits for ever if it has interrupted the lock's holder. In the
//! model another CPU plays the handler, and the holder goes on meanwhile. So the locks that were
//! held with interrupts on are compared with those that handlers took, when an execution ends.

use std::time::Duration;

use weft_backend_loom::chosen::EngineName;
use weft_backend_loom::engine::{FailureKind, Verdict};
use weft_backend_loom::harness::Prepare;
use weft_backend_loom::model::Model;
use weft_backend_loom::report::{Report, Request};
use weft_core::address::CpuId;
use weft_scenarios::Visitor as _;
use weft_scenarios::prelude::*;

/// How the holder of the lock goes about it.
const OPEN: u8 = 0;
const MASKED: u8 = 1;
/// The lock is taken with interrupts masked, and given back when they are on.
const KEPT: u8 = 2;

/// One CPU locks a node. The other one interrupts it, and its handler locks a node: the same, or
/// another.
struct HandlerVsLock<B: World, const HOW: u8, const SAME: bool> {
    nodes: [Node<UserTable<B>>; 2],
}

fn lock_node<B: World>(node: &Node<UserTable<B>>, section: &ReadSide<'_, B>) {
    drop(node.borrow(section).lock());
}

impl<B: World, const HOW: u8, const SAME: bool> Scenario<B> for HandlerVsLock<B, HOW, SAME> {
    type Saw = ();
    const CPUS: Cpus<Self, B> = cpus([
        ("holder", |race, cpu| {
            let section = cpu.read_side();
            let node = &race.nodes[0];
            match HOW {
                OPEN => lock_node(node, &section),
                MASKED => cpu.backend().masked(|_| lock_node(node, &section)),
                _ => drop(cpu.backend().masked(|_| node.borrow(&section).lock())),
            }
        }),
        ("interrupter", |race, cpu| {
            let section = cpu.read_side();
            let node = race.nodes[usize::from(!SAME)].borrow(&section);
            cpu.backend().in_handler_of(CpuId::new(0), &|| drop(node.lock()));
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[acceptable("ends", "no CPU waits for ever")];
    const REACHED: &'static [Situation] = &[];
    const TWINS: Twins = twins([weakened(&sites::LOCK_ACQUIRE, "data race on N")]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        Self { nodes: [machine.node(1), machine.node(1)] }
    }

    fn check(&self, _cpu: &mut Cpu<B>, _saw: &[()]) -> &'static str {
        "ends"
    }
}

fn explore<const HOW: u8, const SAME: bool>() -> Report {
    let request = Request { time: Duration::from_secs(60), ..Request::default() };
    let prepared = Prepare.visit::<HandlerVsLock<Model, HOW, SAME>>("handler_vs_lock");
    prepared.explore(EngineName::Explorer, request, None)
}

/// The rule is broken, and no CPU has waited for ever: not even once.
#[track_caller]
fn is_refused(report: &Report) {
    let failure = report.failure.as_ref().expect("the rule is broken");
    assert_eq!(failure.class, FailureKind::Violation, "{report:?}");
    let rule = "a lock that an interrupt handler takes is held with interrupts on: N1.lock";
    assert_eq!(failure.message, rule);
    assert_eq!(report.executions, 1, "every execution breaks it");
}

#[test]
fn a_lock_that_handlers_take_is_held_with_interrupts_masked() {
    is_refused(&explore::<OPEN, true>());
    let report = explore::<MASKED, true>();
    assert_eq!((report.verdict, report.failure), (Verdict::Exhausted, None));
    assert_eq!(report.executions, 2, "the handler comes before, or behind");
}

#[test]
fn a_lock_is_held_with_interrupts_on_that_was_taken_before_they_were() {
    is_refused(&explore::<KEPT, true>());
}

#[test]
fn other_locks_are_held_with_interrupts_on() {
    let report = explore::<OPEN, false>();
    assert_eq!((report.verdict, report.failure), (Verdict::Exhausted, None));
}
