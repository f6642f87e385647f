//! One engine per process, chosen at run time: what model memory is made of.
//!
//! Model memory and the scenarios would otherwise be compiled once for each engine. Instead their
//! words and cells are enums over those of the engines, and every operation is passed on by a
//! match. The match costs an execution next to nothing, and a quarter of the code is compiled.
//!
//! A process explores with one engine, because loom and shuttle cannot share one. So the choice is
//! made once, before anything is explored, and is the same for all threads.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};
use weft_explorer::Window;
use weft_scenarios::mark::Mark;

use crate::engine::{
    Access, Engine, EnginePlain, EngineWord, Exploration, Program, Search, Traits,
};
use crate::explorer::{Explorer, ExplorerPlain, ExplorerWord};
use crate::loom::{Loom, LoomPlain, LoomWord};
use crate::shuttle::{Shuttle, ShuttlePlain, ShuttleWord};
use crate::threads::{Threads, ThreadsPlain, ThreadsWord};

/// The engines that can be chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineName {
    /// [`Explorer`].
    #[default]
    Explorer,
    /// [`Loom`].
    Loom,
    /// [`Shuttle`].
    Shuttle,
    /// [`Threads`].
    Threads,
}

impl EngineName {
    /// What the engine says about itself.
    pub const fn traits(self) -> &'static Traits {
        match self {
            Self::Explorer => &Explorer::TRAITS,
            Self::Loom => &Loom::TRAITS,
            Self::Shuttle => &Shuttle::TRAITS,
            Self::Threads => &Threads::TRAITS,
        }
    }
}

impl fmt::Display for EngineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.traits().name)
    }
}

static CHOSEN: OnceLock<EngineName> = OnceLock::new();

/// Chooses the engine of this process.
///
/// # Panics
///
/// If another one was chosen before.
pub(crate) fn choose(engine: EngineName) {
    let chosen = CHOSEN.get_or_init(|| engine);
    assert!(*chosen == engine, "a process runs one engine, and this one runs {chosen}");
}

/// The engine of this process.
///
/// # Panics
///
/// If none was chosen yet: model memory is used outside of a search.
#[inline]
fn chosen() -> EngineName {
    *CHOSEN.get().expect("an engine is chosen before model memory is used")
}

/// Whichever engine was chosen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Chosen;

/// An expression over the type of the chosen engine.
macro_rules! with_engine {
    ($engine:ident => $expression:expr) => {
        match chosen() {
            EngineName::Explorer => {
                type $engine = Explorer;
                $expression
            }
            EngineName::Loom => {
                type $engine = Loom;
                $expression
            }
            EngineName::Shuttle => {
                type $engine = Shuttle;
                $expression
            }
            EngineName::Threads => {
                type $engine = Threads;
                $expression
            }
        }
    };
}

impl Engine for Chosen {
    fn traits() -> &'static Traits {
        chosen().traits()
    }

    type Word = ChosenWord;
    type Plain = ChosenPlain;

    #[track_caller]
    fn fence(order: Ordering) {
        with_engine!(E => E::fence(order));
    }

    fn cpu() -> usize {
        with_engine!(E => E::cpu())
    }

    fn position() -> u64 {
        with_engine!(E => E::position())
    }

    fn mark() -> Mark {
        with_engine!(E => E::mark())
    }

    fn draw(bound: u64) -> u64 {
        with_engine!(E => E::draw(bound))
    }

    fn memory_model(search: &Search) -> String {
        with_engine!(E => E::memory_model(search))
    }

    fn explore(search: &Search, program: Program) -> Exploration {
        with_engine!(E => E::explore(search, program))
    }
}

/// An expression over the word or cell inside.
macro_rules! with_inner {
    ($of:expr, $inner:ident => $expression:expr) => {
        match $of {
            Self::Explorer($inner) => $expression,
            Self::Loom($inner) => $expression,
            Self::Shuttle($inner) => $expression,
            Self::Threads($inner) => $expression,
        }
    };
}

/// A word of the chosen engine. The large ones are boxed: an execution makes all words of its
/// machine, and those of the explorer are small.
#[derive(Debug)]
pub enum ChosenWord {
    /// The explorer's.
    Explorer(ExplorerWord),
    /// loom's.
    Loom(Box<LoomWord>),
    /// shuttle's.
    Shuttle(Box<ShuttleWord>),
    /// The host's.
    Threads(ThreadsWord),
}

impl EngineWord for ChosenWord {
    #[track_caller]
    fn new(value: u64, access: Access) -> Self {
        match chosen() {
            EngineName::Explorer => Self::Explorer(ExplorerWord::new(value, access)),
            EngineName::Loom => Self::Loom(Box::new(LoomWord::new(value, access))),
            EngineName::Shuttle => Self::Shuttle(Box::new(ShuttleWord::new(value, access))),
            EngineName::Threads => Self::Threads(ThreadsWord::new(value, access)),
        }
    }

    fn id(&self) -> u32 {
        with_inner!(self, word => word.id())
    }

    #[track_caller]
    fn load(&self, order: Ordering) -> u64 {
        with_inner!(self, word => word.load(order))
    }

    #[track_caller]
    fn load_within(&self, window: &mut Window, may_keep: fn(u64) -> bool) -> u64 {
        with_inner!(self, word => word.load_within(window, may_keep))
    }

    #[track_caller]
    fn store(&self, value: u64, order: Ordering) {
        with_inner!(self, word => word.store(value, order));
    }

    #[track_caller]
    fn swap(&self, value: u64, order: Ordering) -> u64 {
        with_inner!(self, word => word.swap(value, order))
    }

    #[track_caller]
    fn compare_exchange(
        &self,
        old: u64,
        new: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        with_inner!(self, word => word.compare_exchange(old, new, success, failure))
    }

    #[track_caller]
    fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        with_inner!(self, word => word.fetch_add(value, order))
    }

    #[track_caller]
    fn fetch_sub(&self, value: u64, order: Ordering) -> u64 {
        with_inner!(self, word => word.fetch_sub(value, order))
    }

    #[track_caller]
    fn fetch_and(&self, value: u64, order: Ordering) -> u64 {
        with_inner!(self, word => word.fetch_and(value, order))
    }

    #[track_caller]
    fn fetch_or(&self, value: u64, order: Ordering) -> u64 {
        with_inner!(self, word => word.fetch_or(value, order))
    }

    #[track_caller]
    fn wait_for_change(&self) {
        with_inner!(self, word => word.wait_for_change());
    }
}

/// A plain cell of the chosen engine.
#[derive(Debug)]
pub enum ChosenPlain {
    /// The explorer's.
    Explorer(ExplorerPlain),
    /// loom's.
    Loom(Box<LoomPlain>),
    /// shuttle's.
    Shuttle(Box<ShuttlePlain>),
    /// The host's.
    Threads(ThreadsPlain),
}

impl EnginePlain for ChosenPlain {
    #[track_caller]
    fn new(value: u64) -> Self {
        match chosen() {
            EngineName::Explorer => Self::Explorer(ExplorerPlain::new(value)),
            EngineName::Loom => Self::Loom(Box::new(LoomPlain::new(value))),
            EngineName::Shuttle => Self::Shuttle(Box::new(ShuttlePlain::new(value))),
            EngineName::Threads => Self::Threads(ThreadsPlain::new(value)),
        }
    }

    fn id(&self) -> u32 {
        with_inner!(self, cell => cell.id())
    }

    #[track_caller]
    fn get(&self) -> u64 {
        with_inner!(self, cell => cell.get())
    }

    #[track_caller]
    fn set(&self, value: u64) {
        with_inner!(self, cell => cell.set(value));
    }
}
