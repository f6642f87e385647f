//! Who is asked: the holders of the space that is changed, and no other CPU.

use weft_core::format::Property;
use weft_core::geometry::Geometry;
use weft_core::space::AddressSpace;
use weft_core::sync::Flush;

use crate::played::{
    Machine, Player, READABLE, Whole, at_load, mapped, numbers, on_played, pages, players,
};
use crate::support::WRITABLE;

on_every_geometry!(
    a_space_that_no_cpu_runs_on_is_changed_without_asking,
    each_holder_is_asked_once_by_each_cursor,
    tightening_asks_and_loosening_does_not,
    several_changes_of_a_cursor_ask_once,
    a_cpu_that_has_left_is_not_asked,
    a_cpu_is_asked_about_its_own_space_only,
    the_cpu_that_changes_a_space_may_hold_it,
    a_cpu_that_switches_holds_both_spaces_while_it_loads,
);

fn asked<G: Geometry>(machine: &Machine<G>) -> Vec<Vec<u32>> {
    machine.processors().asked().into_iter().map(|asked| asked.cpus).collect()
}

fn a_space_that_no_cpu_runs_on_is_changed_without_asking<G: Geometry>() {
    on_played::<G>(|machine, changer| {
        let space = mapped(machine, changer);
        changer.unmap(&space, 0..1);
        assert_eq!(machine.processors().asked(), [], "no CPU holds translations");
    });
}

fn each_holder_is_asked_once_by_each_cursor<G: Geometry>() {
    on_played::<G>(|machine, changer| {
        let space = mapped(machine, changer);
        let mut cpus = players(machine);
        for holders in 1..=cpus.len() {
            cpus[holders - 1].activate(&space);
            changer.unmap(&space, 0..1);
            let asked = machine.processors().asked();
            let [asked] = &asked[..] else { panic!("one cursor asks once: {asked:?}") };
            let expected = numbers(&cpus[..holders]);
            assert_eq!(asked.cpus, expected, "every holder is asked, and no other CPU");
            assert!(asked.request.space().is_some(), "which space is it about?");
            assert!(!asked.request.nodes(), "all nodes are left");
            let page = Flush::Page(pages::<G>(0..1).start);
            assert_eq!(asked.request.flush(), page);
            let expected: Vec<_> = asked.cpus.iter().map(|cpu| (*cpu, page)).collect();
            let invalidated = machine.processors().invalidated();
            assert_eq!(invalidated, expected, "a CPU that is asked invalidates the page");
            changer.map(&space, 0..1);
            assert_eq!(machine.processors().asked(), [], "no cache holds what was absent");
        }
    });
}

fn tightening_asks_and_loosening_does_not<G: Geometry>() {
    on_played::<G>(|machine, changer| {
        let space = mapped(machine, changer);
        let mut cpu = Player::new(machine, 0);
        cpu.activate(&space);
        let mut protect = |property: Property| {
            changer.change(&space, 0..1, |cursor| {
                assert!(cursor.protect_next(|_| property).is_ok_and(|it| it.is_some()));
            });
            asked(machine)
        };
        assert_eq!(protect(WRITABLE), [[0; 0]; 0], "a right is added");
        assert_eq!(protect(WRITABLE), [[0; 0]; 0], "nothing is another");
        assert_eq!(protect(READABLE), [[0]], "a right is taken away");
    });
}

fn several_changes_of_a_cursor_ask_once<G: Geometry>() {
    on_played::<G>(|machine, changer| {
        let space = mapped(machine, changer);
        let mut cpu = Player::new(machine, 0);
        cpu.activate(&space);
        changer.change(&space, 0..1, |cursor| {
            cursor.protect_next(|_| WRITABLE).expect("no split");
            cursor.jump(cursor.range().start).expect("the start");
            cursor.protect_next(|_| READABLE).expect("no split");
            cursor.jump(cursor.range().start).expect("the start");
            assert_eq!(cursor.unmap(cursor.range().end), Ok(1));
            assert_eq!(asked(machine), [[0; 0]; 0], "the cursor is still at work");
        });
        assert_eq!(asked(machine), [[0]]);
    });
}

