//! Histories by hand, and at random against an enumerator that tries every order.

extern crate std;

use alloc::string::ToString;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::Histories;
use crate::history::History;
use crate::linearize::assert_linearizable;
use crate::mark::Mark;
use crate::page_map::{Answer, Mapping, Operation, PageMap};
use crate::specification::Memory;
use Answer::{AlreadyMapped, Found, Frames, Mapped, OutOfMemory};

const SEVEN: Mapping = Mapping::writable(7);
const NINE: Mapping = Mapping::writable(9);

/// A step of one operation from one time to another.
type Timed = (u64, u64, Operation, Answer);

fn history(steps: &[Timed]) -> History {
    let mut history = History::new();
    for &(begin, end, operation, answer) in steps {
        history.step(Mark::at(begin), Mark::at(end), &[(operation, answer)]);
    }
    history
}

fn map_page(page: u8, to: Mapping) -> Operation {
    Operation::map(page, to)
}

fn is_linearizable(first: &PageMap, histories: &[History], last: &PageMap) -> bool {
    Histories::new(histories).are_linearizable(first, last)
}

#[test]
fn one_cpu_is_held_against_the_map() {
    let whole = [
        (0, 1, map_page(0, SEVEN), Mapped),
        (2, 3, map_page(0, NINE), AlreadyMapped),
        (4, 5, Operation::query(0), Found(Some(SEVEN))),
        (6, 7, Operation::protect(0..2, false), Frames(1)),
        (8, 9, Operation::query(0), Found(Some(Mapping::read_only(7)))),
        (10, 11, Operation::unmap(0..2), Frames(1)),
    ];
    assert!(is_linearizable(&PageMap::EMPTY, &[history(&whole)], &PageMap::EMPTY));
    let other_answers = [OutOfMemory, Mapped, Found(None), Frames(2), Found(Some(SEVEN)), Mapped];
    for (number, answer) in other_answers.into_iter().enumerate() {
        let mut changed = whole;
        changed[number].3 = answer;
        let found = is_linearizable(&PageMap::EMPTY, &[history(&changed)], &PageMap::EMPTY);
        assert!(!found, "{changed:?}");
    }
}

#[test]
fn steps_that_overlap_come_in_any_order() {
    let seven = history(&[(0, 10, map_page(0, SEVEN), Mapped)]);
    for (answer, last) in [(Mapped, NINE), (AlreadyMapped, SEVEN)] {
        let other = history(&[
            (1, 3, Operation::unmap(0), Frames(u64::from(answer == Mapped))),
            (4, 9, map_page(0, NINE), answer),
        ]);
        let last = PageMap::EMPTY.with(0, last);
        assert!(is_linearizable(&PageMap::EMPTY, &[seven, other], &last));
    }
}

#[test]
fn a_step_that_was_over_is_not_ordered_behind() {
    let mapped = PageMap::EMPTY.with(0, SEVEN);
    let unmap = history(&[(0, 4, Operation::unmap(0), Frames(1))]);
    // An old value is sequentially consistent either way: what differs is when it was asked for.
    let overlapping = history(&[(3, 6, Operation::query(0), Found(Some(SEVEN)))]);
    let late = history(&[(5, 6, Operation::query(0), Found(Some(SEVEN)))]);
    assert!(is_linearizable(&mapped, &[unmap, overlapping], &PageMap::EMPTY));
    assert!(!is_linearizable(&mapped, &[unmap, late], &PageMap::EMPTY));
}

