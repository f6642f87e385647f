//! Find and lock: the node that covers an address, or all nodes of a range.
//!
//! *Find*: from the root, without locks, inside a read-side section. A present entry is followed
//! with an acquire load. Where an absent one ends the way too early, the node that has it is
//! locked, checked to be not stray, and looked at again (another CPU may have grown it meanwhile).
//! Then the missing nodes are made, linked to each other and published with one store, the lowest
//! of them locked already, before the parent is let go. If memory runs out, nobody has seen any.
//!
//! *Lock*: the node found is locked and, if it turns out to be stray, let go; the descent starts
//! over at the root. A root is never stray, so the descent ends. For a range, the nodes below that
//! it touches are locked next: see [`crate::subtree`].
//!
//! *How often does it start over?* Each time some other CPU has detached a sub-tree on our path, or
//! put a node there (grown, or split from a huge page) where the path ended, between our looking at
//! an entry and our locking the node. So the system as a whole makes progress, one completed change
//! of that kind for each start; a CPU alone starts at most once for each of those that other CPUs
//! have under way. A caller that must not wait at all uses the forms that try.
//!
//! *Prune*: a node that is left empty is taken out again, by whoever emptied it, from its parent's
//! side: parent locked, then the node, then looked at once more. Somebody who holds the node's lock
//! meanwhile has a use for it, or leaves it empty and comes by here in turn: also a descent that
//! runs out of memory at the node. Two do not: who only tries, where the parent is busy, and who
//! holds a [`Guard`]. An empty node that stays does no harm, and goes with a later cursor of it.
//!
//! After the descent of CortenMM's advanced protocol (SOSP'25), which starts over likewise.

use core::ops::Range;

use crate::address::{FRAME_SIZE, Level, Vaddr};
use crate::config::Config;
use crate::entry::{ChildRef, Taken};
use crate::error::{FindError, NotARoot, OutOfMemory, RangeError};
use crate::gather::Gather;
use crate::geometry::Geometry;
use crate::guard::Guard;
use crate::node::NodeRef;
use crate::stock::Stock;
use crate::subtree::SubTree;
use crate::sync::{Backend, Event};

type Geo<C> = <<C as Config>::Backend as Backend>::Geometry;

/// More levels than any table has.
const LEVELS_MAX: usize = 8;

/// One way of taking a lock: waiting for it, or giving up.
pub(crate) trait Take<'g, C: Config>:
    Fn(NodeRef<'g, C>) -> Result<Guard<'g, C>, FindError> + Copy
{
}

impl<'g, C: Config, F> Take<'g, C> for F where
    F: Fn(NodeRef<'g, C>) -> Result<Guard<'g, C>, FindError> + Copy
{
}

/// Waits.
#[inline]
fn waiting<'g, C: Config>(node: NodeRef<'g, C>) -> Result<Guard<'g, C>, FindError> {
    Ok(node.lock())
}

/// Gives up.
#[inline]
fn trying<'g, C: Config>(node: NodeRef<'g, C>) -> Result<Guard<'g, C>, FindError> {
    node.try_lock().ok_or(FindError::WouldWait)
}

/// Locks the node of `level` that covers `vaddr`, growing the nodes that are missing on the way.
/// The node is not stray. Where a huge page ends the way earlier, the node that holds the huge
/// page is locked instead: the guard's level says which one it is.
///
/// # Errors
///
/// [`FindError::NotARoot`], [`FindError::NotManaged`], [`FindError::NoSuchLevel`], or
/// [`FindError::OutOfMemory`]; the table is then as it was.
pub fn lock_covering<'g, C: Config>(
    root: NodeRef<'g, C>,
    vaddr: Vaddr,
    level: Level,
) -> Result<Guard<'g, C>, FindError> {
    descend(root, vaddr, level, waiting)
}

/// As [`lock_covering`], but gives up where it would wait for another CPU.
///
/// # Errors
///
/// [`FindError::WouldWait`], or those of [`lock_covering`].
pub fn try_lock_covering<'g, C: Config>(
    root: NodeRef<'g, C>,
    vaddr: Vaddr,
    level: Level,
) -> Result<Guard<'g, C>, FindError> {
    descend(root, vaddr, level, trying)
}

