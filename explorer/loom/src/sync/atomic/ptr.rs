//! Atomic pointers: words that are addresses. The arena gives the same ones in every execution.

use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::Ordering;

use weft_explorer::facade::exclusive;

use super::common;
use crate::word::Word;

/// `std::sync::atomic::AtomicPtr`.
pub struct AtomicPtr<T> {
    word: Word,
    // As std's, it may be shared and sent whatever it points to.
    kind: PhantomData<fn(T) -> T>,
}

common!(AtomicPtr<T>, *mut T, "AtomicPtr");

impl<T> AtomicPtr<T> {
    fn over(word: Word) -> AtomicPtr<T> {
        AtomicPtr { word, kind: PhantomData }
    }

    fn to_word(value: *mut T) -> u64 {
        value.expose_provenance() as u64
    }

    fn from_word(word: u64) -> *mut T {
        std::ptr::with_exposed_provenance_mut(word as usize)
    }
}

impl<T> Default for AtomicPtr<T> {
    #[track_caller]
    fn default() -> AtomicPtr<T> {
        AtomicPtr::new(std::ptr::null_mut())
    }
}
