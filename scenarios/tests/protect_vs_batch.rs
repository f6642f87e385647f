//! # Protect vs. batch
//! Result: Never. A CPU writes a page after it has taken the right to write away from the range.
//! CPUs: 0 reclaims a page: it takes the page out and gives the range back, and flushes later, with
//!   a batch of others. 1 runs on the space and writes the page; it takes the right to write away
//!   from what is mapped there, and writes once more.
//! Invariant: what is done to a range is done when its lock is given back, or the next CPU is told
//!   that a flush is pending, and waits for it even if it finds nothing to change.
//! Guards against: a change that flushes nothing because it found nothing, while a flush of another
//!   CPU's is pending.
//! Sites: LOCK_ACQUIRE, LOCK_RELEASE, FLUSH_ORDER.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 58 executions, under loom to 3 preemptions.
//! References: linux flush_tlb_batched_pending (mm/rmap.c), change_pte_range (mm/mprotect.c).
//! History:
//! * 4, linux 3ea277194daa: mprotect meets an entry that reclaim has cleared and not flushed yet
//!   => mistake-ignores-the-batch, no-shootdown
use weft_scenarios::prelude::*;

struct Race<B: World> {
    table: Space<B>,
    /// Held while a batch has flushes pending.
    batch: KernelLock<B>,
    /// How many flushes are pending.
    pending: SharedWord<B>,
}

/// Whether a write went through, before and after the right was taken away.
type Writes = [bool; 2];

impl<B: World> Race<B> {
    /// Writes the page, before and after it is protected; `settle` waits for what is pending.
    fn write_and_protect(&self, cpu: &mut Cpu<B>, settle: impl FnOnce()) -> Writes {
        cpu.activate(&self.table.root).expect("nothing is asked of a root here");
        let before = cpu.backend().user_write(page::<B>(0), 8);
        self.table.ask(cpu, &[Operation::protect(0, false)]);
        settle();
        let after = cpu.backend().user_write(page::<B>(0), 9);
        cpu.deactivate();
        [before, after]
    }
}

impl<B: World> Scenario<B> for Race<B> {
    type Saw = Option<Writes>;
    const CPUS: Cpus<Self, B> = cpus([
        ("reclaimer", |race, cpu| {
            let section = cpu.read_side();
            let root = race.table.root.borrow(&section);
            race.batch.with(|| {
                race.pending.store_release(1);
                let leaf = lock_covering(root, page::<B>(0), Level::LEAF);
                let mut leaf = leaf.expect("the path exists");
                let taken = leaf.entry(0).expect("a node has two entries").detach();
                drop(leaf);
                taken.expect("the entry is managed").retire();
                race.pending.store_release(0);
            });
            None
        }),
        ("protector", |race, cpu| {
            Some(race.write_and_protect(cpu, || {
                if race.pending.load_acquire() != 0 {
                    race.batch.with(|| ());
                }
            }))
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("written before", "the first write went through"),
        interesting("reclaimed first", "both writes faulted"),
        forbidden("stale", "a page is written after the right to write was taken away"),
    ];
    const REACHED: &'static [Situation] = &[];
    const TWINS: Twins =
        twins([no_shootdown("a page is written after the right to write was taken away")]);
    const MISTAKES: Mistakes<Self, B> = mistakes([mistake(
        "ignores-the-batch",
        1,
        "does not ask whether a flush is pending",
        |race, cpu| Some(race.write_and_protect(cpu, || ())),
        "a page is written after the right to write was taken away",
    )]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        Race {
            table: machine.used_space(&[(0, 5), (1, 6)]),
            batch: KernelLock::new("batch"),
            pending: SharedWord::new("pending", 0),
        }
    }

    fn check(&self, _cpu: &mut Cpu<B>, saw: &[Self::Saw]) -> &'static str {
        match saw[1].expect("the protector has written") {
            [true, false] => "written before",
            [false, false] => "reclaimed first",
            [_, true] => "stale",
        }
    }
}

scenario!(Race);
