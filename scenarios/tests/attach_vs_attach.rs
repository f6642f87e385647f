//! # Attach vs. attach
//! Result: Never. One node becomes the child of two parents.
//! CPUs: 0 and 1 each put the same leaf, of which each has a handle, into a parent of their own.
//! Invariant: a node has one parent in its life; the CPU that comes second is refused.
//! Guards against: an admission that does not look, or looks without the node's lock.
//! Sites: PUBLISH_NODE, LOCK_ACQUIRE, LOCK_RELEASE.
//! Bounds: 2 CPUs, 2 levels, no preemption bound; 4 executions, 10 under loom.
//! References: asterinas ostd/src/mm/page_table/node, a child is written exactly once.
use weft_scenarios::prelude::*;

struct Race<B: World> {
    parents: [Node<UserTable<B>>; 2],
    handles: [Parcel<Node<UserTable<B>>>; 2],
}

impl<B: World> Race<B> {
    fn attach(&self, cpu: &mut Cpu<B>, number: usize) -> bool {
        let leaf = self.handles[number].take();
        let section = cpu.read_side();
        let mut parent = self.parents[number].borrow(&section).lock();
        let mut entry = parent.entry(0).expect("a node has two entries");
        entry.replace(Child::Node(leaf)).is_ok()
    }
}

impl<B: World> Scenario<B> for Race<B> {
    /// Whether the node was taken.
    type Saw = bool;
    const CPUS: Cpus<Self, B> = cpus([
        ("left", |race, cpu| race.attach(cpu, 0)),
        ("right", |race, cpu| race.attach(cpu, 1)),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("left", "the right parent was refused"),
        interesting("right", "the left parent was refused"),
        forbidden("both", "a node has two parents"),
        forbidden("neither", "a node that has no parent was refused"),
    ];
    const REACHED: &'static [Situation] =
        &[met("a CPU found the lock taken", |event| matches!(event, Event::LockContended))];
    const TWINS: Twins = twins([
        weakened(&sites::LOCK_ACQUIRE, "data race on N"),
        weakened(&sites::LOCK_RELEASE, "data race on N"),
    ]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        let leaf = machine.node(1);
        let parents = [machine.node(2), machine.node(2)];
        Race { parents, handles: [Parcel::new(leaf.clone()), Parcel::new(leaf)] }
    }

    fn check(&self, _cpu: &mut Cpu<B>, saw: &[bool]) -> &'static str {
        match saw {
            [true, false] => "left",
            [false, true] => "right",
            [true, true] => "both",
            _ => "neither",
        }
    }
}

scenario!(Race);
