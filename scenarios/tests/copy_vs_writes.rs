//! # Copy vs. writes
//! Result: Never. A page is copied while a CPU still writes it.
//! CPUs: 0 takes away the right to write two pages, flushes, and copies the second one: it is to be
//!   written to a disk, or moved. 1 runs on the space, reads and writes the second page, and
//!   leaves.
//! Invariant: once a cursor has flushed, every write through the page has happened, also that of
//!   a CPU that has left the space since and was not asked.
//! Guards against: a CPU that leaves before its accesses are done; a right that is taken away
//!   without a flush.
//! Sites: HOLDERS_SEEN, HOLDER_LEAVES, ACTIVATE_ORDER, FLUSH_ORDER.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 184 executions, under loom to 3 preemptions.
//! References: linux migrate_vma_collect_pmd, wp_page_copy; Intel SDM, volume 3A, section 5.10.4.2.
use weft_scenarios::prelude::*;

struct Race<B: World> {
    table: Space<B>,
}

/// Without the right to write.
fn read_only(mut property: Property) -> Property {
    property.flags.remove(PageFlags::WRITE);
    property
}

impl<B: World> Race<B> {
    /// The contents of the second page.
    fn copy(&self, cpu: &Cpu<B>, cursor: &mut Cursor<'_, UserTable<B>>) -> u64 {
        cursor.jump(page::<B>(1)).expect("it is in the range");
        let item = cursor.query().expect("the cursor is at the page").item;
        cpu.backend().read_contents(item.expect("the page is mapped").frame)
    }
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
            let mut cursor = Cursor::lock(root, pages::<B>(0..2)).expect("the path exists");
            let protected = cursor.protect(page::<B>(2), read_only);
            assert!(protected == Ok(2), "both pages are mapped");
            cursor.flush();
            Saw::Copied(race.copy(cpu, &mut cursor))
        }),
        ("writer", |race, cpu| {
            cpu.activate(&race.table.root).expect("nothing is asked of a root here");
            let read = cpu.backend().user_read(page::<B>(1));
            assert!(read == Some(6), "the right to read is left");
            let wrote = cpu.backend().user_write(page::<B>(1), 8);
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
        late_shootdown("data race on"),
        partial_shootdown("data race on"),
        forgotten_holder(1, "data race on"),
    ]);

    const MISTAKES: Mistakes<Self, B> = mistakes([mistake(
        "copies-before-flush",
        0,
        "copies the page before it flushes",
        |race, cpu| {
            let section = cpu.read_side();
            let root = race.table.root.borrow(&section);
            let mut cursor = Cursor::lock(root, pages::<B>(0..2)).expect("the path exists");
            cursor.protect(page::<B>(2), read_only).expect("both pages are mapped");
            Saw::Copied(race.copy(cpu, &mut cursor))
        },
        "data race on",
    )]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        Race { table: machine.used_space(&[(0, 5), (1, 6)]) }
    }

    fn check(&self, _cpu: &mut Cpu<B>, saw: &[Saw]) -> &'static str {
        match saw {
            [Saw::Copied(8), Saw::Wrote(true)] => "written, then copied",
            [Saw::Copied(6), Saw::Wrote(false)] => "copied, then refused",
            _ => "torn",
        }
    }
}

scenario!(Race);
