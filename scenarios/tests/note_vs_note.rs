//! # Note vs. note
//! Result: Never. What a fault notes of a page is lost because another fault notes something, too.
//! CPUs: 0 handles a fault and notes that the page was accessed; 1 handles one and notes that it
//!   was written.
//! Invariant: an entry is read and changed in one transaction: a change is made to what is there.
//! Guards against: a handler that reads the entry without the lock, or under one for readers, and
//!   stores what it has made of it.
//! Sites: LOCK_ACQUIRE, LOCK_RELEASE, PROTECT_ENTRY.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 2 executions, 9 under loom.
//! References: linux arch/riscv/kvm/gstage.c; handle_pte_fault, "pte_same" (mm/memory.c).
//! History:
//! * N11, kvm RISC-V 7dd416fdd3fb: two faults under a lock for readers overwrite each other's entry
//!   => mistake-looks-first
use weft_scenarios::prelude::*;

struct Race<B: World> {
    table: Table<B>,
    /// How many faults were handled, under the lock of the range.
    handled: B::Cell<u64>,
}

impl<B: World> Race<B> {
    /// Changes what is noted of the page.
    fn change(&self, cpu: &Cpu<B>, change: impl FnMut(Property) -> Property) {
        let section = cpu.read_side();
        let root = self.table.root.borrow(&section);
        let mut cursor = Cursor::lock(root, pages::<B>(0..1)).expect("the path exists");
        assert!(cursor.protect(page::<B>(1), change) == Ok(1), "the page is mapped");
        self.handled.set(self.handled.get() + 1);
    }

    /// What is noted of the page.
    fn noted(&self, cpu: &Cpu<B>) -> Property {
        let section = cpu.read_side();
        let slot = look::<B>(self.table.root.borrow(&section), 0);
        slot.item.expect("the page is mapped").property
    }
}

fn with(mut property: Property, flag: PageFlags) -> Property {
    property.flags.insert(flag);
    property
}

impl<B: World> Scenario<B> for Race<B> {
    type Saw = ();
    const CPUS: Cpus<Self, B> = cpus([
        ("reader", |race, cpu| race.change(cpu, |found| with(found, PageFlags::ACCESSED))),
        ("writer", |race, cpu| race.change(cpu, |found| with(found, PageFlags::DIRTY))),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("both noted", "one CPU came after the other"),
        forbidden("lost", "a bit is lost that a fault has noted"),
    ];
    const REACHED: &'static [Situation] = &[];
    const TWINS: Twins = twins([
        weakened(&sites::LOCK_ACQUIRE, "data race on handled"),
        weakened(&sites::LOCK_RELEASE, "data race on handled"),
    ]);
    const MISTAKES: Mistakes<Self, B> = mistakes([mistake(
        "looks-first",
        1,
        "makes what it stores of an entry that it has read without the lock",
        |race, cpu| {
            let found = race.noted(cpu);
            race.change(cpu, |_| with(found, PageFlags::DIRTY));
        },
        "a bit is lost that a fault has noted",
    )]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        Race { table: machine.table(&[(0, 5)]), handled: B::Cell::new("handled", 0) }
    }

    fn check(&self, cpu: &mut Cpu<B>, _saw: &[()]) -> &'static str {
        assert!(self.handled.get() == 2, "a fault is not counted");
        if self.noted(cpu).flags.contains(PageFlags::NOTED) { "both noted" } else { "lost" }
    }
}

scenario!(Race);
