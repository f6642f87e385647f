//! Model memory: frames that know whether they are in use.
//!
//! * *Life.* Every frame has two plain cells, `born` and `died`. Allocation writes the one, freeing
//!   the other, and every touch of the frame, its entries or its metadata reads both. So a use
//!   that is not ordered after the allocation, or not before the free, is a data race in *any*
//!   interleaving, not only in the unlucky one where it happens to read the wrong value.
//! * *Quarantine.* A freed frame is not handed out again within an execution, unless a CPU asks for
//!   the frames that it has freed itself: those of other CPUs it could not know.
//! * *Poison.* Entries of a fresh frame hold a value that no format decodes.
//! * *Pools.* The set-up and each CPU have frames of their own: which frame an allocation gives
//!   must not depend on the order in which an engine runs the CPUs.
//! * *Accounts.* What is in use at the end is a leak, and is listed.

use std::fmt;
use std::panic::Location;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use weft_core::address::Paddr;
use weft_core::geometry::Geometry;
use weft_core::node::Metadata;
use weft_core::sync::{FrameUse, PlainCell};
use weft_scenarios::detector::{LEAK, NO_FRAME, ROOT_FREED, USE_AFTER_FREE, USE_BEFORE_ALLOCATION};

use crate::actor::Actor;
use crate::ghost::{Ghost, Label, Step};
use crate::model::Model;
use crate::words::{self, ModelCell, ModelWord};

/// What entries of a fresh frame hold: not absent, not present.
pub(crate) const POISON: u64 = 0xdead_0002;

/// How many frames there are, and for whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pools {
    /// CPUs of the race.
    pub(crate) cpus: usize,
    /// Frames for the set-up.
    pub(crate) set_up: usize,
    /// Frames for each CPU.
    pub(crate) per_cpu: usize,
}

impl Pools {
    fn frames(self) -> usize {
        self.set_up + self.cpus * self.per_cpu
    }

    /// The frames of a pool; the set-up's pool has the number of CPUs as its number.
    fn range(self, pool: usize) -> std::ops::Range<usize> {
        if pool == self.cpus {
            0..self.set_up
        } else {
            let start = self.set_up + pool * self.per_cpu;
            start..start + self.per_cpu
        }
    }
}

/// One frame: life, metadata, entries, contents.
struct Frame<G: Geometry> {
    born: ModelCell<bool>,
    died: ModelCell<bool>,
    contents: ModelCell<u64>,
    metadata: Metadata<Model<G>>,
    entries: Vec<ModelWord>,
    /// Ghost: whether it was ever allocated.
    allocated: AtomicBool,
    /// Ghost: whether it was freed. A checker may run the CPU that frees it before the other.
    freed: AtomicBool,
    /// Ghost: where it was allocated.
    allocated_at: Mutex<Option<&'static Location<'static>>>,
}

impl<G: Geometry> Frame<G> {
    fn new(number: u64) -> Self {
        Ghost::naming(number, || Self {
            born: ModelCell::new("born", false),
            died: ModelCell::new("died", false),
            contents: ModelCell::new("contents", 0),
            metadata: Metadata::new(),
            entries: (0..G::ENTRIES).map(|index| ModelWord::entry(index, POISON)).collect(),
            allocated: AtomicBool::new(false),
            freed: AtomicBool::new(false),
            allocated_at: Mutex::new(None),
        })
    }

    fn is_in_use(&self) -> bool {
        self.allocated.load(Ordering::Relaxed) && !self.freed.load(Ordering::Relaxed)
    }
}

/// All frames of an execution, and the root that each CPU has loaded.
pub(crate) struct Memory<G: Geometry> {
    frames: Vec<Frame<G>>,
    pools: Pools,
    /// Ghost: how many frames each pool has given; written by its own CPU only.
    given: Vec<AtomicUsize>,
    /// Ghost: how many frames each pool gives; written by its own CPU only.
    limits: Vec<AtomicUsize>,
    /// Ghost: what each CPU has freed and takes again, if it does; touched by that CPU only.
    reused: Vec<Mutex<Option<Vec<usize>>>>,
    /// Ghost: the root that each CPU has loaded, plus 1; under the lock of its paging hardware.
    loaded: Vec<AtomicU64>,
}

impl<G: Geometry> fmt::Debug for Memory<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("pools", &self.pools).finish_non_exhaustive()
    }
}

