//! What is flushed: pages that lie close together one by one, and everything beyond that.

use std::ops::Range;

use weft_core::address::{FRAME_SIZE, Level, Paddr};
use weft_core::geometry::Geometry;
use weft_core::space::AddressSpace;
use weft_core::sync::{Backend, Flush, Request};

use crate::played::{Machine, Player, READABLE, Whole, leaf, on_played, pages};
use crate::support::untracked_at;

on_each!([
    on_four_levels: weft_core::geometry::FourLevels,
    on_five_levels: weft_core::geometry::FiveLevels,
]
    pages_next_to_each_other_are_flushed_one_by_one
    as_many_pages_as_there_may_be_and_one_more
    what_lies_between_pages_counts
    the_order_of_pages_does_not_matter
    huge_pages_have_their_length
    pages_of_two_sizes_are_flushed_with_everything
    nodes_are_flushed_with_everything
    a_node_that_was_flushed_is_not_flushed_again
);

/// Three huge pages of a level follow each other: two to unmap, and one that keeps the node.
const HUGE: u64 = 3;
/// So many pages are at the start of the table; the last one keeps the leaf.
const PAGES: u64 = 100;

/// The number of the first page of the smallest size in a huge page.
fn huge<G: Geometry>(level: u8, number: u64) -> u64 {
    (1 + number) * G::entry_frames(Level::new(level))
}

/// What is asked for when these are unmapped, one after the other, by one cursor.
fn asked<G: Geometry>(unmapped: &[Range<u64>]) -> Request {
    let mut request = None;
    on_played::<G>(|machine, changer| {
        let space: AddressSpace<Whole<G>> = AddressSpace::allocate(machine).expect("enough");
        changer.map(&space, 0..PAGES);
        for (level, number) in
            [2, 3].into_iter().flat_map(|level| (0..HUGE).map(move |n| (level, n)))
        {
            let range = huge::<G>(level, number)..huge::<G>(level, number + 1);
            changer.change(&space, range, |cursor| {
                let page = untracked_at(Paddr::new(0), Level::new(level), READABLE);
                cursor.map(page).expect("nothing is there");
            });
        }
        let mut holder = Player::new(machine, 0);
        holder.activate(&space);
        changer.change(&space, 0..huge::<G>(3, HUGE), |cursor| {
            for part in unmapped {
                let part = pages::<G>(part.clone());
                cursor.jump(part.start).expect("a position");
                assert!(cursor.unmap(part.end).expect("whole pages") > 0);
            }
        });
        let found = machine.processors().asked();
        assert_eq!(found.len(), 1, "one cursor asks once");
        request = Some(found[0].request);
    });
    request.expect("the holder was asked")
}

/// That these pages are flushed one by one, and no nodes.
#[track_caller]
fn assert_pages<G: Geometry>(unmapped: &[Range<u64>], first: u64, length: u64, count: u32) {
    let request = asked::<G>(unmapped);
    let first = pages::<G>(first..first + 1).start;
    let flush = request.flush();
    let expected = Flush::Pages { first, length, count };
    assert_eq!(flush, expected, "what lies from the lowest to the highest page is flushed");
    assert!(!request.nodes(), "no node is gone");
    let named: Vec<_> = flush.pages().expect("not everything").collect();
    let expected: Vec<_> = (0..count.into()).map(|page| first.plus(page * length)).collect();
    assert_eq!(named, expected, "each page is named");
}

#[track_caller]
fn assert_everything<G: Geometry>(unmapped: &[Range<u64>], nodes: bool) {
    let request = asked::<G>(unmapped);
    assert_eq!(request.flush(), Flush::Everything, "there is no list of these pages");
    assert_eq!(request.nodes(), nodes, "nodes are flushed if some are gone");
    assert!(request.flush().pages().is_none());
}

