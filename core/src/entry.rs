//! One entry under its node's lock: look, replace, grow, split, protect.
//!
//! Everything that changes an entry is here, once: cursors, pruning and merging use the same
//! functions as the owner of a bare [`Guard`].
//!
//! *Hardware writes too.* The MMU sets accessed and dirty bits of a present entry at any time,
//! lock or no lock. So an entry that hardware may still be writing is changed with a
//! read-modify-write, and what hardware has set until then is in the value it returns. Where
//! hardware cannot write (the entry is absent, or both bits are set already) a plain store does,
//! which is four times cheaper.
//!
//! *What is taken out* may still be in use by walkers, and by TLBs. So it goes into an
//! [obligation](crate::obligation): it is flushed, then retired. The flush is noted before the
//! entry is changed, because code of the item's that runs afterwards may panic. A node that is
//! taken out is set adrift: it is marked stray and unlocked, with everything below it.
//!
//! *Growth.* A new child is locked before it is published: otherwise another CPU could lock it,
//! find it empty, and begin to change what the growing CPU believes to have to itself.

use core::fmt;

use crate::address::{Level, Paddr};
pub use crate::child::{Child, ChildRef, ItemRef};
use crate::config::{Config, Geo};
use crate::error::{Refusal, Refused};
use crate::format::{Decoded, EntryFormat, Fence, PageFlags, Property, RawItem};
use crate::geometry::Geometry;
use crate::guard::Guard;
use crate::item::{Incoming, Item};
use crate::node::{Node, NodeRef, managed};
use crate::obligation::{Obligation, Owed};
use crate::reclaim::Detached;
use crate::sites::{Site, site};
use crate::space::Space;
use crate::stock::Stock;
use crate::sync::{Backend, Event, RawLock, Word};

/// One entry of a locked node.
pub struct Entry<'a, 'g, C: Config> {
    guard: &'a mut Guard<'g, C>,
    index: usize,
}

impl<C: Config> fmt::Debug for Entry<'_, '_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entry({:?}[{}])", self.guard.node(), self.index)
    }
}

impl<'a, 'g, C: Config> Entry<'a, 'g, C> {
    /// `index` is in range: [`Guard::entry`] has checked it.
    pub(crate) fn new(guard: &'a mut Guard<'g, C>, index: usize) -> Self {
        Self { guard, index }
    }

