//! # Abort vs. writes
//! Result: Never. A page that may not be written is written, after an operation was undone.
//! CPUs: 0 takes away the right to write two pages, of which the second never had it, because it is
//!   about to move them; it cannot, and gives back what it took. 1 runs on the space and writes
//!   both pages.
//! Invariant: what is undone is as it was before, page by page.
//! Guards against: giving all pages back what the first one had.
//! Sites: PROTECT_ENTRY, ENTRY_RETRY.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 803 executions, under loom to 3 preemptions.
//! References: linux try_to_unmap_one, folio_unmap_pte_batch (mm/rmap.c), set_ptes.
//! History:
//! * N19, linux set_ptes, CVE-2026-31398: a batch is undone with the flags of its first entry, and
//!   read-only pages come back writable => mistake-restores-the-first
use weft_scenarios::prelude::*;

struct Race<B: World> {
    table: Space<B>,
    /// What both pages are of.
    _frames: [Frame<B>; 2],
}

impl<B: World> Race<B> {
    /// Takes away the right to write both pages, and gives each back what `had` finds, among what
    /// both had, for a page by its number.
    fn abort(&self, cpu: &Cpu<B>, had: impl Fn([PageFlags; 2], usize) -> PageFlags) {
        let section = cpu.read_side();
        let root = self.table.root.borrow(&section);
        let mut cursor = Cursor::lock(root, pages::<B>(0..2)).expect("the path exists");
        let mut protect = |number: u8, flags: PageFlags| {
            cursor.jump(page::<B>(number)).expect("it is in the range");
            let changed = cursor.protect_next(|mut property| {
                property.flags.set(PageFlags::WRITE, flags.contains(PageFlags::WRITE));
                property
            });
            let changed = changed.expect("no huge page is there");
            changed.expect("the page is mapped").before.flags
        };
        let before = [0, 1].map(|number| protect(number, PageFlags::empty()));
        for number in 0..2 {
            protect(number, had(before, number.into()));
        }
    }
}

impl<B: World> Scenario<B> for Race<B> {
    /// Whether the writes went through.
    type Saw = [bool; 2];
    const CPUS: Cpus<Self, B> = cpus([
        ("aborter", |race, cpu| {
            race.abort(cpu, |before, number| before[number]);
            [false; 2]
        }),
        ("writer", |race, cpu| {
            cpu.activate(&race.table.root).expect("nothing is asked of a root here");
            let wrote = [0, 1].map(|number| cpu.backend().user_write(page::<B>(number), 8));
            cpu.deactivate();
            wrote
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("written", "the first page could be written"),
        interesting("refused", "the right to write the first page was taken away for a while"),
        forbidden("written anyway", "a page is written that may not be"),
        forbidden("lost", "a dirty bit that hardware set is lost"),
    ];
    const REACHED: &'static [Situation] = &[];
    const TWINS: Twins = twins([torn_updates("a dirty bit that hardware set is lost")]);
    const MISTAKES: Mistakes<Self, B> = mistakes([mistake(
        "restores-the-first",
        0,
        "gives both pages back what the first one had",
        |race, cpu| {
            race.abort(cpu, |before, _| before[0]);
            [false; 2]
        },
        "a page is written that may not be",
    )]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        let table = machine.space(&[]);
        let flags = [PageFlags::WRITE | PageFlags::ACCESSED, PageFlags::ACCESSED];
        let frames =
            [0, 1].map(|number| machine.lend(&table, number, 5, flags[usize::from(number)]));
        Race { table, _frames: frames }
    }

    fn check(&self, cpu: &mut Cpu<B>, saw: &[Self::Saw]) -> &'static str {
        let section = cpu.read_side();
        let slot = look::<B>(self.table.root.borrow(&section), 0);
        let flags = slot.item.expect("the page is mapped").property.flags;
        match saw[1] {
            [_, true] => "written anyway",
            [true, false] if !flags.contains(PageFlags::DIRTY) => "lost",
            [true, false] => "written",
            [false, false] => "refused",
        }
    }
}

scenario!(Race);
