//! A role that a caller wrote wrongly, in place of the right one: what lists of mistakes refuse,
//! and that the wrong version is what is explored, and nothing else of it.

use std::time::Duration;

use weft_backend_loom::chosen::EngineName;
use weft_backend_loom::engine::Verdict;
use weft_backend_loom::harness::Prepare;
use weft_backend_loom::model::Model;
use weft_backend_loom::report::Request;
use weft_scenarios::mistake::{Mistake, roles};
use weft_scenarios::prelude::*;
use weft_scenarios::sabotage::Sabotage;
use weft_scenarios::scenario::Visitor;

/// Two CPUs, of which none does anything: what a role returns is who has played it.
struct WriterVsReader;

const RIGHT: (u8, u8) = (0, 1);

const fn plays<S: Scenario<B, Saw = u8>, B: World>(name: &'static str) -> Mistake<S, B> {
    mistake(name, 1, "says another number", |_, _| 9, "another number")
}

impl<B: World> Scenario<B> for WriterVsReader {
    type Saw = u8;
    const CPUS: Cpus<Self, B> = cpus([("writer", |_, _| RIGHT.0), ("reader", |_, _| RIGHT.1)]);
    const OUTCOMES: &'static [Outcome] =
        &[acceptable("right", "both are"), forbidden("wrong", "a role said another number")];
    const REACHED: &'static [Situation] = &[];
    const TWINS: Twins = twins([weakened(&sites::LOCK_ACQUIRE, "data race on N")]);
    const MISTAKES: Mistakes<Self, B> = mistakes([plays("says-nine"), plays("says-nine-again")]);

    fn set_up(_machine: &mut Machine<B>) -> Self {
        Self
    }

    fn check(&self, _cpu: &mut Cpu<B>, saw: &[u8]) -> &'static str {
        if saw == [RIGHT.0, RIGHT.1] { "right" } else { "wrong" }
    }
}

type Made = Mistakes<WriterVsReader, Model>;

#[test]
fn a_mistake_is_a_twin_that_its_message_catches() {
    let prepared = Visitor::<Model>::visit::<WriterVsReader>(Prepare, "writer_vs_reader");
    let (sabotage, message) = prepared.plan.twins[1];
    assert_eq!((sabotage.to_string().as_str(), message), ("mistake-says-nine", "another number"));
    let described = prepared.plan.described(sabotage);
    assert_eq!(described, "mistake-says-nine: the reader says another number");
    let request =
        Request { sabotage: Some(sabotage), time: Duration::from_secs(60), ..Request::default() };
    let report = prepared.explore(EngineName::Explorer, request, None);
    assert_eq!(report.verdict, Verdict::Failed);
    assert!(report.is_caught_with(message), "{:?}", report.failure);
}

#[test]
fn the_other_roles_stay_as_they_are() {
    let names =
        |world| roles::<WriterVsReader, Model>(world).iter().map(|(name, _)| name).collect();
    let right: Vec<&str> = names(None);
    assert_eq!(right, names(Some(Sabotage::Mistake("says-nine"))));
    assert_eq!(right, names(Some(Sabotage::FreedAtOnce)));
}

#[test]
#[should_panic(expected = "the scenario has no mistake-says-ten")]
fn a_mistake_that_there_is_not() {
    let _ = roles::<WriterVsReader, Model>(Some(Sabotage::Mistake("says-ten")));
}

#[test]
#[should_panic(expected = "a mistake is of a role that the scenario has not")]
fn a_mistake_of_a_cpu_that_there_is_not() {
    let _: Made = mistakes([mistake("x", 2, "says it", |_, _| 0, "message")]);
}

#[test]
#[should_panic(expected = "two mistakes have one name")]
fn two_mistakes_of_one_name() {
    let _: Made = mistakes([plays("x"), plays("y"), plays("x")]);
}

#[test]
#[should_panic(expected = "would be caught by any failure")]
fn a_mistake_without_a_message() {
    let _: Made = mistakes([mistake("x", 1, "says it", |_, _| 0, "")]);
}

#[test]
#[should_panic(expected = "say what the role does differently")]
fn a_mistake_that_says_nothing() {
    let _: Made = mistakes([mistake("x", 1, "", |_, _| 0, "message")]);
}

#[test]
fn names_that_no_command_line_would_take() {
    for name in ["", "-", "Frees", "frees first", "frees--first", "frees-", "frees_first"] {
        let made = std::panic::catch_unwind(|| plays::<WriterVsReader, Model>(name));
        assert!(made.is_err(), "{name:?}");
    }
}
