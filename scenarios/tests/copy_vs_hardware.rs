//! # Copy vs. hardware
//! Result: Never. A page is copied while a CPU still writes it, its entry having been changed by
//!   hand.
//! CPUs: 0 takes away the right to write the page, in its locked leaf, and copies the page. 1 runs
//!   on the space, writes the page and leaves.
//! Invariant: once the entry's owner has flushed, every write through the page has happened, also
//!   that of a CPU that runs on no root any more and was not asked.
//! Guards against: a CPU that leaves before its accesses are done.
//! Sites: HOLDERS_SEEN, HOLDER_LEAVES, ACTIVATE_ORDER, FLUSH_ORDER.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 27 executions, under loom to 3 preemptions.
//! References: linux wp_page_copy; Intel SDM, volume 3A, section 5.10.4.2.
use weft_scenarios::prelude::*;

struct Race<B: World> {
    table: Space<B>,
}

/// What a CPU saw.
#[derive(Clone, Copy, Debug)]
enum Saw {
    /// The contents that were copied.
    Copied(u64),
    /// Whether the write went through.
    Wrote(bool),
}

impl<B: World> Scenario<B> for Race<B> {
    type Saw = Saw;
    const CPUS: Cpus<Self, B> = cpus([
        ("copier", |race, cpu| {
            let section = cpu.read_side();
            let root = race.table.root.borrow(&section);
            let leaf = lock_covering(root, page::<B>(0), Level::LEAF);
            let mut leaf = leaf.expect("the path exists");
            let mut entry = leaf.entry(0).expect("a node has two entries");
            let ChildRef::Item(page) = entry.child() else { return Saw::Copied(0) };
            let before = entry.protect(|mut property| {
                property.flags.remove(PageFlags::WRITE);
                property
            });
            before.expect("the page is mapped");
            Saw::Copied(cpu.backend().read_contents(page.frame))
        }),
        ("writer", |race, cpu| {
            cpu.activate(&race.table.root).expect("nothing is asked of a root here");
            let wrote = cpu.backend().user_write(page::<B>(0), 8);
            cpu.deactivate();
            Saw::Wrote(wrote)
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("written, then copied", "the copy has what was written"),
        interesting("copied, then refused", "the write came too late and faulted"),
        forbidden("torn", "a page is written after it was copied"),
    ];
    const REACHED: &'static [Situation] = &[];
    const TWINS: Twins = twins([
        weakened(&sites::HOLDERS_SEEN, "data race on"),
        weakened(&sites::HOLDER_LEAVES, "data race on"),
        no_shootdown("data race on"),
        forgotten_holder(1, "data race on"),
    ]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        Race { table: machine.used_space(&[(0, 5), (1, 6)]) }
    }

    fn check(&self, _cpu: &mut Cpu<B>, saw: &[Saw]) -> &'static str {
        match saw {
            [Saw::Copied(8), Saw::Wrote(true)] => "written, then copied",
            [Saw::Copied(5), Saw::Wrote(false)] => "copied, then refused",
            _ => "torn",
        }
    }
}

scenario!(Race);
