//! Running the program once over the current graph.

use crate::engine::{NextThread, Outcome, Stop, perform, with};
use crate::inert::drop_inertly;
use crate::locals;
use crate::panics::catch;
use crate::waiting::Probe;

/// Runs the program, which replays the graph and then extends it. Where that looks like a deadlock,
/// runs it once more to see what the waiting threads would do next.
pub(crate) fn run_once(program: &dyn Fn()) -> Outcome {
    match pass(program, None) {
        Outcome::Suspected => pass(program, Some(Probe::default())),
        outcome => outcome,
    }
}

fn pass(program: &dyn Fn(), probe: Option<Probe>) -> Outcome {
    drop_inertly(with(|engine| engine.begin(probe)));
    let main = catch(|| {
        program();
        locals::end_thread();
    });
    // Threads that were not joined run now; after a failure nothing runs any more.
    let others = match main {
        Ok(()) | Err(Stop::Blocked) => catch(run_threads),
        Err(_) => Ok(()),
    };
    drop_inertly(locals::take());
    with(|engine| engine.conclude(main, others))
}

/// Runs all threads that have not run yet, one after the other.
pub(crate) fn run_threads() {
    loop {
        match with(|engine| engine.next_thread()) {
            NextThread::Done => return,
            NextThread::Skip(body) => drop_inertly(body),
            NextThread::Run(thread, body) => {
                let ended = catch(body);
                perform(|engine| engine.end_thread(thread, ended));
            }
        }
    }
}
