//! # Free vs. map
//! Result: Never. A page is mapped while it is being freed.
//! CPUs: 0 gives a frame up: it notes that, unmaps the page if it is mapped, and frees the frame.
//!   1 runs on the space; it maps the frame unless it was given up, and reads the page.
//! Invariant: who maps a frame asks under the lock of the range whether it was given up, and who
//!   gives it up unmaps it under the same lock.
//! Guards against: asking before the lock is taken.
//! Sites: LOCK_ACQUIRE, LOCK_RELEASE, FLUSH_ORDER.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 50 executions, under loom to 3 preemptions.
//! References: xen guest_physmap_remove_page, p2m_lock (xen/arch/x86/mm/p2m.c).
//! History:
//! * N18, xen XSA-486, CVE-2026-23558: pages are mapped that another CPU frees since they were
//!   looked at => mistake-asks-first, no-shootdown
use weft_scenarios::prelude::*;

struct Race<B: World> {
    table: Space<B>,
    frame: Parcel<Frame<B>>,
    paddr: Paddr,
    /// 1 if the frame was given up.
    is_given_up: SharedWord<B>,
}

/// What the mapper read, if it has mapped the frame.
type Read = Option<Option<u64>>;

impl<B: World> Race<B> {
    /// Maps the frame unless `is_given_up`, which is asked under the lock.
    fn map(&self, cpu: &Cpu<B>, is_given_up: impl FnOnce() -> bool) -> bool {
        let section = cpu.read_side();
        let root = self.table.root.borrow(&section);
        let mut cursor = Cursor::lock(root, pages::<B>(0..1)).expect("the path exists");
        if is_given_up() {
            return false;
        }
        let item = lent_item(cpu.backend(), self.paddr, PageFlags::WRITE);
        cursor.map(item).expect("nothing is mapped there");
        true
    }

    /// Maps the frame and reads it.
    fn map_and_read(&self, cpu: &mut Cpu<B>, map: impl FnOnce(&Cpu<B>) -> bool) -> Read {
        cpu.activate(&self.table.root).expect("nothing is asked of a root here");
        let read = map(cpu).then(|| cpu.backend().user_read(page::<B>(0)));
        cpu.deactivate();
        read
    }
}

impl<B: World> Scenario<B> for Race<B> {
    type Saw = Read;
    const CPUS: Cpus<Self, B> = cpus([
        ("freer", |race, cpu| {
            let section = cpu.read_side();
            let root = race.table.root.borrow(&section);
            let mut cursor = Cursor::lock(root, pages::<B>(0..1)).expect("the path exists");
            race.is_given_up.store_release(1);
            cursor.unmap(page::<B>(1)).expect("no huge page is there");
            cursor.flush();
            drop(cursor);
            drop(race.frame.take());
            None
        }),
        ("mapper", |race, cpu| {
            race.map_and_read(cpu, |cpu| race.map(cpu, || race.is_given_up.load() != 0))
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("given up first", "the frame was not mapped"),
        interesting("read first", "the page was read before it was unmapped"),
        interesting("unmapped in between", "the read faulted"),
        forbidden("corrupt", "a page does not have its contents"),
    ];
    const REACHED: &'static [Situation] = &[];
    const TWINS: Twins = twins([no_shootdown("use after free")]);
    const MISTAKES: Mistakes<Self, B> = mistakes([mistake(
        "asks-first",
        1,
        "asks whether the frame was given up before it takes the lock",
        |race, cpu| {
            race.map_and_read(cpu, |cpu| {
                let is_given_up = race.is_given_up.load_acquire() != 0;
                race.map(cpu, || is_given_up)
            })
        },
        "use after free",
    )]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        let table = machine.used_space(&[(1, 6)]);
        let frame = machine.frame(7);
        let (paddr, is_given_up) = (frame.paddr(), SharedWord::new("is_given_up", 0));
        Race { table, frame: Parcel::new(frame), paddr, is_given_up }
    }

    fn check(&self, _cpu: &mut Cpu<B>, saw: &[Read]) -> &'static str {
        match saw[1] {
            None => "given up first",
            Some(Some(7)) => "read first",
            Some(None) => "unmapped in between",
            Some(Some(_)) => "corrupt",
        }
    }
}

scenario!(Race);