fn a_cpu_that_has_left_is_not_asked<G: Geometry>() {
    on_played::<G>(|machine, changer| {
        let space = mapped(machine, changer);
        let next: AddressSpace<Whole<G>> = AddressSpace::allocate(machine).expect("enough");
        let mut change = || {
            changer.unmap(&space, 0..1);
            changer.map(&space, 0..1);
            asked(machine)
        };
        let mut cpus = players(machine);
        let [first, second, third, fourth] = numbers(&cpus)[..] else { panic!("there are four") };
        cpus.iter_mut().for_each(|cpu| cpu.activate(&space));
        assert_eq!(change(), [[first, second, third, fourth]]);
        let [_, switches, deactivates, goes_offline] = &mut cpus;
        switches.activate(&next);
        assert_eq!(change(), [[first, third, fourth]], "one has switched to another space");
        deactivates.deactivate();
        assert_eq!(change(), [[first, fourth]], "one runs on nothing");
        *goes_offline = Player::new(machine, 29);
        assert_eq!(change(), [[first]], "one is offline");
        // And each may come back.
        switches.activate(&space);
        deactivates.activate(&space);
        goes_offline.activate(&space);
        let mut all = vec![first, second, third, 29];
        all.sort_unstable();
        assert_eq!(change(), [all]);
    });
}

fn a_cpu_is_asked_about_its_own_space_only<G: Geometry>() {
    on_played::<G>(|machine, changer| {
        let spaces = [(); 2].map(|()| mapped(machine, changer));
        let mut cpus = players(machine);
        for (number, cpu) in cpus.iter_mut().enumerate() {
            cpu.activate(&spaces[number % 2]);
        }
        let [first, second, third, fourth] = numbers(&cpus)[..] else { panic!("there are four") };
        changer.unmap(&spaces[0], 0..1);
        let about_first = machine.processors().asked();
        changer.unmap(&spaces[1], 0..1);
        let about_second = machine.processors().asked();
        assert_eq!(about_first[0].cpus, [first, third], "the others are on another space");
        assert_eq!(about_second[0].cpus, [second, fourth], "the others are on another space");
        assert_ne!(about_first[0].request.space(), about_second[0].request.space());
    });
}

fn the_cpu_that_changes_a_space_may_hold_it<G: Geometry>() {
    on_played::<G>(|machine, changer| {
        let space = mapped(machine, changer);
        let mut other = Player::new(machine, 0);
        other.activate(&space);
        changer.activate(&space);
        changer.unmap(&space, 0..1);
        let both = vec![0, changer.id.as_u32()];
        let served = machine.processors().invalidated().into_iter().map(|(cpu, _)| cpu);
        assert_eq!(served.collect::<Vec<_>>(), both);
        assert_eq!(asked(machine), [both]);
    });
}

/// A CPU may walk through either root then.
fn a_cpu_that_switches_holds_both_spaces_while_it_loads<G: Geometry>() {
    on_played::<G>(|machine, changer| {
        let spaces = [(); 2].map(|()| mapped(machine, changer));
        let mut cpu = Player::new(machine, 0);
        cpu.activate(&spaces[0]);
        let (machine, [first, second]) = (*machine, spaces.clone());
        // The processor's interrupts are masked while it loads.
        machine.processors().hold_back(true);
        at_load(Box::new(move || {
            let mut other = Player::new(&machine, 3);
            for (space, name) in [(&first, "the previous"), (&second, "the next")] {
                other.unmap(space, 0..1);
                assert_eq!(asked(&machine), [[0]], "{name} space is changed");
            }
        }));
        cpu.activate(&spaces[1]);
        changer.map(&spaces[0], 0..1);
        changer.unmap(&spaces[0], 0..1);
        assert_eq!(asked(&machine), [[0; 0]; 0], "the next root is loaded");
    });
}
