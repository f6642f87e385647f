//! What the objects of a program share: a location, and the exploration that it belongs to.
//!
//! A location is named by the thread that creates it and a counter, so the same object has the same
//! name in every run; data of a mutex may carry an object from one run into the replay of the
//! next, and it still means the same.

use std::panic::Location;

use crate::engine::{Engine, Stop, is_inert, with};
use crate::event::{NO_LOCATION, Payload};

/// Names a location of the program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handle {
    pub(crate) location: u32,
    exploration: u32,
}

impl Handle {
    /// Creates a location. While the thread unwinds there is nothing to create.
    pub(crate) fn create(initial: u64, payload: Payload) -> Handle {
        if is_inert() {
            return Handle { location: NO_LOCATION, exploration: 0 };
        }
        with(|engine| Handle {
            location: engine.create(initial, payload),
            exploration: engine.exploration(),
        })
    }

    /// The location, if it belongs to the exploration that is going on.
    pub(crate) fn enter(
        self,
        engine: &mut Engine,
        at: &'static Location<'static>,
    ) -> Result<u32, Stop> {
        if self.exploration == engine.exploration() {
            Ok(self.location)
        } else {
            Err(engine.misuse(
                at,
                "an object of another exploration is used: create all shared objects inside the \
                 program, anew in each execution",
            ))
        }
    }
}
