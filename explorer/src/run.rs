//! Running the program once over the current graph.

use std::mem::ManuallyDrop;

use crate::arena;
use crate::coroutines::Coroutine;
use crate::engine::{Outcome, with};
use crate::event::THREADS_MAX;
use crate::inert::drop_inertly;
use crate::locals;
use crate::waiting::Probe;

/// Runs the program, which replays the graph and then extends it. Where that looks like a deadlock,
/// runs it once more to see what the waiting threads would do next.
pub(crate) fn run_once(program: &dyn Fn()) -> Outcome {
    let again = |probe: fn() -> Option<Probe>| {
        loop {
            let outcome = pass(program, probe());
            if outcome != Outcome::Again {
                return outcome;
            }
        }
    };
    match again(|| None) {
        Outcome::Suspected => again(|| Some(Probe::default())),
        outcome => outcome,
    }
}

fn pass(program: &dyn Fn(), probe: Option<Probe>) -> Outcome {
    with(|engine| engine.begin(probe));
    let mut threads: [Option<Coroutine<'_>>; THREADS_MAX] = Default::default();
    threads[0] = Some(Coroutine::new(0, || {
        program();
        locals::end_thread();
    }));
    while let Some(thread) = with(|engine| engine.next_turn()) {
        let begin = || Coroutine::new(thread, with(|engine| engine.take_body(thread)));
        let coroutine = threads[thread].get_or_insert_with(begin);
        if let Some(ended) = coroutine.resume() {
            with(|engine| engine.end_thread(thread, ended));
        }
    }
    let outcome = with(|engine| engine.conclude());
    // Threads that have not ended, and those that have not begun, leave nothing behind. The main
    // thread has made what the others share, and goes last.
    threads.into_iter().rev().flatten().for_each(drop_inertly);
    let left = (with(|engine| engine.take_bodies()), locals::take());
    if arena::is_in_force() {
        // It ends with the arena.
        let _ = ManuallyDrop::new(left);
    } else {
        drop_inertly(left);
    }
    outcome
}
