//! Small programs over the engine trait alone: what engines are compared with.
//!
//! Locks and litmus shapes whose numbers of executions are known, from mathematics or from the
//! literature. They use no model memory, so they measure an engine and nothing else.

use std::sync::Arc;
use std::sync::atomic::Ordering::{self, Acquire, Relaxed, Release};

use crate::engine::{Access, Body, Engine, EnginePlain, EngineWord, Execution, Program};

/// A program with a name.
pub struct Named {
    /// What it is called in tables.
    pub name: &'static str,
    /// How many CPUs it has.
    pub cpus: usize,
    /// The program.
    pub program: Program,
}

impl std::fmt::Debug for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Named").field("name", &self.name).finish_non_exhaustive()
    }
}

/// All of them, for engine `E`.
pub fn all<E: Engine>() -> Vec<Named> {
    let named = |name, cpus, program| Named { name, cpus, program };
    vec![
        named("lock 2x1", 2, lock::<E>(2, 1)),
        named("lock 2x2", 2, lock::<E>(2, 2)),
        named("lock 3x1", 3, lock::<E>(3, 1)),
        named("lock 3x2", 3, lock::<E>(3, 2)),
        named("lock 4x1", 4, lock::<E>(4, 1)),
        named("lock 5x1", 5, lock::<E>(5, 1)),
        named("ticket lock 2x1", 2, ticket_lock::<E>(2)),
        named("ticket lock 3x1", 3, ticket_lock::<E>(3)),
        named(
            "MP rel/acq",
            2,
            shape::<E>(&[&[W(0, Relaxed), W(1, Release)], &[R(1, Acquire), R(0, Relaxed)]]),
        ),
        named(
            "SB rlx",
            2,
            shape::<E>(&[&[W(0, Relaxed), R(1, Relaxed)], &[W(1, Relaxed), R(0, Relaxed)]]),
        ),
        named(
            "WRC rel/acq",
            3,
            shape::<E>(&[
                &[W(0, Relaxed)],
                &[R(0, Relaxed), W(1, Release)],
                &[R(1, Acquire), R(0, Relaxed)],
            ]),
        ),
        named(
            "IRIW rlx",
            4,
            shape::<E>(&[
                &[W(0, Relaxed)],
                &[W(1, Relaxed)],
                &[R(0, Relaxed), R(1, Relaxed)],
                &[R(1, Relaxed), R(0, Relaxed)],
            ]),
        ),
    ]
}

/// One operation of a litmus shape: a write or a read of word 0 or 1.
#[derive(Clone, Copy)]
enum Operation {
    Write(usize, Ordering),
    Read(usize, Ordering),
}
use Operation::{Read as R, Write as W};

/// A litmus shape: what each CPU does, in order.
fn shape<E: Engine>(threads: &[&[Operation]]) -> Program {
    let threads: Vec<Vec<Operation>> = threads.iter().map(|thread| thread.to_vec()).collect();
    Arc::new(move || {
        let words: Arc<[E::Word; 2]> = Arc::new([0, 1].map(|_| E::Word::new(0, Access::Loaded)));
        let bodies = threads.iter().map(|thread| -> Body {
            let (words, thread) = (Arc::clone(&words), thread.clone());
            Box::new(move || {
                for operation in thread {
                    match operation {
                        Operation::Write(word, order) => words[word].store(1, order),
                        Operation::Read(word, order) => drop(words[word].load(order)),
                    }
                }
            })
        });
        Execution { cpus: bodies.collect(), finish: Box::new(|| {}) }
    })
}

/// `cpus` CPUs take a compare-exchange lock `rounds` times each and add to a plain cell under it.
fn lock<E: Engine>(cpus: usize, rounds: usize) -> Program {
    Arc::new(move || {
        let shared =
            Arc::new((E::Word::new(0, Access::UpdatedOnly), <E::Plain as EnginePlain>::new(0)));
        let bodies = (0..cpus).map(|_| -> Body {
            let shared = Arc::clone(&shared);
            Box::new(move || {
                let (word, cell) = &*shared;
                for _ in 0..rounds {
                    while word.compare_exchange(0, 1, Acquire, Relaxed).is_err() {
                        word.wait_for_change();
                    }
                    cell.set(cell.get() + 1);
                    word.store(0, Release);
                }
            })
        });
        let additions = cpus * rounds;
        let bodies = bodies.collect();
        let finish = move || {
            let count = shared.1.get();
            assert_eq!(count, additions as u64, "the lock lost an addition");
        };
        Execution { cpus: bodies, finish: Box::new(finish) }
    })
}

/// `cpus` CPUs take a ticket lock once each and add to a plain cell under it.
fn ticket_lock<E: Engine>(cpus: usize) -> Program {
    Arc::new(move || {
        let word = |access| E::Word::new(0, access);
        let shared = Arc::new((
            word(Access::UpdatedOnly),
            word(Access::Loaded),
            <E::Plain as EnginePlain>::new(0),
        ));
        let bodies = (0..cpus).map(|_| -> Body {
            let shared = Arc::clone(&shared);
            Box::new(move || {
                let (next, serving, cell) = &*shared;
                let ticket = next.fetch_add(1, Relaxed);
                while serving.load(Acquire) != ticket {
                    serving.wait_for_change();
                }
                cell.set(cell.get() + 1);
                serving.store(ticket + 1, Release);
            })
        });
        let bodies = bodies.collect();
        let finish = move || assert_eq!(shared.2.get(), cpus as u64, "the lock lost an addition");
        Execution { cpus: bodies, finish: Box::new(finish) }
    })
}
