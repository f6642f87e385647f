//! Child processes that do not outlive us, even if we are killed.

use std::process::Command;

/// Has the system kill the child when the thread that starts it is gone. Elsewhere than on Linux
/// there is no such thing, and nothing is done.
pub(crate) fn dies_with_us(command: &mut Command) {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::process::CommandExt as _;

        use rustix::io::Errno;
        use rustix::process::{Signal, getppid, set_parent_process_death_signal};

        let us = rustix::process::getpid();
        let in_child = move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // If we were gone before, no signal comes.
            if getppid() == Some(us) { Ok(()) } else { Err(Errno::SRCH.into()) }
        };
        // SAFETY: between fork and exec only what is safe in a signal handler may be called. The
        // function makes two system calls, and an error is a number: nothing is allocated or
        // locked.
        unsafe { command.pre_exec(in_child) };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = command;
}
