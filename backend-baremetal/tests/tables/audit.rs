//! An audit passes tables that are in order, and names the node that is not, and why.
//!
//! What is put out of order is put back before the table is dropped.

use weft_core::address::Paddr;
use weft_core::audit::{Broken, Defect, Found, audit};
use weft_core::format::{EntryFormat, RawItem, X86_64};
use weft_core::frame::Frame;
use weft_core::geometry::Geometry;
use weft_core::node::{Node, NodeRef};
use weft_core::sites::PUBLISH_NODE;

use crate::support::{
    Machine, User, WRITABLE, Whole, child, device_frame, fill, node, on_machine, online,
};

on_every_geometry!(
    tables_in_order_pass,
    a_lost_count_is_named,
    a_lock_that_is_held_is_named,
    a_reachable_stray_node_is_named,
    a_node_in_a_place_that_is_not_its_own_is_named,
    tops_are_found_among_the_frames_in_use,
);

/// Runs `body` on a table with a path to a leaf at entry 0, which counts two pages.
fn on_table<G: Geometry>(body: impl FnOnce(&Machine<G>, NodeRef<'_, Whole<G>>)) {
    on_machine::<G>(|machine| {
        let cpu = online(machine, 0);
        let section = cpu.read_side();
        let root: Node<Whole<G>> = node(machine, G::ROOT);
        fill(machine, &mut root.borrow(&section).lock(), 0);
        body(machine, root.borrow(&section));
        assert_eq!(audit(root.borrow(&section)), Ok(u64::from(G::LEVELS)), "all is put back");
    });
}

/// Stores an entry as if nobody counted or owned anything, and gives what was there.
fn overwrite<G: Geometry>(node: NodeRef<'_, Whole<G>>, index: usize, bits: u64) -> u64 {
    let mut guard = node.lock();
    let before = guard.read_raw(index);
    // SAFETY: (1) not kept, which is what is tested: the callers put back what was there before
    // they do anything but audit; (2) there is no hardware; (3) what the entries lead to is
    // complete.
    unsafe { guard.write_raw(index, bits, &PUBLISH_NODE) };
    before
}

fn leaf<G: Geometry>(root: NodeRef<'_, Whole<G>>) -> NodeRef<'_, Whole<G>> {
    (2..G::LEVELS).fold(child(root, 0), |node, _| child(node, G::ENTRIES - 1))
}

fn broken<G: Geometry>(node: NodeRef<'_, Whole<G>>, defect: Defect) -> Result<u64, Broken> {
    Err(Broken { node: node.paddr(), level: node.level(), defect })
}

fn tables_in_order_pass<G: Geometry>() {
    on_table::<G>(|machine, root| {
        assert_eq!(audit(root), Ok(u64::from(G::LEVELS)));
        let single: Node<Whole<G>> = node(machine, G::ROOT);
        let cpu = online(machine, 1);
        let section = cpu.read_side();
        assert_eq!(audit(single.borrow(&section)), Ok(1));
    });
}

fn a_lost_count_is_named<G: Geometry>() {
    on_table::<G>(|_, root| {
        let leaf = leaf(root);
        let before = overwrite(leaf, 0, 0);
        let lost = Defect::Miscounted { counted: 2, present: 1 };
        assert_eq!(audit(root), broken(leaf, lost));
        overwrite(leaf, 0, before);

        let frame = device_frame::<G>(G::ROOT);
        let page = X86_64::item(RawItem { frame, level: G::ROOT, property: WRITABLE });
        overwrite(root, G::ENTRIES - 1, page);
        let won = Defect::Miscounted { counted: 1, present: 2 };
        assert_eq!(audit(root), broken(root, won));
        overwrite(root, G::ENTRIES - 1, 0);
    });
}

fn a_lock_that_is_held_is_named<G: Geometry>() {
    on_table::<G>(|_, root| {
        for node in [root, leaf(root)] {
            let held = node.lock();
            assert_eq!(audit(root), broken(node, Defect::Locked));
            drop(held);
        }
    });
}

fn a_reachable_stray_node_is_named<G: Geometry>() {
    on_table::<G>(|_, root| {
        let stray = child(root, 0);
        let mut guard = root.lock();
        let mut entry = guard.entry(0).expect("in range");
        let detached = entry.detach().expect("managed");
        drop(entry.allocate_if_absent().expect("frames enough"));
        drop(guard);
        let before = overwrite(root, 0, X86_64::node(stray.paddr()));
        assert_eq!(
            audit(root),
            broken(stray, Defect::Stray),
            "a stray node is reachable and not named"
        );
        overwrite(root, 0, before);
        assert_eq!(audit(root), Ok(2), "the stray node is not reachable any more");
        drop(detached);
        fill(root.backend(), &mut child(root, 0).lock(), G::ENTRIES - 1);
    });
}

/// Twins and tables know a defect by its words.
#[track_caller]
fn says(defect: Defect, words: &str) {
    assert!(defect.to_string().starts_with(words), "{defect}");
}

fn a_node_in_a_place_that_is_not_its_own_is_named<G: Geometry>() {
    on_table::<G>(|machine, root| {
        let below = root.level().below().expect("a root is no leaf");
        let defect_of = |frame: Paddr| {
            let before = overwrite(root, 0, X86_64::node(frame));
            let broken = audit(root).expect_err("the node is not in its place");
            assert_eq!((broken.node, broken.level), (frame, below));
            overwrite(root, 0, before);
            broken.defect
        };
        let kind_of = |frame: Paddr| match defect_of(frame) {
            defect @ Defect::OtherKind { found } => {
                says(defect, "a reachable node is of another table");
                found.to_string()
            }
            other => panic!("it is of another kind, not {other:?}"),
        };
        let data = Frame::allocate(machine).expect("frames enough");
        assert_eq!(kind_of(data.paddr()), "data");
        let other: Node<User<G>> = node(machine, below);
        assert_eq!(kind_of(other.paddr()), "table 5 of the backend's list");
        let high: Node<Whole<G>> = node(machine, G::ROOT);
        let misplaced = defect_of(high.paddr());
        assert_eq!(
            misplaced,
            Defect::WrongLevel { found: G::LEVELS },
            "a node of another level is not named"
        );
        says(misplaced, "a reachable node is not of the level below its parent's");
        let fresh: Node<Whole<G>> = node(machine, below);
        assert_eq!(defect_of(fresh.paddr()), Defect::Unattached);
        says(Defect::Unattached, "a node with a parent may be given another one");
    });
}

fn tops_are_found_among_the_frames_in_use<G: Geometry>() {
    on_machine::<G>(|machine| {
        let gone: [Node<Whole<G>>; 3] = [(); 3].map(|()| node(machine, G::ROOT));
        let kept: Node<Whole<G>> = node(machine, G::ROOT);
        drop(gone);
        let before = machine.processors().in_use().clone();
        let cpu = online(machine, 0);
        let section = cpu.read_side();
        let root: Node<Whole<G>> = node(machine, G::ROOT);
        let taken = 1 + fill(machine, &mut root.borrow(&section).lock(), 0);
        let single: Node<User<G>> = node(machine, G::ROOT);
        drop(node::<Whole<G>>(machine, G::ROOT));
        let frames = &*machine.processors().in_use() - &before;
        let found = || {
            // SAFETY: (1) nodes and frames of the core are all that takes frames here; (2) what is
            // found goes before anything is changed.
            frames.iter().map(|&frame| unsafe { Found::new(machine, frame) })
        };
        assert_eq!(found().count() as u64, taken + 1, "the root's frames and the single one");
        let tops: Vec<Paddr> = found()
            .filter(Found::is_top)
            .map(|top| match (top.node::<Whole<G>>(), top.node::<User<G>>()) {
                (Some(whole), None) => {
                    assert_eq!(top.audit(), Ok(u64::from(G::LEVELS)));
                    whole.paddr()
                }
                (None, Some(user)) => {
                    assert_eq!(top.audit(), Ok(1));
                    user.paddr()
                }
                other => panic!("a node is of one configuration: {other:?}"),
            })
            .collect();
        assert_eq!(tops.len(), 2);
        let is_data = |found: &Found<'_, _>| found.node::<Whole<G>>().is_none() && !found.is_top();
        assert_eq!(found().filter(is_data).count(), 2, "the pages are no nodes");
        assert!(tops.contains(&root.paddr()) && tops.contains(&single.paddr()));
        assert!(!tops.contains(&kept.paddr()), "it was in use before");
    });
}
