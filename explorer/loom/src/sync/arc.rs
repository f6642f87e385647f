//! A reference count in the execution, in front of a value in real memory.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::borrow::Borrow;
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::pin::Pin;
use std::ptr::{NonNull, drop_in_place};
use std::sync::Arc as StdArc;
use std::sync::atomic::Ordering;

use weft_explorer::{Arena, Atomic, fence};

/// What stands in front of the value.
struct Header {
    count: Atomic,
}

/// `std::sync::Arc`. The last one drops the value, and one that is never dropped is a leak.
///
/// The pointer is to the value; the header stands before it, as far as the value's alignment asks.
pub struct Arc<T: ?Sized> {
    value: NonNull<T>,
    owns: PhantomData<T>,
}

// SAFETY: as std's: clones share `T`, and the last one may drop it anywhere.
unsafe impl<T: ?Sized + Send + Sync> Send for Arc<T> {}
// SAFETY: the same.
unsafe impl<T: ?Sized + Send + Sync> Sync for Arc<T> {}

/// How header and value lie in memory, and how far the value is behind the start.
fn layout_of(value: Layout) -> (Layout, usize) {
    let both = Layout::new::<Header>().extend(value);
    let (layout, offset) = both.expect("a value that exists is not too large for a header more");
    (layout.pad_to_align(), offset)
}

/// Memory with a header that counts one owner; returns where the value belongs.
#[track_caller]
fn allocate(value: Layout) -> NonNull<u8> {
    let (layout, offset) = layout_of(value);
    // SAFETY: the header is not empty.
    let start = unsafe { alloc(layout) };
    let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
    Arena::owes(start.as_ptr());
    let header = Header { count: Atomic::new(1) };
    // SAFETY: the memory is new, and begins with room for a header, aligned for both.
    unsafe { start.cast::<Header>().write(header) };
    // SAFETY: the value is within the same memory.
    unsafe { start.byte_add(offset) }
}

impl<T> Arc<T> {
    /// A value with one owner.
    #[track_caller]
    pub fn new(value: T) -> Arc<T> {
        let place = allocate(Layout::new::<T>()).cast::<T>();
        // SAFETY: `allocate` has made room for the value.
        unsafe { place.write(value) };
        Arc { value: place, owns: PhantomData }
    }

    /// A value with one owner that does not move.
    #[track_caller]
    pub fn pin(value: T) -> Pin<Arc<T>> {
        // SAFETY: the value stays where it is until it is dropped.
        unsafe { Pin::new_unchecked(Arc::new(value)) }
    }

    /// The value, if there is one owner.
    ///
    /// # Errors
    /// The owner, if there are others.
    #[track_caller]
    pub fn try_unwrap(this: Arc<T>) -> Result<T, Arc<T>> {
        let count = this.count();
        if count.compare_exchange(1, 0, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return Err(this);
        }
        fence(Ordering::Acquire);
        let this = ManuallyDrop::new(this);
        // SAFETY: this was the only owner, and does not drop the value.
        let value = unsafe { this.value.read() };
        this.free();
        Ok(value)
    }

    /// The value, if this is the last owner.
    #[track_caller]
    pub fn into_inner(this: Arc<T>) -> Option<T> {
        let this = ManuallyDrop::new(this);
        this.is_last().then(|| {
            // SAFETY: this was the last owner, and does not drop the value.
            let value = unsafe { this.value.read() };
            this.free();
            value
        })
    }
}

impl<T: ?Sized> Arc<T> {
    /// Takes over a value from an `Arc` of the standard library, also one that has no size.
    ///
    /// # Panics
    /// If there are other owners.
    #[track_caller]
    pub fn from_std(mut std: StdArc<T>) -> Arc<T> {
        let is_unique = StdArc::get_mut(&mut std).is_some();
        assert!(is_unique, "Arc provided to `from_std` is not unique");
        let layout = Layout::for_value(&*std);
        let place = allocate(layout);
        let old = StdArc::into_raw(std);
        // SAFETY: the value is moved: as many bytes as it has, to memory of its own.
        unsafe { place.as_ptr().copy_from_nonoverlapping(old.cast(), layout.size()) };
        let mut value = old.cast_mut();
        // SAFETY: a pointer begins with the address, whatever else it has.
        unsafe { (&raw mut value).cast::<*mut u8>().write(place.as_ptr()) };
        // SAFETY: the pointer is from `into_raw`; `ManuallyDrop` has the layout of the value, which
        // was moved and is not dropped here.
        drop(unsafe { StdArc::from_raw(old as *const ManuallyDrop<T>) });
        // SAFETY: `place` is not null.
        let value = unsafe { NonNull::new_unchecked(value) };
        Arc { value, owns: PhantomData }
    }

