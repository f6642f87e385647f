//! Panics inside a program: caught, with message and place, and not printed.
//!
//! An assertion that fails in one of a million executions belongs in the report and not on the
//! standard error stream. The hook is installed once per process; for threads that are not inside a
//! program it calls the hook that was there before.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use crate::arena;
use crate::engine::{Stop, with};
use crate::inert;
use crate::report::{FailureKind, SourcePlace};

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
    static LAST: RefCell<Option<SourcePlace>> = const { RefCell::new(None) };
}

static HOOK: Once = Once::new();

/// Makes sure that panics inside a program are not printed. A panicking thread may not set a hook,
/// but then there is nothing to explore either.
pub(crate) fn install_hook() {
    HOOK.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if INSIDE.get() {
                arena::outside(|| LAST.set(info.location().map(SourcePlace::of)));
            } else {
                previous(info);
            }
        }));
    });
}

/// Lets a thread of the program run.
pub(crate) fn inside<R>(part: impl FnOnce() -> R) -> R {
    INSIDE.set(true);
    inert::begin();
    let result = arena::inside(part);
    INSIDE.set(false);
    result
}

/// Runs a thread of the program to its end. A panic of its own becomes a failure of the engine.
pub(crate) fn catch(thread: impl FnOnce()) -> Result<(), Stop> {
    catch_unwind(AssertUnwindSafe(thread)).map_err(|payload| {
        match payload.downcast_ref::<Stop>() {
            Some(stop) => *stop,
            // The run is over.
            None if inert::is_inert() => Stop::Blocked,
            None => {
                let message = arena::outside(|| message_of(&*payload));
                with(|engine| engine.fail(FailureKind::Violation, message, LAST.take()))
            }
        }
    })
}

fn message_of(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "the program panicked with a payload that is not text".to_owned())
}
