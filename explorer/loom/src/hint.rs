//! `std::hint`.

/// A round of a loop that waits: see [`crate::thread::yield_now`].
#[track_caller]
pub fn spin_loop() {
    crate::thread::yield_now();
}

/// This point is never reached: if it is, that is a failure.
///
/// # Safety
/// None is needed here. `unsafe` as in `std`.
///
/// # Panics
/// Always.
#[track_caller]
pub unsafe fn unreachable_unchecked() -> ! {
    unreachable!("unreachable_unchecked was reached!");
}
