//! The machine of a test, its kinds of tables, and what they map.

use std::marker::PhantomData;
use std::ops::Range;

use weft_backend_baremetal::backend::{self, Tables};
use weft_backend_baremetal::hosted;
use weft_core::address::{CpuId, FRAME_SIZE, Level, Paddr};
use weft_core::config::Config;
use weft_core::cpu::{Cpu, ReadSide};
use weft_core::entry::{Child, ChildRef};
use weft_core::format::{EntryFormat, PageFlags, Property, RiscV, RiscVSvade, RiscVSvvptc, X86_64};
use weft_core::frame::Frame;
use weft_core::geometry::Geometry;
use weft_core::guard::Guard;
use weft_core::item::{MappedItem, UntrackedMemory};
use weft_core::node::{Node, NodeRef};
use weft_core::permanent::Permanent;
use weft_core::reclaim::Erased;
use weft_core::space::AddressSpace;
use weft_core::sync::Backend;

use self::interrupted::Interrupted;
use self::processors::Tested;

#[expect(unsafe_code, reason = "an entry format is a contract")]
pub(crate) mod interrupted;
#[expect(unsafe_code, reason = "a machine's processors are a contract")]
pub(crate) mod processors;

/// Enough for every test with one thread, and 4 MiB of address space.
const FRAMES: u64 = 1024;

/// A machine with the tables below.
pub(crate) type Machine<G> = backend::Machine<G, AllKinds, Tested>;
/// A table that manages all of its root.
pub(crate) type Whole<G> = WholeOn<Machine<G>>;
/// A table that manages the lower half of its root.
pub(crate) type User<G> = UserOn<Machine<G>>;
/// A table that manages the upper half of its root, for others to share.
pub(crate) type Kernel<G> = KernelOn<Machine<G>>;
/// As [`User`] with the halves exchanged.
pub(crate) type UpperUser<G> = UpperUserOn<Machine<G>>;
/// As [`Kernel`] with the halves exchanged.
pub(crate) type LowerKernel<G> = LowerKernelOn<Machine<G>>;

/// A table that manages all of its root, on any machine.
#[derive(Debug)]
pub(crate) struct WholeOn<B, F = X86_64>(PhantomData<(B, F)>);

impl<B: Backend, F: EntryFormat> Config for WholeOn<B, F> {
    type Backend = B;
    type Item = MappedItem<B>;
    type Format = F;
}

/// Makes the other configurations. The ones that `stay` keep the entries of their root, so that
/// others can share them.
macro_rules! configurations {
    ($($name:ident: $managed:expr $(, $stays:ident)?;)+) => {
        $(
            #[derive(Debug)]
            pub(crate) struct $name<B>(PhantomData<B>);

            impl<B: Backend> Config for $name<B> {
                type Backend = B;
                type Item = MappedItem<B>;
                type Format = X86_64;
                const MANAGED: Range<usize> = $managed;
                $(const ROOT_ENTRIES_STAY: bool = configurations!(@ $stays);)?
            }
        )+
    };
    (@ stays) => { true };
}

/// The tables of a test's machine.
#[derive(Debug)]
pub(crate) struct AllKinds;

impl Tables for AllKinds {
    type On<B: Backend> = (
        WholeOn<B>,
        WholeOn<B, Interrupted>,
        WholeOn<B, RiscV>,
        WholeOn<B, RiscVSvade>,
        UserOn<B>,
        KernelOn<B>,
        UpperUserOn<B>,
        LowerKernelOn<B>,
        WholeOn<B, RiscVSvvptc>,
    );
}

configurations! {
    UserOn: 0..B::Geometry::ENTRIES / 2;
    KernelOn: B::Geometry::ENTRIES / 2..B::Geometry::ENTRIES, stays;
    UpperUserOn: B::Geometry::ENTRIES / 2..B::Geometry::ENTRIES;
    LowerKernelOn: 0..B::Geometry::ENTRIES / 2, stays;
}

/// Makes a test of each generic function, for each geometry.
macro_rules! on_every_geometry {
    ($($body:ident),+ $(,)?) => {
        on_each!([
            on_four_levels: weft_core::geometry::FourLevels,
            on_five_levels: weft_core::geometry::FiveLevels,
            on_tiny_two: weft_core::geometry::TinyTwo,
            on_tiny_three: weft_core::geometry::TinyThree,
        ] $($body)+);
    };
}

/// Makes a test of each generic function, for each of these types.
macro_rules! on_each {
    ($types:tt $($body:ident)+) => {
        $(mod $body { on_each!(@ $body $types); })+
    };
    (@ $body:ident [$($test:ident: $type:ty,)+]) => {
        $(
            #[test]
            fn $test() {
                super::$body::<$type>();
            }
        )+
    };
}

/// Starts a machine with at least `frames` frames.
pub(crate) fn start<G: Geometry>(frames: u64) -> Machine<G> {
    hosted::start_with(frames, Tested::default()).expect("the host has this much memory")
}

/// Runs `body` on a new machine, as CPU 0, and checks that it gave back every frame.
pub(crate) fn on_machine<G: Geometry>(body: impl FnOnce(&Machine<G>)) {
    on_machine_of(FRAMES, body);
}

/// As [`on_machine`], with this many frames.
pub(crate) fn on_machine_of<G: Geometry>(frames: u64, body: impl FnOnce(&Machine<G>)) {
    let machine = start::<G>(frames);
    hosted::on_cpu(CpuId::new(0), || body(&machine));
    assert_eq!(machine.region().live(), 0, "frames are still in use when everything is dropped");
}

/// Puts CPU `number` online.
pub(crate) fn online<B: Backend>(machine: &B, number: u32) -> Cpu<B> {
    Cpu::online(machine, CpuId::new(number)).expect("the CPU is offline")
}

