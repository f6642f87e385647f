//! What distinguishes one kind of page table from another on the same machine.

use core::ops::Range;

use crate::format::EntryFormat;
use crate::geometry::Geometry;
use crate::item::Item;
use crate::sync::Backend;

/// The configuration of a page table: kernel or user, which items, which entry format.
pub trait Config: Sized + Send + Sync + 'static {
    /// What the table runs on.
    type Backend: Backend;
    /// What leaves own.
    type Item: Item<Self::Backend>;
    /// How entries are written.
    type Format: EntryFormat;
    /// A number that no other configuration of the backend has, and not [`Kind::FRAME`]. It is
    /// written into every node, so that a reference can be given up by someone who does not know
    /// its type; see [`Backend::drop_erased`].
    const KIND: Kind;
    /// The indices of the root that this table manages. The others, if present, are shared with
    /// another table: never changed, counted or dropped through this one.
    const MANAGED: Range<usize> = 0..<<Self::Backend as Backend>::Geometry as Geometry>::ENTRIES;
    /// Whether present entries of the root stay: other tables share what they lead to. Only such
    /// a table can be made [`Permanent`](crate::node::Permanent). Its root leads to nodes, and maps
    /// no page itself: a copy of the entry would not see that page change.
    const ROOT_ENTRIES_STAY: bool = false;
}

/// What a frame is used as: a number in its metadata.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kind(pub u8);

impl Kind {
    /// A frame of data, owned by a [`Frame`](crate::item::Frame).
    pub const FRAME: Self = Self(0);
}
