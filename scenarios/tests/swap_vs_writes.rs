//! # Swap vs. writes
//! Result: Never. A page is swapped out, and a write to it is lost.
//! CPUs: 0 withholds a page, flushes, copies it to a store, and puts a mark of the slot in its
//!   place. 1 runs on the space, writes the page, and leaves; then it looks for what is there.
//! Invariant: once a withheld page is flushed, every write through it has happened; from then on
//!   until the mark is there, the page is found and not used.
//! Guards against: a page that is copied before it is flushed; a mark that is taken for a page.
//! Sites: HOLDERS_SEEN, HOLDER_LEAVES, PROTECT_ENTRY, PUBLISH_ITEM.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 70 executions, under loom to 3 preemptions.
//! References: linux try_to_unmap_one (mm/rmap.c), set_pte_at of a swap entry; CVE-2018-3620.
use weft_scenarios::prelude::*;

/// Where the store has the page.
const SLOT: u64 = 17;

struct Race<B: World> {
    table: Space<B>,
}

impl<B: World> Race<B> {
    /// Swaps the second page out. Says what was stored.
    fn swap_out(&self, cpu: &Cpu<B>, flushes: bool) -> u64 {
        let section = cpu.read_side();
        let root = self.table.root.borrow(&section);
        let mut cursor = Cursor::lock(root, pages::<B>(1..2)).expect("the path exists");
        let withheld = cursor.protect(page::<B>(2), |mut property| {
            property.flags.insert(PageFlags::WITHHELD);
            property
        });
        assert!(withheld == Ok(1), "the page is there");
        if flushes {
            cursor.flush();
        }
        cursor.jump(page::<B>(1)).expect("it is in the range");
        let item = cursor.query().expect("the cursor is at the page").item;
        let frame = item.expect("a withheld page is found").frame;
        let stored = cpu.backend().read_contents(frame);
        let mark = Mark::new(SLOT, Level::LEAF, Property::default()).expect("it is small");
        cursor.replace(MappedItem::Mark(mark)).expect("the page is there");
        stored
    }
}

/// What a CPU saw.
#[derive(Clone, Copy, Debug)]
enum Saw {
    /// The contents that were stored.
    Stored(u64),
    /// Whether the write went through, and the mark that was found afterwards.
    Wrote(bool, Option<u64>),
}

impl<B: World> Scenario<B> for Race<B> {
    type Saw = Saw;
    const CPUS: Cpus<Self, B> = cpus([
        ("swapper", |race, cpu| Saw::Stored(race.swap_out(cpu, true))),
        ("writer", |race, cpu| {
            cpu.activate(&race.table.root).expect("nothing is asked of a root here");
            let wrote = cpu.backend().user_write(page::<B>(1), 8);
            cpu.deactivate();
            let section = cpu.read_side();
            let found = look::<B>(race.table.root.borrow(&section), 1).item;
            Saw::Wrote(wrote, found.expect("something is always there").mark())
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("written, then stored", "the store has what was written"),
        interesting("stored, then refused", "the write came too late and faulted"),
        forbidden("lost", "a write to a page that is swapped out is lost"),
    ];
    const REACHED: &'static [Situation] = &[];
    const TWINS: Twins = twins([
        no_shootdown("data race on"),
        late_shootdown("data race on"),
        forgotten_holder(1, "data race on"),
    ]);
    const MISTAKES: Mistakes<Self, B> = mistakes([mistake(
        "stores-before-flush",
        0,
        "copies the page before it flushes",
        |race, cpu| Saw::Stored(race.swap_out(cpu, false)),
        "data race on",
    )]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        Race { table: machine.used_space(&[(0, 5), (1, 6)]) }
    }

    fn check(&self, cpu: &mut Cpu<B>, saw: &[Saw]) -> &'static str {
        let section = cpu.read_side();
        let there = look::<B>(self.table.root.borrow(&section), 1).item;
        let is_marked = there.expect("something is always there").mark() == Some(SLOT);
        match saw {
            _ if !is_marked => "lost",
            [Saw::Stored(8), Saw::Wrote(true, None | Some(SLOT))] => "written, then stored",
            [Saw::Stored(6), Saw::Wrote(false, None | Some(SLOT))] => "stored, then refused",
            _ => "lost",
        }
    }
}

scenario!(Race);
