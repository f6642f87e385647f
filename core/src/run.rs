//! Runs: consecutive entries of one locked leaf, in one go.
//!
//! What a range operation costs per page is decided here. So a run counts its children once, not
//! once for each entry. What an entry says besides its frame is computed again only when it differs
//! from that of the entry before.
//!
//! *A run may be left early*, also by a panic of the caller's closure. The count of children is
//! then that of the entries written so far, and what was taken out until then is owed.

use core::marker::PhantomData;
use core::ops::Range;

use crate::address::{FRAME_SIZE, Level, Offset, Paddr, Vaddr};
use crate::config::{Config, Geo};
use crate::entry::{changed, exchange_if, exchange_word, retire_item};
use crate::error::{MapError, MapFault, Refused};
use crate::format::{Decoded, EntryFormat, Property, RawItem};
use crate::geometry::Arithmetic;
use crate::guard::Guard;
use crate::item::Incoming;
use crate::obligation::{Obligation, Owed};
use crate::range_lock::Locked;
use crate::sites::site;
use crate::sync::{Backend, Entries, Word};

/// Where mapping stopped, and why.
pub(crate) type Stopped<C> = (Offset, MapError<Option<<C as Config>::Item>>);

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

/// The pages that a run takes out of a leaf, owed at its end.
struct Taken<'a, 'g, C: Config> {
    owed: &'a mut Obligation<'g, C::Backend>,
    /// Where the leaf begins.
    start: Offset,
    /// From the first to the last one.
    pages: Range<usize>,
}

impl<C: Config> Taken<'_, '_, C> {
    /// The page at `index`, behind all before, is about to be taken out.
    #[inline]
    fn note(&mut self, index: usize) {
        let first = if self.pages.is_empty() { index } else { self.pages.start };
        self.pages = first..index + 1;
    }
}

