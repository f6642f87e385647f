//! Nodes that become empty go, as far up as they are empty, and come back as free frames.

use weft_core::address::{Level, Paddr};
use weft_core::cursor::Cursor;
use weft_core::node::Node;

use crate::architecture::{Architecture, Whole};
use crate::fixture::{
    READABLE, all_pages, assert_sound, dump, fill, lock, on_table, on_watched_table, page, pages,
    span,
};
use crate::support::{child, live, node, on_machine, online, tracked, untracked_at};

on_every_architecture!(
    a_leaf_that_is_emptied_page_by_page_goes,
    every_node_above_goes_up_to_the_first_with_others,
    nodes_inside_of_a_range_go_too,
    what_was_unmapped_waits_for_a_grace_period,
    a_cursor_that_must_not_wait_leaves_what_it_cannot_lock,
);

fn a_leaf_that_is_emptied_page_by_page_goes<G: Architecture>() {
    on_table::<G>(|machine, root| {
        let leaf = G::ENTRIES as u64;
        let mut cursor = lock(root, pages::<G>(0..leaf));
        cursor.map_pages(page::<G>(leaf), |_| tracked(machine)).expect("nothing is there");
        drop(cursor);
        // From both ends inwards, each under a cursor of its own.
        for step in 0..leaf {
            assert_eq!(dump(root).nodes.len(), usize::from(G::LEVELS), "the leaf has pages");
            let number = if step % 2 == 0 { step / 2 } else { leaf - 1 - step / 2 };
            assert_eq!(
                lock(root, pages::<G>(number..number + 1)).unmap(page::<G>(number + 1)),
                Ok(1)
            );
            assert_sound(root);
        }
        assert_eq!(dump(root).nodes.len(), 1, "only the root is left");
    });
}

fn every_node_above_goes_up_to_the_first_with_others<G: Architecture>() {
    for level in 1..=G::LEVELS {
        on_table::<G>(|_, root| {
            // The other page leaves the way at a node of this level.
            let other = span::<G>(level) * (G::ENTRIES as u64 - 1);
            fill(root, 0..1, READABLE);
            fill(root, other..other + 1, READABLE);
            let mut cursor = lock(root, pages::<G>(0..1));
            assert!(cursor.take_next().expect("no split").is_some());
            drop(cursor);
            assert_eq!(dump(root).nodes.len(), usize::from(G::LEVELS), "one way is left");
            assert_sound(root);
        });
    }
}

fn nodes_inside_of_a_range_go_too<G: Architecture>() {
    on_table::<G>(|_, root| {
        let all = all_pages::<G>();
        let numbers = [1, 2, all / 2 - 1, all / 2, all - 2, all - 1];
        for number in numbers {
            if dump(root).pages.iter().all(|(vaddr, _)| *vaddr != page::<G>(number)) {
                fill(root, number..number + 1, READABLE);
            }
        }
        let mut cursor = lock(root, pages::<G>(1..all));
        for number in numbers {
            cursor.jump(page::<G>(number)).expect("a position");
            cursor.unmap(page::<G>(number + 1)).expect("no split");
        }
        assert_eq!(dump(root).pages, []);
        drop(cursor);
        assert_eq!(dump(root).nodes.len(), 1, "only the root is left");
    });
}

fn what_was_unmapped_waits_for_a_grace_period<G: Architecture>() {
    on_machine::<G>(|machine| {
        let mut cpu = online(machine, 0);
        let mut other = online(machine, 1);
        let root: Node<Whole<G>> = node(machine, G::ROOT);
        {
            let section = cpu.read_side();
            let mut cursor = lock(root.borrow(&section), pages::<G>(0..1));
            cursor.map(tracked(machine)).expect("nothing is there");
            cursor.jump(page::<G>(0)).expect("the start");
            assert_eq!(cursor.unmap(page::<G>(1)), Ok(1));
        }
        let all = u64::from(G::LEVELS) + 1;
        assert_eq!(live(machine), all, "somebody may be looking");
        cpu.quiescent();
        assert_eq!(live(machine), all, "the other CPU may be looking");
        other.quiescent();
        // What the pruning of upper nodes retired joins the same batch.
        assert_eq!(live(machine), 1);
    });
}

/// Whichever node of the way is locked. On a watched table, a CPU that waits panics.
fn a_cursor_that_must_not_wait_leaves_what_it_cannot_lock<G: Architecture>() {
    for held in 0..usize::from(G::LEVELS) - 1 {
        on_watched_table::<G>(|_, root| {
            let item = untracked_at(Paddr::of_frame(1), Level::LEAF, READABLE);
            lock(root, pages::<G>(0..1)).map(item).expect("nothing is there");
            let mut cursor = Cursor::try_lock(root, pages::<G>(0..1)).expect("no CPU has it");
            assert_eq!(cursor.unmap(page::<G>(1)), Ok(1));
            let node = (0..held).fold(root, |node, _| child(node, 0));
            let guard = node.try_lock().expect("the cursor holds the leaf only");
            drop(cursor);
            drop(guard);
            assert_eq!(dump(root).nodes.len(), held + 2, "the child of a locked node stays");
            // The cursor that comes by next takes it out.
            drop(lock(root, pages::<G>(0..1)));
            assert_eq!(dump(root).nodes.len(), 1, "only the root is left");
        });
    }
}
