//! `std::cell::UnsafeCell`, with each access said: by closures, or for as long as a pointer lives.
//!
//! An access is one of plain memory in the execution, which finds those that nothing orders. It
//! lasts until the closure returns or the pointer is dropped; whatever other access comes between,
//! also one of the same thread, is a failure.

use std::fmt;
use std::sync::Arc as StdArc;
use std::sync::atomic::{AtomicIsize, Ordering};

use weft_explorer::facade::Origin;
use weft_explorer::{Plain, event_index};

/// A writer is in the cell.
const WRITING: isize = -1;

#[derive(Debug)]
struct State {
    accesses: Plain<()>,
    /// How many readers are in the cell, or [`WRITING`]. Memory of the host: what goes on now.
    inside: AtomicIsize,
}

/// `std::cell::UnsafeCell`.
pub struct UnsafeCell<T: ?Sized> {
    state: StdArc<State>,
    origin: Origin,
    data: std::cell::UnsafeCell<T>,
}

/// An access that goes on.
#[derive(Debug)]
struct Access {
    state: StdArc<State>,
    writes: bool,
    begun: usize,
}

/// A pointer that holds a cell for reading.
#[derive(Debug)]
pub struct ConstPtr<T: ?Sized> {
    _access: Access,
    pointer: *const T,
}

/// A pointer that holds a cell for writing.
#[derive(Debug)]
pub struct MutPtr<T: ?Sized> {
    _access: Access,
    pointer: *mut T,
}

impl State {
    #[track_caller]
    fn touch(&self, writes: bool) {
        if writes { self.accesses.set(()) } else { self.accesses.get() }
    }
}

impl Access {
    #[track_caller]
    fn begin(state: &StdArc<State>, writes: bool) -> Access {
        state.touch(writes);
        let inside = state.inside.load(Ordering::Relaxed);
        let now = if writes { WRITING } else { inside + 1 };
        let is_free = if writes { inside == 0 } else { inside >= 0 };
        if !is_free && !std::thread::panicking() {
            let (own, other) = match (writes, inside) {
                (true, WRITING) => ("write", "written"),
                (true, _) => ("write", "read"),
                _ => ("read", "written"),
            };
            panic!("an UnsafeCell is accessed to {own} while it is being {other}");
        }
        state.inside.store(now, Ordering::Relaxed);
        Access { state: StdArc::clone(state), writes, begun: event_index() }
    }
}

impl Drop for Access {
    #[track_caller]
    fn drop(&mut self) {
        let inside = &self.state.inside;
        let left = if self.writes { 0 } else { inside.load(Ordering::Relaxed) - 1 };
        inside.store(left, Ordering::Relaxed);
        // It may have lasted: then its end is unordered with others as its beginning may be.
        if event_index() != self.begun {
            self.state.touch(self.writes);
        }
    }
}

impl<T> UnsafeCell<T> {
    /// A cell with a value.
    #[track_caller]
    pub fn new(data: T) -> UnsafeCell<T> {
        let state = State { accesses: Plain::new(()), inside: AtomicIsize::new(0) };
        let (state, data) = (StdArc::new(state), std::cell::UnsafeCell::new(data));
        UnsafeCell { state, origin: Origin::here(), data }
    }

    /// The value, at last.
    pub fn into_inner(self) -> T {
        self.data.into_inner()
    }
}

impl<T: ?Sized> UnsafeCell<T> {
    #[track_caller]
    fn begin(&self, writes: bool) -> Access {
        self.origin.check("UnsafeCell", self);
        Access::begin(&self.state, writes)
    }

    /// Calls `action` with a pointer to read from.
    #[track_caller]
    pub fn with<R>(&self, action: impl FnOnce(*const T) -> R) -> R {
        let _access = self.begin(false);
        action(self.data.get())
    }

    /// Calls `action` with a pointer to write to.
    #[track_caller]
    pub fn with_mut<R>(&self, action: impl FnOnce(*mut T) -> R) -> R {
        let _access = self.begin(true);
        action(self.data.get())
    }

    /// A pointer that holds the cell for reading.
    #[track_caller]
    pub fn get(&self) -> ConstPtr<T> {
        ConstPtr { _access: self.begin(false), pointer: self.data.get() }
    }

    /// A pointer that holds the cell for writing.
    #[track_caller]
    pub fn get_mut(&self) -> MutPtr<T> {
        MutPtr { _access: self.begin(true), pointer: self.data.get() }
    }
}

impl<T: ?Sized> ConstPtr<T> {
    /// What the pointer points to.
    ///
    /// # Safety
    /// The value is there, and is not changed as long as the reference lives.
    pub unsafe fn deref(&self) -> &T {
        // SAFETY: the caller's promise.
        unsafe { &*self.pointer }
    }

    /// Calls `action` with the pointer.
    pub fn with<R>(&self, action: impl FnOnce(*const T) -> R) -> R {
        action(self.pointer)
    }
}

impl<T: ?Sized> MutPtr<T> {
    /// What the pointer points to.
    ///
    /// # Safety
    /// The value is there, and nothing else refers to it as long as the reference lives.
    #[expect(clippy::mut_from_ref, reason = "it stands for a pointer, as loom's does")]
    pub unsafe fn deref(&self) -> &mut T {
        // SAFETY: the caller's promise.
        unsafe { &mut *self.pointer }
    }

    /// Calls `action` with the pointer.
    pub fn with<R>(&self, action: impl FnOnce(*mut T) -> R) -> R {
        action(self.pointer)
    }
}

impl<T: Default> Default for UnsafeCell<T> {
    #[track_caller]
    fn default() -> UnsafeCell<T> {
        UnsafeCell::new(T::default())
    }
}

impl<T> From<T> for UnsafeCell<T> {
    #[track_caller]
    fn from(data: T) -> UnsafeCell<T> {
        UnsafeCell::new(data)
    }
}

impl<T: ?Sized> fmt::Debug for UnsafeCell<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("UnsafeCell").finish_non_exhaustive()
    }
}
