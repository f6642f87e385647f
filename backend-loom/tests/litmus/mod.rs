//! Litmus programs, written once over the engine trait.
//!
//! Each function runs one program under one engine and returns what the engine said and the set
//! of outcomes that executions ended with. The test binaries, one per checker, say which outcomes
//! they expect under their memory model.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{self, Acquire, Relaxed, Release, SeqCst};
use std::sync::{Arc, Mutex};

use weft_backend_loom::engine::{
    Access, Body, Engine, EnginePlain, EngineWord, Execution, Exploration, FailureKind, Program,
    Search, Verdict,
};

/// What the CPUs of a litmus program share.
pub(crate) struct State<E: Engine> {
    pub(crate) words: Vec<E::Word>,
    pub(crate) plain: E::Plain,
    /// What the outcome consists of. Ghost state: no engine sees it, and each is written by one
    /// CPU only.
    pub(crate) registers: Vec<AtomicU64>,
}

impl<E: Engine> State<E> {
    pub(crate) fn note(&self, register: usize, value: u64) {
        self.registers[register].store(value, Relaxed);
    }
}

/// What one CPU does.
pub(crate) type Role<E> = Arc<dyn Fn(&State<E>) + Send + Sync>;

/// A set of outcomes: the registers at the end of an execution.
pub(crate) type Outcomes = BTreeSet<Vec<u64>>;

pub(crate) fn role<E: Engine>(role: impl Fn(&State<E>) + Send + Sync + 'static) -> Role<E> {
    Arc::new(role)
}

/// Runs a program with so many words, all zero, and registers.
pub(crate) fn run<E: Engine>(
    search: &Search,
    words: &'static [Access],
    registers: usize,
    roles: Vec<Role<E>>,
) -> (Exploration, Outcomes) {
    let outcomes = Arc::new(Mutex::new(Outcomes::new()));
    let collected = Arc::clone(&outcomes);
    let program: Program = Arc::new(move || {
        let state = Arc::new(State::<E> {
            words: words.iter().map(|access| E::Word::new(0, *access)).collect(),
            plain: E::Plain::new(0),
            registers: (0..registers).map(|_| AtomicU64::new(0)).collect(),
        });
        let cpus = roles
            .iter()
            .map(|role| {
                let (role, state) = (Arc::clone(role), Arc::clone(&state));
                Box::new(move || role(&state)) as Body
            })
            .collect();
        let collected = Arc::clone(&collected);
        let finish = Box::new(move || {
            let outcome = state.registers.iter().map(|register| register.load(Relaxed)).collect();
            collected.lock().expect("no test panics here").insert(outcome);
        });
        Execution { cpus, finish }
    });
    let exploration = E::explore(search, program);
    let outcomes = outcomes.lock().expect("no test panics here").clone();
    (exploration, outcomes)
}

/// A set of outcomes from its members.
pub(crate) fn set<const N: usize>(outcomes: &[[u64; N]]) -> Outcomes {
    outcomes.iter().map(|outcome| outcome.to_vec()).collect()
}

/// Expects a search that did not fail.
pub(crate) fn good(exploration: &Exploration) {
    assert_eq!(exploration.failure, None, "{exploration:?}");
}

/// Expects a failure of this kind whose message contains `part`.
pub(crate) fn failed(exploration: &Exploration, kind: FailureKind, part: &str) {
    assert_eq!(exploration.verdict, Verdict::Failed, "{exploration:?}");
    let failure = exploration.failure.as_ref().expect("a failed search has a failure");
    assert_eq!(failure.kind, kind, "{failure:?}");
    assert!(failure.message.contains(part), "{part:?} is not in {failure:?}");
}

const LOADED: &[Access] = &[Access::Loaded, Access::Loaded];

/// Message passing: outcome (flag, data) of the reader.
pub(crate) fn message_passing<E: Engine>(
    search: &Search,
    write: Ordering,
    read: Ordering,
) -> (Exploration, Outcomes) {
    let writer = role::<E>(move |state| {
        state.words[0].store(1, Relaxed);
        state.words[1].store(1, write);
    });
    let reader = role::<E>(move |state| {
        state.note(0, state.words[1].load(read));
        state.note(1, state.words[0].load(Relaxed));
    });
    run(search, LOADED, 2, vec![writer, reader])
}

