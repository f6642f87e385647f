//! Every allocation of every operation fails in turn: nothing has changed, and nothing is lost.

use weft_core::address::{Level, Vaddr};
use weft_core::cursor::Cursor;
use weft_core::error::{ChangeError, LockError, MapFault, MoveError, OutOfMemory};

use crate::architecture::{Architecture, Whole};
use crate::fixture::{
    READABLE, Root, all_pages, assert_sound, device, dump, huge_levels, lock, map_huge, nearly_all,
    on_table, page, pages, span,
};
use crate::support::{WRITABLE, live, tracked};

on_every_architecture!(
    locking_fails_without_a_trace,
    mapping_a_page_fails_without_a_trace,
    mapping_many_pages_fails_without_a_trace,
    mapping_more_pages_than_there_is_memory_fails_without_a_trace,
    unmapping_a_part_fails_without_a_trace,
    protecting_a_part_fails_without_a_trace,
    taking_a_part_fails_without_a_trace,
    protecting_the_next_part_fails_without_a_trace,
    splitting_fails_without_a_trace,
    replacing_a_part_fails_without_a_trace,
    moving_fails_without_a_trace,
    moving_parts_fails_without_a_trace,
);

/// Runs `body` until it says that it worked, and each time lets one more allocation succeed before
/// one fails. Returns how many had to succeed.
#[track_caller]
pub(crate) fn allocations_of<G: Architecture>(
    root: Root<'_, G>,
    mut body: impl FnMut() -> bool,
) -> u64 {
    let processors = root.backend().processors();
    for allocations in 0.. {
        let before = (dump(root), live(root.backend()));
        processors.fail_after(allocations);
        let worked = body();
        if processors.cancel_failure() {
            assert!(worked, "an operation ran out of memory that was there");
            return allocations;
        }
        assert!(!worked, "an operation worked without the memory that it asked for");
        assert_eq!((dump(root), live(root.backend())), before, "a failure leaves traces");
    }
    unreachable!("operations take a bounded number of frames")
}

fn locking_fails_without_a_trace<G: Architecture>() {
    for numbers in [0..1, all_pages::<G>() - 1..all_pages::<G>()] {
        on_table::<G>(|_, root| {
            let mut held = None;
            let allocations = allocations_of(root, || {
                match Cursor::lock(root, pages::<G>(numbers.clone())) {
                    Ok(cursor) => held = Some(cursor),
                    Err(error) => {
                        assert_eq!(error, LockError::OutOfMemory);
                        assert_sound(root);
                    }
                }
                held.is_some()
            });
            assert_eq!(allocations, u64::from(G::LEVELS) - 1);
        });
    }
}

fn mapping_a_page_fails_without_a_trace<G: Architecture>() {
    on_table::<G>(|machine, root| {
        let mut cursor = lock(root, nearly_all::<G>());
        cursor.jump(page::<G>(1)).expect("a position");
        let mut item = Some(tracked(machine));
        let allocations =
            allocations_of(root, || match cursor.map(item.take().expect("the item comes back")) {
                Ok(()) => true,
                Err(error) => {
                    assert_eq!(error.reason, MapFault::OutOfMemory);
                    assert_eq!(cursor.vaddr(), page::<G>(1), "the cursor has moved");
                    item = Some(error.back);
                    false
                }
            });
        assert_eq!(allocations, u64::from(G::LEVELS) - 1);
        assert_eq!(cursor.vaddr(), page::<G>(2));
    });
}

fn mapping_many_pages_fails_without_a_trace<G: Architecture>() {
    on_table::<G>(|_, root| {
        let middle = all_pages::<G>() / 2;
        let mut cursor = lock(root, nearly_all::<G>());
        cursor.jump(page::<G>(middle - 1)).expect("a position");
        let allocations = allocations_of(root, || {
            let mut asked = 0;
            let make = |_| {
                asked += 1;
                device::<G>(1, 1, READABLE)
            };
            match cursor.map_pages(page::<G>(middle + 1), make) {
                Ok(()) => true,
                Err(error) => {
                    assert_eq!(error.reason, MapFault::OutOfMemory);
                    assert!(error.back.is_none());
                    assert_eq!((cursor.vaddr(), asked), (page::<G>(middle - 1), 0));
                    false
                }
            }
        });
        assert_eq!(allocations, 2 * (u64::from(G::LEVELS) - 1), "a branch on either side");
    });
}

fn mapping_more_pages_than_there_is_memory_fails_without_a_trace<G: Architecture>() {
    let nodes = all_pages::<G>() / G::ENTRIES as u64;
    if nodes < 2048 {
        return;
    }
    on_table::<G>(|_, root| {
        let mut cursor = lock(root, nearly_all::<G>());
        let before = live(root.backend());
        for end in [nearly_all::<G>().end, page::<G>(2048 * G::ENTRIES as u64)] {
            let none = |_| panic!("no item is asked for");
            let error = cursor.map_pages(end, none).expect_err("there are not so many frames");
            assert_eq!(error.reason, MapFault::OutOfMemory);
            assert_eq!((live(root.backend()), cursor.vaddr()), (before, page::<G>(0)));
        }
    });
}

