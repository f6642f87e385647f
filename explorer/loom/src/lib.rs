//! A drop-in for loom 0.7 that explores every RC11 execution of a model exactly once: weft-loom.
//!
//! Code and tests that are written for loom stay as they are:
//!
//! ```toml
//! [patch.crates-io]
//! loom = { path = "../weft/explorer/loom" }
//! ```
//!
//! ```
//! use loom::sync::Arc;
//! use loom::sync::atomic::{AtomicUsize, Ordering::Relaxed};
//! use loom::thread;
//!
//! loom::model(|| {
//!     let count = Arc::new(AtomicUsize::new(0));
//!     let other = Arc::clone(&count);
//!     let thread = thread::spawn(move || other.fetch_add(1, Relaxed));
//!     count.fetch_add(1, Relaxed);
//!     thread.join().unwrap();
//!     assert_eq!(count.load(Relaxed), 2);
//! });
//! ```
//!
//! A failure tells what is wrong, with the places in the source text; the execution, step by step;
//! and a token. With the token in `LOOM_REPLAY`, the test runs that execution and no other.
//!
//! # What it does not do
//!
//! * **No interleavings.** An execution is what each read reads and in which order writes come, and
//!   it is explored once. Two interleavings that differ in nothing else are one: code that counts
//!   how often it was called, or looks at a clock, sees fewer of them.
//! * **No bound on preemptions.** `LOOM_MAX_PREEMPTIONS` has no effect, because there are no
//!   preemptions; everything is explored. `LOOM_MAX_PERMUTATIONS` and `LOOM_MAX_DURATION` cut a
//!   search short, which the line that is printed behind each model says. `LOOM_LOG` and
//!   `LOOM_LOCATION` have no effect: what they ask for is always there. [`stop_exploring`] has
//!   none either.
//! * **No load buffering**, as with loom: RC11 forbids cycles of program order and reads-from. And
//!   `SeqCst` accesses are sequentially consistent, which loom's are not.
//! * **No order from what is not loom's.** `std::sync::Arc`, mutexes and statics of the standard
//!   library work, but order nothing. Which thread drops the last `std::sync::Arc` is not part of
//!   an execution: if the value uses loom's objects in its destructor, or a thread does something
//!   else because of a count, that is reported as nondeterminism. Use [`sync::Arc`].
//! * **No memory beyond an execution.** The crate has a global allocator, and what a model
//!   allocates ends with its execution. Nothing of it may stay in a static, in a thread-local of
//!   the standard library, or in what the closure of the model has captured; a `Vec` that was
//!   captured and grows is safe if it had memory before. A binary with a global allocator of its
//!   own cannot be linked.
//! * **No destructors of threads that wait for ever** in executions that are given up. Statics of
//!   [`lazy_static!`] are kept to the end of an execution and not dropped; a thread that uses one
//!   while the main thread has ended is no failure.
//! * **No loops that wait by changing something.** A loop that yields and only reads waits, and is
//!   explored by its last round. Rounds that write (a swap, a lock that is taken and given back)
//!   are explored one by one, without an end if there is none: see [`thread::yield_now`].
//! * **No spurious wakes** of [`thread::park`] and [`sync::Condvar`], none of
//!   `compare_exchange_weak`, and no timeouts. [`sync::Notify`] and `future::block_on` wake once
//!   without a reason, as loom's do.
//! * **No more than 8 threads** of 2 MiB of stack and 32 MiB of memory each, and at most 64
//!   statics.
//! * **No checkpoints of a search.** `LOOM_CHECKPOINT_FILE` keeps the token of a failure.
//!
//! What it does in addition: use after free of loom's objects, double free, a leak of what
//! [`alloc`] and [`sync::Arc`] have allocated, an object that is used without being published,
//! barriers, scoped threads, nested locks, and deadlocks of threads that spin.

#[expect(unsafe_code, reason = "allocates")]
pub mod alloc;
pub mod cell;
#[cfg(feature = "futures")]
pub mod future;
#[expect(unsafe_code, reason = "a function that is unsafe in std")]
pub mod hint;
#[expect(unsafe_code, reason = "keeps values for as long as an execution")]
pub mod lazy_static;
pub mod model;
pub mod sync;
pub mod thread;
#[expect(unsafe_code, reason = "nothing is sent")]
mod unsend;
mod word;

#[doc(inline)]
pub use crate::model::model;

/// The most threads of a program, the main thread included.
pub const MAX_THREADS: usize = 8;

/// What models allocate has the same address in every execution.
#[global_allocator]
static ARENA: weft_explorer::Arena = weft_explorer::Arena;

/// Has no effect: everything is explored.
pub fn explore() {}

/// Has no effect: everything is explored.
pub fn stop_exploring() {}

/// Gives up this execution.
pub fn skip_branch() {
    weft_explorer::assume(false);
}

/// Lets the standard library allocate before an execution what it keeps beyond: the buffer of
/// the output, also of one that a test captures, and the handle of the thread.
fn keep_what_the_system_allocates() {
    let thread = std::thread::current();
    println!("weft-loom: exploring a model of {}", thread.name().unwrap_or("a thread"));
}

/// `std::thread_local!`: each thread of each execution has a value of its own.
#[macro_export]
macro_rules! thread_local {
    ($($(#[$attribute:meta])* $visibility:vis static $name:ident : $kind:ty = $value:expr);*
     $(;)?) => { $(
        $(#[$attribute])*
        $visibility static $name: $crate::thread::LocalKey<$kind> =
            $crate::thread::LocalKey { inner: $crate::__LocalKey::new(|| $value) };
    )* };
}

#[doc(hidden)]
pub use weft_explorer::LocalKey as __LocalKey;

/// `lazy_static::lazy_static!`: each execution has a value of its own.
#[macro_export]
macro_rules! lazy_static {
    ($(#[$attribute:meta])* $visibility:vis static ref $name:ident : $kind:ty = $value:expr;
     $($rest:tt)*) => {
        #[allow(missing_copy_implementations, non_camel_case_types, dead_code)]
        $(#[$attribute])*
        $visibility struct $name { _private: () }
        #[doc(hidden)]
        $visibility static $name: $name = $name { _private: () };
        impl ::core::ops::Deref for $name {
            type Target = $kind;

            fn deref(&self) -> &$kind {
                static LAZY: $crate::lazy_static::Lazy<$kind> =
                    $crate::lazy_static::Lazy {
                        init: || $value,
                        _p: ::core::marker::PhantomData,
                    };
                LAZY.get()
            }
        }
        $crate::lazy_static!($($rest)*);
    };
    () => {};
}