/// Message passing through fences: outcome (flag, data) of the reader.
pub(crate) fn message_passing_with_fences<E: Engine>(search: &Search) -> (Exploration, Outcomes) {
    let writer = role::<E>(|state| {
        state.words[0].store(1, Relaxed);
        E::fence(Release);
        state.words[1].store(1, Relaxed);
    });
    let reader = role::<E>(|state| {
        state.note(0, state.words[1].load(Relaxed));
        E::fence(Acquire);
        state.note(1, state.words[0].load(Relaxed));
    });
    run(search, LOADED, 2, vec![writer, reader])
}

/// Store buffering with a fence on each side: outcome, what each CPU read.
pub(crate) fn store_buffering<E: Engine>(
    search: &Search,
    fences: [Ordering; 2],
) -> (Exploration, Outcomes) {
    let roles = [0, 1].map(|cpu| {
        role::<E>(move |state| {
            state.words[cpu].store(1, Relaxed);
            E::fence(fences[cpu]);
            state.note(cpu, state.words[1 - cpu].load(Relaxed));
        })
    });
    run(search, LOADED, 2, roles.to_vec())
}

/// Two reads of one word: they may not go back.
pub(crate) fn read_read_coherence<E: Engine>(search: &Search) -> (Exploration, Outcomes) {
    let writer = role::<E>(|state| state.words[0].store(1, Relaxed));
    let reader = role::<E>(|state| {
        state.note(0, state.words[0].load(Relaxed));
        state.note(1, state.words[0].load(Relaxed));
    });
    run(search, LOADED, 2, vec![writer, reader])
}

/// Causality over three CPUs: outcome (what CPU 1 read, then flag and data of CPU 2).
pub(crate) fn causality_over_three_cpus<E: Engine>(search: &Search) -> (Exploration, Outcomes) {
    let first = role::<E>(|state| state.words[0].store(1, Relaxed));
    let second = role::<E>(|state| {
        state.note(0, state.words[0].load(Acquire));
        state.words[1].store(1, Release);
    });
    let third = role::<E>(|state| {
        state.note(1, state.words[1].load(Acquire));
        state.note(2, state.words[0].load(Relaxed));
    });
    run(search, LOADED, 3, vec![first, second, third])
}

/// A plain cell handed over by a flag.
pub(crate) fn plain_message_passing<E: Engine>(
    search: &Search,
    write: Ordering,
    read: Ordering,
) -> (Exploration, Outcomes) {
    let writer = role::<E>(move |state| {
        state.plain.set(1);
        state.words[0].store(1, write);
    });
    let reader = role::<E>(move |state| {
        if state.words[0].load(read) == 1 {
            state.note(0, 1 + state.plain.get());
        }
    });
    run(search, LOADED, 1, vec![writer, reader])
}

/// A plain cell handed over by relaxed accesses between fences.
pub(crate) fn plain_message_passing_with_fences<E: Engine>(
    search: &Search,
    write: Ordering,
    read: Ordering,
) -> (Exploration, Outcomes) {
    let writer = role::<E>(move |state| {
        state.plain.set(1);
        E::fence(write);
        state.words[0].store(1, Relaxed);
    });
    let reader = role::<E>(move |state| {
        if state.words[0].load(Relaxed) == 1 {
            E::fence(read);
            state.note(0, 1 + state.plain.get());
        }
    });
    run(search, LOADED, 1, vec![writer, reader])
}

/// As message passing with fences, but the plain write comes behind the fence that is to carry it.
pub(crate) fn plain_write_behind_its_fence<E: Engine>(search: &Search) -> (Exploration, Outcomes) {
    let writer = role::<E>(move |state| {
        E::fence(Release);
        state.plain.set(1);
        state.words[0].store(1, Relaxed);
    });
    let reader = role::<E>(move |state| {
        if state.words[0].load(Acquire) == 1 {
            state.note(0, 1 + state.plain.get());
        }
    });
    run(search, LOADED, 1, vec![writer, reader])
}

fn lock<W: EngineWord>(word: &W, order: Ordering) {
    while word.compare_exchange(0, 1, order, Relaxed).is_err() {
        word.wait_for_change();
    }
}

/// Every CPU adds one to a plain cell under a lock. Outcome: how often somebody had to wait does
/// not matter, what each CPU found does.
pub(crate) fn counting_under_a_lock<E: Engine>(
    search: &Search,
    acquire: Ordering,
    release: Ordering,
) -> (Exploration, Outcomes) {
    let roles = (0..search.cpus).map(|cpu| {
        role::<E>(move |state| {
            lock(&state.words[0], acquire);
            let found = state.plain.get();
            state.plain.set(found + 1);
            state.note(cpu, found);
            state.words[0].store(0, release);
        })
    });
    run(search, &[Access::UpdatedOnly], search.cpus, roles.collect())
}

