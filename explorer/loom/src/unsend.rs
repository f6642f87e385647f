//! Values that threads of a program may pass on, although they are not `Send`.

/// A value that stays on one thread of the operating system, as all threads of a program do.
pub(crate) struct Unsend<T>(pub(crate) T);

// SAFETY: the explorer runs the threads of a program as coroutines of the thread that explores,
// with one worker, which is what an arena asks for. So nothing is sent anywhere.
unsafe impl<T> Send for Unsend<T> {}

impl<T> Unsend<T> {
    /// The value. A method, so that a closure takes all of it, and not its inside.
    pub(crate) fn take(self) -> T {
        self.0
    }
}
