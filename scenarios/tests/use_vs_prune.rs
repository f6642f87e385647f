//! # Use vs. prune
//! Result: Never. A CPU faults on a page that it has mapped itself.
//! CPUs: 0 runs on the space and reads page 0; then it maps page 1, below the same leaf or below a
//!   new one, and reads it. 1 unmaps page 0, and with it the leaf that is left empty.
//! Invariant: a node that was left empty is flushed before its parent is unlocked: what another
//!   CPU maps below a new one is not looked for below the old one.
//! Guards against: a flush after the parent is unlocked.
//! Sites: LOCK_ACQUIRE, LOCK_RELEASE.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 609 executions, under loom to 3 preemptions.
//! References: Intel SDM, volume 3A, sections 5.10.3.2 and 5.10.4.1.
use weft_scenarios::prelude::*;

struct Race<B: World> {
    table: Space<B>,
}

/// What the user read of both pages.
#[derive(Clone, Copy, Debug)]
struct Saw {
    first: Option<u64>,
    own: Option<u64>,
}

impl<B: World> Scenario<B> for Race<B> {
    type Saw = Option<Saw>;
    const CPUS: Cpus<Self, B> = cpus([
        ("user", |race, cpu| {
            cpu.activate(&race.table.root).expect("nothing is asked of a root here");
            let first = cpu.backend().user_read(page::<B>(0));
            race.table.ask(cpu, &[Operation::map(1, Mapping::writable(9))]);
            let own = cpu.backend().user_read(page::<B>(1));
            cpu.deactivate();
            Some(Saw { first, own })
        }),
        ("unmapper", |race, cpu| {
            race.table.ask(cpu, &[Operation::unmap(0)]);
            None
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("read before", "page 0 was still mapped when it was read"),
        interesting("read behind", "page 0 was unmapped first"),
        forbidden("fault", "a CPU faults on a page that is mapped"),
        forbidden("corrupt", "a page does not have its contents"),
    ];
    const REACHED: &'static [Situation] =
        &[met("the leaf was taken out", |event| matches!(event, Event::Detached(_)))];
    const TWINS: Twins = twins([
        no_shootdown("a CPU faults on a page that is mapped"),
        late_shootdown("a CPU faults on a page that is mapped"),
        forgotten_holder(0, "a CPU faults on a page that is mapped"),
    ]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        Race { table: machine.space(&[(0, 5)]) }
    }

    fn check(&self, _cpu: &mut Cpu<B>, saw: &[Self::Saw]) -> &'static str {
        match saw[0].expect("the user has read both pages") {
            Saw { own: None, .. } => "fault",
            Saw { first: Some(5), own: Some(9) } => "read before",
            Saw { first: None, own: Some(9) } => "read behind",
            _ => "corrupt",
        }
    }
}

scenario!(Race);
