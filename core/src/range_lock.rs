//! Find and lock the node that covers an address.
//!
//! *Find*: from the root, without locks, inside a read-side section. A present entry is followed
//! with an acquire load. An absent one is grown: lock the node, check that it is not stray, look
//! again (another CPU may have grown it meanwhile), publish a child that is locked already, and
//! only then let go of the parent. The rest of the way down is then ours alone.
//!
//! *Lock*: the node found is locked and, if it turns out to be stray, let go; the descent starts
//! over at the root. A root is never stray, so the descent ends.
//!
//! *How often does it start over?* Each time some other CPU has detached a sub-tree on our path, or
//! grown a node there that we were about to grow, between our looking at an entry and our locking
//! the node. So the system as a whole makes progress, one completed detachment or growth for each
//! start; a CPU alone starts at most once for each of those that other CPUs have under way. A
//! caller that must not wait at all uses [`try_lock_covering`].
//!
//! After the descent of CortenMM's advanced protocol (SOSP'25), which starts over likewise.

use crate::address::{Level, Vaddr};
use crate::config::Config;
use crate::entry::ChildRef;
use crate::error::{FindError, GrowError, NotARoot};
use crate::geometry::Geometry;
use crate::guard::Guard;
use crate::node::NodeRef;
use crate::sync::{Backend, Event};

type Geo<C> = <<C as Config>::Backend as Backend>::Geometry;

/// One way of taking a lock: waiting for it, or giving up.
type Take<'g, C> = fn(NodeRef<'g, C>) -> Result<Guard<'g, C>, FindError>;

/// Locks the node of `level` that covers `vaddr`, growing the nodes that are missing on the way.
/// The node is not stray. Where a huge page ends the way earlier, the node that holds the huge
/// page is locked instead: the guard's level says which one it is.
///
/// # Errors
///
/// [`FindError::NotARoot`], [`FindError::NotManaged`], [`FindError::NoSuchLevel`], or
/// [`FindError::OutOfMemory`], after which nodes grown so far stay, empty.
pub fn lock_covering<'g, C: Config>(
    root: NodeRef<'g, C>,
    vaddr: Vaddr,
    level: Level,
) -> Result<Guard<'g, C>, FindError> {
    descend(root, vaddr, level, |node| Ok(node.lock()))
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
    descend(root, vaddr, level, |node| node.try_lock().ok_or(FindError::WouldWait))
}

fn descend<'g, C: Config>(
    root: NodeRef<'g, C>,
    vaddr: Vaddr,
    level: Level,
    take: Take<'g, C>,
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
    loop {
        let node = walk_down(root, vaddr, level);
        let guard = take(node)?;
        if guard.is_stray() {
            root.backend().observe(Event::StrayMet(node.paddr()));
        } else if guard.level() == level {
            return Ok(guard);
        } else if let Some(guard) = grow_down(guard, vaddr, level)? {
            return Ok(guard);
        }
        root.backend().observe(Event::StartedOver);
    }
}

/// Follows present entries down to `target`, or as far as they lead.
fn walk_down<'g, C: Config>(root: NodeRef<'g, C>, vaddr: Vaddr, target: Level) -> NodeRef<'g, C> {
    let mut node = root;
    while node.level() > target {
        let ChildRef::Node(child) = node.walk(Geo::<C>::index(vaddr, node.level())) else { break };
        node = child;
    }
    node
}

/// Grows missing nodes below a locked one that is not stray, down to `target`. `None` if another
/// CPU has grown here between our walk and our lock: the descent has to start over, since the
/// nodes below were not locked by us.
fn grow_down<'g, C: Config>(
    mut guard: Guard<'g, C>,
    vaddr: Vaddr,
    target: Level,
) -> Result<Option<Guard<'g, C>>, FindError> {
    while guard.level() > target {
        let index = Geo::<C>::index(vaddr, guard.level());
        let mut entry = guard.entry(index).expect("the geometry's indices are in range");
        match entry.allocate_if_absent() {
            // The child is locked; the parent is let go by the assignment.
            Ok(child) => guard = child,
            Err(GrowError::Present) if matches!(entry.child(), ChildRef::Node(_)) => {
                guard.node().backend().observe(Event::GrowthLost);
                return Ok(None);
            }
            Err(GrowError::Present) => return Ok(Some(guard)),
            Err(GrowError::OutOfMemory) => return Err(FindError::OutOfMemory),
            Err(GrowError::Leaf | GrowError::NoHugePage | GrowError::NotManaged { .. }) => {
                unreachable!("an entry above the target, on a managed path, can be grown")
            }
        }
    }
    Ok(Some(guard))
}
