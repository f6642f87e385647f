//! Items of a kernel's own: what goes in comes out once, and is not given up while it is mapped.
//!
//! [`Page`] owns a [`Frame`], or nothing, and counts itself: each is made, written into an entry,
//! read back, and dropped or handed to the reclamation, and a test compares the counts. Readers get
//! a [`View`] of it.

use std::cell::RefCell;
use std::marker::PhantomData;

use weft_backend_baremetal::backend::Tables;
use weft_backend_baremetal::hosted::{self, HostedMachine};
use weft_core::address::{CpuId, FRAME_SIZE, Level, Paddr, Vaddr};
use weft_core::config::Config;
use weft_core::cursor::Cursor;
use weft_core::entry::{Child, ChildRef};
use weft_core::error::{MapFault, Refusal};
use weft_core::format::{EntryFormat, PageFlags, Property, RawItem, X86_64};
use weft_core::frame::Frame;
use weft_core::item::Item;
use weft_core::node::{Node, NodeRef};
use weft_core::reclaim::Erased;
use weft_core::shared::SharedCursor;
use weft_core::sync::Backend;

use crate::architecture::Architecture;
use crate::fixture::{NOTED, READABLE, all_pages, lock, page, pages, span};
use crate::support::{node, online};

on_every_geometry!(
    an_item_is_shown_as_its_type_wants,
    an_item_comes_back_from_a_refusal,
    an_item_of_any_level_and_frame_is_refused_where_none_fits,
    an_item_that_is_unmapped_is_given_up_once,
    a_mark_of_a_kernels_own_is_an_item,
    a_range_gives_up_its_items_as_hardware_left_them,
    a_rollback_gives_up_what_it_took_back,
    parts_of_an_item_are_items,
    a_merged_node_gives_up_nothing_any_more,
);

type Machine<G> = HostedMachine<G, Kinds>;
type Root<'g, G> = NodeRef<'g, Pages<Machine<G>>>;

/// What became of items since the test began.
#[derive(Default)]
struct Fates {
    written: usize,
    read_back: Vec<RawItem>,
    retired: usize,
}

thread_local! {
    static FATES: RefCell<Fates> = RefCell::default();
}

/// An item that counts.
#[derive(Debug)]
struct Page<B: Backend> {
    memory: Memory<B>,
    property: Property,
}

/// What a page maps.
#[derive(Debug)]
enum Memory<B: Backend> {
    /// A frame of its own.
    Owned(Frame<B>),
    /// Memory of a device, for an entry of this level.
    Device(Paddr, Level),
}

/// A page as readers see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct View<'g> {
    frame: Paddr,
    is_owned: bool,
    _section: PhantomData<&'g ()>,
}

// SAFETY: an item owns the frame that it maps, and is no huge page; or it maps device memory, of
// which every part is as good as the whole. Which of the two it is, an entry keeps in a flag.
unsafe impl<B: Backend> Item<B> for Page<B> {
    type Ref<'g> = View<'g>;

    fn is_of(&self, backend: &B) -> bool {
        match &self.memory {
            Memory::Owned(frame) => frame.backend() == backend,
            Memory::Device(..) => true,
        }
    }

    fn into_raw(self) -> RawItem {
        FATES.with_borrow_mut(|fates| fates.written += 1);
        let Self { memory, mut property } = self;
        property.flags.set(PageFlags::TRACKED, matches!(memory, Memory::Owned(_)));
        let (frame, level) = match memory {
            Memory::Owned(frame) => (frame.into_raw(), Level::LEAF),
            Memory::Device(frame, level) => (frame, level),
        };
        RawItem { frame, level, property }
    }

    unsafe fn from_raw(backend: &B, raw: RawItem) -> Self {
        FATES.with_borrow_mut(|fates| fates.read_back.push(raw));
        let RawItem { frame, level, property } = raw;
        let memory = if property.flags.contains(PageFlags::TRACKED) {
            // SAFETY: (1) the caller's contract says that our `into_raw` gave the value, and it
            // sets the flag for what `into_raw` of a frame gave; (2) it is turned back once.
            Memory::Owned(unsafe { Frame::from_raw(backend, frame) })
        } else {
            Memory::Device(frame, level)
        };
        Self { memory, property }
    }

