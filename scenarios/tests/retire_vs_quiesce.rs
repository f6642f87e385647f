//! # Retire vs. quiesce
//! Result: Never. A grace period ends before every CPU that was online has been quiescent.
//! CPUs: 0 detaches two nodes, with a quiescent state after each. 1 and 2 look at both nodes and
//!   announce a quiescent state; 1 has announced one before.
//! Invariant: a batch waits for every section that had begun when it was retired, also a batch
//!   that is retired while another grace period runs.
//! Guards against: a period that forgets a CPU; a batch that joins a running period.
//! Sites: LOCK_ACQUIRE, LOCK_RELEASE.
//! Bounds: 3 CPUs, 2 levels, no preemption bound under the explorer; 698 executions.
//! References: Hart et al. (JPDC 2007), "QSBR"; Linux Documentation/RCU/Design/Requirements.
use weft_scenarios::prelude::*;

struct Race<B: World> {
    parent: Node<UserTable<B>>,
}

impl<B: World> Race<B> {
    /// Detaches a child and retires it.
    fn detach(&self, cpu: &Cpu<B>, index: usize) {
        let section = cpu.read_side();
        let mut parent = self.parent.borrow(&section).lock();
        let mut entry = parent.entry(index).expect("a node has two entries");
        entry.detach().expect("the entry is managed").retire();
    }

    /// Looks at the children that are there, and announces a quiescent state.
    fn look(&self, cpu: &mut Cpu<B>) -> usize {
        let section = cpu.read_side();
        let parent = self.parent.borrow(&section);
        let is_there = |index: &usize| match parent.walk(*index) {
            ChildRef::Node(child) => matches!(child.walk(0), ChildRef::Absent),
            _ => false,
        };
        let found = (0..2).filter(is_there).count();
        drop(section);
        cpu.quiescent();
        found
    }
}

impl<B: World> Scenario<B> for Race<B> {
    /// How many children were found.
    type Saw = usize;
    const CPUS: Cpus<Self, B> = cpus([
        ("retirer", |race, cpu| {
            race.detach(cpu, 0);
            cpu.quiescent();
            race.detach(cpu, 1);
            cpu.quiescent();
            0
        }),
        ("first reader", |race, cpu| {
            cpu.quiescent();
            race.look(cpu)
        }),
        ("second reader", |race, cpu| race.look(cpu)),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("both", "each reader found a child"),
        interesting("first", "only the first reader found a child"),
        interesting("second", "only the second reader found a child"),
        interesting("none", "both readers came too late"),
    ];
    const REACHED: &'static [Situation] = &[
        met("a batch was retired while a grace period ran", |event| {
            matches!(event, Event::RetiredDuringGracePeriod)
        }),
        met("a grace period ended", |event| matches!(event, Event::GracePeriodEnded)),
    ];
    const TWINS: Twins = twins([
        freed_at_once("use after free: N"),
        forgotten_cpu(1, "use after free: N"),
        forgotten_cpu(2, "use after free: N"),
    ]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        let parent = machine.node(2);
        let section = machine.section();
        let mut guard = parent.borrow(&section).lock();
        for index in 0..2 {
            let mut entry = guard.entry(index).expect("a node has two entries");
            drop(entry.allocate_if_absent().expect("the set-up has frames enough"));
        }
        drop(guard);
        drop(section);
        Race { parent }
    }

    fn check(&self, _cpu: &mut Cpu<B>, saw: &[usize]) -> &'static str {
        match (saw[1] > 0, saw[2] > 0) {
            (true, true) => "both",
            (true, false) => "first",
            (false, true) => "second",
            (false, false) => "none",
        }
    }
}

scenario!(Race);
