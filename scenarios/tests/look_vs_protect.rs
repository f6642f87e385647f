//! # Look vs. protect
//! Result: Never. A query finds a page whose rights have changed, without its contents.
//! CPUs: 0 fills a frame and maps it, accessed and dirty. 1 takes write permissions away, in a run.
//!   2 looks for the next page without locks, and reads it.
//! Invariant: an entry leads to a complete frame, whichever CPU wrote the entry last.
//! Guards against: a run that changes pages with stores that publish nothing: they end the release
//!   sequence of the CPU that mapped the page.
//! Sites: PUBLISH_ITEM, PROTECT_ENTRY, WALK_ENTRY.
//! Bounds: 3 CPUs, 3 levels, no preemption bound; 5 executions.
//! References: C++20 [intro.races], release sequences; Lahav et al. (PLDI'17), section 3.
use weft_scenarios::prelude::*;

const FOUND: Situation = situation("the asker found the page protected");

struct Race<B: World> {
    table: Table<B>,
}

impl<B: World> Scenario<B> for Race<B> {
    /// For the asker: what it read.
    type Saw = Option<u64>;
    const CPUS: Cpus<Self, B> = cpus([
        ("mapper", |race, cpu| {
            let frame = Frame::allocate(cpu.backend()).expect("there are frames enough");
            cpu.backend().write_contents(frame.paddr(), 7);
            let property = Property::new(PageFlags::WRITE | PageFlags::NOTED);
            let section = cpu.read_side();
            let root = race.table.root.borrow(&section);
            let mut cursor = Cursor::lock(root, pages::<B>(0..1)).expect("the path exists");
            cursor.map(MappedItem::Tracked { frame, property }).expect("nothing is there");
            None
        }),
        ("protector", |race, cpu| {
            let section = cpu.read_side();
            let root = race.table.root.borrow(&section);
            let range = pages::<B>(0..1);
            let mut cursor = Cursor::lock(root, range.clone()).expect("the path exists");
            let changed = cursor.protect(range.end, |mut property| {
                property.flags.remove(PageFlags::WRITE);
                property
            });
            Some(changed.expect("no huge page is there"))
        }),
        ("asker", |race, cpu| {
            let section = cpu.read_side();
            let root = race.table.root.borrow(&section);
            let mut asking = SharedCursor::new(root, pages::<B>(0..1)).expect("it is a page");
            let page = asking.find_next()?.item?;
            if !page.property.flags.contains(PageFlags::WRITE) {
                cpu.reached(FOUND);
            }
            Some(cpu.backend().read_contents(page.frame))
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        acceptable("absent", "the query came first"),
        interesting("complete", "the query met the page"),
        forbidden("incomplete", "a reachable page does not have its contents"),
    ];
    const REACHED: &'static [Situation] = &[FOUND];
    const TWINS: Twins = twins([
        weakened(&sites::PUBLISH_ITEM, "use before allocation: N"),
        weakened(&sites::PROTECT_ENTRY, "use before allocation: N"),
        weakened(&sites::WALK_ENTRY, "use before allocation: N"),
    ]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        Race { table: machine.table(&[(1, 1)]) }
    }

    fn check(&self, _cpu: &mut Cpu<B>, saw: &[Option<u64>]) -> &'static str {
        match saw[2] {
            None => "absent",
            Some(7) => "complete",
            Some(_) => "incomplete",
        }
    }
}

scenario!(Race);
