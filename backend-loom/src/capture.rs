//! Panics of model threads, caught without a word.
//!
//! One process-wide panic hook looks whether the panicking thread belongs to a search. If so, it
//! keeps the first message and its location for the search and prints nothing; every other thread
//! gets the hook that was installed before. Only the first panic counts: those that follow are
//! model threads being unwound.
//!
//! Payloads that are not text are left alone. Checkers end their model threads by unwinding with
//! payloads of their own, and the search itself stops executions with [`Stop`].

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, Location, PanicHookInfo, catch_unwind, resume_unwind};
use std::sync::{Mutex, PoisonError};

use crate::engine::{Body, Failure, FailureKind};

/// Tells from its message what sort of failure a panic is.
pub(crate) type Classify = fn(message: &str) -> FailureKind;

thread_local! {
    static CLASSIFY: Cell<Option<Classify>> = const { Cell::new(None) };
    static FAILURE: RefCell<Option<Failure>> = const { RefCell::new(None) };
}

/// The payload with which the search ends an execution; no panic hook runs for it.
pub(crate) struct Stop;

/// Captures the calling thread's panics for as long as it lives.
pub(crate) struct Capture(());

impl Capture {
    pub(crate) fn start(classify: Classify) -> Self {
        CLASSIFY.set(Some(classify));
        FAILURE.take();
        Self(())
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        CLASSIFY.set(None);
    }
}

/// Puts our hook on top of the one that is installed, once the checker has been made to install
/// its own. Called once per engine. Taking a hook and setting one are two steps, so installations
/// exclude each other.
pub(crate) fn install_hook_after(checker_installs_its_own: fn()) {
    static INSTALLATION: Mutex<()> = Mutex::new(());
    let _alone = INSTALLATION.lock().unwrap_or_else(PoisonError::into_inner);
    checker_installs_its_own();
    let previous = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| match CLASSIFY.get() {
        Some(classify) => keep(info, classify),
        None => previous(info),
    }));
}

fn keep(info: &PanicHookInfo<'_>, classify: Classify) {
    let Some(message) = info.payload_as_str() else { return };
    record(Failure {
        message: message.to_owned(),
        location: info.location().map(ToString::to_string),
        cpu: None,
        kind: classify(message),
        token: None,
        arrangement: None,
        size: None,
    });
}

/// Keeps `failure` unless the execution has failed already.
pub(crate) fn record(failure: Failure) {
    FAILURE.with_borrow_mut(|kept| {
        kept.get_or_insert(failure);
    });
}

/// Changes the failure that was kept, if there is one.
pub(crate) fn amend(change: impl FnOnce(&mut Failure)) {
    FAILURE.with_borrow_mut(|kept| kept.as_mut().map(change));
}

/// Takes the failure out.
pub(crate) fn take() -> Option<Failure> {
    FAILURE.take()
}

/// Fails the execution with a message of ours and unwinds the calling model thread.
pub(crate) fn fail(
    kind: FailureKind,
    cpu: usize,
    location: &'static Location<'static>,
    message: String,
) -> ! {
    record(Failure {
        message,
        location: Some(location.to_string()),
        cpu: Some(cpu),
        kind,
        token: None,
        arrangement: None,
        size: None,
    });
    resume_unwind(Box::new(Stop));
}

/// Runs what a CPU does; if it panics, the failure learns which CPU that was. Should another hook
/// have taken the place of ours, the payload still tells the message.
pub(crate) fn run_as(cpu: usize, body: Body) -> Result<(), Box<dyn Any + Send>> {
    catch_unwind(AssertUnwindSafe(body)).inspect_err(|payload| {
        let static_text = payload.downcast_ref::<&str>().copied();
        let text = static_text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        if let (Some(message), Some(classify)) = (text, CLASSIFY.get()) {
            let kind = classify(message);
            record(Failure { kind, ..internal(message) });
        }
        amend(|failure| {
            failure.cpu.get_or_insert(cpu);
        });
    })
}

/// The failure of a search that could not be carried out.
pub(crate) fn internal(message: impl Into<String>) -> Failure {
    Failure {
        message: message.into(),
        location: None,
        cpu: None,
        kind: FailureKind::Internal,
        token: None,
        arrangement: None,
        size: None,
    }
}
