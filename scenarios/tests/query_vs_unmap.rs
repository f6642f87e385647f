//! # Query vs. unmap
//! Result: Never. A CPU reads a page that it was told is mapped, after the frame was freed.
//! CPUs: 0 asks, in a range of its own, what is at page 0, lets go, and then reads the page. 1
//!   unmaps pages 0..2, all that the leaf translates.
//! Invariant: what a query tells is true while the range is held, and is there while the section
//!   lasts.
//! Guards against: an unmapped frame that goes back without a grace period.
//! Sites: LOCK_ACQUIRE, LOCK_RELEASE.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 18 executions, under loom to 3 preemptions.
//! References: CortenMM (SOSP'25), section 4; linux 70cbc3cc78a9.
use weft_scenarios::prelude::*;

const OLD: Mapping = Mapping::writable(5);
const KEPT: Situation = situation("the asker read the page after it was unmapped");

struct Race<B: World> {
    table: Table<B>,
}

impl<B: World> Scenario<B> for Race<B> {
    type Saw = History;
    const CPUS: Cpus<Self, B> = cpus([
        ("asker", |race, cpu| {
            let begin = cpu.mark();
            let section = cpu.read_side();
            let root = race.table.root.borrow(&section);
            let mut cursor = Cursor::lock(root, pages::<B>(0..1)).expect("there are frames enough");
            let slot = cursor.query().expect("the cursor is at the page");
            drop(cursor);
            let end = cpu.mark();
            if slot.item.is_some() && look::<B>(root, 0).item.is_none() {
                cpu.reached(KEPT);
            }
            let found = Mapping::in_slot(cpu.backend(), &slot);
            drop(section);
            cpu.quiescent();
            let mut history = History::new();
            history.step(begin, end, &[(Operation::query(0), Answer::Found(found))]);
            history
        }),
        ("unmapper", |race, cpu| {
            let history = race.table.ask(cpu, &[Operation::unmap(0..2)]);
            cpu.quiescent();
            history
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("found", "the page was mapped when it was asked for"),
        interesting("absent", "the page was unmapped before"),
    ];
    const REACHED: &'static [Situation] =
        &[KEPT, met("the asker locked a stray node", |event| matches!(event, Event::StrayMet(_)))];
    const TWINS: Twins = twins([
        weakened(&sites::LOCK_ACQUIRE, "data race on N"),
        weakened(&sites::LOCK_RELEASE, "data race on N"),
        freed_at_once("use after free: N"),
        forgotten_cpu(0, "use after free: N"),
    ]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        Race { table: machine.table(&[(0, 5), (2, 2)]) }
    }

    fn check(&self, cpu: &mut Cpu<B>, saw: &[History]) -> &'static str {
        let first = PageMap::EMPTY.with(0, OLD).with(2, Mapping::writable(2));
        assert_linearizable(&first, saw, &self.table.now(cpu, 0..4));
        match saw[0].answer(0) {
            Answer::Found(Some(_)) => "found",
            _ => "absent",
        }
    }
}

scenario!(Race);
