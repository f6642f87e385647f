//! # Split vs. hardware
//! Result: Never. A dirty bit that hardware sets in a huge page is lost when the page is split.
//! CPUs: 0 splits the huge page. 1 runs on the table and writes the page.
//! Invariant: every part of a split page is at least as dirty as the whole was.
//! Guards against: reading the huge entry, filling the node, and storing over a bit set meanwhile.
//! Sites: PUBLISH_NODE, ENTRY_RETRY, ENTRY_INIT.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 33 executions, under loom to 3 preemptions.
//! References: linux ad5ca55f6bdb; Intel SDM, volume 3A, section 5.8.
use weft_scenarios::prelude::*;

struct Race<B: World> {
    root: AddressSpace<UserTable<B>>,
    page: Vaddr,
}

impl<B: World> Scenario<B> for Race<B> {
    /// For the writer: whether its write went through.
    type Saw = bool;
    const CPUS: Cpus<Self, B> = cpus([
        ("splitter", |race, cpu| {
            let section = cpu.read_side();
            let huge = lock_covering(race.root.borrow(&section), race.page, Level::new(2));
            let mut huge = huge.expect("the path exists");
            drop(huge.entry(0).expect("a node has two entries").split().expect("it is huge"));
            false
        }),
        ("writer", |race, cpu| {
            cpu.activate(&race.root).expect("it is a root");
            let wrote = cpu.backend().user_write(race.page, 8);
            cpu.deactivate();
            wrote
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("written, then split", "all parts are dirty"),
        interesting("split, then written", "one part is dirty"),
        forbidden("lost", "a dirty bit that hardware set is lost in the split"),
        forbidden("absent", "a page that stays mapped looked absent"),
    ];
    const REACHED: &'static [Situation] = &[];
    const TWINS: Twins = twins([
        torn_updates("a dirty bit that hardware set is lost in the split"),
        weakened(&sites::PUBLISH_NODE, "use before allocation: N"),
    ]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        let root = machine.user_space();
        let page = B::Geometry::address(&[0]);
        let section = machine.section();
        let node = lock_covering(root.borrow(&section), page, Level::new(2));
        let huge = machine.untracked(Paddr::new(1 << 30), 2, Property::new(PageFlags::WRITE));
        let mut node = node.expect("the set-up has frames enough");
        let mut entry = node.entry(0).expect("a node has two entries");
        entry.replace(Child::Item(huge)).expect("a huge page fits");
        drop(node);
        drop(section);
        Race { root, page }
    }

    fn check(&self, cpu: &mut Cpu<B>, saw: &[bool]) -> &'static str {
        let section = cpu.read_side();
        let root = self.root.borrow(&section);
        let is_dirty = |index: usize| match walk_to_leaf(root, B::Geometry::address(&[index])) {
            ChildRef::Item(part) => part.property.flags.contains(PageFlags::DIRTY),
            _ => false,
        };
        match (saw[1], is_dirty(0), is_dirty(1)) {
            (false, ..) => "absent",
            (true, true, true) => "written, then split",
            (true, true, false) => "split, then written",
            (true, false, _) => "lost",
        }
    }
}

scenario!(Race);