    fn header(&self) -> NonNull<Header> {
        let (_, offset) = layout_of(Layout::for_value(&**self));
        // SAFETY: `allocate` has put the header that far before the value.
        unsafe { self.value.cast::<u8>().byte_sub(offset) }.cast()
    }

    fn count(&self) -> &Atomic {
        // SAFETY: the header is there as long as an owner is.
        unsafe { &self.header().as_ref().count }
    }

    /// Gives up a reference; says whether it was the last one.
    #[track_caller]
    fn is_last(&self) -> bool {
        let is_last = self.count().fetch_sub(1, Ordering::Release) == 1;
        if is_last {
            fence(Ordering::Acquire);
        }
        is_last
    }

    /// Frees the memory of a value that has been moved out or dropped.
    fn free(&self) {
        let (layout, _) = layout_of(Layout::for_value(&**self));
        // SAFETY: `allocate` has allocated it with this layout, and the last owner calls this.
        unsafe { dealloc(self.header().cast().as_ptr(), layout) };
    }

    /// How many owners there are, or were.
    #[track_caller]
    pub fn strong_count(this: &Arc<T>) -> usize {
        this.count().load(Ordering::Relaxed) as usize
    }

    /// Adds an owner.
    ///
    /// # Safety
    /// The pointer is from [`Arc::into_raw`], and its owner exists.
    #[track_caller]
    pub unsafe fn increment_strong_count(pointer: *const T) {
        // SAFETY: the caller's promise; the owner is not dropped here.
        let arc = ManuallyDrop::new(unsafe { Arc::from_raw(pointer) });
        let _ = ManuallyDrop::new(Arc::clone(&arc));
    }

    /// Takes an owner away.
    ///
    /// # Safety
    /// The pointer is from [`Arc::into_raw`], and its owner exists.
    #[track_caller]
    pub unsafe fn decrement_strong_count(pointer: *const T) {
        // SAFETY: the caller's promise.
        drop(unsafe { Arc::from_raw(pointer) });
    }

    /// The value, if there is one owner.
    #[track_caller]
    pub fn get_mut(this: &mut Arc<T>) -> Option<&mut T> {
        let is_alone = this.count().load(Ordering::Acquire) == 1;
        if !is_alone {
            return None;
        }
        // SAFETY: this is the only owner, and it is borrowed exclusively.
        Some(unsafe { this.value.as_mut() })
    }

    /// Whether two own the same value.
    pub fn ptr_eq(this: &Arc<T>, other: &Arc<T>) -> bool {
        std::ptr::addr_eq(this.value.as_ptr(), other.value.as_ptr())
    }

    /// The value's address; the owner goes on to exist.
    pub fn into_raw(this: Arc<T>) -> *const T {
        ManuallyDrop::new(this).value.as_ptr()
    }

    /// The value's address.
    pub fn as_ptr(this: &Arc<T>) -> *const T {
        this.value.as_ptr()
    }

    /// The owner that [`Arc::into_raw`] has left.
    ///
    /// # Safety
    /// The pointer is from [`Arc::into_raw`], and this is done once.
    pub unsafe fn from_raw(pointer: *const T) -> Arc<T> {
        // SAFETY: the caller's promise: it is no null pointer.
        Arc { value: unsafe { NonNull::new_unchecked(pointer.cast_mut()) }, owns: PhantomData }
    }
}

impl<T: ?Sized> Deref for Arc<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the value is there as long as an owner is.
        unsafe { self.value.as_ref() }
    }
}

impl<T: ?Sized> Clone for Arc<T> {
    #[track_caller]
    fn clone(&self) -> Arc<T> {
        self.count().fetch_add(1, Ordering::Relaxed);
        Arc { value: self.value, owns: PhantomData }
    }
}

impl<T: ?Sized> Drop for Arc<T> {
    #[track_caller]
    fn drop(&mut self) {
        if self.is_last() {
            // SAFETY: this was the last owner, and all others have come before.
            unsafe { drop_in_place(self.value.as_ptr()) };
            self.free();
        }
    }
}

impl<T: Default> Default for Arc<T> {
    #[track_caller]
    fn default() -> Arc<T> {
        Arc::new(T::default())
    }
}

impl<T> From<T> for Arc<T> {
    #[track_caller]
    fn from(value: T) -> Arc<T> {
        Arc::new(value)
    }
}

impl<T: ?Sized> AsRef<T> for Arc<T> {
    fn as_ref(&self) -> &T {
        self
    }
}

impl<T: ?Sized> Borrow<T> for Arc<T> {
    fn borrow(&self) -> &T {
        self
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Arc<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(formatter)
    }
}
