//! # Switch vs. detach
//! Result: Never. A CPU that comes back to a space uses a page that was taken out by hand
//!   meanwhile, and freed.
//! CPUs: 0 runs on the space and reads the page, switches to another space and back,
//!   announces a quiescent state and reads the page once more. 1 takes the page out of its locked
//!   leaf, retires it and announces a quiescent state.
//! Invariant: the owner of a bare guard knows no space, and raises no generation. It asks every CPU
//!   that runs on a root, and a CPU that is asked trusts no tag any more but its current one, under
//!   which it flushes.
//! Guards against: a tag that is kept because the generation of its space has not moved on.
//! Sites: ACTIVATE_ORDER, FLUSH_ORDER, HOLDER_JOINS.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 117 executions, under loom to 3 preemptions.
//! References: linux choose_new_asid, invalidate_other_asid (arch/x86/mm/tlb.c).
use weft_scenarios::prelude::*;

struct Race<B: World> {
    table: Space<B>,
    other: Space<B>,
}

/// What the user read, at first and behind its quiescent state.
type Reads = [Option<u64>; 2];

impl<B: World> Scenario<B> for Race<B> {
    type Saw = Option<Reads>;
    const CPUS: Cpus<Self, B> = cpus([
        ("user", |race, cpu| {
            cpu.activate(&race.table.root).expect("nothing is asked of a root here");
            let before = cpu.backend().user_read(page::<B>(0));
            cpu.activate(&race.other.root).expect("nothing is asked of a root here");
            cpu.activate(&race.table.root).expect("nothing is asked of a root here");
            cpu.quiescent();
            let after = cpu.backend().user_read(page::<B>(0));
            cpu.deactivate();
            Some([before, after])
        }),
        ("detacher", |race, cpu| {
            let section = cpu.read_side();
            let root = race.table.root.borrow(&section);
            let leaf = lock_covering(root, page::<B>(0), Level::LEAF);
            let mut leaf = leaf.expect("the path exists");
            let mut entry = leaf.entry(0).expect("a node has two entries");
            entry.detach().expect("the entry is managed").retire();
            drop(leaf);
            drop(section);
            cpu.quiescent();
            None
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("used throughout", "the page was taken out last"),
        interesting("taken out in between", "the second read faulted"),
        interesting("taken out first", "both reads faulted"),
        forbidden("corrupt", "a page does not have its contents"),
    ];
    const REACHED: &'static [Situation] =
        &[met("a grace period ended", |event| matches!(event, Event::GracePeriodEnded))];
    const TWINS: Twins = twins([tags_kept("use after free")]);
    const SET_UP_FRAMES: usize = 12;

    fn set_up(machine: &mut Machine<B>) -> Self {
        Race { table: machine.used_space(&[(0, 5), (1, 6)]), other: machine.space(&[]) }
    }

    fn check(&self, _cpu: &mut Cpu<B>, saw: &[Self::Saw]) -> &'static str {
        match saw[0].expect("the user has read the page") {
            [Some(5), Some(5)] => "used throughout",
            [Some(5), None] => "taken out in between",
            [None, None] => "taken out first",
            _ => "corrupt",
        }
    }
}

scenario!(Race);
