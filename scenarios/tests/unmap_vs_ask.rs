//! # Unmap vs. ask
//! Result: Never. A CPU finds the page gone that went second, and then the first one still there.
//! CPUs: 0 unmaps one page, and then another, accessed and dirty, each in a range of its own. 1
//!   asks for the second without locks, and then for the first.
//! Invariant: queries that lock nothing fall into one order with what cursors take out, and who
//!   finds a page gone sees what was written before it went.
//! Guards against: a cleared entry that overtakes one that was cleared before it.
//! Sites: CLEAR_ENTRY, WALK_ENTRY.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 3 executions, 60 under loom.
//! References: the litmus test MP, with stores that say "nothing here".
use weft_scenarios::prelude::*;

const GONE: Situation = situation("the asker found the second page gone");

struct Race<B: World> {
    root: Node<UserTable<B>>,
    /// Each is written before one of the two goes: who finds that gone may read it.
    notes: [B::Cell<bool>; 2],
}

/// A page in a leaf of its own.
fn page<B: World>(leaf: usize) -> core::ops::Range<Vaddr> {
    let start = B::Geometry::address(&[0, leaf]);
    start..start.plus(B::Geometry::entry_span(Level::LEAF))
}

impl<B: World> Scenario<B> for Race<B> {
    type Saw = [bool; 2];
    const CPUS: Cpus<Self, B> = cpus([
        ("unmapper", |race, cpu| {
            let section = cpu.read_side();
            let root = race.root.borrow(&section);
            [0, 1].map(|leaf| {
                race.notes[leaf].set(true);
                let mut cursor = Cursor::lock(root, page::<B>(leaf)).expect("there is a leaf");
                cursor.unmap(page::<B>(leaf).end).expect("the page is not huge") == 1
            })
        }),
        ("asker", |race, cpu| {
            let section = cpu.read_side();
            let root = race.root.borrow(&section);
            let [second, first] = [1, 0].map(|leaf| {
                let asking = SharedCursor::new(root, page::<B>(leaf)).expect("it is a page");
                let found = asking.query().expect("the cursor is at the start").item.is_some();
                assert!(
                    found || race.notes[leaf].get(),
                    "what was written before a page went is not seen after"
                );
                found
            });
            if !second {
                cpu.reached(GONE);
            }
            [first, second]
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("both there", "the asker came before the first page went"),
        interesting("second there", "the asker came between the two"),
        interesting("both gone", "the asker came after the second page went"),
        forbidden("first there", "a page was found that went before one that was found gone"),
    ];
    const REACHED: &'static [Situation] = &[GONE];
    const TWINS: Twins = twins([weakened(&sites::CLEAR_ENTRY, "data race on note")]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        let root = machine.user_root();
        let section = machine.section();
        for (leaf, noted) in [PageFlags::empty(), PageFlags::NOTED].into_iter().enumerate() {
            // A neighbour, so that the leaf stays.
            machine.map(&root, B::Geometry::address(&[1, leaf]), 0);
            let (frame, property) = (machine.frame(0), Property::new(PageFlags::WRITE | noted));
            let mut cursor = Cursor::lock(root.borrow(&section), page::<B>(leaf))
                .expect("the set-up has frames enough");
            let item = MappedItem::Tracked { frame, property };
            cursor.map(item).expect("nothing is mapped there");
        }
        drop(section);
        Race { root, notes: [B::Cell::new("note", false), B::Cell::new("note", false)] }
    }

    fn check(&self, _cpu: &mut Cpu<B>, saw: &[[bool; 2]]) -> &'static str {
        match saw[1] {
            [true, true] => "both there",
            [false, true] => "second there",
            [false, false] => "both gone",
            [true, false] => "first there",
        }
    }
}

scenario!(Race);
