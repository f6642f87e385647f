//! What operations do while a thread unwinds: nothing.
//!
//! A thread that is stopped unwinds through the program's destructors, and closures that were never
//! run are dropped. Both may use the program's objects at a point where nothing can be recorded or
//! waited for, so all operations are *inert*: nothing is stored, a compare-exchange succeeds, waits
//! return at once, loads give 0.
//!
//! A destructor that waits in a loop would wait for ever for another value than 0. So after
//! [`PATIENCE`] inert operations in one unwinding, loads count up slowly from 1 (a round of the
//! loop may have several, and gets the same value from all of them at some time) until the loop has
//! what it wants. A loop that wants something else still has to end: after [`OPERATIONS_MAX`] the
//! process does, with a sentence, because a destructor can be stopped in no other way.

use std::cell::Cell;
use std::io::Write as _;
use std::panic::Location;

/// Inert loads give 0 so often in one unwinding.
const PATIENCE: u32 = 100;
/// So many inert operations pass before loads give the next number.
const PACE: u32 = 16;
/// More inert operations than this, and the process ends.
const OPERATIONS_MAX: u32 = 1_000_000;
/// What the process ends with: an internal error, in the words of `sysexits.h`.
const EXIT_CODE: i32 = 70;

thread_local! {
    static DROPPING: Cell<bool> = const { Cell::new(false) };
    static OPERATIONS: Cell<u32> = const { Cell::new(0) };
}

/// Whether operations do nothing: the thread unwinds, or a closure is dropped without being run.
#[inline]
pub(crate) fn is_inert() -> bool {
    std::thread::panicking() || DROPPING.get()
}

/// From now on operations count for another unwinding.
pub(crate) fn begin() {
    OPERATIONS.set(0);
}

/// What a load gives if operations are inert, which counts as one.
#[inline]
pub(crate) fn inert_load(at: &'static Location<'static>) -> Option<u64> {
    if is_inert() { Some(count_load(at)) } else { None }
}

fn count_load(at: &'static Location<'static>) -> u64 {
    let count = OPERATIONS.get() + 1;
    if count > OPERATIONS_MAX {
        end(at);
    }
    OPERATIONS.set(count);
    count.saturating_sub(PATIENCE).div_ceil(PACE).into()
}

/// Whether operations are inert, in which case this counts as one.
#[inline]
pub(crate) fn skips(at: &'static Location<'static>) -> bool {
    inert_load(at).is_some()
}

fn end(at: &'static Location<'static>) -> ! {
    // Past the capture of tests, which the end of the process would lose.
    let _ = writeln!(
        std::io::stderr(),
        "weft-explorer: a destructor waits for ever at {}:{}, because operations have no effect \
         while a thread unwinds: let it return at once if std::thread::panicking()",
        at.file(),
        at.line()
    );
    std::process::exit(EXIT_CODE)
}

/// Drops a value whose destructor may use the program's objects, without letting it act.
pub(crate) fn drop_inertly<T>(value: T) {
    let before = DROPPING.replace(true);
    drop(value);
    DROPPING.set(before);
}