#[test]
fn what_happens_before_orders_as_time_does() {
    let mapped = PageMap::EMPTY.with(0, SEVEN);
    let query = |knows: u32| {
        let mark = |done| Mark::knowing(1, done, |cpu| [knows, done, 0, 0][cpu]);
        let mut history = History::new();
        let found = (Operation::query(0), Found(Some(SEVEN)));
        history.step(mark(2), mark(3), &[found]);
        history
    };
    let mut unmap = History::new();
    let mark = |done| Mark::knowing(0, done, |cpu| [done, 0, 0, 0][cpu]);
    unmap.step(mark(0), mark(4), &[(Operation::unmap(0), Frames(1))]);
    assert!(is_linearizable(&mapped, &[unmap, query(3)], &PageMap::EMPTY));
    assert!(!is_linearizable(&mapped, &[unmap, query(4)], &PageMap::EMPTY));
}

#[test]
fn unordered_marks_leave_the_order_of_each_cpu() {
    let mapped = PageMap::EMPTY.with(0, SEVEN);
    let step = |history: &mut History, operation, answer| {
        history.step(Mark::UNORDERED, Mark::UNORDERED, &[(operation, answer)]);
    };
    let [mut unmap, mut old, mut again] = [History::new(); 3];
    step(&mut unmap, Operation::unmap(0), Frames(1));
    step(&mut old, Operation::query(0), Found(Some(SEVEN)));
    step(&mut again, Operation::query(0), Found(None));
    assert!(is_linearizable(&mapped, &[unmap, old, again], &PageMap::EMPTY));
    step(&mut again, Operation::query(0), Found(Some(SEVEN)));
    assert!(!is_linearizable(&mapped, &[unmap, old, again], &PageMap::EMPTY));
}

#[test]
fn an_unmap_counts_what_it_took() {
    let map = history(&[(0, 9, map_page(1, NINE), Mapped)]);
    let first = PageMap::EMPTY.with(0, SEVEN);
    for (frames, last) in [(1, PageMap::EMPTY.with(1, NINE)), (2, PageMap::EMPTY)] {
        let unmap = history(&[(1, 8, Operation::unmap(0..2), Frames(frames))]);
        assert!(is_linearizable(&first, &[map, unmap], &last));
        // A page that went with the others is missing, or one that was left is counted.
        let miscounted = history(&[(1, 8, Operation::unmap(0..2), Frames(3 - frames))]);
        assert!(!is_linearizable(&first, &[map, miscounted], &last));
    }
}

#[test]
fn two_cpus_do_not_map_the_same_page() {
    let seven = history(&[(0, 9, map_page(0, SEVEN), Mapped)]);
    let nine = history(&[(1, 8, map_page(0, NINE), Mapped)]);
    for last in [SEVEN, NINE] {
        let last = PageMap::EMPTY.with(0, last);
        assert!(!is_linearizable(&PageMap::EMPTY, &[seven, nine], &last));
    }
}

#[test]
fn the_end_belongs_to_the_same_order() {
    let first = PageMap::EMPTY.with(0, SEVEN);
    let readers = [
        history(&[(0, 9, Operation::protect(0, false), Frames(1))]),
        history(&[
            (0, 4, Operation::protect(0, true), Frames(1)),
            (5, 9, Operation::query(0), Found(Some(SEVEN))),
        ]),
    ];
    // Whichever change is the later one: both are possible, and so is either end.
    assert!(is_linearizable(&first, &readers, &first));
    assert!(is_linearizable(&first, &readers, &PageMap::EMPTY.with(0, Mapping::read_only(7))));
    assert!(!is_linearizable(&first, &readers, &PageMap::EMPTY));
    // If the query is over before the read-only change began, only one is.
    let late = [history(&[(10, 11, Operation::protect(0, false), Frames(1))]), readers[1]];
    assert!(!is_linearizable(&first, &late, &first));
}

#[test]
fn without_memory_nothing_changes() {
    let failed = [
        (0, 1, map_page(1, NINE), OutOfMemory),
        (2, 3, Operation::unmap(0..2), OutOfMemory),
        (4, 5, Operation::protect(0, false), OutOfMemory),
    ];
    let first = PageMap::EMPTY.with(0, SEVEN);
    assert!(is_linearizable(&first, &[history(&failed)], &first));
    assert!(!is_linearizable(&first, &[history(&failed)], &first.with(1, NINE)));
}

