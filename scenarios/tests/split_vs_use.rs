//! # Split vs. use
//! Result: Never. A CPU goes on using a huge page after the table has told it that it is split.
//! CPUs: 0 splits a huge page. 1 runs on the space and reads its second part; then it asks, in a
//!   range of its own, how large the page is, and reads once more.
//! Invariant: the translation of the whole is flushed before the range is unlocked: no CPU that has
//!   the range next uses whole and parts beside each other.
//! Guards against: a split that is not flushed, because what is mapped stays the same.
//! Sites: LOCK_ACQUIRE, LOCK_RELEASE.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 31 executions, under loom to 3 preemptions.
//! References: Intel SDM, volume 3A, section 5.10.2.3; erratum 383 of AMD's family 10h; linux
//!   __split_huge_pmd_locked.
//! History:
//! * 19, linux ad5ca55f6bdb: a huge page is split and a part changed, while the whole is still
//!   cached => no-shootdown
use weft_scenarios::prelude::*;

struct Race<B: World> {
    table: Space<B>,
}

/// What the user was told, and what its hardware used then.
#[derive(Clone, Copy, Debug)]
struct Saw {
    is_split: bool,
    used: Option<Level>,
}

impl<B: World> Scenario<B> for Race<B> {
    type Saw = Option<Saw>;
    const CPUS: Cpus<Self, B> = cpus([
        ("splitter", |race, cpu| {
            let section = cpu.read_side();
            let root = race.table.root.borrow(&section);
            let mut cursor = Cursor::lock(root, pages::<B>(0..2)).expect("the path exists");
            cursor.split().expect("there is a frame for the parts");
            None
        }),
        ("user", |race, cpu| {
            cpu.activate(&race.table.root).expect("nothing is asked of a root here");
            let read = cpu.backend().user_read(page::<B>(1));
            assert!(read.is_some(), "a page that stays mapped is not there");
            let section = cpu.read_side();
            let root = race.table.root.borrow(&section);
            let mut cursor = Cursor::lock(root, pages::<B>(1..2)).expect("the path exists");
            let range = cursor.query().expect("the cursor is at the page").range;
            drop(cursor);
            drop(section);
            let used = cpu.backend().user_level(page::<B>(1));
            cpu.deactivate();
            Some(Saw { is_split: range.start == page::<B>(1), used })
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("whole", "the split came last"),
        interesting("parts", "the split came before the question"),
        forbidden("stale", "a CPU uses a huge page that it was told is split"),
    ];
    const REACHED: &'static [Situation] = &[];
    const TWINS: Twins = twins([
        no_shootdown("a CPU uses a huge page that it was told is split"),
        late_shootdown("a CPU uses a huge page that it was told is split"),
    ]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        let table = machine.space(&[]);
        let section = machine.section();
        let mut cursor = Cursor::lock(table.root.borrow(&section), pages::<B>(0..4))
            .expect("the set-up has frames enough");
        let property = Property::new(PageFlags::USER | PageFlags::ACCESSED);
        cursor.map(machine.untracked(Paddr::new(1 << 30), 2, property)).expect("it fits");
        drop(cursor);
        drop(section);
        Race { table }
    }

    fn check(&self, _cpu: &mut Cpu<B>, saw: &[Self::Saw]) -> &'static str {
        let Saw { is_split, used } = saw[1].expect("the user has asked");
        match is_split {
            true if used.is_some_and(|level| level > Level::LEAF) => "stale",
            true => "parts",
            false => "whole",
        }
    }
}

scenario!(Race);
