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
    parent: Parent<B>,
}

impl<B: World> Scenario<B> for Race<B> {
    /// How many children were found.
    type Saw = usize;
    const CPUS: Cpus<Self, B> = cpus([
        ("retirer", |race, cpu| {
            race.parent.detach(cpu, 0);
            race.parent.detach(cpu, 1);
            0
        }),
        ("first reader", |race, cpu| {
            cpu.quiescent();
            race.parent.look(cpu)
        }),
        ("second reader", |race, cpu| race.parent.look(cpu)),
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
        Race { parent: Parent::new(machine, 2) }
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
