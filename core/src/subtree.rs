//! The locks of a range: one sub-tree's, taken parents first, owned by one value.
//!
//! A sub-tree has a locked node at the top, the *covering* node, and holds the lock of every
//! node below it that the range touches. Nobody else changes any of them, or the entries of the
//! range in them, until it is dropped. It keeps no list: which nodes it holds can be read off the
//! tree itself, which stands still, being locked.
//!
//! *Lock.* From the covering node down, each child is locked while its parent is, so no child is
//! stray. Two ranges that overlap have covering nodes of which one is above the other, or the
//! same; whoever holds the upper one waits for the lower one, whose holder waits for nobody above
//! itself. So there is no deadlock, whatever the order among siblings.
//!
//! *Grow, split, detach.* What is added below is born locked and belongs to the sub-tree; what is
//! taken out is marked stray and unlocked at once.
//!
//! *Unlock.* In reverse: a node after everything below it, the covering node last.
//!
//! Nodes are worked on one at a time, through a value that borrows the sub-tree mutably: so
//! there is one guard at a time, and only for nodes that are held. That is what makes the
//! cursor safe code.

use core::fmt;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::Range;

use crate::address::{Level, Vaddr};
use crate::config::Config;
use crate::entry::{ChildRef, Entry, Taken};
use crate::error::FindError;
use crate::format::RawItem;
use crate::gather::Gather;
use crate::geometry::Geometry;
use crate::guard::Guard;
use crate::item::Item;
use crate::node::NodeRef;
use crate::range_lock::Take;
use crate::sites::{CLEAR_ENTRY, ENTRY_UNDER_LOCK};
use crate::stock::Stock;
use crate::sync::{Backend, PlainCell, Word};

type Geo<C> = <<C as Config>::Backend as Backend>::Geometry;

/// The locks of a covering node and of everything below it that a range touches.
pub(crate) struct SubTree<'g, C: Config> {
    top: Place<'g, C>,
    range: Range<Vaddr>,
    /// The node below the top that was worked on last, if there was one: held, as the top is.
    last: Option<Place<'g, C>>,
    _stays_on_its_cpu: PhantomData<*const ()>,
}

/// A node, and the first address that it translates.
struct Place<'g, C: Config> {
    node: NodeRef<'g, C>,
    start: Vaddr,
}

impl<C: Config> Clone for Place<'_, C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C: Config> Copy for Place<'_, C> {}

impl<'g, C: Config> Place<'g, C> {
    /// The child at `index`.
    #[inline]
    fn child(self, node: NodeRef<'g, C>, index: usize) -> Self {
        Self { node, start: <Geo<C>>::slot(self.start, self.node.level(), index).start }
    }

    #[inline]
    fn contains(self, vaddr: Vaddr) -> bool {
        vaddr.align_down(<Geo<C>>::node_span(self.node.level())) == self.start
    }
}

impl<C: Config> fmt::Debug for SubTree<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SubTree({:?}, {:?})", self.top.node, self.range)
    }
}

impl<'g, C: Config> SubTree<'g, C> {
    /// Locks what `range` touches below `top`, which covers the range.
    ///
    /// # Errors
    ///
    /// That of `take`; everything is then unlocked.
    #[inline(always)]
    pub(crate) fn lock(
        top: Guard<'g, C>,
        range: Range<Vaddr>,
        take: impl Take<'g, C>,
    ) -> Result<Self, FindError> {
        let node = top.node();
        let start = range.start.align_down(<Geo<C>>::node_span(node.level()));
        let place = Place { node, start };
        if node.level() > Level::LEAF {
            lock_below(place, &range, take)?;
        }
        // Held from here on by the value that is returned.
        let _ = ManuallyDrop::new(top);
        Ok(Self { top: place, range, last: None, _stays_on_its_cpu: PhantomData })
    }

    /// The range.
    #[inline]
    pub(crate) fn range(&self) -> &Range<Vaddr> {
        &self.range
    }

    /// The covering node.
    #[inline]
    pub(crate) fn top(&mut self) -> Locked<'_, 'g, C> {
        let top = self.top;
        self.locked(top)
    }

    /// The lowest node with an entry for `vaddr`, an address of the range, but none below `floor`.
    #[inline]
    pub(crate) fn seek(&mut self, vaddr: Vaddr, floor: Level) -> Locked<'_, 'g, C> {
        debug_assert!(self.range.contains(&vaddr), "a cursor stays in its range");
        let place = match self.last {
            _ if self.top.node.level() == floor => self.top,
            Some(last) if last.node.level() == floor && last.contains(vaddr) => last,
            _ => self.descend(vaddr, floor),
        };
        self.locked(place)
    }

