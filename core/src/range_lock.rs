//! Range lock: which nodes a range of addresses holds, and how it takes and gives back their locks.
//!
//! A range holds one *sub-tree*: a locked node at the top, the *covering* node, and the lock of
//! every node below it that the range touches. No other CPU changes any of them, or the entries of
//! the range in them, until it is dropped. It keeps no list: which nodes it holds can be read off
//! the tree itself, which stands still, being locked.
//!
//! *Lock.* From the covering node down, each child is locked while its parent is, so no child is
//! stray. Of two ranges that overlap, one has the other's covering node at or below its own. The
//! CPU that holds the upper one may wait for the lower one, whose holder waits for no node above
//! its own. So there is no deadlock, whatever the order among siblings.
//!
//! *Grow, split, detach.* What is added below is born locked and belongs to the sub-tree; what is
//! taken out is set adrift at once. What is put where a translation may still be cached is put
//! there after that was flushed.
//!
//! *Unlock.* In reverse: a node after everything below it, the covering node last.
//!
//! Nodes are worked on one at a time, through a value that borrows the sub-tree mutably. So
//! there is one guard at a time, and only for nodes that are held. That is what makes the cursor
//! safe code.

use core::fmt;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::Range;

use crate::address::{FRAME_SIZE, Level, Offset, Vaddr};
use crate::config::{Config, Geo};
use crate::entry::{ChildRef, Entry, exchange_word, set_adrift};
use crate::error::LockError;
use crate::find::find;
use crate::format::RawItem;
use crate::geometry::{Arithmetic, Geometry};
use crate::guard::{Guard, Take};
use crate::node::{NodeRef, RootRef};
use crate::obligation::{Obligation, Owed};
use crate::sites::site;
use crate::stock::Stock;
use crate::sync::{Entries, PlainCell, Word};

/// Locks every node of `range` that exists, and the nodes down to the one that covers it if they
/// do not.
// Always: what the range is made into is written where the caller wants it.
#[inline(always)]
pub(crate) fn lock_range<'g, C: Config>(
    root: RootRef<'g, C>,
    range: Range<Vaddr>,
    take: impl Take<'g, C>,
) -> Result<SubTree<'g, C>, LockError> {
    let range = check_range::<C>(range)?;
    let top = find(root, range.start, <Geo<C>>::covering_level(&range), take)?;
    SubTree::lock(top, range, take)
}

/// The places of a range that can be locked or looked at.
#[inline]
pub(crate) fn check_range<C: Config>(range: Range<Vaddr>) -> Result<Range<Offset>, LockError> {
    if range.start == range.end {
        return Err(LockError::Empty { at: range.start });
    }
    let not_canonical = |vaddr| LockError::NotCanonical { vaddr };
    let start = <Geo<C>>::offset(range.start).ok_or(not_canonical(range.start))?;
    let end = <Geo<C>>::end_offset(range.end).ok_or(not_canonical(range.end))?;
    if start == end {
        return Err(LockError::Empty { at: range.start });
    }
    if start > end {
        return Err(LockError::Reversed { range });
    }
    let bounds = [range.start, range.end];
    if let Some(&vaddr) = bounds.iter().find(|at| !at.is_aligned(FRAME_SIZE)) {
        return Err(LockError::Unaligned { vaddr });
    }
    let [first, last] = [C::MANAGED.start, C::MANAGED.end]
        .map(|index| Offset(index as u64 * <Geo<C>>::entry_span(<Geo<C>>::ROOT)));
    if start < first || end > last {
        return Err(LockError::NotManaged { range });
    }
    Ok(start..end)
}

/// The locks of a covering node and of everything below it that a range touches.
pub(crate) struct SubTree<'g, C: Config> {
    top: Place<'g, C>,
    range: Range<Offset>,
    /// The node below the top that was worked on last, if there was one: held, as the top is.
    last: Option<Place<'g, C>>,
    _stays_on_its_cpu: PhantomData<*const ()>,
}

