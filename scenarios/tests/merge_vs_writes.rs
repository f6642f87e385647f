//! # Merge vs. writes
//! Result: Never. A dirty bit that hardware sets is lost when pages are merged into a huge one.
//! CPUs: 0 merges the pages of a leaf into a huge page. 1 runs on the table and writes page 0; if
//!   it faults, it waits for the range and writes again, as a handler of faults does.
//! Invariant: a page is as dirty as hardware made any part of it; who has waited finds it there.
//! Guards against: bits collected before the entries are cleared; a range unlocked in the gap.
//! Sites: CLEAR_ENTRY, PUBLISH_ITEM, LOCK_ACQUIRE, LOCK_RELEASE.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 86 executions, under loom to 3 preemptions.
//! References: Linux mm/khugepaged.c, collapse_huge_page; Intel SDM, volume 3A, section 5.8.
use weft_scenarios::prelude::*;

/// Where the pages are: memory without an owner, aligned to what a huge page covers.
const FRAME: Paddr = Paddr::new(1 << 30);

struct Race<B: World> {
    table: Space<B>,
}

impl<B: World> Scenario<B> for Race<B> {
    /// For the writer: whether its first write went through.
    type Saw = bool;
    const CPUS: Cpus<Self, B> = cpus([
        ("merger", |race, cpu| {
            let section = cpu.read_side();
            let root = race.table.root.borrow(&section);
            let mut cursor = Cursor::lock(root, pages::<B>(0..2)).expect("the path exists");
            cursor.merge().expect("the pages are alike, and one behind the other");
            false
        }),
        ("writer", |race, cpu| {
            cpu.activate(&race.table.root).expect("it is a root");
            let wrote = cpu.backend().user_write(page::<B>(0), 8);
            if !wrote {
                let section = cpu.read_side();
                let root = race.table.root.borrow(&section);
                drop(Cursor::lock(root, pages::<B>(0..1)).expect("the path exists"));
                drop(section);
                let wrote = cpu.backend().user_write(page::<B>(0), 8);
                assert!(wrote, "a page is not there after its merge");
            }
            cpu.deactivate();
            wrote
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("written", "the write came before the leaf went, or behind the merge"),
        interesting("refused", "the write met the gap in between, and was repeated"),
        forbidden("lost", "a dirty bit that hardware set is lost in a merge"),
        forbidden("not merged", "a merge that succeeded left no huge page"),
    ];
    const REACHED: &'static [Situation] = &[];
    const TWINS: Twins = twins([
        weakened(&sites::LOCK_ACQUIRE, "data race on N"),
        weakened(&sites::LOCK_RELEASE, "data race on N"),
    ]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        let table = machine.space(&[]);
        let section = machine.section();
        let mut cursor = Cursor::lock(table.root.borrow(&section), pages::<B>(0..4))
            .expect("the set-up has frames enough");
        let huge = machine.untracked(FRAME, 2, Property::new(PageFlags::WRITE));
        cursor.map(huge).expect("it fits");
        cursor.jump(page::<B>(0)).expect("it is in the range");
        cursor.split().expect("the set-up has frames enough");
        drop(cursor);
        drop(section);
        Race { table }
    }

    fn check(&self, cpu: &mut Cpu<B>, saw: &[bool]) -> &'static str {
        let section = cpu.read_side();
        let slot = look::<B>(self.table.root.borrow(&section), 1);
        let Some(page) = slot.item.filter(|page| page.level > Level::LEAF) else {
            return "not merged";
        };
        match (page.property.flags.contains(PageFlags::DIRTY), saw[1]) {
            (true, true) => "written",
            (true, false) => "refused",
            (false, _) => "lost",
        }
    }
}

scenario!(Race);
