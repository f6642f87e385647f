//! # Ask vs. ask
//! Result: Never. Two CPUs each map a page, then look for the other's, and both miss it.
//! CPUs: 0 and 1 each map a page of their own, and then ask for the other's without locks: 0 with a
//!   query, 1 with a visit.
//! Invariant: queries that lock nothing fall into one order with the changes before them.
//! Guards against: a query that overtakes its own CPU's store on the way to memory.
//! Sites: QUERY_ORDER, PUBLISH_ITEM, WALK_ENTRY.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 3 executions, 85 under loom.
//! References: Intel SDM, volume 3A, section 9.2.3.4; the litmus test SB+mbs.
use weft_scenarios::prelude::*;

const BOTH: Situation = situation("a CPU found the other's page");

struct Race<B: World> {
    root: Node<UserTable<B>>,
    pages: [Parcel<Frame<B>>; 2],
}

/// A page in a leaf of each CPU's own.
fn page<B: World>(cpu: usize) -> core::ops::Range<Vaddr> {
    let start = B::Geometry::address(&[0, cpu]);
    start..start.plus(B::Geometry::entry_span(Level::LEAF))
}

impl<B: World> Race<B> {
    /// Maps the page of one CPU, and says whether that of the other is mapped.
    fn map_and_ask(&self, cpu: &mut Cpu<B>, own: usize) -> bool {
        let frame = self.pages[own].take();
        let section = cpu.read_side();
        let root = self.root.borrow(&section);
        let mut cursor = Cursor::lock(root, page::<B>(own)).expect("there is a leaf");
        let item = MappedItem::Tracked { frame, property: Property::new(PageFlags::WRITE) };
        cursor.map(item).expect("nothing is mapped there");
        drop(cursor);
        let other = page::<B>(1 - own);
        let mut asking = SharedCursor::new(root, other.clone()).expect("it is a page");
        let found = if own == 0 {
            asking.query().expect("the cursor is at the start").item.is_some()
        } else {
            let mut found = false;
            asking.visit(other.end, |_, _| found = true).expect("the end is behind the start");
            found
        };
        if found {
            cpu.reached(BOTH);
        }
        found
    }
}

impl<B: World> Scenario<B> for Race<B> {
    type Saw = bool;
    const CPUS: Cpus<Self, B> = cpus([
        ("first", |race, cpu| race.map_and_ask(cpu, 0)),
        ("second", |race, cpu| race.map_and_ask(cpu, 1)),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("the first saw the second", "the second asked before the first mapped"),
        interesting("the second saw the first", "the first asked before the second mapped"),
        interesting("both saw", "both mapped before either asked"),
        forbidden("both missed", "two CPUs map a page each, and both miss the other's"),
    ];
    const REACHED: &'static [Situation] = &[BOTH];
    const TWINS: Twins = twins([weakened_fence(
        &sites::QUERY_ORDER,
        "two CPUs map a page each, and both miss the other's",
    )]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        let root = machine.user_root();
        // A neighbour in each leaf, so that the leaves are there.
        machine.map(&root, B::Geometry::address(&[1, 0]), 0);
        machine.map(&root, B::Geometry::address(&[1, 1]), 0);
        let pages = [0, 1].map(|contents| Parcel::new(machine.frame(contents)));
        Race { root, pages }
    }

    fn check(&self, _cpu: &mut Cpu<B>, saw: &[bool]) -> &'static str {
        match saw {
            [true, true] => "both saw",
            [true, false] => "the first saw the second",
            [false, true] => "the second saw the first",
            _ => "both missed",
        }
    }
}

scenario!(Race);
