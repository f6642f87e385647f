//! Atomic words and fences.

use std::panic::Location;
use std::sync::atomic::Ordering;

use crate::engine::{Stop, perform};
use crate::event::{Kind, NO_LOCATION, Payload, Request, Update};
use crate::handle::Handle;
use crate::inert::{inert_load, is_inert, skips};

/// What an inert `fetch_*` returns: neither 0 nor 1, so that no destructor takes itself for the
/// owner of the last reference.
const INERT_COUNT: u64 = 1 << 20;

/// A 64-bit atomic word.
///
/// Created inside the program. All operations are inert while the thread unwinds: loads give 0, as
/// far as a loop that waits does not need another value, `fetch_*` a large number, compare-exchange
/// succeeds, waiting ends at once, nothing is stored.
#[derive(Debug)]
pub struct Atomic(Handle);

impl Atomic {
    /// A word with an initial value, which every thread that gets hold of the word knows.
    #[track_caller]
    pub fn new(initial: u64) -> Atomic {
        Atomic(Handle::create(initial, Payload::default(), None, Location::caller()))
    }

    /// A word that reports call by this name.
    #[track_caller]
    pub fn named(name: &'static str, initial: u64) -> Atomic {
        Atomic(Handle::create(initial, Payload::default(), Some(name), Location::caller()))
    }

    /// The number of the location, as traces print it; the same in every execution.
    pub fn id(&self) -> u32 {
        self.0.location
    }

    pub(crate) fn handle(&self) -> Handle {
        self.0
    }

    fn read(
        &self,
        update: Update,
        order: Ordering,
        failure_order: Ordering,
        at: &'static Location<'static>,
    ) -> u64 {
        perform(|engine| {
            let location = self.0.enter(engine, at)?;
            let only_loads = update == Update::None;
            if only_loads && matches!(order, Ordering::Release | Ordering::AcqRel) {
                return Err(engine.misuse(at, "a load cannot be Release: use Acquire or Relaxed"));
            }
            if matches!(failure_order, Ordering::Release | Ordering::AcqRel) {
                return Err(engine.misuse(
                    at,
                    "a failed compare_exchange cannot be Release: use Acquire or Relaxed",
                ));
            }
            let request = Request::new(Kind::Read, location, at);
            let request = Request { order, failure_order, update, ..request };
            let (value, _) = engine.read(request, None)?;
            Ok(value)
        })
    }

    /// Loads the value.
    #[track_caller]
    pub fn load(&self, order: Ordering) -> u64 {
        let at = Location::caller();
        inert_load(at).unwrap_or_else(|| self.read(Update::None, order, Ordering::Relaxed, at))
    }

    /// Stores a value.
    #[track_caller]
    pub fn store(&self, value: u64, order: Ordering) {
        let at = Location::caller();
        if skips(at) {
            return;
        }
        perform(|engine| {
            let location = self.0.enter(engine, at)?;
            if matches!(order, Ordering::Acquire | Ordering::AcqRel) {
                return Err(engine.misuse(at, "a store cannot be Acquire: use Release or Relaxed"));
            }
            let request = Request::new(Kind::Write, location, at);
            engine.write(
                Request { order, update: Update::Store(value), ..request },
                Payload::default(),
                None,
            )
        });
    }

    #[track_caller]
    pub(crate) fn update(&self, update: Update, order: Ordering) -> u64 {
        let at = Location::caller();
        if skips(at) {
            return INERT_COUNT;
        }
        self.read(update, order, Ordering::Relaxed, at)
    }

    /// Stores a value and returns the one before.
    #[track_caller]
    pub fn swap(&self, value: u64, order: Ordering) -> u64 {
        let at = Location::caller();
        match inert_load(at) {
            Some(0) => INERT_COUNT,
            // A loop that takes a lock this way has it in the end.
            Some(value) => value % 2 * value,
            None => self.read(Update::Exchange(value), order, Ordering::Relaxed, at),
        }
    }

    /// Adds, wrapping around, and returns the value before.
    #[track_caller]
    pub fn fetch_add(&self, operand: u64, order: Ordering) -> u64 {
        self.update(Update::Add(operand), order)
    }

    /// Subtracts, wrapping around, and returns the value before.
    #[track_caller]
    pub fn fetch_sub(&self, operand: u64, order: Ordering) -> u64 {
        self.update(Update::Add(operand.wrapping_neg()), order)
    }

    /// Ands bitwise and returns the value before.
    #[track_caller]
    pub fn fetch_and(&self, operand: u64, order: Ordering) -> u64 {
        self.update(Update::And(operand), order)
    }

    /// Ors bitwise and returns the value before.
    #[track_caller]
    pub fn fetch_or(&self, operand: u64, order: Ordering) -> u64 {
        self.update(Update::Or(operand), order)
    }

    /// Exclusive-ors bitwise and returns the value before.
    #[track_caller]
    pub fn fetch_xor(&self, operand: u64, order: Ordering) -> u64 {
        self.update(Update::Xor(operand), order)
    }

    /// Ands bitwise, complements, and returns the value before.
    #[track_caller]
    pub fn fetch_nand(&self, operand: u64, order: Ordering) -> u64 {
        self.update(Update::Nand(operand), order)
    }

    /// Stores the larger one of the value and `operand`, and returns the value before.
    #[track_caller]
    pub fn fetch_max(&self, operand: u64, order: Ordering) -> u64 {
        self.update(Update::Max(operand), order)
    }

    /// Stores the smaller one of the value and `operand`, and returns the value before.
    #[track_caller]
    pub fn fetch_min(&self, operand: u64, order: Ordering) -> u64 {
        self.update(Update::Min(operand), order)
    }