    /// The lowest node for `vaddr` that is not below `floor`, which is below the covering one.
    fn descend(&mut self, vaddr: Vaddr, floor: Level) -> Place<'g, C> {
        let mut place = match self.last {
            Some(last) if last.node.level() >= floor && last.contains(vaddr) => last,
            _ => self.top,
        };
        while place.node.level() > floor {
            let index = <Geo<C>>::index(vaddr, place.node.level());
            let ChildRef::Node(child) = place.node.child_under_lock(index) else { break };
            place = place.child(child, index);
        }
        self.last = Some(place);
        place
    }

    /// Takes out the nodes below the covering one that are empty, as far as they may be.
    pub(crate) fn prune(&mut self, gather: &mut Gather<C::Backend>) {
        self.top().prune(gather);
    }

    #[inline]
    fn locked(&mut self, place: Place<'g, C>) -> Locked<'_, 'g, C> {
        // SAFETY: the node is held by this sub-tree: `top` since `lock`, the others because they
        // were reached from there through entries of the range. No other guard exists, since
        // `Locked` borrows the sub-tree mutably and never drops its own.
        let guard = ManuallyDrop::new(unsafe { place.node.guard_without_locking() });
        Locked { guard, start: place.start, tree: self }
    }
}

impl<C: Config> Drop for SubTree<'_, C> {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: the locks of the sub-tree are held by this value, which is used no more.
        unsafe { unlock(self.top, &self.range) }
    }
}

/// Locks the children of a locked node that `range` touches, and what is below them.
fn lock_below<'g, C: Config>(
    place: Place<'g, C>,
    range: &Range<Vaddr>,
    take: impl Take<'g, C>,
) -> Result<(), FindError> {
    let indices = <Geo<C>>::indices(place.start, place.node.level(), range);
    for (index, child) in place.node.children_at(indices.clone(), &ENTRY_UNDER_LOCK) {
        let ChildRef::Node(child) = child else { continue };
        let locked = take(child).and_then(|guard| {
            debug_assert!(!guard.is_stray(), "the parent is locked and not stray");
            if child.level() > Level::LEAF {
                lock_below(place.child(child, index), range, take)?;
            }
            let _ = ManuallyDrop::new(guard);
            Ok(())
        });
        if let Err(error) = locked {
            // SAFETY: the loop has locked the children before this one, and all below them.
            unsafe { unlock_children(place, indices.start..index, range) }
            return Err(error);
        }
    }
    Ok(())
}

/// Unlocks a node after everything below it that `range` touches.
///
/// # Safety
///
/// The caller holds all these locks, and no guard for any of them exists.
#[inline]
unsafe fn unlock<C: Config>(place: Place<'_, C>, range: &Range<Vaddr>) {
    if place.node.level() > Level::LEAF {
        let indices = <Geo<C>>::indices(place.start, place.node.level(), range);
        // SAFETY: the caller holds the locks below this node, too.
        unsafe { unlock_children(place, indices, range) }
    }
    // SAFETY: the caller holds the lock, and there is no guard but this one.
    drop(unsafe { place.node.guard_without_locking() });
}

/// Unlocks the children at `indices`, the last first, each after what `range` touches below it.
///
/// # Safety
///
/// As for [`unlock`], for these children.
#[inline(never)]
unsafe fn unlock_children<C: Config>(
    place: Place<'_, C>,
    indices: Range<usize>,
    range: &Range<Vaddr>,
) {
    for (index, child) in place.node.children_at(indices, &ENTRY_UNDER_LOCK).rev() {
        let ChildRef::Node(child) = child else { continue };
        if child.level() > Level::LEAF {
            // SAFETY: both contracts say the same.
            unsafe { unlock(place.child(child, index), range) }
        } else {
            // SAFETY: the caller holds the lock, and there is no guard but this one.
            drop(unsafe { child.guard_without_locking() });
        }
    }
}

