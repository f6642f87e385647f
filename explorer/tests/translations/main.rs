//! Races between users, shootdowns and the freeing of memory, on the toy page table of `machine`.
//!
//! Each race has a right version, which is explored to the end, and a broken one, which has to be
//! caught with its own message. The counts of executions are part of the tests: they say what
//! windows cost, and change if the engine finds more or fewer. A race is under RC11, TSO and SC
//! alike, unless its test says which instruction orders it on x86.

mod machine;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};

use machine::{Machine, entry};
use weft_explorer::{FailureKind, Model, Options, Verdict, explore, replay, spawn};

/// What a CPU does, in the right version or the broken one.
type Body = fn(&Machine, bool);

struct Race {
    /// The CPUs that use the table from the start.
    running: &'static [usize],
    /// The first CPUs are spawned, the main thread plays the last one.
    cpus: &'static [Body],
}

/// What an exploration says: executions, blocked ones left out, or at which one it fails and how.
#[derive(Clone, PartialEq, Eq)]
enum Found {
    Nothing(u64),
    Failure(u64, FailureKind, String),
}

impl fmt::Debug for Found {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Found::Nothing(executions) => write!(formatter, "nothing in {executions}"),
            Found::Failure(at, kind, message) => {
                write!(formatter, "at {at}: {kind:?}, {message}")
            }
        }
    }
}

fn explore_race(race: &'static Race, model: Model, is_right: bool) -> Found {
    let options = Options { model, find_duplicates: true, ..Options::default() };
    let program = move || {
        let machine = Arc::new(Machine::new());
        race.running.iter().for_each(|cpu| machine.activate(*cpu, true));
        let (last, others) = race.cpus.split_last().expect("a race has CPUs");
        let others: Vec<_> = others
            .iter()
            .map(|body| {
                let machine = Arc::clone(&machine);
                spawn(move || body(&machine, is_right))
            })
            .collect();
        last(&machine, is_right);
        others.into_iter().for_each(|other| other.join());
    };
    let report = explore(&options, program);
    assert_eq!(report.duplicates, 0);
    match report.failure {
        Some(failure) => {
            let again = replay(&options, &failure.token, program).failure;
            let again = again.map(|again| (again.kind, again.message));
            assert_eq!(
                again,
                Some((failure.kind, failure.message.clone())),
                "its token leads back"
            );
            Found::Failure(report.executions + 1, failure.kind, failure.message)
        }
        None => {
            assert_eq!(report.verdict, Verdict::Exhausted);
            Found::Nothing(report.executions)
        }
    }
}

/// What is expected of the broken version.
struct Caught {
    at: u64,
    kind: FailureKind,
    message: &'static str,
}

/// The access to a frame that was freed, or is just being freed.
fn frame_raced(at: u64) -> Caught {
    Caught { at, kind: FailureKind::DataRace, message: "a plain write to frame" }
}

/// The same for a node.
fn node_raced(at: u64) -> Caught {
    Caught { at, kind: FailureKind::DataRace, message: "a plain write to node" }
}

/// The right version is explored in so many executions, and the broken one is caught.
fn expect(race: &'static Race, model: Model, executions: u64, caught: &Caught) {
    assert_eq!(explore_race(race, model, true), Found::Nothing(executions), "{model}, right");
    match explore_race(race, model, false) {
        Found::Failure(at, kind, message) => {
            assert_eq!((at, kind), (caught.at, caught.kind), "{model}, broken: {message}");
            assert!(message.contains(caught.message), "{model}, broken: {message}");
        }
        nothing => panic!("{model}: the broken version is not caught: {nothing:?}"),
    }
}

/// The right version differs from the broken one by its fences, and x86 orders both by locked
/// instructions: under TSO and SC, the broken version has no more executions than the right one.
fn expect_only_in_rc11(race: &'static Race, executions: u64, caught: &Caught) {
    expect(race, Model::Rc11, executions, caught);
    for model in [Model::Tso, Model::Sc] {
        for is_right in [true, false] {
            assert_eq!(explore_race(race, model, is_right), Found::Nothing(executions), "{model}");
        }
    }
}

fn expect_everywhere(race: &'static Race, executions: u64, caught: &Caught) {
    for model in Model::ALL {
        expect(race, model, executions, caught);
    }
}

fn read_twice(machine: &Machine, _: bool) {
    machine.read(0, 0);
    machine.read(0, 0);
}

#[test]
fn i_switch_vs_flush_without_fences() {
    const RACE: Race = Race {
        running: &[],
        cpus: &[
            |machine, is_right| {
                machine.activate(0, is_right);
                read_twice(machine, is_right);
            },
            |machine, is_right| {
                machine.clear_leaf(0);
                machine.flush(Some(0), is_right);
                machine.frame(1).free();
            },
        ],
    };
    // The locked instructions are the updates of `mask` and `leaf`.
    expect_only_in_rc11(&RACE, 8, &frame_raced(2));
}