    unsafe fn borrow<'g>(_backend: &'g B, raw: RawItem) -> View<'g> {
        let is_owned = raw.property.flags.contains(PageFlags::TRACKED);
        View { frame: raw.frame, is_owned, _section: PhantomData }
    }

    fn may_merge(raw: RawItem) -> bool {
        !raw.property.flags.contains(PageFlags::TRACKED)
    }

    unsafe fn retire(backend: &B, raw: RawItem) -> Option<Erased<B>> {
        FATES.with_borrow_mut(|fates| fates.retired += 1);
        // SAFETY: both contracts are the same.
        match unsafe { Self::from_raw(backend, raw) }.memory {
            Memory::Owned(frame) => Some(frame.erase()),
            Memory::Device(..) => None,
        }
    }
}

/// Tables of such items.
#[derive(Debug)]
struct Pages<B>(PhantomData<B>);

impl<B: Backend> Config for Pages<B> {
    type Backend = B;
    type Item = Page<B>;
    type Format = X86_64;
}

#[derive(Debug)]
struct Kinds;

impl Tables for Kinds {
    type On<B: Backend> = (Pages<B>,);
}

/// Runs `body` on a new table; afterwards every item that was written has been read back once.
fn on_pages<G: Architecture>(body: impl FnOnce(&Machine<G>, Root<'_, G>)) {
    let machine = hosted::start::<G, Kinds>(1024).expect("the host has a few megabytes");
    FATES.take();
    hosted::on_cpu(CpuId::new(0), || {
        let cpu = online(&machine, 0);
        let root: Node<Pages<Machine<G>>> = node(&machine, G::ROOT);
        let section = cpu.read_side();
        body(&machine, root.borrow(&section));
    });
    assert_eq!(machine.region().live(), 0, "frames are still in use when everything is dropped");
}

fn owned<G: Architecture>(machine: &Machine<G>) -> Page<Machine<G>> {
    let frame = Frame::allocate(machine).expect("a test has frames enough");
    Page { memory: Memory::Owned(frame), property: READABLE }
}

fn device<G: Architecture>(level: u8, frame: u64) -> Page<Machine<G>> {
    let level = Level::new(level);
    let frame = Paddr::new(frame * G::entry_span(level));
    Page { memory: Memory::Device(frame, level), property: READABLE }
}

fn an_item_is_shown_as_its_type_wants<G: Architecture>() {
    on_pages::<G>(|machine, root| {
        let mut cursor = lock(root, pages::<G>(0..3));
        let item = owned(machine);
        let Memory::Owned(frame) = &item.memory else { panic!("it owns its frame") };
        let frame = frame.paddr();
        cursor.map(item).expect("nothing is there");
        cursor.map(device::<G>(1, 77)).expect("nothing is there");
        drop(cursor);
        let expected = [(frame, true), (Paddr::of_frame(77), false)];
        let mut shared = SharedCursor::new(root, pages::<G>(0..3)).expect("a range");
        let mut seen = Vec::new();
        shared.visit(page::<G>(3), |_, item| seen.push(item.get())).expect("the end");
        let mut cursor = lock(root, pages::<G>(0..3));
        cursor.visit(page::<G>(3), |_, item| seen.push(item.get())).expect("the end");
        let seen: Vec<_> = seen.into_iter().map(|view| (view.frame, view.is_owned)).collect();
        assert_eq!(seen, [expected, expected].concat());
        FATES.with_borrow(|fates| assert!(fates.read_back.is_empty(), "looking takes nothing out"));
    });
}

fn an_item_comes_back_from_a_refusal<G: Architecture>() {
    on_pages::<G>(|machine, root| {
        let mut cursor = lock(root, pages::<G>(0..1));
        cursor.map(owned(machine)).expect("nothing is there");
        cursor.jump(page::<G>(0)).expect("the start");
        let mut item = owned(machine);
        for _ in 0..3 {
            item = cursor.map(item).expect_err("it is mapped already").back;
        }
        drop(item);
        FATES.with_borrow(|fates| {
            assert_eq!((fates.written, fates.read_back.len(), fates.retired), (4, 3, 0));
        });
    });
}

/// Items can say anything. Nothing is computed with it before it is known to be a page.
fn an_item_of_any_level_and_frame_is_refused_where_none_fits<G: Architecture>() {
    on_pages::<G>(|_, root| {
        let mut cursor = lock(root, pages::<G>(0..1));
        let mut refusal = |frame: u64, level: u8| {
            let memory = Memory::Device(Paddr::new(frame), Level::new(level));
            let refused = cursor.map(Page { memory, property: READABLE }).expect_err("none fits");
            let Memory::Device(back, at) = refused.back.memory else { panic!("another item") };
            assert_eq!((back.as_u64(), at.as_u8()), (frame, level), "the item comes back");
            let mut guard = root.lock();
            let mut entry = guard.entry(0).expect("the index is in range");
            let item = Child::Item(refused.back);
            entry.replace(item).map(drop).expect_err("none fits here either");
            refused.reason
        };
        for level in G::PAGE_LEVELS + 1..=u8::MAX {
            for frame in [0, 1, u64::MAX] {
                let entry = Level::new(level);
                let expected = MapFault::Refused(Refusal::NoPagesHere { entry });
                assert_eq!(refusal(frame, level), expected, "no entry maps a page of this level");
            }
        }
        for level in 1..=G::PAGE_LEVELS {
            for frame in [1 << G::PHYSICAL_BITS, u64::MAX - FRAME_SIZE + 1, u64::MAX] {
                let frame = Paddr::new(frame);
                let expected = MapFault::Refused(Refusal::OutOfRange { frame });
                assert_eq!(refusal(frame.as_u64(), level), expected, "no entry holds this frame");
            }
        }
    });
}

fn an_item_that_is_unmapped_is_given_up_once<G: Architecture>() {
    type Take<G> = fn(&mut Cursor<'_, Pages<Machine<G>>>);
    let ways: [Take<G>; 2] = [
        |cursor| assert_eq!(cursor.unmap(page::<G>(2)), Ok(1)),
        |cursor| assert!(cursor.take_next().is_ok_and(|taken| taken.is_some())),
    ];
    for take in ways {
        on_pages::<G>(|machine, root| {
            let mut cursor = lock(root, pages::<G>(1..2));
            cursor.map(owned(machine)).expect("nothing is there");
            cursor.jump(page::<G>(1)).expect("the start");
            take(&mut cursor);
            drop(cursor);
            FATES.with_borrow(|fates| {
                assert_eq!((fates.written, fates.read_back.len(), fates.retired), (1, 1, 1));
            });
        });
    }
}

fn a_mark_of_a_kernels_own_is_an_item<G: Architecture>() {
    on_pages::<G>(|_, root| {
        let mark = |flags| Page { property: Property::new(flags), ..device::<G>(1, 17) };
        let mut cursor = lock(root, pages::<G>(0..1));
        let refused = cursor.map(mark(PageFlags::MARK)).expect_err("hardware could use it");
        assert_eq!(refused.reason, MapFault::Refused(Refusal::PresentMark));
        drop(refused);
        cursor.map(mark(PageFlags::MARK | PageFlags::WITHHELD)).expect("nothing is there");
        cursor.jump(page::<G>(0)).expect("the start");
        let found = cursor.query().expect("the start").item.expect("the mark is there");
        assert_eq!(found.mark(), Some(17));
        assert_eq!(cursor.unmap(page::<G>(1)), Ok(1));
        assert_eq!(FATES.with_borrow(|fates| fates.retired), 1, "its owner gives it up once");
    });
}

fn a_range_gives_up_its_items_as_hardware_left_them<G: Architecture>() {
    on_pages::<G>(|machine, root| {
        let mut cursor = lock(root, pages::<G>(1..3));
        cursor.map_pages(page::<G>(3), |_| owned(machine)).expect("nothing is there");
        cursor.jump(page::<G>(1)).expect("the start");
        let mut leaf = root;
        while let ChildRef::Node(child) = leaf.walk(G::index(page::<G>(1), leaf.level())) {
            leaf = child;
        }
        hosted::hardware_sets(leaf, G::index(page::<G>(1), leaf.level()), X86_64::HARDWARE_BITS);
        assert_eq!(cursor.unmap(page::<G>(3)), Ok(2));
        let flags = FATES.with_borrow(|fates| {
            fates.read_back.iter().map(|raw| raw.property.flags).collect::<Vec<_>>()
        });
        let plain = PageFlags::TRACKED;
        assert_eq!(flags, [plain | NOTED, plain], "hardware's bits are lost");
    });
}

fn a_rollback_gives_up_what_it_took_back<G: Architecture>() {
    on_pages::<G>(|machine, root| {
        let mut cursor = lock(root, pages::<G>(1..4));
        cursor.jump(page::<G>(3)).expect("a position");
        cursor.map(owned(machine)).expect("nothing is there");
        cursor.jump(page::<G>(1)).expect("the start");
        cursor.map_pages(page::<G>(4), |_| owned(machine)).expect_err("the last page is mapped");
        drop(cursor);
        assert_eq!(FATES.with_borrow(|fates| fates.written), 3);
    });
    // The table is gone: each item was read back once, by the rollback or by the drop-walk.
    FATES.with_borrow(|fates| assert_eq!((fates.written, fates.read_back.len()), (3, 3)));
}

fn parts_of_an_item_are_items<G: Architecture>() {
    if all_pages::<G>() < span::<G>(2) {
        return;
    }
    on_pages::<G>(|_, root| {
        let all = span::<G>(2);
        let mut cursor = lock(root, pages::<G>(0..all));
        cursor.map(device::<G>(2, 5)).expect("nothing is there");
        drop(cursor);
        let mut cursor = lock(root, pages::<G>(0..1));
        assert_eq!(cursor.unmap(page::<G>(1)), Ok(1));
        drop(cursor);
        let shared = SharedCursor::new(root, pages::<G>(1..2)).expect("a range");
        let view = shared.query().expect("before the end").item.expect("a part").get();
        assert_eq!((view.frame, view.is_owned), (Paddr::of_frame(5 * all + 1), false));
        let mut cursor = lock(root, pages::<G>(1..all));
        let plain = |property: Property| property;
        assert_eq!(cursor.protect(page::<G>(all), plain), Ok(all - 1));
        cursor.jump(page::<G>(1)).expect("the start");
        assert_eq!(cursor.unmap(page::<G>(all)), Ok(all - 1));
    });
    FATES.with_borrow(|fates| {
        assert_eq!((fates.written, fates.read_back.len() as u64), (1, span::<G>(2)));
    });
}

/// The node may still be known to who has found it before: what it led to is the huge page's.
fn a_merged_node_gives_up_nothing_any_more<G: Architecture>() {
    if all_pages::<G>() < span::<G>(2) {
        return;
    }
    on_pages::<G>(|_, root| {
        let all = span::<G>(2);
        let mut cursor = lock(root, pages::<G>(0..all));
        let make = |at: Vaddr| device::<G>(1, at.as_u64() / FRAME_SIZE);
        cursor.map_pages(page::<G>(all), make).expect("nothing is there");
        let mut leaf = root;
        while let ChildRef::Node(child) = leaf.walk(0) {
            leaf = child;
        }
        cursor.jump(page::<G>(0)).expect("the start");
        cursor.merge().expect("the pages are alike");
        drop(cursor);
        let mut guard = leaf.lock();
        assert!(guard.is_stray());
        let detached = guard.entry(0).expect("in range").detach().expect("managed");
        assert!(!detached.is_present(), "the page has two owners");
    });
}
