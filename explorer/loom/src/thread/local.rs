//! `std::thread::LocalKey`: each thread of each execution has a value of its own.

use std::fmt;

use weft_explorer::AccessError;

/// What [`crate::thread_local!`] makes of a static.
pub struct LocalKey<T: 'static> {
    #[doc(hidden)]
    pub inner: weft_explorer::LocalKey<T>,
}

impl<T: 'static> LocalKey<T> {
    /// Calls `action` with the calling thread's value, which is made if there is none.
    ///
    /// # Panics
    /// If the thread has ended and the value was dropped.
    #[track_caller]
    pub fn with<R>(&'static self, action: impl FnOnce(&T) -> R) -> R {
        self.inner.with(action)
    }

    /// Calls `action` with the calling thread's value, which is made if there is none.
    ///
    /// # Errors
    /// The thread has ended and the value was dropped.
    pub fn try_with<R>(&'static self, action: impl FnOnce(&T) -> R) -> Result<R, AccessError> {
        self.inner.try_with(action)
    }
}

impl<T: 'static> fmt::Debug for LocalKey<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad("LocalKey { .. }")
    }
}
