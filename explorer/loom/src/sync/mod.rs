//! `std::sync`, and loom's `Notify`.

#[expect(unsafe_code, reason = "owns its memory by a pointer")]
mod arc;
pub mod atomic;
mod barrier;
mod condvar;
pub mod mpsc;
#[expect(unsafe_code, reason = "gives the data to the thread that has locked")]
mod mutex;
mod notify;
#[expect(unsafe_code, reason = "gives the data to the threads that have locked")]
mod rwlock;

pub use self::arc::Arc;
pub use self::barrier::{Barrier, BarrierWaitResult};
pub use self::condvar::{Condvar, WaitTimeoutResult};
pub use self::mutex::{Mutex, MutexGuard};
pub use self::notify::Notify;
pub use self::rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
#[doc(no_inline)]
pub use std::sync::{LockResult, PoisonError, TryLockError, TryLockResult};
