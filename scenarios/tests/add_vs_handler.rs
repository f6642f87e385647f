//! # Add vs. handler
//! Result: Never. A CPU waits for a lock that it holds itself, because a handler has interrupted
//!   it.
//! CPUs: 0 adds an entry to the queue of what it is to flush. 1 adds one, too, and interrupts 0,
//!   where the handler empties the queue.
//! Invariant: a lock that handlers take is taken with interrupts masked everywhere.
//! Guards against: holding the lock of the queue with interrupts on.
//! Sites: LOCK_ACQUIRE, LOCK_RELEASE.
//! Bounds: 2 CPUs, no table, no preemption bound; 3 executions.
//! References: linux Documentation/kernel-hacking/locking.rst, "Locking Between Hard IRQ and
//!   Softirqs/Tasklets".
//! History:
//! * 24, asterinas #1602, asterinas 5313689d6: the interrupt that asks for a flush comes while its
//!   CPU holds the lock of the queue => mistake-leaves-interrupts-on
use weft_scenarios::prelude::*;

struct Race<B: World> {
    lock: KernelLock<B>,
    /// How many entries are on the queue.
    length: B::Cell<u64>,
    /// How many entries were taken off.
    emptied: B::Cell<u64>,
}

impl<B: World> Race<B> {
    fn add(&self) {
        self.lock.with(|| self.length.set(self.length.get() + 1));
    }

    fn empty(&self) {
        self.lock.with(|| {
            self.emptied.set(self.emptied.get() + self.length.get());
            self.length.set(0);
        });
    }
}

impl<B: World> Scenario<B> for Race<B> {
    type Saw = ();
    const CPUS: Cpus<Self, B> = cpus([
        ("adder", |race, cpu| cpu.backend().masked(|_| race.add())),
        ("interrupter", |race, cpu| {
            cpu.backend().masked(|_| race.add());
            cpu.backend().in_handler_of(CpuId::new(0), &|| race.empty());
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("emptied", "the handler found both entries"),
        interesting("left", "an entry was added behind the handler"),
        forbidden("lost", "an entry of a queue is lost"),
    ];
    const REACHED: &'static [Situation] = &[];
    const TWINS: Twins = twins([
        weakened(&sites::LOCK_ACQUIRE, "data race on length"),
        weakened(&sites::LOCK_RELEASE, "data race on length"),
    ]);
    const MISTAKES: Mistakes<Self, B> = mistakes([mistake(
        "leaves-interrupts-on",
        0,
        "holds the lock of the queue with interrupts on",
        |race, _cpu| race.add(),
        "a lock that an interrupt handler takes is held with interrupts on",
    )]);

    fn set_up(_machine: &mut Machine<B>) -> Self {
        let [length, emptied] = ["length", "emptied"].map(|name| B::Cell::new(name, 0));
        Race { lock: KernelLock::new("queue"), length, emptied }
    }

    fn check(&self, _cpu: &mut Cpu<B>, _saw: &[()]) -> &'static str {
        match (self.length.get(), self.emptied.get()) {
            (0, 2) => "emptied",
            (1, 1) => "left",
            _ => "lost",
        }
    }
}

scenario!(Race);
