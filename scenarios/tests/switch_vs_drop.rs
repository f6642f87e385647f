//! # Switch vs. drop
//! Result: Never. A CPU takes a new address space for one that is gone, and uses what it has cached
//!   of that.
//! CPUs: 0 runs on a space and reads a page, switches to another one, makes a new space, and, if
//!   its root is where the first one was, runs on it and reads the page. 1 drops the last handle of
//!   the first space.
//! Invariant: a CPU keeps what it has cached of the spaces that it ran on before, under tags. The
//!   numbers of spaces do not repeat, so a new space gets a tag that is flushed, also in the frames
//!   of one that was flushed as often.
//! Guards against: spaces that are known by the address of their root, or of their words; a tag
//!   that is given away and not flushed.
//! Sites: SPACE_NUMBERED, REFERENCE_DECREMENT, REFERENCE_LAST.
//! Bounds: 2 CPUs, 3 levels, no preemption bound; 4 executions, under loom to 3 preemptions.
//! References: linux mm_context_t.ctx_id (arch/x86/include/asm/mmu.h); linux b956575bed91.
use weft_scenarios::prelude::*;

struct Race<B: World> {
    blank: Blank<B>,
    other: Space<B>,
    handles: [Parcel<AddressSpace<UserTable<B>>>; 2],
}

/// What the switcher read, in the first space and in the new one. Nothing if that is elsewhere.
type Reads = (Option<u64>, Option<Option<u64>>);

impl<B: World> Scenario<B> for Race<B> {
    type Saw = Option<Reads>;
    const CPUS: Cpus<Self, B> = cpus([
        ("switcher", |race, cpu| {
            cpu.backend().reuse_frames();
            let first = race.handles[0].take();
            let place = first.paddr();
            cpu.activate(&first).expect("nothing is asked of a root here");
            drop(first);
            let before = cpu.backend().user_read(page::<B>(0));
            cpu.activate(&race.other.root).expect("nothing is asked of a root here");
            let new = race.blank.space(cpu.backend());
            let after = (new.paddr() == place).then(|| {
                cpu.activate(&new).expect("nothing is asked of a root here");
                cpu.backend().user_read(page::<B>(0))
            });
            cpu.deactivate();
            Some((before, after))
        }),
        ("dropper", |race, _cpu| {
            drop(race.handles[1].take());
            None
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[
        interesting("in the same frames", "the new space maps nothing"),
        interesting("elsewhere", "the dropper freed the first space, or had not dropped it yet"),
        forbidden("taken for the old one", "the new space has a page of the first one"),
    ];
    const REACHED: &'static [Situation] = &[];
    const TWINS: Twins = twins([tags_kept("use after free")]);
    const SET_UP_FRAMES: usize = 12;

    fn set_up(machine: &mut Machine<B>) -> Self {
        let first = machine.used_space(&[(0, 5)]).root;
        let handles = [first.clone(), first].map(Parcel::new);
        Race { blank: machine.blank(), other: machine.space(&[]), handles }
    }

    fn check(&self, _cpu: &mut Cpu<B>, saw: &[Self::Saw]) -> &'static str {
        match saw[0].expect("the switcher has read the page") {
            (Some(5), Some(None)) => "in the same frames",
            (Some(5), None) => "elsewhere",
            _ => "taken for the old one",
        }
    }
}

scenario!(Race);
