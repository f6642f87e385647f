//! What an entry leads to: owned, by the entry or on the way into it, or borrowed by a reader.

use core::fmt;
use core::ops::Deref;

use crate::config::Config;
use crate::format::RawItem;
use crate::item::Item;
use crate::node::{Node, NodeRef};

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

copied!(ItemRef<C: Config>);

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
    /// `'g` belongs to, or its owner keeps it for as long.
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

copied!(ChildRef<C: Config>);

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