/// A node, and where the addresses that it translates begin.
struct Place<'g, C: Config> {
    node: NodeRef<'g, C>,
    start: Offset,
}

copied!(Place<C: Config>);

impl<'g, C: Config> Place<'g, C> {
    /// The child at `index`.
    #[inline]
    fn child(self, node: NodeRef<'g, C>, index: usize) -> Self {
        Self { node, start: <Geo<C>>::slot(self.start, self.node.level(), index).start }
    }

    #[inline]
    fn contains(self, offset: Offset) -> bool {
        offset.align_down(<Geo<C>>::node_span(self.node.level())) == self.start
    }
}

impl<C: Config> fmt::Debug for SubTree<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SubTree({:?}, {:?})", self.top.node, <Geo<C>>::vaddrs(&self.range))
    }
}

impl<'g, C: Config> SubTree<'g, C> {
    /// Locks what `range` touches below `top`, which covers the range.
    ///
    /// # Errors
    ///
    /// That of `take`; everything is then unlocked.
    #[inline(always)]
    fn lock(
        top: Guard<'g, C>,
        range: Range<Offset>,
        take: impl Take<'g, C>,
    ) -> Result<Self, LockError> {
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
    pub(crate) fn range(&self) -> &Range<Offset> {
        &self.range
    }

    /// The covering node.
    #[inline]
    pub(crate) fn top(&mut self) -> Locked<'_, 'g, C> {
        let top = self.top;
        self.locked(top)
    }

    /// The lowest node with an entry for a place of the range, but none below `floor`.
    // Always: out of line, the result would go through memory.
    #[inline(always)]
    pub(crate) fn seek(&mut self, offset: Offset, floor: Level) -> Locked<'_, 'g, C> {
        debug_assert!(self.range.contains(&offset), "a cursor stays in its range");
        let place = match self.last {
            _ if self.top.node.level() == floor => self.top,
            Some(last) if last.node.level() == floor && last.contains(offset) => last,
            _ => self.descend(offset, floor),
        };
        self.locked(place)
    }

    /// The lowest node for a place that is not below `floor`, which is below the covering one.
    #[inline(always)]
    fn descend(&mut self, offset: Offset, floor: Level) -> Place<'g, C> {
        let mut place = match self.last {
            Some(last) if last.node.level() >= floor && last.contains(offset) => last,
            _ => self.top,
        };
        while place.node.level() > floor {
            let index = <Geo<C>>::index_of(offset, place.node.level());
            let ChildRef::Node(child) = place.node.child_under_lock(index) else { break };
            place = place.child(child, index);
        }
        self.last = Some(place);
        place
    }

