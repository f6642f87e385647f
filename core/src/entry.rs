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

use crate::address::{FRAME_SIZE, Level, Paddr};
use crate::config::Config;
use crate::error::{GrowError, Misfit, NotAnItem, Refused};
use crate::format::{Decoded, EntryFormat, PageFlags, Property, RawItem};
use crate::geometry::Geometry;
use crate::guard::Guard;
use crate::item::Item;
use crate::node::{Node, NodeRef, managed};
use crate::reclaim::{Detached, mark_stray_below};
use crate::sites::{
    CLEAR_ENTRY, ENTRY_INIT, ENTRY_RETRY, PROTECT_ENTRY, PUBLISH_ITEM, PUBLISH_NODE, Site,
};
use crate::sync::{Backend, Event, PlainCell, Word};

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

/// What an entry leads to, borrowed for a read-side section.
pub enum ChildRef<'g, C: Config> {
    /// Nothing.
    Absent,
    /// A node of the level below.
    Node(NodeRef<'g, C>),
    /// A page.
    Item(RawItem),
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
            Self::Item(raw) => raw.fmt(f),
            Self::Shared => f.write_str("Shared"),
        }
    }
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
    /// everything below it, before this returns.
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
            Child::Item(item) => match self.admit_item(item, level) {
                Ok(raw) => (C::Format::item(raw), &PUBLISH_ITEM),
                Err(refused) => return Err(refused),
            },
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
        let below = level.below().ok_or(GrowError::Leaf)?;
        self.check_managed(level).map_err(|_| GrowError::NotManaged { index: self.index })?;
        if !matches!(self.child(), ChildRef::Absent) {
            return Err(GrowError::Present);
        }
        let node = Node::<C>::allocate_held(self.backend(), below, |_| 0)?;
        node.frame_ref().metadata().attached.set(true);
        let frame = node.into_raw();
        // Absent, so hardware does not write it: a store is enough.
        self.word().store(C::Format::node(frame), &PUBLISH_NODE);
        self.guard.set_children(self.guard.children() + 1);
        // SAFETY: the entry of a node that 'g keeps leads to the child, within the section of 'g.
        let node = unsafe { NodeRef::new(self.backend(), frame, below) };
        // SAFETY: `allocate_held` made the lock held for this CPU, and no guard exists.
        Ok(unsafe { node.guard_without_locking() })
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
        let below = level.below().ok_or(GrowError::NoHugePage)?;
        let mut bits = self.guard.read_raw(self.index);
        let Decoded::Item(huge) = C::Format::decode(bits, level) else {
            return Err(GrowError::NoHugePage);
        };
        let part = |huge: RawItem, index: usize| {
            let frame = huge.frame.plus(index as u64 * <Geo<C>>::entry_span(below));
            C::Format::item(RawItem { frame, level: below, property: huge.property })
        };
        let node = Node::<C>::allocate_held(self.backend(), below, |index| part(huge, index))?;
        let child = node.frame_ref();
        child.metadata().children.set(<Geo<C>>::ENTRIES as u16);
        child.metadata().attached.set(true);
        let frame = C::Format::node(node.paddr());
        while let Err(found) =
            self.word().compare_exchange(bits, frame, &PUBLISH_NODE, &ENTRY_RETRY)
        {
            // Hardware has set a bit since: every part has to have it.
            bits = found;
            let Decoded::Item(huge) = C::Format::decode(bits, level) else {
                unreachable!("only the lock holder changes what an entry leads to")
            };
            for index in 0..<Geo<C>>::ENTRIES {
                child.entry(index).store(part(huge, index), &ENTRY_INIT);
            }
        }
        let frame = node.into_raw();
        // SAFETY: the entry of a node that 'g keeps leads to the child, within the section of 'g.
        let node = unsafe { NodeRef::new(self.backend(), frame, below) };
        // SAFETY: `allocate_held` made the lock held for this CPU, and no guard exists.
        Ok(unsafe { node.guard_without_locking() })
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
        Detached::new(child)
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

    /// The raw form of an item, if it fits here.
    fn admit_item(&self, item: C::Item, level: Level) -> Result<RawItem, Refused<Child<C>>> {
        let raw = item.into_raw();
        let alignment = <Geo<C>>::entry_span(level);
        let reason = if raw.level != level {
            Misfit::WrongLevel { entry: level, child: raw.level }
        } else if !C::Format::maps_pages_at(level) {
            Misfit::NoPagesHere { entry: level }
        } else if !C::Format::holds(Paddr::new(raw.frame.as_u64() & !(FRAME_SIZE - 1))) {
            Misfit::OutOfRange { frame: raw.frame }
        } else if !raw.frame.as_u64().is_multiple_of(alignment) {
            Misfit::Unaligned { frame: raw.frame, alignment }
        } else {
            return Ok(raw);
        };
        // SAFETY: `into_raw` gave the value a few lines up, and it went into no entry.
        let item = unsafe { C::Item::from_raw(self.backend(), raw) };
        Err(Refused { reason, child: Child::Item(item) })
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
