//! When handlers come, and what they order.

use weft_core::sync::RawLock as _;

use super::*;
use crate::engine::FailureKind;

/// What a handler leaves in what its CPU notes.
const SERVED: u64 = 7;

fn interrupt(desk: &Desk, cpus: &[u32]) {
    let mut targets = CpuSet::EMPTY;
    cpus.iter().for_each(|cpu| targets.insert(CpuId::new(*cpu)));
    desk.model.interrupt_all(actor(), &targets, &|noted| noted.clean = SERVED);
}

fn served(desk: &Desk) -> u64 {
    desk.masked(|noted| noted.clean)
}

/// The initiator has the lock until the handler is over.
const INITIATOR: Role = |desk| {
    desk.lock.acquire();
    interrupt(desk, &[0]);
    desk.lock.release();
    vec![]
};

#[test]
fn a_cpu_that_waits_for_a_lock_serves_interrupts() {
    let roles: &[Role] = &[
        |desk| {
            desk.lock.acquire();
            desk.lock.release();
            vec![served(desk)]
        },
        INITIATOR,
    ];
    gives(|_| {}, roles, 3, &[[0], [SERVED]]);
}

#[test]
fn a_cpu_that_waits_with_interrupts_masked_serves_none() {
    let roles: &[Role] = &[
        |desk| {
            desk.masked(|_| desk.lock.acquire());
            desk.lock.release();
            vec![]
        },
        INITIATOR,
    ];
    let found = explore(|_| {}, roles);
    let failure = found.failure.expect("the initiator waits for a CPU that waits for it");
    assert_eq!(failure.kind, FailureKind::Deadlock, "{failure:?}");
}

#[test]
fn no_handler_comes_while_interrupts_are_masked() {
    let roles: &[Role] = &[
        |desk| {
            desk.masked(|noted| {
                let before = noted.clean;
                // Masked twice is masked once.
                vec![before, served(desk)]
            })
        },
        |desk| {
            interrupt(desk, &[0]);
            vec![]
        },
    ];
    gives(|_| {}, roles, 2, &[[0, 0], [SERVED, SERVED]]);
}

/// Each target writes its word before its handler, and reads the other's behind it: neither may
/// find what the other one wrote.
#[test]
fn handlers_of_one_request_do_not_order_their_targets() {
    fn target(desk: &Desk, own: usize) -> Vec<u64> {
        let before = desk.masked(|noted| {
            desk.words[own].store(1, &ENTRY_INIT);
            noted.clean
        });
        let after = served(desk);
        vec![before, after, desk.words[1 - own].load(&ENTRY_UNDER_LOCK)]
    }
    let roles: &[Role] = &[
        |desk| target(desk, 0),
        |desk| target(desk, 1),
        |desk| {
            interrupt(desk, &[0, 1]);
            vec![]
        },
    ];
    let found = explore(|_| {}, roles);
    assert_eq!(found.failure, None);
    let unordered = [0, SERVED, 0, 0, SERVED, 0];
    let is_there = found.outcomes.contains(unordered.as_slice());
    assert!(is_there, "handlers order their targets: {:?}", found.outcomes);
    assert_eq!(found.executions, 72, "executions");
}

/// What the initiator did before it sent the request is known behind the handler, and what the
/// target did before the handler is known to the initiator.
#[test]
fn a_handler_is_behind_its_request_and_before_the_answer() {
    let roles: &[Role] = &[
        |desk| {
            desk.masked(|_| desk.words[0].store(1, &ENTRY_INIT));
            let served = served(desk);
            vec![served, desk.words[1].load(&ENTRY_UNDER_LOCK)]
        },
        |desk| {
            desk.words[1].store(1, &ENTRY_INIT);
            interrupt(desk, &[0]);
            vec![desk.words[0].load(&ENTRY_UNDER_LOCK)]
        },
    ];
    let found = explore(|_| {}, roles);
    assert_eq!(found.failure, None);
    // The handler comes before the target's two sections, between them, or behind them.
    let expected = [[SERVED, 1, 0], [SERVED, 1, 1], [0, 0, 1], [0, 1, 1]];
    let expected: BTreeSet<_> = expected.iter().map(|outcome| outcome.to_vec()).collect();
    assert_eq!(found.outcomes, expected);
}

/// The handler is played by the initiator, so the holder goes on: what no execution shows, the
/// ghost state tells of each.
#[test]
fn a_handler_that_waits_for_the_lock_of_the_interrupted_cpu_goes_on() {
    let roles: &[Role] = &[
        |desk| {
            desk.lock.acquire();
            desk.lock.release();
            vec![]
        },
        |desk| {
            let mut target = CpuSet::EMPTY;
            target.insert(CpuId::new(0));
            desk.model.interrupt_all(actor(), &target, &|_| {
                desk.lock.acquire();
                desk.lock.release();
            });
            vec![]
        },
    ];
    gives(|_| {}, roles, 2, &[[]]);
}