impl<G: Geometry> Memory<G> {
    pub(crate) fn new(pools: Pools) -> Self {
        Self {
            frames: (1..=pools.frames()).map(|number| Frame::new(number as u64)).collect(),
            pools,
            given: (0..=pools.cpus).map(|_| AtomicUsize::new(0)).collect(),
            limits: (0..=pools.cpus).map(|_| AtomicUsize::new(usize::MAX)).collect(),
            reused: (0..=pools.cpus).map(|_| Mutex::new(None)).collect(),
            loaded: (0..=pools.cpus).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Whether the model has contents for this frame. Untracked items may map anything.
    pub(crate) fn has(&self, paddr: Paddr) -> bool {
        (1..=self.frames.len() as u64).contains(&paddr.frame_number())
    }

    /// The frame at an address, which must be in use. Without an actor it may be any frame:
    /// nothing will be done to it.
    ///
    /// # Panics
    ///
    /// If there is none, because something was decoded that is not an address, or if it is not in
    /// use.
    #[track_caller]
    fn touch(&self, paddr: Paddr) -> &Frame<G> {
        let number = paddr.frame_number() as usize;
        if Actor::now().is_none() {
            return &self.frames[number.saturating_sub(1).min(self.frames.len() - 1)];
        }
        assert!((1..=self.frames.len()).contains(&number), "{paddr:?} {NO_FRAME}");
        let frame = &self.frames[number - 1];
        assert!(frame.born.get(), "{USE_BEFORE_ALLOCATION}: N{number}");
        assert!(!frame.died.get(), "{USE_AFTER_FREE}: N{number}");
        frame
    }

    #[track_caller]
    pub(crate) fn allocate(&self, actor: Actor, purpose: FrameUse) -> Option<Paddr> {
        let pool = actor.column();
        let given = self.given[pool].load(Ordering::Relaxed);
        if given >= self.limits[pool].load(Ordering::Relaxed) {
            return None;
        }
        let reused = self.reused(pool, Vec::pop).flatten();
        let index = reused.or_else(|| {
            self.given[pool].store(given + 1, Ordering::Relaxed);
            self.pools.range(pool).nth(given)
        })?;
        let paddr = Paddr::of_frame(index as u64 + 1);
        let frame = &self.frames[index];
        if reused.is_some() {
            frame.freed.store(false, Ordering::Relaxed);
            frame.died.set(false);
        }
        words::record(actor, life(paddr), Step::Allocate(paddr, purpose));
        frame.allocated.store(true, Ordering::Relaxed);
        *frame.allocated_at.lock().expect("nothing panics here") = Some(Location::caller());
        frame.born.set(true);
        Some(paddr)
    }

    /// The CPU takes again what it frees from now on, the last one first.
    pub(crate) fn reuse_frames(&self, actor: Actor) {
        let mut reused = self.reused[actor.column()].lock().expect("nothing panics here");
        reused.get_or_insert_default();
    }

    /// Calls `body` on what the CPU has freed, if it takes that again.
    fn reused<R>(&self, pool: usize, body: impl FnOnce(&mut Vec<usize>) -> R) -> Option<R> {
        self.reused[pool].lock().expect("nothing panics here").as_mut().map(body)
    }

    /// The CPU gets `count` more frames at most.
    pub(crate) fn limit_frames(&self, actor: Actor, count: usize) {
        let pool = actor.column();
        let limit = self.given[pool].load(Ordering::Relaxed).saturating_add(count);
        self.limits[pool].store(limit, Ordering::Relaxed);
    }

    #[track_caller]
    pub(crate) fn free(&self, actor: Actor, paddr: Paddr) {
        let frame = self.touch(paddr);
        // Only of itself does a CPU know what it has loaded; see `crate::ghost`.
        assert!(self.loaded_root(actor) != Some(paddr), "{ROOT_FREED}: N{}", paddr.frame_number());
        frame.freed.store(true, Ordering::Relaxed);
        words::record(actor, life(paddr), Step::Free(paddr));
        frame.died.set(true);
        self.reused(actor.column(), |frames| frames.push(paddr.frame_number() as usize - 1));
    }

    #[track_caller]
    pub(crate) fn metadata(&self, paddr: Paddr) -> &Metadata<Model<G>> {
        &self.touch(paddr).metadata
    }

    #[track_caller]
    pub(crate) fn entry(&self, paddr: Paddr, index: usize) -> &ModelWord {
        &self.touch(paddr).entries[index]
    }

    /// The entry as paging hardware remembers it: no CPU looks at the node.
    pub(crate) fn remembered(&self, paddr: Paddr, index: usize) -> &ModelWord {
        &self.frames[paddr.frame_number() as usize - 1].entries[index]
    }

    #[track_caller]
    pub(crate) fn contents(&self, paddr: Paddr) -> &ModelCell<u64> {
        &self.touch(paddr).contents
    }

    /// Loads a root on the CPU.
    pub(crate) fn load_root(&self, actor: Actor, root: Option<Paddr>) {
        let value = root.map_or(0, |root| root.as_u64() + 1);
        self.loaded[actor.cpu()].store(value, Ordering::Relaxed);
    }

    /// The root that the CPU has loaded.
    pub(crate) fn loaded_root(&self, actor: Actor) -> Option<Paddr> {
        self.root_of(actor.cpu())
    }

    /// The root that a CPU has loaded whose paging hardware the caller plays.
    pub(crate) fn root_of(&self, cpu: usize) -> Option<Paddr> {
        let value = self.loaded[cpu].load(Ordering::Relaxed);
        value.checked_sub(1).map(Paddr::new)
    }

    /// The frames that are in use, once all CPUs have ended.
    pub(crate) fn in_use(&self) -> impl Iterator<Item = Paddr> {
        let frames = self.frames.iter().enumerate();
        let used = frames.filter(|(_, frame)| frame.is_in_use());
        used.map(|(index, _)| Paddr::of_frame(index as u64 + 1))
    }

    /// Checks, after everything was given up, that every frame was freed.
    ///
    /// # Panics
    ///
    /// If frames are still in use; they are listed.
    pub(crate) fn check_accounts(&self) {
        let freed = self.frames.iter().filter(|frame| frame.freed.load(Ordering::Relaxed)).count();
        let leaked = self.in_use().count();
        if leaked == 0 {
            return;
        }
        let mut list = String::new();
        for (index, frame) in self.frames.iter().enumerate() {
            if frame.is_in_use() {
                let at = frame.allocated_at.lock().expect("nothing panics here");
                let at = at.map_or_else(String::new, |at| format!(" (allocated at {at})"));
                list += &format!(" N{}{at}", index + 1);
            }
        }
        panic!("{LEAK}allocated {}, freed {freed}, never freed:{list}", leaked + freed);
    }
}

/// The label of a frame as a whole.
fn life(paddr: Paddr) -> Label {
    Label { frame: Some(paddr.frame_number()), name: "life", index: None }
}
