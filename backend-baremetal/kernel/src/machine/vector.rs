//! Vectors of our own interrupts.

/// The first of them.
pub(crate) const FIRST: u8 = FLUSH;
/// Flush translations.
pub(crate) const FLUSH: u8 = 0xf0;
/// There is something to do.
pub(crate) const WAKE: u8 = 0xf1;
/// The timer: let another processor run.
pub(crate) const PREEMPT: u8 = 0xf2;
/// An interrupt that went away before it was taken.
pub(crate) const SPURIOUS: u8 = 0xff;
