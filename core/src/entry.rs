//! One entry under its node's lock: look, replace, grow, split, protect.
//!
//! *Hardware writes too.* The MMU sets accessed and dirty bits of a present entry at any time,
//! lock or no lock. So an entry that hardware may still be writing is changed with a
//! read-modify-write, and whatever hardware set until then is in the value it returns. Where
//! hardware cannot write (the entry is absent, or both bits are set already) a plain store does,
//! which is four times cheaper.
//!
//! *What is taken out* may still be in use by walkers, and by TLBs. So it comes back as
//! [`Detached`], whose only way out is a flush and the reclamation; see [`crate::reclaim`].
//!
//! *Growth.* A new child is locked before it is published: otherwise another CPU could lock it,
//! find it empty, and begin to change what the growing CPU believes to have to itself.

use core::fmt;
use core::ops::Deref;

use crate::address::{Level, Paddr};
use crate::config::Config;
use crate::error::{GrowError, Misfit, NotAnItem, Refused};
use crate::format::{Decoded, EntryFormat, PageFlags, Property, RawItem};
use crate::geometry::Geometry;
use crate::guard::Guard;
use crate::item::{Incoming, Item};
use crate::node::{Node, NodeRef, managed};
use crate::reclaim::{Detached, mark_stray_below};
use crate::sites::{
    CLEAR_ENTRY, ENTRY_INIT, ENTRY_RETRY, PROTECT_ENTRY, PUBLISH_ITEM, PUBLISH_NODE, Site,
};
use crate::stock::Stock;
use crate::sync::{Backend, Event, RawLock, Word};

/// What an entry owns.
pub enum Child<C: Config> {
    /// Nothing.
    Absent,
    /// A node of the level below.
    Node(Node<C>),
    /// A page.
    Item(C::Item),
}

impl<C: Config> fmt::Debug for Child<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("Absent"),
            Self::Node(node) => node.fmt(f),
            Self::Item(_) => f.write_str("Item"),
        }
    }
}

/// A page that an entry led to, borrowed for a read-side section: its frame is not freed in it.
///
/// It reads as the [`RawItem`] that was found in the entry.
pub struct ItemRef<'g, C: Config> {
    raw: RawItem,
    backend: &'g C::Backend,
}

impl<C: Config> Clone for ItemRef<'_, C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C: Config> Copy for ItemRef<'_, C> {}

impl<C: Config> fmt::Debug for ItemRef<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.raw.fmt(f)
    }
}

impl<C: Config> Deref for ItemRef<'_, C> {
    type Target = RawItem;
    #[inline]
    fn deref(&self) -> &RawItem {
        &self.raw
    }
}

impl<'g, C: Config> ItemRef<'g, C> {
    /// # Safety
    ///
    /// An entry of configuration `C` held the item at some time within the read-side section that
    /// `'g` belongs to, or whoever holds the item keeps it for as long.
    #[inline]
    pub(crate) unsafe fn new(backend: &'g C::Backend, raw: RawItem) -> Self {
        Self { raw, backend }
    }

    /// The item, as its type shows it to readers.
    pub fn get(self) -> <C::Item as Item<C::Backend>>::Ref<'g> {
        // SAFETY: an entry held the raw form, by the contract of `new`; what is taken out of an
        // entry is dropped after the sections that could have seen it, and 'g is one of those.
        unsafe { C::Item::borrow(self.backend, self.raw) }
    }
}

/// What an entry leads to, borrowed for a read-side section.
pub enum ChildRef<'g, C: Config> {
    /// Nothing.
    Absent,
    /// A node of the level below.
    Node(NodeRef<'g, C>),
    /// A page.
    Item(ItemRef<'g, C>),
    /// Something that another table manages, in a root that shares it.
    Shared,
}

impl<C: Config> Clone for ChildRef<'_, C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C: Config> Copy for ChildRef<'_, C> {}

impl<C: Config> fmt::Debug for ChildRef<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("Absent"),
            Self::Node(node) => node.fmt(f),
            Self::Item(item) => item.fmt(f),
            Self::Shared => f.write_str("Shared"),
        }
    }
}

/// What was taken out of an entry, on its way to the reclamation.
pub(crate) enum Taken<'g, C: Config> {
    /// Nothing.
    Absent,
    /// A node: owned, and borrowed.
    Node(Node<C>, NodeRef<'g, C>),
    /// A page: owned, and as it was in the entry.
    Item(C::Item, RawItem),
}

/// One entry of a locked node.
#[derive(Debug)]
pub struct Entry<'a, 'g, C: Config> {
    guard: &'a mut Guard<'g, C>,
    index: usize,
}

