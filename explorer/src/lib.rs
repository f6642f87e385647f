//! Explores every execution of a small concurrent program exactly once.
//!
//! Give [`explore`] a closure that creates its shared objects ([`Atomic`], [`Plain`], [`Mutex`]),
//! spawns threads, and asserts what must hold. The closure is run once for every execution that
//! the memory model allows: RC11 (C11 and Rust atomics as repaired by Lahav et al., PLDI'17),
//! x86-TSO, or sequential consistency. Two interleavings that give all reads the same values and
//! all writes the same order are one execution and are not run twice.
//!
//! ```
//! use std::sync::Arc;
//! use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
//! use weft_explorer::{Atomic, FailureKind, Options, Plain, Verdict, explore, replay, spawn};
//!
//! let message_passing = |order| move || {
//!     let shared = Arc::new((Plain::new(0u32), Atomic::new(0)));
//!     let writer = Arc::clone(&shared);
//!     let thread = spawn(move || {
//!         writer.0.set(42);
//!         writer.1.store(1, order);
//!     });
//!     if shared.1.load(Acquire) == 1 {
//!         assert_eq!(shared.0.get(), 42);
//!     }
//!     thread.join();
//! };
//! let report = explore(&Options::default(), message_passing(Release));
//! assert_eq!((report.verdict, report.executions), (Verdict::Exhausted, 2));
//!
//! // With a relaxed store nothing orders the two plain accesses.
//! let report = explore(&Options::default(), message_passing(Relaxed));
//! let failure = report.failure.expect("the race is found");
//! assert_eq!(failure.kind, FailureKind::DataRace);
//! println!("{failure}");
//!
//! // Its token leads back to exactly this execution.
//! let again = replay(&Options::default(), &failure.token, message_passing(Relaxed));
//! assert_eq!(again.failure.map(|again| again.message), Some(failure.message));
//! ```
//!
//! # Writing programs
//!
//! * **What threads race for is engine state.** Threads are coroutines that take values from the
//!   execution being explored. What happens before an operation has been done when the operation
//!   returns, so memory whose accesses are ordered by operations of the engine is real memory: a
//!   `Box` that is published with a release store and read after an acquire load may hold anything.
//!   A counter in an ordinary `Mutex` or `static` that nothing of the engine orders passes values
//!   in an order that has nothing to do with the execution. A thread that behaves differently
//!   although it read the same values is reported as nondeterminism; a leak that changes nothing
//!   but a message is not.
//! * **Waiting is said, not spun.** [`Atomic::await_eq`] and its kin, [`Mutex`], or
//!   [`Atomic::wait_for_change`] and [`wait_for_any_change`] at the end of a round of a loop that
//!   only reads. A retry loop that goes round only if another thread has changed something needs
//!   nothing. A loop that never ends is reported.
//! * **Objects are created inside the closure**, anew in each execution. Reports call them by
//!   number, or by the name that [`Atomic::named`] and its kin give them. A thread that waits for
//!   ever is kept until its execution is over, and unwinds then; all operations do nothing in its
//!   destructors.
//! * Histories are stamped with [`mark`], which knows happens-before, and not with a clock.
//!
//! # Windows
//!
//! A CPU may use what it has read from a page table long ago, until software invalidates it and
//! waits for all CPUs to do so. [`Atomic::load_within`] is such a read: it returns what the word
//! held at any time since its [`Window`] was opened, if the value is one that may be kept. The
//! explorer knows nothing of page tables. A model of paging hardware keeps, for each CPU, windows
//! in a [`Mutex`] that stands for the CPU's interrupts: a user's access holds it, and loads the
//! entries of a walk within a copy of a window; invalidating opens the window anew; a shootdown
//! plays the handlers of the other CPUs with [`Mutex::interrupt`].
//!
//! ```
//! use std::sync::Arc;
//! use std::sync::atomic::Ordering::{AcqRel, SeqCst};
//! use weft_explorer::{Atomic, FailureKind, Mutex, Options, Plain, Window, explore, fence, spawn};
//!
//! // One CPU unmaps a frame and frees it, the other one uses it twice.
//! let unmap = |flushes: bool| move || {
//!     let cpu = Mutex::named("cpu", Window::open());
//!     let shared = Arc::new((Atomic::named("entry", 1), Plain::named("frame", false), cpu));
//!     let user = Arc::clone(&shared);
//!     let thread = spawn(move || {
//!         for _ in 0..2 {
//!             let since = user.2.lock();
//!             let mut window = *since;
//!             if user.0.load_within(&mut window, |entry| entry != 0) != 0 {
//!                 assert!(!user.1.get(), "the frame is used after it was freed");
//!             }
//!         }
//!     });
//!     shared.0.swap(0, AcqRel);
//!     if flushes {
//!         fence(SeqCst);
//!         shared.2.interrupt(&Window::open(), |since, here| *since = *here);
//!         fence(SeqCst);
//!     }
//!     shared.1.set(true);
//!     thread.join();
//! };
//! assert!(explore(&Options::default(), unmap(true)).failure.is_none());
//! let failure = explore(&Options::default(), unmap(false)).failure.expect("it is caught");
//! assert_eq!(failure.kind, FailureKind::DataRace);
//! ```
//!
//! There is no TLB in this, and so nothing that a TLB alone rules out: a CPU may use a newer
//! translation and then an older one again. `tests/gate/tables.rs` says what else windows allow in
//! excess of hardware, and `tests/translations` has a toy page table with eighteen races.
//!
//! # Limits
//!
//! * No load buffering: RC11 forbids cycles of program order and reads-from, hardware does not.
//! * Loads within windows are acquire loads, as on x86. A walk that need not read its levels in
//!   order is not modelled.
//! * No mixed sizes and no mixture of plain and atomic accesses to one location.
//! * At most 8 threads and 60,000 events each. Threads have stacks of 2 MiB.
//! * No consume order, and no spurious failure of a weak compare-exchange unless [`choose`] makes
//!   it.
//! * `SeqCst` has the meaning of PLDI'17; that of C++20 (P0668) differs from it in small ways.
//! * The number of executions is exponential: two threads with a few dozen operations each,
//!   or three or four with a handful, are exhausted in seconds. Beyond, there are
//!   [`Options::deviations_max`] and [`Options::sample`], and a verdict that says so.
//!
//! # How it works
//!
//! The algorithm is TruSt (Kokologiannakis, Marmanis, Gladstein, Vafeiadis, POPL'22). Read `event`,
//! `accesses` and `graph` for what an execution is, `consistency` and `sequential` for what a model
//! forbids, `choices` for the algorithm with the arguments why nothing is lost or repeated,
//! `window` for loads that may be old, `engine` and `run` for how a closure is made to follow a
//! graph, `schedule` and `coroutines` for whose turn it is, `waiting` for deadlocks, `yielding`
//! for loops, `inert` for
//! what happens while a thread unwinds, `workers` for the search, and `trace`, `token` and
//! `failing` for what becomes of a failure. `tests/gate` compares all of it with independent
//! enumerators.

