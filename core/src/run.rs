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

/// What a change of properties makes of what entries say besides their frame, likewise kept.
struct Changed<'a, F, P, B: Backend> {
    change: P,
    /// Before and after.
    last: (u64, u64),
    /// Owes the flush from the decision on: a later one may end in a panic of the caller's.
    gather: &'a mut Gather<B>,
    _format: PhantomData<F>,
}

impl<'a, F, P, B> Changed<'a, F, P, B>
where
    F: EntryFormat,
    P: FnMut(Property) -> Property,
    B: Backend,
{
    fn new(change: P, gather: &'a mut Gather<B>) -> Self {
        // No entry says nothing at all, so this is not found.
        Self { change, last: (0, 0), gather, _format: PhantomData }
    }

    /// The entry that takes the place of a present one.
    #[inline]
    fn of(&mut self, entry: u64) -> u64 {
        let frame = entry & F::LEAF_FRAME_BITS;
        let before = entry ^ frame;
        if self.last.0 != before {
            self.last = (before, self.decide(before));
        }
        self.last.1 | frame
    }

    // Out of line: it runs once for many entries, and the loop needs the registers.
    #[inline(never)]
    fn decide(&mut self, before: u64) -> u64 {
        let Decoded::Item(RawItem { property: old, .. }) = F::decode(before, Level::LEAF) else {
            unreachable!("entries of a leaf lead to items")
        };
        let mut new = (self.change)(old);
        let is_tracked = old.flags.contains(PageFlags::TRACKED);
        new.flags.set(PageFlags::TRACKED, is_tracked);
        if must_flush(old, new) {
            self.gather.owe_everything();
        }
        attributes::<F>(new)
    }
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
    let noted = PageFlags::ACCESSED | PageFlags::DIRTY;
    let rights = PageFlags::WRITE | PageFlags::EXECUTE | PageFlags::USER | noted;
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
        let mut changed = Changed::<C::Format, _, _>::new(change, gather);
        let mut found = 0;
        let entries = self.guard().node().frame_ref().entries();
        for index in indices {
            let word = entries.get(index);
            let mut bits = word.load(&ENTRY_UNDER_LOCK);
            if bits == 0 {
                continue;
            }
            found += 1;
            loop {
                let new = changed.of(bits);
                if !C::Format::hardware_may_write(bits) {
                    word.store(new, &PROTECT_ENTRY);
                    break;
                }
                match word.compare_exchange(bits, new, &PROTECT_ENTRY, &ENTRY_RETRY) {
                    Ok(_) => break,
                    Err(now) => bits = now,
                }
            }
        }
        found
    }
}
