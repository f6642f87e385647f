//! # Move vs. unmap
//! Result: Never. A CPU uses a page at its old address after another one freed it at its new one.
//! CPUs: 0 moves a page from one address to another, under a cursor of each. 1 runs on the space
//!   and reads the page at the old address; it unmaps the new one, frees the frame that was there,
//!   and reads the old one again.
//! Invariant: the old translation is flushed before the new address can be locked by another CPU:
//!   a CPU that unmaps the page there flushes that address, and no other.
//! Guards against: letting go of the new place before the flush of the old one.
//! Sites: LOCK_RELEASE, FLUSH_ORDER.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 50 executions, under loom to 3 preemptions.
//! References: linux mm/mremap.c, move_ptes, "we must flush before dropping the new lock".
//! History:
//! * 2, linux eb66ae030829, CVE-2018-18281: mremap lets go of the new place before it flushes the
//!   old one => mistake-flushes-last, no-shootdown
use weft_scenarios::prelude::*;

struct Race<B: World> {
    table: Space<B>,
    frame: Parcel<Frame<B>>,
    paddr: Paddr,
}

/// What the user saw.
#[derive(Clone, Copy, Debug)]
struct Saw {
    /// The contents at the old address, at first.
    before: Option<u64>,
    /// Whether the page was found at the new address, and freed.
    freed: bool,
    /// The contents at the old address, afterwards.
    after: Option<u64>,
}

impl<B: World> Scenario<B> for Race<B> {
    type Saw = Option<Saw>;
    const CPUS: Cpus<Self, B> = cpus([
        ("mover", |race, cpu| {
            let section = cpu.read_side();
            let root = race.table.root.borrow(&section);
            let mut from = Cursor::lock(root, pages::<B>(0..1)).expect("the path exists");
            // The holder of the second one waits for no other lock.
            let mut to = Cursor::lock(root, pages::<B>(2..3)).expect("the path exists");
            let moved = from.move_pages_into(page::<B>(1), &mut to);
            assert!(moved == Ok(1), "one page is there to be moved");
            None
        }),
        ("user", |race, cpu| {
            cpu.activate(&race.table.root).expect("nothing is asked of a root here");
            let before = cpu.backend().user_read(page::<B>(0));
            let unmapped = race.table.ask(cpu, &[Operation::unmap(2)]).answer(0);
            let freed = unmapped == Answer::Frames(1);
            if freed {
                drop(race.frame.take());
            }
            let after = cpu.backend().user_read(page::<B>(0));
            cpu.deactivate();
            Some(Saw { before, freed, after })
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("not moved yet", "the page was read at its old address throughout"),
        interesting("moved behind the unmap", "the second read faulted, and nothing was freed"),
        interesting("moved, then freed", "the page was unmapped at its new address"),
        forbidden("corrupt", "a page does not have its contents"),
    ];
    const REACHED: &'static [Situation] = &[];
    const TWINS: Twins = twins([
        no_shootdown("use after free"),
        late_shootdown("use after free"),
        forgotten_holder(1, "use after free"),
    ]);
    const MISTAKES: Mistakes<Self, B> = mistakes([mistake(
        "flushes-last",
        0,
        "lets go of the new place before it flushes the old one",
        |race, cpu| {
            let section = cpu.read_side();
            let root = race.table.root.borrow(&section);
            let leaf = |number| lock_covering(root, page::<B>(number), Level::LEAF);
            let [mut from, mut to] = [0, 2].map(|number| leaf(number).expect("the path exists"));
            let taken = from.entry(0).expect("a node has two entries").detach();
            let item = lent_item(cpu.backend(), race.paddr, PageFlags::WRITE);
            let put = to.entry(0).expect("a node has two entries").replace(Child::Item(item));
            put.expect("a page fits a leaf").retire();
            drop(to);
            taken.expect("the entry is managed").retire();
            None
        },
        "use after free",
    )]);
    const SET_UP_FRAMES: usize = 10;

    fn set_up(machine: &mut Machine<B>) -> Self {
        let table = machine.used_space(&[(1, 5), (3, 7)]);
        let frame = machine.lend(&table, 0, 6, PageFlags::WRITE | PageFlags::NOTED);
        Race { table, paddr: frame.paddr(), frame: Parcel::new(frame) }
    }

    fn check(&self, _cpu: &mut Cpu<B>, saw: &[Self::Saw]) -> &'static str {
        match saw[1].expect("the user has read the page") {
            Saw { before: Some(6), freed: false, after: Some(6) } => "not moved yet",
            Saw { before: Some(6) | None, freed: false, after: None } => "moved behind the unmap",
            Saw { before: Some(6) | None, freed: true, after: None } => "moved, then freed",
            _ => "corrupt",
        }
    }
}

scenario!(Race);
