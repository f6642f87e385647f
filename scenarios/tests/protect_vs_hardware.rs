//! # Protect vs. hardware
//! Result: Never. A dirty bit that hardware sets is lost when software changes the entry.
//! CPUs: 0 takes the write permission away. 1 runs on the table and writes the page.
//! Invariant: an accessed or dirty bit stays in the entry, and is handed to who changes the entry.
//! Guards against: changing an entry by load and store while hardware may write it.
//! Sites: PROTECT_ENTRY, ENTRY_RETRY, ENTRY_UNDER_LOCK.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 63 executions, under loom to 3 preemptions.
//! References: linux kvm merge 4f510c8bb1dd; FreeBSD 5983c3e7851a.
//! History:
//! * 12, kvm merge 4f510c8bb1dd: an entry is read, changed and stored while hardware notes a write
//!   in it => torn-updates
use weft_scenarios::prelude::*;

struct Race<B: World> {
    root: AddressSpace<UserTable<B>>,
    page: Vaddr,
}

/// What a CPU saw.
#[derive(Clone, Copy, Debug)]
enum Saw {
    /// The property that was replaced was dirty, or not.
    Replaced { dirty: bool },
    /// The write went through, or faulted.
    Wrote(bool),
}

impl<B: World> Scenario<B> for Race<B> {
    type Saw = Saw;
    const CPUS: Cpus<Self, B> = cpus([
        ("protector", |race, cpu| {
            let section = cpu.read_side();
            let leaf = lock_covering(race.root.borrow(&section), race.page, Level::LEAF);
            let mut leaf = leaf.expect("the path exists");
            let mut entry = leaf.entry(0).expect("a node has two entries");
            let old = entry.protect(|mut property| {
                property.flags.remove(PageFlags::WRITE);
                property
            });
            let old = old.expect("the page is mapped");
            Saw::Replaced { dirty: old.flags.contains(PageFlags::DIRTY) }
        }),
        ("writer", |race, cpu| {
            cpu.activate(&race.root).expect("it is a root");
            let wrote = cpu.backend().user_write(race.page, 8);
            cpu.deactivate();
            Saw::Wrote(wrote)
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("written, then protected", "the protector was handed the dirty bit"),
        interesting("protected, then refused", "the write came too late and faulted"),
        forbidden("lost", "a dirty bit that hardware set is lost"),
        forbidden("unprotected", "a page is writable although it was protected"),
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

    fn check(&self, cpu: &mut Cpu<B>, saw: &[Saw]) -> &'static str {
        let section = cpu.read_side();
        let ChildRef::Item(page) = walk_to_leaf(self.root.borrow(&section), self.page) else {
            return "lost";
        };
        if page.property.flags.contains(PageFlags::WRITE) {
            return "unprotected";
        }
        let in_entry = page.property.flags.contains(PageFlags::DIRTY);
        match saw {
            [Saw::Replaced { dirty: true }, Saw::Wrote(true)] if in_entry => {
                "written, then protected"
            }
            [_, Saw::Wrote(true)] => "lost",
            [Saw::Replaced { dirty: false }, _] if !in_entry => "protected, then refused",
            _ => "invented",
        }
    }
}

scenario!(Race);
