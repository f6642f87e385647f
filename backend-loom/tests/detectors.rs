//! Detectors that no scenario and no mutant makes speak: each is seen to fire, with its words.

use std::time::Duration;

use weft_backend_loom::chosen::EngineName;
use weft_backend_loom::engine::FailureKind;
use weft_backend_loom::harness::Prepare;
use weft_backend_loom::model::Model;
use weft_backend_loom::report::Request;
use weft_core::address::FRAME_SIZE;
use weft_core::sync::Count as _;
use weft_scenarios::Visitor;
use weft_scenarios::prelude::*;

/// What a role, or the check, does that it must not.
const USES_NO_FRAME: u8 = 0;
const ADDS_TO_NONE: u8 = 1;
const GIVES_UP_TWICE: u8 = 2;
const MEETS_WHAT_IS_NOT_LISTED: u8 = 3;
const ENDS_AS_IS_NOT_LISTED: u8 = 4;
const MEETS_IN_THE_CHECK: u8 = 5;

const MET: Situation = situation("it is met");

struct BreakerVsBystander<const HOW: u8>;

impl<B: World, const HOW: u8> Scenario<B> for BreakerVsBystander<HOW> {
    type Saw = ();
    const CPUS: Cpus<Self, B> = cpus([
        ("breaker", |_, cpu| match HOW {
            USES_NO_FRAME => {
                let nowhere = Paddr::new(1_000 * FRAME_SIZE);
                cpu.backend().read_contents(nowhere);
            }
            ADDS_TO_NONE => {
                let count = B::Count::new("references", 0);
                count.fetch_add(1, &sites::REFERENCE_INCREMENT);
            }
            GIVES_UP_TWICE => {
                let count = B::Count::new("references", 1);
                count.fetch_sub(1, &sites::REFERENCE_DECREMENT);
                count.fetch_sub(1, &sites::REFERENCE_DECREMENT);
            }
            MEETS_WHAT_IS_NOT_LISTED => cpu.reached(situation("it is another")),
            _ => {}
        }),
        ("bystander", |_, _| {}),
    ]);
    const OUTCOMES: &'static [Outcome] = &[acceptable("ends", "nothing was broken")];
    const REACHED: &'static [Situation] = &[MET];
    const TWINS: Twins = twins([weakened(&sites::LOCK_ACQUIRE, "data race on N")]);

    fn set_up(_machine: &mut Machine<B>) -> Self {
        Self
    }

    fn check(&self, cpu: &mut Cpu<B>, _saw: &[()]) -> &'static str {
        if HOW == MEETS_IN_THE_CHECK {
            cpu.reached(MET);
        }
        if HOW == ENDS_AS_IS_NOT_LISTED { "otherwise" } else { "ends" }
    }
}

#[track_caller]
fn says<const HOW: u8>(message: &str) {
    let request = Request { time: Duration::from_secs(60), ..Request::default() };
    let prepared =
        Visitor::<Model>::visit::<BreakerVsBystander<HOW>>(Prepare, "breaker_vs_bystander");
    let report = prepared.explore(EngineName::Explorer, request, None);
    let failure = report.failure.expect("something is broken");
    assert_eq!(failure.class, FailureKind::Violation);
    assert!(failure.message.contains(message), "{}", failure.message);
}

#[test]
fn an_address_that_no_frame_has_is_not_used() {
    says::<USES_NO_FRAME>("is used as a frame, and is none");
}

#[test]
fn references_are_of_owners() {
    says::<ADDS_TO_NONE>("references: a reference is added to a frame without any");
    says::<GIVES_UP_TWICE>("references: a reference is given up twice");
}

#[test]
fn a_scenario_lists_what_it_names() {
    says::<MEETS_WHAT_IS_NOT_LISTED>("the situation \"it is another\" is not listed in REACHED");
    says::<ENDS_AS_IS_NOT_LISTED>("the outcome \"otherwise\" is not listed");
}

#[test]
fn situations_are_met_by_roles() {
    says::<MEETS_IN_THE_CHECK>("a situation is met by a CPU of the race");
}
