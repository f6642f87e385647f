//! The facade by what it does: outcomes of models, and what their failures say.

mod litmus;
mod locks;
mod memory;
mod messages;
mod threads;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

/// Every outcome of a model.
#[track_caller]
pub(crate) fn outcomes<T: Ord + Send + 'static>(
    model: impl Fn() -> T + Send + Sync + 'static,
) -> Vec<T> {
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let inside = Arc::clone(&seen);
    loom::model(move || {
        let outcome = model();
        inside.lock().expect("no panic holds it").insert(outcome);
    });
    std::mem::take(&mut *seen.lock().expect("no panic holds it")).into_iter().collect()
}

/// What a model fails with.
#[track_caller]
pub(crate) fn failure(model: impl Fn() + Send + Sync + 'static) -> String {
    let failure = catch_unwind(AssertUnwindSafe(|| loom::model(model)));
    let payload = failure.expect_err("the model fails");
    payload.downcast_ref::<String>().expect("a message").clone()
}

/// Whether a message has all of these.
#[track_caller]
pub(crate) fn expect(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "`{part}` is missing in: {message}");
    }
}
