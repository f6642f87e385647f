//! # Retire vs. quiesce, crowded
//! Result: Never. A grace period ends before each of three readers has been quiescent.
//! CPUs: 0 detaches a node, with a quiescent state after it. 1, 2 and 3 look at the node and
//!   announce a quiescent state.
//! Invariant: a batch waits for every section that had begun when it was retired.
//! Guards against: a period that forgets one CPU of several.
//! Sites: LOCK_ACQUIRE, LOCK_RELEASE.
//! Bounds: 4 CPUs, 2 levels, no preemption bound; 480 executions.
//! References: Hart et al. (JPDC 2007), "QSBR"; Linux Documentation/RCU/Design/Requirements.
use weft_scenarios::prelude::*;

struct Race<B: World> {
    parent: Node<UserTable<B>>,
}

impl<B: World> Race<B> {
    /// Whether the child is there and empty.
    fn look(&self, cpu: &mut Cpu<B>) -> bool {
        let section = cpu.read_side();
        let is_there = match self.parent.borrow(&section).walk(0) {
            ChildRef::Node(child) => matches!(child.walk(0), ChildRef::Absent),
            _ => false,
        };
        drop(section);
        cpu.quiescent();
        is_there
    }
}

impl<B: World> Scenario<B> for Race<B> {
    /// Whether the child was found.
    type Saw = bool;
    const CPUS: Cpus<Self, B> = cpus([
        ("retirer", |race, cpu| {
            let section = cpu.read_side();
            let mut parent = race.parent.borrow(&section).lock();
            let mut entry = parent.entry(0).expect("a node has two entries");
            entry.detach().expect("the entry is managed").retire();
            drop(parent);
            drop(section);
            cpu.quiescent();
            false
        }),
        ("first reader", |race, cpu| race.look(cpu)),
        ("second reader", |race, cpu| race.look(cpu)),
        ("third reader", |race, cpu| race.look(cpu)),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("found by none", "the readers came too late"),
        interesting("found by one", "the node was detached behind one reader"),
        interesting("found by two", "the node was detached behind two readers"),
        interesting("found by all", "the node was detached last"),
    ];
    const REACHED: &'static [Situation] =
        &[met("a grace period ended", |event| matches!(event, Event::GracePeriodEnded))];
    const TWINS: Twins = twins([
        freed_at_once("use after free: N"),
        forgotten_cpu(1, "use after free: N"),
        forgotten_cpu(3, "use after free: N"),
    ]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        let parent = machine.node(2);
        let section = machine.section();
        let mut guard = parent.borrow(&section).lock();
        let mut entry = guard.entry(0).expect("a node has two entries");
        drop(entry.allocate_if_absent().expect("the set-up has frames enough"));
        drop(guard);
        drop(section);
        Race { parent }
    }

    fn check(&self, _cpu: &mut Cpu<B>, saw: &[Self::Saw]) -> &'static str {
        match saw.iter().filter(|found| **found).count() {
            0 => "found by none",
            1 => "found by one",
            2 => "found by two",
            _ => "found by all",
        }
    }
}

scenario!(Race);
