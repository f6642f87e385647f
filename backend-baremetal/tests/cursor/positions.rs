//! Looking around: query, find_next, visit, under locks and without.

use std::collections::BTreeSet;

use weft_core::address::Vaddr;
use weft_core::error::PositionError;
use weft_core::shared::SharedCursor;

use crate::architecture::Architecture;
use crate::fixture::{
    READABLE, Root, all_pages, dump, fill, filled_with, huge_levels, lock, map_huge, nearly_all,
    on_table, page, pages, physical, raw, span,
};

on_every_architecture!(
    a_query_shows_the_page_and_what_it_translates,
    a_query_inside_a_huge_page_shows_all_of_it,
    a_query_of_nothing_shows_what_is_not_mapped,
    find_next_stops_at_every_page_in_turn,
    find_next_finds_the_rest_of_a_huge_page,
    a_visit_shows_each_page_once,
    a_visit_ends_where_it_is_told_to,
);

fn a_query_shows_the_page_and_what_it_translates<G: Architecture>() {
    on_table::<G>(|_, root| {
        fill(root, 1..2, READABLE);
        let mut cursor = lock(root, pages::<G>(0..3));
        let mut shared = SharedCursor::new(root, pages::<G>(0..3)).expect("a range");
        for number in 0..3 {
            cursor.jump(page::<G>(number)).expect("a position");
            shared.jump(page::<G>(number)).expect("a position");
            let expected = (number == 1).then(|| raw::<G>(1, filled_with(1), READABLE));
            for slot in [cursor.query(), shared.query()] {
                let slot = slot.expect("before the end");
                assert_eq!(slot.item.map(|item| *item), expected);
                if number == 1 {
                    assert_eq!(slot.range, pages::<G>(1..2));
                }
            }
            assert_eq!(cursor.vaddr(), page::<G>(number), "a query does not move");
        }
        cursor.jump(page::<G>(3)).expect("the end");
        shared.jump(page::<G>(3)).expect("the end");
        let at_end = Some(PositionError::AtEnd { end: page::<G>(3) });
        assert_eq!((cursor.query().err(), shared.query().err()), (at_end.clone(), at_end));
    });
}

fn a_query_inside_a_huge_page_shows_all_of_it<G: Architecture>() {
    for level in huge_levels::<G>() {
        on_table::<G>(|_, root| {
            let span = span::<G>(level);
            let start = all_pages::<G>() - span;
            map_huge(root, level, start, READABLE);
            for number in [start, start + 1, start + span / 2, start + span - 1] {
                let mut cursor = lock(root, pages::<G>(number..number + 1));
                let shared =
                    SharedCursor::new(root, pages::<G>(number..number + 1)).expect("a range");
                for slot in [cursor.query(), shared.query()] {
                    let slot = slot.expect("before the end");
                    assert_eq!(
                        slot.range,
                        pages::<G>(start..start + span),
                        "a query shows all that the entry translates"
                    );
                    let expected = raw::<G>(level, physical(start) / span, READABLE);
                    assert_eq!(slot.item.map(|item| *item), Some(expected));
                }
            }
        });
    }
}

fn a_query_of_nothing_shows_what_is_not_mapped<G: Architecture>() {
    on_table::<G>(|_, root| {
        // Without a lock nothing is grown, so the slot is one of the root's.
        let mut shared = SharedCursor::new(root, nearly_all::<G>()).expect("a range");
        let slot = shared.query().expect("before the end");
        assert_eq!((slot.range, slot.item.is_none()), (pages::<G>(0..span::<G>(G::LEVELS)), true));
        fill(root, 0..1, READABLE);
        let mut cursor = lock(root, nearly_all::<G>());
        for level in 1..=G::LEVELS {
            let slot = pages::<G>(span::<G>(level)..2 * span::<G>(level));
            cursor.jump(slot.start).expect("a position");
            let found = cursor.query().expect("before the end");
            assert_eq!(
                (found.range, found.item.is_none()),
                (slot.clone(), true),
                "a query shows what is at the position"
            );
            shared.jump(nearly_all::<G>().end).expect("a position");
            shared.jump(slot.start).expect("a position");
            assert_eq!(
                shared.query().expect("before the end").range,
                slot,
                "a query shows all that the entry translates"
            );
        }
    });
}

fn find_next_stops_at_every_page_in_turn<G: Architecture>() {
    on_table::<G>(|_, root| {
        let all = all_pages::<G>();
        let numbers = BTreeSet::from([1, all / 2 - 1, all / 2, all - 1]);
        for &number in &numbers {
            fill(root, number..number + 1, READABLE);
        }
        let mut cursor = lock(root, pages::<G>(1..all));
        let mut shared = SharedCursor::new(root, pages::<G>(1..all)).expect("a range");
        for number in numbers {
            for _ in 0..2 {
                let slot = cursor.find_next().expect("the page is there");
                assert_eq!(
                    (slot.range, cursor.vaddr()),
                    (pages::<G>(number..number + 1), page::<G>(number))
                );
                let slot = shared.find_next().expect("the page is there");
                assert_eq!(
                    (slot.range, shared.vaddr()),
                    (pages::<G>(number..number + 1), page::<G>(number))
                );
            }
            cursor.jump(page::<G>(number + 1)).expect("behind the page");
            shared.jump(page::<G>(number + 1)).expect("behind the page");
        }
        assert!(cursor.find_next().is_none() && shared.find_next().is_none());
        assert_eq!((cursor.vaddr(), shared.vaddr()), (page::<G>(all), page::<G>(all)));
    });
}

