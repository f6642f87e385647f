//! Interruptions by the user: nothing more is begun, and what has finished is still shown.

use std::sync::atomic::{AtomicBool, Ordering};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on an interruption does not end the process, but is [noted](is_here).
///
/// # Errors
///
/// One sentence, if the system does not allow that.
pub fn catch() -> Result<(), String> {
    ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::Relaxed))
        .map_err(|error| format!("interruptions cannot be caught: {error}"))
}

/// Whether the user has interrupted the command.
pub fn is_here() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}
