//! One checker per process.
//!
//! loom and shuttle both install panic hooks and end model threads by unwinding; together in one
//! process, shuttle's hook prints two lines for each ended loom thread, gigabytes in minutes. The
//! first search claims the process for its checker, and searches of the other one are refused.

use std::sync::OnceLock;

static CLAIMED: OnceLock<&'static str> = OnceLock::new();

/// Claims the process for the checker `name`. The error says which one was first.
pub(crate) fn claim(name: &'static str) -> Result<(), String> {
    let first = *CLAIMED.get_or_init(|| name);
    if first == name {
        return Ok(());
    }
    Err(format!(
        "this process has run a search under {first} and cannot run one under {name}: \
         start another process for it"
    ))
}
