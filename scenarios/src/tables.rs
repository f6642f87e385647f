//! The two kinds of page tables that scenarios use: a kernel's and a user's, one half each.
//!
//! What has to be done for a table of either kind, by its kind, is here too.

use core::marker::PhantomData;
use core::ops::Range;

use weft_core::audit::{self, Broken, Found};
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

/// For harnesses, once all CPUs have ended and before the race is given up: looks whether every
/// table that has its top among these frames in use is in order. Says how many nodes they have.
///
/// # Errors
///
/// The first node that is not.
#[track_caller]
pub fn audit<'a, B: Backend>(frames: impl Iterator<Item = Found<'a, B>>) -> Result<u64, Broken> {
    let mut nodes = 0;
    for top in frames.filter(Found::is_top) {
        nodes += if top.kind() == KernelTable::<B>::KIND {
            audit::audit(top.node::<KernelTable<B>>())?
        } else {
            audit::audit(top.node::<UserTable<B>>())?
        };
    }
    Ok(nodes)
}
