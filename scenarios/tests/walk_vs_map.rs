//! # Walk vs. map
//! Result: Never. A walker that finds a page finds it without its contents.
//! CPUs: 0 fills a frame and maps it. 1 walks to the page and reads it.
//! Invariant: the contents of a frame are complete before the frame is reachable.
//! Guards against: mapping with a plain store; reading the entry without acquiring.
//! Sites: PUBLISH_ITEM, WALK_ENTRY.
//! Bounds: 2 CPUs, one leaf, no preemption bound; 2 executions, 16 under loom.
//! References: Linux include/linux/page-flags.h, the barrier in __SetPageUptodate.
//! History:
//! * N14, kvm pKVM, CVE-2026-46147: a pointer is published before what it leads to is complete =>
//!   PUBLISH_ITEM, mistake-maps-first
use weft_scenarios::prelude::*;

const FOUND: Situation = situation("the walker found the page");

struct Race<B: World> {
    leaf: Node<UserTable<B>>,
}

impl<B: World> Race<B> {
    /// Maps a frame.
    fn map(&self, cpu: &Cpu<B>, frame: Frame<B>) {
        let item = MappedItem::Tracked { frame, property: Property::new(PageFlags::WRITE) };
        let section = cpu.read_side();
        let mut leaf = self.leaf.borrow(&section).lock();
        let mut entry = leaf.entry(1).expect("a node has two entries");
        entry.replace(Child::Item(item)).expect("a page fits a leaf");
    }
}

impl<B: World> Scenario<B> for Race<B> {
    /// What the walker read.
    type Saw = Option<u64>;
    const CPUS: Cpus<Self, B> = cpus([
        ("mapper", |race, cpu| {
            let frame = Frame::allocate(cpu.backend()).expect("there are frames enough");
            cpu.backend().write_contents(frame.paddr(), 7);
            race.map(cpu, frame);
            None
        }),
        ("walker", |race, cpu| {
            let section = cpu.read_side();
            let leaf = race.leaf.borrow(&section);
            let ChildRef::Item(page) = leaf.walk(1) else { return None };
            cpu.reached(FOUND);
            Some(cpu.backend().read_contents(page.frame))
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        acceptable("absent", "the walk came first"),
        interesting("complete", "the walk met the page"),
        forbidden("incomplete", "a reachable page does not have its contents"),
    ];
    const REACHED: &'static [Situation] = &[FOUND];
    const TWINS: Twins = twins([
        weakened(&sites::PUBLISH_ITEM, "use before allocation: N"),
        weakened(&sites::WALK_ENTRY, "use before allocation: N"),
    ]);
    const MISTAKES: Mistakes<Self, B> = mistakes([mistake(
        "maps-first",
        0,
        "maps the frame before it fills it",
        |race, cpu| {
            let frame = Frame::allocate(cpu.backend()).expect("there are frames enough");
            let paddr = frame.paddr();
            race.map(cpu, frame);
            cpu.backend().write_contents(paddr, 7);
            None
        },
        "data race on N",
    )]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        Race { leaf: machine.node(1) }
    }

    fn check(&self, _cpu: &mut Cpu<B>, saw: &[Option<u64>]) -> &'static str {
        match saw[1] {
            None => "absent",
            Some(7) => "complete",
            Some(_) => "incomplete",
        }
    }
}

scenario!(Race);
