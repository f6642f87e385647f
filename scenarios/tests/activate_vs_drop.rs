//! # Activate vs. drop
//! Result: Never. A CPU translates through a root that has been freed.
//! CPUs: 0 activates the root, drops its handle, uses the page, and runs on nothing again. 1 drops
//!   the other handle.
//! Invariant: a CPU owns the root it runs on; giving it back may be what frees it.
//! Guards against: activation without a reference; giving back before the next root is loaded.
//! Sites: REFERENCE_INCREMENT, REFERENCE_DECREMENT, REFERENCE_LAST.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 4 executions, 6 under loom.
//! References: Linux mm/mmu_context and mmdrop; asterinas ostd/src/mm/page_table/node.
//! History:
//! * N10, kvm RISC-V dec9ed994434: a table is torn down while a CPU that owns no reference walks it
//!   => mutant activation_without_reference
use weft_scenarios::prelude::*;

struct Race<B: World> {
    handles: [Parcel<AddressSpace<UserTable<B>>>; 2],
    page: Vaddr,
}

impl<B: World> Scenario<B> for Race<B> {
    /// What the user read.
    type Saw = Option<u64>;
    const CPUS: Cpus<Self, B> = cpus([
        ("user", |race, cpu| {
            let root = race.handles[0].take();
            cpu.activate(&root).expect("it is a root");
            drop(root);
            let contents = cpu.backend().user_read(race.page);
            cpu.deactivate();
            contents
        }),
        ("dropper", |race, _cpu| {
            drop(race.handles[1].take());
            None
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("used", "the user read the page"),
        forbidden("lost", "an active table lost its page"),
    ];
    const REACHED: &'static [Situation] =
        &[met("a CPU ran on the root", |event| matches!(event, Event::Activated { .. }))];
    const TWINS: Twins = twins([
        weakened(&sites::REFERENCE_DECREMENT, "use after free: N"),
        weakened_fence(&sites::REFERENCE_LAST, "use after free: N"),
    ]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        let root = machine.user_space();
        let page = B::Geometry::address(&[0]);
        machine.map(&root, page, 7);
        Race { handles: [Parcel::new(root.clone()), Parcel::new(root)], page }
    }

    fn check(&self, _cpu: &mut Cpu<B>, saw: &[Option<u64>]) -> &'static str {
        if saw[0] == Some(7) { "used" } else { "lost" }
    }
}

scenario!(Race);
