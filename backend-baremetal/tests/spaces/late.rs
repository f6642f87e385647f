//! Requests that a CPU serves late, or not in the order of their numbers: it never notes more than
//! it has forgotten.
//!
//! Of two CPUs that flush at the same time, the one with the higher number may be the first whose
//! request arrives. The requests are held back here, and served by hand.

use weft_core::geometry::Geometry;
use weft_core::space::AddressSpace;
use weft_core::sync::{Flush, Noted, Request};

use crate::played::{Machine, Player, Whole, leaf, mapped, on_played, serve};
use crate::support::node;

on_every_geometry!(
    in_order_every_request_moves_the_note,
    a_page_whose_predecessor_is_missing_leaves_the_note,
    a_request_for_everything_moves_the_note_at_once,
    a_lower_number_does_not_move_the_note_back,
    a_request_that_comes_after_a_switch_is_noted_nowhere,
    a_request_of_no_space_is_noted_for_other_tags_alone,
);

struct Fixture<'m, G: Geometry> {
    machine: &'m Machine<G>,
    space: AddressSpace<Whole<G>>,
    changer: &'m mut Player<Machine<G>>,
    holder: Player<Machine<G>>,
    /// What the holder notes before the requests.
    before: u64,
}

/// Runs `body` with a processor that does not answer on its own.
fn on_late<G: Geometry>(body: impl FnOnce(&mut Fixture<'_, G>)) {
    on_played::<G>(|machine, changer| {
        let space = mapped(machine, changer);
        let mut holder = Player::new(machine, 0);
        holder.activate(&space);
        machine.processors().hold_back(true);
        let before = holder.noted().clean;
        body(&mut Fixture { machine, space, changer, holder, before });
    });
}

impl<G: Geometry> Fixture<'_, G> {
    /// The request of a change that takes out a page.
    fn page(&mut self) -> Request {
        self.changer.unmap(&self.space, 0..1);
        self.changer.map(&self.space, 0..1);
        let request = self.request();
        assert!(matches!(request.flush(), Flush::Page(_)));
        request
    }

    /// The request of a change that takes out a node.
    fn node(&mut self) -> Request {
        self.changer.unmap(&self.space, 0..leaf::<G>());
        self.changer.map(&self.space, 0..1);
        self.changer.map(&self.space, leaf::<G>() - 1..leaf::<G>());
        let request = self.request();
        assert_eq!(request.flush(), Flush::Everything);
        request
    }

    fn request(&self) -> Request {
        let asked = self.machine.processors().asked();
        let [asked] = &asked[..] else { panic!("one change asks once: {asked:?}") };
        asked.request
    }

    fn serve(&mut self, request: &Request) {
        serve(*self.machine, self.holder.id, request);
        let invalidated = self.machine.processors().invalidated();
        assert_eq!(invalidated, [(0, request.flush())], "it is served whatever was noted");
    }

    /// How many flushes the holder has noted.
    fn noted(&mut self) -> u64 {
        self.holder.noted().clean - self.before
    }

    /// What the holder forgets when it has been lazy.
    fn forgotten(&mut self) -> usize {
        self.holder.lazy();
        self.holder.activate(&self.space);
        self.machine.processors().invalidated().len()
    }
}

fn in_order_every_request_moves_the_note<G: Geometry>() {
    on_late::<G>(|it| {
        for (number, makes_page) in (1..).zip([true, true, false, true, false, false, true]) {
            let request = if makes_page { it.page() } else { it.node() };
            assert_eq!(it.noted(), number - 1, "it is noted before it is served");
            it.serve(&request);
            assert_eq!(it.noted(), number, "a request that comes in order is not noted");
        }
        assert_eq!(it.forgotten(), 0);
    });
}

fn a_page_whose_predecessor_is_missing_leaves_the_note<G: Geometry>() {
    on_late::<G>(|it| {
        let [first, second] = [it.page(), it.page()];
        it.serve(&second);
        assert_eq!(it.noted(), 0, "the first one may still be cached");
        it.serve(&first);
        assert_eq!(it.noted(), 1, "no more than was served in order");
        assert_eq!(it.forgotten(), 1, "the note has stayed behind");
        assert_eq!((it.noted(), it.forgotten()), (2, 0));
    });
    on_late::<G>(|it| {
        let [_missing, second] = [it.page(), it.page()];
        it.serve(&second);
        assert_eq!(it.forgotten(), 1, "what was not served is cached");
    });
    on_late::<G>(|it| {
        let [_missing, second] = [it.node(), it.page()];
        it.serve(&second);
        assert_eq!(it.forgotten(), 1, "what was not served is cached");
    });
}

fn a_request_for_everything_moves_the_note_at_once<G: Geometry>() {
    on_late::<G>(|it| {
        let [_, _, third] = [it.page(), it.page(), it.node()];
        it.serve(&third);
        assert_eq!(it.noted(), 3, "everything is flushed, and that is not noted");
        assert_eq!(it.forgotten(), 0);
    });
}

fn a_lower_number_does_not_move_the_note_back<G: Geometry>() {
    on_late::<G>(|it| {
        let [page, node, last] = [it.page(), it.node(), it.node()];
        it.serve(&last);
        it.serve(&node);
        it.serve(&page);
        assert_eq!(it.noted(), 3, "the note is moved back");
        assert_eq!(it.forgotten(), 0);
    });
}

/// Its number is one of another space's.
fn a_request_that_comes_after_a_switch_is_noted_nowhere<G: Geometry>() {
    for nodes in [false, true] {
        on_late::<G>(|it| {
            let next = mapped(it.machine, it.changer);
            let request = if nodes { it.node() } else { it.page() };
            it.holder.activate(&next);
            let noted = it.holder.noted();
            assert_ne!(noted.space, request.space());
            it.serve(&request);
            assert_eq!(it.holder.noted(), noted, "the number is one of another space's");
            it.space = next;
            it.page();
            assert_eq!(it.forgotten(), 1, "what was not served is cached");
            // And on no space at all.
            it.holder.deactivate();
            it.serve(&request);
            assert_eq!(it.holder.noted(), Default::default());
        });
    }
}

fn a_request_of_no_space_is_noted_for_other_tags_alone<G: Geometry>() {
    on_late::<G>(|it| {
        let bare = node::<Whole<G>>(it.machine, G::ROOT);
        it.changer.map(&bare, 0..1);
        it.changer.unmap(&bare, 0..1);
        let requests = it.machine.processors().asked();
        assert!(!requests.is_empty());
        let noted = it.holder.noted();
        for asked in requests {
            assert_eq!(asked.request.space(), None);
            it.serve(&asked.request);
            assert_eq!(it.holder.noted(), Noted { others_stale: true, ..noted });
        }
    });
}
