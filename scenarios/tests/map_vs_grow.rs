//! # Map vs. grow
//! Result: Never. Two cursors that grow one empty table lose a node, or a page below it.
//! CPUs: 0 maps page 0 in a range of that page: the nodes on the way are grown as one chain. 1 maps
//!   page 1 in a range of pages 0..4, which the root covers: nodes are grown one by one below it.
//! Invariant: the history is linearizable; the CPU that comes second goes on in what is there.
//! Guards against: growing over a node; a chain that is reachable unlocked; a miscounted child.
//! Sites: PUBLISH_NODE, WALK_ENTRY, LOCK_BORN_HELD, LOCK_ACQUIRE, LOCK_RELEASE.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 4 executions, 723 under loom.
//! References: CortenMM (SOSP'25), section 4.
use weft_scenarios::prelude::*;

const LEFT: Mapping = Mapping::writable(5);
const RIGHT: Mapping = Mapping::writable(6);

struct Race<B: World> {
    table: Table<B>,
}

impl<B: World> Scenario<B> for Race<B> {
    type Saw = History;
    const CPUS: Cpus<Self, B> = cpus([
        ("mapper", |race, cpu| race.table.ask(cpu, &[Operation::map(0, LEFT)])),
        ("grower", |race, cpu| {
            let mut history = History::new();
            let operations = [Operation::query(0), Operation::map(1, RIGHT)];
            race.table.within(cpu, &mut history, 0..4, &operations);
            history
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("mapper first", "the grower found the mapper's page"),
        interesting("grower first", "the mapper came into the grower's leaf"),
    ];
    const REACHED: &'static [Situation] = &[
        met("the mapper lost the race to grow", |event| matches!(event, Event::GrowthLost)),
        met("the mapper started over", |event| matches!(event, Event::StartedOver)),
    ];
    const TWINS: Twins = twins([
        weakened(&sites::PUBLISH_NODE, "use before allocation: N"),
        weakened(&sites::WALK_ENTRY, "use before allocation: N"),
    ]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        Race { table: machine.table(&[]) }
    }

    fn check(&self, cpu: &mut Cpu<B>, saw: &[History]) -> &'static str {
        assert_linearizable(&PageMap::EMPTY, saw, &self.table.now(cpu, 0..4));
        match saw[1].answer(0) {
            Answer::Found(Some(_)) => "mapper first",
            _ => "grower first",
        }
    }
}

scenario!(Race);
