//! What one CPU may use under a tag that it has come back to.
//!
//! Both tags are of the same table here: what is kept under one is told from what is kept under the
//! other by the time at which it was read.

use super::*;

/// The page is mapped to another frame, and nothing is flushed.
fn remap(desk: &Desk) {
    desk.change(desk.leaf, 0, item(desk.frames[1], USED));
}

#[test]
fn what_is_cached_under_a_tag_survives_a_switch() {
    let role: &[Role] = &[|desk| {
        desk.load(0, false);
        remap(desk);
        desk.load(1, false);
        let other = desk.read(0);
        desk.load(0, true);
        vec![other, desk.read(0)]
    }];
    gives(|_| {}, role, 2, &[[6, 5], [6, 6]]);
}

#[test]
fn a_tag_that_is_not_kept_is_empty() {
    let role: &[Role] = &[|desk| {
        desk.load(0, false);
        remap(desk);
        desk.load(1, false);
        desk.load(0, false);
        vec![desk.read(0)]
    }];
    gives(|_| {}, role, 1, &[[6]]);
}

#[test]
fn another_tag_is_left_alone_by_an_invalidation() {
    let role: &[Role] = &[|desk| {
        desk.load(0, false);
        remap(desk);
        desk.load(1, false);
        desk.invalidate(0);
        desk.masked(|_| desk.model.forget_flushed(actor(), Flush::Everything));
        desk.load(0, true);
        vec![desk.read(0)]
    }];
    gives(|_| {}, role, 2, &[[5], [6]]);
}

#[test]
fn running_on_no_root_drops_no_tag() {
    let role: &[Role] = &[|desk| {
        desk.load(1, false);
        remap(desk);
        desk.masked(|_| {
            desk.model.run_on(actor(), None);
            desk.model.forget_flushed(actor(), Flush::Everything);
        });
        desk.load(1, true);
        vec![desk.read(0)]
    }];
    gives(|_| {}, role, 2, &[[5], [6]]);
}

#[test]
fn an_invalidated_page_stays_invalidated_under_its_tag() {
    let role: &[Role] = &[|desk| {
        desk.load(0, false);
        remap(desk);
        desk.invalidate(0);
        desk.load(1, false);
        desk.load(0, true);
        vec![desk.read(0)]
    }];
    gives(|_| {}, role, 1, &[[6]]);
}

/// Nothing walks through the node while the other tag is current.
#[test]
fn upper_entries_under_another_tag_are_not_walked_through() {
    let role: &[Role] = &[|desk| {
        desk.load(0, false);
        let before = desk.read(0);
        desk.change(desk.middle, 0, 0);
        desk.load(1, false);
        desk.model.memory().free(actor(), desk.leaf);
        let away = desk.read(0);
        desk.load(0, false);
        vec![before, away, desk.read(0)]
    }];
    gives(|_| {}, role, 1, &[[5, 0, 0]]);
}
