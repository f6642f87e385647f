//! # Drop vs. drop
//! Result: Never. Two owners tear a table down twice, or not at all, or with the kernel's half.
//! CPUs: 0 and 1 each map a page with a cursor, through a handle of their own, then drop the
//! handle.
//! Invariant: the last owner sees what every earlier owner did, and drops what the table manages.
//! Guards against: counting down without ordering; a drop-walk over the shared half of the root.
//! Sites: REFERENCE_DECREMENT, REFERENCE_LAST, DROP_WALK_ENTRY.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 4 executions, 30 under loom.
//! References: Rust's Arc; asterinas ostd/src/mm/page_table/node.
use weft_scenarios::prelude::*;

struct Race<B: World> {
    owners: [Parcel<Owned<B>>; 2],
}

/// What a CPU owns: a handle of the table, and a frame to map.
type Owned<B> = (Node<UserTable<B>>, Frame<B>);

impl<B: World> Race<B> {
    fn map_and_drop(&self, cpu: &mut Cpu<B>, index: u8) -> bool {
        let (root, frame) = self.owners[usize::from(index)].take();
        let section = cpu.read_side();
        let range = pages::<B>(0..2);
        let mut cursor = Cursor::lock(root.borrow(&section), range).expect("the path exists");
        let before = cursor.find_next().is_some();
        cursor.jump(page::<B>(index)).expect("it is in the range");
        let item = MappedItem::Tracked { frame, property: Property::new(PageFlags::WRITE) };
        cursor.map(item).expect("nothing is mapped there");
        drop(cursor);
        drop(section);
        drop(root);
        before
    }
}

impl<B: World> Scenario<B> for Race<B> {
    /// Whether the other's page was there.
    type Saw = bool;
    const CPUS: Cpus<Self, B> = cpus([
        ("left", |race, cpu| race.map_and_drop(cpu, 0)),
        ("right", |race, cpu| race.map_and_drop(cpu, 1)),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("left first", "the right owner mapped the second page"),
        interesting("right first", "the left owner mapped the second page"),
        forbidden("blind", "an owner missed the other's page"),
    ];
    const REACHED: &'static [Situation] = &[met("the table lost its last reference", |event| {
        matches!(event, Event::LastReference(_))
    })];
    const TWINS: Twins = twins([
        weakened(&sites::REFERENCE_DECREMENT, "use after free: N"),
        weakened_fence(&sites::REFERENCE_LAST, "use after free: N"),
    ]);
    const SET_UP_FRAMES: usize = 10;

    fn set_up(machine: &mut Machine<B>) -> Self {
        let root = machine.user_root_with_kernel();
        let section = machine.section();
        let vaddr = B::Geometry::address(&[0]);
        let leaf = lock_covering(root.borrow(&section), vaddr, Level::LEAF);
        drop(leaf.expect("the set-up has frames enough"));
        drop(section);
        let frames = [0, 1].map(|contents| machine.frame(contents));
        Race { owners: frames.map(|frame| Parcel::new((root.clone(), frame))) }
    }

    fn check(&self, _cpu: &mut Cpu<B>, saw: &[bool]) -> &'static str {
        match saw {
            [false, true] => "left first",
            [true, false] => "right first",
            _ => "blind",
        }
    }
}

scenario!(Race);
