//! # Take vs. use
//! Result: Never. A CPU uses one of many pages that were unmapped at once and freed.
//! CPUs: 0 unmaps a whole leaf and announces a quiescent state. 1 runs on the space and reads both
//!   pages of the leaf; it announces a quiescent state and reads the second page again.
//! Invariant: what is taken out as a whole is flushed as a whole.
//! Guards against: a flush of one page where a node went.
//! Sites: CLEAR_ENTRY.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 399 executions, under loom to 3 preemptions.
//! References: linux 1de14c3c5cbc, 92a8109e4d3a.
//! History:
//! * 31, aarch64-paging 0.12.3: a table is freed after a flush of its first address alone => mutant
//!   node_flushed_at_its_first_page
use weft_scenarios::prelude::*;

struct Race<B: World> {
    table: Space<B>,
}

/// What the user read: page 0, page 1, and page 1 again.
type Reads = [Option<u64>; 3];

impl<B: World> Scenario<B> for Race<B> {
    type Saw = Option<Reads>;
    const CPUS: Cpus<Self, B> = cpus([
        ("taker", |race, cpu| {
            let section = cpu.read_side();
            let root = race.table.root.borrow(&section);
            let mut cursor = Cursor::lock(root, pages::<B>(0..4)).expect("the path exists");
            let taken = cursor.take_next().expect("no huge page is there").expect("pages are");
            assert!(taken.frames == 2, "a leaf is not taken as a whole");
            drop(cursor);
            drop(section);
            cpu.quiescent();
            None
        }),
        ("user", |race, cpu| {
            cpu.activate(&race.table.root).expect("nothing is asked of a root here");
            let [first, second] = [0, 1].map(|number| cpu.backend().user_read(page::<B>(number)));
            cpu.quiescent();
            let again = cpu.backend().user_read(page::<B>(1));
            cpu.deactivate();
            Some([first, second, again])
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("used throughout", "the leaf was taken last"),
        interesting("taken in between", "a later read faulted"),
        interesting("taken first", "all reads faulted"),
        forbidden("stale", "a page is used after one was gone that went with it"),
        forbidden("corrupt", "a page does not have its contents"),
    ];
    const REACHED: &'static [Situation] =
        &[met("a grace period ended", |event| matches!(event, Event::GracePeriodEnded))];
    const TWINS: Twins =
        twins([no_shootdown("use after free"), forgotten_holder(1, "use after free")]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        Race { table: machine.used_space(&[(0, 5), (1, 6)]) }
    }

    fn check(&self, _cpu: &mut Cpu<B>, saw: &[Self::Saw]) -> &'static str {
        match saw[1].expect("the user has read the pages") {
            [Some(5), Some(6), Some(6)] => "used throughout",
            [None, None, None] => "taken first",
            [None, Some(6), _] | [_, None, Some(6)] => "stale",
            [Some(5), None | Some(6), None] => "taken in between",
            _ => "corrupt",
        }
    }
}

scenario!(Race);
