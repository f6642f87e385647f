//! `std::thread`.

mod local;
#[expect(unsafe_code, reason = "threads that borrow")]
mod scope;
mod spawn;

pub use self::local::LocalKey;
pub use self::scope::{Scope, ScopedJoinHandle, scope};
pub use self::spawn::{Builder, JoinHandle, Thread, ThreadId, current, park, spawn};
#[doc(no_inline)]
pub use std::thread::panicking;
pub use weft_explorer::{AccessError, yield_now};
