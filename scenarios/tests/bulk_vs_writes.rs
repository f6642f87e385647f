//! # Bulk changes vs. writes
//! Result: Never. A dirty bit that hardware sets is lost when pages are changed many at a time.
//! CPUs: 0 maps pages 0 and 1 at once, the second one accessed and dirty, takes the write
//!   permission of both away at once, and unmaps the second. 1 runs on the table and writes both.
//! Invariant: an accessed or dirty bit stays in the entry; what is not writable is not written.
//! Guards against: a run that stores over an entry because it may store over the one before.
//! Sites: PUBLISH_ITEM, PROTECT_ENTRY, CLEAR_ENTRY, ENTRY_RETRY.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 2,470 executions, under loom to 3 preemptions.
//! References: linux kvm merge 4f510c8bb1dd; FreeBSD 5983c3e7851a.
use weft_scenarios::prelude::*;

struct Race<B: World> {
    table: Space<B>,
}

impl<B: World> Scenario<B> for Race<B> {
    /// For the writer: whether the writes to page 0 and page 1 went through.
    type Saw = [bool; 2];
    const CPUS: Cpus<Self, B> = cpus([
        ("changer", |race, cpu| {
            let section = cpu.read_side();
            let root = race.table.root.borrow(&section);
            let mut cursor = Cursor::lock(root, pages::<B>(0..2)).expect("there are frames");
            let end = page::<B>(1).plus(B::Geometry::entry_span(Level::LEAF));
            let made = cursor.map_pages(end, |vaddr| {
                let frame = Frame::allocate(cpu.backend()).expect("there are frames enough");
                let mut property = Property::new(PageFlags::WRITE | PageFlags::USER);
                property.flags.set(PageFlags::NOTED, vaddr == page::<B>(1));
                MappedItem::Tracked { frame, property }
            });
            made.expect("nothing is mapped there");
            cursor.jump(page::<B>(0)).expect("it is in the range");
            let changed = cursor.protect(end, |mut property| {
                property.flags.remove(PageFlags::WRITE);
                property
            });
            assert!(changed == Ok(2), "a page is not counted once");
            cursor.jump(page::<B>(1)).expect("it is in the range");
            assert!(cursor.unmap(end) == Ok(1), "a page is not counted once");
            [false; 2]
        }),
        ("writer", |race, cpu| {
            cpu.activate(&race.table.root).expect("it is a root");
            let wrote = [0, 1].map(|number| cpu.backend().user_write(page::<B>(number), 8));
            cpu.deactivate();
            wrote
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("both written", "both writes came in between"),
        interesting("only page 0 written", "the second write was refused"),
        interesting("only page 1 written", "the first write came too early"),
        interesting("none written", "both writes were refused"),
        forbidden("lost", "a dirty bit that hardware set is lost"),
        forbidden("unprotected", "a page is writable although it was protected"),
    ];
    const REACHED: &'static [Situation] = &[];
    const TWINS: Twins = twins([torn_updates("a dirty bit that hardware set is lost")]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        Race { table: machine.space(&[(2, 2)]) }
    }

    fn check(&self, cpu: &mut Cpu<B>, saw: &[Self::Saw]) -> &'static str {
        let section = cpu.read_side();
        let page = look::<B>(self.table.root.borrow(&section), 0).item;
        let flags = page.expect("page 0 stays mapped").property.flags;
        let dirty = flags.contains(PageFlags::DIRTY);
        match saw[1] {
            _ if flags.contains(PageFlags::WRITE) => "unprotected",
            [wrote, _] if wrote != dirty => "lost",
            [true, true] => "both written",
            [true, false] => "only page 0 written",
            [false, true] => "only page 1 written",
            [false, false] => "none written",
        }
    }
}

scenario!(Race);