/// Every CPU but the last waits for a flag that the last one raises after filling a plain cell.
/// The waiters load, so an engine with old values must not leave one of them waiting for ever.
pub(crate) fn waiting_for_a_flag<E: Engine>(search: &Search) -> (Exploration, Outcomes) {
    let last = search.cpus - 1;
    let roles = (0..search.cpus).map(|cpu| {
        role::<E>(move |state| {
            if cpu == last {
                state.plain.set(7);
                state.words[0].store(1, Release);
            } else {
                while state.words[0].load(Acquire) == 0 {
                    state.words[0].wait_for_change();
                }
                state.note(cpu, state.plain.get());
            }
        })
    });
    run(search, LOADED, last, roles.collect())
}

/// Two CPUs take two locks in opposite orders.
pub(crate) fn opposite_lock_orders<E: Engine>(search: &Search) -> (Exploration, Outcomes) {
    let roles = [0, 1].map(|cpu: usize| {
        role::<E>(move |state| {
            lock(&state.words[cpu], Acquire);
            lock(&state.words[1 - cpu], Acquire);
            state.words[1 - cpu].store(0, Release);
            state.words[cpu].store(0, Release);
        })
    });
    run(search, &[Access::UpdatedOnly, Access::UpdatedOnly], 0, roles.to_vec())
}

/// A CPU ends without unlocking, and the other one waits for it.
pub(crate) fn forgotten_unlock<E: Engine>(search: &Search) -> (Exploration, Outcomes) {
    let roles = [0, 1].map(|_| role::<E>(|state| lock(&state.words[0], Acquire)));
    run(search, &[Access::UpdatedOnly], 0, roles.to_vec())
}

/// The reader fails whenever it sees the flag: a message and a place to look for.
pub(crate) fn seeing_the_flag_fails<E: Engine>(search: &Search) -> (Exploration, Outcomes) {
    let writer = role::<E>(|state| state.words[0].store(1, Relaxed));
    let reader = role::<E>(|state| {
        let flag = state.words[0].load(Relaxed);
        assert_eq!(flag, 0, "the flag was seen");
    });
    run(search, LOADED, 0, vec![writer, reader])
}

/// Asserts that a failure tells its place, and a token that leads to the same failure. Gives the
/// search that failed and the one that was led by its token.
#[track_caller]
pub(crate) fn a_failure_replays<E: Engine>(search: &Search) -> [Exploration; 2] {
    let (exploration, _) = seeing_the_flag_fails::<E>(search);
    failed(&exploration, FailureKind::Violation, "the flag was seen");
    let failure = exploration.failure.as_ref().expect("it failed");
    assert_eq!(failure.cpu, Some(1));
    assert!(failure.location.as_ref().is_some_and(|place| place.contains("litmus/mod.rs")));
    let replay = Search { replay: failure.token.clone(), ..search.clone() };
    let (again, _) = seeing_the_flag_fails::<E>(&replay);
    assert_eq!(again.failure, exploration.failure);
    [exploration, again]
}

/// A CPU that never waits and never ends.
pub(crate) fn endless_loop<E: Engine>(search: &Search) -> (Exploration, Outcomes) {
    let idle = role::<E>(|state| while state.words[0].swap(1, Relaxed) < 2 {});
    run(search, LOADED, 0, vec![idle])
}

/// A word is used in a way that its declaration forbids, or with a refused ordering.
pub(crate) fn misuse<E: Engine>(search: &Search, order: Ordering) -> (Exploration, Outcomes) {
    let only = role::<E>(move |state| {
        state.words[0].load(order);
    });
    let words = if order == SeqCst { LOADED } else { &[Access::UpdatedOnly] };
    run(search, words, 0, vec![only])
}

/// The number of the calling CPU in the set-up, in every role, and in the finish.
pub(crate) fn numbers_of_cpus<E: Engine>(search: &Search) -> Exploration {
    let last = search.cpus - 1;
    let program: Program = Arc::new(move || {
        assert_eq!(E::cpu(), last, "the set-up runs as the last CPU");
        let cpus = (0..=last)
            .map(|cpu| Box::new(move || assert_eq!(E::cpu(), cpu, "a CPU has its number")) as Body)
            .collect();
        let finish = Box::new(move || assert_eq!(E::cpu(), last, "the finish runs as the last"));
        Execution { cpus, finish }
    });
    E::explore(search, program)
}