/// Locks every node of `range` that exists, and the nodes down to the one that covers it if they
/// do not.
#[inline]
pub(crate) fn lock_range<'g, C: Config>(
    root: NodeRef<'g, C>,
    range: Range<Vaddr>,
) -> Result<SubTree<'g, C>, RangeError> {
    take_range(root, range, waiting)
}

/// As [`lock_range`], but gives up where it would wait for another CPU.
#[inline]
pub(crate) fn try_lock_range<'g, C: Config>(
    root: NodeRef<'g, C>,
    range: Range<Vaddr>,
) -> Result<SubTree<'g, C>, RangeError> {
    take_range(root, range, trying)
}

// Always: what the range is made into is written where the caller wants it.
#[inline(always)]
fn take_range<'g, C: Config>(
    root: NodeRef<'g, C>,
    range: Range<Vaddr>,
    take: impl Take<'g, C>,
) -> Result<SubTree<'g, C>, RangeError> {
    check_range::<C>(root, &range)?;
    let level = <Geo<C>>::covering_level(&range);
    let refused = |error| match error {
        FindError::OutOfMemory => RangeError::OutOfMemory,
        FindError::WouldWait => RangeError::WouldWait,
        error => unreachable!("the range was checked: {error}"),
    };
    match find(root, range.start, level, take) {
        Ok(top) => SubTree::lock(top, range, take).map_err(refused),
        Err(error) => Err(refused(error)),
    }
}

/// Whether a range of this table can be locked or looked at.
#[inline]
pub(crate) fn check_range<C: Config>(
    root: NodeRef<'_, C>,
    range: &Range<Vaddr>,
) -> Result<(), RangeError> {
    if root.level() != <Geo<C>>::ROOT {
        return Err(RangeError::NotARoot(NotARoot { level: root.level() }));
    }
    if range.start == range.end {
        return Err(RangeError::Empty { at: range.start });
    }
    if range.start > range.end {
        return Err(RangeError::Reversed { range: range.clone() });
    }
    if let Some(&vaddr) =
        [&range.start, &range.end].into_iter().find(|at| !at.is_aligned(FRAME_SIZE))
    {
        return Err(RangeError::Unaligned { vaddr });
    }
    let [first, end] = [C::MANAGED.start, C::MANAGED.end]
        .map(|index| Vaddr::new(index as u64 * <Geo<C>>::entry_span(<Geo<C>>::ROOT)));
    if range.start < first || range.end > end {
        return Err(RangeError::NotManaged { range: range.clone() });
    }
    Ok(())
}

fn descend<'g, C: Config>(
    root: NodeRef<'g, C>,
    vaddr: Vaddr,
    level: Level,
    take: impl Take<'g, C>,
) -> Result<Guard<'g, C>, FindError> {
    if root.level() != Geo::<C>::ROOT {
        return Err(FindError::NotARoot(NotARoot { level: root.level() }));
    }
    if level > Geo::<C>::ROOT {
        return Err(FindError::NoSuchLevel { level });
    }
    let index = Geo::<C>::index(vaddr, Geo::<C>::ROOT);
    if !Geo::<C>::covers(vaddr) || !C::MANAGED.contains(&index) {
        return Err(FindError::NotManaged { vaddr });
    }
    find(root, vaddr, level, take)
}

/// Finds and locks, for an address and a level that were checked.
#[inline(always)]
fn find<'g, C: Config>(
    root: NodeRef<'g, C>,
    vaddr: Vaddr,
    level: Level,
    take: impl Take<'g, C>,
) -> Result<Guard<'g, C>, FindError> {
    let guard = take(walk_down(root, vaddr, level))?;
    if guard.level() == level && !guard.is_stray() {
        return Ok(guard);
    }
    find_on(root, vaddr, level, take, guard)
}

/// Goes on from a node that turned out to be stray, or to be above the one that is looked for.
#[cold]
fn find_on<'g, C: Config>(
    root: NodeRef<'g, C>,
    vaddr: Vaddr,
    level: Level,
    take: impl Take<'g, C>,
    mut guard: Guard<'g, C>,
) -> Result<Guard<'g, C>, FindError> {
    loop {
        if guard.is_stray() {
            root.backend().observe(Event::StrayMet(guard.node().paddr()));
            drop(guard);
        } else if guard.level() == level {
            return Ok(guard);
        } else {
            let empty = (guard.children() == 0).then(|| guard.level());
            match grow_down(guard, vaddr, level) {
                Ok(Some(guard)) => return Ok(guard),
                Ok(None) => {}
                Err(error) => {
                    if let Some(empty) = empty {
                        // Somebody may have left the node to us, who held it.
                        prune(root, vaddr, empty, &mut Gather::new(root.backend()), take);
                    }
                    return Err(error.into());
                }
            }
        }
        root.backend().observe(Event::StartedOver);
        guard = take(walk_down(root, vaddr, level))?;
    }
}