impl<'a, 'g, C: Config> Entry<'a, 'g, C> {
    /// `index` is in range: [`Guard::entry`] has checked it.
    pub(crate) fn new(guard: &'a mut Guard<'g, C>, index: usize) -> Self {
        Self { guard, index }
    }

    /// What the entry leads to.
    pub fn child(&self) -> ChildRef<'g, C> {
        self.guard.child(self.index)
    }

    /// Puts `child` in the place of what is there. A node that is taken out is marked stray, with
    /// everything below it, before this returns. Whoever is at work below holds this up, and what
    /// it does meanwhile goes with the node: only a [cursor](crate::cursor) excludes it.
    ///
    /// A node that is put in is locked for a moment. One that is locked by somebody is refused as
    /// in use, and not waited for: whoever holds the lock may be the caller.
    ///
    /// An item that is refused comes back as its raw form reads: whether it is tracked is
    /// normalised.
    ///
    /// # Errors
    ///
    /// [`Refused`], with the child, if it does not fit; the entry is then as it was.
    pub fn replace(&mut self, child: Child<C>) -> Result<Detached<C>, Refused<Child<C>>> {
        let level = self.guard.level();
        if let Err(reason) = self.check_removable(level) {
            return Err(Refused { reason, child });
        }
        let (bits, site) = match child {
            Child::Absent => (0, &CLEAR_ENTRY),
            Child::Node(node) => match self.admit_node(&node, level) {
                Ok(()) => (C::Format::node(node.into_raw()), &PUBLISH_NODE),
                Err(reason) => return Err(Refused { reason, child: Child::Node(node) }),
            },
            Child::Item(item) => {
                let item = Incoming::<C>::new(self.backend(), item);
                match item.check(level) {
                    Ok(()) => (C::Format::item(item.into_raw()), &PUBLISH_ITEM),
                    Err(reason) => {
                        return Err(Refused { reason, child: Child::Item(item.give_back()) });
                    }
                }
            }
        };
        Ok(self.exchange(bits, site, level))
    }

    /// Takes out what is there: [`replace`](Self::replace) with nothing.
    ///
    /// # Errors
    ///
    /// [`Misfit::NotManaged`] if the entry belongs to another table.
    pub fn detach(&mut self) -> Result<Detached<C>, Misfit> {
        self.replace(Child::Absent).map_err(|refused| refused.reason)
    }

    /// Allocates a child of the level below, if the entry is absent. The child is returned
    /// locked, and was so before it could be reached.
    ///
    /// # Errors
    ///
    /// [`GrowError::Present`] if there is something, [`GrowError::Leaf`] at the lowest level,
    /// [`GrowError::NotManaged`] or [`GrowError::OutOfMemory`]; the entry is then as it was.
    pub fn allocate_if_absent(&mut self) -> Result<Guard<'g, C>, GrowError> {
        let level = self.guard.level();
        level.below().ok_or(GrowError::Leaf)?;
        self.check_managed(level).map_err(|_| GrowError::NotManaged { index: self.index })?;
        if !matches!(self.child(), ChildRef::Absent) {
            return Err(GrowError::Present);
        }
        let mut stock = Stock::of(self.backend(), 1)?;
        Ok(self.grow(&[], &mut stock))
    }

    /// Makes an absent, managed entry above the leaves lead to a chain of nodes from `stock`. The
    /// chain goes on at the indices of `path`, one for each node of it but the lowest, from the
    /// top down. It is published whole, with its lowest node locked, which is returned.
    ///
    /// # Panics
    ///
    /// If the chain is longer than the table is high, or the stock smaller than the chain.
    pub(crate) fn grow(&mut self, path: &[usize], stock: &mut Stock<C>) -> Guard<'g, C> {
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
        // Absent, so hardware does not write it: a store is enough.
        self.word().store(C::Format::node(frame), &PUBLISH_NODE);
        self.guard.set_children(self.guard.children() + 1);
        // SAFETY: the entry of a node that 'g keeps leads to the chain, within the section of 'g.
        let node = unsafe { NodeRef::new(self.backend(), lowest, level) };
        // SAFETY: the lock was made held for this CPU, and no guard exists.
        unsafe { node.guard_without_locking() }
    }

    /// Replaces a huge page by a node of pages of the level below that map the same frames with
    /// the same property. The node is returned locked, and was so before it could be reached.
    ///
    /// No translation changes, but TLBs may go on holding the huge one.
    ///
    /// # Errors
    ///
    /// [`GrowError::NoHugePage`] if there is none, [`GrowError::NotManaged`] or
    /// [`GrowError::OutOfMemory`]; the entry is then as it was.
    pub fn split(&mut self) -> Result<Guard<'g, C>, GrowError> {
        let level = self.guard.level();
        self.check_removable(level).map_err(|_| GrowError::NotManaged { index: self.index })?;
        let bits = self.guard.read_raw(self.index);
        let is_page = matches!(C::Format::decode(bits, level), Decoded::Item(_));
        if level == Level::LEAF || !is_page {
            return Err(GrowError::NoHugePage);
        }
        let mut stock = Stock::of(self.backend(), 1)?;
        Ok(self.split_with(bits, &mut stock))
    }

    /// As [`split`](Self::split), of a huge page that was there a moment ago, as `bits`, and may be
    /// changed, with a node from `stock`.
    pub(crate) fn split_with(&mut self, mut bits: u64, stock: &mut Stock<C>) -> Guard<'g, C> {
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
            move |index| attributes | C::Format::frame(huge.frame.plus(index as u64 * span))
        };
        let node = stock.take(below, <Geo<C>>::ENTRIES, fill(bits));
        let child = node.frame_ref();
        child.metadata().lock.make_held();
        let frame = C::Format::node(node.paddr());
        while let Err(found) =
            self.word().compare_exchange(bits, frame, &PUBLISH_NODE, &ENTRY_RETRY)
        {
            // Hardware has set a bit since: every part has to have it.
            bits = found;
            let part = fill(bits);
            for index in 0..<Geo<C>>::ENTRIES {
                child.entry(index).store(part(index), &ENTRY_INIT);
            }
        }
        let frame = node.into_raw();
        // SAFETY: the entry of a node that 'g keeps leads to the child, within the section of 'g.
        let node = unsafe { NodeRef::new(self.backend(), frame, below) };
        // SAFETY: the lock was made held for this CPU, and no guard exists.
        unsafe { node.guard_without_locking() }
    }

    /// Changes the property of the page that is there, and returns the property before, with the
    /// accessed and dirty flags as hardware had set them at the instant of the change.
    ///
    /// `change` may run more than once, with a newer property each time. Whether the item owns its
    /// frame is not its to change: [`PageFlags::TRACKED`] stays as it was.
    ///
    /// # Errors
    ///
    /// [`NotAnItem`] if the entry maps no page of this table.
    pub fn protect(
        &mut self,
        mut change: impl FnMut(Property) -> Property,
    ) -> Result<Property, NotAnItem> {
        let level = self.guard.level();
        self.check_removable(level).map_err(|_| NotAnItem)?;
        let mut bits = self.guard.read_raw(self.index);
        loop {
            let Decoded::Item(old) = C::Format::decode(bits, level) else {
                return Err(NotAnItem);
            };
            let mut property = change(old.property);
            let is_tracked = old.property.flags.contains(PageFlags::TRACKED);
            property.flags.set(PageFlags::TRACKED, is_tracked);
            let new = C::Format::item(RawItem { property, ..old });
            if !C::Format::hardware_may_write(bits) {
                self.word().store(new, &PROTECT_ENTRY);
                return Ok(old.property);
            }
            match self.word().compare_exchange(bits, new, &PROTECT_ENTRY, &ENTRY_RETRY) {
                Ok(_) => return Ok(old.property),
                Err(found) => bits = found,
            }
        }
    }

    /// Puts an item, which has been [checked](Incoming::check), where nothing is.
    #[inline]
    pub(crate) fn put(&mut self, item: Incoming<'_, C>) {
        debug_assert!(matches!(self.child(), ChildRef::Absent), "something is there already");
        self.put_raw(item.into_raw());
    }

    /// Puts an item, raw already and checked, where nothing is: the owner of what it stands for
    /// gives that up.
    #[inline]
    pub(crate) fn put_raw(&mut self, raw: RawItem) {
        // Absent, so hardware does not write it: a store is enough.
        self.word().store(C::Format::item(raw), &PUBLISH_ITEM);
        self.guard.set_children(self.guard.children() + 1);
    }

    /// Clears the entry and returns what was in it, which the caller owns now: for callers that
    /// know what it is, and that no walker may see it freed before a grace period.
    pub(crate) fn take(&mut self) -> Taken<'g, C> {
        let old = self.clear();
        let level = self.guard.level();
        match C::Format::decode(old, level) {
            Decoded::Absent => Taken::Absent,
            Decoded::Node(frame) => {
                self.backend().observe(Event::Detached(frame));
                let below = level.below().expect("entries of leaves decode to items");
                // SAFETY: the entry led to the node until just now, within the section of 'g.
                let node = unsafe { NodeRef::new(self.backend(), frame, below) };
                // SAFETY: the entry owned a reference, given up by `into_raw` when it was
                // written; it was taken out of the entry under the lock, once.
                Taken::Node(unsafe { Node::from_raw(self.backend(), frame) }, node)
            }
            Decoded::Item(raw) => {
                // SAFETY: the entry owned the item, given up by `into_raw` when it was written; it
                // was taken out of the entry under the lock, once.
                Taken::Item(unsafe { C::Item::from_raw(self.backend(), raw) }, raw)
            }
        }
    }

    /// Makes the entry absent, keeping the count. Returns the bits that were in it, with what
    /// hardware had set.
    #[inline]
    fn clear(&mut self) -> u64 {
        let mut old = self.guard.read_raw(self.index);
        if C::Format::hardware_may_write(old) {
            old = self.word().swap(0, &CLEAR_ENTRY);
        } else {
            self.word().store(0, &CLEAR_ENTRY);
        }
        self.guard.set_children(self.guard.children() - u16::from(old != 0));
        old
    }

    /// Whether what is here may be taken out.
    #[inline]
    pub(crate) fn is_removable(&self) -> bool {
        self.check_removable(self.guard.level()).is_ok()
    }

    /// Writes `bits` and returns, as detached, what the entry owned.
    fn exchange(&mut self, bits: u64, site: &'static Site, level: Level) -> Detached<C> {
        let mut old = self.guard.read_raw(self.index);
        if C::Format::hardware_may_write(old) {
            old = self.word().swap(bits, site);
        } else {
            self.word().store(bits, site);
        }
        let children = self.guard.children() + u16::from(bits != 0) - u16::from(old != 0);
        self.guard.set_children(children);
        let child = match C::Format::decode(old, level) {
            Decoded::Absent => Child::Absent,
            Decoded::Node(frame) => {
                self.backend().observe(Event::Detached(frame));
                let below = level.below().expect("entries of leaves decode to items");
                // SAFETY: the entry led to the node until just now, within the section of 'g.
                mark_stray_below(unsafe { NodeRef::<C>::new(self.backend(), frame, below) });
                // SAFETY: the entry owned a reference, given up by `into_raw` when it was
                // written; it was taken out of the entry under the lock, once.
                Child::Node(unsafe { Node::from_raw(self.backend(), frame) })
            }
            // SAFETY: the entry owned the item, given up by `into_raw` when it was written; it
            // was taken out of the entry under the lock, once.
            Decoded::Item(raw) => Child::Item(unsafe { C::Item::from_raw(self.backend(), raw) }),
        };
        Detached::new(self.backend(), child)
    }

    /// Whether a node fits here; if so, it has a parent from now on.
    fn admit_node(&self, node: &Node<C>, level: Level) -> Result<(), Misfit> {
        assert!(node.backend() == self.backend(), "the node is one of another machine");
        let found = node.level();
        if level.below() != Some(found) {
            return Err(Misfit::WrongLevel { entry: level, child: found });
        }
        // SAFETY: the handle keeps the node for as long as this borrow is used.
        let node = unsafe { NodeRef::<C>::new(self.backend(), node.paddr(), found) };
        let attached = node.try_lock().is_some_and(|mut guard| guard.attach());
        if attached { Ok(()) } else { Err(Misfit::InUse { node: node.paddr() }) }
    }

    /// Whether what is here may be changed: it is ours, and no other root has a copy of it.
    fn check_removable(&self, level: Level) -> Result<(), Misfit> {
        self.check_managed(level)?;
        let stays = C::ROOT_ENTRIES_STAY && level == <Geo<C>>::ROOT;
        if stays && self.guard.read_raw(self.index) != 0 {
            return Err(Misfit::Permanent { index: self.index });
        }
        Ok(())
    }

    fn check_managed(&self, level: Level) -> Result<(), Misfit> {
        if managed::<C>(level).contains(&self.index) {
            Ok(())
        } else {
            Err(Misfit::NotManaged { index: self.index })
        }
    }

    fn word(&self) -> &'g <C::Backend as Backend>::Word {
        self.guard.node().frame_ref().entry(self.index)
    }

    fn backend(&self) -> &'g C::Backend {
        self.guard.node().backend()
    }
}

type Geo<C> = <<C as Config>::Backend as Backend>::Geometry;

impl<T> Refused<T> {
    /// The child, to try elsewhere.
    pub fn into_child(self) -> T {
        self.child
    }
}
