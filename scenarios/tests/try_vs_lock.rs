//! # Try vs. lock
//! Result: Never. A cursor that gives up for a lock keeps others, or a cursor that has it waits.
//! CPUs: 0 tries to lock pages 0..3, which is the node above two leaves, the first leaf, and then
//!   the second one, and unmaps them. 1 maps page 2, in the second leaf.
//! Invariant: who would have to wait gives everything back and says so; the table is as it was.
//! Guards against: locks of the node above or of the leaf beside it that are kept for ever.
//! Sites: LOCK_ACQUIRE, LOCK_RELEASE, LOCK_CONTENDED.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 3 executions, 11 under loom.
//! References: Linux Documentation/locking/mutex-design.rst, mutex_trylock.
use weft_scenarios::prelude::*;

const MET: Situation = situation("the trier would have had to wait");

struct Race<B: World> {
    table: Table<B>,
}

impl<B: World> Scenario<B> for Race<B> {
    /// For the trier: how many pages it unmapped, if it did not give up.
    type Saw = Option<u64>;
    const CPUS: Cpus<Self, B> = cpus([
        ("trier", |race, cpu| {
            let section = cpu.read_side();
            let root = race.table.root.borrow(&section);
            let mut cursor = match Cursor::try_lock(root, pages::<B>(0..3)) {
                Ok(cursor) => cursor,
                Err(error) => {
                    assert!(error == LockError::WouldWait, "a range that exists is refused");
                    cpu.reached(MET);
                    return None;
                }
            };
            Some(cursor.unmap(page::<B>(3)).expect("no huge page is there"))
        }),
        ("holder", |race, cpu| {
            race.table.ask(cpu, &[Operation::map(2, Mapping::writable(2))]);
            None
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("gave up", "the second leaf was locked"),
        interesting("first", "the trier unmapped its range before the page was mapped"),
        interesting("second", "the trier unmapped the page, too"),
        forbidden("lost", "a page was mapped, and is neither there nor unmapped"),
    ];
    const REACHED: &'static [Situation] = &[MET];
    const TWINS: Twins = twins([
        weakened(&sites::LOCK_ACQUIRE, "data race on N"),
        weakened(&sites::LOCK_RELEASE, "data race on N"),
    ]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        Race { table: machine.table(&[(0, 5), (3, 3)]) }
    }

    fn check(&self, cpu: &mut Cpu<B>, saw: &[Self::Saw]) -> &'static str {
        match (saw[0], self.table.look(cpu, 2).found().is_some()) {
            (None, true) => "gave up",
            (Some(1), true) => "first",
            (Some(2), false) => "second",
            _ => "lost",
        }
    }
}

scenario!(Race);
