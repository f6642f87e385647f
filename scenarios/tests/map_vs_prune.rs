//! # Map vs. prune
//! Result: Never. A page is mapped into an empty leaf that is being taken out, and is lost.
//! CPUs: 0 maps page 1. 1 unmaps page 0, the only page, and takes out the leaf if it stays empty.
//! Invariant: a leaf is taken out under its lock and its parent's, empty at that time, and marked.
//! Guards against: taking a leaf out because it was empty a while ago; leaving it unmarked.
//! Sites: LOCK_ACQUIRE, LOCK_RELEASE.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 11 executions, under loom to 3 preemptions.
//! References: Linux mm/memory.c, free_pgd_range; FreeBSD sys/amd64/amd64/pmap.c, pmap_unuse_pt.
use weft_scenarios::prelude::*;

const NEW: Mapping = Mapping::writable(6);

struct Race<B: World> {
    table: Table<B>,
    /// The leaf that the set-up grew.
    leaf: Paddr,
}

/// The leaf for page 0, if there is one.
fn leaf<B: World>(root: NodeRef<'_, UserTable<B>>) -> Option<Paddr> {
    let mut node = root;
    while node.level() > Level::LEAF {
        let ChildRef::Node(child) = node.walk(0) else { return None };
        node = child;
    }
    Some(node.paddr())
}

impl<B: World> Scenario<B> for Race<B> {
    type Saw = History;
    const CPUS: Cpus<Self, B> = cpus([
        ("mapper", |race, cpu| race.table.ask(cpu, &[Operation::map(1, NEW)])),
        ("pruner", |race, cpu| race.table.ask(cpu, &[Operation::unmap(0)])),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("kept", "the mapper came before the leaf was taken out"),
        interesting("pruned", "the mapper's page is in a new leaf"),
    ];
    const REACHED: &'static [Situation] = &[
        met("the mapper locked a stray node", |event| matches!(event, Event::StrayMet(_))),
        met("an empty leaf was taken out", |event| matches!(event, Event::Detached(_))),
    ];
    const TWINS: Twins = twins([
        weakened(&sites::LOCK_ACQUIRE, "data race on N"),
        weakened(&sites::LOCK_RELEASE, "data race on N"),
        freed_at_once("use after free: N"),
    ]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        let table = machine.table(&[(0, 5)]);
        let leaf = leaf::<B>(table.root.borrow(&machine.section())).expect("a page is mapped");
        Race { table, leaf }
    }

    fn check(&self, cpu: &mut Cpu<B>, saw: &[History]) -> &'static str {
        let first = PageMap::EMPTY.with(0, Mapping::writable(5));
        assert_linearizable(&first, saw, &self.table.now(cpu, 0..4));
        let leaf = leaf::<B>(self.table.root.borrow(&cpu.read_side()));
        if leaf == Some(self.leaf) { "kept" } else { "pruned" }
    }
}

scenario!(Race);
