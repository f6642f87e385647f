//! # Visit vs. map
//! Result: Never. A visit of a range finds a page before its contents, or a page that is nowhere.
//! CPUs: 0 visits pages 0..4 without locks, and reads each page that it finds. 1 maps pages 0 and
//!   1 in a run, and visits them under its lock.
//! Invariant: a page that is found is complete; a page that stays is found.
//! Guards against: a run that publishes pages without order; a visit that follows stale entries.
//! Sites: PUBLISH_ITEM, PUBLISH_NODE, WALK_ENTRY.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 9 executions, 3,887 under loom.
//! References: Linux Documentation/RCU/rcu_dereference.rst; mm/pagewalk.c.
use weft_scenarios::prelude::*;

struct Race<B: World> {
    table: Table<B>,
}

/// What a page of this number contains.
fn contents<B: World>(vaddr: Vaddr) -> u8 {
    if vaddr == page::<B>(0) { 10 } else { 11 }
}

impl<B: World> Scenario<B> for Race<B> {
    /// For the visitor: what pages 0, 1 and 2 contained, or 0.
    type Saw = [u64; 3];
    const CPUS: Cpus<Self, B> = cpus([
        ("visitor", |race, cpu| {
            let section = cpu.read_side();
            let root = race.table.root.borrow(&section);
            let range = pages::<B>(0..4);
            let mut visiting = SharedCursor::new(root, range.clone()).expect("it is a range");
            let mut found = [0; 3];
            let visited = visiting.visit(range.end, |vaddr, item| {
                let number = (0..3).find(|number| page::<B>(*number) == vaddr);
                let number = number.expect("nothing else is mapped");
                found[usize::from(number)] = cpu.backend().read_contents(item.frame);
            });
            visited.expect("the end is behind the position");
            found
        }),
        ("mapper", |race, cpu| {
            let section = cpu.read_side();
            let root = race.table.root.borrow(&section);
            let mut cursor = Cursor::lock(root, pages::<B>(0..2)).expect("there are frames");
            let end = page::<B>(1).plus(B::Geometry::entry_span(Level::LEAF));
            let make = |vaddr| fresh_item(cpu.backend(), contents::<B>(vaddr), true);
            cursor.map_pages(end, make).expect("nothing is mapped there");
            cursor.jump(page::<B>(0)).expect("it is in the range");
            let mut count = 0;
            cursor.visit(end, |_, _| count += 1).expect("the end is behind the position");
            assert!(count == 2, "a cursor does not find what it has mapped");
            [0; 3]
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("none", "the visit came first"),
        interesting("the first", "the visit came in between, or met what was mapped so far"),
        interesting("the second", "the visit passed page 0 before it was mapped"),
        interesting("both", "the run came first"),
        forbidden("blind", "a page that stays mapped is not found"),
        forbidden("incomplete", "a reachable page does not have its contents"),
    ];
    const REACHED: &'static [Situation] = &[];
    const TWINS: Twins = twins([
        weakened(&sites::PUBLISH_ITEM, "use before allocation: N"),
        weakened(&sites::PUBLISH_NODE, "use before allocation: N"),
        weakened(&sites::WALK_ENTRY, "use before allocation: N"),
    ]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        Race { table: machine.table(&[(2, 12)]) }
    }

    fn check(&self, _cpu: &mut Cpu<B>, saw: &[[u64; 3]]) -> &'static str {
        match saw[0] {
            [_, _, 0] => "blind",
            [0, 0, 12] => "none",
            [10, 0, 12] => "the first",
            [0, 11, 12] => "the second",
            [10, 11, 12] => "both",
            _ => "incomplete",
        }
    }
}

scenario!(Race);
