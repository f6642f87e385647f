//! # Use vs. move
//! Result: Never. A CPU uses a page at its old address after it has used it at the new one.
//! CPUs: 0 runs on the space and reads the page; it reads at the new address, then at the old
//!   one. 1 moves the page from one to the other, under one cursor.
//! Invariant: the old translation is flushed before the page is put at the new address.
//! Guards against: a page that is put at its new address first, and flushed at the end.
//! Sites: LOCK_ACQUIRE, PUBLISH_ITEM, CLEAR_ENTRY.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 2,398 executions, under loom to 3 preemptions.
//! References: linux move_ptes (mm/mremap.c), eb66ae030829; CVE-2018-18281.
use weft_core::address::FRAME_SIZE;
use weft_scenarios::prelude::*;

struct Race<B: World> {
    table: Space<B>,
}

/// The contents that the user found.
#[derive(Clone, Copy, Debug)]
struct Saw {
    at_new: Option<u64>,
    at_old: Option<u64>,
}

impl<B: World> Scenario<B> for Race<B> {
    type Saw = Option<Saw>;
    const CPUS: Cpus<Self, B> = cpus([
        ("user", |race, cpu| {
            cpu.activate(&race.table.root).expect("nothing is asked of a root here");
            cpu.backend().user_read(page::<B>(1));
            let at_new = cpu.backend().user_read(page::<B>(2));
            let at_old = cpu.backend().user_read(page::<B>(1));
            cpu.deactivate();
            Some(Saw { at_new, at_old })
        }),
        ("mover", |race, cpu| {
            let section = cpu.read_side();
            let root = race.table.root.borrow(&section);
            let mut cursor = Cursor::lock(root, pages::<B>(1..3)).expect("the path exists");
            let end = page::<B>(1).plus(FRAME_SIZE);
            let moved = cursor.move_pages(end, page::<B>(2));
            assert!(moved == Ok(1), "one page is there to be moved");
            None
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("old", "the move came last"),
        interesting("new", "the move came first"),
        interesting("neither", "the page was on its way"),
        forbidden(
            "both",
            "a CPU uses a page at its old address after it has used it at the new one",
        ),
        forbidden("corrupt", "a page does not have its contents"),
    ];
    const REACHED: &'static [Situation] = &[];
    const TWINS: Twins = twins([
        no_shootdown("a CPU uses a page at its old address after it has used it at the new one"),
        late_shootdown("a CPU uses a page at its old address after it has used it at the new one"),
        forgotten_holder(0, "a CPU uses a page at its old address after it has used it at the new"),
    ]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        Race { table: machine.space(&[(0, 5), (1, 6), (3, 7)]) }
    }

    fn check(&self, _cpu: &mut Cpu<B>, saw: &[Self::Saw]) -> &'static str {
        let saw = saw[0].expect("the user has looked at both");
        match (saw.at_new, saw.at_old) {
            (Some(6), Some(6)) => "both",
            (Some(6), None) => "new",
            (None, Some(6)) => "old",
            (None, None) => "neither",
            _ => "corrupt",
        }
    }
}

scenario!(Race);
