//! # Clean vs. unmap
//! Result: Never. A write is lost: the page was written after it was cleaned, and nothing says so.
//! CPUs: 0 unmaps a page, and notes for its owner that the page is dirty. 1 runs on the space and
//!   writes the page; then it cleans it: it takes away the right to write, collects what was noted
//!   as dirty, copies the page to a disk, and writes once more.
//! Invariant: a CPU that finds a range without the page finds no translation of the page either.
//!   So what is on the disk is what is in the page.
//! Guards against: noting the page as dirty and giving the range back before the flush.
//! Sites: LOCK_RELEASE, CLEAR_ENTRY, PROTECT_ENTRY, FLUSH_ORDER.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 47 executions, under loom to 3 preemptions.
//! References: linux zap_pte_range, page_mkclean_one; mm/memory.c, "force_flush".
//! History:
//! * 6, linux 1cf35d47712d: a dirty page is cleaned between the unmap of it and the flush
//!   => mistake-flushes-last, no-shootdown
use weft_scenarios::prelude::*;

struct Race<B: World> {
    table: Space<B>,
    frame: Frame<B>,
    /// What is noted of the page beside its entries: 1 if it is dirty.
    dirty: SharedWord<B>,
}

/// What the cleaner found.
#[derive(Clone, Copy, Debug)]
struct Saw {
    /// Whether the page was dirty in its entry.
    in_entry: bool,
    /// Whether it was noted as dirty.
    in_note: bool,
    /// What was copied to the disk, if it was dirty.
    copied: Option<u64>,
}

impl<B: World> Race<B> {
    /// Unmaps the page and notes it as dirty; `end` flushes it and gives the range back.
    fn unmap(
        &self,
        cpu: &Cpu<B>,
        end: impl FnOnce(Detached<'_, UserTable<B>>, Guard<'_, UserTable<B>>),
    ) {
        let section = cpu.read_side();
        let root = self.table.root.borrow(&section);
        let leaf = lock_covering(root, page::<B>(0), Level::LEAF);
        let mut leaf = leaf.expect("the path exists");
        let taken = leaf.entry(0).expect("a node has two entries").detach();
        let taken = taken.expect("the entry is managed");
        if let ChildRef::Item(page) = taken.child()
            && page.property.flags.contains(PageFlags::DIRTY)
        {
            self.dirty.store_release(1);
        }
        end(taken, leaf);
    }

    /// Takes away the right to write the page, and says whether its entry was dirty.
    fn protect(&self, cpu: &Cpu<B>) -> bool {
        let mut is_dirty = false;
        let section = cpu.read_side();
        let root = self.table.root.borrow(&section);
        let mut cursor = Cursor::lock(root, pages::<B>(0..1)).expect("the path exists");
        let cleaned = cursor.protect(page::<B>(1), |mut property| {
            is_dirty = property.flags.contains(PageFlags::DIRTY);
            property.flags.remove(PageFlags::WRITE | PageFlags::DIRTY);
            property
        });
        cleaned.expect("no huge page is there");
        is_dirty
    }
}

impl<B: World> Scenario<B> for Race<B> {
    type Saw = Option<Saw>;
    const CPUS: Cpus<Self, B> = cpus([
        ("unmapper", |race, cpu| {
            race.unmap(cpu, |taken, leaf| {
                taken.retire();
                drop(leaf);
            });
            None
        }),
        ("cleaner", |race, cpu| {
            cpu.activate(&race.table.root).expect("nothing is asked of a root here");
            cpu.backend().user_write(page::<B>(0), 8);
            let in_entry = race.protect(cpu);
            let in_note = race.dirty.swap(0) != 0;
            let paddr = race.frame.paddr();
            let copied = (in_entry || in_note).then(|| cpu.backend().read_contents(paddr));
            cpu.backend().user_write(page::<B>(0), 9);
            cpu.deactivate();
            Some(Saw { in_entry, in_note, copied })
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("cleaned in the entry", "the page was unmapped last"),
        interesting("cleaned in the note", "the page was unmapped behind the first write"),
        interesting("never written", "the page was unmapped first"),
        forbidden("lost", "a write is lost: the page was written after it was cleaned"),
    ];
    const REACHED: &'static [Situation] = &[];
    const TWINS: Twins =
        twins([no_shootdown("a write is lost: the page was written after it was cleaned")]);
    const MISTAKES: Mistakes<Self, B> = mistakes([mistake(
        "flushes-last",
        0,
        "gives the range back before it flushes",
        |race, cpu| {
            race.unmap(cpu, |taken, leaf| {
                drop(leaf);
                taken.retire();
            });
            None
        },
        "a write is lost: the page was written after it was cleaned",
    )]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        let table = machine.used_space(&[(1, 6)]);
        let frame = machine.lend(&table, 0, 5, PageFlags::WRITE | PageFlags::ACCESSED);
        Race { table, frame, dirty: SharedWord::new("dirty", 0) }
    }

    fn check(&self, cpu: &mut Cpu<B>, saw: &[Self::Saw]) -> &'static str {
        let saw = saw[1].expect("the cleaner has looked");
        let contents = cpu.backend().read_contents(self.frame.paddr());
        if contents != saw.copied.unwrap_or(5) {
            return "lost";
        }
        match (saw.in_entry, saw.in_note) {
            (true, _) => "cleaned in the entry",
            (false, true) => "cleaned in the note",
            (false, false) => "never written",
        }
    }
}

scenario!(Race);
