//! # Map vs. exhaustion
//! Result: Never. A CPU that runs out of memory in the middle leaves something behind.
//! CPUs: 0 has memory for one node, where page 2 needs two, unless another CPU has made the upper
//!   one: it asks for the page in a range of that page, and again in one that the root covers. 1
//!   maps page 0, on the same way, and unmaps it again.
//! Invariant: the history is linearizable: an operation without memory has changed nothing. No
//!   empty node stays, no lock, and no frame is lost.
//! Guards against: nodes made one by one as long as there are any; a roll-back of others' work.
//! Sites: PUBLISH_NODE, WALK_ENTRY.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 22 executions, under loom to 3 preemptions.
//! References: Linux mm/memory.c, __pte_alloc.
use weft_scenarios::prelude::*;

const RICH: Mapping = Mapping::writable(6);

struct Race<B: World> {
    table: Table<B>,
}

impl<B: World> Race<B> {
    /// Maps page 2 with no memory but for the page itself and one node.
    fn map(&self, cpu: &mut Cpu<B>, history: &mut History, range: core::ops::Range<u8>, frame: u8) {
        cpu.backend().limit_frames(2);
        let item = fresh_item(cpu.backend(), frame, true);
        history.record(cpu, Operation::map(2, Mapping::writable(frame)), |cpu| {
            let section = cpu.read_side();
            match Cursor::lock(self.table.root.borrow(&section), pages::<B>(range)) {
                Ok(mut cursor) => {
                    cursor.jump(page::<B>(2)).expect("the page is in the range");
                    Answer::mapped(cursor.map(item))
                }
                Err(LockError::OutOfMemory) => Answer::OutOfMemory,
                Err(error) => panic!("the range can be locked: {error}"),
            }
        });
    }
}

impl<B: World> Scenario<B> for Race<B> {
    type Saw = History;
    const CPUS: Cpus<Self, B> = cpus([
        ("poor", |race, cpu| {
            let mut history = History::new();
            race.map(cpu, &mut history, 2..3, 4);
            race.map(cpu, &mut history, 0..4, 5);
            history
        }),
        ("rich", |race, cpu| race.table.ask(cpu, &[Operation::map(0, RICH), Operation::unmap(0)])),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("refused twice", "there was no other CPU's node when it was needed"),
        interesting("refused once", "the other CPU came in between, with a node"),
        interesting("mapped", "the other CPU's node was there"),
        forbidden("left over", "an empty node stays in the table"),
    ];
    const REACHED: &'static [Situation] = &[];
    const TWINS: Twins = twins([
        weakened(&sites::PUBLISH_NODE, "use before allocation: N"),
        weakened(&sites::WALK_ENTRY, "use before allocation: N"),
    ]);
    const CPU_FRAMES: usize = 6;

    fn set_up(machine: &mut Machine<B>) -> Self {
        Race { table: machine.table(&[]) }
    }

    fn check(&self, cpu: &mut Cpu<B>, saw: &[History]) -> &'static str {
        assert_linearizable(&PageMap::EMPTY, saw, &self.table.now(cpu, 0..4));
        let section = cpu.read_side();
        let is_empty = matches!(self.table.root.borrow(&section).walk(0), ChildRef::Absent);
        let is_mapped = look::<B>(self.table.root.borrow(&section), 2).item.is_some();
        match [0, 1].map(|number| saw[0].answer(number)) {
            _ if is_empty == is_mapped => "left over",
            [Answer::OutOfMemory, Answer::OutOfMemory] => "refused twice",
            [Answer::OutOfMemory, _] => "refused once",
            _ => "mapped",
        }
    }
}

scenario!(Race);
