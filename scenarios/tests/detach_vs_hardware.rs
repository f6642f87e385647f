//! # Detach vs. hardware
//! Result: Never. A dirty bit that hardware sets is lost when software takes the page out.
//! CPUs: 0 takes the page out of its entry. 1 runs on the table and writes the page.
//! Invariant: what is taken out is as dirty as hardware made it until the entry was cleared.
//! Guards against: reading the entry, then clearing it with a store while hardware may write it.
//! Sites: CLEAR_ENTRY, ENTRY_UNDER_LOCK.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 51 executions, under loom to 3 preemptions.
//! References: linux ptep_get_and_clear; Intel SDM, volume 3A, section 5.8.
use weft_scenarios::prelude::*;

struct Race<B: World> {
    root: AddressSpace<UserTable<B>>,
    page: Vaddr,
}

/// What a CPU saw.
#[derive(Clone, Copy, Debug)]
enum Saw {
    /// The page that was taken out was dirty, or not.
    TookOut { dirty: bool },
    /// The write went through, or faulted.
    Wrote(bool),
}

impl<B: World> Scenario<B> for Race<B> {
    type Saw = Saw;
    const CPUS: Cpus<Self, B> = cpus([
        ("detacher", |race, cpu| {
            let section = cpu.read_side();
            let leaf = lock_covering(race.root.borrow(&section), race.page, Level::LEAF);
            let mut leaf = leaf.expect("the path exists");
            let mut entry = leaf.entry(0).expect("a node has two entries");
            let detached = entry.detach().expect("the entry is managed");
            let ChildRef::Item(page) = detached.child() else {
                return Saw::TookOut { dirty: false };
            };
            Saw::TookOut { dirty: page.property.flags.contains(PageFlags::DIRTY) }
        }),
        ("writer", |race, cpu| {
            cpu.activate(&race.root).expect("it is a root");
            let wrote = cpu.backend().user_write(race.page, 8);
            cpu.deactivate();
            Saw::Wrote(wrote)
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("written, then taken out", "the detacher was handed the dirty bit"),
        interesting("taken out, then refused", "the write came too late and faulted"),
        forbidden("lost", "a dirty bit that hardware set is lost"),
        forbidden("invented", "a page is dirty that no CPU wrote"),
    ];
    const REACHED: &'static [Situation] = &[];
    const TWINS: Twins = twins([torn_updates("a dirty bit that hardware set is lost")]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        let root = machine.user_space();
        let page = B::Geometry::address(&[0]);
        machine.map(&root, page, 7);
        Race { root, page }
    }

    fn check(&self, _cpu: &mut Cpu<B>, saw: &[Saw]) -> &'static str {
        match saw {
            [Saw::TookOut { dirty: true }, Saw::Wrote(true)] => "written, then taken out",
            [Saw::TookOut { dirty: false }, Saw::Wrote(false)] => "taken out, then refused",
            [_, Saw::Wrote(true)] => "lost",
            _ => "invented",
        }
    }
}

scenario!(Race);
