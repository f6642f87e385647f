//! A lock for readers and writers: a word that counts readers, or says that a writer has it.

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::Ordering;
use std::sync::{LockResult, TryLockError, TryLockResult};

use weft_explorer::facade::await_add;

use crate::word::Word;

/// A writer has the lock. Fewer are readers.
const WRITER: u64 = u64::MAX;

/// `std::sync::RwLock`. It is never poisoned: a panic is a failure of the model.
pub struct RwLock<T: ?Sized> {
    word: Word,
    data: UnsafeCell<T>,
}

// SAFETY: the owner of the lock may send its data elsewhere, which `T: Send` allows.
unsafe impl<T: ?Sized + Send> Send for RwLock<T> {}
// SAFETY: readers share the data, which `T: Sync` allows; writers are alone, and may send it.
unsafe impl<T: ?Sized + Send + Sync> Sync for RwLock<T> {}

/// `std::sync::RwLockReadGuard`.
pub struct RwLockReadGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
    // As std's, it stays with its thread.
    stays: PhantomData<*const ()>,
}

/// `std::sync::RwLockWriteGuard`.
pub struct RwLockWriteGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
    stays: PhantomData<*const ()>,
}

// SAFETY: it gives `&T` to other threads, no more.
unsafe impl<T: ?Sized + Sync> Sync for RwLockReadGuard<'_, T> {}
// SAFETY: it gives `&T` to other threads, no more.
unsafe impl<T: ?Sized + Sync> Sync for RwLockWriteGuard<'_, T> {}

impl<T> RwLock<T> {
    /// An unlocked lock.
    #[track_caller]
    pub fn new(data: T) -> RwLock<T> {
        RwLock { word: Word::new(0), data: UnsafeCell::new(data) }
    }

    /// The data, at last.
    ///
    /// # Errors
    /// None.
    pub fn into_inner(self) -> LockResult<T> {
        Ok(self.data.into_inner())
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Waits until there is no writer, and locks for reading.
    ///
    /// # Errors
    /// None.
    #[track_caller]
    pub fn read(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        await_add(self.word.enter("RwLock"), WRITER, 1, Ordering::Acquire);
        Ok(RwLockReadGuard { lock: self, stays: PhantomData })
    }

    /// Locks for reading if there is no writer.
    ///
    /// # Errors
    /// [`TryLockError::WouldBlock`].
    #[track_caller]
    pub fn try_read(&self) -> TryLockResult<RwLockReadGuard<'_, T>> {
        let more = |readers| (readers != WRITER).then(|| readers + 1);
        let word = self.word.enter("RwLock");
        match word.fetch_update(Ordering::Acquire, Ordering::Relaxed, more) {
            Ok(_) => Ok(RwLockReadGuard { lock: self, stays: PhantomData }),
            Err(_) => Err(TryLockError::WouldBlock),
        }
    }

    /// Waits until the lock is free, and locks for writing.
    ///
    /// # Errors
    /// None.
    #[track_caller]
    pub fn write(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        self.word.enter("RwLock").await_cas(0, WRITER, Ordering::Acquire);
        Ok(RwLockWriteGuard { lock: self, stays: PhantomData })
    }

    /// Locks for writing if the lock is free.
    ///
    /// # Errors
    /// [`TryLockError::WouldBlock`].
    #[track_caller]
    pub fn try_write(&self) -> TryLockResult<RwLockWriteGuard<'_, T>> {
        let word = self.word.enter("RwLock");
        match word.compare_exchange(0, WRITER, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => Ok(RwLockWriteGuard { lock: self, stays: PhantomData }),
            Err(_) => Err(TryLockError::WouldBlock),
        }
    }

    /// The data, without locking.
    ///
    /// # Errors
    /// None.
    pub fn get_mut(&mut self) -> LockResult<&mut T> {
        Ok(self.data.get_mut())
    }
}

impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the thread has locked for reading: what writers did was done before this.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the thread has locked for writing, and is alone.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as for `deref`; and the guard is borrowed exclusively.
        unsafe { &mut *self.lock.data.get() }
    }
}

impl<T: ?Sized> Drop for RwLockReadGuard<'_, T> {
    #[track_caller]
    fn drop(&mut self) {
        self.lock.word.enter("RwLock").fetch_sub(1, Ordering::Release);
    }
}

impl<T: ?Sized> Drop for RwLockWriteGuard<'_, T> {
    #[track_caller]
    fn drop(&mut self) {
        self.lock.word.enter("RwLock").store(0, Ordering::Release);
    }
}

impl<T: Default> Default for RwLock<T> {
    #[track_caller]
    fn default() -> RwLock<T> {
        RwLock::new(T::default())
    }
}

impl<T> From<T> for RwLock<T> {
    #[track_caller]
    fn from(data: T) -> RwLock<T> {
        RwLock::new(data)
    }
}

impl<T: ?Sized> fmt::Debug for RwLock<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("RwLock").finish_non_exhaustive()
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockReadGuard<'_, T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(formatter)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockWriteGuard<'_, T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(formatter)
    }
}
