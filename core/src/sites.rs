//! Every memory ordering of the core, as data.
//!
//! A *site* is one ordering argument: a name, an ordering, the partner at the other end of the
//! edge, what travels along it, and how we know that it is needed. Code names the site and the
//! backend resolves it: on metal a constant, under the model checkers possibly one step weaker.
//! So the table below is not documentation of the orderings, it *is* the orderings, and each of
//! them can be weakened in turn by a loop over the table.
//!
//! * One row per argument, not per call: two calls share a site if the argument is the same.
//! * A `Relaxed` row names what orders the access instead (`ordered by`). It cannot be weakened.
//! * `caught by` names scenarios that fail when the row is weakened: one that races cursors and one
//!   that races nodes and entries by hand, where both kinds reach the row.
//! * The core names a site as `site!(PUBLISH_NODE)`. That gives the row together with the line, so
//!   each line is weakened by itself, too. Where no scenario notices that, a comment above the line
//!   says why the ordering stays: `// weaker: <reason>`.
//! * `SeqCst` accesses do not exist: no variant of [`Order`] says so. A store-buffering argument
//!   uses a fence row with [`FenceOrder::SeqCst`].
//!
//! Vocabulary after Lahav et al., "Repairing sequential consistency in C/C++11" (PLDI'17).

#[expect(clippy::disallowed_types, reason = "the one place where orderings are chosen")]
use core::sync::atomic::Ordering;

/// The ordering of an access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// No ordering beyond coherence of the one word.
    Relaxed,
    /// What the writer did before its release is visible after this read.
    Acquire,
    /// What was done before this write is visible to a read that acquires it.
    Release,
    /// Both, for a read-modify-write.
    AcqRel,
}

impl Order {
    /// The ordering as the language's atomics take it.
    #[expect(clippy::disallowed_types, reason = "the one place where orderings are chosen")]
    pub const fn atomic(self) -> Ordering {
        match self {
            Self::Relaxed => Ordering::Relaxed,
            Self::Acquire => Ordering::Acquire,
            Self::Release => Ordering::Release,
            Self::AcqRel => Ordering::AcqRel,
        }
    }

    /// The orderings one step weaker.
    pub const fn weaker(self) -> &'static [Self] {
        match self {
            Self::Relaxed => &[],
            Self::Acquire | Self::Release => &[Self::Relaxed],
            Self::AcqRel => &[Self::Acquire, Self::Release],
        }
    }
}

/// The ordering of a fence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FenceOrder {
    /// No fence at all: what weakening ends with.
    None,
    /// Reads before the fence synchronise as if they were acquires.
    Acquire,
    /// Writes after the fence synchronise as if they were releases.
    Release,
    /// Both.
    AcqRel,
    /// Both, and all such fences are in one order that agrees with the memory they see.
    SeqCst,
}

impl FenceOrder {
    /// The ordering as the language's fence takes it; `None` where there is no fence.
    #[expect(clippy::disallowed_types, reason = "the one place where orderings are chosen")]
    pub const fn atomic(self) -> Option<Ordering> {
        match self {
            Self::None => None,
            Self::Acquire => Some(Ordering::Acquire),
            Self::Release => Some(Ordering::Release),
            Self::AcqRel => Some(Ordering::AcqRel),
            Self::SeqCst => Some(Ordering::SeqCst),
        }
    }

    /// The orderings one step weaker.
    pub const fn weaker(self) -> &'static [Self] {
        match self {
            Self::None => &[],
            Self::Acquire | Self::Release => &[Self::None],
            Self::AcqRel => &[Self::Acquire, Self::Release],
            Self::SeqCst => &[Self::AcqRel],
        }
    }
}

/// Why a row has the strength it has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Evidence {
    /// Already relaxed: there is nothing to weaken.
    Relaxed,
    /// Each of these scenarios fails when the row is weakened.
    CaughtBy(&'static [&'static str]),
}

/// What a row of the table says besides its ordering.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The name of the constant.
    pub name: &'static str,
    /// The position in the table, by which a sabotage selects a row.
    pub index: usize,
    /// Names of the rows at the other end of the edge, or of those that order a relaxed access.
    pub partners: &'static [&'static str],
    /// What the edge carries, or why a relaxed access needs none.
    pub carries: &'static str,
    /// How the strength is justified.
    pub evidence: Evidence,
}

/// A line that names a site.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    /// The file, as the compiler was told of it.
    pub file: &'static str,
    /// The line, from 1.
    pub line: u32,
}

/// The site of an access.
#[derive(Debug)]
pub struct Site {
    /// The table row.
    pub row: Row,
    /// The ordering as designed.
    pub order: Order,
    /// Where the site is named, if `site!` named it.
    pub place: Option<Place>,
}

impl Site {
    /// The same site, named on this line.
    pub(crate) const fn at(self, file: &'static str, line: u32) -> Self {
        Self { place: Some(Place { file, line }), ..self }
    }
}

