//! # Look vs. merge
//! Result: Never. A query beside a merge and a split finds another frame, or a page half made.
//! CPUs: 0 merges the pages of a leaf into a huge page, and splits that again. 1 asks for page 1
//!   without locks.
//! Invariant: page 1 is mapped to its frame, but for the gap in the merge; who meets the gap sees
//!   what was written before.
//! Guards against: parts that are cleared before the leaf is taken out, or cleared without order.
//! Sites: CLEAR_ENTRY, PUBLISH_ITEM, PUBLISH_NODE, WALK_ENTRY.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 5 executions, 472 under loom.
//! References: Linux mm/khugepaged.c, collapse_huge_page; mm/gup.c, gup_fast.
use weft_scenarios::prelude::*;

/// Where the pages are: memory without an owner, aligned to what a huge page covers.
const FRAME: Paddr = Paddr::new(1 << 30);
const GAP: Situation = situation("the asker met the gap in the merge");

struct Race<B: World> {
    table: Table<B>,
    /// Written before the merge: who meets the gap may read it.
    note: B::Cell<bool>,
}

impl<B: World> Scenario<B> for Race<B> {
    /// Level and first frame of what was found.
    type Saw = Option<(u8, Paddr)>;
    const CPUS: Cpus<Self, B> = cpus([
        ("merger", |race, cpu| {
            race.note.set(true);
            let section = cpu.read_side();
            let root = race.table.root.borrow(&section);
            let mut cursor = Cursor::lock(root, pages::<B>(0..2)).expect("the path exists");
            cursor.merge().expect("the pages are alike, and one behind the other");
            cursor.split().expect("there are frames enough");
            None
        }),
        ("asker", |race, cpu| {
            let section = cpu.read_side();
            let slot = look::<B>(race.table.root.borrow(&section), 1);
            let found = slot.item.map(|item| (item.level.as_u8(), item.frame));
            if found.is_none() {
                assert!(race.note.get(), "what was written before a page went is not seen after");
                cpu.reached(GAP);
            }
            found
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("part", "the query met a part, of either leaf"),
        interesting("huge", "the query came between the merge and the split"),
        interesting("absent", "the query met the gap in the merge"),
        forbidden("elsewhere", "a page that is merged or split leads to another frame"),
    ];
    const REACHED: &'static [Situation] = &[GAP];
    const TWINS: Twins = twins([
        weakened(&sites::CLEAR_ENTRY, "data race on note"),
        weakened(&sites::PUBLISH_NODE, "use before allocation: N"),
        weakened(&sites::WALK_ENTRY, "data race on note"),
    ]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        let table = machine.table(&[]);
        let section = machine.section();
        let mut cursor = Cursor::lock(table.root.borrow(&section), pages::<B>(0..4))
            .expect("the set-up has frames enough");
        let huge = machine.untracked(FRAME, 2, Property::new(PageFlags::WRITE));
        cursor.map(huge).expect("it fits");
        cursor.jump(page::<B>(0)).expect("it is in the range");
        cursor.split().expect("the set-up has frames enough");
        drop(cursor);
        drop(section);
        Race { table, note: B::Cell::new("note", false) }
    }

    fn check(&self, _cpu: &mut Cpu<B>, saw: &[Self::Saw]) -> &'static str {
        let part = FRAME.plus(B::Geometry::entry_span(Level::LEAF));
        match saw[1] {
            Some((1, found)) if found == part => "part",
            Some((2, FRAME)) => "huge",
            None => "absent",
            Some(_) => "elsewhere",
        }
    }
}

scenario!(Race);