#[test]
fn ii_unmap_and_free_vs_user() {
    const RACE: Race = Race {
        running: &[0],
        cpus: &[read_twice, |machine, is_right| {
            machine.clear_leaf(0);
            if is_right {
                machine.flush(Some(0), true);
            }
            machine.frame(1).free();
        }],
    };
    expect_everywhere(&RACE, 6, &frame_raced(2));
}

fn free_node(machine: &Machine, is_right: bool) {
    machine.upper.swap(0, Release);
    if is_right {
        machine.flush(None, true);
    }
    machine.node(1).free();
}

#[test]
fn iii_detached_node_freed() {
    const RACE: Race = Race {
        running: &[0],
        cpus: &[
            |machine, _| {
                machine.read(0, 0);
                machine.read(0, 1);
            },
            free_node,
        ],
    };
    expect_everywhere(&RACE, 7, &node_raced(3));
}

#[test]
fn iii_detached_node_freed_and_the_walk_ordered_behind_it() {
    const RACE: Race = Race {
        running: &[0],
        cpus: &[
            |machine, _| {
                machine.read(0, 0);
                drop(machine.lock.lock());
                machine.read(0, 1);
            },
            |machine, is_right| {
                let _locked = machine.lock.lock();
                free_node(machine, is_right);
            },
        ],
    };
    expect_everywhere(&RACE, 6, &node_raced(3));
}

#[test]
fn iv_flush_after_unlock() {
    const RACE: Race = Race {
        running: &[0],
        cpus: &[
            |machine, _| {
                let is_empty = machine.finds_empty();
                let is_used = machine.read(0, 0).is_some();
                assert!(!is_empty || !is_used, "used after it was found empty");
            },
            |machine, is_right| {
                machine.unmap_locked(is_right);
                machine.frame(1).free();
            },
        ],
    };
    let message = "used after it was found empty";
    expect_everywhere(&RACE, 4, &Caught { at: 3, kind: FailureKind::Violation, message });
}

#[test]
fn iv_flush_after_unlock_and_a_third_cpu_frees() {
    const RACE: Race = Race {
        running: &[0],
        cpus: &[
            read_twice,
            |machine, is_right| machine.unmap_locked(is_right),
            |machine, _| {
                // Finds it empty, and so frees the frame, which was this CPU's to give.
                if machine.finds_empty() {
                    machine.frame(1).free();
                }
            },
        ],
    };
    expect_everywhere(&RACE, 12, &frame_raced(10));
}

#[test]
fn v_two_initiators_and_the_wrong_page() {
    const RACE: Race = Race {
        running: &[0, 1],
        cpus: &[
            |machine, is_right| {
                machine.clear_leaf(0);
                machine.flush(Some(if is_right { 0 } else { 1 }), true);
                machine.frame(1).free();
                machine.read(0, 1);
            },
            |machine, _| {
                machine.clear_leaf(1);
                machine.flush(Some(1), true);
                machine.frame(2).free();
                machine.read(1, 0);
            },
        ],
    };
    expect_everywhere(&RACE, 13, &frame_raced(4));
}

/// Unmaps one page and asks the other CPU, with interrupts masked in the broken version.
fn ask_other(machine: &Machine, own: usize, is_right: bool) {
    let _masked = (!is_right).then(|| machine.cpus[own].lock());
    machine.clear_leaf(own);
    machine.ask(1 << (1 - own), |since, here| since.invalidate(None, *here));
}

#[test]
fn v_both_wait_with_interrupts_masked() {
    const RACE: Race = Race {
        running: &[0, 1],
        cpus: &[
            |machine, is_right| ask_other(machine, 0, is_right),
            |machine, is_right| ask_other(machine, 1, is_right),
        ],
    };
    let message = "no thread can go on";
    expect_everywhere(&RACE, 1, &Caught { at: 2, kind: FailureKind::Deadlock, message });
}

#[test]
fn vi_the_same_cpu_replaces_a_frame() {
    const RACE: Race = Race {
        running: &[0, 1],
        cpus: &[
            |machine, is_right| {
                machine.read(0, 0);
                machine.leaves[0][0].swap(entry(3), AcqRel);
                if is_right {
                    machine.flush(Some(0), true);
                }
                machine.frame(1).free();
                machine.read(0, 0);
            },
            |machine, _| {
                machine.read(1, 1);
            },
        ],
    };
    let message = "use after free";
    expect_everywhere(&RACE, 3, &Caught { at: 2, kind: FailureKind::Violation, message });
}

