//! # Map vs. map, apart
//! Result: Never. Cursors of ranges that do not overlap wait for each other.
//! CPUs: 0 maps page 0. 1 maps page 2, in the next leaf, looks at page 0 without locks, and maps
//!   page 3. Neither waits for any lock.
//! Invariant: disjoint ranges that have their leaves lock no node in common.
//! Guards against: a covering node above the lowest one; a lock of the path to it.
//! Sites: PUBLISH_ITEM, WALK_ENTRY.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 2 executions, 16 under loom.
//! References: CortenMM (SOSP'25), section 4.
use weft_scenarios::prelude::*;

struct Race<B: World> {
    table: Table<B>,
}

/// What a CPU saw.
#[derive(Clone, Copy, Debug)]
enum Saw {
    /// It would have had to wait.
    Busy,
    /// It mapped its pages, and found this at page 0.
    Mapped(Answer),
}

impl<B: World> Race<B> {
    fn map(&self, cpu: &Cpu<B>, numbers: core::ops::Range<u8>) -> Saw {
        let section = cpu.read_side();
        let root = self.table.root.borrow(&section);
        let Ok(mut cursor) = Cursor::try_lock(root, pages::<B>(numbers.start..numbers.start + 1))
        else {
            return Saw::Busy;
        };
        cursor
            .map(fresh_item(cpu.backend(), numbers.start, true))
            .expect("nothing is mapped there");
        Saw::Mapped(self.table.look(cpu, 0))
    }
}

impl<B: World> Scenario<B> for Race<B> {
    type Saw = Saw;
    const CPUS: Cpus<Self, B> = cpus([
        ("left", |race, cpu| race.map(cpu, 0..1)),
        ("right", |race, cpu| race.map(cpu, 2..3)),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        acceptable("beside each other", "the right CPU did not find the left one's page"),
        interesting("one after the other", "the right CPU found the left one's page"),
        forbidden("waited", "disjoint ranges exclude each other"),
        forbidden("corrupt", "a reachable page does not have its contents"),
    ];
    const REACHED: &'static [Situation] = &[];
    const TWINS: Twins = twins([
        weakened(&sites::PUBLISH_ITEM, "use before allocation: N"),
        weakened(&sites::WALK_ENTRY, "use before allocation: N"),
    ]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        Race { table: machine.table(&[(1, 1), (3, 3)]) }
    }

    fn check(&self, cpu: &mut Cpu<B>, saw: &[Saw]) -> &'static str {
        let all = (0..4).all(|page| {
            let found = self.table.look(cpu, page).found();
            found == Some(Mapping::writable(page))
        });
        match saw {
            [Saw::Mapped(_), Saw::Mapped(_)] if !all => "corrupt",
            [Saw::Mapped(_), Saw::Mapped(Answer::Found(None))] => "beside each other",
            [Saw::Mapped(_), Saw::Mapped(_)] => "one after the other",
            _ => "waited",
        }
    }
}

scenario!(Race);
