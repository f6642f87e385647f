//! An atomic flag: a word that is 0 or 1.

use std::fmt;
use std::sync::atomic::Ordering;

use weft_explorer::facade::{Narrow, exclusive, fetch_narrow};

use super::common;
use crate::word::Word;

/// `std::sync::atomic::AtomicBool`.
pub struct AtomicBool {
    word: Word,
}

common!(AtomicBool, bool, "AtomicBool");

impl AtomicBool {
    fn over(word: Word) -> AtomicBool {
        AtomicBool { word }
    }

    fn to_word(value: bool) -> u64 {
        value.into()
    }

    fn from_word(word: u64) -> bool {
        word & 1 != 0
    }

    /// As in `std`.
    #[track_caller]
    pub fn fetch_and(&self, operand: bool, order: Ordering) -> bool {
        Self::from_word(self.word().fetch_and(operand.into(), order))
    }

    /// As in `std`.
    #[track_caller]
    pub fn fetch_nand(&self, operand: bool, order: Ordering) -> bool {
        Self::from_word(fetch_narrow(self.word(), Narrow::Nand, operand.into(), 1, order))
    }

    /// As in `std`.
    #[track_caller]
    pub fn fetch_or(&self, operand: bool, order: Ordering) -> bool {
        Self::from_word(self.word().fetch_or(operand.into(), order))
    }

    /// As in `std`.
    #[track_caller]
    pub fn fetch_xor(&self, operand: bool, order: Ordering) -> bool {
        Self::from_word(self.word().fetch_xor(operand.into(), order))
    }

    /// As in `std`.
    #[track_caller]
    pub fn fetch_not(&self, order: Ordering) -> bool {
        self.fetch_xor(true, order)
    }
}

impl Default for AtomicBool {
    #[track_caller]
    fn default() -> AtomicBool {
        AtomicBool::new(false)
    }
}
