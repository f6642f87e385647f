//! Audits: whether a table is as the protocol leaves it once no CPU is at work.
//!
//! Most of what the protocol promises is about moments in which several CPUs are at work. When all
//! of them have ended, a table has to be in order: every node that its root leads to
//!
//! 1. is of its parent's configuration and of the level below it, and knows that it has a parent;
//! 2. is not locked: its last holder has given the lock back;
//! 3. is not stray: stray nodes are detached, so no entry leads to one;
//! 4. counts as many children as it has managed entries that are present, for the drop-walk and
//!    the marking of strays stop at the last one counted.
//!
//! [`audit`] looks at all of them, parents before children. It takes locks itself, but never waits
//! for one, so it does no harm at any time; only what it says supposes that no CPU is at work.
//!
//! A harness that runs a race of another author cannot name the roots, but it knows which frames
//! are in use. [`Found`] is such a frame: its metadata says whether it is a node, and one that
//! never had a parent is the top of a tree.

use core::fmt;

use crate::address::{Level, Paddr};
use crate::config::{Config, Geo, Kind, Tables};
use crate::entry::ChildRef;
use crate::geometry::Geometry;
use crate::node::{NodeRef, managed};
use crate::reference::FrameRef;
use crate::sync::{Backend, PlainCell};

/// What is wrong with a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Defect {
    /// It belongs to another configuration than its parent.
    OtherKind {
        /// Its configuration.
        found: Kind,
    },
    /// It is not of the level below its parent's.
    WrongLevel {
        /// Its level, as a number: 0 is none.
        found: u8,
    },
    /// An entry leads to it, and it takes itself for one that never had a parent.
    Unattached,
    /// Its lock is held.
    Locked,
    /// It is marked as detached.
    Stray,
    /// Its count of children is not the number of managed entries that are present.
    Miscounted {
        /// How many children it counts.
        counted: u16,
        /// How many entries are present.
        present: u16,
    },
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherKind { found } => {
                write!(f, "a reachable node is of another table: {found}")
            }
            Self::WrongLevel { found } => {
                write!(f, "a reachable node is not of the level below its parent's, but of {found}")
            }
            Self::Unattached => f.write_str("a node with a parent may be given another one"),
            Self::Locked => f.write_str("a node is still locked after all CPUs have ended"),
            Self::Stray => f.write_str("a reachable node is marked stray"),
            Self::Miscounted { counted, present } => {
                write!(f, "a node has lost count: it counts {counted} children and has {present}")
            }
        }
    }
}

/// A node that is not in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Broken {
    /// Where the node is.
    pub node: Paddr,
    /// Its level, by its place in the tree.
    pub level: Level,
    /// What is wrong.
    pub defect: Defect,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, level, defect } = self;
        write!(f, "{defect} (the node at {node:?}, level {})", level.as_u8())
    }
}

impl core::error::Error for Broken {}

/// Looks whether a node, and every node below it, is in order. Says how many there are.
///
/// The node itself is the top: nothing is said about what leads to it.
///
/// # Errors
///
/// The first node that is not.
#[track_caller]
pub fn audit<C: Config>(top: NodeRef<'_, C>) -> Result<u64, Broken> {
    let broken = |defect| Broken { node: top.paddr(), level: top.level(), defect };
    let guard = top.try_lock().ok_or_else(|| broken(Defect::Locked))?;
    if guard.is_stray() {
        return Err(broken(Defect::Stray));
    }
    let (mut present, mut nodes) = (0, 1);
    for index in managed::<C>(top.level()) {
        match guard.child(index) {
            ChildRef::Absent => continue,
            ChildRef::Node(child) => nodes += audit_child(child)?,
            ChildRef::Item(_) | ChildRef::Shared => {}
        }
        present += 1;
    }
    let counted = guard.children();
    if counted != present {
        return Err(broken(Defect::Miscounted { counted, present }));
    }
    Ok(nodes)
}

/// [`audit`] of a node that an entry leads to.
#[track_caller]
fn audit_child<C: Config>(node: NodeRef<'_, C>) -> Result<u64, Broken> {
    let metadata = node.frame_ref().metadata();
    let (kind, level) = (Kind(metadata.kind.get()), metadata.level.get());
    let defect = if kind != Kind::of::<C>() {
        Defect::OtherKind { found: kind }
    } else if level != node.level().as_u8() {
        Defect::WrongLevel { found: level }
    } else if !metadata.attached.get() {
        Defect::Unattached
    } else {
        return audit(node);
    };
    Err(Broken { node: node.paddr(), level: node.level(), defect })
}

/// A frame that was found to be in use, while no CPU is at work.
pub struct Found<'a, B: Backend> {
    frame: FrameRef<'a, B>,
}

impl<B: Backend> fmt::Debug for Found<'_, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Found({:?})", self.frame)
    }
}

impl<'a, B: Backend> Found<'a, B> {
    /// The frame at `paddr`.
    ///
    /// # Safety
    ///
    /// 1. [`Node`](crate::node::Node), [`Frame`](crate::frame::Frame) or
    ///    [`AddressSpace`](crate::space::AddressSpace) has allocated it from
    ///    `backend`, and it is not freed during `'a`.
    /// 2. During `'a`, no other CPU does anything with it, or with what its entries lead to.
    pub unsafe fn new(backend: &'a B, paddr: Paddr) -> Self {
        // SAFETY: (1) by the first part of the caller's contract; (2) entries are looked at by
        // `node` only, which asks the metadata, as the allocation has set it up, whether it is a
        // node.
        Self { frame: unsafe { FrameRef::new(backend, paddr) } }
    }

    /// What the frame is used as.
    #[track_caller]
    fn kind(&self) -> Kind {
        Kind(self.frame.metadata().kind.get())
    }

    /// Whether it is a node that never had a parent: the top of a tree.
    #[track_caller]
    pub fn is_top(&self) -> bool {
        ![Kind::FRAME, Kind::SPACE].contains(&self.kind()) && !self.frame.metadata().attached.get()
    }

    /// The node, if it is one of configuration `C`.
    ///
    /// # Panics
    ///
    /// If it is of a level that the geometry does not have.
    #[track_caller]
    pub fn node<C: Config<Backend = B>>(&self) -> Option<NodeRef<'a, C>> {
        if self.kind() != Kind::of::<C>() {
            return None;
        }
        let level = Level::new(self.frame.metadata().level.get());
        assert!(level <= <Geo<C>>::ROOT, "a node is of a level that there is not");
        // SAFETY: the kind says that it was allocated as a node of `C`, of this level, and the
        // contract of `new` that it is not freed during 'a.
        Some(unsafe { NodeRef::new(self.frame.backend(), self.frame.frame(), level) })
    }

    /// [`audit`] of the tree below this node, of whichever table of the backend's it is.
    ///
    /// # Errors
    ///
    /// The first node that is not in order.
    ///
    /// # Panics
    ///
    /// If it is no node.
    #[track_caller]
    pub fn audit(&self) -> Result<u64, Broken> {
        B::Tables::audit(self)
    }
}
