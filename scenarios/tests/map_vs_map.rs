//! # Map vs. map
//! Result: Never. Two CPUs both map one page, or neither does, or half of an operation stays.
//! CPUs: 0 maps page 1 in a range of that page. 1 maps pages 0..2, in one go.
//! Invariant: cursors of overlapping ranges come one after the other: the second is refused, has
//!   its item back, and what it had mapped until then is unmapped.
//! Guards against: a range that locks its covering node only, and not the leaf below; a roll-back
//!   that forgets an entry.
//! Sites: LOCK_ACQUIRE, LOCK_RELEASE, PUBLISH_NODE.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 3 executions, 123 under loom.
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
        ("left", |race, cpu| race.table.ask(cpu, &[Operation::map(1, LEFT)])),
        ("right", |race, cpu| race.table.ask(cpu, &[Operation::map(0..2, RIGHT)])),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("left", "the right CPU was refused"),
        interesting("right", "the left CPU was refused"),
        forbidden("both", "two CPUs mapped one page"),
        forbidden("neither", "a page that is not mapped was refused"),
    ];
    const REACHED: &'static [Situation] =
        &[met("a CPU found a lock taken", |event| matches!(event, Event::LockContended))];
    const TWINS: Twins = twins([weakened(&sites::PUBLISH_NODE, "use before allocation: N")]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        Race { table: machine.table(&[(2, 2)]) }
    }

    fn check(&self, cpu: &mut Cpu<B>, saw: &[History]) -> &'static str {
        let first = PageMap::EMPTY.with(2, Mapping::writable(2));
        assert_linearizable(&first, saw, &self.table.now(cpu, 0..4));
        match [0, 1].map(|cpu| saw[cpu].answer(0)) {
            [Answer::Mapped, Answer::AlreadyMapped] => "left",
            [Answer::AlreadyMapped, Answer::Mapped] => "right",
            [Answer::Mapped, Answer::Mapped] => "both",
            _ => "neither",
        }
    }
}

scenario!(Race);
