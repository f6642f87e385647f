//! # Reuse vs. unmap
//! Result: Never. An address leads to the memory of its last owner.
//! CPUs: 0 unmaps a page and gives its address back, to be used again. 1 runs on the space and
//!   reads the page; if the address was given back it maps a page of its own there, and reads it.
//! Invariant: an address is given back when no CPU has a translation of it any more. What is absent
//!   is not cached, so the next owner flushes nothing.
//! Guards against: an address that is given back while its flush is still owed.
//! Sites: FLUSH_ORDER, HOLDERS_SEEN.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 38 executions, under loom to 3 preemptions.
//! References: linux free_unmap_vmap_area (mm/vmalloc.c), "flush before the area is free".
//! History:
//! * 27, asterinas #2849, asterinas #3630, asterinas #1952: a kernel address is reused before the
//!   flush on other CPUs => mistake-gives-back-first, no-shootdown
use weft_scenarios::prelude::*;

struct Race<B: World> {
    table: Space<B>,
    /// 1 if the address has no owner.
    is_free: SharedWord<B>,
}

/// What the next owner read: at first, and of its own page if it has mapped one.
type Reads = (Option<u64>, Option<Option<u64>>);

impl<B: World> Race<B> {
    /// Unmaps the page; `end` flushes it and gives its address back.
    fn unmap(&self, cpu: &Cpu<B>, end: impl FnOnce(Detached<'_, UserTable<B>>)) {
        let section = cpu.read_side();
        let root = self.table.root.borrow(&section);
        let leaf = lock_covering(root, page::<B>(0), Level::LEAF);
        let mut leaf = leaf.expect("the path exists");
        let taken = leaf.entry(0).expect("a node has two entries").detach();
        drop(leaf);
        end(taken.expect("the entry is managed"));
    }
}

impl<B: World> Scenario<B> for Race<B> {
    type Saw = Reads;
    const CPUS: Cpus<Self, B> = cpus([
        ("last owner", |race, cpu| {
            race.unmap(cpu, |taken| {
                taken.retire();
                race.is_free.store_release(1);
            });
            (None, None)
        }),
        ("next owner", |race, cpu| {
            cpu.activate(&race.table.root).expect("nothing is asked of a root here");
            let before = cpu.backend().user_read(page::<B>(0));
            let own = (race.is_free.swap(0) != 0).then(|| {
                race.table.ask(cpu, &[Operation::map(0, Mapping::writable(9))]);
                cpu.backend().user_read(page::<B>(0))
            });
            cpu.deactivate();
            (before, own)
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("not free", "the address had its last owner"),
        interesting("reused", "the address leads to the page of its next owner"),
        forbidden("stale", "an address leads to the memory of its last owner"),
        forbidden("corrupt", "a page does not have its contents"),
    ];
    const REACHED: &'static [Situation] = &[];
    const TWINS: Twins = twins([no_shootdown("an address leads to the memory of its last owner")]);
    const MISTAKES: Mistakes<Self, B> = mistakes([mistake(
        "gives-back-first",
        0,
        "gives the address back before it flushes",
        |race, cpu| {
            race.unmap(cpu, |taken| {
                race.is_free.store_release(1);
                taken.retire();
            });
            (None, None)
        },
        "an address leads to the memory of its last owner",
    )]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        let table = machine.used_space(&[(0, 5), (1, 6)]);
        Race { table, is_free: SharedWord::new("is_free", 0) }
    }

    fn check(&self, _cpu: &mut Cpu<B>, saw: &[Reads]) -> &'static str {
        match saw[1] {
            (Some(5) | None, None) => "not free",
            (Some(5) | None, Some(Some(9))) => "reused",
            (Some(5) | None, Some(Some(5))) => "stale",
            _ => "corrupt",
        }
    }
}

scenario!(Race);