impl<C: Config> Drop for Taken<'_, '_, C> {
    #[inline]
    fn drop(&mut self) {
        if !self.pages.is_empty() {
            let pages = pages_owed::<C>(self.start, self.pages.clone());
            self.owed.owe(pages.by(C::Format::FENCES.page_goes));
        }
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

/// Rewrites entries that say `before` besides their frame, to say `after`, as long as they are
/// alike. Returns the index of the first that is not: absent, or of another property, perhaps since
/// a moment ago. In the bits of the frame `after` says which ones of these are turned around.
#[inline]
fn rewrite<'a, F: EntryFormat, W: Word + 'a>(
    entries: impl Entries<'a, W>,
    indices: Range<usize>,
    before: u64,
    after: u64,
) -> usize {
    for index in indices.clone() {
        let word = entries.get(index);
        let bits = word.load(site!(ENTRY_UNDER_LOCK));
        let frame = bits & F::LEAF_FRAME_BITS;
        if bits ^ frame != before || exchange_if::<F, W>(word, bits, after ^ frame).is_err() {
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

impl<C: Config> Locked<'_, '_, C> {
    /// Maps an item of `make` at each entry of this leaf that `range` touches.
    ///
    /// Stops at the first entry that is present, or whose item does not fit: with the address, and
    /// the item if one was made. The entries before it are then written.
    #[inline]
    pub(crate) fn map_run(
        &mut self,
        range: &Range<Offset>,
        make: &mut impl FnMut(Vaddr) -> C::Item,
        owed: &mut Obligation<'_, C::Backend>,
    ) -> Result<(), Stopped<C>> {
        let backend = self.backend();
        let indices = self.indices(range);
        let mut offset = self.slot(indices.start).start;
        let end = offset.plus(indices.len() as u64 * FRAME_SIZE);
        owed.settle(&<Geo<C>>::vaddrs(&(offset..end)));
        let mut encoded = Encoded::<C::Format> { last: None, _format: PhantomData };
        let mut run = Counted::new(self.guard());
        for index in indices {
            let vaddr = <Geo<C>>::vaddr(offset);
            let word = run.word(index);
            if word.load(site!(ENTRY_UNDER_LOCK)) != 0 {
                let reason = MapFault::AlreadyMapped { vaddr };
                return Err((offset, Refused { reason, back: None }));
            }
            let item = Incoming::<C>::new(backend, make(vaddr));
            if let Err(refusal) = item.check(Level::LEAF) {
                let reason = MapFault::Refused(refusal);
                return Err((offset, Refused { reason, back: Some(item.give_back()) }));
            }
            owed.owe_absent(Owed::page(vaddr, FRAME_SIZE).by(C::Format::FENCES.page_appears));
            // Absent, so hardware does not write it: a store is enough.
            let RawItem { frame, property, .. } = item.into_raw();
            word.store(encoded.of(property) ^ C::Format::frame(frame), site!(PUBLISH_ITEM));
            run.children += 1;
            offset = offset.plus(FRAME_SIZE);
        }
        Ok(())
    }

    /// Takes out every item of this leaf that `range` touches. Returns how many there were.
    #[inline]
    pub(crate) fn take_run(
        &mut self,
        range: &Range<Offset>,
        owed: &mut Obligation<'_, C::Backend>,
    ) -> u64 {
        let backend = self.backend();
        let indices = self.indices(range);
        let start = self.slot(0).start;
        let mut run = Counted::new(self.guard());
        let before = run.children;
        let mut taken = Taken::<C> { owed, start, pages: 0..0 };
        for index in indices {
            let word = run.word(index);
            let bits = word.load(site!(ENTRY_UNDER_LOCK));
            if bits == 0 {
                continue;
            }
            if C::Format::is_present(bits) {
                taken.note(index);
            }
            let bits = exchange_word::<C::Format, _>(word, bits, 0, site!(CLEAR_ENTRY));
            run.children -= 1;
            let Decoded::Item(raw) = C::Format::decode(bits, Level::LEAF) else {
                unreachable!("entries of a leaf lead to items")
            };
            // SAFETY: the item was taken out of the entry under the lock, once.
            unsafe { retire_item::<C>(backend, raw, taken.owed) };
        }
        u64::from(before - run.children)
    }

    /// Changes the property of every item of this leaf that `range` touches. Returns how many there
    /// were.
    #[inline]
    pub(crate) fn protect_run(
        &mut self,
        range: &Range<Offset>,
        change: &mut impl FnMut(Property) -> Property,
        owed: &mut Obligation<'_, C::Backend>,
    ) -> u64 {
        let indices = self.indices(range);
        let start = self.slot(0).start;
        let entries = self.guard().node().frame_ref().entries();
        let (mut index, mut found) = (indices.start, 0);
        while index < indices.end {
            let bits = entries.get(index).load(site!(ENTRY_UNDER_LOCK));
            if bits == 0 {
                index += 1;
                continue;
            }
            let before = bits & !C::Format::LEAF_FRAME_BITS;
            let flush = pages_owed::<C>(start, index..index + 1);
            let (after, is_owed) = changed_attributes::<C>(bits, change, flush, owed);
            let end = rewrite::<C::Format, _>(entries, index..indices.end, before, after);
            if is_owed && end > index {
                // How many pages are alike is known now, and nothing has panicked since.
                owed.owe(pages_owed::<C>(start, index..end));
            }
            found += (end - index) as u64;
            index = end;
        }
        found
    }
}

/// What is owed for these pages of a leaf that begins at `start`.
#[inline]
fn pages_owed<C: Config>(start: Offset, indices: Range<usize>) -> Owed {
    let first = <Geo<C>>::vaddr(start.plus(indices.start as u64 * FRAME_SIZE));
    Owed::pages(first, FRAME_SIZE, indices.len() as u64)
}

/// What becomes of entries of the lowest level that say the same as `bits` besides their frame, as
/// [`rewrite`] has it; and whether that is owed to caches.
#[inline(never)]
fn changed_attributes<C: Config>(
    bits: u64,
    change: &mut impl FnMut(Property) -> Property,
    flush: Owed,
    owed: &mut Obligation<'_, C::Backend>,
) -> (u64, bool) {
    let Decoded::Item(RawItem { property: old, .. }) = C::Format::decode(bits, Level::LEAF) else {
        unreachable!("entries of a leaf lead to items")
    };
    let new = changed::<C>(old, change, flush, owed);
    let turned = attributes::<C::Format>(old) & C::Format::LEAF_FRAME_BITS;
    (attributes::<C::Format>(new) ^ turned, C::Format::must_flush(old, new))
}
