//! Lazy CPUs: they stay on a space without using a page of it, and catch up when they come back.

use weft_core::geometry::Geometry;
use weft_core::space::AddressSpace;
use weft_core::sync::Flush;

use crate::played::{Machine, Player, Whole, leaf, mapped, on_played};

on_every_geometry!(
    a_lazy_cpu_is_asked_for_nodes_and_not_for_pages,
    a_lazy_cpu_that_leaves_is_asked_for_nothing,
    a_lazy_cpu_that_comes_back_is_asked_for_pages,
    a_cpu_that_was_not_asked_forgets_everything_when_it_comes_back,
    a_cpu_that_was_asked_for_everything_has_nothing_to_forget,
    a_cpu_that_missed_a_flush_after_it_was_asked_forgets_everything,
    without_flushes_there_is_nothing_to_forget,
    what_was_flushed_before_a_cpu_came_is_nothing_to_forget,
    a_space_of_another_cpu_is_nothing_to_forget,
    to_be_lazy_twice_is_to_be_lazy,
    a_cpu_that_runs_on_nothing_is_not_lazy,
);

/// What `space` has changed: page 0 is unmapped, and mapped again. No node goes.
fn change_a_page<G: Geometry>(changer: &mut Player<Machine<G>>, space: &AddressSpace<Whole<G>>) {
    changer.unmap(space, 0..1);
    changer.map(space, 0..1);
}

/// The first leaf goes, and comes back with page 0.
fn change_a_node<G: Geometry>(changer: &mut Player<Machine<G>>, space: &AddressSpace<Whole<G>>) {
    changer.unmap(space, 0..leaf::<G>());
    changer.map(space, 0..1);
    changer.map(space, leaf::<G>() - 1..leaf::<G>());
}

/// Runs `body` with a space, the processor that changes it, and one that runs on it. Nothing is
/// written down yet.
fn on_held<G: Geometry>(
    body: impl FnOnce(
        &Machine<G>,
        &AddressSpace<Whole<G>>,
        &mut Player<Machine<G>>,
        &mut Player<Machine<G>>,
    ),
) {
    on_played::<G>(|machine, changer| {
        let space = mapped(machine, changer);
        let mut holder = Player::new(machine, 0);
        holder.activate(&space);
        body(machine, &space, changer, &mut holder);
    });
}

/// Who was asked, and whether for nodes, since the last call.
fn asked<G: Geometry>(machine: &Machine<G>) -> Vec<(Vec<u32>, bool)> {
    let asked = machine.processors().asked().into_iter();
    asked.map(|asked| (asked.cpus, asked.request.nodes())).collect()
}

/// What a holder forgets on its own when it comes back to the space.
fn forgotten<G: Geometry>(
    machine: &Machine<G>,
    space: &AddressSpace<Whole<G>>,
    holder: &mut Player<Machine<G>>,
) -> Vec<Flush> {
    machine.processors().invalidated();
    let loads = machine.processors().threads.loaded(holder.id).times;
    holder.activate(space);
    assert_eq!(
        machine.processors().threads.loaded(holder.id).times,
        loads,
        "it stayed on the root"
    );
    let forgotten = machine.processors().invalidated().into_iter();
    forgotten
        .map(|(cpu, flush)| {
            assert_eq!(cpu, holder.id.as_u32(), "a CPU forgets on its own what it has cached");
            flush
        })
        .collect()
}

fn a_lazy_cpu_is_asked_for_nodes_and_not_for_pages<G: Geometry>() {
    on_held::<G>(|machine, space, changer, holder| {
        let mut other = Player::new(machine, 1);
        other.activate(space);
        holder.lazy();
        change_a_page(changer, space);
        assert_eq!(asked(machine), [(vec![1], false)], "a lazy CPU is asked for a page");
        change_a_node(changer, space);
        assert_eq!(asked(machine), [(vec![0, 1], true)], "a lazy CPU is not asked for a node");
        // Without the other one no CPU is left to be asked for pages.
        other.deactivate();
        change_a_page(changer, space);
        assert_eq!(asked(machine), [], "a lazy CPU is asked for a page");
        change_a_node(changer, space);
        assert_eq!(asked(machine), [(vec![0], true)], "a lazy CPU is not asked for a node");
    });
}

fn a_lazy_cpu_that_leaves_is_asked_for_nothing<G: Geometry>() {
    on_held::<G>(|machine, space, changer, holder| {
        let next = mapped(machine, changer);
        for switches in [false, true] {
            holder.lazy();
            if switches {
                holder.activate(&next)
            } else {
                holder.deactivate()
            }
            change_a_node(changer, space);
            assert_eq!(asked(machine), [], "it has left");
            // It is as new, where it went and where it was.
            if switches {
                change_a_page(changer, &next);
                assert_eq!(asked(machine), [(vec![0], false)], "it is not lazy on the next space");
            }
            holder.activate(space);
            change_a_page(changer, space);
            assert_eq!(asked(machine), [(vec![0], false)], "it is not lazy any more");
            change_a_node(changer, &next);
            assert_eq!(asked(machine), [], "it has left the next space, too");
        }
    });
}

