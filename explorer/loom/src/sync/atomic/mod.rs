//! `std::sync::atomic`.

mod bool;
mod int;
mod ptr;

pub use self::bool::AtomicBool;
pub use self::int::{AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicIsize};
pub use self::int::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize};
pub use self::ptr::AtomicPtr;
#[doc(no_inline)]
pub use std::sync::atomic::Ordering;
pub use weft_explorer::fence;

/// A round of a loop that waits: see [`crate::thread::yield_now`].
#[track_caller]
pub fn spin_loop_hint() {
    crate::thread::yield_now();
}

/// Orders nothing between threads.
pub fn compiler_fence(_order: Ordering) {}

/// What all atomic types have, over a conversion between their values and words.
macro_rules! common {
    ($name:ident $(<$parameter:ident>)?, $value:ty, $what:expr) => {
        impl$(<$parameter>)? $name$(<$parameter>)? {
            /// An atomic with an initial value.
            #[track_caller]
            pub fn new(value: $value) -> Self {
                Self::over(Word::new(Self::to_word(value)))
            }

            #[track_caller]
            fn word(&self) -> &weft_explorer::Atomic {
                self.word.enter($what)
            }

            /// Loads the value in code that has the atomic to itself: a data race otherwise.
            ///
            /// # Safety
            /// None is needed here: a race is a failure. `unsafe` as with loom.
            #[expect(unsafe_code, reason = "as with loom")]
            #[track_caller]
            pub unsafe fn unsync_load(&self) -> $value {
                Self::from_word(exclusive(self.word(), |_| None))
            }

            /// Changes the value in code that has the atomic to itself: a data race otherwise.
            #[track_caller]
            pub fn with_mut<R>(&mut self, change: impl FnOnce(&mut $value) -> R) -> R {
                let mut result = None;
                exclusive(self.word(), |word| {
                    let mut value = Self::from_word(word);
                    result = Some(change(&mut value));
                    Some(Self::to_word(value))
                });
                result.unwrap_or_else(|| unreachable!("the change was called"))
            }

            /// The value, at last.
            #[track_caller]
            pub fn into_inner(self) -> $value {
                Self::from_word(exclusive(self.word(), |_| None))
            }

            /// As in `std`.
            #[track_caller]
            pub fn load(&self, order: Ordering) -> $value {
                Self::from_word(self.word().load(order))
            }

            /// As in `std`.
            #[track_caller]
            pub fn store(&self, value: $value, order: Ordering) {
                self.word().store(Self::to_word(value), order);
            }

            /// As in `std`.
            #[track_caller]
            pub fn swap(&self, value: $value, order: Ordering) -> $value {
                Self::from_word(self.word().swap(Self::to_word(value), order))
            }

            /// As in `std`, long ago.
            #[track_caller]
            pub fn compare_and_swap(
                &self,
                current: $value,
                new: $value,
                order: Ordering,
            ) -> $value {
                let failure = match order {
                    Ordering::Relaxed | Ordering::Release => Ordering::Relaxed,
                    Ordering::Acquire | Ordering::AcqRel => Ordering::Acquire,
                    _ => Ordering::SeqCst,
                };
                let (Ok(value) | Err(value)) = self.compare_exchange(current, new, order, failure);
                value
            }

            /// As in `std`.
            ///
            /// # Errors
            /// The value, if it is not `current`.
            #[track_caller]
            pub fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                let (current, new) = (Self::to_word(current), Self::to_word(new));
                let result = self.word().compare_exchange(current, new, success, failure);
                result.map(Self::from_word).map_err(Self::from_word)
            }

            /// As in `std`, but it does not fail spuriously.
            ///
            /// # Errors
            /// The value, if it is not `current`.
            #[track_caller]
            pub fn compare_exchange_weak(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.compare_exchange(current, new, success, failure)
            }

            /// As in `std`.
            ///
            /// # Errors
            /// The value for which `change` gave nothing.
            #[track_caller]
            pub fn fetch_update(
                &self,
                set_order: Ordering,
                fetch_order: Ordering,
                mut change: impl FnMut($value) -> Option<$value>,
            ) -> Result<$value, $value> {
                let change = |word| change(Self::from_word(word)).map(Self::to_word);
                let result = self.word().fetch_update(set_order, fetch_order, change);
                result.map(Self::from_word).map_err(Self::from_word)
            }

            /// As [`Self::fetch_update`].
            ///
            /// # Errors
            /// The value for which `change` gave nothing.
            #[track_caller]
            pub fn try_update(
                &self,
                set_order: Ordering,
                fetch_order: Ordering,
                change: impl FnMut($value) -> Option<$value>,
            ) -> Result<$value, $value> {
                self.fetch_update(set_order, fetch_order, change)
            }

            /// As in `std`: an update that always succeeds.
            #[track_caller]
            pub fn update(
                &self,
                set_order: Ordering,
                fetch_order: Ordering,
                mut change: impl FnMut($value) -> $value,
            ) -> $value {
                let always = |value| Some(change(value));
                let (Ok(value) | Err(value)) = self.fetch_update(set_order, fetch_order, always);
                value
            }
        }

        impl$(<$parameter>)? From<$value> for $name$(<$parameter>)? {
            #[track_caller]
            fn from(value: $value) -> Self {
                Self::new(value)
            }
        }

        impl$(<$parameter>)? fmt::Debug for $name$(<$parameter>)? {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.debug_struct($what).finish_non_exhaustive()
            }
        }
    };
}
use common;
