//! The two kinds of page tables that scenarios use: a kernel's and a user's, one half each.

use core::marker::PhantomData;
use core::ops::Range;

use weft_core::audit::{Broken, Found};
use weft_core::config::Config;
use weft_core::format::X86_64;
use weft_core::geometry::Geometry;
use weft_core::item::MappedItem;
use weft_core::sync::Backend;

/// A user table: manages the lower half of the root.
#[derive(Debug)]
pub struct UserTable<B>(PhantomData<fn() -> B>);

impl<B: Backend> Config for UserTable<B> {
    type Backend = B;
    type Item = MappedItem<B>;
    type Format = X86_64;
    const MANAGED: Range<usize> = 0..B::Geometry::ENTRIES / 2;
}

/// The kernel's table: manages the upper half of the root.
#[derive(Debug)]
pub struct KernelTable<B>(PhantomData<fn() -> B>);

impl<B: Backend> Config for KernelTable<B> {
    type Backend = B;
    type Item = MappedItem<B>;
    type Format = X86_64;
    const MANAGED: Range<usize> = B::Geometry::ENTRIES / 2..B::Geometry::ENTRIES;
    const ROOT_ENTRIES_STAY: bool = true;
}

/// The tables of a backend for scenarios.
pub type Tables<B> = (UserTable<B>, KernelTable<B>);

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
        nodes += top.audit()?;
    }
    Ok(nodes)
}
