//! Runs: consecutive entries of one locked node, in one go.
//!
//! What a range operation costs per page is decided here, so a run counts its children once, not
//! once for each entry, and computes nothing twice.
//!
//! *Hardware writes too.* An entry in which hardware may still set a bit is changed with a
//! read-modify-write, any other with a plain store, which is four times cheaper: see
//! [`crate::entry`].
//!
//! *A run may be left early*, also by a panic of the caller's closure: the count of children is
//! then that of the entries written so far.

use core::ops::Range;

use crate::address::Vaddr;
use crate::config::Config;
use crate::error::MapFault;
use crate::format::{Decoded, EntryFormat, PageFlags, Property, RawItem};
use crate::gather::Gather;
use crate::geometry::Geometry;
use crate::guard::Guard;
use crate::item::{Incoming, Item};
use crate::sites::{CLEAR_ENTRY, ENTRY_RETRY, ENTRY_UNDER_LOCK, PROTECT_ENTRY, PUBLISH_ITEM};
use crate::subtree::Locked;
use crate::sync::{Backend, Word};

type Geo<C> = <<C as Config>::Backend as Backend>::Geometry;

/// A locked node whose children are counted while a run goes over it, and noted at its end.
struct Counted<'a, 'g, C: Config> {
    guard: &'a mut Guard<'g, C>,
    children: u16,
}

impl<'a, 'g, C: Config> Counted<'a, 'g, C> {
    #[inline]
    fn new(guard: &'a mut Guard<'g, C>) -> Self {
        let children = guard.children();
        Self { guard, children }
    }

    #[inline]
    fn word(&self, index: usize) -> &'g <C::Backend as Backend>::Word {
        self.guard.node().frame_ref().entry(index)
    }
}

impl<C: Config> Drop for Counted<'_, '_, C> {
    #[inline]
    fn drop(&mut self) {
        self.guard.set_children(self.children);
    }
}

/// A property that was computed from another one, kept for the next entry, which most often has
/// the same.
struct Changed<F> {
    change: F,
    last: Option<(Property, Property)>,
}

impl<F: FnMut(Property) -> Property> Changed<F> {
    #[inline]
    fn of(&mut self, old: Property) -> Property {
        match self.last {
            Some((from, to)) if from == old => to,
            _ => {
                let mut new = (self.change)(old);
                let is_tracked = old.flags.contains(PageFlags::TRACKED);
                new.flags.set(PageFlags::TRACKED, is_tracked);
                self.last = Some((old, new));
                new
            }
        }
    }
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
    /// Maps an item of `make` at each entry of this node that `range` touches, all of which it
    /// has whole.
    ///
    /// Stops at the first entry that is present, or whose item does not fit: with the address, and
    /// the item if one was made. The entries before it are then written.
    #[inline]
    pub(crate) fn map_run(
        &mut self,
        range: &Range<Vaddr>,
        make: &mut impl FnMut(Vaddr) -> C::Item,
    ) -> Result<(), (Vaddr, MapFault, Option<C::Item>)> {
        let (level, backend) = (self.level(), self.backend());
        let indices = self.indices(range);
        let mut vaddr = range.start.max(self.slot(0).start);
        let span = <Geo<C>>::entry_span(level);
        let mut run = Counted::new(self.guard());
        for index in indices {
            let word = run.word(index);
            if word.load(&ENTRY_UNDER_LOCK) != 0 {
                return Err((vaddr, MapFault::AlreadyMapped { vaddr }, None));
            }
            let item = Incoming::<C>::new(backend, make(vaddr));
            if let Err(misfit) = item.check(level) {
                return Err((vaddr, MapFault::Misfit(misfit), Some(item.give_back())));
            }
            // Absent, so hardware does not write it: a store is enough.
            word.store(C::Format::item(item.into_raw()), &PUBLISH_ITEM);
            run.children += 1;
            vaddr = vaddr.plus(span);
        }
        Ok(())
    }

    /// Takes out every item that `range` touches in this node, which has it whole. The node's
    /// entries lead to items only, or nowhere. Returns how many there were.
    #[inline]
    pub(crate) fn take_run(
        &mut self,
        range: &Range<Vaddr>,
        gather: &mut Gather<C::Backend>,
    ) -> u64 {
        let (level, backend) = (self.level(), self.backend());
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
            let Decoded::Item(raw) = C::Format::decode(bits, level) else {
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
            1 => gather.owe_page(start.plus(last as u64 * <Geo<C>>::entry_span(level))),
            _ => gather.owe_everything(),
        }
        u64::from(taken)
    }

    /// Changes the property of every item that `range` touches in this node, which has it whole.
    /// The node's entries lead to items only, or nowhere. Returns how many there were.
    #[inline]
    pub(crate) fn protect_run(
        &mut self,
        range: &Range<Vaddr>,
        change: impl FnMut(Property) -> Property,
        gather: &mut Gather<C::Backend>,
    ) -> u64 {
        let level = self.level();
        let indices = self.indices(range);
        let mut changed = Changed { change, last: None };
        let (mut found, mut owes) = (0, false);
        let frame = self.guard().node().frame_ref();
        for index in indices {
            let word = frame.entry(index);
            let mut bits = word.load(&ENTRY_UNDER_LOCK);
            if bits == 0 {
                continue;
            }
            found += 1;
            loop {
                let Decoded::Item(old) = C::Format::decode(bits, level) else {
                    unreachable!("entries of a leaf lead to items")
                };
                let property = changed.of(old.property);
                owes |= must_flush(old.property, property);
                let new = C::Format::item(RawItem { property, ..old });
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
        if owes {
            gather.owe_everything();
        }
        found
    }
}