fn find_next_finds_the_rest_of_a_huge_page<G: Architecture>() {
    for level in huge_levels::<G>() {
        on_table::<G>(|_, root| {
            let span = span::<G>(level);
            map_huge(root, level, 0, READABLE);
            let mut cursor = lock(root, pages::<G>(1..span));
            let mut shared = SharedCursor::new(root, pages::<G>(1..span)).expect("a range");
            assert_eq!(cursor.find_next().expect("it is there").range, pages::<G>(0..span));
            assert_eq!(shared.find_next().expect("it is there").range, pages::<G>(0..span));
            assert_eq!((cursor.vaddr(), shared.vaddr()), (page::<G>(1), page::<G>(1)));
        });
    }
}

/// What both cursors show between two pages, which has to be the same.
fn visited<G: Architecture>(root: Root<'_, G>, from: u64, to: u64) -> Vec<Vaddr> {
    let first = u64::from(from > 0);
    let range = pages::<G>(first..all_pages::<G>() - 1 + first);
    let mut cursor = lock(root, range.clone());
    cursor.jump(page::<G>(from)).expect("a position");
    let mut seen = Vec::new();
    cursor.visit(page::<G>(to), |vaddr, item| seen.push((vaddr, *item))).expect("a position");
    assert_eq!(cursor.vaddr(), page::<G>(to));
    let mut shared = SharedCursor::new(root, range).expect("a range");
    shared.jump(page::<G>(from)).expect("a position");
    let mut also = Vec::new();
    shared.visit(page::<G>(to), |vaddr, item| also.push((vaddr, *item))).expect("a position");
    assert_eq!(
        (shared.vaddr(), &also),
        (page::<G>(to), &seen),
        "a visit without locks shows something else"
    );
    assert!(seen.iter().all(|shown| dump(root).pages.contains(shown)), "what is shown is there");
    seen.into_iter().map(|(vaddr, _)| vaddr).collect()
}

fn a_visit_shows_each_page_once<G: Architecture>() {
    on_table::<G>(|_, root| {
        let all = all_pages::<G>();
        let mut expected = vec![page::<G>(0), page::<G>(all - 2), page::<G>(all - 1)];
        fill(root, 0..1, READABLE);
        fill(root, all - 2..all, READABLE);
        if huge_levels::<G>().any(|level| level == 2 && level < G::LEVELS) {
            map_huge(root, 2, span::<G>(2), READABLE);
            expected.insert(1, page::<G>(span::<G>(2)));
        }
        assert_eq!(visited(root, 0, all - 1), expected[..expected.len() - 1]);
        assert_eq!(visited(root, 1, all), expected[1..]);
        let listed: Vec<Vaddr> = dump(root).pages.iter().map(|(vaddr, _)| *vaddr).collect();
        assert_eq!(listed, expected);
    });
}

fn a_visit_ends_where_it_is_told_to<G: Architecture>() {
    on_table::<G>(|_, root| {
        fill(root, 0..4, READABLE);
        assert_eq!(visited(root, 1, 1), []);
        assert_eq!(visited(root, 1, 2), [page::<G>(1)]);
        assert_eq!(visited(root, 1, 3), [page::<G>(1), page::<G>(2)]);
        let range = nearly_all::<G>();
        let mut cursor = lock(root, range.clone());
        let mut shared = SharedCursor::new(root, range.clone()).expect("a range");
        cursor.jump(page::<G>(2)).expect("a position");
        shared.jump(page::<G>(2)).expect("a position");
        let rest = page::<G>(2)..range.end;
        for vaddr in [page::<G>(1), page::<G>(0), range.end.plus(4096), Vaddr::new(u64::MAX)] {
            let expected = Err(PositionError::Outside { vaddr, range: rest.clone() });
            assert_eq!(cursor.visit(vaddr, |_, _| panic!("a visit of nothing")), expected);
            assert_eq!(shared.visit(vaddr, |_, _| panic!("a visit of nothing")), expected);
        }
        let vaddr = page::<G>(2).plus(1);
        let expected = Err(PositionError::Unaligned { vaddr });
        assert_eq!(cursor.visit(vaddr, |_, _| panic!("a visit of nothing")), expected);
        assert_eq!(shared.visit(vaddr, |_, _| panic!("a visit of nothing")), expected);
        assert_eq!(
            (cursor.vaddr(), shared.vaddr()),
            (page::<G>(2), page::<G>(2)),
            "neither has moved"
        );
    });
}
