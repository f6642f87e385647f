//! A machine whose processors are played by one thread, and write down what they are asked for.
//!
//! A processor that is interrupted serves the request at once, as itself, unless requests are
//! [held back](Played::hold_back): then a test serves them when it likes, as if the processor's
//! handler came late. [`at_load`] lets something else happen while a processor loads a root,
//! and [`before_masking`] before it masks its interrupts.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::mem;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use weft_backend_baremetal::backend::{self, Processors, Tables};
use weft_backend_baremetal::frame::Region;
use weft_backend_baremetal::hosted::{self, Threads, on_cpu};
use weft_backend_baremetal::word::AtomicWord;
use weft_core::address::{CpuId, CpuSet, Level, Paddr, Vaddr};
use weft_core::config::Config;
use weft_core::cpu::Cpu;
use weft_core::cursor::Cursor;
use weft_core::format::{PageFlags, Property, X86_64};
use weft_core::geometry::Geometry;
use weft_core::grace::Monitor;
use weft_core::item::MappedItem;
use weft_core::node::Node;
use weft_core::space::AddressSpace;
use weft_core::sync::{Backend, Flush, Hardware, Noted, Request, TaggedRoot};
use weft_scenarios::specification::addresses;

use crate::support::processors::Failing;
use crate::support::{AllKinds, KernelOn, UserOn, WholeOn, online, tracked_on};

/// The machine of most tests: its processors do not stand on its tables.
pub(crate) type Machine<G> = backend::Machine<G, AllKinds, Played<G, false>>;
/// A machine whose processors stand on its tables.
pub(crate) type Standing<G> = backend::Machine<G, AllKinds, Played<G, true>>;
/// A table that manages all of its root.
pub(crate) type Whole<G> = WholeOn<Machine<G>>;
/// A table that manages the lower half of its root.
pub(crate) type User<G> = UserOn<Machine<G>>;
/// A table that manages the upper half of its root, for others to share.
pub(crate) type Kernel<G> = KernelOn<Machine<G>>;

/// Processors that were interrupted, and what for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Asked {
    pub(crate) cpus: Vec<u32>,
    pub(crate) request: Request,
}

#[derive(Default, Debug)]
struct Book {
    asked: Vec<Asked>,
    invalidated: Vec<(u32, Flush)>,
    loaded: Vec<Option<TaggedRoot>>,
    /// The processors whose interrupts are masked.
    masked: CpuSet,
    holds_back: bool,
}

/// The processors.
#[derive(Debug)]
pub(crate) struct Played<G, const STANDS: bool> {
    pub(crate) threads: Threads,
    /// The allocation that is to fail.
    pub(crate) failing: Failing,
    book: Mutex<Book>,
    walks: PhantomData<G>,
}

impl<G, const STANDS: bool> Default for Played<G, STANDS> {
    fn default() -> Self {
        let (threads, failing) = (Threads::default(), Failing::default());
        Self { threads, failing, book: Mutex::default(), walks: PhantomData }
    }
}

impl<G, const STANDS: bool> Played<G, STANDS> {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who was asked for what since the last call.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        mem::take(&mut self.book().asked)
    }

    /// What was invalidated since the last call, and on which processor.
    pub(crate) fn invalidated(&self) -> Vec<(u32, Flush)> {
        mem::take(&mut self.book().invalidated)
    }

    /// What was loaded since the last call, on whatever processor; `None` for no root.
    pub(crate) fn loaded(&self) -> Vec<Option<TaggedRoot>> {
        mem::take(&mut self.book().loaded)
    }

    /// From now on, processors are asked and do not answer; or they answer again.
    pub(crate) fn hold_back(&self, holds: bool) {
        self.book().holds_back = holds;
    }
}

type Hook = Box<dyn FnMut()>;

thread_local! {
    static AT_LOAD: RefCell<Option<Hook>> = const { RefCell::new(None) };
    static BEFORE_MASKING: RefCell<Option<Hook>> = const { RefCell::new(None) };
}

/// Runs `hook` once, at the next load of a root.
pub(crate) fn at_load(hook: Hook) {
    AT_LOAD.set(Some(hook));
}