/// Marks every node of a detached sub-tree stray and unlocks it. Returns how many frames of the
/// smallest size it maps.
///
/// # Safety
///
/// The caller holds the locks of all nodes of the sub-tree, and no guard for any of them exists.
unsafe fn set_adrift<C: Config>(node: NodeRef<'_, C>) -> u64 {
    // SAFETY: the caller holds the lock, and there is no guard but this one.
    let mut guard = unsafe { node.guard_without_locking() };
    let mut left = guard.children();
    let mut frames = 0;
    if guard.level() == Level::LEAF {
        frames = u64::from(left);
        left = 0;
    }
    let mut indices = 0..<Geo<C>>::ENTRIES;
    while left > 0 {
        let index = indices.next().expect("a node counts more children than it has");
        match guard.child(index) {
            ChildRef::Absent => continue,
            // SAFETY: the caller holds the locks of everything below, too.
            ChildRef::Node(child) => frames += unsafe { set_adrift(child) },
            ChildRef::Item(_) => frames += <Geo<C>>::entry_frames(guard.level()),
            ChildRef::Shared => unreachable!("only a root shares entries, and has no parent"),
        }
        left -= 1;
    }
    guard.mark_stray();
    frames
}

/// Whether a held node, and all below it, map nothing.
fn maps_nothing<C: Config>(node: NodeRef<'_, C>) -> bool {
    let is_empty = node.frame_ref().metadata().children.get() == 0;
    let mut children = node.children_at(0..<Geo<C>>::ENTRIES, &ENTRY_UNDER_LOCK);
    is_empty
        || children.all(|(_, child)| match child {
            ChildRef::Absent => true,
            ChildRef::Node(child) => maps_nothing(child),
            ChildRef::Item(_) | ChildRef::Shared => false,
        })
}

/// One node of a locked sub-tree, to work on.
pub(crate) struct Locked<'a, 'g, C: Config> {
    /// Never dropped: the sub-tree unlocks.
    guard: ManuallyDrop<Guard<'g, C>>,
    start: Vaddr,
    tree: &'a mut SubTree<'g, C>,
}

impl<C: Config> fmt::Debug for Locked<'_, '_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Locked({:?})", self.guard.node())
    }
}

