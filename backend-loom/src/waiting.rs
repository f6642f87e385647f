//! Which CPUs wait, and whether any is left to wake them.
//!
//! Used by the engines that run all CPUs on one thread of the host. Every wait of a model goes
//! through this table, so a deadlock is seen the moment the last running CPU waits or ends, and is
//! reported with the source location of every wait, before the checker would notice.

use std::cell::RefCell;
use std::panic::Location;
use weft_scenarios::detector::DEADLOCK;

#[derive(Clone, Copy)]
enum State {
    /// Not started, or ended.
    Absent,
    Running,
    Waiting(&'static Location<'static>),
}

thread_local! {
    static STATES: RefCell<Vec<State>> = const { RefCell::new(Vec::new()) };
}

/// A new execution of `cpus` CPUs: only the last one, which does the set-up, runs.
pub(crate) fn reset(cpus: usize) {
    STATES.with_borrow_mut(|states| {
        states.clear();
        states.resize(cpus, State::Absent);
        states[cpus - 1] = State::Running;
    });
}

/// The set-up is over: every CPU runs.
pub(crate) fn start_all() {
    STATES.with_borrow_mut(|states| states.fill(State::Running));
}

/// `cpu` is about to wait. An error is the description of a deadlock.
pub(crate) fn wait(cpu: usize, location: &'static Location<'static>) -> Result<(), String> {
    set(cpu, State::Waiting(location));
    check()
}

/// `cpu` need not wait any longer.
pub(crate) fn wake(cpu: usize) {
    set(cpu, State::Running);
}

/// `cpu` has ended. An error is the description of a deadlock among the others.
pub(crate) fn end(cpu: usize) -> Result<(), String> {
    set(cpu, State::Absent);
    check()
}

/// Whether `cpu` waits.
pub(crate) fn waits(cpu: usize) -> bool {
    STATES.with_borrow(|states| matches!(states.get(cpu), Some(State::Waiting(_))))
}

fn set(cpu: usize, state: State) {
    STATES.with_borrow_mut(|states| states[cpu] = state);
}

fn check() -> Result<(), String> {
    STATES.with_borrow(|states| {
        if states.iter().any(|state| matches!(state, State::Running)) {
            return Ok(());
        }
        let waits: Vec<String> = states
            .iter()
            .enumerate()
            .filter_map(|(cpu, state)| match state {
                State::Waiting(location) => Some(format!("CPU {cpu} waits at {location}")),
                State::Absent | State::Running => None,
            })
            .collect();
        if waits.is_empty() { Ok(()) } else { Err(format!("{DEADLOCK}{}", waits.join("; "))) }
    })
}
