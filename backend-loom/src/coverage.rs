//! What a search has executed of the core: lines that name or use a site, and public operations.
//!
//! Noted while the CPUs race, for the whole process, which runs one search. What the set-up and the
//! final checks do is ordered before and after everything else, so no weakening of it could be
//! noticed.
//!
//! An access belongs to two lines, which most often are one: the line that names its site, and the
//! line of the call. They differ where a function that is used in several places names the site
//! for its callers (as [`NodeRef::walk`](weft_core::node::NodeRef::walk) does), or takes it as an
//! argument.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt;
use std::panic::Location;
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use weft_core::sites::{ALL, Place, Row};
use weft_scenarios::sabotage::CORE;

use crate::ghost::Ghost;

/// A line of the core.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct CoreLine {
    /// The file, seen from the workspace.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
}

impl fmt::Display for CoreLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// What a search has executed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// Sites, each with a line that an access belongs to.
    pub accesses: BTreeSet<(String, CoreLine)>,
    /// Public operations, as `Cursor::map`.
    pub operations: BTreeSet<String>,
}

impl Coverage {
    /// Whether nothing was noted.
    pub fn is_empty(&self) -> bool {
        self.accesses.is_empty() && self.operations.is_empty()
    }
}

/// Index of the site, file, line.
static ACCESSES: Mutex<BTreeSet<(usize, &str, u32)>> = Mutex::new(BTreeSet::new());
static OPERATIONS: Mutex<BTreeSet<&str>> = Mutex::new(BTreeSet::new());

/// How much each thread remembers of what it has noted.
const NOTED: usize = 256;

thread_local! {
    /// What this thread has noted: most accesses are those of the execution before.
    static KNOWN: [Cell<(usize, usize)>; NOTED] = const { [const { Cell::new((0, 0)) }; NOTED] };
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Calls `note`, if the CPUs race, unless this thread has noted the same before. Two addresses that
/// never change say what it is.
fn note_once(what: (usize, usize), note: impl FnOnce()) {
    let slot = (what.0 ^ what.1.rotate_left(4)) >> 3 & (NOTED - 1);
    KNOWN.with(|known| {
        if known[slot].get() != what && Ghost::is_racing_now() {
            known[slot].set(what);
            note();
        }
    });
}

/// Notes an access whose site was named at `place`.
#[track_caller]
pub(crate) fn access(row: &'static Row, place: Option<Place>) {
    let caller = Location::caller();
    note_once((ptr::from_ref(row).addr(), ptr::from_ref(caller).addr()), || {
        let caller = Place { file: caller.file(), line: caller.line() };
        let mut accesses = lock(&ACCESSES);
        for Place { file, line } in place.into_iter().chain([caller]) {
            if file.starts_with(CORE) {
                accesses.insert((row.index, file, line));
            }
        }
    });
}

/// Notes that a public operation begins.
pub(crate) fn operation(name: &'static str) {
    note_once((name.as_ptr().addr(), 0), || {
        lock(&OPERATIONS).insert(name);
    });
}

/// What this process has executed while CPUs raced.
pub(crate) fn so_far() -> Coverage {
    let accesses = lock(&ACCESSES);
    let accesses = accesses.iter().map(|&(index, file, line)| {
        (ALL[index].row().name.to_owned(), CoreLine { file: file.to_owned(), line })
    });
    Coverage {
        accesses: accesses.collect(),
        operations: lock(&OPERATIONS).iter().map(|&name| name.to_owned()).collect(),
    }
}
