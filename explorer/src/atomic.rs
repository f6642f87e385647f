//! Atomic words and fences.

use std::panic::Location;
use std::sync::atomic::Ordering;

use crate::engine::{Stop, is_inert, perform};
use crate::event::{Kind, NO_LOCATION, Payload, Request, Update};
use crate::handle::Handle;

/// What an inert `fetch_*` returns: neither 0 nor 1, so that no destructor takes itself for the
/// owner of the last reference.
const INERT_COUNT: u64 = 1 << 20;

/// A 64-bit atomic word.
///
/// Created inside the program. All operations are inert while the thread unwinds: loads give 0,
/// `fetch_*` a large number, compare-exchange succeeds, waiting ends at once, nothing is stored.
#[derive(Debug)]
pub struct Atomic(Handle);

impl Atomic {
    /// A word with an initial value, which every thread that gets hold of the word knows.
    pub fn new(initial: u64) -> Atomic {
        Atomic(Handle::create(initial, Payload::default()))
    }

    /// The number of the location, as traces print it; the same in every execution.
    pub fn id(&self) -> u32 {
        self.0.location
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
            let (value, _) = engine.read(Request { order, failure_order, update, ..request })?;
            Ok(value)
        })
    }

    /// Loads the value.
    #[track_caller]
    pub fn load(&self, order: Ordering) -> u64 {
        if is_inert() {
            return 0;
        }
        self.read(Update::None, order, Ordering::Relaxed, Location::caller())
    }

    /// Stores a value.
    #[track_caller]
    pub fn store(&self, value: u64, order: Ordering) {
        if is_inert() {
            return;
        }
        let at = Location::caller();
        perform(|engine| {
            let location = self.0.enter(engine, at)?;
            if matches!(order, Ordering::Acquire | Ordering::AcqRel) {
                return Err(engine.misuse(at, "a store cannot be Acquire: use Release or Relaxed"));
            }
            let request = Request::new(Kind::Write, location, at);
            engine.write(
                Request { order, update: Update::Store(value), ..request },
                Payload::default(),
            )
        });
    }

    #[track_caller]
    fn update(&self, update: Update, order: Ordering) -> u64 {
        if is_inert() {
            return INERT_COUNT;
        }
        self.read(update, order, Ordering::Relaxed, Location::caller())
    }

    /// Stores a value and returns the one before.
    #[track_caller]
    pub fn swap(&self, value: u64, order: Ordering) -> u64 {
        self.update(Update::Exchange(value), order)
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
        if is_inert() {
            return Ok(current);
        }
        let update = Update::CompareExchange { expected: current, new };
        let value = self.read(update, success, failure, Location::caller());
        if value == current { Ok(value) } else { Err(value) }
    }

    /// Waits until the value is `expected`, and returns it.
    #[track_caller]
    pub fn await_eq(&self, expected: u64, order: Ordering) -> u64 {
        if is_inert() {
            return expected;
        }
        self.read(Update::AwaitEqual(expected), order, Ordering::Relaxed, Location::caller())
    }

    /// Waits until the value is not `refused`, and returns it.
    #[track_caller]
    pub fn await_ne(&self, refused: u64, order: Ordering) -> u64 {
        if is_inert() {
            return 0;
        }
        self.read(Update::AwaitUnequal(refused), order, Ordering::Relaxed, Location::caller())
    }

    /// Waits until the value is `expected` and replaces it with `new`, in one step.
    #[track_caller]
    pub fn await_cas(&self, expected: u64, new: u64, order: Ordering) {
        if is_inert() {
            return;
        }
        let update = Update::AwaitExchange { expected, new };
        self.read(update, order, Ordering::Relaxed, Location::caller());
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
        if is_inert() {
            return;
        }
        let at = Location::caller();
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
    if is_inert() {
        return;
    }
    let at = Location::caller();
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
    if is_inert() {
        return;
    }
    let at = Location::caller();
    perform(|engine| {
        if order == Ordering::Relaxed {
            return Err(engine.misuse(at, "a fence cannot be Relaxed: leave it out, or order it"));
        }
        engine.other(Request { order, ..Request::new(Kind::Fence, NO_LOCATION, at) }).map(|_| ())
    });
}