/// How many frames an address space takes that maps nothing: the root, and the one with its words.
pub(crate) const SPACE_FRAMES: u64 = 2;

/// How many frames are in use.
pub(crate) fn live<G: Geometry>(machine: &Machine<G>) -> u64 {
    machine.region().live()
}

/// All levels of a geometry, leaves first.
pub(crate) fn levels<G: Geometry>() -> impl Iterator<Item = Level> {
    (1..=G::LEVELS).map(Level::new)
}

/// Levels whose entries may map pages.
pub(crate) fn page_levels<G: Geometry>() -> impl Iterator<Item = Level> {
    levels::<G>().filter(|&level| X86_64::maps_pages_at(level))
}

pub(crate) const WRITABLE: Property = Property::new(PageFlags::WRITE);

/// A page that owns a new frame.
pub(crate) fn tracked<G: Geometry>(machine: &Machine<G>) -> MappedItem<Machine<G>> {
    tracked_on(machine, WRITABLE)
}

/// A new frame, as what waits for a grace period.
pub(crate) fn erased<B: Backend>(backend: &B) -> Erased<B> {
    Frame::allocate(backend).expect("a test has frames enough").erase()
}

/// As [`tracked`], of any machine and with any property.
pub(crate) fn tracked_on<B: Backend>(backend: &B, property: Property) -> MappedItem<B> {
    let frame = Frame::allocate(backend).expect("a test has frames enough");
    MappedItem::Tracked { frame, property }
}

/// A page of `level` that owns nothing.
pub(crate) fn untracked<G: Geometry>(level: Level) -> MappedItem<Machine<G>> {
    untracked_at(device_frame::<G>(level), level, WRITABLE)
}

/// A page of `level` that begins at `frame` and owns nothing.
pub(crate) fn untracked_at<B: Backend>(
    frame: Paddr,
    level: Level,
    property: Property,
) -> MappedItem<B> {
    let page = untracked_memory().page(frame, level, property);
    MappedItem::Untracked(page.expect("the geometry has such a page"))
}

/// All of physical memory.
#[expect(unsafe_code, reason = "vouches for memory that no test accesses")]
pub(crate) fn untracked_memory<B: Backend>() -> UntrackedMemory<B> {
    // SAFETY: the machines of tests translate for no thread.
    unsafe { UntrackedMemory::new(Paddr::new(0)..Paddr::new(u64::MAX)) }
}

/// An address far from all frames, aligned for pages of `level`.
pub(crate) fn device_frame<G: Geometry>(level: Level) -> Paddr {
    Paddr::new(G::entry_span(level) * FRAME_SIZE)
}

/// A new node of `level`.
pub(crate) fn node<C: Config>(backend: &C::Backend, level: Level) -> Node<C> {
    Node::allocate(backend, level).expect("a test has frames enough")
}

/// A new address space, which takes [`SPACE_FRAMES`].
pub(crate) fn space<C: Config>(backend: &C::Backend) -> AddressSpace<C> {
    AddressSpace::allocate(backend).expect("a test has frames enough")
}

/// Puts `child` where nothing is.
pub(crate) fn put<C: Config>(guard: &mut Guard<'_, C>, index: usize, child: Child<C>) {
    let before = guard
        .entry(index)
        .expect("the index is in range")
        .replace(child)
        .unwrap_or_else(|refused| panic!("refused: {}", refused.reason));
    assert!(!before.is_present(), "something was there already");
}

/// The node that an entry leads to.
#[track_caller]
pub(crate) fn child<C: Config>(node: NodeRef<'_, C>, index: usize) -> NodeRef<'_, C> {
    let ChildRef::Node(child) = node.walk(index) else { panic!("entry {index} leads to no node") };
    child
}

/// Fills `node` with a node per level down to a leaf, each at the last index, and a tracked page
/// at both ends of the leaf. Returns how many frames that took.
pub(crate) fn fill<G: Geometry, C>(
    machine: &Machine<G>,
    guard: &mut Guard<'_, C>,
    index: usize,
) -> u64
where
    C: Config<Backend = Machine<G>, Item = MappedItem<Machine<G>>>,
{
    if guard.level() == Level::LEAF {
        put(guard, 0, Child::Item(tracked(machine)));
        put(guard, G::ENTRIES - 1, Child::Item(tracked(machine)));
        return 2;
    }
    let mut entry = guard.entry(index).expect("the index is in range");
    let mut below = entry.allocate_if_absent().expect("a test has frames enough");
    1 + fill(machine, &mut below, G::ENTRIES - 1)
}

/// A permanent root, to change what it maps.
#[expect(unsafe_code, reason = "a kernel that could take the ground away")]
pub(crate) fn root_of<'g, C: Config>(
    owner: &'g Permanent<C>,
    section: &'g ReadSide<'_, C::Backend>,
) -> NodeRef<'g, C> {
    // SAFETY: the processors of tests are threads of the host, which stand on none of its tables.
    unsafe { owner.borrow(section) }
}

/// Makes a permanent root one that CPUs stand on.
#[expect(unsafe_code, reason = "vouches for what the root maps")]
pub(crate) fn carry<C: Config>(owner: Permanent<C>) -> Permanent<C> {
    // SAFETY: (1) the processors of tests are threads of the host and need nothing that is mapped;
    // (2) so whatever is done with the table later takes nothing away from them.
    unsafe { owner.carry() }
}

/// Drops a permanent root. No root that shares its entries is left.
#[expect(unsafe_code, reason = "ends the permanence that only a machine's end would end")]
pub(crate) fn dismantle<C: Config>(owner: Permanent<C>) {
    // SAFETY: the tests that call this have dropped every root that shared entries.
    drop(unsafe { owner.dismantle() });
}
