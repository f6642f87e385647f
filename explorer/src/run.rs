//! Running the program once over the current graph.

use crate::engine::{NextThread, Outcome, drop_inertly, perform, with};
use crate::panics::catch;

/// Runs the program, which replays the graph and then extends it.
pub(crate) fn run_once(program: &dyn Fn()) -> Outcome {
    drop_inertly(with(|engine| engine.begin()));
    let main = catch(program);
    // Threads that were not joined run now; after a failure nothing runs any more.
    let others = match main {
        Ok(()) | Err(crate::engine::Stop::Blocked) => catch(run_threads),
        Err(_) => Ok(()),
    };
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
