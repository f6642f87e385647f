//! What one CPU may use after its table has changed.

use super::*;

/// The page is mapped to another frame, and nothing is flushed.
const REMAPPED: &[Role] = &[|desk| {
    desk.run();
    desk.change(desk.leaf, 0, item(desk.frames[1], USED));
    vec![desk.read(0)]
}];

#[test]
fn what_was_used_may_be_kept() {
    gives(|_| {}, REMAPPED, 2, &[[5], [6]]);
}

#[test]
fn what_lacks_accessed_at_any_level_is_not_kept() {
    let not_used: [fn(&Desk); 3] = [
        |desk| desk.change(desk.root, 0, F::node(desk.middle)),
        |desk| desk.change(desk.middle, 0, F::node(desk.leaf)),
        |desk| desk.change(desk.leaf, 0, item(desk.frames[0], WRITE)),
    ];
    for prepare in not_used {
        gives(prepare, REMAPPED, 1, &[[6]]);
    }
}

#[test]
fn an_access_notes_itself_at_every_level() {
    let fresh = |desk: &Desk| {
        desk.change(desk.root, 0, F::node(desk.middle));
        desk.change(desk.middle, 0, F::node(desk.leaf));
        desk.change(desk.leaf, 0, item(desk.frames[0], WRITE));
    };
    let role: &[Role] = &[|desk| {
        desk.run();
        let before = desk.read(0);
        desk.change(desk.leaf, 0, item(desk.frames[1], USED));
        vec![before, desk.read(0)]
    }];
    gives(fresh, role, 2, &[[5, 5], [5, 6]]);
}

#[test]
fn what_is_absent_is_not_kept() {
    let role: &[Role] = &[|desk| {
        desk.run();
        desk.change(desk.leaf, 0, item(desk.frames[0], USED));
        vec![desk.read(0)]
    }];
    gives(|desk| desk.change(desk.leaf, 0, 0), role, 1, &[[5]]);
}

/// The translation that was kept is of the frame with 5, and clean. The write goes to where the
/// entry leads now.
#[test]
fn dirty_is_set_in_the_entry_as_it_is_now() {
    let role: &[Role] = &[|desk| {
        desk.run();
        desk.change(desk.leaf, 0, item(desk.frames[1], WRITE | USED));
        let written = desk.write(0, 9);
        let now = desk.entry(desk.leaf, 0).load(&ENTRY_UNDER_LOCK);
        assert_eq!(now, item(desk.frames[1], WRITE | USED | PageFlags::DIRTY));
        let contents = [0, 1].map(|number| desk.model.read_contents(desk.frames[number]));
        vec![written, contents[0], contents[1]]
    }];
    gives(|_| {}, role, 2, &[[1, 5, 9]]);
}

#[test]
fn a_write_through_a_clean_translation_faults_where_nothing_is_mapped_now() {
    let role: &[Role] = &[|desk| {
        desk.run();
        desk.change(desk.leaf, 0, 0);
        let written = desk.write(0, 9);
        let now = desk.entry(desk.leaf, 0).load(&ENTRY_UNDER_LOCK);
        vec![written, now, desk.model.read_contents(desk.frames[0])]
    }];
    gives(|_| {}, role, 2, &[[0, 0, 5]]);
}

/// Where the kept translation is dirty, no entry is looked at.
#[test]
fn a_write_through_a_dirty_translation_goes_where_that_leads() {
    let role: &[Role] = &[|desk| {
        desk.run();
        desk.change(desk.leaf, 0, 0);
        let written = desk.write(0, 9);
        vec![written, desk.model.read_contents(desk.frames[0])]
    }];
    let dirty = |desk: &Desk| {
        let flags = WRITE | USED | PageFlags::DIRTY;
        desk.change(desk.leaf, 0, item(desk.frames[0], flags));
    };
    gives(dirty, role, 2, &[[0, 5], [1, 9]]);
}

/// A right is given, and nothing is flushed: at most one fault comes of it. It may come late: a CPU
/// may use what it keeps and what it finds by turns, as the SDM promises no single translation.
#[test]
fn a_fault_makes_hardware_forget_the_page() {
    let role: &[Role] = &[|desk| {
        desk.run();
        desk.change(desk.leaf, 0, item(desk.frames[0], WRITE | USED));
        vec![desk.write(0, 9), desk.write(0, 9)]
    }];
    let read_only = |desk: &Desk| desk.change(desk.leaf, 0, item(desk.frames[0], USED));
    gives(read_only, role, 4, &[[0, 1], [1, 0], [1, 1]]);
}

/// Another node takes the place of an empty one, and nothing is flushed: the same.
#[test]
fn a_fault_makes_hardware_forget_what_led_to_it() {
    let role: &[Role] = &[|desk| {
        desk.run();
        desk.change(desk.middle, 0, node(desk.other));
        vec![desk.read(0), desk.read(0)]
    }];
    gives(|desk| desk.change(desk.leaf, 0, 0), role, 3, &[[0, 7], [7, 0], [7, 7]]);
}

/// The node of the pages 0 and 1 is replaced; page 1 alone is invalidated, and the node freed. What
/// may be kept is the translation of page 0 as a whole, old or new: no walk comes to the node.
#[test]
fn one_invalidation_drops_all_upper_entries_and_no_other_page() {
    let role: &[Role] = &[|desk| {
        desk.run();
        desk.change(desk.middle, 0, node(desk.other));
        desk.invalidate(1);
        desk.model.memory().free(actor(), desk.leaf);
        vec![desk.read(1), desk.read(0)]
    }];
    let full = |desk: &Desk| desk.change(desk.other, 1, item(desk.frames[2], USED));
    gives(full, role, 3, &[[7, 5], [7, 7]]);
}

/// The invalidated page is not in the node that is freed.
#[test]
fn upper_entries_go_wherever_the_invalidated_page_is() {
    let role: &[Role] = &[|desk| {
        desk.run();
        desk.change(desk.middle, 0, 0);
        desk.invalidate(2);
        desk.model.memory().free(actor(), desk.leaf);
        vec![desk.read(0)]
    }];
    gives(|_| {}, role, 2, &[[0], [5]]);
}

#[test]
fn an_invalidated_page_is_walked_to() {
    let role: &[Role] = &[|desk| {
        desk.run();
        desk.change(desk.leaf, 0, item(desk.frames[1], USED));
        desk.invalidate(0);
        vec![desk.read(0)]
    }];
    gives(|_| {}, role, 1, &[[6]]);
}

#[test]
fn loading_a_root_drops_everything() {
    let role: &[Role] = &[|desk| {
        desk.run();
        desk.change(desk.leaf, 0, item(desk.frames[1], USED));
        desk.change(desk.middle, 1, 0);
        desk.run();
        vec![desk.read(0), desk.read(2)]
    }];
    gives(|_| {}, role, 1, &[[6, 0]]);
}
