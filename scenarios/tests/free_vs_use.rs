//! # Free vs. use
//! Result: Never. A CPU uses a page whose frame its kernel has freed.
//! CPUs: 0 unmaps a page of a frame that it counts itself, flushes, and frees the frame. 1 runs on
//!   the space and reads the page twice.
//! Invariant: a frame is freed only when no CPU has a translation that leads to it. Where the table
//!   owns the frame it sees to that; a kernel that maps frames without giving them up flushes
//!   first.
//! Guards against: a frame that is freed while its flush is still owed.
//! Sites: HOLDERS_SEEN, FLUSH_ORDER.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 52 executions, under loom to 3 preemptions.
//! References: linux include/asm-generic/tlb.h, "the page freeing, after the TLB invalidate".
//! History:
//! * 33, litebox #848, litebox #671: frames are freed before other cores are asked to flush
//!   => mistake-frees-first, no-shootdown
use weft_scenarios::prelude::*;

struct Race<B: World> {
    table: Space<B>,
    frame: Parcel<Frame<B>>,
}

impl<B: World> Race<B> {
    /// Unmaps the page, and flushes it; `meanwhile` is called while the flush is owed.
    fn unmap(&self, cpu: &Cpu<B>, meanwhile: impl FnOnce()) {
        let section = cpu.read_side();
        let root = self.table.root.borrow(&section);
        let mut cursor = Cursor::lock(root, pages::<B>(1..2)).expect("the path exists");
        assert!(cursor.unmap(page::<B>(2)) == Ok(1), "the page is mapped");
        meanwhile();
    }
}

impl<B: World> Scenario<B> for Race<B> {
    /// What the user read.
    type Saw = [Option<u64>; 2];
    const CPUS: Cpus<Self, B> = cpus([
        ("freer", |race, cpu| {
            race.unmap(cpu, || ());
            drop(race.frame.take());
            [None; 2]
        }),
        ("user", |race, cpu| {
            cpu.activate(&race.table.root).expect("nothing is asked of a root here");
            let reads = [0, 1].map(|_| cpu.backend().user_read(page::<B>(1)));
            cpu.deactivate();
            reads
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("used throughout", "the unmap came last"),
        interesting("unmapped in between", "the second read faulted"),
        interesting("unmapped first", "both reads faulted"),
        forbidden("corrupt", "a page does not have its contents"),
    ];
    const REACHED: &'static [Situation] = &[];
    const TWINS: Twins =
        twins([no_shootdown("use after free"), forgotten_holder(1, "use after free")]);
    const MISTAKES: Mistakes<Self, B> = mistakes([mistake(
        "frees-first",
        0,
        "frees the frame before it flushes",
        |race, cpu| {
            race.unmap(cpu, || drop(race.frame.take()));
            [None; 2]
        },
        "use after free",
    )]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        let table = machine.used_space(&[(0, 5)]);
        Race {
            frame: Parcel::new(machine.lend(&table, 1, 6, PageFlags::WRITE | PageFlags::NOTED)),
            table,
        }
    }

    fn check(&self, _cpu: &mut Cpu<B>, saw: &[Self::Saw]) -> &'static str {
        match saw[1] {
            [Some(6), Some(6)] => "used throughout",
            [Some(6), None] => "unmapped in between",
            [None, None] => "unmapped first",
            _ => "corrupt",
        }
    }
}

scenario!(Race);
