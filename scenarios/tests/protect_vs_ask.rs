//! # Protect vs. ask
//! Result: Never. A CPU finds the page read-only that was protected second, and not the first one.
//! CPUs: 0 takes the write permission of page 0 away, as the next page of a range, and then that of
//!   page 1, in a run. 1 asks for page 1 without locks, and then for page 0.
//! Invariant: queries that lock nothing fall into one order with changes of rights, and who finds a
//!   page changed sees what was written before the change.
//! Guards against: an exchange that only hands on what the page's mapper published.
//! Sites: PROTECT_ENTRY, WALK_ENTRY.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 3 executions, 60 under loom.
//! References: the litmus test MP, with exchanges that change rights.
use weft_scenarios::prelude::*;

const CHANGED: Situation = situation("the asker found the second page read-only");

struct Race<B: World> {
    table: Table<B>,
    /// Each is written before one page is protected: who finds that read-only may read it.
    notes: [B::Cell<bool>; 2],
}

fn read_only(mut property: Property) -> Property {
    property.flags.remove(PageFlags::WRITE);
    property
}

impl<B: World> Scenario<B> for Race<B> {
    /// For the asker: whether the pages were writable.
    type Saw = [bool; 2];
    const CPUS: Cpus<Self, B> = cpus([
        ("protector", |race, cpu| {
            let section = cpu.read_side();
            let root = race.table.root.borrow(&section);
            race.notes[0].set(true);
            let mut cursor = Cursor::lock(root, pages::<B>(0..1)).expect("the path exists");
            let changed = cursor.protect_next(read_only).expect("no huge page is there");
            assert!(changed.is_some(), "page 0 is there");
            drop(cursor);
            race.notes[1].set(true);
            let end = page::<B>(1).plus(B::Geometry::entry_span(Level::LEAF));
            let mut cursor = Cursor::lock(root, page::<B>(1)..end).expect("the path exists");
            assert!(cursor.protect(end, read_only) == Ok(1), "page 1 is there");
            [false; 2]
        }),
        ("asker", |race, cpu| {
            let section = cpu.read_side();
            let root = race.table.root.borrow(&section);
            let [second, first] = [1, 0].map(|number| {
                let page = look::<B>(root, number).item.expect("the pages stay mapped");
                let is_writable = page.property.flags.contains(PageFlags::WRITE);
                assert!(
                    is_writable || race.notes[usize::from(number)].get(),
                    "what was written before a page changed is not seen after"
                );
                is_writable
            });
            if !second {
                cpu.reached(CHANGED);
            }
            [first, second]
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("both writable", "the asker came before the first change"),
        interesting("the second writable", "the asker came between the two"),
        interesting("both read-only", "the asker came after the second change"),
        forbidden("the first writable", "a page was writable that changed before a read-only one"),
    ];
    const REACHED: &'static [Situation] = &[CHANGED];
    const TWINS: Twins = twins([
        weakened(&sites::PROTECT_ENTRY, "data race on note"),
        weakened(&sites::WALK_ENTRY, "data race on note"),
    ]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        let notes = [B::Cell::new("note", false), B::Cell::new("note", false)];
        Race { table: machine.table(&[(0, 7), (1, 7)]), notes }
    }

    fn check(&self, _cpu: &mut Cpu<B>, saw: &[Self::Saw]) -> &'static str {
        match saw[1] {
            [true, true] => "both writable",
            [false, true] => "the second writable",
            [false, false] => "both read-only",
            [true, false] => "the first writable",
        }
    }
}

scenario!(Race);