/// The site of a fence.
#[derive(Debug)]
pub struct FenceSite {
    /// The table row.
    pub row: Row,
    /// The ordering as designed.
    pub order: FenceOrder,
    /// Where the site is named, if `site!` named it.
    pub place: Option<Place>,
}

impl FenceSite {
    /// The same site, named on this line.
    pub(crate) const fn at(self, file: &'static str, line: u32) -> Self {
        Self { place: Some(Place { file, line }), ..self }
    }
}

/// A site of either kind, for loops over the whole table.
#[derive(Clone, Copy, Debug)]
pub enum AnySite {
    /// An access.
    Access(&'static Site),
    /// A fence.
    Fence(&'static FenceSite),
}

impl AnySite {
    /// The table row.
    pub const fn row(self) -> &'static Row {
        match self {
            Self::Access(site) => &site.row,
            Self::Fence(site) => &site.row,
        }
    }

    /// How many ways there are to weaken the site by one step.
    pub const fn weakenings(self) -> usize {
        match self {
            Self::Access(site) => site.order.weaker().len(),
            Self::Fence(site) => site.order.weaker().len(),
        }
    }
}

/// The site of this name, with the line on which it is named.
macro_rules! site {
    ($name:ident) => {
        const { &$crate::sites::$name.at(file!(), line!()) }
    };
}
pub(crate) use site;

macro_rules! sites {
    (@evidence) => { Evidence::Relaxed };
    (@evidence $($scenario:literal),+) => { Evidence::CaughtBy(&[$($scenario),+]) };
    (@site access $order:ident $row:expr) => {
        Site { row: $row, order: Order::$order, place: None }
    };
    (@site fence $order:ident $row:expr) => {
        FenceSite { row: $row, order: FenceOrder::$order, place: None }
    };
    (@type access) => { Site };
    (@type fence) => { FenceSite };
    (@any access $site:expr) => { AnySite::Access($site) };
    (@any fence $site:expr) => { AnySite::Fence($site) };
    ($($kind:ident $name:ident: $order:ident,
        $(pairs with)? $(ordered by)? [$($partner:ident),+],
        carries $carries:literal
        $(, caught by [$($scenario:literal),+])?;)+
    ) => {
        #[expect(non_camel_case_types, reason = "the variants are the rows, in order")]
        enum Position { $($name),+ }
        $(
            #[doc = $carries]
            pub const $name: sites!(@type $kind) = sites!(@site $kind $order Row {
                name: stringify!($name),
                index: Position::$name as usize,
                partners: &[$(stringify!($partner)),+],
                carries: $carries,
                evidence: sites!(@evidence $($($scenario),+)?),
            });
        )+
        /// The whole table, in order.
        pub static ALL: &[AnySite] = &[$(sites!(@any $kind &$name)),+];
    };
}

sites! {
    access LOCK_ACQUIRE: Acquire, pairs with [LOCK_RELEASE],
        carries "everything earlier holders did under the lock",
        caught by ["lock_vs_lock", "lock_vs_lock_nested"];
    access LOCK_CONTENDED: Relaxed, ordered by [LOCK_ACQUIRE],
        carries "a failed attempt looks at nothing that the lock protects";
    access LOCK_RELEASE: Release, pairs with [LOCK_ACQUIRE],
        carries "everything this holder did under the lock",
        caught by ["lock_vs_lock", "lock_vs_lock_nested"];
    access LOCK_BORN_HELD: Relaxed, ordered by [PUBLISH_NODE],
        carries "no other CPU can reach the lock of a node that is not published";

    access ENTRY_INIT: Relaxed, ordered by [PUBLISH_NODE],
        carries "no other CPU can reach the entries of a node that is not published";
    access ENTRY_UNDER_LOCK: Relaxed, ordered by [LOCK_ACQUIRE],
        carries "only the lock holder changes the structure; hardware changes only A and D";
    access ENTRY_RETRY: Relaxed, ordered by [LOCK_ACQUIRE],
        carries "a failed exchange saw a new A or D bit of hardware and tries again";
    access WALK_ENTRY: Acquire, pairs with [PUBLISH_NODE, PUBLISH_ITEM, CLEAR_ENTRY, PROTECT_ENTRY],
        carries "a walker that sees a child or an item sees it complete",
        caught by ["walk_vs_grow", "look_vs_grow"];
    access PUBLISH_NODE: Release, pairs with [WALK_ENTRY],
        carries "the child's entries and metadata are complete before it is reachable",
        caught by ["walk_vs_grow", "look_vs_grow"];
    access PUBLISH_ITEM: Release, pairs with [WALK_ENTRY],
        carries "the frame's contents are complete before the frame is reachable",
        caught by ["walk_vs_map", "look_vs_remap"];
    access CLEAR_ENTRY: Release, pairs with [WALK_ENTRY],
        carries "a walker that finds the entry clear also sees every change made before the clear",
        caught by ["clear_vs_walk", "unmap_vs_ask"];
    access PROTECT_ENTRY: Release, pairs with [WALK_ENTRY],
        carries "what the mapper published: a store by another CPU ends the release sequence",
        caught by ["walk_vs_protect", "look_vs_protect"];

    fence QUERY_ORDER: SeqCst, pairs with [QUERY_ORDER],
        carries "of two CPUs that each change something and then ask, one sees the other's change",
        caught by ["ask_vs_ask"];

    access SPACE_INIT: Relaxed, ordered by [PUBLISH_NODE],
        carries "no other CPU can reach the words of a space whose root is not published";
    access SPACE_NUMBERED: Relaxed, ordered by [PUBLISH_NODE],
        carries "numbers only have to differ; a space's own is read where the space is known";
    access HOLDER_JOINS: Relaxed, ordered by [ACTIVATE_ORDER],
        carries "a fence follows, and the CPU reads the table only behind it";
    fence ACTIVATE_ORDER: SeqCst, pairs with [FLUSH_ORDER],
        carries "a flusher that does not find the CPU among the holders is seen by all its walks",
        caught by ["activate_vs_unmap", "activate_vs_detach", "switch_vs_unmap"];
    access GENERATION_SEEN: Acquire, pairs with [GENERATION_RAISED],
        carries "a CPU that is clean up to a flush sees in its walks what was changed before it",
        caught by ["lazy_vs_unmap", "switch_vs_unmap"];
    access GENERATION_RAISED: Release, pairs with [GENERATION_SEEN],
        carries "the change comes before its number; FLUSH_ORDER learns of those of lower ones",
        caught by ["lazy_vs_unmap", "switch_vs_unmap"];
    fence FLUSH_ORDER: SeqCst, pairs with [ACTIVATE_ORDER],
        carries "a CPU that joins later sees in its walks what was changed before",
        caught by ["activate_vs_unmap", "activate_vs_detach", "switch_vs_unmap"];
    access HOLDERS_SEEN: Acquire, pairs with [HOLDER_LEAVES],
        carries "a CPU that is not asked any more has done its last access",
        caught by ["copy_vs_writes", "copy_vs_hardware"];
    access HOLDER_LEAVES: Release, pairs with [HOLDERS_SEEN],
        carries "everything that the CPU did through the space is done before it leaves",
        caught by ["copy_vs_writes", "copy_vs_hardware"];

    access REFERENCE_BORN: Relaxed, ordered by [PUBLISH_NODE, PUBLISH_ITEM],
        carries "no other CPU can reach the count of a frame that is not published";
    access REFERENCE_INCREMENT: Relaxed, ordered by [REFERENCE_DECREMENT],
        carries "its CPU has a reference, or is in a section that outlasts the parent's";
    access REFERENCE_DECREMENT: Release, pairs with [REFERENCE_LAST],
        carries "what this owner did with the node is done before it is torn down",
        caught by ["drop_vs_walk", "drop_vs_drop"];
    fence REFERENCE_LAST: Acquire, pairs with [REFERENCE_DECREMENT],
        carries "the last owner sees what every earlier owner did with the node",
        caught by ["drop_vs_walk", "drop_vs_drop"];
    access DROP_WALK_ENTRY: Relaxed, ordered by [REFERENCE_LAST],
        carries "no other CPU can reach a node without references";
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::*;

    #[test]
    fn positions_are_the_order_of_the_table() {
        for (index, site) in ALL.iter().enumerate() {
            assert_eq!(site.row().index, index, "{}", site.row().name);
        }
    }

    #[test]
    fn partners_exist_and_are_mutual() {
        let find = |name: &str| ALL.iter().find(|site| site.row().name == name);
        for site in ALL {
            let row = site.row();
            for partner in row.partners {
                let other = find(partner).unwrap_or_else(|| panic!("{} names {partner}", row.name));
                let edge = site.weakenings() > 0;
                assert!(
                    !edge || other.row().partners.contains(&row.name),
                    "{} pairs with {partner}, which does not pair with it",
                    row.name
                );
            }
        }
    }

    #[test]
    fn only_relaxed_rows_go_without_evidence() {
        let bare: Vec<_> = ALL
            .iter()
            .filter(|site| (site.weakenings() == 0) != (site.row().evidence == Evidence::Relaxed))
            .map(|site| site.row().name)
            .collect();
        assert!(bare.is_empty(), "evidence and strength disagree: {bare:?}");
    }

    #[test]
    fn weakening_ends_at_relaxed() {
        let mut order = Order::AcqRel;
        while let Some(&weaker) = order.weaker().first() {
            order = weaker;
        }
        assert_eq!(order, Order::Relaxed);
        let mut order = FenceOrder::SeqCst;
        while let Some(&weaker) = order.weaker().first() {
            order = weaker;
        }
        assert_eq!(order, FenceOrder::None);
    }
}
