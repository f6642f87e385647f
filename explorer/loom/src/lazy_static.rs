//! Statics that are made when they are first used, anew in each execution.
//!
//! The word that says whether a static was made has to exist in every execution, made by the same
//! thread, whichever thread uses the static first. So the main thread makes the words of all
//! statics that are known, before the program begins. A program that uses another one is given up,
//! the static is known from then on, and the exploration begins anew (see `has_news`).

use std::cell::{Cell, RefCell};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use weft_explorer::{assume, facade};

pub use crate::thread::{AccessError, yield_now};
use crate::word::Word;
#[doc(no_inline)]
pub use std::thread::panicking;

/// Statics that one thread of the system knows. No allocation: it would end with an execution.
const STATICS_MAX: usize = 64;

// What a word says of its static.
const EMPTY: u64 = 0;
const MAKING: u64 = 1;
const MADE: u64 = 2;

struct Known {
    /// The address of the static; 0 beyond the last one.
    key: Cell<usize>,
    /// In the memory of the execution.
    word: Cell<*const Word>,
    value: Cell<*const ()>,
}

impl Known {
    const fn new() -> Known {
        let (word, value) = (Cell::new(std::ptr::null()), Cell::new(std::ptr::null()));
        Known { key: Cell::new(0), word, value }
    }
}

thread_local! {
    static KNOWN: [Known; STATICS_MAX] = const { [const { Known::new() }; STATICS_MAX] };
    /// A program has used a static that was not known.
    static NEWS: RefCell<Arc<AtomicBool>> = RefCell::new(Arc::default());
}

/// Makes the words of the statics that are known.
pub(crate) fn prepare() {
    KNOWN.with(|known| {
        for entry in known.iter().take_while(|entry| entry.key.get() != 0) {
            let word: *const Word = Box::into_raw(Box::new(Word::new(EMPTY)));
            facade::keep(word);
            entry.word.set(word);
            entry.value.set(std::ptr::null());
        }
    });
}

/// A flag that is set when the next program uses a static that is not known.
pub(crate) fn expect_news() -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    NEWS.set(Arc::clone(&flag));
    flag
}

/// Whether a program has used one, so that it has to be explored anew.
pub(crate) fn has_news() -> bool {
    NEWS.with_borrow(|flag| flag.load(Ordering::Relaxed))
}

/// What [`crate::lazy_static!`] makes of a static.
pub struct Lazy<T> {
    #[doc(hidden)]
    pub init: fn() -> T,
    #[doc(hidden)]
    pub _p: PhantomData<fn(T)>,
}

impl<T: 'static> Lazy<T> {
    /// The value, which is made if there is none. It is kept to the end of the execution and is
    /// not dropped; what it owns is no leak.
    #[track_caller]
    pub fn get(&'static self) -> &'static T {
        let index = self.index();
        KNOWN.with(|known| {
            let entry = &known[index];
            // SAFETY: the main thread has made it at the beginning of the execution, and leaked it.
            let word = unsafe { &*entry.word.get() };
            let atomic = word.enter("lazy_static");
            let (success, failure) = (Ordering::Acquire, Ordering::Acquire);
            let state = atomic.load(Ordering::Acquire);
            if state == EMPTY && atomic.compare_exchange(EMPTY, MAKING, success, failure).is_ok() {
                let value: *const T = Box::into_raw(Box::new((self.init)()));
                facade::keep(value);
                entry.value.set(value.cast());
                atomic.store(MADE, Ordering::Release);
            } else if state != MADE {
                atomic.await_eq(MADE, Ordering::Acquire);
            }
            // SAFETY: the thread that made the value comes before, and so has set the pointer in
            // this execution. The value is not dropped. The reference lives longer than the
            // execution only if the program keeps it outside of itself.
            unsafe { &*entry.value.get().cast::<T>() }
        })
    }

    /// Where the static is among those that are known.
    fn index(&'static self) -> usize {
        let address = std::ptr::from_ref(self).addr();
        KNOWN.with(|known| {
            let found = known.iter().position(|entry| [0, address].contains(&entry.key.get()));
            let index = found.unwrap_or_else(|| {
                panic!("a program uses more than {STATICS_MAX} statics: let it use fewer")
            });
            if known[index].key.replace(address) == 0 || known[index].word.get().is_null() {
                NEWS.with_borrow(|flag| flag.store(true, Ordering::Relaxed));
                assume(false);
            }
            index
        })
    }
}

impl<T: 'static> fmt::Debug for Lazy<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad("Lazy { .. }")
    }
}
