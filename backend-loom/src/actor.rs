//! Who acts: the one place that decides whether operations of the model take effect.
//!
//! A CPU that fails unwinds, and destructors on the way give back locks and references. None of
//! that may reach the engine, which has ended the execution, nor the ghost state, which is about to
//! be told as it was at the failure; and nothing may wait or fail a second time. The same holds
//! while what is left of an execution that was given up is dropped. So operations are *inert* then:
//! loads and swaps give 0, a compare-exchange claims success, counts stay above 1.
//!
//! The model is the layer that knows all of this. An engine could make its own words inert, but not
//! the ghost state above them, so the question would be asked twice. Here it is asked once: every
//! operation of the model needs an [`Actor`], and there is none while operations are inert. What
//! only actors may touch, words and cells of the engine above all, is [`Gated`].

use std::cell::Cell;

use crate::chosen::Chosen;
use crate::engine::Engine as _;
use crate::ghost::Ghost;

thread_local! {
    static INERT: Cell<bool> = const { Cell::new(false) };
}

/// The calling CPU, while its operations take effect.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Actor(());

impl Actor {
    /// The calling CPU; `None` if operations do nothing, because the thread unwinds or cleans up
    /// after an execution that was given up.
    #[inline]
    pub(crate) fn now() -> Option<Self> {
        let is_inert = std::thread::panicking() || INERT.get();
        (!is_inert).then_some(Self(()))
    }

    /// The CPU's number.
    pub(crate) fn cpu(self) -> usize {
        Chosen::cpu()
    }

    /// The CPU's column, which is another one before and after the race.
    pub(crate) fn column(self) -> usize {
        Ghost::column_of(self.cpu())
    }
}

/// What only an actor may touch.
pub(crate) struct Gated<T>(T);

impl<T> Gated<T> {
    pub(crate) fn new(inner: T) -> Self {
        Self(inner)
    }

    #[inline]
    pub(crate) fn of(&self, _actor: Actor) -> &T {
        &self.0
    }
}

/// Drops what an execution left behind that was given up, without any operation of the model.
pub(crate) fn drop_inertly<T>(left: T) {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            INERT.set(self.0);
        }
    }
    let _restore = Restore(INERT.replace(true));
    drop(left);
}