type Change<G> = fn(&mut Cursor<'_, Whole<G>>, Vaddr) -> Result<u64, ChangeError>;

/// An operation on a huge page that the range sticks into from both ends, and on one of which it
/// has a part at its end only.
fn a_part_fails_without_a_trace<G: Architecture>(change: Change<G>) {
    for level in huge_levels::<G>() {
        let span = span::<G>(level);
        let below = u64::from(level) - 1;
        // Both ends are in the same part only where a part is not the smallest page.
        for (range, splits) in
            [(1..span, below), (0..span - 1, below), (1..span - 1, 2 * below - 1)]
        {
            if range.is_empty() {
                continue;
            }
            on_table::<G>(|_, root| {
                map_huge(root, level, 0, READABLE);
                let mut cursor = lock(root, pages::<G>(range.clone()));
                let allocations =
                    allocations_of(root, || match change(&mut cursor, page::<G>(range.end)) {
                        Ok(frames) => {
                            assert_eq!(frames, range.end - range.start);
                            true
                        }
                        Err(error) => {
                            assert_eq!(error, ChangeError::OutOfMemory);
                            assert_eq!(cursor.vaddr(), page::<G>(range.start));
                            false
                        }
                    });
                assert_eq!(allocations, splits);
            });
        }
    }
}

fn unmapping_a_part_fails_without_a_trace<G: Architecture>() {
    a_part_fails_without_a_trace::<G>(|cursor, end| cursor.unmap(end));
}

fn protecting_a_part_fails_without_a_trace<G: Architecture>() {
    a_part_fails_without_a_trace::<G>(|cursor, end| cursor.protect(end, |_| WRITABLE));
}

/// The same for one step at page 1 of a huge page.
fn a_step_fails_without_a_trace<G: Architecture>(
    step: fn(&mut Cursor<'_, Whole<G>>) -> Result<bool, OutOfMemory>,
) {
    for level in huge_levels::<G>() {
        on_table::<G>(|_, root| {
            map_huge(root, level, 0, READABLE);
            let mut cursor = lock(root, nearly_all::<G>());
            cursor.jump(page::<G>(1)).expect("a position");
            let allocations = allocations_of(root, || match step(&mut cursor) {
                Ok(found) => found,
                Err(OutOfMemory) => {
                    assert_eq!(cursor.vaddr(), page::<G>(1), "the cursor is at the page");
                    false
                }
            });
            assert_eq!(allocations, u64::from(level) - 1);
            assert_eq!(cursor.vaddr(), page::<G>(2));
        });
    }
}

fn taking_a_part_fails_without_a_trace<G: Architecture>() {
    a_step_fails_without_a_trace::<G>(|cursor| cursor.take_next().map(|taken| taken.is_some()));
}

fn protecting_the_next_part_fails_without_a_trace<G: Architecture>() {
    a_step_fails_without_a_trace::<G>(|cursor| {
        cursor.protect_next(|_| WRITABLE).map(|changed| changed.is_some())
    });
}

fn splitting_fails_without_a_trace<G: Architecture>() {
    for level in huge_levels::<G>() {
        on_table::<G>(|_, root| {
            map_huge(root, level, 0, READABLE);
            let mut cursor = lock(root, pages::<G>(1..2));
            let allocations = allocations_of(root, || match cursor.split() {
                Ok(()) => true,
                Err(error) => {
                    assert_eq!(error, ChangeError::OutOfMemory);
                    false
                }
            });
            assert_eq!(allocations, 1);
            let item = cursor.query().expect("before the end").item.expect("a part is there");
            assert_eq!(Some(item.level), Level::new(level).below());
        });
    }
}

fn replacing_a_part_fails_without_a_trace<G: Architecture>() {
    for level in huge_levels::<G>() {
        on_table::<G>(|machine, root| {
            map_huge(root, level, 0, READABLE);
            let mut cursor = lock(root, nearly_all::<G>());
            cursor.jump(page::<G>(1)).expect("a position");
            let mut item = Some(tracked(machine));
            let allocations = allocations_of(root, || {
                match cursor.replace(item.take().expect("the item comes back")) {
                    Ok(old) => old.level == Level::LEAF,
                    Err(error) => {
                        assert_eq!(error.reason, MapFault::OutOfMemory);
                        assert_eq!(cursor.vaddr(), page::<G>(1), "the cursor has moved");
                        item = Some(error.back);
                        false
                    }
                }
            });
            assert_eq!(allocations, u64::from(level) - 1);
            assert_eq!(cursor.vaddr(), page::<G>(2));
        });
    }
}

/// Moves pages until that works. Returns how many allocations it took.
fn moving_fails<G: Architecture>(
    root: Root<'_, G>,
    from: std::ops::Range<u64>,
    to: u64,
    frames: u64,
) -> u64 {
    let mut cursor = lock(root, nearly_all::<G>());
    cursor.jump(page::<G>(from.start)).expect("a position");
    allocations_of(root, || match cursor.move_pages(page::<G>(from.end), page::<G>(to)) {
        Ok(moved) => {
            assert_eq!(moved, frames);
            true
        }
        Err(error) => {
            assert_eq!(error, MoveError::OutOfMemory);
            assert_eq!(cursor.vaddr(), page::<G>(from.start), "the cursor has moved");
            false
        }
    })
}

fn moving_fails_without_a_trace<G: Architecture>() {
    on_table::<G>(|_, root| {
        let half = all_pages::<G>() / 2;
        crate::fixture::fill(root, 0..1, READABLE);
        let allocations = moving_fails(root, 0..1, half, 1);
        assert_eq!(allocations, u64::from(G::LEVELS) - 1);
    });
}

fn moving_parts_fails_without_a_trace<G: Architecture>() {
    for level in huge_levels::<G>() {
        on_table::<G>(|_, root| {
            let (span, half) = (span::<G>(level), all_pages::<G>() / 2);
            if span >= half {
                return;
            }
            map_huge(root, level, 0, READABLE);
            let allocations = moving_fails(root, 1..2, half, 1);
            assert_eq!(allocations, u64::from(level) - 1 + u64::from(G::LEVELS) - 1);
        });
    }
}
