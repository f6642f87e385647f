//! # Copy vs. lazy
//! Result: Never. A page is copied before a write has happened of a CPU that has gone lazy since.
//! CPUs: 0 takes away the right to write the page, flushes, and copies the page. 1 runs on the
//!   space, writes the page and is lazy from then on.
//! Invariant: a lazy CPU is not asked to flush pages: whatever it did with one is done when it is
//!   found to be lazy.
//! Guards against: a CPU that says that it is lazy before its accesses are done.
//! Sites: HOLDERS_SEEN, HOLDER_LEAVES.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 54 executions, under loom to 3 preemptions.
//! References: linux enter_lazy_tlb, tlb_is_not_lazy (arch/x86/mm/tlb.c).
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
            let mut cursor = Cursor::lock(root, pages::<B>(0..1)).expect("the path exists");
            let item = cursor.query().expect("the cursor is at the page").item;
            let frame = item.expect("the page is mapped").frame;
            let protected = cursor.protect_next(|mut property| {
                property.flags.remove(PageFlags::WRITE);
                property
            });
            protected.expect("no page is split").expect("the page is mapped");
            cursor.flush();
            Saw::Copied(cpu.backend().read_contents(frame))
        }),
        ("writer", |race, cpu| {
            cpu.activate(&race.table.root).expect("nothing is asked of a root here");
            let wrote = cpu.backend().user_write(page::<B>(0), 8);
            cpu.lazy();
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
        late_shootdown("data race on"),
    ]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        Race { table: machine.space(&[(0, 5), (1, 6)]) }
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
