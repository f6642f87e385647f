//! Runs: consecutive entries of one locked leaf, in one go.
//!
//! What a range operation costs per page is decided here. So a run counts its children once, not
//! once for each entry, and what an entry says besides its frame is computed again only when it
//! differs from that of the entry before.
//!
//! *Hardware writes too.* An entry in which hardware may still set a bit is changed with a
//! read-modify-write, any other with a plain store, which is four times cheaper: see
//! [`crate::entry`].
//!
//! *A run may be left early*, also by a panic of the caller's closure: the count of children is
//! then that of the entries written so far.

use core::marker::PhantomData;
use core::ops::Range;

use crate::address::{FRAME_SIZE, Level, Paddr, Vaddr};
use crate::config::Config;
use crate::error::MapFault;
use crate::format::{Decoded, EntryFormat, PageFlags, Property, RawItem};
use crate::gather::Gather;
use crate::guard::Guard;
use crate::item::{Incoming, Item};
use crate::sites::{CLEAR_ENTRY, ENTRY_RETRY, ENTRY_UNDER_LOCK, PROTECT_ENTRY, PUBLISH_ITEM};
use crate::subtree::Locked;
use crate::sync::{Backend, Entries, Word};

/// A locked node whose children are counted while a run goes over it, and noted at its end.
struct Counted<'a, 'g, C: Config> {
    guard: &'a mut Guard<'g, C>,
    entries: <C::Backend as Backend>::Entries<'g>,
    children: u16,
}

impl<'a, 'g, C: Config> Counted<'a, 'g, C> {
    #[inline]
    fn new(guard: &'a mut Guard<'g, C>) -> Self {
        let children = guard.children();
        let entries = guard.node().frame_ref().entries();
        Self { guard, entries, children }
    }

    #[inline]
    fn word(&self, index: usize) -> &'g <C::Backend as Backend>::Word {
        self.entries.get(index)
    }
}

impl<C: Config> Drop for Counted<'_, '_, C> {
    #[inline]
    fn drop(&mut self) {
        self.guard.set_children(self.children);
    }
}

/// What entries of the lowest level say besides their frame, kept from one entry to the next, which
/// most often says the same.
struct Encoded<F> {
    last: Option<(Property, u64)>,
    _format: PhantomData<F>,
}

impl<F: EntryFormat> Encoded<F> {
    #[inline]
    fn of(&mut self, property: Property) -> u64 {
        match self.last {
            Some((same, bits)) if same == property => bits,
            _ => {
                let bits = attributes::<F>(property);
                self.last = Some((property, bits));
                bits
            }
        }
    }
}

/// What entries that say one thing besides their frame are to say instead.
struct Rewriting {
    before: u64,
    after: u64,
    /// Whether hardware may be writing the entries.
    exactly: bool,
}

/// A change of properties, as it is applied to entries.
struct Change<'a, F, P, B: Backend> {
    of_property: P,
    /// Owes the flush from the decision on: a later one may end in a panic of the caller's.
    gather: &'a mut Gather<B>,
    _format: PhantomData<F>,
}

impl<F: EntryFormat, P: FnMut(Property) -> Property, B: Backend> Change<'_, F, P, B> {
    /// What becomes of entries like this one, which is present.
    #[inline(never)]
    fn of(&mut self, entry: u64) -> Rewriting {
        let before = entry & !F::LEAF_FRAME_BITS;
        let Decoded::Item(RawItem { property: old, .. }) = F::decode(before, Level::LEAF) else {
            unreachable!("entries of a leaf lead to items")
        };
        let mut new = (self.of_property)(old);
        let is_tracked = old.flags.contains(PageFlags::TRACKED);
        new.flags.set(PageFlags::TRACKED, is_tracked);
        if must_flush(old, new) {
            self.gather.owe_everything();
        }
        Rewriting { before, after: attributes::<F>(new), exactly: F::hardware_may_write(before) }
    }
}

/// Rewrites entries as long as they are alike, and returns the index of the first that is not:
/// absent, or of another property, perhaps since a moment ago.
#[inline]
fn rewrite<'a, F: EntryFormat, W: Word + 'a>(
    entries: impl Entries<'a, W>,
    indices: Range<usize>,
    to: &Rewriting,
) -> usize {
    for index in indices.clone() {
        let word = entries.get(index);
        let bits = word.load(&ENTRY_UNDER_LOCK);
        let frame = bits & F::LEAF_FRAME_BITS;
        if bits ^ frame != to.before {
            return index;
        }
        let new = to.after | frame;
        if !to.exactly {
            word.store(new, &PROTECT_ENTRY);
        } else if word.compare_exchange(bits, new, &PROTECT_ENTRY, &ENTRY_RETRY).is_err() {
            return index;
        }
    }
    indices.end
}

