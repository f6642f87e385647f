//! What distinguishes one kind of page table from another on the same machine.
//!
//! A [`Config`] is one kind: which entries of the root it manages, what its leaves own, how entries
//! are written. A backend lists its kinds in [`Backend::Tables`], a tuple. The place in the tuple
//! becomes a number in the metadata of every node, so that a node can be given up by code that does
//! not know its type. Configurations cannot choose the number: two of them cannot share one, and
//! one that its backend does not list has none.

use core::any::{TypeId, type_name};
use core::fmt;
use core::ops::Range;

use crate::audit::{self, Broken, Found};
use crate::format::EntryFormat;
use crate::frame::Frame;
use crate::geometry::Geometry;
use crate::item::Item;
use crate::node::Node;
use crate::reclaim::Erased;
use crate::sync::Backend;

/// The configuration of a page table: kernel or user, which items, which entry format.
pub trait Config: Sized + Send + Sync + 'static {
    /// What the table runs on. Its [`Backend::Tables`] list this configuration.
    type Backend: Backend;
    /// What leaves own.
    type Item: Item<Self::Backend>;
    /// How entries are written.
    type Format: EntryFormat;
    /// The indices of the root that this table manages. The others, if present, are shared with
    /// another table: never changed, counted or dropped through this one.
    const MANAGED: Range<usize> = 0..<Geo<Self>>::ENTRIES;
    /// Whether present entries of the root stay: other tables share what they lead to. Only such
    /// a table can be made [`Permanent`](crate::permanent::Permanent). Its root leads to nodes, and
    /// maps no page itself: a copy of the entry would not see that page change.
    const ROOT_ENTRIES_STAY: bool = false;
}

/// The arithmetic of a configuration's addresses.
pub(crate) type Geo<C> = <<C as Config>::Backend as Backend>::Geometry;

/// What a frame is used as, as a number in its metadata.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kind(pub(crate) u8);

impl Kind {
    /// A frame of data, owned by a [`Frame`].
    pub(crate) const FRAME: Self = Self(0);
    /// The words of an address space, which go with its root.
    pub(crate) const SPACE: Self = Self(u8::MAX - 1);

    /// A node of configuration `C`.
    ///
    /// # Panics
    ///
    /// If the backend does not list the configuration.
    #[track_caller]
    pub(crate) fn of<C: Config>() -> Self {
        let kind = <C::Backend as Backend>::Tables::kind_of(TypeId::of::<C>());
        let name = type_name::<C>;
        kind.unwrap_or_else(|| {
            panic!("`{}` is none of the backend's `Tables`: list it there", name())
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("data"),
            kind if kind == Self::SPACE.0 => f.write_str("words of an address space"),
            position => write!(f, "table {position} of the backend's list"),
        }
    }
}

/// The kinds of tables on a backend: a tuple of up to nine [configurations](Config).
///
/// The trait cannot be implemented elsewhere, because memory safety rests on what it says. Two
/// configurations cannot claim the same nodes:
///
/// ```compile_fail,E0277
/// # use weft_core::{config::Tables, sync::Backend};
/// struct Mine;
/// fn check<B: Backend>() {
///     fn lists<B: Backend, T: Tables<B>>() {}
///     lists::<B, Mine>();
/// }
/// ```
pub trait Tables<B: Backend>: sealed::List {
    /// The number of a configuration.
    #[doc(hidden)]
    fn kind_of(config: TypeId) -> Option<Kind>;

    /// Gives up one reference as what its metadata says it is.
    #[doc(hidden)]
    fn give_up(reference: Erased<B>);

    /// Audits the tree below a node, as what its metadata says it is.
    #[doc(hidden)]
    fn audit(top: &Found<'_, B>) -> Result<u64, Broken>;
}

mod sealed {
    /// Keeps [`Tables`](super::Tables) to tuples.
    pub trait List {}
}

macro_rules! tuples_of_tables {
    ($($position:literal $table:ident)+) => {
        impl<$($table),+> sealed::List for ($($table,)+) {}

        impl<B: Backend, $($table: Config<Backend = B>),+> Tables<B> for ($($table,)+) {
            fn kind_of(config: TypeId) -> Option<Kind> {
                $(if config == TypeId::of::<$table>() {
                    return Some(Kind($position));
                })+
                None
            }

            fn give_up(reference: Erased<B>) {
                match reference.kind() {
                    Kind::FRAME => drop(Frame::from_erased(reference)),
                    $(Kind($position) => drop(Node::<$table>::from_erased(reference)),)+
                    Kind(other) => panic!("a frame is of kind {other}, which no table has"),
                }
            }

            fn audit(top: &Found<'_, B>) -> Result<u64, Broken> {
                $(if let Some(node) = top.node::<$table>() {
                    return audit::audit(node);
                })+
                panic!("a frame was taken for a node of a table")
            }
        }
    };
}

tuples_of_tables!(1 C1);
tuples_of_tables!(1 C1 2 C2);
tuples_of_tables!(1 C1 2 C2 3 C3);
tuples_of_tables!(1 C1 2 C2 3 C3 4 C4);
tuples_of_tables!(1 C1 2 C2 3 C3 4 C4 5 C5);
tuples_of_tables!(1 C1 2 C2 3 C3 4 C4 5 C5 6 C6);
tuples_of_tables!(1 C1 2 C2 3 C3 4 C4 5 C5 6 C6 7 C7);
tuples_of_tables!(1 C1 2 C2 3 C3 4 C4 5 C5 6 C6 7 C7 8 C8);
tuples_of_tables!(1 C1 2 C2 3 C3 4 C4 5 C5 6 C6 7 C7 8 C8 9 C9);
