//! Items whose own code panics in the middle of a change: what was taken out until then is flushed,
//! and then retired, as if the change had ended there. What the panic was about leaks.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use weft_backend_baremetal::backend::{self, Tables};
use weft_backend_baremetal::hosted;
use weft_core::address::{Level, Paddr, Vaddr};
use weft_core::config::Config;
use weft_core::cursor::Cursor;
use weft_core::entry::{Child, ChildRef};
use weft_core::format::{RawItem, X86_64};
use weft_core::frame::Frame;
use weft_core::geometry::Geometry;
use weft_core::item::Item;
use weft_core::node::{Node, NodeRef};
use weft_core::reclaim::Erased;
use weft_core::sync::{Backend, Flush};

use crate::fixture::{READABLE, assert_sound, dump, flush_of, lock, page, pages};
use crate::support::{node, online, put};
use crate::watched::{Seen, Watch, seen};

on_every_geometry!(
    a_run_that_ends_in_a_panic_is_flushed_before_it_is_retired,
    steps_that_end_in_a_panic_are_flushed_before_they_are_retired,
    a_page_whose_item_panics_is_flushed_and_leaves_no_empty_node,
    a_rollback_that_ends_in_a_panic_is_flushed,
    what_is_taken_out_by_hand_is_flushed_although_its_item_panics,
);

type Machine<G> = backend::Machine<G, Kinds, Watch>;
type Root<'g, G> = NodeRef<'g, Table<Machine<G>>>;

/// Where an item panics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Point {
    FromRaw,
    Retire,
}

const POINTS: [Point; 2] = [Point::FromRaw, Point::Retire];

thread_local! {
    /// Where the next item panics, but so many.
    static ARMED: Cell<Option<(Point, usize)>> = const { Cell::new(None) };
    static LEAKED: RefCell<Vec<Paddr>> = const { RefCell::new(Vec::new()) };
}

/// Panics if it is time to. The frame leaks.
fn may_panic(at: Point, frame: Paddr) {
    match ARMED.get() {
        Some((point, 0)) if point == at => {
            ARMED.set(None);
            LEAKED.with_borrow_mut(|leaked| leaked.push(frame));
            panic!("the item gives up");
        }
        Some((point, left)) if point == at => ARMED.set(Some((point, left - 1))),
        _ => {}
    }
}

/// A page that owns its frame, and panics when it is told to.
#[derive(Debug)]
struct Fragile<B: Backend>(Frame<B>);

// SAFETY: an item owns the frame that it maps, and is no huge page.
unsafe impl<B: Backend> Item<B> for Fragile<B> {
    type Ref<'g> = Paddr;

    fn is_of(&self, backend: &B) -> bool {
        self.0.backend() == backend
    }

    fn into_raw(self) -> RawItem {
        RawItem { frame: self.0.into_raw(), level: Level::LEAF, property: READABLE }
    }

    unsafe fn from_raw(backend: &B, raw: RawItem) -> Self {
        may_panic(Point::FromRaw, raw.frame);
        // SAFETY: by the caller's contract our `into_raw` gave the value, and so `into_raw` of a
        // frame gave the address; it is turned back once.
        Self(unsafe { Frame::from_raw(backend, raw.frame) })
    }

    unsafe fn borrow(_backend: &B, raw: RawItem) -> Paddr {
        raw.frame
    }

    unsafe fn retire(backend: &B, raw: RawItem) -> Option<Erased<B>> {
        may_panic(Point::Retire, raw.frame);
        // SAFETY: both contracts are the same.
        Some(unsafe { Self::from_raw(backend, raw) }.0.erase())
    }
}

/// Tables of such items.
#[derive(Debug)]
struct Table<B>(std::marker::PhantomData<B>);

impl<B: Backend> Config for Table<B> {
    type Backend = B;
    type Item = Fragile<B>;
    type Format = X86_64;
}

#[derive(Debug)]
struct Kinds;

impl Tables for Kinds {
    type On<B: Backend> = (Table<B>,);
}

fn item<G: Geometry>(machine: &Machine<G>) -> Fragile<Machine<G>> {
    Fragile(Frame::allocate(machine).expect("a test has frames enough"))
}

