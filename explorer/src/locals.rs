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
    value: Rc<dyn Any>,
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
    pub fn with<R>(&'static self, action: impl FnOnce(&T) -> R) -> R {
        let thread = current();
        let key = std::ptr::from_ref(self).addr();
        let found = LOCALS.with_borrow(|locals| {
            let mine = |local: &&Local| (local.thread, local.key) == (thread, key);
            locals.iter().find(mine).map(|local| Rc::clone(&local.value))
        });
        let value = found.unwrap_or_else(|| {
            // Made outside of the borrow: making it may need other values.
            let value: Rc<dyn Any> = Rc::new((self.make)());
            let local = Local { thread, key, value: Rc::clone(&value) };
            LOCALS.with_borrow_mut(|locals| locals.push(local));
            value
        });
        action(value.downcast_ref().expect("a key has one type"))
    }
}

/// The calling thread of the program has ended: drops what it has.
pub(crate) fn end_thread() {
    let thread = current();
    let next = || {
        LOCALS.with_borrow_mut(|locals| {
            let index = locals.iter().position(|local| local.thread == thread)?;
            Some(locals.remove(index))
        })
    };
    // What is dropped may make more.
    while let Some(local) = next() {
        drop(local);
    }
}

/// What the threads of a run that is over have left.
pub(crate) fn take() -> impl Sized {
    LOCALS.take()
}
