//! `std::alloc`, with leaks found.

use std::fmt;

#[doc(no_inline)]
pub use std::alloc::Layout;
use weft_explorer::Arena;

/// As [`std::alloc::alloc`]; memory that is not given back is a leak.
///
/// # Safety
/// As there.
#[track_caller]
pub unsafe fn alloc(layout: Layout) -> *mut u8 {
    // SAFETY: the caller's promise.
    let pointer = unsafe { std::alloc::alloc(layout) };
    Arena::owes(pointer);
    pointer
}

/// As [`std::alloc::alloc_zeroed`]; memory that is not given back is a leak.
///
/// # Safety
/// As there.
#[track_caller]
pub unsafe fn alloc_zeroed(layout: Layout) -> *mut u8 {
    // SAFETY: the caller's promise.
    let pointer = unsafe { std::alloc::alloc_zeroed(layout) };
    Arena::owes(pointer);
    pointer
}

/// As [`std::alloc::dealloc`].
///
/// # Safety
/// As there.
pub unsafe fn dealloc(pointer: *mut u8, layout: Layout) {
    // SAFETY: the caller's promise.
    unsafe { std::alloc::dealloc(pointer, layout) }
}

/// A value that has to be dropped, or it is a leak.
pub struct Track<T> {
    value: T,
    /// Memory that is freed with the value.
    _token: Box<u8>,
}

impl<T> Track<T> {
    /// From now on the value has to be dropped.
    #[track_caller]
    pub fn new(value: T) -> Track<T> {
        let token = Box::new(0);
        Arena::owes(&raw const *token);
        Track { value, _token: token }
    }

    /// The value.
    pub fn get_ref(&self) -> &T {
        &self.value
    }

    /// The value.
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.value
    }

    /// The value, which need not be dropped any more.
    pub fn into_inner(self) -> T {
        self.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Track<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Track").field("value", &self.value).finish_non_exhaustive()
    }
}