mod accesses;
#[expect(unsafe_code, reason = "an allocator")]
mod arena;
mod atomic;
mod choices;
mod consistency;
#[expect(unsafe_code, reason = "switches stacks, and borrows for as long as they live")]
mod coroutines;
mod engine;
mod event;
pub mod facade;
mod failing;
mod graph;
mod handle;
mod host;
mod inert;
mod locals;
mod mutex;
mod options;
mod panics;
mod plain;
mod relation;
mod report;
mod run;
mod sample;
mod schedule;
mod sequential;
mod threads;
mod token;
mod trace;
mod waiting;
mod window;
mod workers;
mod yielding;

pub use arena::Arena;
pub use atomic::{Atomic, assume, fence, wait_for_any_change};
pub use consistency::Model;
pub use locals::{AccessError, LocalKey};
pub use mutex::{Mutex, MutexGuard};
pub use options::{FailureCallback, Options, Progress, ProgressCallback, Sample};
pub use plain::{Plain, PlainValue};
pub use report::{Failure, FailureKind, Report, SourcePlace, Verdict};
pub use threads::{JoinHandle, Mark, choose, event_index, mark, spawn, thread_id};
pub use token::{Token, TokenError};
pub use trace::{BlockedThread, EventRef, Source, Trace, TraceEvent, TraceKind};
pub use window::Window;
pub use yielding::yield_now;

/// Runs the program once for every execution that the memory model allows.
///
/// With one worker the program runs on the calling thread, where debuggers and captured output find
/// it; with more it runs on as many threads of its own.
pub fn explore(options: &Options, program: impl Fn() + Send + Sync) -> Report {
    if let Some(refused) = refuse_nesting(options.model) {
        return refused;
    }
    let _arena = match install_arena(options) {
        Ok(arena) => arena,
        Err(message) => return refuse(options.model, message),
    };
    panics::install_hook();
    let (mut report, found) = match options.sample {
        Some(sample) => sample::explore_randomly(options, &program, sample),
        None => workers::explore_all(options, &program),
    };
    report.failure = found.map(|found| failing::describe_failure(options, &program, found));
    report
}

/// Replays the failing execution that a token describes, under the token's memory model.
///
/// The report is FAILED in any case: with the message and token of the original failure, or with
/// a sentence that says why the token does not lead there.
pub fn replay(options: &Options, token: &Token, program: impl Fn() + Send + Sync) -> Report {
    if let Some(refused) = refuse_nesting(token.model()) {
        return refused;
    }
    let _arena = match install_arena(options) {
        Ok(arena) => arena,
        Err(message) => return refuse(token.model(), message),
    };
    panics::install_hook();
    failing::replay_token(options, token, &program)
}

/// Nothing can be explored inside a program, or while operations are inert.
fn refuse_nesting(model: Model) -> Option<Report> {
    let message = if engine::is_installed() {
        "explore was called inside a program that is being explored: call it outside"
    } else if std::thread::panicking() {
        "explore was called by a destructor of a panicking thread: call it before or after"
    } else {
        return None;
    };
    Some(refuse(model, message))
}

fn refuse(model: Model, message: &str) -> Report {
    let mut report = Report::new(model);
    report.verdict = Verdict::Failed;
    report.failure = Some(failing::misuse(message, failing::empty_token(model)));
    report
}

/// The arena that the options ask for, in force until it is dropped.
fn install_arena(options: &Options) -> Result<Option<arena::Installed>, &'static str> {
    match options.arena {
        true if options.workers > 1 => Err("an arena serves one worker: explore with one"),
        true => arena::Installed::new().map(Some),
        false => Ok(None),
    }
}

/// The page that registries show, so that its example is compiled.
#[doc = include_str!("../README.md")]
#[expect(
    clippy::test_attr_in_doctest,
    reason = "the test is to be pasted, and runs in tests/paste"
)]
mod readme {}
