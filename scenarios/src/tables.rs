//! The two kinds of page tables that scenarios use: a kernel's and a user's, one half each.

use core::marker::PhantomData;
use core::ops::Range;

use weft_core::config::{Config, Kind};
use weft_core::format::X86_64;
use weft_core::geometry::Geometry;
use weft_core::item::MappedItem;
use weft_core::reclaim::Erased;
use weft_core::sync::Backend;

/// A user table: manages the lower half of the root.
#[derive(Debug)]
pub struct UserTable<B>(PhantomData<fn() -> B>);

impl<B: Backend> Config for UserTable<B> {
    type Backend = B;
    type Item = MappedItem<B>;
    type Format = X86_64;
    const KIND: Kind = Kind(1);
    const MANAGED: Range<usize> = 0..B::Geometry::ENTRIES / 2;
}

/// The kernel's table: manages the upper half of the root.
#[derive(Debug)]
pub struct KernelTable<B>(PhantomData<fn() -> B>);

impl<B: Backend> Config for KernelTable<B> {
    type Backend = B;
    type Item = MappedItem<B>;
    type Format = X86_64;
    const KIND: Kind = Kind(2);
    const MANAGED: Range<usize> = B::Geometry::ENTRIES / 2..B::Geometry::ENTRIES;
    const ROOT_ENTRIES_STAY: bool = true;
}

/// Gives up a reference to a frame, or to a node of one of the tables of scenarios: what a
/// backend for scenarios does in [`Backend::drop_erased`].
#[track_caller]
pub fn drop_erased<B: Backend>(reference: Erased<B>) {
    if reference.kind() == KernelTable::<B>::KIND {
        reference.drop_as::<KernelTable<B>>();
    } else {
        reference.drop_as::<UserTable<B>>();
    }
}
