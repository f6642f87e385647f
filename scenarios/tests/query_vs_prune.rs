//! # Query vs. prune
//! Result: Never. An empty node stays because who had it locked only wanted to look.
//! CPUs: 0 asks for page 1, in a range of its own. 1 unmaps page 0, the only page, and takes out
//!   what is left empty.
//! Invariant: who keeps another CPU from taking an empty node out takes it out in turn; a range
//!   that was locked for nothing leaves no node behind either.
//! Guards against: a cursor that looks for empty nodes only after changes of its own.
//! Sites: LOCK_ACQUIRE, LOCK_RELEASE.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 48 executions, under loom to 3 preemptions.
//! References: Linux mm/memory.c, free_pgd_range.
use weft_scenarios::prelude::*;

struct Race<B: World> {
    table: Table<B>,
}

impl<B: World> Scenario<B> for Race<B> {
    type Saw = History;
    const CPUS: Cpus<Self, B> = cpus([
        ("asker", |race, cpu| race.table.ask(cpu, &[Operation::query(1)])),
        ("pruner", |race, cpu| race.table.ask(cpu, &[Operation::unmap(0)])),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("empty", "every node below the root was taken out"),
        forbidden("left over", "an empty node stays in the table"),
    ];
    const REACHED: &'static [Situation] = &[
        met("a CPU found a lock taken", |event| matches!(event, Event::LockContended)),
        met("the asker locked a stray node", |event| matches!(event, Event::StrayMet(_))),
    ];
    const TWINS: Twins = twins([
        weakened(&sites::LOCK_ACQUIRE, "data race on N"),
        weakened(&sites::LOCK_RELEASE, "data race on N"),
    ]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        Race { table: machine.table(&[(0, 5)]) }
    }

    fn check(&self, cpu: &mut Cpu<B>, saw: &[History]) -> &'static str {
        let first = PageMap::EMPTY.with(0, Mapping::writable(5));
        assert_linearizable(&first, saw, &self.table.now(cpu, 0..4));
        let section = cpu.read_side();
        match self.table.root.borrow(&section).walk(0) {
            ChildRef::Absent => "empty",
            _ => "left over",
        }
    }
}

scenario!(Race);