    /// What the entry leads to.
    pub fn child(&self) -> ChildRef<'g, C> {
        self.backend().began("Entry::child");
        self.guard.child(self.index)
    }

    /// Puts `child` in the place of what is there. A node that is taken out is marked stray, with
    /// everything below it, before this returns: its lock and those below it are waited for, so the
    /// caller holds none of them. What other CPUs do below meanwhile goes with the node; only a
    /// [cursor](crate::cursor) excludes them.
    ///
    /// What was there is flushed when the result is retired or dropped. Until then CPUs may go on
    /// using it beside the new child, and until then the caller should not give the lock back.
    ///
    /// A node that is put in is locked for a moment. One whose lock is held is refused as in use,
    /// and not waited for: the caller may be its holder.
    ///
    /// # Errors
    ///
    /// [`Refused`], with the child, if it does not fit; the entry is then as it was.
    pub fn replace(&mut self, child: Child<C>) -> Result<Detached<'g, C>, Refused<Child<C>>> {
        self.backend().began("Entry::replace");
        let level = self.guard.level();
        if let Err(reason) = self.check_removable() {
            return Err(Refused { reason, back: child });
        }
        let fences = &C::Format::FENCES;
        let (bits, site, appears) = match child {
            Child::Absent => (0, site!(CLEAR_ENTRY), Fence::Nothing),
            Child::Node(node) => match self.admit_node(&node) {
                Ok(()) => {
                    (C::Format::node(node.into_raw()), site!(PUBLISH_NODE), fences.node_appears)
                }
                Err(reason) => return Err(Refused { reason, back: Child::Node(node) }),
            },
            Child::Item(item) => {
                let item = Incoming::<C>::new(self.backend(), item);
                match item.check(level) {
                    Ok(()) => {
                        (C::Format::item(item.into_raw()), site!(PUBLISH_ITEM), fences.page_appears)
                    }
                    Err(reason) => {
                        return Err(Refused { reason, back: Child::Item(item.give_back()) });
                    }
                }
            }
        };
        let mut owed = Obligation::new(Space::any(self.backend()));
        // The address is not known here; where a node is put over a page, it would not do.
        let was = self.exchange(bits, site, Owed::Everything, appears, &mut owed);
        if let ChildRef::Node(node) = was {
            set_adrift(node.lock(), &NodeRef::lock);
        }
        Ok(Detached::new(was, owed))
    }

    /// Takes out what is there: [`replace`](Self::replace) with nothing.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotManaged`] if the entry belongs to another table, [`Refusal::Permanent`] if it
    /// stays.
    pub fn detach(&mut self) -> Result<Detached<'g, C>, Refusal> {
        self.backend().began("Entry::detach");
        self.replace(Child::Absent).map_err(|refused| refused.reason)
    }

    /// Allocates a child of the level below, if the entry is absent. The child is returned
    /// locked, and was so before it could be reached. As long as it is, its parent's entries cannot
    /// be changed: a detachment would wait for the child's lock, for ever.
    ///
    /// ```compile_fail,E0499
    /// # use weft_core::{config::Config, entry::Entry};
    /// fn wait_for_ever<C: Config>(mut entry: Entry<'_, '_, C>) {
    ///     let child = entry.allocate_if_absent();
    ///     entry.detach();
    ///     drop(child);
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Refusal::Present`] if there is something, [`Refusal::Leaf`] at the lowest level,
    /// [`Refusal::NotManaged`] or [`Refusal::OutOfMemory`]; the entry is then as it was.
    pub fn allocate_if_absent(&mut self) -> Result<Guard<'_, C>, Refusal> {
        self.backend().began("Entry::allocate_if_absent");
        self.guard.level().below().ok_or(Refusal::Leaf)?;
        self.check_managed()?;
        if !matches!(self.child(), ChildRef::Absent) {
            return Err(Refusal::Present);
        }
        let mut stock = Stock::of(self.backend(), 1)?;
        Ok(self.grow(&[], &mut stock, &mut Obligation::new(Space::any(self.backend()))))
    }

    /// Makes an absent, managed entry above the leaves lead to a chain of nodes from `stock`. The
    /// chain goes on at the indices of `path`, one for each node of it but the lowest, from the
    /// top down. It is published whole, with its lowest node locked, which is returned.
    ///
    /// # Panics
    ///
    /// If the chain is longer than the table is high, or the stock smaller than the chain.
    pub(crate) fn grow(
        &mut self,
        path: &[usize],
        stock: &mut Stock<C>,
        owed: &mut Obligation<'_, C::Backend>,
    ) -> Guard<'g, C> {
        let top = self.guard.level().below().expect("entries of leaves do not grow");
        let level = Level::new(top.as_u8() - path.len() as u8);
        let node = stock.take(level, 0, |_| 0);
        node.frame_ref().metadata().lock.make_held();
        let lowest = node.into_raw();
        let mut frame = lowest;
        for (depth, &step) in path.iter().enumerate().rev() {
            let below = C::Format::node(frame);
            let level = Level::new(top.as_u8() - depth as u8);
            let node = stock.take(level, 1, |index| if index == step { below } else { 0 });
            node.frame_ref().metadata().lock.make_free();
            frame = node.into_raw();
        }
        owed.owe_absent(Owed::Everything.by(C::Format::FENCES.node_appears));
        self.fill(C::Format::node(frame), site!(PUBLISH_NODE));
        self.born_held(lowest, level)
    }

    /// Replaces a huge page by a node of pages of the level below that map the same frames with
    /// the same property. The node is returned locked, and was so before it could be reached. As
    /// long as it is, its parent's entries cannot be changed.
    ///
    /// No translation changes, but TLBs hold the huge one: it is flushed before this returns.
    ///
    /// # Errors
    ///
    /// [`Refusal::NoHugePage`] if there is none, [`Refusal::NotManaged`], [`Refusal::Permanent`] or
    /// [`Refusal::OutOfMemory`]; the entry is then as it was.
    pub fn split(&mut self) -> Result<Guard<'_, C>, Refusal> {
        self.backend().began("Entry::split");
        self.check_removable()?;
        let is_page = matches!(self.child(), ChildRef::Item(_));
        if self.guard.level() == Level::LEAF || !is_page {
            return Err(Refusal::NoHugePage);
        }
        let mut stock = Stock::of(self.backend(), 1)?;
        Ok(self.split_with(&mut stock, &mut Obligation::new(Space::any(self.backend()))))
    }

    /// As [`split`](Self::split), of a huge page that is there, with a node from `stock`.
    pub(crate) fn split_with(
        &mut self,
        stock: &mut Stock<C>,
        owed: &mut Obligation<'_, C::Backend>,
    ) -> Guard<'g, C> {
        // The address is not known here.
        owed.owe(Owed::Everything.by(C::Format::FENCES.page_splits));
        let level = self.guard.level();
        let below = level.below().expect("huge pages are above the leaves");
        let fill = |bits: u64| {
            let Decoded::Item(huge) = C::Format::decode(bits, level) else {
                unreachable!("only the lock holder changes what an entry leads to")
            };
            let attributes =
                RawItem { frame: Paddr::new(0), level: below, property: huge.property };
            let attributes = C::Format::item(attributes);
            let span = <Geo<C>>::entry_span(below);
            move |index| attributes ^ C::Format::frame(huge.frame.plus(index as u64 * span))
        };
        let mut bits = self.guard.read_raw(self.index);
        let node = stock.take(below, <Geo<C>>::ENTRIES, fill(bits));
        let child = node.frame_ref();
        child.metadata().lock.make_held();
        let frame = C::Format::node(node.paddr());
        while let Err(found) =
            self.word().compare_exchange(bits, frame, site!(PUBLISH_NODE), site!(ENTRY_RETRY))
        {
            // Hardware has set a bit since: every part has to have it.
            bits = found;
            let part = fill(bits);
            for index in 0..<Geo<C>>::ENTRIES {
                child.entry(index).store(part(index), site!(ENTRY_INIT));
            }
        }
        self.born_held(node.into_raw(), below)
    }

    /// The guard of a node that the entry leads to, and whose lock was born held.
    fn born_held(&self, frame: Paddr, level: Level) -> Guard<'g, C> {
        // SAFETY: the entry of a node that 'g keeps leads to the node, or to a chain that ends with
        // it, within the section of 'g.
        let node = unsafe { NodeRef::new(self.backend(), frame, level) };
        // SAFETY: the lock was made held for this CPU, and no guard exists.
        unsafe { Guard::of(node) }
    }

    /// Changes the property of the page that is there, and returns the property before, with the
    /// accessed and dirty flags as hardware had set them at the instant of the change. What the
    /// change forbids is flushed before this returns.
    ///
    /// `change` may run more than once, with a newer property each time. It runs under the lock, as
    /// [`crate::sync`] says. It can [withhold](PageFlags::WITHHELD) a page, and give it back. It
    /// cannot alter [`PageFlags::TRACKED`] or [`PageFlags::MARK`]: the old value is kept, and a
    /// mark stays withheld. Nor can it make a page global in a table whose root can go.
    ///
    /// # Errors
    ///
    /// [`Refusal::NoPage`] if the entry maps no page, [`Refusal::NotManaged`] if it is another
    /// table's.
    pub fn protect(
        &mut self,
        mut change: impl FnMut(Property) -> Property,
    ) -> Result<Property, Refusal> {
        self.backend().began("Entry::protect");
        self.check_managed()?;
        let ChildRef::Item(_) = self.child() else { return Err(Refusal::NoPage) };
        let mut owed = Obligation::new(Space::any(self.backend()));
        Ok(self.protect_page(&mut change, Owed::Everything, &mut owed))
    }

    /// As [`protect`](Self::protect), of a page that is there, with what it owes noted in `owed`.
    pub(crate) fn protect_page(
        &mut self,
        change: &mut impl FnMut(Property) -> Property,
        flush: Owed,
        owed: &mut Obligation<'_, C::Backend>,
    ) -> Property {
        let level = self.guard.level();
        let mut bits = self.guard.read_raw(self.index);
        loop {
            let Decoded::Item(old) = C::Format::decode(bits, level) else {
                unreachable!("only the lock holder changes what an entry leads to")
            };
            let property = changed::<C>(old.property, change, flush, owed);
            let new = C::Format::item(RawItem { property, ..old });
            match exchange_if::<C::Format, _>(self.word(), bits, new) {
                Ok(()) => return old.property,
                Err(found) => bits = found,
            }
        }
    }

    /// Puts an item, which has been [checked](Incoming::check), where nothing is. The owner of what
    /// the raw form stands for gives that up.
    #[inline]
    pub(crate) fn put(&mut self, raw: RawItem, flush: Owed, owed: &mut Obligation<'_, C::Backend>) {
        self.put_down(C::Format::item(raw), flush, owed);
    }

    /// Puts a page, which has been [checked](Incoming::check), in the place of the page that is
    /// there. That is `owed` from now on, and what is returned is borrowed.
    pub(crate) fn put_over(
        &mut self,
        raw: RawItem,
        flush: Owed,
        owed: &mut Obligation<'_, C::Backend>,
    ) -> ChildRef<'g, C> {
        let appears = C::Format::FENCES.page_appears;
        self.exchange(C::Format::item(raw), site!(PUBLISH_ITEM), flush, appears, owed)
    }

    /// Takes out what is there: it is `owed` from now on, and what is returned is borrowed. A node
    /// is not adrift yet.
    pub(crate) fn take(
        &mut self,
        flush: Owed,
        owed: &mut Obligation<'_, C::Backend>,
    ) -> ChildRef<'g, C> {
        self.exchange(0, site!(CLEAR_ENTRY), flush, Fence::Nothing, owed)
    }

    /// Makes an absent entry lead somewhere.
    #[inline]
    fn fill(&mut self, bits: u64, site: &'static Site) {
        // Absent, so hardware does not write it: a store is enough.
        self.word().store(bits, site);
        self.guard.set_children(self.guard.children() + 1);
    }

    /// Takes out the page that is there, and what owns it: the caller puts these bits into another
    /// entry of the same level. No translation of the page is left once what is `owed` is flushed.
    pub(crate) fn carry_away(&mut self, flush: Owed, owed: &mut Obligation<'_, C::Backend>) -> u64 {
        // weaker: the flush's fence comes before the page appears anywhere else, and queries
        // without locks are not promised which page of a range goes first.
        self.exchange_bits(0, site!(CLEAR_ENTRY), flush, Fence::Nothing, owed)
    }

    /// Puts the page that was [carried away](Self::carry_away) from another entry where nothing is.
    #[inline]
    pub(crate) fn put_down(
        &mut self,
        bits: u64,
        flush: Owed,
        owed: &mut Obligation<'_, C::Backend>,
    ) {
        debug_assert!(matches!(self.child(), ChildRef::Absent), "something is there already");
        owed.owe_absent(flush.by(C::Format::FENCES.page_appears));
        self.fill(bits, site!(PUBLISH_ITEM));
    }

    /// Writes `bits`, keeping the count. What the entry owned is `owed` from now on; if it was
    /// nothing that hardware could use, what caches hold of it, as `appears` says.
    fn exchange(
        &mut self,
        bits: u64,
        site: &'static Site,
        flush: Owed,
        appears: Fence,
        owed: &mut Obligation<'_, C::Backend>,
    ) -> ChildRef<'g, C> {
        let old = self.exchange_bits(bits, site, flush, appears, owed);
        let was = self.guard.node().decode(self.index, old);
        match was {
            ChildRef::Absent | ChildRef::Shared => {}
            ChildRef::Node(node) => {
                self.backend().observe(Event::Detached(node.paddr()));
                // SAFETY: the entry owned a reference, given up by `into_raw` when it was
                // written; it was taken out of the entry under the lock, once.
                owed.push(unsafe { Node::<C>::from_raw(self.backend(), node.paddr()) }.erase());
            }
            // SAFETY: the item was taken out of the entry under the lock, once.
            ChildRef::Item(item) => unsafe { retire_item::<C>(self.backend(), *item, owed) },
        }
        was
    }

    /// As [`exchange`](Self::exchange), but what the entry owned is the caller's.
    fn exchange_bits(
        &mut self,
        bits: u64,
        site: &'static Site,
        flush: Owed,
        appears: Fence,
        owed: &mut Obligation<'_, C::Backend>,
    ) -> u64 {
        let old = self.guard.read_raw(self.index);
        let level = self.guard.level();
        if level > Level::LEAF && matches!(C::Format::decode(old, level), Decoded::Node(_)) {
            owed.owe_node(flush.by(C::Format::FENCES.node_goes));
        } else if C::Format::is_present(old) {
            owed.owe(flush.by(C::Format::FENCES.page_goes));
        } else {
            owed.owe_absent(flush.by(appears));
        }
        let old = exchange_word::<C::Format, _>(self.word(), old, bits, site);
        let children = self.guard.children() + u16::from(bits != 0) - u16::from(old != 0);
        self.guard.set_children(children);
        old
    }

    /// Whether a node fits here; if so, it has a parent from now on.
    fn admit_node(&self, node: &Node<C>) -> Result<(), Refusal> {
        assert!(node.backend() == self.backend(), "the node is one of another machine");
        let (level, found) = (self.guard.level(), node.level());
        if level.below() != Some(found) {
            return Err(Refusal::WrongLevel { entry: level, child: found });
        }
        // SAFETY: the handle keeps the node for as long as this borrow is used.
        let node = unsafe { NodeRef::<C>::new(self.backend(), node.paddr(), found) };
        let attached = node.try_lock().is_some_and(|mut guard| guard.attach());
        if attached { Ok(()) } else { Err(Refusal::InUse { node: node.paddr() }) }
    }

    /// Whether what is here may be taken out: it is ours, and no other root has a copy of it.
    #[inline]
    pub(crate) fn check_removable(&self) -> Result<(), Refusal> {
        self.check_managed()?;
        let stays = C::ROOT_ENTRIES_STAY && self.guard.level() == <Geo<C>>::ROOT;
        if stays && self.guard.read_raw(self.index) != 0 {
            return Err(Refusal::Permanent { index: self.index });
        }
        Ok(())
    }

    fn check_managed(&self) -> Result<(), Refusal> {
        if managed::<C>(self.guard.level()).contains(&self.index) {
            Ok(())
        } else {
            Err(Refusal::NotManaged { index: self.index })
        }
    }

    fn word(&self) -> &'g <C::Backend as Backend>::Word {
        self.guard.node().frame_ref().entry(self.index)
    }

    fn backend(&self) -> &'g C::Backend {
        self.guard.node().backend()
    }
}

/// Writes `new` over the entry that was `old` when its lock holder looked, and returns what was
/// there, with what hardware has set.
#[inline]
pub(crate) fn exchange_word<F: EntryFormat, W: Word>(
    word: &W,
    old: u64,
    new: u64,
    site: &'static Site,
) -> u64 {
    if F::hardware_may_write(old) {
        word.swap(new, site)
    } else {
        word.store(new, site);
        old
    }
}

/// Writes `new` over the entry `old`, unless hardware has set a bit since it was read: then nothing
/// is written, and the error is what is there.
#[inline]
pub(crate) fn exchange_if<F: EntryFormat, W: Word>(
    word: &W,
    old: u64,
    new: u64,
) -> Result<(), u64> {
    if F::hardware_may_write(old) {
        word.compare_exchange(old, new, site!(PROTECT_ENTRY), site!(ENTRY_RETRY)).map(drop)
    } else {
        word.store(new, site!(PROTECT_ENTRY));
        Ok(())
    }
}

/// What `change` makes of a property. What the change forbids is owed from now on: it may panic
/// later.
pub(crate) fn changed<C: Config>(
    old: Property,
    change: &mut impl FnMut(Property) -> Property,
    flush: Owed,
    owed: &mut Obligation<'_, C::Backend>,
) -> Property {
    let mut new = change(old);
    new.flags = new.flags.difference(PageFlags::FIXED) | old.flags & PageFlags::FIXED;
    if new.flags.contains(PageFlags::MARK) {
        new.flags.insert(PageFlags::WITHHELD);
    }
    if !C::ROOT_ENTRIES_STAY {
        new.flags.remove(PageFlags::GLOBAL);
    }
    if C::Format::must_flush(old, new) {
        owed.owe(flush);
    }
    new
}

/// Gives up the item that an entry held, to a grace period if it needs one.
///
/// # Safety
///
/// The entry owned the item, given up by `into_raw` when it was written, or as a part of one by a
/// split, or as the whole of several by a merge, and it was taken out of the entry, once.
#[inline]
pub(crate) unsafe fn retire_item<C: Config>(
    backend: &C::Backend,
    raw: RawItem,
    owed: &mut Obligation<'_, C::Backend>,
) {
    // SAFETY: both contracts say the same.
    if let Some(reference) = unsafe { C::Item::retire(backend, raw) } {
        owed.push(reference);
    }
}

/// Marks a node stray, and every node below it, and gives up their locks. No entry leads to the
/// node any more, and the lock of its former parent is still held. `lock` gives the guard of a node
/// below: by taking the lock, or because the caller holds it already.
///
/// Returns how many frames of the smallest size the sub-tree maps.
pub(crate) fn set_adrift<'g, C: Config>(
    mut guard: Guard<'g, C>,
    lock: &impl Fn(NodeRef<'g, C>) -> Guard<'g, C>,
) -> u64 {
    guard.mark_stray();
    let level = guard.level();
    if level == Level::LEAF {
        return guard.children().into();
    }
    let mut frames = 0;
    guard.node().for_each_child(site!(ENTRY_UNDER_LOCK), |child| match child {
        ChildRef::Node(child) => frames += set_adrift(lock(child), lock),
        ChildRef::Item(_) => frames += <Geo<C>>::entry_frames(level),
        ChildRef::Absent | ChildRef::Shared => {}
    });
    frames
}
