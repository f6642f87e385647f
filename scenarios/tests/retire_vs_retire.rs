//! # Retire vs. retire
//! Result: Never. A node is freed while a CPU reads it, since another batch's period has ended.
//! CPUs: 0 and 1 detach a node each, with a quiescent state before and after. 2 looks at both
//!   nodes in one section, announces a quiescent state, and looks again.
//! Invariant: a batch waits for every section that had begun when it was retired, whichever CPU
//!   has ended the period before.
//! Guards against: a batch that joins a running period; a period that counts a CPU's quiescent
//!   state of the period before.
//! Sites: LOCK_ACQUIRE, LOCK_RELEASE.
//! Bounds: 3 CPUs, 2 levels, no preemption bound; 420 executions.
//! References: Hart et al. (JPDC 2007), "QSBR"; Linux Documentation/RCU/Design/Requirements.
use weft_scenarios::prelude::*;

struct Race<B: World> {
    parent: Parent<B>,
}

impl<B: World> Scenario<B> for Race<B> {
    /// How many children were found, at first and then.
    type Saw = [usize; 2];
    const CPUS: Cpus<Self, B> = cpus([
        ("first retirer", |race, cpu| {
            race.parent.detach(cpu, 0);
            [0; 2]
        }),
        ("second retirer", |race, cpu| {
            race.parent.detach(cpu, 1);
            [0; 2]
        }),
        ("reader", |race, cpu| [race.parent.look(cpu), race.parent.look(cpu)]),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("both, then both", "the reader came first"),
        interesting("both, then one", "one was detached in between"),
        interesting("both, then none", "both were detached in between"),
        interesting("one, then one", "one was detached before"),
        interesting("one, then none", "one was detached before, and one in between"),
        interesting("none", "the reader came too late"),
    ];
    const REACHED: &'static [Situation] = &[
        met("a batch was retired while a grace period ran", |event| {
            matches!(event, Event::RetiredDuringGracePeriod)
        }),
        met("a grace period ended", |event| matches!(event, Event::GracePeriodEnded)),
    ];
    const TWINS: Twins =
        twins([freed_at_once("use after free: N"), forgotten_cpu(2, "use after free: N")]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        Race { parent: Parent::new(machine, 2) }
    }

    fn check(&self, _cpu: &mut Cpu<B>, saw: &[Self::Saw]) -> &'static str {
        match saw[2] {
            [2, 2] => "both, then both",
            [2, 1] => "both, then one",
            [2, 0] => "both, then none",
            [1, 1] => "one, then one",
            [1, 0] => "one, then none",
            _ => "none",
        }
    }
}

scenario!(Race);
