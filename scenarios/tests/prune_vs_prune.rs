//! # Prune vs. prune
//! Result: Never. Empty nodes stay because each of two CPUs leaves them to the other.
//! CPUs: 0 and 1 unmap the last two pages of the table, one each, in ranges of one page.
//! Invariant: the CPU that leaves a node empty takes it out, or one that comes later.
//! Guards against: giving up for a node's lock without a CPU that comes by again; a node that is
//!   taken out twice.
//! Sites: LOCK_ACQUIRE, LOCK_RELEASE.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 4 executions, 69 under loom.
//! References: Linux mm/memory.c, free_pgd_range; FreeBSD sys/amd64/amd64/pmap.c, pmap_unuse_pt.
use weft_scenarios::prelude::*;

struct Race<B: World> {
    table: Table<B>,
}

impl<B: World> Scenario<B> for Race<B> {
    type Saw = History;
    const CPUS: Cpus<Self, B> = cpus([
        ("left", |race, cpu| race.table.ask(cpu, &[Operation::unmap(0)])),
        ("right", |race, cpu| race.table.ask(cpu, &[Operation::unmap(1)])),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("empty", "every node below the root was taken out"),
        forbidden("left over", "an empty node stays in the table"),
    ];
    const REACHED: &'static [Situation] = &[
        met("a CPU found a lock taken", |event| matches!(event, Event::LockContended)),
        met("a node was taken out", |event| matches!(event, Event::Detached(_))),
    ];
    const TWINS: Twins = twins([
        weakened(&sites::LOCK_ACQUIRE, "data race on N"),
        weakened(&sites::LOCK_RELEASE, "data race on N"),
    ]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        Race { table: machine.table(&[(0, 5), (1, 6)]) }
    }

    fn check(&self, cpu: &mut Cpu<B>, saw: &[History]) -> &'static str {
        let first = PageMap::EMPTY.with(0, Mapping::writable(5)).with(1, Mapping::writable(6));
        assert_linearizable(&first, saw, &self.table.now(cpu, 0..4));
        let section = cpu.read_side();
        match self.table.root.borrow(&section).walk(0) {
            ChildRef::Absent => "empty",
            _ => "left over",
        }
    }
}

scenario!(Race);
