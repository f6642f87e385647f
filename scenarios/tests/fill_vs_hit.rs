//! # Fill vs. hit
//! Result: Never. A hit in a cache of translations gives one that is half written.
//! CPUs: 0 maps a page, walks to it, and keeps in a cache of software what it has found. 1 looks
//!   into the cache; if nothing is kept there it walks itself. Then it reads the page.
//! Invariant: what is kept is complete before it is said to be valid, and read behind that.
//! Guards against: a flag that is stored, or loaded, without order.
//! Sites: PUBLISH_ITEM, WALK_ENTRY.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 3 executions, 91 under loom.
//! References: linux arch/arm64/kvm/nested.c, vncr_tlb.valid.
//! History:
//! * N22, kvm arm64 d43548f422f2: a translation that software keeps is valid before it is complete
//!   => mistake-stores-in-any-order, mistake-loads-in-any-order
use weft_scenarios::prelude::*;

struct Race<B: World> {
    table: Table<B>,
    /// Where the page is, if that is valid.
    kept: B::Cell<u64>,
    is_valid: SharedWord<B>,
}

impl<B: World> Race<B> {
    /// Where the page is, as a walk finds it.
    fn walk(&self, cpu: &Cpu<B>) -> Option<Paddr> {
        let section = cpu.read_side();
        let slot = look::<B>(self.table.root.borrow(&section), 0);
        slot.item.map(|item| item.frame)
    }

    /// Maps the page, and keeps what a walk finds; `validate` says that it is valid.
    fn map_and_fill(&self, cpu: &mut Cpu<B>, validate: impl FnOnce()) -> Option<u64> {
        self.table.ask(cpu, &[Operation::map(0, Mapping::writable(7))]);
        let frame = self.walk(cpu).expect("the page is mapped");
        self.kept.set(frame.as_u64());
        validate();
        None
    }

    /// Reads the page that is kept, if something is, or that a walk finds.
    fn read(&self, cpu: &Cpu<B>, is_valid: bool) -> Option<u64> {
        let kept = is_valid.then(|| Paddr::new(self.kept.get()));
        let frame = kept.or_else(|| self.walk(cpu))?;
        Some(cpu.backend().read_contents(frame))
    }
}

impl<B: World> Scenario<B> for Race<B> {
    /// What was read.
    type Saw = Option<u64>;
    const CPUS: Cpus<Self, B> = cpus([
        ("filler", |race, cpu| race.map_and_fill(cpu, || race.is_valid.store_release(1))),
        ("user", |race, cpu| race.read(cpu, race.is_valid.load_acquire() != 0)),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("not mapped", "the user came first"),
        interesting("read", "the user found the page"),
        forbidden("corrupt", "a page does not have its contents"),
    ];
    const REACHED: &'static [Situation] = &[];
    const TWINS: Twins = twins([
        weakened(&sites::PUBLISH_ITEM, "use before allocation: N"),
        weakened(&sites::WALK_ENTRY, "use before allocation: N"),
    ]);
    const MISTAKES: Mistakes<Self, B> = mistakes([
        mistake(
            "stores-in-any-order",
            0,
            "says that a translation is valid, in no order with the translation",
            |race, cpu| race.map_and_fill(cpu, || race.is_valid.store(1)),
            "data race on kept",
        ),
        mistake(
            "loads-in-any-order",
            1,
            "asks whether a translation is valid, in no order with the translation",
            |race, cpu| race.read(cpu, race.is_valid.load() != 0),
            "data race on kept",
        ),
    ]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        let table = machine.table(&[(1, 6)]);
        Race { table, kept: B::Cell::new("kept", 0), is_valid: SharedWord::new("is_valid", 0) }
    }

    fn check(&self, _cpu: &mut Cpu<B>, saw: &[Option<u64>]) -> &'static str {
        match saw[1] {
            None => "not mapped",
            Some(7) => "read",
            Some(_) => "corrupt",
        }
    }
}

scenario!(Race);
