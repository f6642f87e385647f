//! A user's table made from a kernel's: cursors of both, each in its own half.

use weft_core::address::Level;
use weft_core::config::Config;
use weft_core::cursor::{Cursor, Slot};
use weft_core::entry::ChildRef;
use weft_core::error::{LockError, MapFault, Refusal};
use weft_core::format::{PageFlags, Property};
use weft_core::item::MappedItem;
use weft_core::node::{Node, NodeRef};
use weft_core::permanent::Permanent;
use weft_core::shared::SharedCursor;

use crate::architecture::Architecture;
use crate::fixture::{READABLE, assert_sound, device, dump, huge_levels, lock, page, pages, span};
use crate::support::{
    Kernel, LowerKernel, Machine, UpperUser, User, dismantle, live, node, on_machine, online,
    root_of, tracked,
};

on_every_geometry!(
    what_the_kernel_maps_all_users_find,
    a_user_has_no_cursor_in_the_kernels_half,
    entries_that_stay_lead_to_nodes_only,
    entries_that_stay_stay_when_all_is_unmapped,
    unmapping_a_users_half_leaves_the_kernels,
    only_entries_that_stay_lead_to_global_pages,
);

/// The half of the space that a configuration manages, in pages.
fn half<C: Config<Backend = Machine<G>>, G: Architecture>() -> std::ops::Range<u64> {
    let entry = span::<G>(G::LEVELS);
    C::MANAGED.start as u64 * entry..C::MANAGED.end as u64 * entry
}

/// Runs `check` with the kernel in the upper half, and with the halves exchanged.
macro_rules! both_ways {
    ($check:ident) => {
        $check::<G, Kernel<G>, User<G>>();
        $check::<G, LowerKernel<G>, UpperUser<G>>();
    };
}

type Page<G> = MappedItem<Machine<G>>;

trait On<G: Architecture>: Config<Backend = Machine<G>, Item = Page<G>> {}
impl<G: Architecture, C: Config<Backend = Machine<G>, Item = Page<G>>> On<G> for C {}

/// Runs `body` with a kernel's root and a user's that shares its half. All that is mapped is
/// unmapped again, and every frame but those of the two roots and the kernel's nodes is back.
fn on_both<G: Architecture, K: On<G>, U: On<G>>(
    body: impl FnOnce(&Machine<G>, NodeRef<'_, K>, NodeRef<'_, U>),
) {
    on_machine::<G>(|machine| {
        let mut cpu = online(machine, 0);
        let root: Node<K> = node(machine, G::ROOT);
        let kernel = Permanent::new(root, &cpu.read_side()).expect("frames enough");
        let user = Node::<U>::root_sharing(&kernel).expect("frames enough");
        let before = live(machine);
        {
            let section = cpu.read_side();
            let (kernel, user) = (root_of(&kernel, &section), user.borrow(&section));
            body(machine, kernel, user);
            let (ours, theirs) = (half::<K, G>(), half::<U, G>());
            lock(kernel, pages::<G>(ours.clone())).unmap(page::<G>(ours.end)).expect("whole pages");
            lock(user, pages::<G>(theirs.clone()))
                .unmap(page::<G>(theirs.end))
                .expect("whole pages");
            assert_sound(kernel);
            assert_sound(user);
        }
        cpu.quiescent();
        cpu.quiescent();
        assert_eq!(live(machine), before, "unmapping gives back what was mapped");
        drop(user);
        dismantle(kernel);
    });
}

/// A global translation outlives a switch of roots, and the drop of a root flushes nothing.
fn only_entries_that_stay_lead_to_global_pages<G: Architecture>() {
    fn check<G: Architecture, K: On<G>, U: On<G>>() {
        on_both::<G, K, U>(|_, kernel, user| {
            let global = Property { flags: READABLE.flags | PageFlags::GLOBAL, ..READABLE };
            let (ours, theirs) = (half::<K, G>().start, half::<U, G>().start);
            let mut cursor = lock(user, pages::<G>(theirs..theirs + 1));
            let refused = cursor.map(device::<G>(1, 0, global)).expect_err("it is global");
            assert_eq!(refused.reason, MapFault::Refused(Refusal::Global));
            cursor.map(device::<G>(1, 0, READABLE)).expect("nothing is there");
            cursor.jump(page::<G>(theirs)).expect("the start");
            cursor.protect(page::<G>(theirs + 1), |_| global).expect("a position");
            cursor.jump(page::<G>(theirs)).expect("the start");
            let property = |slot: Slot<'_, U>| slot.item.expect("a page").property;
            assert_eq!(cursor.query().map(property), Ok(READABLE), "it became global");
            let mut cursor = lock(kernel, pages::<G>(ours..ours + 1));
            cursor.map(device::<G>(1, 0, global)).expect("nothing is there");
            cursor.jump(page::<G>(ours)).expect("the start");
            let property = |slot: Slot<'_, K>| slot.item.expect("a page").property;
            assert_eq!(cursor.query().map(property), Ok(global));
        });
    }
    both_ways!(check);
}

