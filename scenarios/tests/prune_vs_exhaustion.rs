//! # Prune vs. exhaustion
//! Result: Never. An empty node stays because who had it locked ran out of memory.
//! CPUs: 0 has no memory, and asks for page 2: the leaf is missing. 1 unmaps page 0, the only page,
//!   and takes out what is left empty.
//! Invariant: who keeps another CPU from taking an empty node out takes it out in turn, also if all
//!   it did with the node was to fail.
//! Guards against: an error that leaves by another way than the one that looks for empty nodes.
//! Sites: LOCK_ACQUIRE, LOCK_RELEASE.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 8 executions, 1,510 under loom.
//! References: Linux mm/memory.c, free_pgd_range.
use weft_scenarios::prelude::*;

struct Race<B: World> {
    table: Table<B>,
}

impl<B: World> Scenario<B> for Race<B> {
    /// Whether there was memory.
    type Saw = bool;
    const CPUS: Cpus<Self, B> = cpus([
        ("poor", |race, cpu| {
            cpu.backend().limit_frames(0);
            let section = cpu.read_side();
            Cursor::lock(race.table.root.borrow(&section), pages::<B>(2..3)).is_ok()
        }),
        ("pruner", |race, cpu| {
            race.table.ask(cpu, &[Operation::unmap(0)]).answer(0) == Answer::Frames(1)
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("empty", "every node below the root was taken out"),
        forbidden("left over", "an empty node stays in the table"),
        forbidden("lent", "a CPU has a node for which it had no memory"),
        forbidden("lost", "a page that was mapped was not unmapped"),
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
        Race { table: machine.table(&[(0, 5)]) }
    }

    fn check(&self, cpu: &mut Cpu<B>, saw: &[bool]) -> &'static str {
        let section = cpu.read_side();
        match (saw, self.table.root.borrow(&section).walk(0)) {
            ([true, _], _) => "lent",
            ([_, false], _) => "lost",
            (_, ChildRef::Absent) => "empty",
            _ => "left over",
        }
    }
}

scenario!(Race);
