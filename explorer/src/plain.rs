//! Plain memory, checked for data races.

use std::marker::PhantomData;
use std::panic::Location;

use crate::engine::perform;
use crate::event::Payload;
use crate::handle::Handle;
use crate::inert::{inert_load, skips};

mod sealed {
    pub trait Sealed {}
}

/// A value that fits into a plain location: `bool`, `char`, `()` and the integers up to 64 bits.
pub trait PlainValue: Copy + sealed::Sealed {
    /// The value as bits.
    fn to_bits(self) -> u64;
    /// The value that [`PlainValue::to_bits`] gave these bits.
    fn from_bits(bits: u64) -> Self;
}

macro_rules! plain_integers {
    ($($integer:ty),*) => { $(
        impl sealed::Sealed for $integer {}
        impl PlainValue for $integer {
            fn to_bits(self) -> u64 {
                self as u64
            }
            fn from_bits(bits: u64) -> $integer {
                bits as $integer
            }
        }
    )* };
}

plain_integers!(u8, u16, u32, u64, usize, i8, i16, i32, i64, isize);

impl sealed::Sealed for bool {}
impl PlainValue for bool {
    fn to_bits(self) -> u64 {
        u64::from(self)
    }
    fn from_bits(bits: u64) -> bool {
        bits != 0
    }
}

impl sealed::Sealed for char {}
impl PlainValue for char {
    fn to_bits(self) -> u64 {
        u64::from(u32::from(self))
    }
    fn from_bits(bits: u64) -> char {
        u32::try_from(bits).ok().and_then(char::from_u32).unwrap_or_default()
    }
}

impl sealed::Sealed for () {}
impl PlainValue for () {
    fn to_bits(self) -> u64 {
        0
    }
    fn from_bits(_bits: u64) {}
}

/// Plain memory: every pair of accesses that are not both reads must be ordered by happens-before,
/// or the program fails with a data race.
///
/// Inert while the thread unwinds: `get` gives the value whose bits are zero, as far as a loop that
/// waits does not need another one.
#[derive(Debug)]
pub struct Plain<T>(Handle, PhantomData<fn(T) -> T>);

impl<T: PlainValue> Plain<T> {
    /// Memory with an initial value, which every thread that gets hold of it may read.
    #[track_caller]
    pub fn new(initial: T) -> Plain<T> {
        Plain::create(None, initial, Location::caller())
    }

    /// Memory that reports call by this name.
    #[track_caller]
    pub fn named(name: &'static str, initial: T) -> Plain<T> {
        Plain::create(Some(name), initial, Location::caller())
    }

    fn create(name: Option<&'static str>, initial: T, at: &'static Location<'static>) -> Plain<T> {
        Plain(Handle::create(initial.to_bits(), Payload::default(), name, at), PhantomData)
    }

    /// The number of the location, as traces print it; the same in every execution.
    pub fn id(&self) -> u32 {
        self.0.location
    }

    fn access(&self, stored: Option<u64>, at: &'static Location<'static>) -> u64 {
        perform(|engine| {
            let location = self.0.enter(engine, at)?;
            engine.plain(location, stored, at)
        })
    }

    /// Reads.
    #[track_caller]
    pub fn get(&self) -> T {
        let at = Location::caller();
        let value = inert_load(at);
        T::from_bits(value.unwrap_or_else(|| self.access(None, at)))
    }

    /// Writes.
    #[track_caller]
    pub fn set(&self, value: T) {
        let at = Location::caller();
        if !skips(at) {
            self.access(Some(value.to_bits()), at);
        }
    }
}
