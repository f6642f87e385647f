//! Thread-local data of model threads.
//!
//! All threads of a program run on one thread of the operating system, so `std::thread_local!`
//! would be shared by them, and by the executions that follow. A [`LocalKey`] has a value for each
//! thread of each execution. A thread's values are dropped when it has ended, in the order in
//! which they were made, and inertly if it never ends.

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use crate::coroutines::current;

/// A value of one thread, under the address of its key.
struct Local {
    thread: usize,
    key: usize,
    /// `None` once it was dropped.
    value: Option<Rc<dyn Any>>,
}

thread_local! {
    static LOCALS: RefCell<Vec<Local>> = const { RefCell::new(Vec::new()) };
}

/// Data of which every thread of every execution has its own; made by [`crate::thread_local!`].
pub struct LocalKey<T: 'static> {
    make: fn() -> T,
}

impl<T> fmt::Debug for LocalKey<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("LocalKey").finish_non_exhaustive()
    }
}

/// The thread has ended and the value was dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AccessError;

impl fmt::Display for AccessError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "thread-local data is used after its thread has ended")
    }
}

impl std::error::Error for AccessError {}

/// Declares data of which every thread of every execution has its own, as `std::thread_local!`.
///
/// ```
/// use std::cell::Cell;
/// use weft_explorer::{Options, explore, spawn};
///
/// weft_explorer::thread_local! {
///     static COUNT: Cell<u32> = const { Cell::new(0) };
/// }
/// explore(&Options::default(), || {
///     COUNT.with(|count| count.set(7));
///     let other = spawn(|| COUNT.with(Cell::get));
///     assert_eq!(other.join(), 0);
/// });
/// ```
#[macro_export]
macro_rules! thread_local {
    ($($(#[$attribute:meta])* $visibility:vis static $name:ident : $kind:ty = $value:expr);*
     $(;)?) => { $(
        $(#[$attribute])*
        $visibility static $name: $crate::LocalKey<$kind> = $crate::LocalKey::new(|| $value);
    )* };
}

impl<T: 'static> LocalKey<T> {
    /// A key whose values `make` makes. It has to be a static: its address is its name.
    #[doc(hidden)]
    pub const fn new(make: fn() -> T) -> LocalKey<T> {
        LocalKey { make }
    }

    /// Calls `action` with the calling thread's value, which is made if there is none.
    ///
    /// # Panics
    /// If the thread has ended and the value was dropped.
    #[track_caller]
    pub fn with<R>(&'static self, action: impl FnOnce(&T) -> R) -> R {
        match self.try_with(action) {
            Ok(result) => result,
            Err(error) => panic!("{error}"),
        }
    }

    /// Calls `action` with the calling thread's value, which is made if there is none.
    ///
    /// # Errors
    /// The thread has ended and the value was dropped.
    pub fn try_with<R>(&'static self, action: impl FnOnce(&T) -> R) -> Result<R, AccessError> {
        let thread = current();
        let key = std::ptr::from_ref(self).addr();
        let found = LOCALS.with_borrow(|locals| {
            let mine = |local: &&Local| (local.thread, local.key) == (thread, key);
            locals.iter().find(mine).map(|local| local.value.clone())
        });
        let value = found.unwrap_or_else(|| {
            // Made outside of the borrow: making it may need other values.
            let value: Rc<dyn Any> = Rc::new((self.make)());
            let local = Local { thread, key, value: Some(Rc::clone(&value)) };
            LOCALS.with_borrow_mut(|locals| locals.push(local));
            Some(value)
        });
        let value = value.ok_or(AccessError)?;
        Ok(action(value.downcast_ref().expect("a key has one type")))
    }
}

/// The calling thread of the program has ended: drops what it has.
pub(crate) fn end_thread() {
    let thread = current();
    let next = || {
        LOCALS.with_borrow_mut(|locals| {
            let of_thread = |local: &&mut Local| local.thread == thread && local.value.is_some();
            locals.iter_mut().find(of_thread)?.value.take()
        })
    };
    // What is dropped may make more.
    while let Some(value) = next() {
        drop(value);
    }
}

/// What the threads of a run that is over have left.
pub(crate) fn take() -> impl Sized {
    LOCALS.take()
}
