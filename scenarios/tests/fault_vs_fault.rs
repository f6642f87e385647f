//! # Fault vs. fault
//! Result: Never. A CPU faults again where its handler has been.
//! CPUs: 0 runs on the space and writes a page that may not be written at first: the handler of
//!   the fault allows it, and the CPU writes again. Hardware may have kept the entry once more
//!   before it was changed, so there may be a second fault, of which the handler finds that there
//!   is nothing to do. 1 handles a fault at the next page, below the same leaf.
//! Invariant: a handler decides by the entry that has faulted, so there is no third fault.
//! Guards against: a handler that takes several entries for one, and finds in one of them what the
//!   other lacks.
//! Sites: LOCK_ACQUIRE, LOCK_RELEASE.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 22 executions, under loom to 3 preemptions.
//! References: linux contpte_ptep_set_access_flags (arch/arm64/mm/contpte.c); Intel SDM, volume 3A,
//!   section 5.10.4.3, on faults that go away.
//! History:
//! * N6, linux contpte_ptep_set_access_flags, CVE-2026-43486: what hardware has noted in neighbours
//!   counts for an entry, which stays as it was and faults for ever => mistake-gathers
use weft_scenarios::prelude::*;

/// As many faults as a CPU must not have.
const FAULTS_MAX: usize = 3;

struct Race<B: World> {
    table: Space<B>,
    /// How many faults were handled, under the lock of the leaf.
    handled: B::Cell<u64>,
    /// What both pages are of.
    _frames: [Frame<B>; 2],
}

impl<B: World> Race<B> {
    /// Writes page 0. A fault is handled, by a handler that finds out whether there is
    /// something to do from the entries of the `asked` pages, and the page written again.
    fn write(&self, cpu: &mut Cpu<B>, asked: core::ops::Range<u8>) -> bool {
        cpu.activate(&self.table.root).expect("nothing is asked of a root here");
        let wrote = (0..FAULTS_MAX).any(|_| {
            let wrote = cpu.backend().user_write(page::<B>(0), 8);
            if !wrote {
                self.handle(cpu, 0, asked.clone());
            }
            wrote
        });
        cpu.deactivate();
        wrote
    }

    /// Allows writes to page `own`, unless one of the `asked` pages allows them.
    fn handle(&self, cpu: &Cpu<B>, own: u8, asked: core::ops::Range<u8>) {
        let section = cpu.read_side();
        let root = self.table.root.borrow(&section);
        let mut cursor = Cursor::lock(root, pages::<B>(0..2)).expect("the path exists");
        self.handled.set(self.handled.get() + 1);
        let mut is_allowed = |number| {
            cursor.jump(page::<B>(number)).expect("it is in the range");
            let item = cursor.query().expect("the cursor is at the page").item;
            item.expect("the page is mapped").property.flags.contains(PageFlags::WRITE)
        };
        if asked.clone().any(&mut is_allowed) {
            return;
        }
        cursor.jump(page::<B>(own)).expect("it is in the range");
        let changed = cursor.protect_next(|mut property| {
            property.flags.insert(PageFlags::WRITE);
            property
        });
        assert!(changed.is_ok_and(|changed| changed.is_some()), "the page is mapped");
    }
}

impl<B: World> Scenario<B> for Race<B> {
    /// Whether the page was written in the end.
    type Saw = bool;
    const CPUS: Cpus<Self, B> = cpus([
        ("writer", |race, cpu| race.write(cpu, 0..1)),
        ("handler", |race, cpu| {
            race.handle(cpu, 1, 1..2);
            true
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("written", "the CPU wrote its page behind its fault"),
        forbidden("faults again", "a CPU faults again where its handler has been"),
    ];
    const REACHED: &'static [Situation] = &[];
    const TWINS: Twins = twins([
        weakened(&sites::LOCK_ACQUIRE, "data race on handled"),
        weakened(&sites::LOCK_RELEASE, "data race on handled"),
    ]);
    const MISTAKES: Mistakes<Self, B> = mistakes([mistake(
        "gathers",
        0,
        "finds nothing to do because the neighbour's entry has what its own lacks",
        |race, cpu| race.write(cpu, 0..2),
        "a CPU faults again where its handler has been",
    )]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        let table = machine.space(&[]);
        let frames = [0, 1].map(|number| machine.lend(&table, number, 5, PageFlags::ACCESSED));
        Race { table, handled: B::Cell::new("handled", 0), _frames: frames }
    }

    fn check(&self, _cpu: &mut Cpu<B>, saw: &[bool]) -> &'static str {
        if saw[0] { "written" } else { "faults again" }
    }
}

scenario!(Race);