impl<'g, C: Config> Locked<'_, 'g, C> {
    /// The level of the node.
    #[inline]
    pub(crate) fn level(&self) -> Level {
        self.guard.level()
    }

    /// Whether none of the node's entries is present.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.guard.children() == 0
    }

    /// What the node lives on.
    pub(crate) fn backend(&self) -> &'g C::Backend {
        self.guard.node().backend()
    }

    /// The guard, for runs over the entries of the node that are in the range.
    #[inline]
    pub(crate) fn guard(&mut self) -> &mut Guard<'g, C> {
        &mut self.guard
    }

    /// The index of the entry for an address of the node.
    #[inline]
    pub(crate) fn index(&self, vaddr: Vaddr) -> usize {
        <Geo<C>>::index(vaddr, self.level())
    }

    /// The indices of the entries that `range`, a part of the sub-tree's, touches.
    #[inline]
    pub(crate) fn indices(&self, range: &Range<Vaddr>) -> Range<usize> {
        let tree = &self.tree.range;
        debug_assert!(tree.start <= range.start && range.end <= tree.end, "a part of the range");
        <Geo<C>>::indices(self.start, self.level(), range)
    }

    /// The addresses that entry `index` translates.
    #[inline]
    pub(crate) fn slot(&self, index: usize) -> Range<Vaddr> {
        <Geo<C>>::slot(self.start, self.level(), index)
    }

    /// What entry `index` leads to.
    #[inline]
    pub(crate) fn child(&self, index: usize) -> ChildRef<'g, C> {
        self.guard.child(index)
    }

    /// What each of these entries leads to, with its index.
    #[inline]
    pub(crate) fn children(
        &self,
        indices: Range<usize>,
    ) -> impl Iterator<Item = (usize, ChildRef<'g, C>)> + use<'g, C> {
        self.guard.node().children_at(indices, &ENTRY_UNDER_LOCK)
    }

    /// Entry `index`, which the range touches.
    #[inline]
    pub(crate) fn entry(&mut self, index: usize) -> Entry<'_, 'g, C> {
        debug_assert!(self.indices(&self.tree.range).contains(&index), "an entry of the range");
        Entry::new(&mut self.guard, index)
    }

    /// The child node at `index`, whose entry the range touches.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub(crate) fn descend(&mut self, index: usize) -> Locked<'_, 'g, C> {
        assert!(self.indices(&self.tree.range).contains(&index), "the child is not locked");
        let ChildRef::Node(child) = self.child(index) else { panic!("there is no child node") };
        let place = Place { node: self.guard.node(), start: self.start }.child(child, index);
        self.tree.locked(place)
    }

    /// Whether the child node at `index` maps nothing.
    pub(crate) fn is_vacant(&self, index: usize) -> bool {
        matches!(self.child(index), ChildRef::Node(child) if maps_nothing(child))
    }

    /// Grows an absent entry of the range by a node, which the sub-tree holds.
    pub(crate) fn grow(&mut self, index: usize, stock: &mut Stock<C>) {
        let _ = ManuallyDrop::new(self.entry(index).grow(&[], stock));
    }

    /// Splits the huge page of an entry of the range. The sub-tree holds the node of parts.
    pub(crate) fn split(&mut self, index: usize, stock: &mut Stock<C>) {
        let bits = self.guard.read_raw(index);
        let _ = ManuallyDrop::new(self.entry(index).split_with(bits, stock));
    }

    /// Takes out the page at `index`, of which the range has all.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub(crate) fn take_page(&mut self, index: usize, gather: &mut Gather<C::Backend>) -> RawItem {
        let start = self.slot(index).start;
        let Taken::Item(item, raw) = self.entry(index).take() else { panic!("there is no page") };
        gather.owe_page(start);
        if let Some(reference) = item.retire() {
            gather.push(reference);
        }
        raw
    }

    /// Takes out the node at `index`, of which the range has all, with everything below it.
    /// Returns how many frames of the smallest size were mapped there.
    ///
    /// # Panics
    ///
    /// If there is no node, or the range has only a part of it: the rest is not locked then.
    pub(crate) fn detach(&mut self, index: usize, gather: &mut Gather<C::Backend>) -> u64 {
        let slot = self.slot(index);
        let range = &self.tree.range;
        let whole = range.start <= slot.start && slot.end <= range.end;
        assert!(whole, "a node is taken out by a range that has all of it");
        // SAFETY: the sub-tree holds the locks of all of the node, by the check above.
        unsafe { self.cut(index, gather) }
    }

    /// Takes out the node at `index`, and gives up its lock and those below it. Returns how many
    /// frames of the smallest size were mapped there.
    ///
    /// # Safety
    ///
    /// The sub-tree holds these locks.
    ///
    /// # Panics
    ///
    /// If there is no node.
    unsafe fn cut(&mut self, index: usize, gather: &mut Gather<C::Backend>) -> u64 {
        let Taken::Node(node, place) = self.entry(index).take() else {
            panic!("there is no child node")
        };
        // It may be below what was taken out.
        self.tree.last = None;
        // SAFETY: the sub-tree holds the locks, by the caller's contract, and gives them up: the
        // entry that led there is clear.
        let frames = unsafe { set_adrift(place) };
        gather.owe_everything();
        gather.push(node.erase());
        frames
    }

    /// Puts a huge page in the place of the node at `index`, of which the range has all, once
    /// `note` has said what it is: after the node was taken out and its translations were flushed,
    /// so that hardware sets no bit any more in what `note` reads. The node's items are given up.
    pub(crate) fn exchange_node(
        &mut self,
        index: usize,
        gather: &mut Gather<C::Backend>,
        note: impl FnOnce(NodeRef<'g, C>) -> RawItem,
    ) {
        let Taken::Node(node, place) = self.entry(index).take() else {
            panic!("there is no child node")
        };
        self.tree.last = None;
        gather.owe_everything();
        gather.flush();
        let page = note(place);
        // What the items owned is the huge page's from now on: who has found the node before finds
        // nothing there to look at, or to take out, once that page is gone. Hardware does not write
        // the entries: it was made to forget the node.
        for part in 0..<Geo<C>>::ENTRIES {
            place.frame_ref().entry(part).store(0, &CLEAR_ENTRY);
        }
        place.frame_ref().metadata().children.set(0);
        self.entry(index).put_raw(page);
        // SAFETY: the sub-tree holds the lock, since the range has all of the node, and there is no
        // node below it: it was full of items.
        unsafe { set_adrift(place) };
        gather.push(node.erase());
    }

    /// Takes out the empty nodes that the range touches below this one.
    fn prune(&mut self, gather: &mut Gather<C::Backend>) {
        if self.level() == Level::LEAF {
            return;
        }
        for index in self.indices(&self.tree.range.clone()) {
            let ChildRef::Node(child) = self.child(index) else { continue };
            self.descend(index).prune(gather);
            let is_empty = child.frame_ref().metadata().children.get() == 0;
            if is_empty && self.entry(index).is_removable() {
                // SAFETY: the sub-tree holds the lock, since the range touches the node, and there
                // are no nodes below an empty one.
                unsafe { self.cut(index, gather) };
            }
        }
    }
}
