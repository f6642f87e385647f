//! # Move vs. scan
//! Result: Never. A page that stays mapped is found in neither of the places that it moves between.
//! CPUs: 0 moves a page from one address to another. 1 looks for it: at the new address, then at
//!   the old one.
//! Invariant: the move is one step for a CPU that locks both places.
//! Guards against: letting go of the old place before the new one is filled; a scan that lets go of
//!   the one place before it looks at the other.
//! Sites: LOCK_ACQUIRE, LOCK_RELEASE.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 2 executions, 9 under loom.
//! References: linux move_ptes, "need_rmap_locks" (mm/mremap.c); remove_migration_ptes.
//! History:
//! * 18, linux dd18dbc2d42a, linux 486cf46f3f9b: an entry moves behind a walker
//!   => mistake-moves-in-two, mistake-scans-in-two
use weft_scenarios::prelude::*;

struct Race<B: World> {
    table: Table<B>,
    frame: Frame<B>,
    /// Whether the page was moved, under the locks of both places.
    is_moved: B::Cell<bool>,
}

/// Where the page was found: at the new address, at the old one.
type Found = [bool; 2];

impl<B: World> Race<B> {
    /// Locks a range, and does something in it.
    fn within(
        &self,
        cpu: &Cpu<B>,
        numbers: core::ops::Range<u8>,
        act: impl FnOnce(&mut Cursor<'_, UserTable<B>>),
    ) {
        let section = cpu.read_side();
        let root = self.table.root.borrow(&section);
        act(&mut Cursor::lock(root, pages::<B>(numbers)).expect("the path exists"));
    }

    fn take(cursor: &mut Cursor<'_, UserTable<B>>) {
        cursor.jump(page::<B>(0)).expect("it is in the range");
        assert!(cursor.unmap(page::<B>(1)) == Ok(1), "the page is mapped");
    }

    fn put(&self, cpu: &Cpu<B>, cursor: &mut Cursor<'_, UserTable<B>>) {
        cursor.jump(page::<B>(2)).expect("it is in the range");
        let item = lent_item(cpu.backend(), self.frame.paddr(), PageFlags::WRITE);
        cursor.map(item).expect("nothing is mapped there");
    }

    fn is_at(cursor: &mut Cursor<'_, UserTable<B>>, number: u8) -> bool {
        cursor.jump(page::<B>(number)).expect("it is in the range");
        cursor.query().expect("the cursor is at the page").item.is_some()
    }
}

impl<B: World> Scenario<B> for Race<B> {
    type Saw = Found;
    const CPUS: Cpus<Self, B> = cpus([
        ("mover", |race, cpu| {
            race.within(cpu, 0..3, |cursor| {
                Self::take(cursor);
                race.put(cpu, cursor);
                race.is_moved.set(true);
            });
            [false; 2]
        }),
        ("scanner", |race, cpu| {
            let mut found = [false; 2];
            race.within(cpu, 0..3, |cursor| {
                found = [2, 0].map(|at| Self::is_at(cursor, at));
                assert!(found[0] == race.is_moved.get(), "a page is not where it was moved to");
            });
            found
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("moved first", "the page was at its new address"),
        interesting("scanned first", "the page was at its old address"),
        forbidden("missed", "a page that moves is found in neither place"),
        forbidden("doubled", "a page that moves is found in both places"),
    ];
    const REACHED: &'static [Situation] = &[];
    const TWINS: Twins = twins([
        weakened(&sites::LOCK_ACQUIRE, "data race on is_moved"),
        weakened(&sites::LOCK_RELEASE, "data race on is_moved"),
    ]);
    const MISTAKES: Mistakes<Self, B> = mistakes([
        mistake(
            "moves-in-two",
            0,
            "lets go of the old place before it fills the new one",
            |race, cpu| {
                race.within(cpu, 0..1, Self::take);
                race.within(cpu, 2..3, |cursor| race.put(cpu, cursor));
                [false; 2]
            },
            "a page that moves is found in neither place",
        ),
        mistake(
            "scans-in-two",
            1,
            "lets go of the new place before it looks at the old one",
            |race, cpu| {
                let mut found = [false; 2];
                race.within(cpu, 2..3, |cursor| found[0] = Self::is_at(cursor, 2));
                race.within(cpu, 0..1, |cursor| found[1] = Self::is_at(cursor, 0));
                found
            },
            "a page that moves is found in neither place",
        ),
    ]);
    const SET_UP_FRAMES: usize = 10;

    fn set_up(machine: &mut Machine<B>) -> Self {
        let table = machine.table(&[(1, 5), (3, 7)]);
        let frame = machine.lend(&table, 0, 6, PageFlags::WRITE | PageFlags::NOTED);
        Race { table, frame, is_moved: B::Cell::new("is_moved", false) }
    }

    fn check(&self, _cpu: &mut Cpu<B>, saw: &[Found]) -> &'static str {
        match saw[1] {
            [true, false] => "moved first",
            [false, true] => "scanned first",
            [false, false] => "missed",
            [true, true] => "doubled",
        }
    }
}

scenario!(Race);