#[test]
fn row_31_node_and_frames_freed_and_one_page_flushed() {
    const RACE: Race = Race {
        running: &[0],
        cpus: &[
            |machine, _| {
                machine.read(0, 0);
                machine.read(0, 1);
            },
            |machine, is_right| {
                machine.upper.swap(0, Release);
                machine.flush(if is_right { None } else { Some(0) }, true);
                machine.node(1).free();
                machine.frame(2).free();
            },
        ],
    };
    expect_everywhere(&RACE, 7, &frame_raced(2));
}

/// Unmaps the first page, counts the flush, and frees the frame.
fn unmap_counted(machine: &Machine, asks_lazy: bool, is_fenced: bool) {
    machine.clear_leaf(0);
    machine.flush_counted(Some(0), asks_lazy, is_fenced, true);
    machine.frame(1).free();
}

#[test]
fn l1_lazy_cpu_that_does_not_look_what_it_missed() {
    const RACE: Race = Race {
        running: &[0],
        cpus: &[
            |machine, is_right| {
                machine.read(0, 0);
                machine.be_lazy(0, true, is_right, || {});
                machine.read(0, 0);
            },
            |machine, _| unmap_counted(machine, false, true),
        ],
    };
    expect_everywhere(&RACE, 26, &frame_raced(17));
}

#[test]
fn l2_lazy_cpu_without_fences() {
    const RACE: Race = Race {
        running: &[0],
        cpus: &[
            |machine, is_right| {
                machine.read(0, 0);
                machine.be_lazy(0, is_right, true, || {});
                machine.read(0, 0);
            },
            |machine, is_right| unmap_counted(machine, false, is_right),
        ],
    };
    // The locked instructions are the updates of `lazy` and `generation`.
    expect_only_in_rc11(&RACE, 26, &frame_raced(28));
}

#[test]
fn l3_lazy_cpu_that_is_not_asked_for_a_node() {
    const RACE: Race = Race {
        running: &[0],
        cpus: &[
            |machine, _| {
                machine.read(0, 0);
                machine.be_lazy(0, true, true, || machine.speculate(0, 1));
                machine.read(0, 0);
            },
            |machine, is_right| {
                machine.upper.swap(0, Release);
                machine.flush_counted(None, is_right, true, true);
                machine.node(1).free();
            },
        ],
    };
    expect_everywhere(&RACE, 33, &node_raced(45));
}

#[test]
fn p1_tagged_translations_and_generation_not_checked() {
    const RACE: Race = Race {
        running: &[0],
        cpus: &[
            |machine, is_right| {
                machine.read(0, 0);
                machine.leave_and_come_back(0, true, is_right);
                machine.read(0, 0);
            },
            |machine, _| unmap_counted(machine, true, true),
        ],
    };
    expect_everywhere(&RACE, 34, &frame_raced(23));
}

#[test]
fn p2_tagged_translations_without_fences() {
    const RACE: Race = Race {
        running: &[0],
        cpus: &[
            |machine, is_right| {
                machine.read(0, 0);
                machine.leave_and_come_back(0, is_right, true);
                machine.read(0, 0);
            },
            |machine, is_right| unmap_counted(machine, true, is_right),
        ],
    };
    // The locked instructions are the updates of `mask` and `generation`.
    expect_only_in_rc11(&RACE, 34, &frame_raced(36));
}

#[test]
fn p3_generation_noted_on_the_way_out() {
    const RACE: Race = Race {
        running: &[0],
        cpus: &[
            |machine, is_right| {
                machine.read(0, 0);
                if !is_right {
                    // What was flushed meanwhile without asking is taken to be done.
                    let newest = machine.generation.load(Acquire);
                    machine.cpus[0].lock().clean = newest;
                }
                machine.leave_and_come_back(0, true, true);
                machine.read(0, 0);
            },
            |machine, _| unmap_counted(machine, true, true),
        ],
    };
    expect_everywhere(&RACE, 34, &frame_raced(32));
}

/// Unmaps a page, counts the flush, and frees the frame.
fn unmap_one_of_two(machine: &Machine, page: usize, is_right: bool) {
    machine.clear_leaf(page);
    machine.flush_counted(Some(page), true, true, is_right);
    machine.frame(page as u64 + 1).free();
}

#[test]
fn g1_partial_flush_that_marks_a_cpu_clean_for_a_later_one() {
    const RACE: Race = Race {
        running: &[0],
        cpus: &[
            |machine, _| {
                machine.read(0, 0);
                machine.read(0, 1);
            },
            |machine, is_right| unmap_one_of_two(machine, 0, is_right),
            |machine, is_right| unmap_one_of_two(machine, 1, is_right),
        ],
    };
    expect_everywhere(&RACE, 82, &frame_raced(9));
}

#[test]
fn s1_only_speculation_uses_the_node() {
    const RACE: Race = Race {
        running: &[0],
        cpus: &[
            |machine, _| {
                machine.speculate(0, 0);
                machine.speculate(0, 1);
            },
            free_node,
        ],
    };
    expect_everywhere(&RACE, 7, &node_raced(2));
}
