//! # Walk vs. replace
//! Result: Never. A walker misses a page that is being replaced, or sees the old one again.
//! CPUs: 0 puts another frame in the place of a page's. 1 walks to the page and reads it, twice.
//! Invariant: the history of both is linearizable, where to replace is one step.
//! Guards against: an absence in between; an entry reachable before its page; a frame freed early.
//! Sites: PUBLISH_ITEM, WALK_ENTRY.
//! Bounds: 2 CPUs, one leaf, no preemption bound; 3 executions, 59 under loom.
//! References: Herlihy and Wing, TOPLAS 1990; Linux mm/memory.c, ptep_clear_flush in wp_page_copy.
use weft_scenarios::prelude::*;

const OLD: Mapping = Mapping::writable(5);
const NEW: Mapping = Mapping::writable(9);

struct Race<B: World> {
    leaf: Node<UserTable<B>>,
}

impl<B: World> Race<B> {
    fn item(frame: Frame<B>) -> Child<UserTable<B>> {
        Child::Item(MappedItem::Tracked { frame, property: Property::new(PageFlags::WRITE) })
    }

    fn put(&self, section: &ReadSide<'_, B>, frame: Frame<B>) {
        let mut leaf = self.leaf.borrow(section).lock();
        let mut entry = leaf.entry(1).expect("a node has two entries");
        entry.replace(Self::item(frame)).expect("a page fits a leaf");
    }

    fn look(&self, cpu: &mut Cpu<B>) -> Answer {
        let section = cpu.read_side();
        Answer::Found(Mapping::found(cpu.backend(), self.leaf.borrow(&section).walk(1)))
    }
}

impl<B: World> Scenario<B> for Race<B> {
    type Saw = History;
    const CPUS: Cpus<Self, B> = cpus([
        ("replacer", |race, cpu| {
            let frame = Frame::allocate(cpu.backend()).expect("there are frames enough");
            cpu.backend().write_contents(frame.paddr(), 9);
            let begin = cpu.mark();
            race.put(&cpu.read_side(), frame);
            let steps = [
                (Operation::unmap(1), Answer::Frames(1)),
                (Operation::map(1, NEW), Answer::Mapped),
            ];
            let mut history = History::new();
            history.step(begin, cpu.mark(), &steps);
            history
        }),
        ("walker", |race, cpu| {
            let mut history = History::new();
            history.record(cpu, Operation::query(1), |cpu| race.look(cpu));
            history.record(cpu, Operation::query(1), |cpu| race.look(cpu));
            history
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("old, old", "both walks came first"),
        interesting("old, new", "the page was replaced in between"),
        interesting("new, new", "both walks came behind"),
    ];
    const REACHED: &'static [Situation] = &[];
    const TWINS: Twins = twins([
        weakened(&sites::PUBLISH_ITEM, "use before allocation: N"),
        weakened(&sites::WALK_ENTRY, "use before allocation: N"),
        freed_at_once("use after free: N"),
    ]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        let race = Race { leaf: machine.node(1) };
        race.put(&machine.section(), machine.frame(5));
        race
    }

    fn check(&self, cpu: &mut Cpu<B>, saw: &[History]) -> &'static str {
        let first = PageMap::EMPTY.with(1, OLD);
        assert_linearizable(&first, saw, &PageMap::of(1, |_| self.look(cpu).found()));
        match [0, 1].map(|number| saw[1].answer(number).found()) {
            [Some(OLD), Some(OLD)] => "old, old",
            [Some(OLD), _] => "old, new",
            _ => "new, new",
        }
    }
}

scenario!(Race);
