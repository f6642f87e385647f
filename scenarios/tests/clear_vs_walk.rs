//! # Clear vs. walk
//! Result: Never. A walker finds the entry absent that was cleared second, and not the first.
//! CPUs: 0 clears two entries of a leaf by hand, the second one accessed and dirty. 1 walks to the
//!   second page, and then to the first.
//! Invariant: entries go in the order in which they are cleared, and who finds one absent sees what
//!   was written before it was cleared.
//! Guards against: a cleared entry that overtakes one that was cleared before it.
//! Sites: CLEAR_ENTRY, WALK_ENTRY.
//! Bounds: 2 CPUs, one leaf, no preemption bound; 3 executions, 60 under loom.
//! References: the litmus test MP, with stores that say "nothing here".
use weft_scenarios::prelude::*;

const GONE: Situation = situation("the walker found the second entry absent");

struct Race<B: World> {
    leaf: Node<UserTable<B>>,
    /// Each is written before one entry is cleared: who finds that absent may read it.
    notes: [B::Cell<bool>; 2],
}

impl<B: World> Scenario<B> for Race<B> {
    /// For the walker: whether the pages were there.
    type Saw = [bool; 2];
    const CPUS: Cpus<Self, B> = cpus([
        ("clearer", |race, cpu| {
            let section = cpu.read_side();
            let mut leaf = race.leaf.borrow(&section).lock();
            for (index, note) in race.notes.iter().enumerate() {
                note.set(true);
                let mut entry = leaf.entry(index).expect("a node has two entries");
                entry.detach().expect("the entry is managed").retire();
            }
            [false; 2]
        }),
        ("walker", |race, cpu| {
            let section = cpu.read_side();
            let leaf = race.leaf.borrow(&section);
            let [second, first] = [1, 0].map(|index| {
                let found = matches!(leaf.walk(index), ChildRef::Item(_));
                assert!(
                    found || race.notes[index].get(),
                    "what was written before a page went is not seen after"
                );
                found
            });
            if !second {
                cpu.reached(GONE);
            }
            [first, second]
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("both there", "the walker came before the first entry was cleared"),
        interesting("the second there", "the walker came between the two"),
        interesting("both gone", "the walker came after the second entry was cleared"),
        forbidden("the first there", "a page was found that went before one that was gone"),
    ];
    const REACHED: &'static [Situation] = &[GONE];
    const TWINS: Twins = twins([weakened(&sites::CLEAR_ENTRY, "data race on note")]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        let leaf = machine.node(1);
        let section = machine.section();
        let mut filling = leaf.borrow(&section).lock();
        for (index, noted) in [PageFlags::empty(), PageFlags::NOTED].into_iter().enumerate() {
            let (frame, property) = (machine.frame(0), Property::new(PageFlags::WRITE | noted));
            let mut entry = filling.entry(index).expect("a node has two entries");
            let item = MappedItem::Tracked { frame, property };
            entry.replace(Child::Item(item)).expect("a page fits a leaf");
        }
        drop(filling);
        drop(section);
        Race { leaf, notes: [B::Cell::new("note", false), B::Cell::new("note", false)] }
    }

    fn check(&self, _cpu: &mut Cpu<B>, saw: &[Self::Saw]) -> &'static str {
        match saw[1] {
            [true, true] => "both there",
            [false, true] => "the second there",
            [false, false] => "both gone",
            [true, false] => "the first there",
        }
    }
}

scenario!(Race);