fn a_lazy_cpu_that_comes_back_is_asked_for_pages<G: Geometry>() {
    on_held::<G>(|machine, space, changer, holder| {
        for _ in 0..3 {
            holder.lazy();
            change_a_page(changer, space);
            assert_eq!(asked(machine), [], "it is lazy");
            holder.activate(space);
            change_a_page(changer, space);
            assert_eq!(asked(machine), [(vec![0], false)], "it is back");
        }
    });
}

fn a_cpu_that_was_not_asked_forgets_everything_when_it_comes_back<G: Geometry>() {
    on_held::<G>(|machine, space, changer, holder| {
        for flushes in [1, 2, 3] {
            holder.lazy();
            (0..flushes).for_each(|_| change_a_page(changer, space));
            let forgets = forgotten(machine, space, holder);
            assert_eq!(forgets, [Flush::Everything], "it was not asked, and may hold the page");
            assert_eq!(forgotten(machine, space, holder), [], "it is not lazy any more");
            holder.lazy();
            assert_eq!(forgotten(machine, space, holder), [], "all of that is forgotten");
        }
    });
}

fn a_cpu_that_was_asked_for_everything_has_nothing_to_forget<G: Geometry>() {
    on_held::<G>(|machine, space, changer, holder| {
        holder.lazy();
        change_a_node(changer, space);
        assert_eq!(forgotten(machine, space, holder), [], "it has forgotten everything");
        // What it was not asked for before went with it.
        holder.lazy();
        change_a_page(changer, space);
        change_a_page(changer, space);
        change_a_node(changer, space);
        assert_eq!(forgotten(machine, space, holder), [], "it has forgotten everything");
    });
}

fn a_cpu_that_missed_a_flush_after_it_was_asked_forgets_everything<G: Geometry>() {
    on_held::<G>(|machine, space, changer, holder| {
        holder.lazy();
        change_a_node(changer, space);
        change_a_page(changer, space);
        let forgets = forgotten(machine, space, holder);
        assert_eq!(forgets, [Flush::Everything], "it was not asked, and may hold the page");
    });
}

fn without_flushes_there_is_nothing_to_forget<G: Geometry>() {
    on_held::<G>(|machine, space, changer, holder| {
        holder.lazy();
        assert_eq!(forgotten(machine, space, holder), [], "there was no flush");
        // Asked for pages and for nodes, and it has answered.
        change_a_page(changer, space);
        change_a_page(changer, space);
        change_a_node(changer, space);
        change_a_page(changer, space);
        holder.lazy();
        changer.map(space, leaf::<G>() + 1..leaf::<G>() + 2);
        assert_eq!(forgotten(machine, space, holder), [], "it has answered every request");
    });
}

fn what_was_flushed_before_a_cpu_came_is_nothing_to_forget<G: Geometry>() {
    on_held::<G>(|machine, space, changer, holder| {
        holder.deactivate();
        change_a_page(changer, space);
        change_a_node(changer, space);
        holder.activate(space);
        holder.lazy();
        assert_eq!(forgotten(machine, space, holder), [], "the flushes were before it came");
    });
}

fn a_space_of_another_cpu_is_nothing_to_forget<G: Geometry>() {
    on_held::<G>(|machine, space, changer, holder| {
        let other = mapped(machine, changer);
        holder.lazy();
        change_a_page(changer, &other);
        change_a_node(changer, &other);
        assert_eq!(forgotten(machine, space, holder), [], "nothing was flushed in its space");
    });
}

fn to_be_lazy_twice_is_to_be_lazy<G: Geometry>() {
    on_held::<G>(|machine, space, changer, holder| {
        holder.lazy();
        holder.lazy();
        change_a_page(changer, space);
        assert_eq!(asked(machine), [], "it is lazy");
        change_a_node(changer, space);
        assert_eq!(asked(machine), [(vec![0], true)], "it is lazy");
        holder.activate(space);
        change_a_page(changer, space);
        assert_eq!(asked(machine), [(vec![0], false)], "it is back");
    });
}

fn a_cpu_that_runs_on_nothing_is_not_lazy<G: Geometry>() {
    on_held::<G>(|machine, space, changer, holder| {
        holder.deactivate();
        holder.lazy();
        holder.activate(space);
        change_a_page(changer, space);
        assert_eq!(asked(machine), [(vec![0], false)], "it is not lazy");
        holder.lazy();
        change_a_page(changer, space);
        assert_eq!(asked(machine), [], "now it is");
    });
}