fn what_the_kernel_maps_all_users_find<G: Architecture>() {
    fn check<G: Architecture, K: On<G>, U: On<G>>() {
        on_both::<G, K, U>(|machine, kernel, user| {
            let at = half::<K, G>().end - 1;
            lock(kernel, pages::<G>(at..at + 1)).map(tracked(machine)).expect("nothing is there");
            let found = SharedCursor::new(kernel, pages::<G>(at..at + 1)).expect("a range");
            let found = found.query().expect("before the end").item.expect("it is mapped").frame;
            // The hardware's way through the user's root.
            let index = G::index(page::<G>(at), G::ROOT);
            assert!(matches!(user.walk(index), ChildRef::Shared));
            let bits = [
                user.try_lock().expect("nobody has it").read_raw(index),
                kernel.try_lock().expect("nobody has it").read_raw(index),
            ];
            assert_eq!(bits[0], bits[1], "both roots lead to the same node");
            assert_eq!(dump(kernel).pages.iter().map(|it| it.1.frame).collect::<Vec<_>>(), [found]);
            assert_eq!(dump(user).pages, [], "the user has mapped nothing itself");
        });
    }
    both_ways!(check);
}

fn a_user_has_no_cursor_in_the_kernels_half<G: Architecture>() {
    fn check<G: Architecture, K: On<G>, U: On<G>>() {
        on_both::<G, K, U>(|_, kernel, user| {
            let (ours, theirs) = (half::<K, G>(), half::<U, G>());
            let border = ours.start.max(theirs.start);
            for range in [ours.clone(), ours.start..ours.start + 1, border - 1..border + 1] {
                let range = pages::<G>(range);
                let expected = LockError::NotManaged { range: range.clone() };
                assert_eq!(
                    Cursor::lock(user, range.clone()).err(),
                    Some(expected.clone()),
                    "another table has this half"
                );
                assert_eq!(
                    Cursor::try_lock(user, range.clone()).err(),
                    Some(expected.clone()),
                    "another table has this half"
                );
                assert_eq!(
                    SharedCursor::new(user, range).err(),
                    Some(expected),
                    "another table has this half"
                );
            }
            for range in [theirs.clone(), theirs.end - 1..theirs.end, border - 1..border + 1] {
                let range = pages::<G>(range);
                let expected = LockError::NotManaged { range: range.clone() };
                assert_eq!(
                    Cursor::lock(kernel, range).err(),
                    Some(expected),
                    "another table has this half"
                );
            }
        });
    }
    both_ways!(check);
}

/// Other roots have copies of the entry, and would not see it change.
fn entries_that_stay_lead_to_nodes_only<G: Architecture>() {
    fn check<G: Architecture, K: On<G>, U: On<G>>() {
        let Some(level) = huge_levels::<G>().find(|&level| level == G::LEVELS) else { return };
        let refused = |root: NodeRef<'_, K>| {
            let ours = half::<K, G>();
            let mut cursor = lock(root, pages::<G>(ours.start..ours.end));
            let error = cursor.map(device::<G>(level, 0, READABLE)).expect_err("it would not stay");
            let entry = Level::new(level);
            assert_eq!(error.reason, MapFault::Refused(Refusal::NoPagesHere { entry }));
        };
        on_both::<G, K, U>(|_, kernel, _| refused(kernel));
        on_machine::<G>(|machine| {
            let cpu = online(machine, 0);
            let root: Node<K> = node(machine, G::ROOT);
            refused(root.borrow(&cpu.read_side()));
        });
    }
    both_ways!(check);
}

fn entries_that_stay_stay_when_all_is_unmapped<G: Architecture>() {
    fn check<G: Architecture, K: On<G>, U: On<G>>() {
        on_both::<G, K, U>(|machine, kernel, _| {
            let ours = half::<K, G>();
            let nodes = || dump(kernel).nodes;
            let before = nodes();
            for number in [ours.start, ours.end - 1] {
                lock(kernel, pages::<G>(number..number + 1))
                    .map(tracked(machine))
                    .expect("it is free");
            }
            let mut cursor = lock(kernel, pages::<G>(ours.clone()));
            let mut frames = 0;
            while let Some(taken) = cursor.take_next().expect("no split") {
                frames += taken.frames;
            }
            drop(cursor);
            assert_eq!(
                (frames, nodes()),
                (2, before.clone()),
                "a shared entry of the root is gone"
            );
            lock(kernel, pages::<G>(ours.start..ours.start + 1))
                .map(tracked(machine))
                .expect("free");
            assert_eq!(lock(kernel, pages::<G>(ours.clone())).unmap(page::<G>(ours.end)), Ok(1));
            assert_eq!(nodes(), before, "a shared entry of the root is gone");
            for number in [ours.start, ours.end - 1] {
                drop(lock(kernel, pages::<G>(number..number + 1)));
                assert_eq!(nodes(), before, "a shared entry of the root is gone");
            }
        });
    }
    both_ways!(check);
}

fn unmapping_a_users_half_leaves_the_kernels<G: Architecture>() {
    fn check<G: Architecture, K: On<G>, U: On<G>>() {
        on_both::<G, K, U>(|machine, kernel, user| {
            let (ours, theirs) = (half::<K, G>(), half::<U, G>());
            lock(kernel, pages::<G>(ours.start..ours.start + 1))
                .map(tracked(machine))
                .expect("free");
            let before = dump(kernel);
            for number in [theirs.start, theirs.end - 1] {
                lock(user, pages::<G>(number..number + 1))
                    .map(tracked(machine))
                    .expect("it is free");
            }
            assert_eq!(lock(user, pages::<G>(theirs.clone())).unmap(page::<G>(theirs.end)), Ok(2));
            assert_eq!((dump(kernel), dump(user).nodes.len()), (before, 1));
        });
    }
    both_ways!(check);
}
