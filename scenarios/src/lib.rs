//! Races of page tables, each written once and run everywhere.
//!
//! A race is one file, `tests/<actor>_vs_<actor>.rs`. It implements [`Scenario`] for a struct that
//! holds what the CPUs share, and ends with `scenario!(Race);`. That is all there is to do: cargo
//! finds the file as a test target, the `model-check` command and the kernel collect it when they
//! are built. The file is generic over the [`World`](world::World) it runs in, imports from `core`
//! and from here only, and contains no `unsafe`.
//!
//! # Modules
//!
//! * [`mod@scenario`]: what a race says about itself: CPUs, outcomes, situations, twins;
//! * [`mod@mistake`]: what callers have done wrong;
//! * [`sabotage`]: ways to break the world, and what each is called; [`detector`]: what notices
//!   says;
//! * [`world`]: what a race needs besides the core: memory contents, user accesses, set-up;
//!   [`metal`]: the same from processors of the production backend;
//! * [`specification`]: what a page table promises, for histories and for every other check;
//! * [`history`], [`page_map`], [`linearize`]: what each CPU did and was told, what it was asked
//!   of, and whether that is possible under the specification; [`mark`]: what was over before what;
//! * [`parent`]: a node whose children are taken out while CPUs look at them;
//! * [`shared`]: words and locks of a kernel's own, beside its tables;
//! * [`tables`]: the two configurations of page tables that scenarios use;
//! * [`transaction`]: operations of histories, carried out with cursors;
//! * [`random`]: numbers for tests that choose at random.
//!
//! # A race
//!
//! This is all of `tests/walk_vs_map.rs`:
//!
//! ```
#![doc = include_str!("../tests/walk_vs_map.rs")]
//! ```
//!
//! # What CPUs share
//!
//! A CPU sees only what the protocol shows it. State that passes from one CPU to another in any
//! other way (a static, a lock of the standard library) is invisible to the checkers, which may
//! run the CPUs one after the other; so a race shares nothing but what its struct holds.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod detector;
pub mod history;
pub mod linearize;
pub mod mark;
pub mod metal;
pub mod mistake;
pub mod page_map;
pub mod parent;
pub mod random;
pub mod sabotage;
pub mod scenario;
pub mod shared;
pub mod specification;
pub mod tables;
pub mod transaction;
pub mod world;

pub use scenario::{Scenario, Visitor, name_of};

/// Everything a scenario file imports.
pub mod prelude {
    pub use weft_core::address::{CpuId, Level, Paddr, Vaddr};
    pub use weft_core::cpu::ReadSide;
    pub use weft_core::cursor::Cursor;
    pub use weft_core::entry::{Child, ChildRef};
    pub use weft_core::error::{LockError, MapFault};
    pub use weft_core::find::{lock_covering, try_lock_covering};
    pub use weft_core::format::{PageFlags, Property};
    pub use weft_core::frame::Frame;
    pub use weft_core::geometry::{Geometry, Shape};
    pub use weft_core::guard::Guard;
    pub use weft_core::item::{MappedItem, Mark};
    pub use weft_core::node::{Node, NodeRef};
    pub use weft_core::permanent::Permanent;
    pub use weft_core::reclaim::{Detached, Reclaim};
    pub use weft_core::shared::SharedCursor;
    pub use weft_core::sites;
    pub use weft_core::space::AddressSpace;
    pub use weft_core::sync::{Backend, Event, PlainCell};

    pub use crate::history::History;
    pub use crate::linearize::assert_linearizable;
    pub use crate::mistake::{Mistakes, mistake, mistakes};
    pub use crate::page_map::{Answer, Mapping, Operation, PageMap};
    pub use crate::parent::Parent;
    pub use crate::scenario;
    pub use crate::scenario::{
        Cpu, Cpus, Outcome, Scenario, Situation, Twins, acceptable, cpus, forbidden, forgotten_cpu,
        forgotten_holder, freed_at_once, interesting, late_shootdown, masked_shootdown, met,
        no_shootdown, partial_shootdown, situation, tags_kept, torn_updates, twins, weakened,
        weakened_fence,
    };
    pub use crate::shared::{KernelLock, SharedWord};
    pub use crate::tables::{KernelTable, UserTable};
    pub use crate::transaction::{
        Space, Table, carry_out, fresh_item, lent_item, look, page, pages,
    };
    pub use crate::world::{Blank, Machine, Parcel, World, walk_to_leaf};
}

/// Makes the race known: the last line of every scenario file.
///
/// In the file's own test target it also makes one test per checker.
#[macro_export]
macro_rules! scenario {
    ($race:ident) => {
        pub(crate) fn accept<B: $crate::world::World, V: $crate::Visitor<B>>(visitor: V) -> V::Out {
            visitor.visit::<$race<B>>(const { $crate::name_of(module_path!()) })
        }
        #[cfg(all(test, not(weft_collected)))]
        ::weft_backend_loom::tests!();
    };
}
