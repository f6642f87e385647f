//! Tags: what a CPU has cached of the spaces that it ran on before, and whether it may keep that.
//!
//! The processors have three tags.

use weft_core::geometry::Geometry;
use weft_core::node::Node;
use weft_core::space::{AddressSpace, TaggedRoot};
use weft_core::sync::Backend;

use crate::played::{Machine, Player, Whole, before_masking, leaf, mapped, on_played, serve};
use crate::support::node;

on_every_geometry!(
    a_space_that_was_not_flushed_meanwhile_is_kept,
    a_space_that_was_flushed_meanwhile_is_not_kept,
    what_was_flushed_in_time_is_kept,
    what_a_cpu_was_asked_for_and_has_not_served_is_not_kept,
    with_more_spaces_than_tags_the_one_used_longest_ago_goes,
    a_lazy_cpu_that_was_not_asked_keeps_nothing,
    what_is_flushed_while_a_cpu_switches_is_not_kept,
    a_cpu_that_runs_on_no_root_keeps_nothing,
    a_request_of_no_space_leaves_the_current_tag_alone,
    each_cpu_has_tags_of_its_own,
    a_space_in_the_frames_of_another_one_is_not_taken_for_it,
);

/// How many tags the processors have.
const TAGS: usize = 3;

/// Runs `body` with a processor that runs on the first space, and with three more.
fn on_spaces<G: Geometry>(
    body: impl FnOnce(
        &Machine<G>,
        &[AddressSpace<Whole<G>>; TAGS + 1],
        &mut Player<Machine<G>>,
        &mut Player<Machine<G>>,
    ),
) {
    assert_eq!(Machine::<G>::TAGS, TAGS);
    on_played::<G>(|machine, changer| {
        let spaces = [(); TAGS + 1].map(|()| mapped(machine, changer));
        let mut cpu = Player::new(machine, 0);
        assert_eq!(switch(machine, &mut cpu, &spaces[0]), (0, false), "it has run on nothing");
        body(machine, &spaces, changer, &mut cpu);
    });
}

/// Under which tag a CPU runs on a space that it activates, and whether with what it has cached.
#[track_caller]
fn switch<G: Geometry>(
    machine: &Machine<G>,
    cpu: &mut Player<Machine<G>>,
    space: &AddressSpace<Whole<G>>,
) -> (u32, bool) {
    machine.processors().loaded();
    machine.processors().invalidated();
    cpu.activate(space);
    assert_eq!(machine.processors().invalidated(), [], "what is flushed goes with the load");
    let [Some(TaggedRoot { root, tag, keeps })] = machine.processors().loaded()[..] else {
        panic!("a switch loads one root")
    };
    assert_eq!(root, space.paddr());
    (tag, keeps)
}

/// Unmaps a page of a space, and maps it again.
fn flush<G: Geometry>(changer: &mut Player<Machine<G>>, space: &AddressSpace<Whole<G>>) {
    changer.unmap(space, 0..1);
    changer.map(space, 0..1);
}

fn a_space_that_was_not_flushed_meanwhile_is_kept<G: Geometry>() {
    on_spaces::<G>(|machine, [first, second, third, _], changer, cpu| {
        let mut switch = |space| switch(machine, cpu, space);
        assert_eq!([switch(second), switch(third)], [(1, false), (2, false)]);
        let more = leaf::<G>() + 1..leaf::<G>() + 2;
        for _ in 0..3 {
            assert_eq!([first, second, third].map(&mut switch), [(0, true), (1, true), (2, true)]);
            // To map asks for no flush, and what is flushed in another space is not of this one.
            changer.map(first, more.clone());
            flush(changer, third);
            assert_eq!([first, second].map(&mut switch), [(0, true), (1, true)]);
            switch(first);
            changer.unmap(first, more.clone());
            switch(third);
        }
    });
}

fn a_space_that_was_flushed_meanwhile_is_not_kept<G: Geometry>() {
    on_spaces::<G>(|machine, [first, second, ..], changer, cpu| {
        assert_eq!(switch(machine, cpu, second), (1, false));
        for flushes in 1..=3 {
            (0..flushes).for_each(|_| flush(changer, first));
            assert_eq!(machine.processors().asked(), [], "it has switched away");
            assert_eq!(switch(machine, cpu, first), (0, false), "it may hold the page");
            assert_eq!(switch(machine, cpu, second), (1, true), "the other space was not flushed");
            assert_eq!(switch(machine, cpu, first), (0, true), "all of that is forgotten");
            // A node.
            switch(machine, cpu, second);
            changer.unmap(first, 0..leaf::<G>());
            changer.map(first, 0..1);
            changer.map(first, leaf::<G>() - 1..leaf::<G>());
            assert_eq!(switch(machine, cpu, first), (0, false), "it may walk through the node");
            switch(machine, cpu, second);
        }
    });
}

fn what_was_flushed_in_time_is_kept<G: Geometry>() {
    on_spaces::<G>(|machine, [first, second, ..], changer, cpu| {
        for _ in 0..3 {
            flush(changer, first);
            assert_eq!(machine.processors().asked().len(), 1, "it is asked, and serves at once");
            switch(machine, cpu, second);
            assert_eq!(switch(machine, cpu, first), (0, true), "it holds nothing stale");
        }
    });
}

fn what_a_cpu_was_asked_for_and_has_not_served_is_not_kept<G: Geometry>() {
    on_spaces::<G>(|machine, [first, second, ..], changer, cpu| {
        machine.processors().hold_back(true);
        flush(changer, first);
        let asked = machine.processors().asked();
        switch(machine, cpu, second);
        serve(*machine, cpu.id, &asked[0].request);
        let noted = cpu.noted().clean;
        assert_eq!(switch(machine, cpu, first), (0, false), "the request met another tag");
        assert_eq!(cpu.noted().clean, noted + 1);
    });
}

