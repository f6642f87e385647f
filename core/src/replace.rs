//! Replacing: another page in the place of one, without a moment in which there is none.
//!
//! A page is copied because it is shared and about to be written, or moved to memory that is
//! nearer. Unmapping it first and mapping the copy then would do, but readers without locks would
//! find nothing in between, and CPUs would fault on a page that is there.
//!
//! # The order of steps
//!
//! 1. *Exchange.* One read-modify-write puts the new page in the place of the old one, but without
//!    the right to write. What hardware has noted of the old page until then is in what it returns.
//! 2. *Flush*, on every CPU that may hold the old translation.
//! 3. *Allow.* Where the new page is to be written, it gets that right now.
//!
//! Between 1 and 2 some CPUs use the old page and others the new one. Hardware bears that: the
//! entry is never absent, and where only the frame and rights differ, neither x86-64 nor RISC-V
//! asks for the entry to be cleared and flushed in between. (Arm does, under the name of
//! break-before-make, where a page is writable or the contents differ.) Programs bear it as long as
//! both pages read alike, and neither is written: then they cannot tell which one they have. That
//! is why the right to write comes last. A CPU that wrote the new page earlier would write what
//! another CPU, on the old one, does not see, although both use one address.
//!
//! *What the caller ensures* is the same for the old page: it is not written from when its contents
//! are copied on. A page that may be written is [protected](Cursor::protect_next) and
//! [flushed](Cursor::flush) first; one that is copied because it is written is read-only already.
//!
//! *When `replace` returns*, no CPU translates through the old page. So the caller may compare the
//! two, or go on to use them together. The old item is given up as what is unmapped is: readers
//! that have found it keep it until their sections end.
//!
//! After Linux's `wp_page_copy` (`mm/memory.c`). It clears and flushes, and then maps the copy, so
//! that no CPU writes the copy while another still reads the original; here the second argument is
//! kept, and the hole is not.

use crate::address::Level;
use crate::config::{Config, Geo};
use crate::cursor::Cursor;
use crate::entry::{ChildRef, ItemRef};
use crate::error::{MapError, MapFault, Refused};
use crate::format::{PageFlags, Property, RawItem};
use crate::geometry::Geometry;
use crate::item::Incoming;
use crate::obligation::Obligation;
use crate::range_lock::Locked;

impl<'g, C: Config> Cursor<'g, C> {
    /// Puts `item` in the place of the page at the position, and moves behind it. Returns the old
    /// page, borrowed for the section, with what hardware had noted. Of a huge page at the position
    /// a part is replaced, if the item is smaller. Likewise of a page that is withheld from
    /// hardware, and of a mark: so a page takes the place of one, and one that of a page.
    ///
    /// Readers without locks find the old page, the new one without the right to write, or the new
    /// one; never nothing. When this returns, no CPU translates through the old page. See
    /// [`crate::replace`] for the steps, and for what the caller ensures of a page that is copied.
    ///
    /// ```
    /// # use weft_core::{config::Config, cursor::Cursor, format::{PageFlags, Property}};
    /// # use weft_core::{error::OutOfMemory, frame::Frame, item::MappedItem};
    /// /// Gives the page at the position a copy of its own, which may be written.
    /// fn copy_on_write<B, C>(cursor: &mut Cursor<'_, C>, backend: &B) -> Result<(), OutOfMemory>
    /// where
    ///     B: weft_core::sync::Backend,
    ///     C: Config<Backend = B, Item = MappedItem<B>>,
    /// {
    ///     let frame = Frame::allocate(backend)?;
    ///     // .. copies the contents: the page is read-only, so they stand still.
    ///     let property = Property::new(PageFlags::USER | PageFlags::WRITE);
    ///     match cursor.replace(MappedItem::Tracked { frame, property }) {
    ///         Ok(_old) => Ok(()),
    ///         // The copy comes back, and is freed.
    ///         Err(refused) => panic!("there is a page: {refused}"),
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`MapError`], with the item: [`MapFault::NoPage`] if no page of its size, or a larger one,
    /// is there, or what [`map`](Self::map) says of an item that does not fit. Memory is needed,
    /// and may run out, where a huge page has to be split. The table is then as it was.
    pub fn replace(&mut self, item: C::Item) -> Result<ItemRef<'g, C>, MapError<C::Item>> {
        self.began("Cursor::replace");
        let item = Incoming::<C>::new(self.backend(), item);
        let level = item.level();
        let checked = self.check_place(&item).and_then(|()| self.make_page(level));
        if let Err(reason) = checked {
            return Err(Refused { reason, back: item.give_back() });
        }
        let position = self.position();
        let (tree, owed) = self.parts();
        let mut node = tree.seek(position, level);
        let index = node.index(position);
        let old = node.replace_page(index, item.into_raw(), owed);
        self.move_to(position.plus(<Geo<C>>::entry_span(level)));
        Ok(old)
    }

    /// Makes the page at the position one of `level`: splits it, if it is larger.
    fn make_page(&mut self, level: Level) -> Result<(), MapFault> {
        let (position, vaddr) = (self.position(), self.vaddr());
        let node = self.parts().0.seek(position, level);
        match node.child(node.index(position)) {
            ChildRef::Item(page) if page.level > level => Ok(self.split_down(page.level, level)?),
            ChildRef::Item(_) => Ok(()),
            _ => Err(MapFault::NoPage { vaddr, length: <Geo<C>>::entry_span(level) }),
        }
    }
}

impl<'g, C: Config> Locked<'_, 'g, C> {
    /// Puts a page, raw and checked, in the place of the page at `index`, in
    /// three steps. No CPU translates through the old one any more when this returns.
    ///
    /// # Panics
    ///
    /// If there is no page.
    fn replace_page(
        &mut self,
        index: usize,
        raw: RawItem,
        owed: &mut Obligation<'_, C::Backend>,
    ) -> ItemRef<'g, C> {
        owed.settle(&self.addresses(index));
        let flush = self.flush_of(index);
        let mut readable = raw;
        readable.property.flags.remove(PageFlags::WRITE);
        let ChildRef::Item(old) = self.entry(index).put_over(readable, flush, owed) else {
            panic!("there is no page")
        };
        owed.flush();
        if raw.property.flags.contains(PageFlags::WRITE) {
            let mut allow = |mut property: Property| {
                property.flags.insert(PageFlags::WRITE);
                property
            };
            self.entry(index).protect_page(&mut allow, flush, owed);
        }
        old
    }
}
