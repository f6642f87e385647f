//! # Walk vs. detach
//! Result: Never. A walker inside its read-side section touches a node that has been freed.
//! CPUs: 0 walks to the page without locks and reads it. 1 detaches the sub-tree and goes on.
//! Invariant: what is detached is freed only after every section that may have seen it.
//! Guards against: freeing at the detachment; a grace period that does not wait for every CPU.
//! Sites: WALK_ENTRY, CLEAR_ENTRY, LOCK_ACQUIRE, LOCK_RELEASE.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 7 executions, 1,141 under loom.
//! References: Linux Documentation/litmus-tests/rcu/RCU+sync+free.litmus; linux 70cbc3cc78a9.
//! History:
//! * 8, linux 70cbc3cc78a9, linux 2ba99c5e0881: a table is freed while a CPU walks it without locks
//!   => freed-at-once, forgotten-cpu-0
use weft_scenarios::prelude::*;

const FOUND: Situation = situation("the walker read the page after it was detached");

struct Race<B: World> {
    root: Node<UserTable<B>>,
}

impl<B: World> Scenario<B> for Race<B> {
    /// What the walker read.
    type Saw = Option<u64>;
    const CPUS: Cpus<Self, B> = cpus([
        ("walker", |race, cpu| {
            let section = cpu.read_side();
            let root = race.root.borrow(&section);
            let vaddr = B::Geometry::address(&[0]);
            let ChildRef::Item(page) = walk_to_leaf(root, vaddr) else { return None };
            let contents = cpu.backend().read_contents(page.frame);
            if matches!(walk_to_leaf(root, vaddr), ChildRef::Absent) {
                cpu.reached(FOUND);
            }
            drop(section);
            cpu.quiescent();
            Some(contents)
        }),
        ("detacher", |race, cpu| {
            let section = cpu.read_side();
            let mut root = race.root.borrow(&section).lock();
            let mut entry = root.entry(0).expect("a node has two entries");
            entry.detach().expect("the entry is managed").retire();
            drop(root);
            drop(section);
            cpu.quiescent();
            None
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("walked first", "the walker found the page"),
        interesting("detached first", "the walker found nothing"),
        forbidden("corrupt", "a reachable page does not have its contents"),
    ];
    const REACHED: &'static [Situation] =
        &[FOUND, met("a grace period ended", |event| matches!(event, Event::GracePeriodEnded))];
    const TWINS: Twins =
        twins([freed_at_once("use after free: N"), forgotten_cpu(0, "use after free: N")]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        let root = machine.user_root();
        machine.map(&root, B::Geometry::address(&[0]), 7);
        Race { root }
    }

    fn check(&self, _cpu: &mut Cpu<B>, saw: &[Option<u64>]) -> &'static str {
        match saw[0] {
            Some(7) => "walked first",
            None => "detached first",
            Some(_) => "corrupt",
        }
    }
}

scenario!(Race);
