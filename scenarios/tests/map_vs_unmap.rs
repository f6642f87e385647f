//! # Map vs. unmap
//! Result: Never. A page is mapped into a sub-tree that an unmap has taken out, and is lost.
//! CPUs: 0 maps page 1. 1 unmaps pages 0..2, all that the leaf translates: the leaf is taken out.
//! Invariant: the history is linearizable: a page that was mapped is counted by the unmap, or is
//!   mapped in the end.
//! Guards against: a leaf that is taken out unlocked, or not marked; a count that misses a page.
//! Sites: LOCK_ACQUIRE, LOCK_RELEASE.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 3 executions, 193 under loom.
//! References: CortenMM (SOSP'25), section 4; asterinas 1ed023f41.
use weft_scenarios::prelude::*;

const OLD: Mapping = Mapping::writable(5);
const NEW: Mapping = Mapping::writable(6);

struct Race<B: World> {
    table: Table<B>,
}

impl<B: World> Scenario<B> for Race<B> {
    type Saw = History;
    const CPUS: Cpus<Self, B> = cpus([
        ("mapper", |race, cpu| race.table.ask(cpu, &[Operation::map(1, NEW)])),
        ("unmapper", |race, cpu| race.table.ask(cpu, &[Operation::unmap(0..2)])),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("mapped, then unmapped", "the page went with the leaf"),
        interesting("unmapped, then mapped", "the page is in a new leaf"),
    ];
    const REACHED: &'static [Situation] = &[
        met("the mapper locked a stray node", |event| matches!(event, Event::StrayMet(_))),
        met("the mapper started over", |event| matches!(event, Event::StartedOver)),
    ];
    const TWINS: Twins = twins([
        weakened(&sites::LOCK_ACQUIRE, "data race on N"),
        weakened(&sites::LOCK_RELEASE, "data race on N"),
        freed_at_once("use after free: N"),
    ]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        Race { table: machine.table(&[(0, 5), (2, 2)]) }
    }

    fn check(&self, cpu: &mut Cpu<B>, saw: &[History]) -> &'static str {
        let first = PageMap::EMPTY.with(0, OLD).with(2, Mapping::writable(2));
        assert_linearizable(&first, saw, &self.table.now(cpu, 0..4));
        match saw[1].answer(0) {
            Answer::Frames(2) => "mapped, then unmapped",
            _ => "unmapped, then mapped",
        }
    }
}

scenario!(Race);
