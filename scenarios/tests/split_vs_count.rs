//! # Split vs. count
//! Result: Never. A CPU finds a page to have one owner while it has two, and writes it in place.
//! CPUs: 0 splits a huge page, and moves the count of its owners from the whole to the part. 1
//!   handles a write to the part, which it may only allow if the page has no other owner: it counts
//!   the owners of the part, or of the whole if there are no parts.
//! Invariant: the counts of a page are changed, and read, under the lock of the range.
//! Guards against: a count without the lock, which may find no owner in either place.
//! Sites: LOCK_ACQUIRE, LOCK_RELEASE.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 2 executions, 9 under loom.
//! References: linux do_huge_pmd_wp_page, page_trans_huge_map_swapcount; project zero 2045.
//! History:
//! * 17, linux c444eb564fb1, CVE-2020-29368: owners are counted while a split moves the count
//!   => mistake-counts-without-the-lock
use weft_scenarios::prelude::*;

struct Race<B: World> {
    table: Table<B>,
    /// Whether there are parts.
    is_split: B::Cell<bool>,
    /// How many owners the huge page has as a whole.
    of_whole: SharedWord<B>,
    /// How many owners the part has for itself.
    of_part: SharedWord<B>,
}

impl<B: World> Race<B> {
    /// Locks the range of the part, and does something there.
    fn in_part<R>(&self, cpu: &Cpu<B>, act: impl FnOnce(&mut Cursor<'_, UserTable<B>>) -> R) -> R {
        let section = cpu.read_side();
        let root = self.table.root.borrow(&section);
        act(&mut Cursor::lock(root, pages::<B>(0..2)).expect("the path exists"))
    }
}

impl<B: World> Scenario<B> for Race<B> {
    /// How many owners were counted.
    type Saw = u64;
    const CPUS: Cpus<Self, B> = cpus([
        ("splitter", |race, cpu| {
            race.in_part(cpu, |cursor| {
                cursor.split().expect("there is a frame for the parts");
                let owners = race.of_whole.swap(0);
                race.of_part.store(owners);
                race.is_split.set(true);
                owners
            })
        }),
        ("counter", |race, cpu| {
            race.in_part(cpu, |_| match race.is_split.get() {
                true => race.of_part.load(),
                false => race.of_whole.load(),
            })
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("copied", "the page has another owner, so the writer gets a copy"),
        forbidden("in place", "a page of two owners is written in place"),
    ];
    const REACHED: &'static [Situation] = &[];
    const TWINS: Twins = twins([weakened(&sites::LOCK_RELEASE, "data race on is_split")]);
    const MISTAKES: Mistakes<Self, B> = mistakes([mistake(
        "counts-without-the-lock",
        1,
        "counts the owners of part and whole without the lock",
        |race, _cpu| race.of_part.load() + race.of_whole.load(),
        "a page of two owners is written in place",
    )]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        let table = machine.table(&[]);
        let section = machine.section();
        let mut cursor = Cursor::lock(table.root.borrow(&section), pages::<B>(0..4))
            .expect("the set-up has frames enough");
        let huge = machine.untracked(Paddr::new(1 << 30), 2, Property::new(PageFlags::USER));
        cursor.map(huge).expect("it fits");
        drop(cursor);
        drop(section);
        let [of_whole, of_part] =
            [("of_whole", 2), ("of_part", 0)].map(|(name, count)| SharedWord::new(name, count));
        Race { table, is_split: B::Cell::new("is_split", false), of_whole, of_part }
    }

    fn check(&self, _cpu: &mut Cpu<B>, saw: &[u64]) -> &'static str {
        if saw[1] < 2 { "in place" } else { "copied" }
    }
}

scenario!(Race);
