//! # Protect vs. writes
//! Result: Never. A dirty bit that hardware sets is lost when a cursor changes pages in a range.
//! CPUs: 0 takes the write permission of page 0 away, as the next page of its range, and then that
//!   of page 1, in a run. 1 runs on the table and writes both pages.
//! Invariant: an accessed or dirty bit stays in the entry, and is handed to who changes the entry.
//! Guards against: a property computed from an older entry; a run that stores what it computed.
//! Sites: PROTECT_ENTRY, ENTRY_RETRY, ENTRY_UNDER_LOCK.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 1,132 executions, 12,659 under
//!   loom.
//! References: linux kvm merge 4f510c8bb1dd; FreeBSD 5983c3e7851a.
//! History:
//! * 13, freebsd 5983c3e7851a, freebsd PR 61852: a page is protected for a copy on write while a
//!   thread writes it => torn-updates
use weft_scenarios::prelude::*;

struct Race<B: World> {
    table: Space<B>,
}

/// What a CPU saw.
#[derive(Clone, Copy, Debug)]
enum Saw {
    /// The property of page 0 that was replaced was dirty, or not.
    Replaced { dirty: bool },
    /// Whether the writes to page 0 and page 1 went through.
    Wrote([bool; 2]),
}

fn read_only(mut property: Property) -> Property {
    property.flags.remove(PageFlags::WRITE);
    property
}

impl<B: World> Scenario<B> for Race<B> {
    type Saw = Saw;
    const CPUS: Cpus<Self, B> = cpus([
        ("protector", |race, cpu| {
            let section = cpu.read_side();
            let root = race.table.root.borrow(&section);
            let mut cursor = Cursor::lock(root, pages::<B>(0..2)).expect("the path exists");
            let first = cursor.protect_next(read_only).expect("no huge page is there");
            let end = cursor.range().end;
            assert!(cursor.protect(end, read_only) == Ok(1), "page 1 is not counted once");
            let dirty = first.is_some_and(|page| page.before.flags.contains(PageFlags::DIRTY));
            Saw::Replaced { dirty }
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
        forbidden("unprotected", "a page is writable although it was protected"),
    ];
    const REACHED: &'static [Situation] = &[];
    const TWINS: Twins = twins([torn_updates("a dirty bit that hardware set is lost")]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        Race { table: machine.space(&[(0, 7), (1, 7)]) }
    }

    fn check(&self, cpu: &mut Cpu<B>, saw: &[Saw]) -> &'static str {
        let section = cpu.read_side();
        let root = self.table.root.borrow(&section);
        let flags = [0, 1].map(|number| {
            look::<B>(root, number).item.expect("the pages stay mapped").property.flags
        });
        if flags.iter().any(|flags| flags.contains(PageFlags::WRITE)) {
            return "unprotected";
        }
        let dirty = flags.map(|flags| flags.contains(PageFlags::DIRTY));
        let [Saw::Replaced { dirty: replaced }, Saw::Wrote(wrote)] = *saw else { return "lost" };
        match wrote {
            _ if dirty != wrote || replaced != wrote[0] => "lost",
            [true, true] => "both written",
            [true, false] => "only page 0 written",
            [false, true] => "only page 1 written",
            [false, false] => "none written",
        }
    }
}

scenario!(Race);
