//! # Create vs. install
//! Result: Never. A new table lacks a page that every table is to have.
//! CPUs: 0 makes a new table of what the first one has, and puts it on the list of all tables. 1
//!   maps a page that all tables share: in the first one, and in those on the list.
//! Invariant: copying and joining the list are one step, as installing and walking the list are.
//! Guards against: a table that was copied before the page was there, and joins after the list was
//!   walked. The core has no such list: the entries that roots share are grown before the first
//!   root shares them.
//! Sites: LOCK_ACQUIRE, LOCK_RELEASE.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 2 executions, 9 under loom.
//! References: linux pgd_lock, arch_sync_kernel_mappings; include/linux/pgalloc.h.
//! History:
//! * N5, linux sync_global_pgds, CVE-2025-39845, freebsd riscv c862d5f2a789: an entry of the
//!   kernel's half appears while a root is created => mistake-copies-first
use weft_scenarios::prelude::*;

struct Race<B: World> {
    first: Table<B>,
    new: Table<B>,
    frame: Frame<B>,
    /// Protects the list.
    lock: KernelLock<B>,
    /// 1 if the new table is on the list.
    is_listed: B::Cell<bool>,
}

impl<B: World> Race<B> {
    /// Maps the shared page in a table.
    fn install(&self, cpu: &Cpu<B>, table: &Table<B>) {
        let section = cpu.read_side();
        let root = table.root.borrow(&section);
        let mut cursor = Cursor::lock(root, pages::<B>(0..1)).expect("the path exists");
        let item = lent_item(cpu.backend(), self.frame.paddr(), PageFlags::WRITE);
        cursor.map(item).expect("nothing is mapped there");
    }

    fn has_page(&self, cpu: &Cpu<B>, table: &Table<B>) -> bool {
        let section = cpu.read_side();
        look::<B>(table.root.borrow(&section), 0).item.is_some()
    }

    /// Gives the new table what the first one has.
    fn copy(&self, cpu: &Cpu<B>) {
        if self.has_page(cpu, &self.first) {
            self.install(cpu, &self.new);
        }
    }
}

impl<B: World> Scenario<B> for Race<B> {
    type Saw = ();
    const CPUS: Cpus<Self, B> = cpus([
        ("creator", |race, cpu| {
            race.lock.with(|| {
                race.copy(cpu);
                race.is_listed.set(true);
            });
        }),
        ("installer", |race, cpu| {
            race.lock.with(|| {
                race.install(cpu, &race.first);
                if race.is_listed.get() {
                    race.install(cpu, &race.new);
                }
            });
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("shared", "both tables have the page"),
        forbidden("missing", "a table lacks a page that all tables share"),
    ];
    const REACHED: &'static [Situation] = &[];
    const TWINS: Twins = twins([
        weakened(&sites::LOCK_ACQUIRE, "data race on is_listed"),
        weakened(&sites::LOCK_RELEASE, "data race on is_listed"),
    ]);
    const MISTAKES: Mistakes<Self, B> = mistakes([mistake(
        "copies-first",
        0,
        "copies what there is before it takes the lock of the list",
        |race, cpu| {
            race.copy(cpu);
            race.lock.with(|| race.is_listed.set(true));
        },
        "a table lacks a page that all tables share",
    )]);
    const SET_UP_FRAMES: usize = 10;

    fn set_up(machine: &mut Machine<B>) -> Self {
        let [first, new] = [5, 6].map(|contents| machine.table(&[(1, contents)]));
        let (lock, is_listed) = (KernelLock::new("list"), B::Cell::new("is_listed", false));
        Race { first, new, frame: machine.frame(7), lock, is_listed }
    }

    fn check(&self, cpu: &mut Cpu<B>, _saw: &[()]) -> &'static str {
        let is_shared = [&self.first, &self.new].map(|table| self.has_page(cpu, table));
        if is_shared == [true; 2] { "shared" } else { "missing" }
    }
}

scenario!(Race);
