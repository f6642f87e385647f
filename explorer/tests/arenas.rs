//! Explorations that begin at the same time, each with an arena, in a process that has had none.

use std::sync::Barrier;
use std::thread;

use weft_explorer::{Arena, Atomic, Options, Verdict, explore};

#[global_allocator]
static ARENA: Arena = Arena;

/// What an arena has given out goes back to it, whichever exploration was the first to have one.
#[test]
fn explorations_that_begin_together_have_arenas_of_their_own() {
    const THREADS: usize = 16;
    let barrier = Barrier::new(THREADS);
    let explored = || {
        barrier.wait();
        let options = Options { arena: true, ..Options::default() };
        explore(&options, || drop(Box::new(Atomic::new(0))))
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(explored)).collect();
        for thread in threads {
            let report = thread.join().expect("it ends");
            assert_eq!(report.verdict, Verdict::Exhausted, "{:?}", report.failure);
        }
    });
}