/// An entry of the lowest level without its frame.
#[inline]
fn attributes<F: EntryFormat>(property: Property) -> u64 {
    F::item(RawItem { frame: Paddr::new(0), level: Level::LEAF, property })
}

/// Whether a translation with the old property would do what the new one forbids, or not do what
/// it asks for: then it has to go from the caches.
#[inline]
pub(crate) fn must_flush(old: Property, new: Property) -> bool {
    let rights = PageFlags::WRITE | PageFlags::EXECUTE | PageFlags::USER | PageFlags::NOTED;
    let loses_a_right = !new.flags.contains(old.flags & rights);
    let differs = old.flags ^ new.flags;
    loses_a_right || differs.contains(PageFlags::GLOBAL) || old.cache != new.cache
}

impl<C: Config> Locked<'_, '_, C> {
    /// Maps an item of `make` at each entry of this leaf that `range` touches.
    ///
    /// Stops at the first entry that is present, or whose item does not fit: with the address, and
    /// the item if one was made. The entries before it are then written.
    #[inline]
    pub(crate) fn map_run(
        &mut self,
        range: &Range<Vaddr>,
        make: &mut impl FnMut(Vaddr) -> C::Item,
    ) -> Result<(), (Vaddr, MapFault, Option<C::Item>)> {
        let backend = self.backend();
        let indices = self.indices(range);
        let mut vaddr = range.start.max(self.slot(0).start);
        let mut encoded = Encoded::<C::Format> { last: None, _format: PhantomData };
        let mut run = Counted::new(self.guard());
        for index in indices {
            let word = run.word(index);
            if word.load(&ENTRY_UNDER_LOCK) != 0 {
                return Err((vaddr, MapFault::AlreadyMapped { vaddr }, None));
            }
            let item = Incoming::<C>::new(backend, make(vaddr));
            if let Err(misfit) = item.check(Level::LEAF) {
                return Err((vaddr, MapFault::Misfit(misfit), Some(item.give_back())));
            }
            // Absent, so hardware does not write it: a store is enough.
            let RawItem { frame, property, .. } = item.into_raw();
            word.store(encoded.of(property) | C::Format::frame(frame), &PUBLISH_ITEM);
            run.children += 1;
            vaddr = vaddr.plus(FRAME_SIZE);
        }
        Ok(())
    }

    /// Takes out every item of this leaf that `range` touches. Returns how many there were.
    #[inline]
    pub(crate) fn take_run(
        &mut self,
        range: &Range<Vaddr>,
        gather: &mut Gather<C::Backend>,
    ) -> u64 {
        let backend = self.backend();
        let indices = self.indices(range);
        let start = self.slot(0).start;
        let mut run = Counted::new(self.guard());
        let (before, mut last) = (run.children, 0);
        for index in indices {
            let word = run.word(index);
            let mut bits = word.load(&ENTRY_UNDER_LOCK);
            if bits == 0 {
                continue;
            }
            if C::Format::hardware_may_write(bits) {
                bits = word.swap(0, &CLEAR_ENTRY);
            } else {
                word.store(0, &CLEAR_ENTRY);
            }
            (run.children, last) = (run.children - 1, index);
            let Decoded::Item(raw) = C::Format::decode(bits, Level::LEAF) else {
                unreachable!("entries of a leaf lead to items")
            };
            // SAFETY: the entry owned the item, given up by `into_raw` when it was written; it was
            // taken out of the entry under the lock, once.
            let item = unsafe { C::Item::from_raw(backend, raw) };
            if let Some(reference) = item.retire() {
                gather.push(reference);
            }
        }
        let taken = before - run.children;
        match taken {
            0 => {}
            1 => gather.owe_page(start.plus(last as u64 * FRAME_SIZE)),
            _ => gather.owe_everything(),
        }
        u64::from(taken)
    }

    /// Changes the property of every item of this leaf that `range` touches. Returns how many there
    /// were.
    #[inline]
    pub(crate) fn protect_run(
        &mut self,
        range: &Range<Vaddr>,
        change: impl FnMut(Property) -> Property,
        gather: &mut Gather<C::Backend>,
    ) -> u64 {
        let indices = self.indices(range);
        let mut change =
            Change::<C::Format, _, _> { of_property: change, gather, _format: PhantomData };
        let entries = self.guard().node().frame_ref().entries();
        let (mut index, mut found) = (indices.start, 0);
        while index < indices.end {
            let bits = entries.get(index).load(&ENTRY_UNDER_LOCK);
            if bits == 0 {
                index += 1;
                continue;
            }
            let end = rewrite::<C::Format, _>(entries, index..indices.end, &change.of(bits));
            found += (end - index) as u64;
            index = end;
        }
        found
    }
}
