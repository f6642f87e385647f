//! How long a space lives, and what is left when there is no memory for one.

use weft_core::error::OutOfMemory;
use weft_core::geometry::Geometry;
use weft_core::node::Node;
use weft_core::permanent::Permanent;
use weft_core::space::AddressSpace;

use crate::played::{
    Kernel, Machine, Player, User, Whole, leaf, mapped, numbers, on_played, players,
};
use crate::support::{SPACE_FRAMES, dismantle, node, space};

on_every_geometry!(
    a_space_takes_two_frames,
    a_space_lives_as_long_as_a_cpu_runs_on_it,
    a_lazy_cpu_keeps_its_space,
    a_space_that_other_cpus_leave_goes_on_asking,
    clones_are_handles_of_one_space,
    without_memory_for_the_words_the_root_is_given_back,
    a_frame_that_held_words_holds_those_of_another_space,
);

fn live<G: Geometry>(machine: &Machine<G>) -> u64 {
    machine.region().live()
}

fn a_space_takes_two_frames<G: Geometry>() {
    on_played::<G>(|machine, _| {
        let space: AddressSpace<Whole<G>> = space(machine);
        assert_eq!(live(machine), SPACE_FRAMES);
        drop(space);
        assert_eq!(live(machine), 0, "the words of a space are kept");
    });
}

fn a_space_lives_as_long_as_a_cpu_runs_on_it<G: Geometry>() {
    on_played::<G>(|machine, changer| {
        let space = mapped(machine, changer);
        let frames = live(machine);
        let next: AddressSpace<Whole<G>> = AddressSpace::allocate(machine).expect("enough");
        let mut cpus = players(machine);
        cpus.iter_mut().for_each(|cpu| cpu.activate(&space));
        drop(space);
        let [switches, deactivates, lazy, last] = &mut cpus;
        assert_eq!(live(machine), frames + SPACE_FRAMES, "four CPUs run on it");
        switches.activate(&next);
        deactivates.deactivate();
        lazy.lazy();
        lazy.activate(&next);
        assert_eq!(live(machine), frames + SPACE_FRAMES, "one CPU runs on it");
        *last = Player::new(machine, 29);
        assert_eq!(live(machine), SPACE_FRAMES, "it goes with all that it maps");
    });
}

fn a_lazy_cpu_keeps_its_space<G: Geometry>() {
    on_played::<G>(|machine, changer| {
        let space = mapped(machine, changer);
        let (frames, root) = (live(machine), space.paddr());
        let mut cpu = Player::new(machine, 0);
        cpu.activate(&space);
        cpu.lazy();
        drop(space);
        assert_eq!(live(machine), frames, "its root is loaded");
        assert_eq!(machine.processors().threads.loaded(cpu.id).root, Some(root));
        cpu.deactivate();
        assert_eq!(live(machine), 0);
    });
}

fn a_space_that_other_cpus_leave_goes_on_asking<G: Geometry>() {
    on_played::<G>(|machine, changer| {
        let space = mapped(machine, changer);
        let mut cpus = players(machine);
        for left in (1..=cpus.len()).rev() {
            cpus.iter_mut().for_each(|cpu| cpu.activate(&space));
            cpus[left..].iter_mut().for_each(Player::deactivate);
            changer.unmap(&space, 0..1);
            let asked = machine.processors().asked();
            assert_eq!(asked[0].cpus, numbers(&cpus[..left]));
            changer.map(&space, 0..1);
        }
    });
}

fn clones_are_handles_of_one_space<G: Geometry>() {
    on_played::<G>(|machine, changer| {
        let space = mapped(machine, changer);
        let frames = live(machine);
        let clone = space.clone();
        assert_eq!((clone.paddr(), live(machine)), (space.paddr(), frames));
        let mut cpu = Player::new(machine, 0);
        cpu.activate(&clone);
        cpu.activate(&space);
        assert_eq!(machine.processors().threads.loaded(cpu.id).times, 1, "it runs on it already");
        drop(space);
        changer.unmap(&clone, 0..1);
        assert_eq!(machine.processors().asked()[0].cpus, [0]);
        cpu.deactivate();
        assert!(live(machine) > 0, "a handle is left");
    });
}

fn without_memory_for_the_words_the_root_is_given_back<G: Geometry>() {
    on_played::<G>(|machine, changer| {
        let root: Node<Kernel<G>> = node(machine, G::ROOT);
        let kernel = changer.look(|cpu| Permanent::new(root, &cpu.read_side()).expect("enough"));
        let before = live(machine);
        for successes in 0..SPACE_FRAMES {
            machine.processors().failing.after(successes);
            let failed = AddressSpace::<Whole<G>>::allocate(machine);
            assert_eq!(failed.err(), Some(OutOfMemory));
            assert_eq!(live(machine), before, "after {successes} frames");
            machine.processors().failing.after(successes);
            let failed = AddressSpace::<User<G>>::sharing(&kernel);
            assert_eq!(failed.err(), Some(OutOfMemory));
            assert_eq!(live(machine), before, "after {successes} frames, of a kernel's");
        }
        machine.processors().failing.after(SPACE_FRAMES);
        let space = AddressSpace::<Whole<G>>::allocate(machine);
        assert!(space.is_ok(), "two frames are enough");
        assert!(machine.processors().failing.cancel(), "and no more are taken");
        drop(space);
        dismantle(kernel);
    });
}

/// A new space has no holders, and no flushes behind it.
fn a_frame_that_held_words_holds_those_of_another_space<G: Geometry>() {
    on_played::<G>(|machine, changer| {
        let mut cpus = players(machine);
        for _ in 0..3 {
            let space = mapped(machine, changer);
            changer.unmap(&space, 0..1);
            assert_eq!(machine.processors().asked(), [], "no CPU has come yet");
            changer.map(&space, 0..1);
            cpus[0].activate(&space);
            assert_eq!(cpus[0].noted().clean, 1, "there was one flush");
            changer.unmap(&space, 0..leaf::<G>());
            assert_eq!(machine.processors().asked()[0].cpus, numbers(&cpus[..1]));
            cpus[0].deactivate();
            changer.quiescent();
            cpus.iter_mut().for_each(Player::quiescent);
            changer.quiescent();
            cpus.iter_mut().for_each(Player::quiescent);
        }
    });
}