fn pages_next_to_each_other_are_flushed_one_by_one<G: Geometry>() {
    let one = asked::<G>(&[7..8]);
    let at = pages::<G>(7..8).start;
    assert_eq!((one.flush(), one.nodes()), (Flush::Page(at), false));
    assert_eq!(one.flush().pages().expect("a page").collect::<Vec<_>>(), [at]);
    assert_pages::<G>(&[7..9], 7, FRAME_SIZE, 2);
    assert_pages::<G>(&[7..8, 8..9], 7, FRAME_SIZE, 2);
}

fn as_many_pages_as_there_may_be_and_one_more<G: Geometry>() {
    let most = Machine::<G>::FLUSH_PAGES_MAX;
    assert_eq!(most, 32);
    assert_pages::<G>(&[5..37], 5, FRAME_SIZE, 32);
    assert_everything::<G>(&[5..38], false);
}

fn what_lies_between_pages_counts<G: Geometry>() {
    assert_pages::<G>(&[0..1, 3..4], 0, FRAME_SIZE, 4);
    assert_pages::<G>(&[0..1, 31..32], 0, FRAME_SIZE, 32);
    assert_everything::<G>(&[0..1, 32..33], false);
    assert_everything::<G>(&[0..1, 98..99], false);
}

fn the_order_of_pages_does_not_matter<G: Geometry>() {
    assert_pages::<G>(&[9..10, 3..5], 3, FRAME_SIZE, 7);
    assert_pages::<G>(&[8..9, 3..4, 10..11], 3, FRAME_SIZE, 8);
    assert_pages::<G>(&[31..32, 0..1], 0, FRAME_SIZE, 32);
    assert_everything::<G>(&[32..33, 0..1], false);
}

fn huge_pages_have_their_length<G: Geometry>() {
    for level in [2, 3] {
        let length = G::entry_span(Level::new(level));
        let [first, second, third] = [0, 1, 2].map(|number| huge::<G>(level, number));
        let one = asked::<G>(&[first..second]);
        assert_eq!(one.flush(), Flush::Page(pages::<G>(first..second).start));
        assert_pages::<G>(&[first..third], first, length, 2);
        assert_pages::<G>(&[second..third, first..second], first, length, 2);
    }
}

fn pages_of_two_sizes_are_flushed_with_everything<G: Geometry>() {
    let huge = |level| huge::<G>(level, 0)..huge::<G>(level, 1);
    assert_everything::<G>(&[0..1, huge(2)], false);
    assert_everything::<G>(&[huge(2), 0..1], false);
    assert_everything::<G>(&[huge(2), huge(3)], false);
    assert_everything::<G>(&[huge(3), huge(2)], false);
}

fn nodes_are_flushed_with_everything<G: Geometry>() {
    assert_everything::<G>(&[0..leaf::<G>()], true);
    // Whatever else is owed, and whichever was first.
    let huge = huge::<G>(2, 0)..huge::<G>(2, 1);
    assert_everything::<G>(&[0..leaf::<G>(), huge.clone()], true);
    assert_everything::<G>(&[huge, 0..leaf::<G>()], true);
}

fn a_node_that_was_flushed_is_not_flushed_again<G: Geometry>() {
    on_played::<G>(|machine, changer| {
        let space: AddressSpace<Whole<G>> = AddressSpace::allocate(machine).expect("enough");
        let second = leaf::<G>();
        for numbers in [0..1, second..second + 2] {
            changer.map(&space, numbers);
        }
        let mut holder = Player::new(machine, 0);
        holder.activate(&space);
        changer.change(&space, 0..second + 1, |cursor| {
            for (end, nodes) in [(second, true), (second + 1, false)] {
                cursor.unmap(pages::<G>(0..end).end).expect("whole pages");
                cursor.flush();
                let asked = machine.processors().asked();
                let [asked] = &asked[..] else { panic!("a flush asks once: {asked:?}") };
                assert_eq!(asked.request.nodes(), nodes, "the node was flushed before");
            }
        });
    });
}
