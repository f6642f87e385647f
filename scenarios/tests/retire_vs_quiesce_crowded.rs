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
    parent: Parent<B>,
}

impl<B: World> Scenario<B> for Race<B> {
    /// How many children were found.
    type Saw = usize;
    const CPUS: Cpus<Self, B> = cpus([
        ("retirer", |race, cpu| {
            race.parent.detach(cpu, 0);
            0
        }),
        ("first reader", |race, cpu| race.parent.look(cpu)),
        ("second reader", |race, cpu| race.parent.look(cpu)),
        ("third reader", |race, cpu| race.parent.look(cpu)),
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
        Race { parent: Parent::new(machine, 1) }
    }

    fn check(&self, _cpu: &mut Cpu<B>, saw: &[Self::Saw]) -> &'static str {
        match saw.iter().sum::<usize>() {
            0 => "found by none",
            1 => "found by one",
            2 => "found by two",
            _ => "found by all",
        }
    }
}

scenario!(Race);
