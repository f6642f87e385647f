//! Atomic integers. The word holds the value in its lower bits, the others are zero.

use std::fmt;
use std::sync::atomic::Ordering;

use weft_explorer::facade::{Narrow, exclusive, fetch_narrow};

use super::common;
use crate::word::Word;

macro_rules! atomic_integers {
    ($($name:ident $value:ident $unsigned:ident $max:expr, $min:expr;)*) => { $(
        #[doc = concat!("`std::sync::atomic::", stringify!($name), "`.")]
        pub struct $name {
            word: Word,
        }

        common!($name, $value, stringify!($name));

        impl $name {
            fn over(word: Word) -> $name {
                $name { word }
            }

            fn to_word(value: $value) -> u64 {
                value as $unsigned as u64
            }

            fn from_word(word: u64) -> $value {
                word as $unsigned as $value
            }

            #[track_caller]
            fn narrow(&self, operation: Narrow, operand: $value, order: Ordering) -> $value {
                let operand = Self::to_word(operand);
                Self::from_word(fetch_narrow(
                    self.word(), operation, operand, $value::BITS, order,
                ))
            }

            /// As in `std`.
            #[track_caller]
            pub fn fetch_add(&self, operand: $value, order: Ordering) -> $value {
                self.narrow(Narrow::Add, operand, order)
            }

            /// As in `std`.
            #[track_caller]
            pub fn fetch_sub(&self, operand: $value, order: Ordering) -> $value {
                self.narrow(Narrow::Add, operand.wrapping_neg(), order)
            }

            /// As in `std`.
            #[track_caller]
            pub fn fetch_and(&self, operand: $value, order: Ordering) -> $value {
                Self::from_word(self.word().fetch_and(Self::to_word(operand), order))
            }

            /// As in `std`.
            #[track_caller]
            pub fn fetch_nand(&self, operand: $value, order: Ordering) -> $value {
                self.narrow(Narrow::Nand, operand, order)
            }

            /// As in `std`.
            #[track_caller]
            pub fn fetch_or(&self, operand: $value, order: Ordering) -> $value {
                Self::from_word(self.word().fetch_or(Self::to_word(operand), order))
            }

            /// As in `std`.
            #[track_caller]
            pub fn fetch_xor(&self, operand: $value, order: Ordering) -> $value {
                Self::from_word(self.word().fetch_xor(Self::to_word(operand), order))
            }

            /// As in `std`.
            #[track_caller]
            pub fn fetch_max(&self, operand: $value, order: Ordering) -> $value {
                self.narrow($max, operand, order)
            }

            /// As in `std`.
            #[track_caller]
            pub fn fetch_min(&self, operand: $value, order: Ordering) -> $value {
                self.narrow($min, operand, order)
            }
        }

        impl Default for $name {
            #[track_caller]
            fn default() -> $name {
                $name::new(0)
            }
        }
    )* };
}

atomic_integers! {
    AtomicU8 u8 u8 Narrow::Max, Narrow::Min;
    AtomicU16 u16 u16 Narrow::Max, Narrow::Min;
    AtomicU32 u32 u32 Narrow::Max, Narrow::Min;
    AtomicU64 u64 u64 Narrow::Max, Narrow::Min;
    AtomicUsize usize usize Narrow::Max, Narrow::Min;
    AtomicI8 i8 u8 Narrow::MaxSigned, Narrow::MinSigned;
    AtomicI16 i16 u16 Narrow::MaxSigned, Narrow::MinSigned;
    AtomicI32 i32 u32 Narrow::MaxSigned, Narrow::MinSigned;
    AtomicI64 i64 u64 Narrow::MaxSigned, Narrow::MinSigned;
    AtomicIsize isize usize Narrow::MaxSigned, Narrow::MinSigned;
}