fn with_more_spaces_than_tags_the_one_used_longest_ago_goes<G: Geometry>() {
    on_spaces::<G>(|machine, [first, second, third, fourth], _, cpu| {
        let mut switch = |space| switch(machine, cpu, space);
        assert_eq!(
            [switch(second), switch(third), switch(first)],
            [(1, false), (2, false), (0, true)]
        );
        assert_eq!(switch(fourth), (1, false), "that of the second space");
        assert_eq!([switch(first), switch(third)], [(0, true), (2, true)], "they have theirs");
        assert_eq!(switch(second), (1, false), "that of the fourth space");
        assert_eq!(switch(fourth), (0, false), "that of the first one");
    });
}

fn a_lazy_cpu_that_was_not_asked_keeps_nothing<G: Geometry>() {
    on_spaces::<G>(|machine, [first, second, ..], changer, cpu| {
        cpu.lazy();
        switch(machine, cpu, second);
        assert_eq!(switch(machine, cpu, first), (0, true), "nothing was flushed");
        cpu.lazy();
        flush(changer, first);
        assert_eq!(machine.processors().asked(), [], "it is lazy");
        switch(machine, cpu, second);
        assert_eq!(switch(machine, cpu, first), (0, false), "it may hold the page");
        // A lazy CPU is asked for nodes, and forgets the page with the rest.
        cpu.lazy();
        flush(changer, first);
        changer.unmap(first, 0..leaf::<G>());
        assert_eq!(machine.processors().asked().len(), 1, "a node is gone");
        switch(machine, cpu, second);
        assert_eq!(switch(machine, cpu, first), (0, true), "it has forgotten everything");
        changer.map(first, 0..1);
    });
}

/// The request comes when the CPU is a holder already, and has not loaded the root.
fn what_is_flushed_while_a_cpu_switches_is_not_kept<G: Geometry>() {
    on_spaces::<G>(|machine, [first, second, ..], changer, cpu| {
        switch(machine, cpu, second);
        let (played, space) = (*machine, first.clone());
        before_masking(Box::new(move || {
            Player::new(&played, 3).unmap(&space, 0..1);
            assert_eq!(played.processors().asked()[0].cpus, [0], "it is among the holders");
            let served = played.processors().invalidated();
            assert_eq!(served.len(), 1, "it has served the request");
        }));
        assert_eq!(switch(machine, cpu, first), (0, false), "the request met another tag");
        changer.map(first, 0..1);
    });
}

fn a_cpu_that_runs_on_no_root_keeps_nothing<G: Geometry>() {
    on_spaces::<G>(|machine, [first, second, ..], _, cpu| {
        switch(machine, cpu, second);
        machine.processors().loaded();
        cpu.deactivate();
        assert_eq!(machine.processors().loaded(), [None]);
        // It would not be asked for what is changed by hand.
        assert_eq!(switch(machine, cpu, second), (0, false));
        assert_eq!(switch(machine, cpu, first), (1, false));
        assert_eq!(switch(machine, cpu, second), (0, true), "now it runs");
    });
}

fn a_request_of_no_space_leaves_the_current_tag_alone<G: Geometry>() {
    on_spaces::<G>(|machine, [first, second, third, _], changer, cpu| {
        let bare: Node<Whole<G>> = node(machine, G::ROOT);
        switch(machine, cpu, second);
        switch(machine, cpu, third);
        changer.map(&bare, 0..1);
        changer.unmap(&bare, 0..1);
        assert_ne!(machine.processors().invalidated(), [], "it invalidates what it runs on");
        assert_eq!(switch(machine, cpu, second), (0, false), "it may be a page of any space");
        assert_eq!(switch(machine, cpu, third), (2, true), "that was flushed");
        assert_eq!(switch(machine, cpu, first), (1, false), "it may be a page of any space");
        assert_eq!([second, third].map(|it| switch(machine, cpu, it)), [(0, true), (2, true)]);
    });
}

fn each_cpu_has_tags_of_its_own<G: Geometry>() {
    on_spaces::<G>(|machine, [first, second, ..], _, cpu| {
        let mut other = Player::new(machine, 1);
        assert_eq!(switch(machine, &mut other, second), (0, false));
        assert_eq!(switch(machine, cpu, second), (1, false), "the other one ran on it");
        assert_eq!(switch(machine, cpu, first), (0, true));
        drop(other);
        let mut other = Player::new(machine, 1);
        assert_eq!(switch(machine, &mut other, second), (0, false), "it was offline");
    });
}

fn a_space_in_the_frames_of_another_one_is_not_taken_for_it<G: Geometry>() {
    on_spaces::<G>(|machine, [first, ..], _, cpu| {
        let mut places = Vec::new();
        for _ in 0..3 {
            let space = AddressSpace::<Whole<G>>::allocate(machine).expect("frames enough");
            places.push(space.paddr());
            let (tag, keeps) = switch(machine, cpu, &space);
            assert!(!keeps, "a new space is taken for one that is gone");
            assert_eq!(switch(machine, cpu, first), (0, true));
            assert_eq!(switch(machine, cpu, &space), (tag, true), "nothing was flushed");
            // It dies after as many flushes as the next one has had when it is switched to.
            assert_eq!(switch(machine, cpu, first), (0, true));
        }
        assert_eq!(places, [places[0]; 3], "frames are used again");
    });
}
