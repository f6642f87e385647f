//! # Unmap vs. writes
//! Result: Never. A dirty bit that hardware sets is lost when a cursor unmaps the page.
//! CPUs: 0 unmaps page 0 as the next one of a range, and then page 1, in a run, in another range. 1
//!   runs on the table and writes both pages.
//! Invariant: what is unmapped is as dirty as hardware made it until the entry was cleared.
//! Guards against: an entry that is read, and then cleared with a store.
//! Sites: CLEAR_ENTRY, ENTRY_UNDER_LOCK.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 4,594 executions, under loom to 3 preemptions.
//! References: linux ptep_get_and_clear; Intel SDM, volume 3A, section 5.8.
use weft_scenarios::prelude::*;

struct Race<B: World> {
    table: Space<B>,
}

/// What a CPU saw.
#[derive(Clone, Copy, Debug)]
enum Saw {
    /// Page 0 was dirty when it was unmapped, or not.
    Unmapped { dirty: bool },
    /// Whether the writes to page 0 and page 1 went through.
    Wrote([bool; 2]),
}

impl<B: World> Scenario<B> for Race<B> {
    type Saw = Saw;
    const CPUS: Cpus<Self, B> = cpus([
        ("unmapper", |race, cpu| {
            let section = cpu.read_side();
            let root = race.table.root.borrow(&section);
            let mut cursor = Cursor::lock(root, pages::<B>(0..1)).expect("the path exists");
            let first = cursor.take_next().expect("no huge page is there").expect("page 0 is");
            drop(cursor);
            let mut cursor = Cursor::lock(root, pages::<B>(1..2)).expect("the path exists");
            assert!(cursor.unmap(page::<B>(2)) == Ok(1), "page 1 is not counted once");
            let page = first.page.expect("the range has only a part of the leaf");
            Saw::Unmapped { dirty: page.property.flags.contains(PageFlags::DIRTY) }
        }),
        ("writer", |race, cpu| {
            cpu.activate(&race.table.root).expect("it is a root");
            let wrote = [0, 1].map(|number| cpu.backend().user_write(page::<B>(number), 8));
            cpu.deactivate();
            Saw::Wrote(wrote)
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("both written", "both writes came before"),
        interesting("only page 0 written", "the second write was refused"),
        interesting("only page 1 written", "the first write was refused"),
        interesting("none written", "both writes were refused"),
        forbidden("lost", "a dirty bit that hardware set is lost"),
    ];
    const REACHED: &'static [Situation] = &[];
    const TWINS: Twins = twins([torn_updates("a dirty bit that hardware set is lost")]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        Race { table: machine.space(&[(0, 7), (1, 7)]) }
    }

    fn check(&self, _cpu: &mut Cpu<B>, saw: &[Saw]) -> &'static str {
        let [Saw::Unmapped { dirty }, Saw::Wrote(wrote)] = *saw else { return "lost" };
        match wrote {
            _ if dirty != wrote[0] => "lost",
            [true, true] => "both written",
            [true, false] => "only page 0 written",
            [false, true] => "only page 1 written",
            [false, false] => "none written",
        }
    }
}

scenario!(Race);