    #[inline]
    fn locked(&mut self, place: Place<'g, C>) -> Locked<'_, 'g, C> {
        // SAFETY: the node is held by this sub-tree: `top` since `lock`, the others because they
        // were reached from there through entries of the range. No other guard exists, since
        // `Locked` borrows the sub-tree mutably and never drops its own.
        let guard = ManuallyDrop::new(unsafe { Guard::of(place.node) });
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
    range: &Range<Offset>,
    take: impl Take<'g, C>,
) -> Result<(), LockError> {
    let indices = <Geo<C>>::indices(place.start, place.node.level(), range);
    for (index, child) in place.node.children_at(indices, site!(ENTRY_UNDER_LOCK)) {
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
            unsafe { unlock_children(place, index, range) }
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
unsafe fn unlock<C: Config>(place: Place<'_, C>, range: &Range<Offset>) {
    if place.node.level() > Level::LEAF {
        // SAFETY: the caller holds the locks below this node, too.
        unsafe { unlock_children(place, <Geo<C>>::ENTRIES, range) }
    }
    // SAFETY: the caller holds the lock, and there is no guard but this one.
    drop(unsafe { Guard::of(place.node) });
}

/// Unlocks the children that `range` touches below index `end`, the last first, each after what is
/// touched below it.
///
/// # Safety
///
/// As for [`unlock`], for these children.
#[inline(never)]
unsafe fn unlock_children<C: Config>(place: Place<'_, C>, end: usize, range: &Range<Offset>) {
    let indices = <Geo<C>>::indices(place.start, place.node.level(), range);
    let indices = indices.start..indices.end.min(end);
    for (index, child) in place.node.children_at(indices, site!(ENTRY_UNDER_LOCK)).rev() {
        let ChildRef::Node(child) = child else { continue };
        // SAFETY: both contracts say the same.
        unsafe { unlock(place.child(child, index), range) }
    }
}

/// Whether a held node, and all below it, map nothing.
fn maps_nothing<C: Config>(node: NodeRef<'_, C>) -> bool {
    let is_empty = node.frame_ref().metadata().children.get() == 0;
    let mut children = node.children_at(0..<Geo<C>>::ENTRIES, site!(ENTRY_UNDER_LOCK));
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
    start: Offset,
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

    /// The index of the entry for a place in the node.
    #[inline]
    pub(crate) fn index(&self, offset: Offset) -> usize {
        <Geo<C>>::index_of(offset, self.level())
    }

    /// The indices of the entries that `range`, a part of the sub-tree's, touches.
    #[inline]
    pub(crate) fn indices(&self, range: &Range<Offset>) -> Range<usize> {
        let tree = &self.tree.range;
        debug_assert!(tree.start <= range.start && range.end <= tree.end, "a part of the range");
        <Geo<C>>::indices(self.start, self.level(), range)
    }

    /// The places that entry `index` translates.
    #[inline]
    pub(crate) fn slot(&self, index: usize) -> Range<Offset> {
        <Geo<C>>::slot(self.start, self.level(), index)
    }

    /// The addresses that entry `index` translates.
    #[inline]
    pub(crate) fn addresses(&self, index: usize) -> Range<Vaddr> {
        <Geo<C>>::vaddrs(&self.slot(index))
    }

    /// What is owed for the page at entry `index`.
    #[inline]
    pub(crate) fn flush_of(&self, index: usize) -> Owed {
        let first = <Geo<C>>::vaddr(self.slot(index).start);
        Owed::page(first, <Geo<C>>::entry_span(self.level()))
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
        self.guard.node().children_at(indices, site!(ENTRY_UNDER_LOCK))
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

    /// Whether what entry `index` leads to may be taken out.
    pub(crate) fn is_removable(&mut self, index: usize) -> bool {
        self.entry(index).check_removable().is_ok()
    }

    /// Puts a page, raw and checked, at an absent entry of the range.
    // Always: what is put, and that nothing is owed, is known where a page is mapped.
    #[inline(always)]
    pub(crate) fn put(
        &mut self,
        index: usize,
        raw: RawItem,
        owed: &mut Obligation<'_, C::Backend>,
    ) {
        owed.settle(&self.addresses(index));
        let flush = self.flush_of(index);
        self.entry(index).put(raw, flush, owed);
    }

    /// Grows an absent entry of the range by a node, which the sub-tree holds.
    pub(crate) fn grow(
        &mut self,
        index: usize,
        stock: &mut Stock<C>,
        owed: &mut Obligation<'_, C::Backend>,
    ) {
        owed.settle(&self.addresses(index));
        let _ = ManuallyDrop::new(self.entry(index).grow(&[], stock, owed));
    }

    /// Splits the huge page of an entry of the range. The sub-tree holds the node of parts.
    pub(crate) fn split(
        &mut self,
        index: usize,
        stock: &mut Stock<C>,
        owed: &mut Obligation<'_, C::Backend>,
    ) {
        let _ = ManuallyDrop::new(self.entry(index).split_with(stock, owed));
    }

    /// Takes out the page at `index`. The range must contain the whole page.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub(crate) fn take_page(
        &mut self,
        index: usize,
        owed: &mut Obligation<'_, C::Backend>,
    ) -> RawItem {
        let flush = self.flush_of(index);
        let ChildRef::Item(page) = self.entry(index).take(flush, owed) else {
            panic!("there is no page")
        };
        *page
    }

    /// Takes out the node at `index` with everything below it. The range must contain all of the
    /// node. Returns how many frames of the smallest size were mapped there.
    ///
    /// # Panics
    ///
    /// If there is no node, or the range has only a part of it: the rest is not locked then.
    pub(crate) fn detach(&mut self, index: usize, owed: &mut Obligation<'_, C::Backend>) -> u64 {
        self.check_whole(index);
        let node = self.take_node(index, owed);
        // SAFETY: the sub-tree holds the locks of all of the node, by the check above.
        unsafe { Self::give_adrift(node) }
    }

    /// Puts a huge page in the place of the node at `index`, which is full of pages. The range must
    /// contain all of the node. The page is noted as accessed and dirty where any of those were, at
    /// the instant when hardware could set no further bit. Their items are given up.
    ///
    /// # Panics
    ///
    /// As for [`detach`](Self::detach).
    pub(crate) fn exchange_node(
        &mut self,
        index: usize,
        mut page: RawItem,
        owed: &mut Obligation<'_, C::Backend>,
    ) {
        self.check_whole(index);
        let node = self.take_node(index, owed);
        // Hardware may still be below, through its caches of upper levels. It is made to forget
        // them before the bits are collected, and before the huge page is there beside the pages.
        owed.flush();
        let entries = node.frame_ref().entries();
        for part in 0..<Geo<C>>::ENTRIES {
            // Cleared, too: a reader that has found the node before finds nothing to look at there,
            // once the huge page is gone.
            let word = entries.get(part);
            let bits = word.load(site!(ENTRY_UNDER_LOCK));
            // weaker: the fence of the flush above has released what came before.
            let bits = exchange_word::<C::Format, _>(word, bits, 0, site!(CLEAR_ENTRY));
            if let ChildRef::Item(part) = node.decode(part, bits) {
                page.note(part.property);
            }
        }
        node.frame_ref().metadata().children.set(0);
        self.put(index, page, owed);
        // SAFETY: the sub-tree holds the lock of the node, by the check above, and there is no node
        // below it: it was full of pages.
        unsafe { Self::give_adrift(node) };
    }

    /// Takes out the empty nodes that the range touches below this one.
    pub(crate) fn prune(&mut self, owed: &mut Obligation<'_, C::Backend>) {
        if self.level() == Level::LEAF {
            return;
        }
        for index in self.indices(&self.tree.range.clone()) {
            let ChildRef::Node(_) = self.child(index) else { continue };
            let mut child = self.descend(index);
            child.prune(owed);
            if child.is_empty() && self.is_removable(index) {
                let node = self.take_node(index, owed);
                // SAFETY: the sub-tree holds the lock, since the range touches the node, and there
                // are no nodes below an empty one.
                unsafe { Self::give_adrift(node) };
            }
        }
    }

    /// Checks that the range contains all that entry `index` translates.
    fn check_whole(&self, index: usize) {
        let (slot, range) = (self.slot(index), &self.tree.range);
        let whole = range.start <= slot.start && slot.end <= range.end;
        assert!(whole, "a node is taken out by a range that has all of it");
    }

    /// Takes out the node at `index`, whose lock is still held.
    fn take_node(&mut self, index: usize, owed: &mut Obligation<'_, C::Backend>) -> NodeRef<'g, C> {
        let ChildRef::Node(node) = self.entry(index).take(Owed::Everything, owed) else {
            panic!("there is no child node")
        };
        // It may be below what was taken out.
        self.tree.last = None;
        node
    }

    /// Sets a node adrift that was taken out.
    ///
    /// # Safety
    ///
    /// The sub-tree holds the locks of the node and of all nodes below it, and gives them up.
    unsafe fn give_adrift(node: NodeRef<'g, C>) -> u64 {
        // SAFETY: the caller holds these locks, and there is no guard for any of them but this one.
        let held = |node: NodeRef<'g, C>| unsafe { Guard::of(node) };
        set_adrift(held(node), &held)
    }
}