    /// Loads, and stores what `change` makes of the value, again and again until no other thread
    /// has come between; `std` does it in the same steps.
    ///
    /// # Errors
    /// The value for which `change` gave nothing.
    #[track_caller]
    pub fn fetch_update(
        &self,
        set_order: Ordering,
        fetch_order: Ordering,
        mut change: impl FnMut(u64) -> Option<u64>,
    ) -> Result<u64, u64> {
        let mut value = self.load(fetch_order);
        while let Some(new) = change(value) {
            match self.compare_exchange_weak(value, new, set_order, fetch_order) {
                Ok(before) => return Ok(before),
                Err(newer) => value = newer,
            }
        }
        Err(value)
    }

    /// As [`Atomic::compare_exchange`]: it does not fail spuriously here either.
    ///
    /// # Errors
    /// The value found, if it is not `current`.
    #[track_caller]
    pub fn compare_exchange_weak(
        &self,
        current: u64,
        new: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        self.compare_exchange(current, new, success, failure)
    }

    /// Stores `new` if the value is `current`. Never fails spuriously: where code must bear that,
    /// let [`crate::choose`] decide.
    ///
    /// # Errors
    /// The value found, if it is not `current`.
    #[track_caller]
    pub fn compare_exchange(
        &self,
        current: u64,
        new: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        let at = Location::caller();
        if skips(at) {
            return Ok(current);
        }
        let update = Update::CompareExchange { expected: current, new };
        let value = self.read(update, success, failure, at);
        if value == current { Ok(value) } else { Err(value) }
    }

    /// Waits until the value is `expected`, and returns it.
    #[track_caller]
    pub fn await_eq(&self, expected: u64, order: Ordering) -> u64 {
        let at = Location::caller();
        if skips(at) {
            return expected;
        }
        self.read(Update::AwaitEqual(expected), order, Ordering::Relaxed, at)
    }

    /// Waits until the value is not `refused`, and returns it.
    #[track_caller]
    pub fn await_ne(&self, refused: u64, order: Ordering) -> u64 {
        let at = Location::caller();
        if skips(at) {
            return refused.wrapping_add(1);
        }
        self.read(Update::AwaitUnequal(refused), order, Ordering::Relaxed, at)
    }

    /// Waits until the value is `expected` and replaces it with `new`, in one step.
    #[track_caller]
    pub fn await_cas(&self, expected: u64, new: u64, order: Ordering) {
        let at = Location::caller();
        if skips(at) {
            return;
        }
        let update = Update::AwaitExchange { expected, new };
        self.read(update, order, Ordering::Relaxed, at);
    }

    /// Waits for another value, in a loop that would otherwise only read this word again.
    ///
    /// To be called directly after a load or a failed compare-exchange of the word by the same
    /// thread, as the loop's way to relax:
    ///
    /// ```
    /// # use std::sync::atomic::Ordering::{Acquire, Relaxed};
    /// # use weft_explorer::{Atomic, Options, explore};
    /// fn lock(word: &Atomic) {
    ///     while word.compare_exchange(0, 1, Acquire, Relaxed).is_err() {
    ///         word.wait_for_change();
    ///     }
    /// }
    /// # assert_eq!(explore(&Options::default(), || lock(&Atomic::new(0))).executions, 1);
    /// ```
    ///
    /// The thread ends here; the executions in which the loop ends are those in which its read
    /// gets another value. So the loop must have no effect besides reading.
    #[track_caller]
    pub fn wait_for_change(&self) {
        let at = Location::caller();
        if skips(at) {
            return;
        }
        perform(|engine| {
            let location = self.0.enter(engine, at)?;
            engine.wait_for_change(Some(location), at)
        });
    }
}

/// Waits for a change of anything that the last round of a loop has read.
///
/// To be called at the end of a round that did not succeed, directly after an atomic read. It is
/// what a spin hint or a yield is in real code:
///
/// ```
/// # use std::sync::atomic::Ordering::Acquire;
/// # use weft_explorer::{Atomic, Options, explore, wait_for_any_change};
/// fn wait_for_both(first: &Atomic, second: &Atomic) {
///     while first.load(Acquire) == 0 || second.load(Acquire) == 0 {
///         wait_for_any_change();
///     }
/// }
/// # let both = || wait_for_both(&Atomic::new(1), &Atomic::new(1));
/// # assert_eq!(explore(&Options::default(), both).executions, 1);
/// ```
///
/// The thread ends here; the executions in which the loop ends are those in which a read of its
/// last round gets another value.
#[track_caller]
pub fn wait_for_any_change() {
    let at = Location::caller();
    if skips(at) {
        return;
    }
    perform(|engine| engine.wait_for_change(None, at));
}

/// Gives this execution up unless the condition holds: it counts as blocked, and is no deadlock.
///
/// For loops that retry: an assumption in place of the next attempt explores only the executions
/// in which the first attempt succeeds, which are all that matter if an attempt that fails has no
/// effect. It also hides what happens after a failure, so it is for measuring and for proofs of
/// one's own, and not for code that is to be checked as it is.
pub fn assume(condition: bool) {
    if !condition && !is_inert() {
        perform(|engine| -> Result<(), Stop> { Err(engine.give_up()) });
    }
}

/// A fence: Acquire, Release, `AcqRel` or `SeqCst`.
#[track_caller]
pub fn fence(order: Ordering) {
    let at = Location::caller();
    if skips(at) {
        return;
    }
    perform(|engine| {
        if order == Ordering::Relaxed {
            return Err(engine.misuse(at, "a fence cannot be Relaxed: leave it out, or order it"));
        }
        engine.other(Request { order, ..Request::new(Kind::Fence, NO_LOCATION, at) }).map(|_| ())
    });
}