#[test]
fn nothing_comes_between_the_operations_of_a_step() {
    let first = PageMap::EMPTY.with(0, SEVEN);
    let remap = |is_one_step: bool| {
        let (begin, end) = (Mark::at(0), Mark::at(9));
        let steps = [(Operation::unmap(0), Frames(1)), (map_page(0, NINE), Mapped)];
        let mut history = History::new();
        if is_one_step {
            history.step(begin, end, &steps);
        } else {
            history.step(begin, Mark::at(1), &steps[..1]);
            history.step(Mark::at(2), end, &steps[1..]);
        }
        history
    };
    let between = history(&[(1, 8, Operation::query(0), Found(None))]);
    let last = PageMap::EMPTY.with(0, NINE);
    assert!(is_linearizable(&first, &[remap(false), between], &last));
    assert!(!is_linearizable(&first, &[remap(true), between], &last));
}

#[test]
#[should_panic(expected = "history is not linearizable: CPU 0: unmap 0..2 = 1 frame, query 1 = \
    nothing; CPU 1: map 1 to #9 read-only = done with query 0 = #7; \"unmap 0..2 = 1 frame\" of \
    CPU 0 before \"map 1 to #9 read-only = done\" of CPU 1; at first 0 is #7, in the end nothing \
    is mapped")]
fn the_message_tells_histories_and_order() {
    let unmap = history(&[
        (0, 1, Operation::unmap(0..2), Frames(1)),
        (3, 9, Operation::query(1), Found(None)),
    ]);
    let mut map = History::new();
    let steps =
        [(map_page(1, Mapping::read_only(9)), Mapped), (Operation::query(0), Found(Some(SEVEN)))];
    map.step(Mark::at(2), Mark::at(8), &steps);
    assert_linearizable(&PageMap::EMPTY.with(0, SEVEN), &[unmap, map], &PageMap::EMPTY);
}

#[test]
#[should_panic(expected = "a history has room for 6 operations")]
fn a_history_does_not_forget() {
    history(&[(0, 1, Operation::query(0), Found(None)); 7]);
}

#[test]
fn what_a_cpu_did_is_printed_without_its_marks() {
    let [early, late] = [0, 5].map(|time| {
        let query = Operation::query(3);
        alloc::format!("{:?}", history(&[(time, time + 1, query, Found(Some(SEVEN)))]))
    });
    assert_eq!(early, late);
    assert_eq!(early, "[query 3 = #7]");
    assert_eq!(PageMap::EMPTY.with(1..3, NINE).to_string(), "1 is #9, 2 is #9");
}

const PAGES: u8 = 3;

fn operation() -> impl Strategy<Value = Operation> {
    let range = || (0..PAGES).prop_flat_map(|start| (Just(start), start + 1..=PAGES));
    let range = || range().prop_map(|(start, end)| start..end);
    let mapping = (1..4_u8, any::<bool>()).prop_map(|(frame, writable)| match writable {
        true => Mapping::writable(frame),
        false => Mapping::read_only(frame),
    });
    prop_oneof![
        (range(), mapping).prop_map(|(pages, to)| Operation::map(pages, to)),
        range().prop_map(Operation::unmap),
        (0..PAGES).prop_map(Operation::query),
        (range(), any::<bool>()).prop_map(|(pages, writable)| Operation::protect(pages, writable)),
    ]
}

/// A step that is to be run: who, what, and how far its interval reaches around its point.
type Planned = (usize, Operation, u64, u64);

/// A step that was carried out: who, from when to when, what, and the answer.
#[derive(Clone, Copy, Debug)]
struct Done {
    cpu: usize,
    begin: u64,
    end: u64,
    operation: Operation,
    answer: Answer,
}

