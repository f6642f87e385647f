//! # Drain vs. drain
//! Result: Never. What was put off is carried out twice, or not at all.
//! CPUs: 0 puts an area of addresses on the list of those that are to be unmapped later, and drains
//!   the list; 1 drains the list, too. An area is on the list from the beginning.
//! Invariant: taking the list and leaving it empty is one step.
//! Guards against: two CPUs that both find an area on the list, before either empties it.
//! Sites: LOCK_ACQUIRE, LOCK_RELEASE.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 6 executions, 141 under loom.
//! References: linux __purge_vmap_area_lazy (mm/vmalloc.c), llist_del_all.
//! History:
//! * 20, linux "x86 fix global_flush_tlb() bug": two CPUs drain one list under a lock for readers
//!   => mistake-reads-and-clears
use weft_scenarios::prelude::*;

struct Race<B: World> {
    table: Table<B>,
    /// The pages that are to be unmapped: a bit for each.
    list: SharedWord<B>,
}

/// What each purge of an area found to unmap, for each page that may be on the list.
type Purged = [Option<u64>; 2];

impl<B: World> Race<B> {
    /// Unmaps the pages that were on the list.
    fn purge(&self, cpu: &mut Cpu<B>, list: u64) -> Purged {
        [0, 1].map(|number: u8| {
            (list >> number & 1 != 0).then(|| {
                match self.table.ask(cpu, &[Operation::unmap(number)]).answer(0) {
                    Answer::Frames(count) => count,
                    other => panic!("\"{other}\" is no answer to an unmap"),
                }
            })
        })
    }
}

impl<B: World> Scenario<B> for Race<B> {
    type Saw = Purged;
    const CPUS: Cpus<Self, B> = cpus([
        ("adder", |race, cpu| {
            race.list.fetch_add(1 << 1);
            let list = race.list.swap(0);
            race.purge(cpu, list)
        }),
        ("drainer", |race, cpu| {
            let list = race.list.swap(0);
            race.purge(cpu, list)
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("by the adder", "the adder found both areas"),
        interesting("by both", "each CPU found an area"),
        interesting("by the drainer", "the drainer found both areas"),
        forbidden("twice", "an area is unmapped twice"),
        forbidden("never", "an area that was on the list is not unmapped"),
    ];
    const REACHED: &'static [Situation] = &[];
    const TWINS: Twins = twins([
        weakened(&sites::LOCK_ACQUIRE, "data race on N"),
        weakened(&sites::LOCK_RELEASE, "data race on N"),
    ]);
    const MISTAKES: Mistakes<Self, B> = mistakes([mistake(
        "reads-and-clears",
        1,
        "reads the list, and empties it then",
        |race, cpu| {
            let list = race.list.load_acquire();
            race.list.store_release(0);
            race.purge(cpu, list)
        },
        "an area that was on the list is not unmapped",
    )]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        let table = machine.table(&[(0, 5), (1, 6), (2, 7)]);
        Race { table, list: SharedWord::new("list", 1) }
    }

    fn check(&self, cpu: &mut Cpu<B>, saw: &[Purged]) -> &'static str {
        let is_purged = |number: usize| saw.iter().any(|saw| saw[number].is_some());
        let is_twice = |number: usize| saw.iter().all(|saw| saw[number].is_some());
        let left = [0, 1].map(|number| self.table.look(cpu, number).found());
        if is_twice(0) || is_twice(1) {
            "twice"
        } else if left.iter().any(Option::is_some) || !is_purged(0) || !is_purged(1) {
            "never"
        } else {
            match saw[1] {
                [None, None] => "by the adder",
                [Some(_), Some(_)] => "by the drainer",
                _ => "by both",
            }
        }
    }
}

scenario!(Race);
