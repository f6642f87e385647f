//! Find: from a root to the locked node that covers an address.
//!
//! *Down*, without locks, inside a read-side section. A present entry is followed with an acquire
//! load. Where an absent one ends the way too early, the node that has it is locked, checked to be
//! not stray, and looked at again, because another CPU may have grown it meanwhile. Then the
//! missing nodes are made, linked to each other and published with one store, the lowest of them
//! locked already, before the parent is let go. If memory runs out, no CPU has seen any of them.
//!
//! *Start over.* The node found is locked. If it is stray, it is let go, and the descent starts
//! over at the root. A root is never stray, so the descent ends.
//!
//! *How often?* Once for each time that another CPU has detached a sub-tree on our path, or put a
//! node there (grown, or split from a huge page), between our look at an entry and our lock of the
//! node. So the system as a whole makes progress: one completed change of that kind for each start.
//! One CPU starts at most once for each such change that the others have under way. A caller that
//! must not wait at all uses the forms that try.
//!
//! After the descent of CortenMM's advanced protocol (SOSP'25), which starts over likewise.

use crate::address::{Level, Offset, Vaddr};
use crate::config::{Config, Geo};
use crate::entry::ChildRef;
use crate::error::{LockError, OutOfMemory};
use crate::geometry::{Arithmetic, Geometry, LEVELS_MAX};
use crate::guard::{Guard, Take, trying, waiting};
use crate::node::{NodeRef, RootRef};
use crate::obligation::Obligation;
use crate::prune::prune;
use crate::space::Space;
use crate::stock::Stock;
use crate::sync::{Backend, Event};

/// Locks the node of `level` that covers `vaddr`, growing the nodes that are missing on the way.
/// The node is not stray. Where a huge page ends the way earlier, the node that holds the huge
/// page is locked instead: the guard's level says which one it is.
///
/// # Errors
///
/// [`LockError::NotARoot`], [`LockError::NotCanonical`], [`LockError::NotManaged`],
/// [`LockError::NoSuchLevel`], or [`LockError::OutOfMemory`]; the table is then as it was.
pub fn lock_covering<'g, C: Config>(
    root: NodeRef<'g, C>,
    vaddr: Vaddr,
    level: Level,
) -> Result<Guard<'g, C>, LockError> {
    descend(root, vaddr, level, waiting)
}

/// As [`lock_covering`], but gives up where it would wait for another CPU.
///
/// # Errors
///
/// [`LockError::WouldWait`], or those of [`lock_covering`].
pub fn try_lock_covering<'g, C: Config>(
    root: NodeRef<'g, C>,
    vaddr: Vaddr,
    level: Level,
) -> Result<Guard<'g, C>, LockError> {
    descend(root, vaddr, level, trying)
}

fn descend<'g, C: Config>(
    root: NodeRef<'g, C>,
    vaddr: Vaddr,
    level: Level,
    take: impl Take<'g, C>,
) -> Result<Guard<'g, C>, LockError> {
    let root = RootRef::of(root)?;
    if level > <Geo<C>>::ROOT {
        return Err(LockError::NoSuchLevel { level });
    }
    let offset = <Geo<C>>::offset(vaddr).ok_or(LockError::NotCanonical { vaddr })?;
    if !C::MANAGED.contains(&<Geo<C>>::index(vaddr, <Geo<C>>::ROOT)) {
        return Err(LockError::NotManaged { range: vaddr..vaddr.plus(1) });
    }
    find(root, offset, level, take)
}

/// Finds and locks, for a place and a level that were checked.
#[inline(always)]
pub(crate) fn find<'g, C: Config>(
    root: RootRef<'g, C>,
    offset: Offset,
    level: Level,
    take: impl Take<'g, C>,
) -> Result<Guard<'g, C>, LockError> {
    let guard = take(root.walk_down(offset, level))?;
    if guard.level() == level && !guard.is_stray() {
        return Ok(guard);
    }
    find_on(root, offset, level, take, guard)
}

/// Goes on from a node that turned out to be stray, or to be above the one that is looked for.
#[cold]
fn find_on<'g, C: Config>(
    root: RootRef<'g, C>,
    offset: Offset,
    level: Level,
    take: impl Take<'g, C>,
    mut guard: Guard<'g, C>,
) -> Result<Guard<'g, C>, LockError> {
    loop {
        if guard.is_stray() {
            root.backend().observe(Event::StrayMet(guard.node().paddr()));
            drop(guard);
        } else if guard.level() == level {
            return Ok(guard);
        } else {
            let empty = (guard.children() == 0).then(|| guard.level());
            match grow_down(root.space(), guard, offset, level) {
                Ok(Some(guard)) => return Ok(guard),
                Ok(None) => {}
                Err(error) => {
                    if let Some(empty) = empty {
                        // Another CPU may have skipped the node because we held its lock.
                        prune(root, offset, empty, &mut Obligation::new(root.space()), take);
                    }
                    return Err(error.into());
                }
            }
        }
        root.backend().observe(Event::StartedOver);
        guard = take(root.walk_down(offset, level))?;
    }
}

/// Grows the missing nodes below a locked one that is not stray, down to `target`, and lets go of
/// the locked one. `None` if another CPU has grown here between our walk and our lock: the descent
/// has to start over, since the nodes below were not locked by us.
fn grow_down<'g, C: Config>(
    space: Space<'g, C::Backend>,
    mut guard: Guard<'g, C>,
    offset: Offset,
    target: Level,
) -> Result<Option<Guard<'g, C>>, OutOfMemory> {
    let top = guard.level();
    let backend = guard.node().backend();
    let mut entry = guard.entry(<Geo<C>>::index_of(offset, top)).expect("indices are in range");
    match entry.child() {
        ChildRef::Absent => {
            let mut path = [0; LEVELS_MAX];
            let below = (target.as_u8() + 1..top.as_u8()).rev();
            let depth = below.len();
            for (step, level) in path.iter_mut().zip(below) {
                *step = <Geo<C>>::index_of(offset, Level::new(level));
            }
            let mut stock = Stock::of(backend, depth + 1)?;
            let mut owed = Obligation::new(space);
            Ok(Some(entry.grow(&path[..depth], &mut stock, &mut owed)))
        }
        ChildRef::Node(_) => {
            backend.observe(Event::GrowthLost);
            Ok(None)
        }
        ChildRef::Item(_) | ChildRef::Shared => Ok(Some(guard)),
    }
}
