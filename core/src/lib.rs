//! A concurrent page table, for kernels, behind a sync facade.
//!
//! The core is `no_std`, allocates nothing but frames, and names no concrete atomic, lock,
//! allocator or grace period: it is generic over a [`Backend`](sync::Backend). So the code that
//! model checkers explore is the code that a kernel runs, monomorphised for another backend; no
//! feature, no `cfg` and no copy separates the two.
//!
//! # A range
//!
//! What is done with a table is done by a cursor. It is written once, for every backend, every
//! format of entries and every configuration of tables:
//!
//! ```
//! use core::ops::Range;
//!
//! use weft_core::address::Vaddr;
//! use weft_core::config::Config;
//! use weft_core::cursor::Cursor;
//! use weft_core::error::LockError;
//! use weft_core::node::NodeRef;
//!
//! /// Counts the pages of a range, and unmaps them. Returns how many frames they had: a huge page
//! /// is one page, and many frames.
//! fn clear<C: Config>(
//!     root: NodeRef<'_, C>,
//!     range: Range<Vaddr>,
//! ) -> Result<(usize, u64), LockError> {
//!     // From here on no other CPU changes the range, and what is looked at stays true.
//!     let mut cursor = Cursor::lock(root, range.clone())?;
//!     let mut pages = 0;
//!     while let Some(slot) = cursor.find_next() {
//!         pages += 1;
//!         // Around the last page of the table the addresses end at 0, which is no next position.
//!         if slot.range.end >= range.end || cursor.jump(slot.range.end).is_err() {
//!             break;
//!         }
//!     }
//!     cursor.jump(range.start).expect("a position of the range");
//!     let frames = cursor.unmap(range.end).expect("there is memory to split huge pages");
//!     // Dropped, the cursor flushes what CPUs may have cached, unlocks, and hands the frames
//!     // over: they are freed when no CPU can be looking at them any more.
//!     Ok((pages, frames))
//! }
//! ```
//!
//! `weft-backend-baremetal` has a backend, and an example that runs.
//!
//! # Modules
//!
//! From the bottom up; an arrow of imports goes down, or stays on its floor:
//!
//! * the seam: [`sync`], and [`sites`], every memory ordering as a row of one table;
//! * pure data: [`address`], [`geometry`], [`format`](mod@format), [`error`], [`config`];
//! * nodes: [`lock`], [`node`], [`permanent`], [`guard`], [`item`], [`frame`], and [`entry`], the
//!   one place where an entry changes while hardware and lock-free walkers look on;
//! * the way: [`find`] descends to a locked node, [`range_lock`] holds all those of a range,
//!   [`prune`] takes out empty ones;
//! * what is done: [`cursor`], [`replace`], [`bulk`], [`run`], [`moving`], [`huge`] in a locked
//!   range, page by page or all at once; [`shared`] for readers that lock nothing;
//! * what is owed: [`stock`] is set aside before a change, an [`obligation`] is paid after it;
//!   [`reclaim`], [`grace`] and [`cpu`] make grace periods of quiescent states;
//! * [`audit`]: what must be so once no CPU is at work, for harnesses.
//!
//! `unsafe` is denied except in the modules declared with a reason below: that list is the audit
//! list. It is about ownership (an address becomes a handle exactly once), never about casting
//! memory, which is a backend's business.

#![no_std]

/// Makes a borrowed type copied, whatever its parameter is. Derived, that would have to be, too.
macro_rules! copied {
    ($type:ident<$parameter:ident: $bound:ident>) => {
        impl<$parameter: $bound> Clone for $type<'_, $parameter> {
            fn clone(&self) -> Self {
                *self
            }
        }

        impl<$parameter: $bound> Copy for $type<'_, $parameter> {}
    };
}

pub mod address;
#[expect(unsafe_code, reason = "a frame in use is taken for what its metadata says")]
pub mod audit;
pub mod bulk;
#[expect(unsafe_code, reason = "an item is shown to readers: a contract")]
mod child;
pub mod config;
#[expect(unsafe_code, reason = "loads the root that the CPU owns, and begins its sections")]
pub mod cpu;
pub mod cursor;
#[expect(unsafe_code, reason = "entries own nodes and items, written and taken out once")]
pub mod entry;
pub mod error;
pub mod find;
#[expect(unsafe_code, reason = "what is decoded is taken for what was encoded: a contract")]
pub mod format;
#[expect(unsafe_code, reason = "frames are owned through addresses, given up and taken back once")]
pub mod frame;
pub mod geometry;
#[expect(unsafe_code, reason = "keeps batches as pairs of addresses in cells")]
pub mod grace;
#[expect(unsafe_code, reason = "a raw write of an entry is a contract")]
pub mod guard;
pub mod huge;
#[expect(unsafe_code, reason = "items are given up to entries and taken back once")]
pub mod item;
#[expect(unsafe_code, reason = "exclusion is a contract")]
pub mod lock;
pub mod moving;
#[expect(unsafe_code, reason = "handles and borrowed nodes are made of addresses")]
pub mod node;
#[expect(unsafe_code, reason = "hands a batch to the reclamation of its backend")]
pub mod obligation;
#[expect(unsafe_code, reason = "CPUs stand on what a permanent table maps: a contract")]
pub mod permanent;
pub mod prune;
#[expect(unsafe_code, reason = "locks are held without guards, and given one at a time")]
pub mod range_lock;
#[expect(unsafe_code, reason = "batches own frames through links in their metadata")]
pub mod reclaim;
#[expect(unsafe_code, reason = "an address becomes a place: borrowed or counted frames")]
mod reference;
pub mod replace;
#[expect(unsafe_code, reason = "takes items out of entries")]
pub mod run;
pub mod shared;
pub mod sites;
#[expect(unsafe_code, reason = "a root owns the frame with the words of its address space")]
pub mod space;
pub mod stock;
#[expect(unsafe_code, reason = "what backends promise is a contract")]
pub mod sync;
pub mod tags;

/// The page that registries show, so that its example is compiled.
#[doc = include_str!("../README.md")]
mod readme {}