/// Follows present entries down to `target`, or as far as they lead.
#[inline(always)]
fn walk_down<'g, C: Config>(root: NodeRef<'g, C>, vaddr: Vaddr, target: Level) -> NodeRef<'g, C> {
    let mut node = root;
    while node.level() > target {
        let ChildRef::Node(child) = node.walk(Geo::<C>::index(vaddr, node.level())) else { break };
        node = child;
    }
    node
}

/// Grows the missing nodes below a locked one that is not stray, down to `target`, and lets go of
/// the locked one. `None` if another CPU has grown here between our walk and our lock: the descent
/// has to start over, since the nodes below were not locked by us.
fn grow_down<'g, C: Config>(
    mut guard: Guard<'g, C>,
    vaddr: Vaddr,
    target: Level,
) -> Result<Option<Guard<'g, C>>, OutOfMemory> {
    let top = guard.level();
    let backend = guard.node().backend();
    let mut entry = guard.entry(<Geo<C>>::index(vaddr, top)).expect("indices are in range");
    match entry.child() {
        ChildRef::Absent => {
            let mut path = [0; LEVELS_MAX];
            let below = (target.as_u8() + 1..top.as_u8()).rev();
            let depth = below.len();
            for (step, level) in path.iter_mut().zip(below) {
                *step = <Geo<C>>::index(vaddr, Level::new(level));
            }
            let mut stock = Stock::of(backend, depth + 1)?;
            Ok(Some(entry.grow(&path[..depth], &mut stock)))
        }
        ChildRef::Node(_) => {
            backend.observe(Event::GrowthLost);
            Ok(None)
        }
        ChildRef::Item(_) | ChildRef::Shared => Ok(Some(guard)),
    }
}

/// Takes out the node of `level` for `vaddr` if it is empty, and then the node above it if that
/// has become empty, and so on up to the root. Waits for locks of parents, or tries them.
#[cold]
pub(crate) fn prune_upwards<C: Config>(
    root: NodeRef<'_, C>,
    vaddr: Vaddr,
    level: Level,
    gather: &mut Gather<C::Backend>,
    waits: bool,
) {
    if waits {
        prune(root, vaddr, level, gather, waiting);
    } else {
        prune(root, vaddr, level, gather, trying);
    }
}

fn prune<'g, C: Config>(
    root: NodeRef<'g, C>,
    vaddr: Vaddr,
    level: Level,
    gather: &mut Gather<C::Backend>,
    take: impl Take<'g, C>,
) {
    let mut empty = level;
    while empty < <Geo<C>>::ROOT {
        let above = empty.above();
        let Ok(mut parent) = take(walk_down(root, vaddr, above)) else { return };
        if parent.is_stray() {
            // Whoever took it out goes on from there.
            return;
        }
        if parent.level() == above {
            take_out_empty(&mut parent, vaddr, gather);
        }
        // The node may have been taken out by somebody who then left the next one to us, because
        // we had locked it. So what counts is whether that is empty, and not by whom.
        if parent.children() > 0 {
            return;
        }
        empty = parent.level();
    }
}

/// Takes out the child for `vaddr`, if it is a node that may go, is empty, and nobody's.
fn take_out_empty<C: Config>(
    parent: &mut Guard<'_, C>,
    vaddr: Vaddr,
    gather: &mut Gather<C::Backend>,
) {
    let index = <Geo<C>>::index(vaddr, parent.level());
    let mut entry = parent.entry(index).expect("indices are in range");
    let ChildRef::Node(child) = entry.child() else { return };
    if !entry.is_removable() {
        return;
    }
    // Not waited for: who holds it comes by here when it is done.
    let Some(mut child) = child.try_lock() else { return };
    if child.children() > 0 {
        return;
    }
    let Taken::Node(node, _) = entry.take() else { unreachable!("the entry leads to a node") };
    child.mark_stray();
    drop(child);
    gather.owe_everything();
    gather.push(node.erase());
}