/// Runs `hook` once, before a processor masks its interrupts next.
pub(crate) fn before_masking(hook: Hook) {
    BEFORE_MASKING.set(Some(hook));
}

// SAFETY: (1) the region's frames are passed on; (2) an entry is the word itself; (3) is the
// contract of `on_cpu`, and a test has one thread; (4) no processor translates anything through
// these tables, so one that answers late or never uses nothing stale; (5) to say that they stand on
// roots, although they do not, allows less.
unsafe impl<G: Geometry, const STANDS: bool> Processors for Played<G, STANDS> {
    type Reclaim<B: Backend> = Monitor<B>;
    type LockWord = AtomicWord;
    type Word = AtomicWord;

    const TAGS: usize = 3;

    const HARDWARE: Option<Hardware> =
        if STANDS { Some(Hardware::of::<X86_64, G>()) } else { None };

    fn entry(word: &AtomicWord) -> &AtomicWord {
        word
    }

    fn cpu(&self) -> CpuId {
        self.threads.cpu()
    }

    unsafe fn load_root(&self, root: Option<TaggedRoot>) {
        // SAFETY: both contracts say the same, word for word.
        unsafe { self.threads.load_root(root) };
        self.book().loaded.push(root);
        let is_masked = self.book().masked.contains(self.cpu());
        assert!(is_masked, "a handler could come between the load and what is noted of it");
        if let Some(mut hook) = AT_LOAD.take() {
            hook();
        }
    }

    fn allocate<B: Backend>(&self, region: &Region<B>) -> Option<Paddr> {
        if self.failing.is_now() { None } else { self.threads.allocate(region) }
    }

    fn masked<R>(&self, body: impl FnOnce() -> R) -> R {
        if let Some(mut hook) = BEFORE_MASKING.take() {
            hook();
        }
        let cpu = self.cpu();
        self.book().masked.insert(cpu);
        let result = body();
        assert!(self.book().masked.remove(cpu), "masked twice, and unmasked in between");
        result
    }

    fn invalidate(&self, what: &Request) {
        let mut book = self.book();
        assert!(book.masked.contains(self.cpu()), "a request is served with interrupts on");
        book.invalidated.push((self.cpu().as_u32(), what.flush()));
    }

    fn interrupt<Shape: Geometry, T: Tables>(
        &self,
        machine: backend::Machine<Shape, T, Self>,
        cpus: &CpuSet,
        request: &Request,
    ) {
        let numbers = cpus.iter().map(CpuId::as_u32).collect();
        self.book().asked.push(Asked { cpus: numbers, request: *request });
        if !self.book().holds_back {
            cpus.iter().for_each(|cpu| serve(machine, cpu, request));
        }
    }
}

/// Serves a request as `cpu`.
pub(crate) fn serve<G: Geometry, T: Tables, P: Processors>(
    machine: backend::Machine<G, T, P>,
    cpu: CpuId,
    request: &Request,
) {
    on_cpu(cpu, || machine.processors().masked(|| machine.serve(request)));
}

/// A processor that is online.
pub(crate) struct Player<B: Backend> {
    cpu: Option<Cpu<B>>,
    pub(crate) id: CpuId,
}

impl<B: Backend> Player<B> {
    pub(crate) fn new(machine: &B, number: u32) -> Self {
        Self { cpu: Some(online(machine, number)), id: CpuId::new(number) }
    }

    /// Does something as this processor.
    fn play<R>(&mut self, body: impl FnOnce(&mut Cpu<B>) -> R) -> R {
        on_cpu(self.id, || body(self.cpu.as_mut().expect("it is online until it is dropped")))
    }

    pub(crate) fn activate<C: Config<Backend = B>>(&mut self, space: &AddressSpace<C>) {
        self.play(|cpu| cpu.activate(space)).expect("the table is activated");
    }

    pub(crate) fn deactivate(&mut self) {
        self.play(Cpu::deactivate);
    }

    pub(crate) fn lazy(&mut self) {
        self.play(Cpu::lazy);
    }

    pub(crate) fn quiescent(&mut self) {
        self.play(Cpu::quiescent);
    }

