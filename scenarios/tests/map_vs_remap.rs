//! # Map vs. remap
//! Result: Never. Between an unmap and a map of one page, two CPUs both map it, or both fail.
//! CPUs: 0 maps page 0. 1 unmaps pages 0..2, all that the leaf translates, and maps page 0 again.
//! Invariant: the history is linearizable; an item is in the table or in the hands of its owner.
//! Guards against: a map into the leaf that is on its way out; a map over another one.
//! Sites: LOCK_ACQUIRE, LOCK_RELEASE, PUBLISH_NODE.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 9 executions, under loom to 3 preemptions.
//! References: CortenMM (SOSP'25), section 4.
use weft_scenarios::prelude::*;

const OLD: Mapping = Mapping::writable(5);
const THEIRS: Mapping = Mapping::writable(6);
const OURS: Mapping = Mapping::writable(7);

struct Race<B: World> {
    table: Table<B>,
}

impl<B: World> Scenario<B> for Race<B> {
    type Saw = History;
    const CPUS: Cpus<Self, B> = cpus([
        ("mapper", |race, cpu| race.table.ask(cpu, &[Operation::map(0, THEIRS)])),
        ("remapper", |race, cpu| {
            race.table.ask(cpu, &[Operation::unmap(0..2), Operation::map(0, OURS)])
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("remapped", "the mapper came too early or too late"),
        interesting("mapped in between", "the remapper found its page taken"),
    ];
    const REACHED: &'static [Situation] = &[
        met("the mapper locked a stray node", |event| matches!(event, Event::StrayMet(_))),
        met("a CPU lost the race to grow", |event| matches!(event, Event::GrowthLost)),
    ];
    const TWINS: Twins = twins([
        weakened(&sites::LOCK_RELEASE, "data race on N"),
        weakened(&sites::PUBLISH_NODE, "use before allocation: N"),
    ]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        Race { table: machine.table(&[(0, 5), (2, 2)]) }
    }

    fn check(&self, cpu: &mut Cpu<B>, saw: &[History]) -> &'static str {
        let first = PageMap::EMPTY.with(0, OLD).with(2, Mapping::writable(2));
        assert_linearizable(&first, saw, &self.table.now(cpu, 0..4));
        match saw[1].answer(1) {
            Answer::Mapped => "remapped",
            _ => "mapped in between",
        }
    }
}

scenario!(Race);
