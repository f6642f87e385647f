//! Ends before the end: nothing more is begun, and what has finished is still shown.
//!
//! The user interrupts a command with Ctrl-C; a command ends itself where it has seen enough.

use std::sync::atomic::{AtomicBool, Ordering};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
static ENOUGH: AtomicBool = AtomicBool::new(false);

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

/// From now on nothing more is to be begun, and what runs is to be ended and does not count.
pub fn enough() {
    ENOUGH.store(true, Ordering::Relaxed);
}

/// Whether [`enough`] was seen.
pub fn was_enough() -> bool {
    ENOUGH.load(Ordering::Relaxed)
}

/// Whether to begin nothing more: for the user's sake, or because enough was seen.
pub fn should_stop() -> bool {
    is_here() || was_enough()
}
