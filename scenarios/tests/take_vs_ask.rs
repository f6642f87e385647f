//! # Take vs. ask
//! Result: Never. A CPU finds the leaf gone that went second, and then the first page still there.
//! CPUs: 0 takes out one page, accessed and dirty, as the next thing of a range, and then a leaf as
//!   the next thing of another. 1 asks for a page of the leaf without locks, and then for the page.
//! Invariant: queries that lock nothing fall into one order with what cursors take out, and who
//!   finds a page gone sees what was written before it went.
//! Guards against: a cleared entry that overtakes one that was cleared before it.
//! Sites: CLEAR_ENTRY, WALK_ENTRY.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 3 executions, 60 under loom.
//! References: the litmus test MP, with stores that say "nothing here".
use weft_scenarios::prelude::*;

const GONE: Situation = situation("the asker found the leaf gone");

struct Race<B: World> {
    table: Table<B>,
    /// Each is written before one of the two goes: who finds that gone may read it.
    notes: [B::Cell<bool>; 2],
}

impl<B: World> Race<B> {
    fn take(&self, cpu: &mut Cpu<B>, numbers: core::ops::Range<u8>, which: usize) {
        self.notes[which].set(true);
        let section = cpu.read_side();
        let root = self.table.root.borrow(&section);
        let mut cursor = Cursor::lock(root, pages::<B>(numbers)).expect("the path exists");
        let taken = cursor.take_next().expect("no huge page is there");
        assert!(taken.is_some(), "something is there to be taken");
        cursor.flush();
    }

    fn is_there(&self, cpu: &Cpu<B>, number: u8, which: usize) -> bool {
        let section = cpu.read_side();
        let found = look::<B>(self.table.root.borrow(&section), number).item.is_some();
        assert!(
            found || self.notes[which].get(),
            "what was written before a page went is not seen after"
        );
        found
    }
}

impl<B: World> Scenario<B> for Race<B> {
    /// For the asker: whether the page was there, and the leaf's.
    type Saw = [bool; 2];
    const CPUS: Cpus<Self, B> = cpus([
        ("taker", |race, cpu| {
            race.take(cpu, 0..1, 0);
            race.take(cpu, 2..4, 1);
            [false; 2]
        }),
        ("asker", |race, cpu| {
            let leaf = race.is_there(cpu, 3, 1);
            if !leaf {
                cpu.reached(GONE);
            }
            [race.is_there(cpu, 0, 0), leaf]
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("both there", "the asker came before the page went"),
        interesting("the leaf there", "the asker came between the two"),
        interesting("both gone", "the asker came after the leaf went"),
        forbidden("the page there", "a page was found that went before a leaf that was gone"),
    ];
    const REACHED: &'static [Situation] = &[GONE];
    const TWINS: Twins = twins([
        weakened(&sites::CLEAR_ENTRY, "data race on note"),
        freed_at_once("use after free: N"),
    ]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        let table = machine.table(&[(1, 1), (3, 3)]);
        let section = machine.section();
        let mut cursor = Cursor::lock(table.root.borrow(&section), pages::<B>(0..1))
            .expect("the set-up has frames enough");
        let property = Property::new(PageFlags::WRITE | PageFlags::NOTED);
        let item = MappedItem::Tracked { frame: machine.frame(0), property };
        cursor.map(item).expect("nothing is mapped there");
        drop(cursor);
        drop(section);
        Race { table, notes: [B::Cell::new("note", false), B::Cell::new("note", false)] }
    }

    fn check(&self, _cpu: &mut Cpu<B>, saw: &[Self::Saw]) -> &'static str {
        match saw[1] {
            [true, true] => "both there",
            [false, true] => "the leaf there",
            [false, false] => "both gone",
            [true, false] => "the page there",
        }
    }
}

scenario!(Race);