/// Runs `body` on a new table. Everything but what has leaked comes back.
fn on_table<G: Geometry>(body: impl FnOnce(&Machine<G>, Root<'_, G>)) {
    let watch = Watch::default();
    let machine = hosted::start_with::<G, Kinds, _>(1024, watch).expect("a few megabytes");
    seen();
    {
        let cpu = online(&machine, 0);
        let root: Node<Table<Machine<G>>> = node(&machine, G::ROOT);
        let section = cpu.read_side();
        body(&machine, root.borrow(&section));
        assert_sound(root.borrow(&section));
    }
    let leaked = LEAKED.take();
    assert_eq!(machine.region().live(), leaked.len() as u64, "what leaks is known");
    for frame in leaked {
        // SAFETY: `into_raw` of a frame gave the address, and the item that owned it panicked.
        drop(unsafe { Frame::from_raw(&machine, frame) });
    }
    assert_eq!(machine.region().live(), 0);
}

/// Two pages with the border of two leaves between them.
fn at_the_border<G: Geometry>() -> Range<u64> {
    let border = G::ENTRIES as u64;
    border - 1..border + 1
}

/// Maps pages at the border of two leaves, and one before and one behind them, which keep the
/// leaves.
fn map_four<G: Geometry>(machine: &Machine<G>, root: Root<'_, G>) {
    let Range { start, end } = at_the_border::<G>();
    for number in start - 1..end + 1 {
        lock(root, pages::<G>(number..number + 1)).map(item(machine)).expect("nothing is there");
    }
    seen();
}

fn mapped<G: Geometry>(root: Root<'_, G>) -> Vec<Vaddr> {
    dump(root).pages.into_iter().map(|(vaddr, _)| vaddr).collect()
}

/// Arms the item after `others`, and runs `change`, which has to panic.
fn broken<'g, G: Geometry>(
    cursor: &mut Cursor<'g, Table<Machine<G>>>,
    at: (Point, usize),
    change: impl FnOnce(&mut Cursor<'g, Table<Machine<G>>>),
) {
    ARMED.set(Some(at));
    catch_unwind(AssertUnwindSafe(|| change(cursor))).expect_err("the item has panicked");
    assert_eq!(seen(), [], "the cursor goes on, and owes");
}

/// What is seen when the first page at the border is gone, or both of them are.
fn paid<G: Geometry>(others: usize) -> Vec<Seen> {
    let Range { start, .. } = at_the_border::<G>();
    let flushed = Seen::Flushed(flush_of::<G>(start..start + 1 + others as u64));
    if others == 0 { vec![flushed] } else { vec![flushed, Seen::Retired] }
}

fn a_run_that_ends_in_a_panic_is_flushed_before_it_is_retired<G: Geometry>() {
    for (point, others) in POINTS.into_iter().flat_map(|point| [(point, 0), (point, 1)]) {
        on_table::<G>(|machine, root| {
            map_four(machine, root);
            let range = at_the_border::<G>();
            let mut cursor = lock(root, pages::<G>(range.clone()));
            broken::<G>(&mut cursor, (point, others), |cursor| {
                _ = cursor.unmap(cursor.range().end);
            });
            assert_eq!(cursor.vaddr(), page::<G>(range.start), "the cursor has moved");
            drop(cursor);
            assert_eq!(seen(), paid::<G>(others), "{others} items were taken out before");
            let left: Vec<Vaddr> = (range.start - 1..range.end + 1)
                .filter(|&number| number < range.start || number > range.start + others as u64)
                .map(page::<G>)
                .collect();
            assert_eq!(mapped(root), left);
        });
    }
}

fn steps_that_end_in_a_panic_are_flushed_before_they_are_retired<G: Geometry>() {
    for (point, others) in POINTS.into_iter().flat_map(|point| [(point, 0), (point, 1)]) {
        on_table::<G>(|machine, root| {
            map_four(machine, root);
            let mut cursor = lock(root, pages::<G>(at_the_border::<G>()));
            broken::<G>(&mut cursor, (point, others), |cursor| {
                while let Ok(Some(_)) = cursor.take_next() {}
            });
            drop(cursor);
            assert_eq!(seen(), paid::<G>(others), "{others} items were taken out before");
            assert_eq!(mapped(root).len(), 3 - others);
        });
    }
}

fn a_page_whose_item_panics_is_flushed_and_leaves_no_empty_node<G: Geometry>() {
    for point in POINTS {
        on_table::<G>(|machine, root| {
            let range = at_the_border::<G>();
            let mut cursor = lock(root, pages::<G>(range.clone()));
            cursor.map(item(machine)).expect("nothing is there");
            cursor.jump(page::<G>(range.start)).expect("the start");
            seen();
            broken::<G>(&mut cursor, (point, 0), |cursor| _ = cursor.take_next());
            drop(cursor);
            let found = seen();
            assert!(matches!(found[0], Seen::Flushed(_)), "it is cached: {found:?}");
            assert_eq!(dump(root).nodes.len(), 1, "only the root is left");
        });
    }
}

fn a_rollback_that_ends_in_a_panic_is_flushed<G: Geometry>() {
    for point in POINTS {
        on_table::<G>(|machine, root| {
            map_four(machine, root);
            let range = at_the_border::<G>();
            let mut cursor = lock(root, pages::<G>(range.start..range.start + 1));
            assert_eq!(cursor.unmap(cursor.range().end), Ok(1));
            drop(cursor);
            seen();
            let mut cursor = lock(root, pages::<G>(range.clone()));
            broken::<G>(&mut cursor, (point, 0), |cursor| {
                let end = cursor.range().end;
                _ = cursor.map_pages(end, |_| item(machine));
            });
            drop(cursor);
            assert_eq!(seen(), paid::<G>(0), "what was mapped and is unmapped again is cached");
            assert_eq!(mapped(root).len(), 3);
        });
    }
}

fn what_is_taken_out_by_hand_is_flushed_although_its_item_panics<G: Geometry>() {
    for (point, replaces) in POINTS.into_iter().flat_map(|point| [(point, false), (point, true)]) {
        on_table::<G>(|machine, root| {
            let cpu = online(machine, 1);
            let section = cpu.read_side();
            let leaf: Node<Table<Machine<G>>> = node(root.backend(), Level::LEAF);
            let mut guard = leaf.borrow(&section).lock();
            put(&mut guard, 1, Child::Item(item(machine)));
            let child = if replaces { Child::Item(item(machine)) } else { Child::Absent };
            seen();
            ARMED.set(Some((point, 0)));
            let change = AssertUnwindSafe(|| {
                let mut entry = guard.entry(1).expect("the index is in range");
                entry.replace(child).map(drop).expect("the child fits");
            });
            catch_unwind(change).expect_err("the item has panicked");
            assert_eq!(seen(), [Seen::Flushed(Flush::Everything)], "the page is cached");
            let there = guard.entry(1).expect("the index is in range").child();
            assert_eq!(matches!(there, ChildRef::Item(_)), replaces);
            assert_eq!(guard.children(), u16::from(replaces));
        });
    }
}