/// Runs the steps one after the other, 100 apart, and stretches their intervals as far as the order
/// of each CPU allows.
fn run(planned: &[Planned]) -> (Vec<Done>, PageMap) {
    let mut map = PageMap::EMPTY;
    let point = |number: usize| 1_000 + 100 * number as u64;
    let mut done: Vec<Done> = Vec::new();
    for (number, &(cpu, operation, before, after)) in planned.iter().enumerate() {
        let answer;
        (answer, map) = map.carry_out(operation, Memory::Suffices);
        let own = |other: &Planned| other.0 == cpu;
        let next = planned[number + 1..].iter().position(own);
        // Half way to the neighbours at most; numbers that no other step has.
        let previous = planned[..number].iter().rposition(own);
        let earliest = previous.map_or(0, |other| (point(other) + point(number)) / 2 + 1);
        let latest = next.map_or(9_000, |skipped| point(number) + 50 * (skipped as u64 + 1) - 1);
        let begin = (point(number) - before).max(earliest);
        let end = (point(number) + 1 + after).min(latest);
        done.push(Done { cpu, begin, end, operation, answer });
    }
    (done, map)
}

fn histories(done: &[Done]) -> [History; 3] {
    let mut histories = [History::new(); 3];
    for step in done {
        let (begin, end) = (Mark::at(step.begin), Mark::at(step.end));
        histories[step.cpu].step(begin, end, &[(step.operation, step.answer)]);
    }
    histories
}

/// Tries every order, without any of the search's ideas.
fn some_order_exists(left: &[Done], map: &PageMap, last: &PageMap) -> bool {
    if left.is_empty() {
        return map == last;
    }
    (0..left.len()).any(|number| {
        let step = left[number];
        let must_wait = left.iter().enumerate().any(|(other, earlier)| {
            earlier.end < step.begin || (earlier.cpu == step.cpu && other < number)
        });
        let rest: Vec<Done> = left[..number].iter().chain(&left[number + 1..]).copied().collect();
        let after = map.after(step.operation, step.answer).filter(|_| !must_wait);
        after.is_some_and(|map| some_order_exists(&rest, &map, last))
    })
}

fn planned(steps: core::ops::RangeInclusive<usize>) -> impl Strategy<Value = Vec<Planned>> {
    prop::collection::vec((0..3_usize, operation(), 0..400_u64, 0..400_u64), steps)
        .prop_filter("a CPU has room for six", |steps| {
            (0..3).all(|cpu| steps.iter().filter(|step| step.0 == cpu).count() <= 6)
        })
}

proptest! {
    #[test]
    fn what_was_run_in_some_order_is_linearizable(steps in planned(1..=12)) {
        let (done, last) = run(&steps);
        prop_assert!(is_linearizable(&PageMap::EMPTY, &histories(&done), &last));
    }

    #[test]
    fn the_search_agrees_with_trying_every_order(
        steps in planned(1..=6),
        changes in prop::collection::vec((any::<prop::sample::Index>(), operation()), 1..3),
        other_end in any::<bool>(),
    ) {
        let (mut done, mut last) = run(&steps);
        for (index, other) in changes {
            // An answer that the operation could have given in another state, or to another wish.
            let (state, step) = (index.index(4) as u8, index.index(done.len()));
            let mapped = |page| (page < state).then(|| Mapping::writable(page + 1));
            let asked = if state == 3 { other } else { done[step].operation };
            let map = PageMap::of(0..PAGES, mapped);
            done[step].answer = map.carry_out(asked, Memory::Suffices).0;
        }
        if other_end {
            last = PageMap::of(0..PAGES, |page| match page {
                0 => None,
                _ => last.carry_out(Operation::query(page), Memory::Suffices).0.found(),
            });
        }
        let expected = some_order_exists(&done, &PageMap::EMPTY, &last);
        let found = is_linearizable(&PageMap::EMPTY, &histories(&done), &last);
        prop_assert_eq!(found, expected, "{:?}", done);
    }
}
