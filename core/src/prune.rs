//! Prune: a node that is left empty is taken out again, by the CPU that emptied it.
//!
//! That CPU has let go of the node, because locks are taken parents first. It locks the parent,
//! then the node, and looks once more whether it is empty. If another CPU holds the node's lock,
//! the node is skipped: the holder either fills it, or runs this same step when it lets go; so does
//! a descent that fails for lack of memory. Two holders do not, and may leave an empty node behind:
//! a try-lock cursor whose parent is locked, and the owner of a bare [`Guard`]. An empty node that
//! stays does no harm, and goes with a later cursor of its addresses.
//!
//! *Flush before the parent is unlocked.* As soon as it is, another CPU can grow a new node there
//! and map a page in it. A CPU whose caches of upper levels still lead to the old node would fault
//! on that page, although it is mapped.

use crate::address::{Level, Offset};
use crate::config::{Config, Geo};
use crate::entry::{ChildRef, set_adrift};
use crate::geometry::{Arithmetic, Geometry};
use crate::guard::{Guard, Take};
use crate::node::RootRef;
use crate::obligation::{Obligation, Owed};

/// Takes out the node of `level` for `offset` if it is empty, and then the node above it if that
/// has become empty, and so on up to the root. `take` takes the locks of parents.
#[cold]
pub(crate) fn prune<'g, C: Config>(
    root: RootRef<'g, C>,
    offset: Offset,
    level: Level,
    owed: &mut Obligation<'_, C::Backend>,
    take: impl Take<'g, C>,
) {
    let mut empty = level;
    while empty < <Geo<C>>::ROOT {
        let above = empty.above();
        let Ok(mut parent) = take(root.walk_down(offset, above)) else { return };
        if parent.is_stray() {
            // The CPU that took it out goes on from there.
            return;
        }
        if parent.level() == above {
            take_out_empty(&mut parent, offset, owed);
            owed.flush();
        }
        // Another CPU may have taken out the node and skipped the next one, because we had locked
        // it. So what counts is whether that is empty, and not who emptied it.
        if parent.children() > 0 {
            return;
        }
        empty = parent.level();
    }
}

/// Takes out the child for `offset`, if it is a removable, empty node whose lock is free.
fn take_out_empty<C: Config>(
    parent: &mut Guard<'_, C>,
    offset: Offset,
    owed: &mut Obligation<'_, C::Backend>,
) {
    let index = <Geo<C>>::index_of(offset, parent.level());
    let mut entry = parent.entry(index).expect("indices are in range");
    let ChildRef::Node(child) = entry.child() else { return };
    if entry.check_removable().is_err() {
        return;
    }
    let Some(child) = child.try_lock() else { return };
    if child.children() > 0 {
        return;
    }
    entry.take(Owed::Everything, owed);
    set_adrift(child, &|_| unreachable!("an empty node has no nodes below it"));
}
