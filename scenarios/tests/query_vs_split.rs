//! # Query vs. split
//! Result: Never. Of a huge page that is unmapped in part, the rest looks absent, or elsewhere.
//! CPUs: 0 unmaps page 0 of a huge page that maps pages 0..2. 1 asks for page 1 and then for page
//!   0, without locks.
//! Invariant: page 1 is mapped throughout, to the same frame; page 0 goes once, for good.
//! Guards against: clearing the huge entry first; a query that looks at an entry twice.
//! Sites: PUBLISH_NODE, WALK_ENTRY, ENTRY_INIT.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 5 executions, 389 under loom.
//! References: Linux mm/huge_memory.c, __split_huge_pmd_locked.
use weft_scenarios::prelude::*;

/// Where the huge page is: memory without an owner, aligned to what it covers.
const FRAME: Paddr = Paddr::new(1 << 30);

struct Race<B: World> {
    table: Table<B>,
}

impl<B: World> Scenario<B> for Race<B> {
    /// Level and first frame of what was found at page 1, and at page 0.
    type Saw = [Option<(u8, Paddr)>; 2];
    const CPUS: Cpus<Self, B> = cpus([
        ("splitter", |race, cpu| {
            let section = cpu.read_side();
            let root = race.table.root.borrow(&section);
            let mut cursor = Cursor::lock(root, pages::<B>(0..1)).expect("the path exists");
            let taken = cursor.take_next().expect("there are frames enough");
            assert!(taken.is_some_and(|taken| taken.frames == 1), "one page is unmapped");
            [None; 2]
        }),
        ("asker", |race, cpu| {
            let section = cpu.read_side();
            let root = race.table.root.borrow(&section);
            [1, 0].map(|number| {
                look::<B>(root, number).item.map(|item| (item.level.as_u8(), item.frame))
            })
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("huge", "both queries came first"),
        interesting("huge, then part", "the page was split in between"),
        interesting("huge, then absent", "page 0 was unmapped in between"),
        interesting("parts", "page 0 was still there when it was asked for"),
        interesting("part, and absent", "both queries met the second part alone"),
        forbidden("absent", "a page that stays mapped looked absent"),
        forbidden("elsewhere", "a part of a split page leads to another frame"),
    ];
    const REACHED: &'static [Situation] = &[];
    const TWINS: Twins = twins([
        weakened(&sites::PUBLISH_NODE, "use before allocation: N"),
        weakened(&sites::WALK_ENTRY, "use before allocation: N"),
    ]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        let table = machine.table(&[]);
        let section = machine.section();
        let mut cursor = Cursor::lock(table.root.borrow(&section), pages::<B>(0..4))
            .expect("the set-up has frames enough");
        let huge = machine.untracked(FRAME, 2, Property::new(PageFlags::WRITE));
        cursor.map(huge).expect("it fits");
        drop(cursor);
        drop(section);
        Race { table }
    }

    fn check(&self, _cpu: &mut Cpu<B>, saw: &[Self::Saw]) -> &'static str {
        let part = FRAME.plus(B::Geometry::entry_span(Level::LEAF));
        match saw[1] {
            [None, _] => "absent",
            [Some((2, FRAME)), Some((2, FRAME))] => "huge",
            [Some((2, FRAME)), Some((1, FRAME))] => "huge, then part",
            [Some((2, FRAME)), None] => "huge, then absent",
            [Some((1, found)), Some((1, FRAME))] if found == part => "parts",
            [Some((1, found)), None] if found == part => "part, and absent",
            _ => "elsewhere",
        }
    }
}

scenario!(Race);