    /// What the processor has noted of its caches.
    pub(crate) fn noted(&mut self) -> Noted {
        self.play(|cpu| cpu.backend().masked(|noted| *noted))
    }

    /// Looks at the online processor, as itself.
    pub(crate) fn look<R>(&mut self, body: impl FnOnce(&Cpu<B>) -> R) -> R {
        self.play(|cpu| body(cpu))
    }

    /// Does something with a cursor of these pages.
    pub(crate) fn change<C: Config<Backend = B>, R>(
        &mut self,
        root: &Node<C>,
        numbers: Range<u64>,
        body: impl FnOnce(&mut Cursor<'_, C>) -> R,
    ) -> R {
        self.look(|cpu| {
            let section = cpu.read_side();
            let range = pages::<B::Geometry>(numbers);
            body(&mut Cursor::lock(root.borrow(&section), range).expect("no CPU holds the range"))
        })
    }

    /// Maps a page at each of these, of frames of their own.
    pub(crate) fn map<C>(&mut self, root: &Node<C>, numbers: Range<u64>)
    where
        C: Config<Backend = B, Item = MappedItem<B>>,
    {
        self.change(root, numbers, |cursor| {
            let machine = root.backend();
            let make = |_| tracked_on(machine, READABLE);
            cursor.map_pages(cursor.range().end, make).expect("nothing is there");
        });
    }

    /// Unmaps these.
    pub(crate) fn unmap<C: Config<Backend = B>>(&mut self, root: &Node<C>, numbers: Range<u64>) {
        self.change(root, numbers, |cursor| {
            assert!(cursor.unmap(cursor.range().end).expect("whole pages") > 0);
        });
    }
}

impl<B: Backend> Drop for Player<B> {
    fn drop(&mut self) {
        on_cpu(self.id, || drop(self.cpu.take()));
    }
}

pub(crate) const READABLE: Property = Property::new(PageFlags::empty());

/// These pages of the smallest size.
pub(crate) fn pages<G: Geometry>(numbers: Range<u64>) -> Range<Vaddr> {
    addresses::<G>(&numbers)
}

/// How many pages of the smallest size a leaf has.
pub(crate) fn leaf<G: Geometry>() -> u64 {
    G::entry_frames(Level::new(2))
}

/// Runs `body` on a new machine, and checks that it gave back every frame. The last argument is a
/// processor that changes tables and runs on none.
pub(crate) fn on_played<G: Geometry>(body: impl FnOnce(&Machine<G>, &mut Player<Machine<G>>)) {
    let machine = start();
    let mut changer = Player::new(&machine, CHANGER);
    body(&machine, &mut changer);
    drop(changer);
    assert_eq!(machine.region().live(), 0, "frames are still in use when everything is dropped");
}

/// The number of the processor that changes tables.
const CHANGER: u32 = 17;

/// A new machine.
pub(crate) fn start<G: Geometry, const STANDS: bool>()
-> backend::Machine<G, AllKinds, Played<G, STANDS>> {
    hosted::start_with(1024, Played::default()).expect("the host has this much memory")
}

/// Processors: the first and the last of those that a word of holders has, and of all words.
pub(crate) fn players<G: Geometry>(machine: &Machine<G>) -> [Player<Machine<G>>; 4] {
    let numbers = if G::ENTRIES > 2 { [0, 31, 32, 63] } else { [0, 1, 30, 31] };
    numbers.map(|number| Player::new(machine, number))
}

pub(crate) fn numbers<B: Backend>(players: &[Player<B>]) -> Vec<u32> {
    players.iter().map(|player| player.id.as_u32()).collect()
}

/// A space with pages at both ends of its first leaf, and at the start of the next one: unmapping
/// page 0 leaves all nodes, and unmapping the first leaf takes out that one.
pub(crate) fn mapped<G: Geometry>(
    machine: &Machine<G>,
    changer: &mut Player<Machine<G>>,
) -> AddressSpace<Whole<G>> {
    let space = AddressSpace::allocate(machine).expect("frames enough");
    for number in [0, leaf::<G>() - 1, leaf::<G>()] {
        changer.map(&space, number..number + 1);
    }
    space
}
