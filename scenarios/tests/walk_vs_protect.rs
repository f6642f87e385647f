//! # Walk vs. protect
//! Result: Never. A walker finds a page whose rights have changed, without its contents.
//! CPUs: 0 fills a frame and maps it, accessed and dirty. 1 takes its write permission away. 2
//!   walks to the page and reads it.
//! Invariant: an entry leads to a complete frame, whichever CPU wrote the entry last.
//! Guards against: a property changed with a store that publishes nothing: it ends the release
//!   sequence of the CPU that mapped the page.
//! Sites: PUBLISH_ITEM, PROTECT_ENTRY, WALK_ENTRY.
//! Bounds: 3 CPUs, one leaf, no preemption bound; 5 executions.
//! References: C++20 [intro.races], release sequences; Lahav et al. (PLDI'17), section 3.
use weft_scenarios::prelude::*;

const FOUND: Situation = situation("the walker found the page protected");

struct Race<B: World> {
    leaf: Node<UserTable<B>>,
}

impl<B: World> Scenario<B> for Race<B> {
    /// What the walker read.
    type Saw = Option<u64>;
    const CPUS: Cpus<Self, B> = cpus([
        ("mapper", |race, cpu| {
            let frame = Frame::allocate(cpu.backend()).expect("there are frames enough");
            cpu.backend().write_contents(frame.paddr(), 7);
            let flags = PageFlags::WRITE | PageFlags::ACCESSED | PageFlags::DIRTY;
            let item = MappedItem::Tracked { frame, property: Property::new(flags) };
            let section = cpu.read_side();
            let mut leaf = race.leaf.borrow(&section).lock();
            let mut entry = leaf.entry(0).expect("a node has two entries");
            entry.replace(Child::Item(item)).expect("a page fits a leaf");
            None
        }),
        ("protector", |race, cpu| {
            let section = cpu.read_side();
            let mut leaf = race.leaf.borrow(&section).lock();
            let mut entry = leaf.entry(0).expect("a node has two entries");
            let old = entry.protect(|mut property| {
                property.flags.remove(PageFlags::WRITE);
                property
            });
            old.ok().map(|_| 0)
        }),
        ("walker", |race, cpu| {
            let section = cpu.read_side();
            let ChildRef::Item(page) = race.leaf.borrow(&section).walk(0) else { return None };
            if !page.property.flags.contains(PageFlags::WRITE) {
                cpu.reached(FOUND);
            }
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
        weakened(&sites::PROTECT_ENTRY, "use before allocation: N"),
        weakened(&sites::WALK_ENTRY, "use before allocation: N"),
    ]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        Race { leaf: machine.node(1) }
    }

    fn check(&self, _cpu: &mut Cpu<B>, saw: &[Option<u64>]) -> &'static str {
        match saw[2] {
            None => "absent",
            Some(7) => "complete",
            Some(_) => "incomplete",
        }
    }
}

scenario!(Race);
