//! `std::cell`, with data races found.

#[expect(unsafe_code, reason = "reads and writes what an UnsafeCell holds")]
mod copied;
#[expect(unsafe_code, reason = "gives references where the caller vouches for them")]
mod unsafe_cell;

pub use self::copied::Cell;
pub use self::unsafe_cell::{ConstPtr, MutPtr, UnsafeCell};
