//! What the objects of a program share: a location, and the run that it belongs to.

use std::panic::Location;

use crate::engine::{Engine, Stop, is_inert, with};
use crate::event::{NO_LOCATION, Payload};

/// Names a location of one run of the program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handle {
    pub(crate) location: u32,
    run: u32,
}

impl Handle {
    /// Creates a location. While the thread unwinds there is nothing to create.
    pub(crate) fn create(initial: u64, payload: Payload) -> Handle {
        if is_inert() {
            return Handle { location: NO_LOCATION, run: 0 };
        }
        with(|engine| Handle {
            location: engine.create(initial, payload),
            run: engine.run_number(),
        })
    }

    /// The location, if it belongs to the run that is going on.
    pub(crate) fn enter(
        self,
        engine: &mut Engine,
        at: &'static Location<'static>,
    ) -> Result<u32, Stop> {
        if self.run == engine.run_number() {
            Ok(self.location)
        } else {
            Err(engine.misuse(
                at,
                "an object of another execution is used: create all shared objects inside the \
                 program, anew in each execution",
            ))
        }
    }
}
